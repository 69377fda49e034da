"""What every scheme needs on the driving rank: asking agents, keeping count, and packing up the result.

A scheme is a subclass that says what one iteration is. Everything that it learns of an agent it learns by `ask`.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np

from admm import conflict, sizes, updates
from admm.couplings import Layout
from admm.errors import InfeasibleError, InputError, SolverError, TielineError, TransportError
from admm.frozen import Frozen
from admm.graph import Sides, boundary_as_given, given_name
from admm.interfaces import Agent, Answer, AnswerStatus, Question, Transport, check_answer_fits
from admm.plausible import MOST_SCALES, MOST_SCALES_AT_PRICE, check_plausible
from admm.schedule_cost import cost_of_schedule
from admm.state import BoundaryResult, Progress, Result, Settings, State, Status, Timing
from admm.transcript import sent_until
from admm.values import is_finite

if TYPE_CHECKING:
    from admm.resume import Checkpoints

MEDIAN_OF = 99
"""Latest answers of an agent whose times are kept: a checkpoint stays small however long the run is."""


class Run:
    """One run: what is carried from iteration to iteration, whatever the scheme."""

    state: State
    KEPT: tuple[str, ...] = (
        "state",
        "history",
        "seconds",
        "answer_seconds",
        "seen_sizes",
        "seen_cost",
        "doubts",
        "mismatches",
        "next_look",
        "proof_exchanges",
    )
    """Attributes that change from iteration to iteration."""

    def __init__(
        self, layout: Layout, sides: Sides, settings: Settings, transport: Transport, owned: Mapping[str, Agent]
    ) -> None:
        self.layout, self.sides, self.settings, self.transport, self.owned = layout, sides, settings, transport, owned
        self.boundaries = {name: boundary_as_given(layout.boundary(name)) for name in layout.agents}
        self.history: list[Progress] = []
        self.seconds = {"agents": 0.0, "operators": 0.0}
        self.answer_seconds: dict[str, list[float]] = {name: [] for name in layout.agents}
        self.frozen = Frozen(sides.first if settings.on_lost_agent == "freeze" else ())
        self.seen_sizes, self.seen_cost, self.doubts = np.zeros(len(layout.blocks)), 0.0, 0
        self.mismatches: list[np.ndarray] = []
        self.next_look, self.proof_exchanges = conflict.FIRST, 0
        self.began = self.launched = time.perf_counter()
        self.asking = False

    def iterate(self) -> Status:
        """One exchange with all agents, recorded and tested."""
        raise NotImplementedError

    def fall_back(self) -> None:
        """After an interrupt: undo what an iteration that was cut short has changed."""

    def ready_to_save(self) -> bool:
        """Asked when a save is due: whether `snapshot` has all of it now; if not, it has after the next iteration."""
        return True

    def snapshot(self) -> dict[str, Any]:
        """All that the next iteration depends on but the agents, see `admm.snapshot`; schemes add their own."""
        kept = {name: getattr(self, name) for name in self.KEPT}
        sent = sent_until(self.transport, self.transport.traffic.bytes)
        return {**kept, "elapsed": time.perf_counter() - self.began, "sent": sent}

    def restore(self, kept: Mapping[str, Any]) -> None:
        """Go on from a snapshot. Seconds go on, too; a time limit is one of this launch."""
        for name in self.KEPT:
            setattr(self, name, kept[name])
        self.began = time.perf_counter() - kept["elapsed"]
        self.transport.traffic.bytes += kept["sent"]["bytes"]  # to what this launch has sent to begin with
        transcript = getattr(self.transport, "transcript", None)
        if transcript is not None:
            transcript.goes_on_from({"iteration": self.state.iteration, **kept["sent"]})

    def check_kept(self, kept: Mapping[str, Any]) -> None:
        """Raise ValueError where a snapshot of the right kinds and shapes is none of this run all the same."""
        state, history = kept["state"], kept["history"]
        if not all(isinstance(row, Progress) for row in history) or not 0 < state.iteration == len(history):
            raise ValueError(f"{len(history)} rows of history after iteration {state.iteration}")
        if not (state.penalty > 0).all() or not state.accuracy > 0:
            raise ValueError("the penalty or the accuracy is not above 0")
        values = np.maximum(np.abs(state.lower), np.abs(state.upper))
        far = (values > MOST_SCALES_AT_PRICE * self.layout.scale) | (
            np.abs(state.price) > MOST_SCALES_AT_PRICE * self.layout.price_scale
        )
        if far.any():
            raise ValueError("a value or a price is far beyond what its scale allows")
        if not all(is_finite(one) for times in kept["answer_seconds"].values() for one in times):
            raise ValueError("a time of an answer is not a finite number")

    def result(self, checkpoints: Checkpoints | None = None) -> Result:
        """Raises InputError, too, where the run went on from a checkpoint and its values turn out to make no sense."""
        try:
            return self._result(checkpoints)
        except TielineError:
            raise
        except Exception as error:
            unfit = checkpoints and not self.asking and checkpoints.unfit(error)
            if not unfit:
                raise
            raise unfit from error

    def _result(self, checkpoints: Checkpoints | None) -> Result:
        status = Status.RUNNING
        try:
            if checkpoints is not None:
                checkpoints.begin(self)
            while status is Status.RUNNING:
                status = self.iterate()
                if checkpoints is not None:
                    checkpoints.after(self, status)
        except KeyboardInterrupt:
            status = Status.INTERRUPTED
            if len(self.history) < self.state.iteration:
                self.fall_back()
        return self.package(status)

    def ask(self, questions: Mapping[str, Question], part: str) -> dict[str, Answer]:
        """One question to each of several agents at once; `part` says under what the time is counted."""
        answers = self.ask_batches({name: [question] for name, question in questions.items()}, part)
        return {name: given[0] for name, given in answers.items()}

    def ask_batches(
        self, questions: Mapping[str, Sequence[Question]], part: str, check: bool = True
    ) -> dict[str, list[Answer]]:
        """At least one question to each of several agents at once: {agent: answers in the order of its questions}.

        check: raise if an answer is unusable. Without it an unusable answer is returned among the others, its
        status says why; one of a wrong shape or with a number that is not finite still raises.
        """
        with self.timed(part):
            asked = {name: batch for name, batch in questions.items() if name not in self.frozen.why}
            answers = self.transport.ask(asked)
            for name, given in answers.items():
                try:
                    self.count(name, given, check)
                except (SolverError, TransportError) as error:
                    self.frozen.freeze(name, error)
        return {name: self.frozen.stand_in(name, answers.get(name)) for name in questions}

    def count(self, name: str, given: Sequence[Answer], check: bool = True) -> None:
        """Check an agent's answers, see `ask_batches`, and keep count of them."""
        for answer in given:
            (check_answer if check else check_answer_fits)(name, answer, self.layout.entries(name).size)
            check_plausible(name, answer, self.boundaries[name], MOST_SCALES if check else MOST_SCALES_AT_PRICE)
        self.frozen.latest[name] = given[-1]
        times = [*self.answer_seconds[name], *(float(answer.solve_seconds) for answer in given)]
        self.answer_seconds[name] = times[-MEDIAN_OF:]

    @contextmanager
    def timed(self, part: str) -> Iterator[None]:
        """Count the time of an exchange under `part`, but for what the transport counts itself."""
        began, traffic = time.perf_counter(), replace(self.transport.traffic)
        self.asking = True  # what an agent raises is its own affair
        yield
        self.asking = False
        moved = self.transport.traffic
        apart = (
            moved.communication_seconds
            - traffic.communication_seconds
            + moved.waiting_seconds
            - traffic.waiting_seconds
        )
        self.seconds[part] += time.perf_counter() - began - apart

    def limits(self) -> Status:
        """Whether the callback or a limit ends the run."""
        self._see_sizes()
        asked = Status.RUNNING if self.settings.callback is None else self._called_back(self.settings.callback)
        return self.budget() if asked is Status.RUNNING else asked

    def look_for_conflict(self) -> None:
        """Where the mismatch lasts, ask for a proof that no agreement exists; raises InfeasibleError with it. Costs
        nothing while the mismatch falls, and a few exchanges where it does not, ever more seldom."""
        mismatch = updates.scaled_mismatch(self.state, self.layout)
        self.mismatches = [*self.mismatches, mismatch][-conflict.WINDOW :]
        iteration = self.state.iteration
        if conflict.due(iteration, self.next_look, self.mismatches, self.settings.consensus_tolerance):
            self.next_look = iteration + max(conflict.WAIT, int(conflict.WAIT_SHARE * iteration))
            self.prove_conflict()

    def prove_conflict(self) -> None:
        """Raise InfeasibleError where no agreement exists and a proof is found."""
        latest = [answer for name, answer in self.frozen.latest.items() if name not in self.sides.relays]
        if not self.frozen.why and all(answer.proves for answer in latest):
            conflict.look(self)

    def _see_sizes(self) -> None:
        """Sizes of values and costs so far; where a cost is not told, nothing can be said of all."""
        self.seen_sizes = np.maximum(self.seen_sizes, sizes.value_sizes(self.state, self.layout))
        costs = [answer.cost_eur for answer in self.frozen.latest.values() if answer.status.usable]
        costs += [self.history[-1].objective_eur]
        self.seen_cost = sizes.UNKNOWN_COST if None in costs else max(self.seen_cost, sum(abs(cost) for cost in costs))

    def _called_back(self, callback: Callable[[Progress], Any]) -> Status:
        """What the callback wants. What it raises is the user's own affair."""
        self.asking = True
        asked = callback(self.history[-1])
        self.asking = False
        if asked is None or isinstance(asked, bool | np.bool_):
            return Status.STOPPED if asked else Status.RUNNING
        if isinstance(asked, Status) and asked in (Status.RUNNING, Status.STOPPED, Status.INTERRUPTED):
            return asked
        raise InputError(
            f"settings: the callback returned {asked!r} ({type(asked).__name__}), expected True to stop the run, "
            "False or None to go on, Status.STOPPED or Status.INTERRUPTED"
        )

    def budget(self) -> Status:
        """Whether a limit ends the run."""
        settings, seconds = self.settings, time.perf_counter() - self.launched
        if self.doubts >= sizes.MOST_DOUBTS or sizes.hopeless(self.layout, self.seen_sizes):
            return Status.SCALES
        if self.state.iteration >= settings.max_iterations:
            return Status.MAX_ITERATIONS
        if settings.time_limit_seconds is not None and seconds >= settings.time_limit_seconds:
            return Status.TIME_LIMIT
        return Status.RUNNING

    def tests_count(self, error_eur: float, dual: float = 0.0) -> bool:
        """Whether tests that have passed count, or the stated scales are in doubt: then answers have to be finer."""
        seen = self.seen_sizes, self.seen_cost
        if sizes.tests_count(self.state, self.layout, *seen, self.settings, error_eur, dual):
            return True
        self.doubts += 1
        self.state.accuracy = sizes.doubtful_accuracy(self.state, self.layout, self.seen_sizes)
        return False

    def note(self, status: Status) -> str:
        ended_without = status in (Status.SCALES, Status.MAX_ITERATIONS, Status.TIME_LIMIT)
        seen, by_scales = self.seen_sizes, status is Status.SCALES
        return sizes.words(self.state, self.layout, seen, by_scales) if ended_without else ""

    def package(self, status: Status) -> Result:
        if not self.history:
            raise KeyboardInterrupt
        schedule_cost = cost_of_schedule(self, status)
        wall, traffic = time.perf_counter() - self.began, self.transport.traffic
        spent = [*self.seconds.values(), traffic.communication_seconds, traffic.waiting_seconds]
        left_out = {*self.sides.relays, *self.frozen.why}  # what a lost agent would say is not behind this result
        return Result(
            status=status,
            iterations=self.state.iteration,
            objective=self.history[-1].objective_eur,
            turnover=updates.turnover_eur(self.state),
            residuals=self.history[-1].residuals,
            boundary=boundary_results(self.layout, self.sides, self.state),
            solutions={n: a.solution() for n, a in self.owned.items() if n not in left_out},
            history=tuple(self.history),
            timing=Timing(wall, *spent, engine=max(0.0, wall - sum(spent))),
            bytes_exchanged=traffic.bytes,
            solve_seconds={n: self.median_seconds(n) for n in self.answer_seconds if n not in self.sides.relays},
            certified_gap=self.history[-1].certified_gap,
            lost_agents=dict(self.frozen.why),
            note=self.note(status),
            schedule_cost=schedule_cost,
            proof_exchanges=self.proof_exchanges,
        )

    def median_seconds(self, name: str) -> float:
        """Of the agent's latest answers: the first one sets a solver up, and would dominate a mean."""
        return float(np.median(self.answer_seconds[name] or [0.0]))


