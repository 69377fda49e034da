"""The devices once more, written another way than in the product: cvxpy, closed sums in place of recursions, one
variable set a stay, and recourse plans in place of floors and ceilings. Everything here is in kW, kWh and EUR."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime

import cvxpy as cp
import numpy as np

from subproblems import QuadraticProgram
from subproblems.community import Community, compile_community
from subproblems.horizon import Horizon

COUPLING = "ec-dso"
QUANTITIES = ("p_mw", "flex_up_mw", "flex_down_mw")


def horizon(periods: int, step_minutes: int = 60, hour: int = 0) -> Horizon:
    return Horizon(datetime(2024, 1, 15, hour, tzinfo=UTC), periods, step_minutes)


def columns(periods: int, **named: np.ndarray) -> Callable[[str | float], np.ndarray]:
    return lambda value: named[value] if isinstance(value, str) else np.full(periods, float(value))


def compiled(devices: Sequence[dict], over: Horizon, series=None, **options) -> QuadraticProgram:
    """The product's program of a community of these devices; wide limits, free flexibility unless given."""
    options = {"import_limit_kw": 1e4, "export_limit_kw": 1e4, "flex_quadratic_cost_eur_per_mw2h": 0.0} | options
    community = Community(devices=list(devices), **options)
    return compile_community("ec", community, over, series or columns(over.periods), COUPLING)


@dataclass(frozen=True)
class Prices:
    """EUR/MWh of consumption and EUR/MWh paid for flexibility on offer; shape (periods,)."""

    energy: np.ndarray
    up: np.ndarray
    down: np.ndarray


def prices(periods: int, seed: int = 0, up: float = 20.0, down: float = 15.0) -> Prices:
    random = np.random.default_rng(seed)
    return Prices(
        random.uniform(10, 150, periods), up * random.uniform(0, 1, periods), down * random.uniform(0, 1, periods)
    )


def solve_program(qp: QuadraticProgram, asked: Prices, hours: float) -> tuple[float, dict[str, np.ndarray]]:
    """Optimum in EUR and schedule of the product's matrices at given prices, by Clarabel."""
    x = cp.Variable(qp.size)
    values = {quantity: x[qp.boundary[COUPLING, quantity]] for quantity in QUANTITIES}
    paid = asked.energy @ values["p_mw"] - asked.up @ values["flex_up_mw"] - asked.down @ values["flex_down_mw"]
    own = 0.5 * cp.quad_form(x, cp.psd_wrap(qp.P)) + qp.q @ x + qp.constant
    rows = qp.A @ x
    low, high, both = np.isfinite(qp.l), np.isfinite(qp.u), qp.l == qp.u
    limits = [
        rows[both] == qp.l[both],
        rows[low & ~both] >= qp.l[low & ~both],
        rows[high & ~both] <= qp.u[high & ~both],
    ]
    problem = cp.Problem(cp.Minimize(own + hours * paid), limits)
    problem.solve(solver=cp.CLARABEL)
    assert problem.status == cp.OPTIMAL, problem.status
    return problem.value, qp.values(x.value)


@dataclass
class Part:
    """What one part of a reference model adds: power and flexibility (periods,) in kW, cost in EUR, limits."""

    power: cp.Expression
    up: cp.Expression
    down: cp.Expression
    cost: cp.Expression | float = 0.0
    limits: list = field(default_factory=list)
    state: cp.Expression | None = None


def solve_parts(parts: Sequence[Part], asked: Prices, hours: float, connection_kw: float = 1e4) -> float:
    """Optimum of the reference model in EUR."""
    power, up, down = (sum(getattr(part, key) for part in parts) for key in ("power", "up", "down"))
    paid = (asked.energy @ power - asked.up @ up - asked.down @ down) / 1000
    connection = [power + down <= connection_kw, power - up >= -connection_kw]
    limits = [limit for part in parts for limit in part.limits]
    problem = cp.Problem(cp.Minimize(sum(part.cost for part in parts) + hours * paid), limits + connection)
    problem.solve(solver=cp.CLARABEL)
    assert problem.status == cp.OPTIMAL, problem.status
    return problem.value


@dataclass(frozen=True)
class Store:
    """One reservoir without interruption, as a physicist would note it; arrays have one entry a period of its own.

    fill, drain: state per kW over a period by the filling and the draining power. drain_sign: -1 where the draining
    power feeds the grid, +1 where it consumes (cooling).
    """

    initial: float
    decay: float
    drift: np.ndarray
    lower: np.ndarray
    upper: np.ndarray
    fill: np.ndarray
    fill_kw: float
    drain: float = 0.0
    drain_kw: float = 0.0
    drain_sign: int = -1

    @property
    def size(self) -> int:
        return self.drift.size

    def weights(self) -> np.ndarray:
        """(size, size): what a unit added in period i is worth at the end of period s."""
        s, i = np.indices((self.size, self.size))
        return np.where(i <= s, self.decay ** np.maximum(s - i, 0), 0.0)

    def states(self, fill_kw, drain_kw):
        free = self.decay ** np.arange(1, self.size + 1) * self.initial + self.weights() @ self.drift
        return free + self.weights() @ (cp.multiply(self.fill, fill_kw) - self.drain * drain_kw)


