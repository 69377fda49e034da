"""Frozen settings, evolving state, and result: three different things."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from enum import Enum
from typing import Any, NamedTuple

import numpy as np

from admm.acceleration import acceleration_for
from admm.errors import InputError
from admm.penalty import policy_for
from admm.values import is_finite, is_name, is_whole

SCHEMES = {
    "two-block": ("admm.two_block", "TwoBlock"),
    "certified": ("admm.memory.certified", "Certified"),
    "memory": ("admm.memory.scheme", "Memory"),
}
"""Schemes that the engine can run: module and class of each."""
STALE = ("admm.stale", "Stale")
"""What runs the scheme "two-block" where answers may be stale."""
ON_LOST_AGENT = ("stop", "freeze")


class Status(Enum):
    """How a run ended; the value says what it means and what to try."""

    RUNNING = "the run is not over"
    CONVERGED = "converged: both residual tests, the mismatch test and the objective test passed"
    AGREED = (
        "agreed: both residual tests, the mismatch test and the objective test passed; a proof was asked for, and "
        "the bounds found do not meet"
    )
    CERTIFIED = "converged: proven optimal within the tolerance, and every agent follows the schedule"
    MAX_ITERATIONS = (
        "stopped at the iteration limit: raise max_iterations; where the mismatch no longer falls, "
        "the agents' limits may not hold together (a centralised solve tells)"
    )
    TIME_LIMIT = "stopped at the time limit: raise it"
    INTERRUPTED = "interrupted by the user"
    STOPPED = "stopped by the callback"
    SCALES = (
        "stopped: values or prices are so far from the stated scales that tests against these say nothing; "
        "give scales near their sizes"
    )


@dataclass(frozen=True)
class Settings:
    """What a run is asked to do.

    penalty: name of a policy ("adaptive", "classical") or an object with the PenaltyPolicy protocol.
    acceleration: "none", "anderson" or "anderson:MEMORY", "relaxation" or "relaxation:FACTOR", or an object with the
    Acceleration protocol.
    consensus_tolerance: largest mismatch allowed, as a share of each entry's scale.
    optimality_tolerance: estimated objective error allowed, as a share of the boundary turnover.
    absolute_tolerance, relative_tolerance: of Boyd's residual test (Boyd et al. 2011, eq. 3.12),
    in scaled units (values by scale, prices by price_scale).
    initial_price, initial_values, initial_penalty: {coupling: {quantity: array (periods,)}}. Where not given,
    prices start at price_scale, values at 0, the penalty as its policy says; `warm_start` makes all three from a former
    result.
    final_accuracy: accuracy that agents are asked for before a stop is accepted, as a share of scale.
    callback: called with a Progress after every iteration; where it returns True, Status.STOPPED or
    Status.INTERRUPTED, the run stops; None, False and Status.RUNNING let it go on.
    relay_all: put a relay agent on every coupling (textbook general-form consensus).
    scheme: "two-block"; "certified", the same with a proof to stop on; "memory", in which lead operators remember.
    lead: agents that lead the schemes "certified" and "memory"; where none is named, all of the second side that can.
    They live on the driving rank and share their models with each other there.
    on_lost_agent: "stop"; or "freeze", and the run goes on with the last boundary values of an agent of the first side
    (communities, hubs, transmission) that fails or whose rank is lost; scheme "two-block" only.
    staleness: iterations for which an agent of the first side may be waited for while the others go on; 0, all wait
    for the slowest. Scheme "two-block" only, and not with "freeze".
    schedule_cost: after a stop, ask what a whole schedule costs: an exchange for each level above the lowest agents,
    and up to four more for each agent above that cannot follow them exactly.
    proof: where all agents are exact programs that tell their costs and the problem is small (see `admm.closing`), a
    run that has passed its tests goes on until bounds of the optimum meet, or have not met time and again
    (Status.AGREED); scheme "two-block" only.
    """

    penalty: Any = "adaptive"
    acceleration: Any = "anderson"
    scheme: str = "two-block"
    max_iterations: int = 500
    consensus_tolerance: float = 1e-3
    optimality_tolerance: float = 1e-4
    absolute_tolerance: float = 1e-4
    relative_tolerance: float = 1e-3
    final_accuracy: float = 1e-5
    time_limit_seconds: float | None = None
    initial_price: Mapping[str, Mapping[str, np.ndarray]] = field(default_factory=dict)
    initial_values: Mapping[str, Mapping[str, np.ndarray]] = field(default_factory=dict)
    initial_penalty: Mapping[str, Mapping[str, np.ndarray]] = field(default_factory=dict)
    callback: Callable[[Progress], Any] | None = None
    relay_all: bool = False
    lead: tuple[str, ...] = ()
    on_lost_agent: str = "stop"
    staleness: int = 0
    schedule_cost: bool = True
    proof: bool = True

    def __post_init__(self) -> None:
        if not isinstance(self.scheme, str) or self.scheme not in SCHEMES:
            raise InputError(f"settings: scheme is {self.scheme!r}, expected one of {', '.join(SCHEMES)}")
        if not isinstance(self.on_lost_agent, str) or self.on_lost_agent not in ON_LOST_AGENT:
            raise InputError(f"settings: on_lost_agent is {self.on_lost_agent!r}, expected stop or freeze")
        if self.on_lost_agent == "freeze" and self.scheme != "two-block":
            raise InputError(f"settings: on_lost_agent 'freeze' needs the scheme 'two-block', not '{self.scheme}'")
        acceleration_for(self.acceleration)
        policy_for(self.penalty)  # each run makes its own; a wrong name shows here
        _check_whole("max_iterations", self.max_iterations, least=1)
        _check_whole("staleness", self.staleness, least=0)
        if self.staleness and self.scheme != "two-block":
            raise InputError(
                f"settings: staleness is {self.staleness}, expected 0 with the scheme '{self.scheme}': its proofs need "
                "all answers at once; choose the scheme 'two-block', or leave staleness out"
            )
        if self.staleness and self.on_lost_agent == "freeze":
            raise InputError(
                f"settings: staleness is {self.staleness}, expected 0 with on_lost_agent 'freeze': they exclude each "
                "other, as an agent that is late cannot be told from one that is lost; choose one of them"
            )
        for key in ("consensus_tolerance", "optimality_tolerance", "absolute_tolerance", "final_accuracy"):
            _check_positive(key, getattr(self, key))
        if not (is_finite(self.relative_tolerance) and self.relative_tolerance == 0):
            _check_positive("relative_tolerance", self.relative_tolerance)
        if self.time_limit_seconds is not None:
            _check_positive("time_limit_seconds", self.time_limit_seconds)
        if self.callback is not None and not callable(self.callback):
            raise InputError(f"settings: callback is {self.callback!r}, expected a function of a Progress, or None")
        for key in ("relay_all", "schedule_cost", "proof"):
            if not isinstance(getattr(self, key), bool | np.bool_):
                raise InputError(f"settings: {key} is {getattr(self, key)!r}, expected True or False")
        if not isinstance(self.lead, tuple | list) or not all(map(is_name, self.lead)):
            raise InputError(f"settings: lead is {self.lead!r}, expected names of agents, such as ('dso',)")
        for key in ("initial_price", "initial_values", "initial_penalty"):
            given = getattr(self, key)
            if not isinstance(given, Mapping) or not all(isinstance(of, Mapping) for of in given.values()):
                raise InputError(f"settings: {key} is {given!r}, expected {{coupling: {{quantity: array (periods,)}}}}")


def _check_whole(key: str, value: Any, least: int) -> None:
    if not is_whole(value) or value < least:
        raise InputError(f"settings: {key} is {value!r}, expected a whole number of at least {least}")


def _check_positive(key: str, value: Any) -> None:
    if not is_finite(value) or value <= 0:
        raise InputError(f"settings: {key} is {value!r}, expected a finite number above 0")


@dataclass
class State:
    """What evolves; every array has shape (n,) over the layout's entries.

    lower, upper: both sides' latest values, in the quantity's unit. price: EUR per unit and period,
    unscaled, so a change of penalty rescales nothing. penalty: EUR per unit squared and period.
    """

    lower: np.ndarray
    upper: np.ndarray
    price: np.ndarray
    penalty: np.ndarray
    iteration: int = 0
    accuracy: float = 1e-3

    def copy(self) -> State:
        """What an interrupted iteration falls back on: nothing in it changes any more."""
        arrays = (self.lower.copy(), self.upper.copy(), self.price.copy(), self.penalty.copy())
        return State(*arrays, self.iteration, self.accuracy)


@dataclass(frozen=True)
class Residuals:
    """Norms of one iteration and what they are held against.

    primal, dual and their tolerances: 2-norms in scaled units. mismatch: largest |lower - upper| as
    a share of scale. objective_error: estimated, as a share of the boundary turnover.
    """

    primal: float
    dual: float
    primal_tolerance: float
    dual_tolerance: float
    mismatch: float
    objective_error: float

    def boyd_passed(self) -> bool:
        return self.primal <= self.primal_tolerance and self.dual <= self.dual_tolerance

    def passed(self, settings: Settings) -> bool:
        return not self.furthest(settings)

    def furthest(self, settings: Settings) -> str:
        """The test that is furthest from being passed; empty where all are."""
        tests = {
            "primal": (self.primal, self.primal_tolerance),
            "dual": (self.dual, self.dual_tolerance),
            "mismatch": (self.mismatch, settings.consensus_tolerance),
            "objective": (self.objective_error, settings.optimality_tolerance),
        }
        missing = {name: seen / allowed for name, (seen, allowed) in tests.items() if not seen <= allowed}
        return max(missing, key=missing.get, default="")


@dataclass(frozen=True)
class Progress:
    """One line of the history.

    penalty: geometric mean over entries, in scaled units. objective_eur: None unless every agent shares its
    cost. solves: answers of all agents in this iteration. bytes: exchanged since the start of the run.
    lower_bound_eur, upper_bound_eur: of the optimum, as proven so far; certified_gap: their difference as a
    share of the boundary turnover. None where there is no proof.
    waits_for: what keeps the run from ending, in a word; empty where nothing does that is known yet.
    """

    iteration: int
    residuals: Residuals
    penalty: float
    objective_eur: float | None
    model_error: float
    accuracy: float
    inner_iterations: int
    seconds: float
    solves: int = 0
    bytes: int = 0
    lower_bound_eur: float | None = None
    upper_bound_eur: float | None = None
    certified_gap: float | None = None
    waits_for: str = ""


@dataclass(frozen=True)
class BoundaryResult:
    """One quantity of one coupling: lower and upper values (in the unit) and price (EUR per unit and
    period), each of shape (periods,). scale: nominal size, in the unit. penalty: the last one, EUR per unit
    squared and period, shape (periods,); None where the result comes from no coordination."""

    lower: np.ndarray
    upper: np.ndarray
    price: np.ndarray
    unit: str
    scale: float = 1.0
    penalty: np.ndarray | None = None

    @property
    def mismatch(self) -> np.ndarray:
        """|lower - upper| as a share of scale, shape (periods,)."""
        return np.abs(self.lower - self.upper) / self.scale


@dataclass(frozen=True)
class Timing:
    """Wall seconds by where they went, seen from the driving rank.

    agents, operators: the first and the second side's solves, on the slowest rank of each exchange.
    """

    wall: float = 0.0
    agents: float = 0.0
    operators: float = 0.0
    communication: float = 0.0
    waiting: float = 0.0
    engine: float = 0.0


class ScheduleCost(NamedTuple):
    """Says what a whole schedule costs. eur: the cost, None where there is none. gap: its distance from the objective
    as a share of the turnover, with the floor of the stop. reason: why there is none. change: by how much the lowest
    agents give way to what others can follow, at most, as a share of scale."""

    eur: float | None = None
    gap: float | None = None
    reason: str = ""
    change: float = 0.0


@dataclass(frozen=True)
class Result:
    """What a run found.

    boundary: {coupling: {quantity: BoundaryResult}}. solutions: {agent: its private schedule}, for the
    agents that live on this rank and are not lost. objective: sum of the agents' costs in EUR, None if one does not
    share it. turnover: sum of |price x value| over all entries, in EUR. certified_gap: upper less lower bound of the
    optimum as a share of the turnover; None, no proof.
    note: what stands in the way of convergence, where that was found; else empty.
    schedule_cost: what the lower agents' own schedule costs, with the upper agents held to it, or the closest one that
    all can follow; see `ScheduleCost`.
    proof_exchanges: exchanges beside the iterations that looked for a proof, of the optimum or of a conflict.
    solve_seconds: {agent: median seconds of its latest answers}. lost_agents: {agent: what happened} of those that
    the run went on without.
    """

    status: Status
    iterations: int
    objective: float | None
    turnover: float
    residuals: Residuals
    boundary: dict[str, dict[str, BoundaryResult]]
    solutions: dict[str, Any]
    history: tuple[Progress, ...] = field(repr=False)
    timing: Timing
    bytes_exchanged: int
    solve_seconds: dict[str, float]
    certified_gap: float | None = None
    lost_agents: dict[str, str] = field(default_factory=dict)
    note: str = ""
    schedule_cost: ScheduleCost = field(default_factory=ScheduleCost)
    proof_exchanges: int = 0

    @property
    def converged(self) -> bool:
        """Whether the agents agree, all tests passed, and where a proof was asked for it was found."""
        return self.status in (Status.CONVERGED, Status.CERTIFIED)

    @property
    def agreed(self) -> bool:
        """Whether the agents agree and all tests passed, whether or not a proof that was asked for was found."""
        return self.converged or self.status is Status.AGREED