def check_answer(name: str, answer: Answer, size: int) -> None:
    """Raise if an answer cannot be used: a wrong status, shape or number is never passed on."""
    check_answer_fits(name, answer, size)
    if answer.status is AnswerStatus.LOST:
        raise TransportError(f"agent '{name}' is lost: {answer.reason}")
    if answer.status is AnswerStatus.INFEASIBLE:
        raise InfeasibleError(f"agent '{name}' is infeasible: {answer.reason or 'no reason given'}")
    if not answer.status.usable:
        raise SolverError(f"agent '{name}' gave no usable answer ({answer.status.name.lower()}): {answer.reason}")


def boundary_results(layout: Layout, sides: Sides, state: State) -> dict[str, dict[str, BoundaryResult]]:
    """Results by the couplings that the user gave: the two halves of a relayed one are joined again."""
    found: dict[str, dict[str, BoundaryResult]] = {}
    for block in layout.blocks:
        name, at = given_name(block.coupling.name), block.entries
        here = BoundaryResult(
            state.lower[at].copy(),
            state.upper[at].copy(),
            state.price[at].copy(),
            block.quantity.unit,
            block.quantity.scale,
            state.penalty[at].copy(),
        )
        quantities = found.setdefault(name, {})
        if block.coupling.lower in sides.relays:
            here = replace(quantities[block.quantity.name], upper=here.upper)
        quantities[block.quantity.name] = here
    return found
