"""Checkpoints: a run that goes on ends with the same bits, and a file that is not whole is never taken."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import admm
from admm import InProcessTransport, Settings, Status
from admm.checkpoint import BLOCK_BYTES, read_checkpoint, write_checkpoint
from admm.resume import CHECKPOINT, PREVIOUS, Checkpoints
from networks.case import Case, load_case
from tests.market_tools import small_case
from tests.small_problems import pair, star

NEVER, ALWAYS, MOST = 1e9, 1e-9, 17
DEFAULT = Settings()


@pytest.fixture(scope="module")
def winter(tmp_path_factory: pytest.TempPathFactory) -> Case:
    return load_case(str(small_case(tmp_path_factory.mktemp("winter"))))


@pytest.fixture(scope="module")
def hubs() -> Case:
    return load_case("feeder118-gas65:one-operator")


def run(case: Case, settings: Settings, solver: str, kept: Checkpoints | None, stop: int | None = None) -> admm.Result:
    agents = {name: case.build_agent(name, solver) for name in case.agents}
    if stop is not None:
        settings = replace(settings, callback=lambda progress: progress.iteration >= stop)
    return admm.solve(agents, case.couplings, settings, InProcessTransport(1), kept)


def bits(result: admm.Result) -> list[Any]:
    """Everything of a result that may not depend on whether it was resumed."""
    arrays = [
        array.tobytes()
        for quantities in result.boundary.values()
        for one in quantities.values()
        for array in (one.lower, one.upper, one.price, one.penalty)
    ]
    return [*arrays, [replace(row, seconds=0.0, bytes=0) for row in result.history], result.status]


@pytest.mark.parametrize(
    ("case", "solver", "change", "stops"),
    [
        ("winter", "osqp", {}, (1, 15)),
        ("winter", "piqp", {"acceleration": "none", "penalty": "spectral"}, (4,)),
        ("winter", "osqp", {"scheme": "certified"}, (5, 9)),
        ("winter", "piqp", {"scheme": "memory"}, (2, 4)),
        ("hubs", "piqp", {"penalty": "residual", "max_iterations": 7}, (4,)),
    ],
)
def test_a_resumed_run_ends_with_the_same_bits(
    case: str,
    solver: str,
    change: dict[str, Any],
    stops: tuple[int, ...],
    request: pytest.FixtureRequest,
    tmp_path: Path,
) -> None:
    subject, settings = request.getfixturevalue(case), replace(DEFAULT, **change)
    whole = run(subject, settings, solver, Checkpoints(tmp_path / "whole", every_seconds=ALWAYS))
    for stop in stops:
        folder = tmp_path / f"stopped{stop}"
        first = run(subject, settings, solver, Checkpoints(folder, every_seconds=NEVER), stop)
        assert first.status is Status.STOPPED and first.iterations == stop < whole.iterations
        said: list[str] = []
        second = run(subject, settings, solver, Checkpoints(folder, resume=True, say=said.append))
        assert bits(second) == bits(whole)
        assert said == [f"goes on after iteration {stop}, from {folder / CHECKPOINT}"]


@pytest.mark.parametrize(
    "change",
    [
        {"penalty": "adaptive:30"},
        {"penalty": "residual"},
        {"penalty": "normalised"},
        {"penalty": "spectral-per-agent"},
        {"acceleration": "relaxation:1.6"},
        {"relay_all": True},
        {"scheme": "certified"},
    ],
    ids=str,
)
def test_a_run_of_one_iteration_a_launch_ends_with_the_same_bits(change: dict[str, Any], tmp_path: Path) -> None:
    """So what is kept fits after every iteration, whenever it first comes to be."""
    problem = star()
    settings = Settings(**{**problem.settings, "max_iterations": MOST, **change})

    def launch(most: int, kept: Checkpoints | None) -> admm.Result:
        agents = {name: make() for name, make in problem.agents.items()}
        return admm.solve(agents, problem.couplings, replace(settings, max_iterations=most), None, kept)

    whole = launch(MOST, Checkpoints(tmp_path / "whole"))
    for most in range(1, whole.iterations + 1):
        last = launch(most, Checkpoints(tmp_path / "launches", resume=True, say=lambda words: None))
        assert last.iterations == most
    assert bits(last) == bits(whole)


def test_saving_often_changes_nothing(winter: Case, tmp_path: Path) -> None:
    often = run(winter, DEFAULT, "osqp", Checkpoints(tmp_path, every_seconds=ALWAYS))
    assert bits(often) == bits(run(winter, DEFAULT, "osqp", None))


def test_the_latest_two_are_kept_and_private_files_of_no_other(winter: Case, tmp_path: Path) -> None:
    run(winter, DEFAULT, "osqp", Checkpoints(tmp_path, every_seconds=ALWAYS), stop=6)
    latest, previous = (read_checkpoint(tmp_path / name)["iteration"] for name in (CHECKPOINT, PREVIOUS))
    assert (latest, previous) == (6, 5)
    of_dso = {path.name for path in (tmp_path / "private").glob("dso.checkpoint-*.h5")}
    assert {"dso.checkpoint-5.h5", "dso.checkpoint-6.h5"} <= of_dso and len(of_dso) <= 3
    assert not list(tmp_path.rglob("*.part"))


@pytest.mark.parametrize("damage", ["cut", "flipped", "empty", "private", "private gone"])
def test_a_damaged_checkpoint_gives_way_to_the_one_before(damage: str, winter: Case, tmp_path: Path) -> None:
    run(winter, DEFAULT, "osqp", Checkpoints(tmp_path, every_seconds=ALWAYS), stop=4)
    victim = tmp_path / "private" / "dso.checkpoint-4.h5" if "private" in damage else tmp_path / CHECKPOINT
    data = bytearray(victim.read_bytes())
    data[len(data) // 2] ^= 1
    if damage == "private gone":
        victim.unlink()
    else:
        victim.write_bytes({"cut": data[: len(data) // 2], "empty": b""}.get(damage, bytes(data)))
    said: list[str] = []
    resumed = run(winter, DEFAULT, "osqp", Checkpoints(tmp_path, resume=True, say=said.append))
    assert bits(resumed) == bits(run(winter, DEFAULT, "osqp", None))
    assert said[0].startswith(f"warning: {victim}: ") and said[1].startswith("goes on after iteration 3")
    assert read_checkpoint(tmp_path / CHECKPOINT)["iteration"] == 3  # a kill during the next save finds a good one


def test_two_damaged_ones_are_an_error(winter: Case, tmp_path: Path) -> None:
    run(winter, DEFAULT, "osqp", Checkpoints(tmp_path, every_seconds=ALWAYS), stop=3)
    for name in (CHECKPOINT, PREVIOUS):
        (tmp_path / name).write_bytes(b"nonsense")
    with pytest.raises(admm.InputError, match="no checkpoint can be used: .*checkpoint.h5: is no checkpoint"):
        run(winter, DEFAULT, "osqp", Checkpoints(tmp_path, resume=True))


def test_without_a_checkpoint_the_run_starts_over_and_says_so(tmp_path: Path) -> None:
    said: list[str] = []
    problem = pair()
    agents = {name: make() for name, make in problem.agents.items()}
    admm.solve(agents, problem.couplings, DEFAULT, None, Checkpoints(tmp_path, resume=True, say=said.append))
    assert said == [f"{tmp_path}: has no checkpoint yet; the run starts over"]


def test_another_case_or_setting_is_an_error(winter: Case, tmp_path: Path) -> None:
    run(winter, DEFAULT, "osqp", Checkpoints(tmp_path, {"case": "one"}, every_seconds=NEVER), stop=2)
    with pytest.raises(admm.InputError, match="case is 'one' there and 'other' now"):
        run(winter, DEFAULT, "osqp", Checkpoints(tmp_path, {"case": "other"}, resume=True))


def test_an_agent_whose_files_have_changed_is_an_error(winter: Case, tmp_path: Path) -> None:
    run(winter, DEFAULT, "osqp", Checkpoints(tmp_path, every_seconds=NEVER, agent_identity=str), stop=2)
    changed = Checkpoints(tmp_path, resume=True, agent_identity=lambda name: name.replace("dso", "another"))
    with pytest.raises(admm.InputError, match="agent 'dso' is another one now"):
        run(winter, DEFAULT, "osqp", changed)


def test_a_limit_that_is_raised_goes_on_where_it_was(winter: Case, tmp_path: Path) -> None:
    run(winter, replace(DEFAULT, max_iterations=7), "osqp", Checkpoints(tmp_path, every_seconds=NEVER))
    resumed = run(winter, DEFAULT, "osqp", Checkpoints(tmp_path, resume=True))
    assert bits(resumed) == bits(run(winter, DEFAULT, "osqp", None))


def test_a_name_that_no_file_can_have_is_refused(tmp_path: Path) -> None:
    """With the ending of a checkpoint it would be too long, which would come to light when it is saved."""
    problem = pair()
    long = "a" * 250
    agents = {long if name == "low" else name: make() for name, make in problem.agents.items()}
    couplings = [replace_lower(coupling, long) for coupling in problem.couplings]
    with pytest.raises(admm.InputError, match="its name has 250 letters, expected at most 128 bytes"):
        admm.solve(agents, couplings, DEFAULT, None, Checkpoints(tmp_path))


def replace_lower(coupling: admm.Coupling, name: str) -> admm.Coupling:
    return admm.Coupling(coupling.name, name, coupling.upper, coupling.quantities)


def test_a_folder_that_cannot_be_written_ends_no_run(winter: Case, tmp_path: Path) -> None:
    (tmp_path / "private").write_text("a file where a folder should be")
    said: list[str] = []
    kept = Checkpoints(tmp_path, every_seconds=ALWAYS, say=said.append)
    assert run(winter, DEFAULT, "osqp", kept).converged
    assert said and all("could not be saved" in words and "the run goes on" in words for words in said)


class Opaque:
    """A penalty policy with something in it that no file can hold."""

    name = "opaque"

    def __init__(self) -> None:
        self.secret = object()

    def start(self, layout: Any) -> np.ndarray:
        return np.ones(layout.size)

    def update(self, penalty: np.ndarray, seen: Any) -> np.ndarray:
        return penalty


def test_what_cannot_be_kept_is_said_at_the_start(tmp_path: Path) -> None:
    problem = pair()
    agents = {name: make() for name, make in problem.agents.items()}
    with pytest.raises(admm.InputError, match="policy.secret: a builtins.object cannot be kept"):
        admm.solve(agents, problem.couplings, Settings(penalty=Opaque()), None, Checkpoints(tmp_path))


def test_a_file_says_what_it_is_and_opens_with_h5py(tmp_path: Path) -> None:
    import h5py

    values = {"a": [1, 2.5, None, ("x", True)], ("k", 1): np.arange(3.0), "inf": np.inf, "state": Status.RUNNING}
    path = tmp_path / "one.h5"
    digest = write_checkpoint(path, values)
    assert path.read_bytes()[:BLOCK_BYTES].startswith(b"TIELINE CHECKPOINT 1 sha256 " + digest.encode())
    with h5py.File(path) as file:
        assert file["arrays/0"][:].tolist() == [0.0, 1.0, 2.0]
    found = read_checkpoint(path, digest)
    assert found.pop(("k", 1)).tolist() == [0.0, 1.0, 2.0]
    assert found == {"a": [1, 2.5, None, ("x", True)], "inf": np.inf, "state": Status.RUNNING}
    with pytest.raises(admm.InputError, match="of another run or iteration"):
        read_checkpoint(path, "0" * 64)


def forged(path: Path, change: Callable[[dict[str, Any]], None]) -> None:
    """The same file with other values, and the SHA-256 of these."""
    values = read_checkpoint(path)
    change(values)
    write_checkpoint(path, values, values["iteration"] if type(values["iteration"]) is int else 0)


FORGED: list[tuple[Callable[[dict[str, Any]], Any], str]] = [
    (lambda v: v.update(iteration="../../4"), "checkpoint.iteration is str, expected a number"),
    (lambda v: v.update(iteration=-4), "not a count"),
    (lambda v: v.update(iteration=2.5), "not a count"),
    (lambda v: v["sha256"].update(dso=4), "not a count and texts"),
    (lambda v: v.pop("versions"), "has no 'versions'"),
    (lambda v: v["run"].update(state=None), "run.state is NoneType"),
    (lambda v: vars(v["run"]["state"]).update(price=np.ones(3)), "run.state.price is float64 (3,)"),
    (lambda v: v["run"]["state"].price.__setitem__(0, np.inf), "run.state.price has a value that is not a finite"),
    (lambda v: v["run"]["state"].penalty.__setitem__(0, 0.0), "the penalty or the accuracy is not above 0"),
    (lambda v: v["run"]["history"].pop(), "3 rows of history after iteration 4"),
    (lambda v: vars(v["run"]["state"]).update(iteration=2.5), "State.iteration is float"),
    (lambda v: vars(v["run"]["answers"]["up"]).update(values=np.ones(1)), "agent 'up'"),
    (lambda v: v["run"].update(elapsed=np.inf), "run.elapsed is not a finite number"),
    (lambda v: v["run"]["policy"].pop("max_changes"), "run.policy has no 'max_changes'"),
    (lambda v: v["run"]["acceleration"].update(_steps=["a"]), "does not fit this"),
]
"""What is changed in a checkpoint, and what is said of it."""


def small_run(kept: Checkpoints) -> admm.Result:
    problem = pair()
    agents = {name: make() for name, make in problem.agents.items()}
    settings = Settings(callback=lambda progress: progress.iteration >= 4)
    return admm.solve(agents, problem.couplings, settings, InProcessTransport(1), kept)


def test_a_forged_checkpoint_gives_way_to_the_one_before(tmp_path: Path) -> None:
    small_run(Checkpoints(tmp_path / "honest", every_seconds=ALWAYS))
    for number, (change, words) in enumerate(FORGED):
        folder = shutil.copytree(tmp_path / "honest", tmp_path / str(number))
        forged(folder / CHECKPOINT, change)
        said: list[str] = []
        resumed = small_run(Checkpoints(folder, resume=True, say=said.append))
        assert resumed.iterations == 4 and said[1].startswith("goes on after iteration 3"), (words, said)
        assert said[0].startswith(f"warning: {folder}") and words in said[0], (words, said)


def test_what_turns_out_later_to_make_no_sense_is_one_error(winter: Case, tmp_path: Path) -> None:
    proven = replace(DEFAULT, scheme="certified")
    run(winter, proven, "piqp", Checkpoints(tmp_path, every_seconds=NEVER), stop=2)
    forged(
        tmp_path / CHECKPOINT, lambda v: vars(v["run"]["certificate"]["remembered"]["ec01-homes"]).update(values=["a"])
    )
    with pytest.raises(admm.InputError, match=r"checkpoint\.h5: the run went on from it and failed \("):
        run(winter, proven, "piqp", Checkpoints(tmp_path, resume=True))


def test_what_an_agent_raises_after_a_resume_is_its_own(tmp_path: Path) -> None:
    problem = pair()

    def started(resume: bool, late: int) -> None:
        agents: dict[str, Any] = {name: make() for name, make in problem.agents.items()}
        honest = agents["up"].answer
        agents["up"].answer = lambda question: 1 / (late - question.iteration) and honest(question)
        stop = Settings(callback=lambda progress: progress.iteration >= 3)
        admm.solve(agents, problem.couplings, stop, InProcessTransport(1), Checkpoints(tmp_path, resume=resume))

    started(False, late=9)
    with pytest.raises(ZeroDivisionError):
        started(True, late=4)
