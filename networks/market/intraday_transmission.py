"""The transmission operator's program of the day, made fit for the hours in which the day happens.

The day-ahead program with the latest load, the same pattern at every gate, and

    generators      within the notice time before delivery only what was held as reserve can move or be held still:
                    p_was - r_down <= p - r_down_now,   p + r_up_now <= p_was + r_up,
                    with p_was, r_down and r_up as agreed when the period entered the notice
    balancing       power from and to other control areas, dearer (cheaper) than day-ahead and the more so the more it
                    is: in proportion to the load of the buses, and at the first substation's bus, so that what
                    deviates is balanced where it deviates
    reserve         r_up + N flex_up + short >= requirement - (load now - load day-ahead): what a change of load has
                    used up is no longer asked for; what is short costs a price that rises with it, and is reported

Periods that are over are frozen: generators gave what they gave, and balancing closed the balance.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import scipy.sparse as sp

from admm import AgentBoundary
from admm.fits import check_like
from networks.market.rules import DayAheadPrices, MarketTable, spread
from networks.market.shadow_prices import ShadowPrices, shadow_prices
from networks.transmission import TransmissionModel
from subproblems import QPAgent, QuadraticProgram
from subproblems.quadratic_program import Block

BALANCING = ("market.balancing_up_mw", "market.balancing_down_mw")
AT_FEEDERS = ("market.balancing_feeders_up_mw", "market.balancing_feeders_down_mw")
OVER_SHARE = 1e-6
"""Of the cost of balancing that is left in periods that are over."""
NET_BALANCING = "market.balancing_mw"
SHORT = ("market.reserve_short_up_mw", "market.reserve_short_down_mw")


@dataclass(frozen=True)
class BalancingPrices:
    """What is dearer than day-ahead, in EUR/MWh: the first MW of power from (up) and to (down) other areas, (2, T) in
    proportion to the load and at the substation; and the first MW of reserve that is not held, (T,). Each further MW
    costs `rise`, or `reserve_rise`, more."""

    up_eur_per_mwh: np.ndarray
    down_eur_per_mwh: np.ndarray
    reserve_up_eur_per_mwh: np.ndarray
    reserve_down_eur_per_mwh: np.ndarray
    rise_eur_per_mw2h: float
    reserve_rise_eur_per_mw2h: float


def balancing_prices(
    table: MarketTable, agreed: DayAheadPrices, found: ShadowPrices, load: np.ndarray, bus: int
) -> BalancingPrices:
    """From the prices that were agreed on at the substation and those inside the operator's program.

    load: (buses,), for what comes in proportion to it. bus: the substation's. Where the program has more than one
    shadow price, because its cost has a kink there, buying takes the highest and selling the lowest: nothing that was
    not worth it day-ahead may become so.
    """
    inside = np.stack([found.bus_eur_per_mwh @ (load / load.sum()), found.bus_eur_per_mwh[:, bus]])
    kink = agreed.energy - inside[1]
    buy, sell = inside + np.maximum(kink, 0.0), inside + np.minimum(kink, 0.0)
    up = np.maximum(np.maximum(found.reserve_up_eur_per_mwh, agreed.up), 0.0)
    down = np.maximum(np.maximum(found.reserve_down_eur_per_mwh, agreed.down), 0.0)
    return BalancingPrices(
        buy + spread(table, buy),
        sell - spread(table, sell),
        up + spread(table, up),
        down + spread(table, down),
        table.balancing_rise_eur_per_mw2h,
        table.reserve_rise_eur_per_mw2h,
    )


@dataclass(frozen=True)
class Dispatch:
    """The day-ahead result by generator, (T, generators) each, MW; load_mw: (T,) of all buses, without feeders."""

    p_mw: np.ndarray
    reserve_up_mw: np.ndarray
    reserve_down_mw: np.ndarray
    load_mw: np.ndarray


def dispatch_of(model: TransmissionModel, solution: dict[str, np.ndarray]) -> Dispatch:
    """From the blocks of the day-ahead program's solution."""

    def of(name: str) -> np.ndarray:
        nothing = np.zeros(model.periods)
        return np.stack([solution.get(f"{one.name}.{name}", nothing) for one in model.grid.generators], axis=1)

    return Dispatch(of("p_mw"), of("reserve_up_mw"), of("reserve_down_mw"), model.load_mw.sum(axis=1))


