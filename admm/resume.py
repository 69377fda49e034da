"""Keeping a run's state while it goes on, and taking it up again: on any number of ranks, to the last bit.

With Settings(staleness=...) not to the last bit: which answers are late depends on time, in a run that goes on as in
any other. It converges to the same tests. No question is under way when it is saved: the iteration after a save
falls due waits for all answers, and the save is made then.

checkpoint.h5             the engine's own state, written by the driving rank, with the SHA-256 of every agent's file
checkpoint-previous.h5    the one before
private/AGENT.checkpoint-ITERATION.h5
                          what an agent's next answer depends on. It is private, so its own rank writes it

A checkpoint counts when checkpoint.h5 is renamed into place, after all that it names is on the disk: a run may be
killed at any moment. An agent that depends on what it was asked before has two methods, and one without them is
taken to have no memory:

    snapshot() -> values      as `admm.snapshot` takes them; from the first call on, answers follow from snapshots alone
    restore(values)           after `prepare`
"""

from __future__ import annotations

import json
import os
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from glob import escape
from pathlib import Path
from typing import TYPE_CHECKING, Any

from admm.checkpoint import read_checkpoint, saved_iteration, write_checkpoint
from admm.errors import InputError, TielineError, TransportError, one_line, public_words
from admm.fits import check_like
from admm.interfaces import Agent
from admm.ownership import CHECKPOINTS, PRIVATE, make_private, origin_of
from admm.snapshot import pack_values, unpack_values
from admm.state import Progress, Status
from admm.whole_file import sync_folder

if TYPE_CHECKING:
    from admm.run import Run

CHECKPOINT, PREVIOUS = CHECKPOINTS
EVERY_SECONDS = 30.0
SAVED_AT = (Status.MAX_ITERATIONS, Status.TIME_LIMIT, Status.INTERRUPTED, Status.STOPPED)
"""Ends of a run after which it can go on."""
UNFIT = (ValueError, LookupError, TypeError, AttributeError, ArithmeticError, MemoryError, AssertionError)
"""What comes of values that are of another kind, or for another problem, than what takes them expects."""