def store_part(store: Store, hours: float, periods: int, first: int = 0, *, product: int = 1, wear=(0.0, 0.0)) -> Part:
    """A store that exists from period `first` on; with flexibility that leaves a plan for the rest of its time.

    wear: EUR/kWh at rest, and its rise to full power.
    """
    n = store.size
    fill, drain, up, down, cool_up, cool_down = (cp.Variable(n, nonneg=True) for _ in range(6))
    state = store.states(fill, drain)
    limits = [fill <= store.fill_kw, drain <= store.drain_kw, state >= store.lower, state <= store.upper]
    if store.drain_sign < 0:
        limits += [cool_up == 0, cool_down == 0]
        effect = np.maximum(store.fill, store.drain)
        calls = [(up, fill + store.drain_kw - drain, -effect), (down, store.fill_kw - fill + drain, effect)]
    else:
        calls = [(up, fill, -store.fill), (down, store.fill_kw - fill, store.fill)]
        cool = np.full(n, store.drain)
        calls += [(cool_up, drain, cool), (cool_down, store.drain_kw - drain, -cool)]
    for award, room, effect in calls:
        for start in range(n):
            limits += [award[start] <= room[t] for t in range(start, min(start + product, n))]
            if start + product > n and first + n < periods:
                limits.append(award[start] == 0)  # the store is gone before the call ends
        limits += _plans(store, state, award, effect, product)
    at = np.eye(periods)[:, first : first + n]
    cost = sum(
        hours * (wear[0] * cp.sum(power) + 0.5 * wear[1] / most * cp.sum_squares(power))
        for power, most in ((fill, store.fill_kw), (drain, store.drain_kw))
        if most > 0
    )
    power = at @ (fill + store.drain_sign * drain)
    return Part(power, at @ (up + cool_up), at @ (down + cool_down), cost, limits, state)


def _plans(store: Store, state, award, effect: np.ndarray, product: int) -> list:
    """For every start and number of called periods: the shifted state is allowed and a plan for the rest exists."""
    limits = []
    for start in range(store.size):
        for end in range(start, min(start + product, store.size)):
            fading = store.decay ** np.arange(end - start, -1, -1)
            shifted = state[end] + float(fading @ effect[start : end + 1]) * award[start]
            limits += [shifted >= store.lower[end], shifted <= store.upper[end]]
            rest = store.size - end - 1
            if rest:
                limits += _plan(store, shifted, rest)
    return limits


def _plan(store: Store, begin, rest: int) -> list:
    fill, drain = cp.Variable(rest, nonneg=True), cp.Variable(rest, nonneg=True)
    weights = store.weights()[:rest, :rest]
    gain = cp.multiply(store.fill[-rest:], fill) - store.drain * drain + store.drift[-rest:]
    state = cp.multiply(store.decay ** np.arange(1, rest + 1), begin * np.ones(rest)) + weights @ gain
    within = [state >= store.lower[-rest:], state <= store.upper[-rest:]]
    return [fill <= store.fill_kw, drain <= store.drain_kw, *within]


def breaks_when_called(
    store: Store, schedule: dict[str, np.ndarray], direction: str, start: int, called: int, factor: float
) -> list[str]:
    """Deliver factor x the award of `start` in `called` periods from there, then the most that helps; what breaks.

    schedule: fill, drain, up, down in kW, shape (size,). Delivery lowers (up) or raises (down) the filling power first.
    A draining power, if any, feeds the grid.
    """
    state, broken, slack = store.initial, [], 1e-4 * max(store.fill_kw, store.drain_kw, 1.0)
    for t in range(store.size):
        fill, drain = schedule["fill"][t], schedule["drain"][t]
        award = factor * schedule[direction][start]
        if start <= t < start + called:
            if direction == "up":
                less = min(award, fill)
                fill, drain = fill - less, drain + award - less
            else:
                less = min(award, drain)
                fill, drain = fill + award - less, drain - less
        elif t >= start + called:
            fill, drain = (store.fill_kw, 0.0) if direction == "up" else (0.0, store.drain_kw)
        state = store.decay * state + store.fill[t] * fill - store.drain * drain + store.drift[t]
        if fill > store.fill_kw + slack or drain > store.drain_kw + slack:
            broken.append(f"power in {t}")
        if direction == "up" and state < store.lower[t] - slack:
            broken.append(f"lower in {t}")
        if direction == "down" and state > store.upper[t] + slack:
            broken.append(f"upper in {t}")
    return broken