class IntradayTransmission:
    """Makes the intra-day program, always on one pattern.

    model: as cleared day-ahead. notice_periods: for how many periods from the gate on only reserve can move.
    """

    def __init__(
        self, model: TransmissionModel, dispatch: Dispatch, prices: BalancingPrices, notice_periods: int
    ) -> None:
        self._model, self._dispatch, self.prices, self._notice = model, dispatch, prices, notice_periods

    def requirement(self, load_mw: np.ndarray) -> dict[str, np.ndarray]:
        """Reserve that is still asked for, (T,) by direction: a load of (T, buses) MW has used up what it grew by."""
        used, model = load_mw.sum(axis=1) - self._dispatch.load_mw, self._model
        return {
            "up": np.maximum(model.reserve_up_mw - used, 0.0),
            "down": np.maximum(model.reserve_down_mw + used, 0.0),
        }

    def program(self, qp: QuadraticProgram, gate: int, done: np.ndarray, load_mw: np.ndarray) -> QuadraticProgram:
        """With the numbers of qp, compiled for the latest load_mw, (T, buses), and the day-ahead requirement.

        done: (n,), frozen before the gate.
        """
        T, n, m = self._model.periods, qp.size, qp.l.size
        lower, upper = self._bounds(qp, gate, done)
        self._ask(qp, lower, upper, gate, load_mw)
        names = (*BALANCING, *AT_FEEDERS, *SHORT)
        new = len(names) * T
        scale = np.full(new, float(np.median(qp.variable_scale[: T * len(self._model.grid.generators)])))
        return replace(
            qp,
            P=sp.block_diag([qp.P, sp.diags_array(self._curvature(gate))], format="csc"),
            q=np.concatenate([qp.q, self._cost(gate)]),
            A=sp.bmat([[qp.A, self._new_columns(qp)], [None, sp.identity(new)]], format="csc"),
            l=np.concatenate([lower, np.zeros(new)]),
            u=np.concatenate([upper, np.full(new, np.inf)]),
            variables=(*qp.variables, *(Block(name, n + i * T, T, "MW") for i, name in enumerate(names))),
            rows=(*qp.rows, *(Block(f"{name}: is not negative", m + i * T, T) for i, name in enumerate(names))),
            variable_scale=np.concatenate([qp.variable_scale, scale]),
            row_scale=np.concatenate([qp.row_scale, scale]),
        )

    def _new_columns(self, qp: QuadraticProgram) -> sp.csc_matrix:
        """Of balancing power in the balances of the buses, and of what is short in the requirements; (m, new)."""
        T, load = self._model.periods, self._model.grid.load_mw
        columns = sp.lil_matrix((qp.l.size, 6 * T))
        periods = np.arange(T)
        for bus, share in zip(self._model.grid.buses, load / load.sum(), strict=True):
            rows = self._row(qp, f"bus {bus}: power balance")
            for k, weight in ((0, share), (2, float(bus == balancing_bus(self._model)))):
                if weight:
                    columns[rows, k * T + periods], columns[rows, (k + 1) * T + periods] = weight, -weight
        for k, direction in enumerate(("up", "down")):
            if self._has(direction):
                columns[self._row(qp, f"reserve {direction}: requirement"), (4 + k) * T + periods] = 1.0
        return sp.csc_matrix(columns)

    def _bounds(self, qp: QuadraticProgram, gate: int, done: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Limits are open before the gate; generators are held there, and near their reserve within the notice."""
        lower, upper = qp.l.copy(), qp.u.copy()
        blocks = {block.name: block for block in qp.rows}
        several = np.concatenate([np.full(block.length, not block.bounds) for block in qp.rows])  # no variable's bounds
        period = np.concatenate([np.arange(block.length) for block in qp.rows])
        over = several & (period < gate) & (qp.l < qp.u)
        lower[over], upper[over] = -np.inf, np.inf
        soon = slice(gate, min(gate + self._notice, self._model.periods))
        columns = {block.name: block for block in qp.variables}
        for g, one in enumerate(self._model.grid.generators):
            rows = np.arange(self._model.periods) + blocks[f"{one.name}: capacity"].start
            given = done[columns[f"{one.name}.p_mw"].entries]
            lower[rows[:gate]] = upper[rows[:gate]] = given[:gate]
            least, most = self._range(g)
            lower[rows[soon]] = np.maximum(lower[rows[soon]], least[soon])
            upper[rows[soon]] = np.minimum(upper[rows[soon]], most[soon])
            for direction, bound, reach in (("down", lower, least), ("up", upper, most)):
                if self._has("up") or self._has("down"):
                    start = blocks[f"{one.name}: capacity with reserve {direction}"].start
                    bound[start + soon.start : start + soon.stop] = reach[soon]
        return lower, upper

    def _ask(self, qp: QuadraticProgram, lower: np.ndarray, upper: np.ndarray, gate: int, load_mw: np.ndarray) -> None:
        """Put the requirement that is left in place of the day-ahead one, in periods that are not over."""
        for direction, need_mw in self.requirement(load_mw).items():
            if self._has(direction):
                lower[self._row(qp, f"reserve {direction}: requirement")[gate:]] = need_mw[gate:]
            for one in self._model.substations if self._model.flexibility else ():
                rows = self._row(qp, f"{one.coupling}: flex_{direction}_mw within the requirement")
                upper[rows] = np.maximum(need_mw / one.feeders, 0.0)

    def agree(self, periods: slice, dispatch: Dispatch) -> None:
        """Within the notice of these periods, reserve moves around what stood agreed when they entered it."""
        for key in ("p_mw", "reserve_up_mw", "reserve_down_mw"):
            getattr(self._dispatch, key)[periods] = getattr(dispatch, key)[periods]

    @property
    def agreed(self) -> Dispatch:
        """What stood agreed when each period entered its notice."""
        return self._dispatch

    def _range(self, generator: int) -> tuple[np.ndarray, np.ndarray]:
        """What its reserve lets a generator move to, (T,) each."""
        dispatch, one = self._dispatch, self._model.grid.generators[generator]
        p_mw = np.clip(dispatch.p_mw[:, generator], one.p_min_mw, one.p_max_mw)  # a solver stops just outside
        least, most = p_mw - dispatch.reserve_down_mw[:, generator], p_mw + dispatch.reserve_up_mw[:, generator]
        return np.minimum(least, p_mw), np.maximum(most, p_mw)

    def _cost(self, gate: int) -> np.ndarray:
        """EUR per MW and period of the new variables, divided by the number of feeders as all costs are."""
        prices = self.prices
        balancing = [each for k in (0, 1) for each in (prices.up_eur_per_mwh[k], -prices.down_eur_per_mwh[k])]
        each = np.array([*balancing, prices.reserve_up_eur_per_mwh, prices.reserve_down_eur_per_mwh])
        each[:, :gate] = 0.0  # what is over has been paid for
        return self._model.hours / self._model.feeders * each.ravel()

    def _curvature(self, gate: int) -> np.ndarray:
        """Second derivative of the cost of the new variables, in the same units; hardly any in periods that are over,
        but never none, so that the pattern stays."""
        rises = [self.prices.rise_eur_per_mw2h] * 4 + [self.prices.reserve_rise_eur_per_mw2h] * 2
        each = np.repeat(np.array(rises)[:, None], self._model.periods, axis=1)
        each[:, :gate] *= OVER_SHARE
        return self._model.hours / self._model.feeders * each.ravel()

    def _has(self, direction: str) -> bool:
        return bool(getattr(self._model, f"reserve_{direction}_mw").any())

    def _row(self, qp: QuadraticProgram, name: str) -> np.ndarray:
        (block,) = (block for block in qp.rows if block.name == name)
        return np.arange(block.start, block.start + block.length)


def balancing_bus(model: TransmissionModel) -> str:
    """Where balancing power for feeders comes in: at the first substation, else at the slack bus."""
    return model.substations[0].bus if model.substations else model.grid.slack


def _is_held(name: str) -> bool:
    """Tell variables that are held ready, and that nothing is left of when a period is over."""
    return "reserve_" in name or "flex_" in name


class TransmissionDay:
    """The operator through the day. compiled: gives the program of a model. x: its day-ahead schedule, (n,).

    short_mwh: reserve of both directions that was asked for and not held, in the periods that are over, per feeder.
    """

    def __init__(
        self,
        model: TransmissionModel,
        compiled: Callable[[TransmissionModel], QuadraticProgram],
        x: np.ndarray,
        table: MarketTable,
        agreed: DayAheadPrices,
        notice_periods: int,
        solver: str,
    ) -> None:
        qp = compiled(model)
        found, grid = shadow_prices(model, qp, x), model.grid
        prices = balancing_prices(table, agreed, found, grid.load_mw, grid.bus(balancing_bus(model)))
        self.dispatch = dispatch_of(model, qp.values(x))
        self._model, self._compiled, self._done, self._gate, self.short_mwh = model, compiled, x.copy(), 0, 0.0
        self._program = IntradayTransmission(model, dispatch_of(model, qp.values(x)), prices, notice_periods)
        self._period_of = np.concatenate([np.arange(block.length) for block in qp.variables])
        self._notice = notice_periods
        self.agent = QPAgent(self._program.program(qp, 0, self._done, model.load_mw), solver=solver)

    def open(self, gate: int, load_mw: np.ndarray) -> None:
        """Freeze what was generated before the gate, and take the latest load, (T, buses)."""
        qp = self._compiled(replace(self._model, load_mw=load_mw))
        if self.agent.x is not None:
            since = (self._period_of >= self._gate) & (self._period_of < gate)
            self._done[since] = self.agent.x[: self._done.size][since]
            missing_mw = sum(self.agent.solution()[name] for name in SHORT)[self._gate : gate]
            self.short_mwh += self._model.hours * float(missing_mw.sum()) / self._model.feeders
            now = dispatch_of(self._model, self.agent.solution())
            self._program.agree(slice(self._gate + self._notice, gate + self._notice), now)
        self._gate = gate
        self.agent.revise(self._program.program(qp, gate, self._done, load_mw))

    def snapshot(self) -> dict[str, Any]:
        """Return all that the gates to come depend on beside the case."""
        kept = {"done": self._done, "short_mwh": self.short_mwh, "agreed": self._program.agreed}
        return {**kept, "agent": self.agent.snapshot()}

    def restore(self, kept: Mapping[str, Any], gate: int, load_mw: np.ndarray, boundary: AgentBoundary) -> None:
        """Go on as after a gate that was opened with load_mw, (T, buses), from its snapshot. boundary: the agent's."""
        own = {"done": self._done, "short_mwh": self.short_mwh, "agreed": self._program.agreed}
        check_like({key: kept[key] for key in own}, own, "kept")
        self._done, self.short_mwh, self._gate = kept["done"], kept["short_mwh"], gate
        self._program.agree(slice(None), kept["agreed"])
        qp = self._compiled(replace(self._model, load_mw=load_mw))
        self.agent.revise(self._program.program(qp, gate, self._done, load_mw))
        self.agent.prepare(boundary)
        self.agent.restore(kept["agent"])

    def cost_eur(self) -> float:
        """Of what was generated and held as reserve, EUR per feeder, as last planned before each period."""
        return self._compiled(self._model).cost_eur(self._done)

    def happened(self) -> tuple[dict[str, np.ndarray], dict[str, str]]:
        """Return what happened, after the closing: {variable: (T,)} and their units, of the whole system.

        Reserve and flexibility are those last planned before each period. Balancing is the net of all its ways.
        """
        now, units = self.agent.solution(), self.agent.units()
        planned = self._compiled(self._model).values(self._done)
        values = {name: planned[name] if _is_held(name) else now[name] for name in planned}
        net_mw = sum(now[up] - now[down] for up, down in (BALANCING, AT_FEEDERS))
        return {**values, NET_BALANCING: net_mw}, {**{name: units[name] for name in values}, NET_BALANCING: "MW"}

    def balancing(self) -> tuple[np.ndarray, np.ndarray]:
        """After the closing: power that came from other areas, MW, and what it cost, EUR a period; (T,) each, per
        feeder, by whichever of its two ways is cheaper for each MW."""
        found, prices = self.agent.solution(), self._program.prices
        net_mw = sum(found[up] - found[down] for up, down in (BALANCING, AT_FEEDERS))
        size, rise = np.abs(net_mw), prices.rise_eur_per_mw2h
        one, other = np.where(net_mw > 0, prices.up_eur_per_mwh, -prices.down_eur_per_mwh)
        first_mw = np.clip(0.5 * (size + (other - one) / rise), 0.0, size)
        ways = ((one, first_mw), (other, size - first_mw))
        cost_eur = self._model.hours * sum(price * mw + 0.5 * rise * mw**2 for price, mw in ways)
        return net_mw / self._model.feeders, cost_eur / self._model.feeders
