"""Keep the state of `tieline market` after every gate, and take it up again: on any number of ranks, to the last bit.

The files are those of `admm.resume`: checkpoint.h5, the one before, and private/AGENT.checkpoint-STEP.h5 of each agent
by its own rank. A step is the day-ahead market, a gate or the closing of a day. A step that was not finished is done
again from its beginning.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from types import SimpleNamespace
from typing import Any

import numpy as np

from admm import InputError, Result, TielineError, Transport
from admm.couplings import Layout
from admm.errors import public_words
from admm.fits import check_array, check_like
from admm.resume import UNFIT, Checkpoints
from admm.state import BoundaryResult
from admm.transcript import sent_until
from networks.case import Case

DAY_AHEAD = -1
ARRAYS = ("lower", "upper", "price", "penalty")
SENT = {"bytes": 0, "exchanges": 0, "coordination": 0, "launch": ""}
Boundary = Mapping[str, Mapping[str, BoundaryResult]]


@dataclass
class Reached:
    """How far the days have come. day: its number. gate: of the last step, -1 the day-ahead market, T the closing;
    None before the first.

    results: of the day's steps so far, without private parts. told: summaries of the days before. code: the highest
    exit code of these. bytes_exchanged: in all launches until now. The last four are known on the driving rank only.
    """

    day: int
    gate: int | None
    results: dict[int, Result] = field(default_factory=dict)
    told: list[dict[str, Any]] = field(default_factory=list)
    code: int = 0
    bytes_exchanged: int = 0

    def boundaries(self) -> dict[int, Boundary]:
        """Return what each step agreed on."""
        return {number: result.boundary for number, result in self.results.items()}


class _Held:
    """Stands for an agent: what is to be kept of it, or was."""

    def __init__(self) -> None:
        self.values: Mapping[str, Any] = {}

    def snapshot(self) -> Mapping[str, Any]:
        return self.values

    def restore(self, values: Mapping[str, Any]) -> None:
        self.values = values


class GateCheckpoints(Checkpoints):
    """Every rank makes one, and calls `begin` and `save` when the others do. days: the case of each.

    steps: the numbers of a day's gates and its closing, the same every day. The other arguments are those of
    `admm.resume.Checkpoints`.
    """

    def __init__(self, days: Sequence[Case], steps: Sequence[int], *arguments: Any, **options: Any) -> None:
        super().__init__(*arguments, **options)
        self._days, self._steps = days, (DAY_AHEAD, *steps)

    # ------------------------------------------------------------- every rank

    def begin(self, owned: Sequence[str], transport: Transport) -> Reached | None:
        """Take up the latest step that was saved, if that is asked for; None to begin at the beginning.

        Args:
            owned: names of the agents of this rank; `private` then gives what was kept of them.
            transport: between runs.

        Raises:
            InputError: there are checkpoints, but none can be used; on every rank.
        """
        self.take({name: _Held() for name in owned}, transport.run_id)
        if not self.resume:
            return None
        if transport.ranks > 1:
            transport.start({}, {})  # ranks can talk from here on
            self.run_id = transport.run_id
        if transport.rank != 0:
            return self._follow(transport)
        market = self._market(transport, None)
        try:
            self._go_on(market)
        except TielineError as error:
            transport.share_text(json.dumps({"error": public_words(error)}))
            raise
        reached = market.reached
        if reached is not None and transport.transcript is not None:
            number = market.state.iteration
            goes_on = {"iteration": number, "step": self.step_words(number), **market.sent}
            transport.transcript.goes_on_from(goes_on, transport.run_id)
        place = None if reached is None else (reached.day, reached.gate)
        transport.share_text(json.dumps({"place": place}))
        return reached

    def _follow(self, transport: Transport) -> Reached | None:
        """Do what the driving rank asks of this one until it knows where to go on."""
        while (told := json.loads(text := transport.share_text(""))).keys() & {"restore", "save"}:
            transport.gather_text(self.called(text))
        if "error" in told:
            raise InputError(told["error"])
        return None if told["place"] is None else Reached(*told["place"])

    @property
    def private(self) -> dict[str, Mapping[str, Any]]:
        """What was kept of this rank's agents."""
        return {name: held.values for name, held in self._agents.items()}

    def agree(self, transport: Transport, error: Exception | None) -> None:
        """Raise on every rank what went wrong on one of them while it took up its agents.

        Raises:
            InputError: this rank's error, or on other ranks what may be known of it.
        """
        if isinstance(error, UNFIT) and not isinstance(error, TielineError):
            words = f"{self.folder}: the checkpoint does not fit the agents"
            error = InputError(f"{words} ({type(error).__name__}: {error}); start over without --resume", public=words)
        told = json.dumps("" if error is None else public_words(error))
        found = [json.loads(text) for text in transport.gather_text(told)]
        first = transport.share_text(next((words for words in found if words), ""))
        if error is not None:
            raise error
        if first:
            raise InputError(first)

    def save(self, reached: Reached, private: Mapping[str, Mapping[str, Any]], transport: Transport) -> None:
        """Keep the state after a step; a step that cannot be saved is said, and the market goes on.

        Args:
            reached: the step.
            private: {agent: what the rest of the days depends on}, of this rank's agents.
            transport: between runs.
        """
        self.run_id = transport.run_id
        for name, held in self._agents.items():
            held.values = private[name]
        if transport.rank == 0:
            super().save(self._market(transport, reached))
        else:
            transport.gather_text(self.called(transport.share_text("")))

    # ----------------------------------------------------------- driving rank

    def _market(self, transport: Transport, reached: Reached | None) -> Any:
        """Stand for the run that `Checkpoints` keeps."""
        market = SimpleNamespace(transport=transport, reached=reached, history=(), state=SimpleNamespace(iteration=0))
        if reached is not None:
            market.state.iteration = self._step_number(reached)
            market.snapshot = lambda: self._packed(reached, sent_until(transport, reached.bytes_exchanged))

        def restore(kept: Mapping[str, Any]) -> None:
            market.reached, market.sent = self._unpacked(kept), kept["sent"]
            market.state.iteration = self._step_number(market.reached)

        market.restore = restore
        return market

    def _on_every_rank(self, run: Any, told: Mapping[str, Any]) -> list[dict[str, Any]]:
        """Between runs nobody serves calls: every rank takes its part by itself."""
        text = run.transport.share_text(json.dumps(told))
        return [json.loads(reply) for reply in run.transport.gather_text(self.called(text))]

    def _step_number(self, reached: Reached) -> int:
        """Count steps over all days, from 1."""
        return 1 + reached.day * len(self._steps) + self._steps.index(reached.gate)

    def step_words(self, iteration: int) -> str:
        day, at = divmod(iteration - 1, len(self._steps))
        gate = self._steps[at]
        step = {DAY_AHEAD: "the day-ahead market", self._steps[-1]: "the closing"}.get(gate, f"gate {gate}")
        return f"{step} of {self._days[day].horizon.start:%Y-%m-%d}" if len(self._days) > 1 else step

    def _packed(self, reached: Reached, sent: Mapping[str, Any]) -> dict[str, Any]:
        """As one array of all boundaries, (steps, values, 4, T): thousands of small ones take long to write."""
        bare = {n: replace(one, boundary={}, solutions={}, history=()) for n, one in reached.results.items()}
        arrays = np.array([
            [[getattr(values, key) for key in ARRAYS] for of in result.boundary.values() for values in of.values()]
            for result in reached.results.values()
        ])  # fmt: skip
        place = {"day": reached.day, "gate": reached.gate, "told": reached.told, "code": reached.code}
        place["sent"] = dict(sent)
        return {**place, "results": bare, "boundaries": arrays}

    def _check_run(self, run: Any, kept: Mapping[str, Any]) -> None:
        day, gate, results, arrays = (kept[key] for key in ("day", "gate", "results", "boundaries"))
        if not (type(day) is int and 0 <= day < len(self._days) and gate in self._steps):
            raise ValueError(f"there is no gate {gate!r} of day {day!r}")
        steps = self._steps[: self._steps.index(gate) + 1]
        if list(results) != list(steps) or not all(isinstance(one, Result) for one in results.values()):
            raise ValueError("its results are not those of the steps so far")
        if type(kept["code"]) is not int or len(kept["told"]) != day or not all(type(t) is dict for t in kept["told"]):
            raise ValueError("its summaries are not those of the days before")
        check_like(kept["sent"], SENT, "sent")
        layout = Layout(self._days[day].couplings)
        periods = self._days[day].horizon.periods
        check_array(arrays, (len(steps), len(layout.blocks), len(ARRAYS), periods), "boundaries")

    def _unpacked(self, kept: Mapping[str, Any]) -> Reached:
        couplings = self._days[kept["day"]].couplings
        results = {}
        for (number, result), arrays in zip(kept["results"].items(), kept["boundaries"], strict=True):
            values, boundary = iter(arrays), {}
            for coupling in couplings:
                boundary[coupling.name] = {
                    q.name: _boundary_result(next(values), q.unit, q.scale) for q in coupling.quantities
                }
            results[number] = replace(result, boundary=boundary)
        return Reached(kept["day"], kept["gate"], results, kept["told"], kept["code"], kept["sent"]["bytes"])


def _boundary_result(arrays: np.ndarray, unit: str, scale: float) -> BoundaryResult:
    lower, upper, price, penalty = (values.copy() for values in arrays)
    return BoundaryResult(lower, upper, price, unit, scale, penalty)