class Checkpoints:
    """Every rank makes one and passes it to `admm.solve`.

    folder: where files go. identity: what must be the same when the run goes on (case, settings), by name.
    agent_identity: the same of an agent of this rank. versions: of whatever can change a number; where they differ, a
    person is told, and the run goes on. resume: go on from the latest checkpoint in the folder that can be read.
    say: told, in words, what a person should know. former: after the start, iterations of the run before.
    run_id: of the run, in every file; it may be set until the first save.
    """

    def __init__(
        self,
        folder: str | Path,
        identity: Mapping[str, str] | None = None,
        every_seconds: float = EVERY_SECONDS,
        resume: bool = False,
        versions: str = "",
        agent_identity: Callable[[str], str] = lambda name: "",
        say: Callable[[str], None] = lambda words: None,
    ) -> None:
        self.folder, self.identity, self.every_seconds = Path(folder), dict(identity or {}), every_seconds
        self.resume, self.versions, self.say, self._agent_identity = resume, versions, say, agent_identity
        self.former: tuple[Progress, ...] = ()
        self.run_id = ""
        self._kept: list[int] = []
        self._agents: Mapping[str, Agent] = {}

    # ------------------------------------------------------------- every rank

    def take(self, agents: Mapping[str, Agent], run_id: str = "") -> None:
        """The agents of this rank, and the id of the run."""
        self.run_id = run_id or self.run_id
        self._agents = {name: agent for name, agent in agents.items() if hasattr(agent, "snapshot")}

    def called(self, text: str) -> str:
        """This rank's part of a save or a restore; what went wrong is in the reply, so that no rank waits in vain."""
        told = json.loads(text)
        try:
            if "restore" in told:
                return json.dumps({"restored": self._restore_agents(told["restore"], told["sha256"])})
            return json.dumps({"sha256": self._save_agents(told["save"], told["keep"])})
        except TielineError as error:
            if error.public is not None:
                self.say(str(error))
            return json.dumps({"error": public_words(error)})
        except OSError as error:
            return json.dumps({"error": f"{self.folder / PRIVATE}: cannot be written ({error.strerror or error})"})

    def _save_agents(self, iteration: int | None, keep: list[int]) -> dict[str, str]:
        """The SHA-256 of each agent's file. iteration None: only see that everything can be kept."""
        snapshots = {name: agent.snapshot() for name, agent in self._agents.items()}
        if iteration is None:
            return {}
        self._drop_all_but([*keep, iteration])
        make_private(self.folder / PRIVATE)
        return {
            name: write_checkpoint(
                self._private(name, iteration),
                {"who": self._agent_identity(name), "kept": kept},
                iteration,
                self.run_id,
            )
            for name, kept in snapshots.items()
        }

    def _restore_agents(self, iteration: int, sha256: Mapping[str, str]) -> list[str]:
        for name, agent in self._agents.items():
            path = self._private(name, iteration)
            if name not in sha256:
                raise InputError(f"{self.folder}: the checkpoint knows nothing of agent '{name}'")
            found = read_checkpoint(path, sha256[name])
            if not isinstance(found, dict) or found.keys() != {"who", "kept"}:
                raise InputError(f"{path}: is not the checkpoint of an agent")
            if found["who"] != self._agent_identity(name):
                raise InputError(f"{path}: agent '{name}' is another one now: its own files have changed")
            try:
                agent.restore(found["kept"])
            except InputError as error:
                raise InputError(f"{path}: {error}", public=error.public) from None
            except UNFIT as error:
                public = f"{path}: does not fit agent '{name}'"
                raise InputError(f"{public} ({type(error).__name__}: {error})", public=public) from None
        return list(self._agents)

    def _private(self, agent: str, iteration: int) -> Path:
        return self.folder / PRIVATE / f"{agent}.checkpoint-{iteration}.h5"

    def _drop_all_but(self, iterations: list[int]) -> None:
        for name in self._agents:
            keep = {self._private(name, iteration) for iteration in iterations}
            for path in (self.folder / PRIVATE).glob(f"{escape(name)}.checkpoint-*.h5"):
                if path not in keep and origin_of(path) is not None:
                    path.unlink(missing_ok=True)

    # ----------------------------------------------------------- driving rank

    def begin(self, run: Run) -> None:
        """Take up where the run before has stopped, if that is asked for. Raises InputError where that cannot be."""
        self._saved = time.monotonic()
        _agreed(self._on_every_rank(run, {"save": None, "keep": []}))
        self._own = unpack_values(*pack_values(run.snapshot()))  # what cannot be kept is said now, not in half a minute
        if self.resume:
            self._go_on(run)

    def _go_on(self, run: Run) -> None:
        problems = []
        for path in self._candidates():
            problem = self._restore(run, path)
            if problem is None:
                self.former = tuple(run.history)
                self.say(f"goes on after {self.step_words(run.state.iteration)}, from {path}")
                return
            problems.append(problem)
            self.say(f"warning: {problem}")
        if problems:
            raise InputError(
                f"{self.folder}: no checkpoint can be used: {problems[0]}; start over without --resume, or repair it"
            )
        self.say(f"{self.folder}: has no checkpoint yet; the run starts over")

    def _candidates(self) -> Iterator[Path]:
        return (path for path in (self.folder / CHECKPOINT, self.folder / PREVIOUS) if path.is_file())

    def _restore(self, run: Run, path: Path) -> str | None:
        """What stands in the way, None where nothing does. Raises InputError if it is of something else."""
        try:
            found = read_checkpoint(path)
            self._check_form(found)
        except InputError as error:
            return str(error)
        except ValueError as error:
            return f"{path}: is none of this release ({error})"
        self._check_identity(found["identity"], path)
        try:
            self._check_run(run, found["run"])
        except (*UNFIT, TielineError) as error:
            return f"{path}: does not fit this run ({error})"
        return self._restore_all(run, found, path)

    def _check_run(self, run: Run, kept: Mapping[str, Any]) -> None:
        """Raise ValueError and the like where a snapshot does not fit the run."""
        check_like(kept, self._own, "run")
        run.check_kept(kept)

    def step_words(self, iteration: int) -> str:
        """Name the step that a checkpoint of this number follows."""
        return f"iteration {iteration}"

    def _restore_all(self, run: Run, found: Mapping[str, Any], path: Path) -> str | None:
        try:
            iteration = found["iteration"]
            told = self._on_every_rank(run, {"restore": iteration, "sha256": found["sha256"]})
            problem = next((reply["error"] for reply in told if "error" in reply), None)
            if problem is not None:
                return problem
            run.restore(found["run"])
        except UNFIT as error:
            return f"{path}: does not fit this run ({type(error).__name__}: {error})"
        if found["versions"] != self.versions:
            self.say(one_line(f"warning: {path} was made with {found['versions']}, so the last bits may differ"))
        self._kept = [iteration]
        try:
            path.replace(self.folder / CHECKPOINT)  # what could not be used must not push out what could
        except OSError as error:
            raise InputError(f"{self.folder / CHECKPOINT}: cannot be replaced ({error.strerror}); remove it") from None
        return None

    def _check_form(self, found: Any) -> None:
        """Raise ValueError unless it is what `save` writes."""
        check_like(found, {"identity": {}, "versions": "", "iteration": 0, "sha256": {}, "run": {}}, "checkpoint")
        words = [*found["identity"].items(), *found["sha256"].items()]
        count = type(found["iteration"]) is int and found["iteration"] >= 0
        if not count or not all(isinstance(word, str) for pair in words for word in pair):
            raise ValueError("checkpoint.iteration, .identity or .sha256 are not a count and texts")

    def unfit(self, error: Exception) -> InputError | None:
        """What to say of an error that is none of ours in a run that went on: a file that is whole may be forged."""
        if not self.former:
            return None
        return InputError(
            f"{self.folder / CHECKPOINT}: the run went on from it and failed ({type(error).__name__}: {error}): it "
            "does not fit, or this is a fault of the program; start over without --resume"
        )

    def _check_identity(self, found: Mapping[str, str], path: Path) -> None:
        for key in self.identity.keys() | found.keys():
            if found.get(key) != self.identity.get(key):
                raise InputError(
                    f"{path}: {key} is {found.get(key)!r} there and {self.identity.get(key)!r} now, expected the same; "
                    "resume with the same case and options, or start over without --resume"
                )

    def after(self, run: Run, status: Status) -> None:
        """After an iteration: save if it is time to, or if the run ends here and can go on."""
        if run.frozen.why:
            return  # the last checkpoint is of a run that had all its agents
        due = status is Status.RUNNING and time.monotonic() - self._saved >= self.every_seconds
        if (due and run.ready_to_save()) or status in SAVED_AT:
            self.save(run)
            self._saved = time.monotonic()

    def save(self, run: Run) -> None:
        """A run goes on whether or not its state can be saved: then the checkpoint before stays."""
        iteration = run.state.iteration
        try:
            told = self._on_every_rank(run, {"save": iteration, "keep": self._kept})
            sha256 = {name: digest for reply in _agreed(told) for name, digest in reply["sha256"].items()}
            who = {"identity": self.identity, "versions": self.versions, "iteration": iteration, "sha256": sha256}
            self._put_in_place({**who, "run": run.snapshot()})
        except (TielineError, OSError) as error:
            if isinstance(error, TransportError) and not run.transport.keep_going:
                raise
            self.say(f"warning: {self.step_words(iteration)} could not be saved ({error}); the run goes on")
            return
        self._kept = [*self._kept[-1:], iteration]

    def _put_in_place(self, values: Any) -> None:
        """The new one is whole on the disk before the one before gives way to it."""
        new, latest = self.folder / f"{CHECKPOINT}.{os.getpid()}.part", self.folder / CHECKPOINT
        try:
            write_checkpoint(new, values, values["iteration"], self.run_id)
            if latest.is_file():
                latest.replace(self.folder / PREVIOUS)
            new.replace(latest)
        finally:
            with suppress(OSError):  # says less than what went wrong before
                new.unlink(missing_ok=True)
        sync_folder(self.folder)

    def _on_every_rank(self, run: Run, told: Mapping[str, Any]) -> list[dict[str, Any]]:
        return [json.loads(text) for text in run.transport.call(json.dumps(told), self.called)]


def latest_iteration(folder: Path) -> int:
    """After which a resumed run would go on; 0 if it would start over."""
    for name in (CHECKPOINT, PREVIOUS):
        with suppress(InputError):
            return saved_iteration(folder / name)
    return 0


def _agreed(replies: list[dict[str, Any]]) -> list[dict[str, Any]]:
    for reply in replies:
        if "error" in reply:
            raise InputError(reply["error"])
    return replies
