"""One run, measured: how many exchanges until each test was met first, and what they cost.

The yardstick (benchmarks/problems/README.md): |objective - optimum| <= 1e-4 of the boundary turnover and largest
mismatch <= 1e-3 of scale. An exchange is an iteration of the engine: all agents are asked and answer.
"""

from __future__ import annotations

import os
import platform
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np

import admm
from admm.output import versions
from benchmarks.subjects import Subject

GAP_OF_TURNOVER, MISMATCH_OF_SCALE = 1e-4, 1e-3
NEVER_STOP = {
    "consensus_tolerance": 1e-12,
    "optimality_tolerance": 1e-12,
    "absolute_tolerance": 1e-12,
    "relative_tolerance": 0.0,
}
"""Settings with which the engine's own tests are never met."""


@dataclass
class Row:
    """One run. Exchanges are None where a test was not met within the cap: a failure, which counts as infinite.

    bytes, solves (answers of agents), inner_iterations (of their solvers) and seconds (from the making of the agents)
    are counted until the yardstick was met, or to the end of the run where it was not. end_gap and end_mismatch: at
    the end of the run, gap signed, as a share of the turnover. status: how the run ended, or the error that ended it.
    """

    subject: str
    family: str
    variant: str
    scheme: str
    penalty: str
    acceleration: str
    start: str
    solver: str
    cap: int
    seed: int | None
    boyd_exchanges: int | None = None
    yardstick_exchanges: int | None = None
    certified_exchanges: int | None = None
    stop_exchanges: int | None = None
    end_gap: float | None = None
    end_mismatch: float | None = None
    bytes: int = 0
    solves: int = 0
    inner_iterations: int = 0
    seconds: float = 0.0
    status: str = ""
    versions: str = field(default_factory=versions)
    machine: str = field(default_factory=lambda: machine())


@dataclass(frozen=True)
class Moment:
    """What is known after one exchange; gap and mismatch as shares of turnover and scale."""

    exchange: int
    seconds: float
    primal: float
    dual: float
    mismatch: float
    gap: float | None
    certified_gap: float | None


@lru_cache
def machine() -> str:
    """Cores and kind of processor; nothing that names a computer."""
    info, model = Path("/proc/cpuinfo"), ""
    if info.is_file():
        names = [line.partition(":")[2].strip() for line in info.read_text().splitlines() if "model name" in line]
        model = names[0] if names else ""
    return f"{os.cpu_count()} cores, {model or platform.machine()}"


class Watch:
    """The callback of a run: fills a row. until: "stop" runs on, "yardstick" ends the run when that is met."""

    def __init__(self, row: Row, subject: Subject, until: str) -> None:
        self.row, self.subject, self.until = row, subject, until
        self.moments: list[Moment] = []
        self.agents: Mapping[str, admm.Agent] = {}
        self.result: admm.Result | None = None
        self.began = time.perf_counter()

    def seconds(self) -> float:
        return round(time.perf_counter() - self.began, 4)

    def __call__(self, progress: admm.Progress) -> bool:
        row, seen = self.row, progress.residuals
        gap = None
        if progress.objective_eur is not None:
            gap = (progress.objective_eur - self.subject.optimum_eur) / self.subject.turnover_eur
        row.end_gap, row.end_mismatch = gap, seen.mismatch
        if row.yardstick_exchanges is None:
            self._count(progress)
            if gap is not None and abs(gap) <= GAP_OF_TURNOVER and seen.mismatch <= MISMATCH_OF_SCALE:
                row.yardstick_exchanges = progress.iteration
        if row.boyd_exchanges is None and seen.boyd_passed():
            row.boyd_exchanges = progress.iteration
        certified = self._certified_gap(progress)
        if row.certified_exchanges is None and certified is not None and certified <= GAP_OF_TURNOVER:
            row.certified_exchanges = progress.iteration
        self.moments.append(
            Moment(progress.iteration, self.seconds(), seen.primal, seen.dual, seen.mismatch, gap, certified)
        )
        return self.until == "yardstick" and row.yardstick_exchanges is not None

    def _certified_gap(self, progress: admm.Progress) -> float | None:
        """As a share of the subject's turnover, which may be less than the one that the engine stops by."""
        if progress.upper_bound_eur is None or progress.lower_bound_eur is None:
            return None
        return (progress.upper_bound_eur - progress.lower_bound_eur) / self.subject.turnover_eur

    def _count(self, progress: admm.Progress) -> None:
        self.row.bytes, self.row.seconds = progress.bytes, self.seconds()
        self.row.solves += progress.solves
        self.row.inner_iterations += progress.inner_iterations


def measure(
    row: Row,
    subject: Subject,
    settings: Mapping[str, Any],
    until: str = "stop",
    transport: admm.Transport | None = None,
) -> Watch:
    """Run once and fill the row. settings: keywords of admm.Settings; the row's cap is added.

    Where the engine stops by itself before the yardstick is met, the run is made again without its tests, so that
    no variant counts as failed because it stopped early: `stop_exchanges` < `yardstick_exchanges` tells.
    An error of the run (an agent's solver that fails, say) is a failure and stands in `status`.
    transport: one thread in this process if not given (PIQP holds the GIL, and a process pool has a core for each run).
    """
    transport = transport or admm.InProcessTransport(threads=1)
    watch = _run(row, subject, settings, until, transport)
    if row.stop_exchanges is not None and row.yardstick_exchanges is None:
        again = Row(**{**vars(row), "solves": 0, "inner_iterations": 0})
        _run(again, subject, {**settings, **NEVER_STOP}, "yardstick", transport)
        for key in ("yardstick_exchanges", "bytes", "solves", "inner_iterations", "seconds"):
            setattr(row, key, getattr(again, key))
    return watch


def _run(row: Row, subject: Subject, settings: Mapping[str, Any], until: str, transport: admm.Transport) -> Watch:
    watch = Watch(row, subject, until)
    asked = admm.Settings(**settings, max_iterations=row.cap, callback=watch)
    try:
        watch.agents = subject.agents(row.solver)
        watch.result = admm.solve(watch.agents, subject.couplings, asked, transport)
    except (admm.SolverError, admm.InfeasibleError, FloatingPointError) as error:
        row.status, row.seconds = str(error).splitlines()[0][:120], watch.seconds()
        return watch
    if watch.result is not None:
        row.status = watch.result.status.name.lower()
        row.stop_exchanges = watch.result.iterations if watch.result.converged else None
    return watch


def cold_start(subject: Subject, start: str) -> dict[str, Any]:
    """The same start for all variants, whatever an engine's own default: "zero", or "flat" (price scale as price)."""
    if start not in ("zero", "flat"):
        raise admm.InputError(f"start is '{start}', expected 'zero' or 'flat'")
    level = 0.0 if start == "zero" else 1.0
    price = {
        c.name: {q.name: np.full(q.periods, level * q.price_scale) for q in c.quantities} for c in subject.couplings
    }
    values = {c.name: {q.name: np.zeros(q.periods) for q in c.quantities} for c in subject.couplings}
    return {"initial_price": price, "initial_values": values}
