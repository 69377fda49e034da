"""Energy hubs a second time: cvxpy straight from the physics in kW, kWh and EUR, with explicit responses and plans.

Arrays and expressions are (periods,). A flow is positive where the device takes the carrier. Flexibility is written
as what happens: in every period of every call each device shows its changed power, its store its changed level, and
the store has a plan for the time after the call.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import cvxpy as cp
import numpy as np

from subproblems import QuadraticProgram
from subproblems.community import compile_community
from subproblems.hub import Hub
from tests.device_reference import COUPLING, Part, Prices, columns, horizon, solve_program

GAS_COUPLING = "hub-gas"
CARRIERS = ("electricity", "gas", "heat")
WIDE = {"import_limit_kw": 1e4, "export_limit_kw": 1e4, "flex_quadratic_cost_eur_per_mw2h": 0.0}


def compiled_hub(
    devices, periods: int, series=None, *, step: int = 60, product: int = 1, **options
) -> QuadraticProgram:
    """The product's program; wide electric limits, no gas unless given."""
    hub = Hub(devices=list(devices), flexibility_duration_minutes=product * step, **(WIDE | options))
    values = series or columns(periods)
    return compile_community("hub", hub, horizon(periods, step), values, COUPLING, GAS_COUPLING)


def solve_hub(qp: QuadraticProgram, asked: Prices, gas_eur_per_mwh: float, hours: float):
    """Optimum in EUR and schedule of the product's matrices, gas bought at a price, by Clarabel."""
    q = qp.q.copy()
    at = qp.boundary.get((GAS_COUPLING, "gas_mw"), np.empty(0, int))
    q[at] += hours * gas_eur_per_mwh
    return solve_program(qp.with_numbers(q=q), asked, hours)


@dataclass
class Offer:
    """Flexibility of a device: an award, and kW of gas and of heat taken per kW of it in each period."""

    award: cp.Variable
    gas: np.ndarray
    heat: np.ndarray


@dataclass
class Tank:
    """The heat store: level after each period, heat into it, and its numbers."""

    level: Any
    charge: cp.Variable
    charge_kw: float
    discharge_kw: float
    keep: float
    lower: np.ndarray
    upper: np.ndarray


@dataclass
class HubModel:
    """A hub under construction. product: periods of a call; 0 leaves flexibility out."""

    periods: int
    hours: float
    product: int = 1
    gas_limit_kw: float = 1e5
    taken: dict[str, Any] = field(default_factory=dict)
    limits: list = field(default_factory=list)
    cost: Any = 0.0
    offers: dict[str, list[Offer]] = field(default_factory=lambda: {"up": [], "down": []})
    own: dict[str, list] = field(default_factory=lambda: {"up": [], "down": []})
    boilers: list[tuple] = field(default_factory=list)
    dumps: list[tuple] = field(default_factory=list)
    tank: Tank | None = None
    spare_kw: Any = 0.0
    powers: dict[str, cp.Variable] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.taken = {carrier: np.zeros(self.periods) for carrier in CARRIERS}

    def _positive(self, most_kw, name: str = "") -> cp.Variable:
        power = cp.Variable(self.periods, nonneg=True)
        self.limits.append(power <= most_kw)
        if name:
            self.powers[name] = power
        return power

    def take(self, carrier: str, kw) -> None:
        self.taken[carrier] = self.taken[carrier] + kw

    def load(self, carrier: str, kw) -> None:
        self.take(carrier, kw)
        if carrier == "heat":
            self.spare_kw = self.spare_kw - kw

    def task(self, carrier: str, first: int, end: int, energy_kwh: float, most_kw: float, name: str = "") -> None:
        """energy_kwh at any time in the periods from first to before end."""
        inside = np.zeros(self.periods)
        inside[first:end] = 1.0
        power = self._positive(most_kw * inside, name)
        self.limits.append(self.hours * cp.sum(power) == energy_kwh)
        self.take(carrier, power)

    def chp(self, rated_kw, electric, thermal, run_cost=0.0, ramp_kw_per_h=None, name="chp") -> None:
        power = self._positive(rated_kw, name)
        self.take("electricity", -power)
        self.take("gas", power / electric)
        self.take("heat", -power * thermal / electric)
        self.spare_kw = self.spare_kw + rated_kw * thermal / electric
        self.cost = self.cost + self.hours * run_cost * cp.sum(power)
        if ramp_kw_per_h is not None:
            self.limits.append(cp.abs(power[1:] - power[:-1]) <= ramp_kw_per_h * self.hours)
        gas, heat = np.full(self.periods, 1 / electric), np.full(self.periods, -thermal / electric)
        for direction, sign in (("up", 1), ("down", -1)):
            award = self._offer(direction, sign * gas, sign * heat)
            if award is None:
                continue
            for start in range(self.periods):
                self._chp_call(power, sign * award[start], start, rated_kw, ramp_kw_per_h)

    def _chp_call(self, power, change, start: int, rated_kw: float, ramp_kw_per_h) -> None:
        """The whole trajectory of a call, period by period: power and ramps."""
        end = min(start + self.product, self.periods)
        changed = [power[s] + (change if start <= s < end else 0.0) for s in range(self.periods)]
        self.limits += [changed[s] >= 0 for s in range(start, end)]
        self.limits += [changed[s] <= rated_kw for s in range(start, end)]
        if ramp_kw_per_h is not None:
            edges = [s for s in (start, end) if 0 < s < self.periods]
            self.limits += [cp.abs(changed[s] - changed[s - 1]) <= ramp_kw_per_h * self.hours for s in edges]

    def _offer(self, direction: str, gas, heat):
        if self.product == 0:
            return None
        award = cp.Variable(self.periods, nonneg=True)
        self.offers[direction].append(Offer(award, gas, heat))
        return award

    def _range(self, power, most_kw, sign: int, gas, heat) -> None:
        """A power from 0 to most_kw that up flexibility raises (sign +1) or lowers (-1)."""
        for direction, side in (("up", sign), ("down", -sign)):
            award = self._offer(direction, side * gas, side * heat)
            if award is not None:
                for start in range(self.periods):
                    for s in range(start, min(start + self.product, self.periods)):
                        changed = power[s] + side * award[start]
                        self.limits += [changed >= 0, changed <= most_kw[s]]

    def heat_pump(self, most_kw, cop, name="hp") -> None:
        power = self._positive(most_kw, name)
        self.take("electricity", power)
        self.take("heat", -cp.multiply(cop, power))
        self.spare_kw = self.spare_kw + most_kw * cop
        self._range(power, np.full(self.periods, most_kw), -1, 0.0 * cop, -cop)

    def boiler(self, most_kw, efficiency, name="boiler") -> None:
        heat = self._positive(most_kw, name)
        self.take("gas", heat / efficiency)
        self.take("heat", -heat)
        self.spare_kw = self.spare_kw + most_kw
        self.boilers.append((heat, most_kw, efficiency))

    def dump(self, most_kw, name="dump") -> None:
        heat = self._positive(most_kw, name)
        self.take("heat", heat)
        self.dumps.append((heat, most_kw))

    def dual_fuel(self, demand_kw, share, factor, name="dual") -> None:
        by_gas = self._positive(share * demand_kw, name)
        self.take("electricity", demand_kw - by_gas)
        self.take("gas", factor * by_gas)
        flat = np.ones(self.periods)
        self._range(by_gas, share * demand_kw, 1, factor * flat, 0.0 * flat)

    def store(self, capacity, charge_kw, discharge_kw, loss_per_h, initial, end, name="tank") -> None:
        charge = cp.Variable(self.periods)
        self.powers[name] = charge
        keep, levels, level = (1 - loss_per_h) ** self.hours, [], initial
        for s in range(self.periods):
            level = keep * level + self.hours * charge[s]
            levels.append(level)
        lower, upper = np.zeros(self.periods), np.full(self.periods, float(capacity))
        lower[-1] = end
        state = cp.hstack(levels)
        self.limits += [charge <= charge_kw, charge >= -discharge_kw, state >= lower, state <= upper]
        self.take("heat", charge)
        self.tank = Tank(state, charge, charge_kw, discharge_kw, keep, lower, upper)

    def add(self, part: Part) -> None:
        """A device of electricity alone, with its own flexibility."""
        self.take("electricity", part.power)
        self.cost, self.limits = self.cost + part.cost, self.limits + part.limits
        if self.product:
            self.own["up"].append(part.up)
            self.own["down"].append(part.down)

    def total(self, direction: str):
        offered = [offer.award for offer in self.offers[direction]] + self.own[direction]
        return sum(offered, np.zeros(self.periods))

    def balances(self) -> list:
        """Heat in balance and gas within its connection, as scheduled and in every period of every call."""
        heat, gas = (cp.Constant(np.zeros(self.periods)) + self.taken[carrier] for carrier in ("heat", "gas"))
        rules = [heat == 0, gas <= self.gas_limit_kw]
        for direction in ("up", "down"):
            for start in range(self.periods):
                rules += self._call(direction, start)
        return rules

    def _call(self, direction: str, start: int) -> list:
        rules, shift = [], 0.0
        if not self.offers[direction]:
            return []
        for s in range(start, min(start + self.product, self.periods)):
            gas = sum(offer.gas[s] * offer.award[start] for offer in self.offers[direction])
            heat = sum(offer.heat[s] * offer.award[start] for offer in self.offers[direction])
            for scheduled, most_kw, efficiency in self.boilers:
                now = cp.Variable(nonneg=True)
                rules.append(now <= most_kw)
                gas, heat = gas + (now - scheduled[s]) / efficiency, heat - (now - scheduled[s])
            for scheduled, most_kw in self.dumps:
                now = cp.Variable(nonneg=True)
                rules.append(now <= most_kw)
                heat = heat + now - scheduled[s]
            if self.tank is not None:
                now = cp.Variable()
                heat = heat + now - self.tank.charge[s]
                shift = self.tank.keep * shift + self.hours * (now - self.tank.charge[s])
                rules += [now <= self.tank.charge_kw, now >= -self.tank.discharge_kw]
                rules += self._plan(self.tank.level[s] + shift, s)
            rules += [heat == 0, cp.Constant(0.0) + self.taken["gas"][s] + gas <= self.gas_limit_kw]
        return rules

    def _plan(self, level, after: int) -> list:
        """The level is allowed, and a plan exists that keeps it so, with all heat sources at full power."""
        tank = self.tank
        rules = [level >= tank.lower[after], level <= tank.upper[after]]
        rest = self.periods - after - 1
        charge = cp.Variable(rest) if rest else None
        for i in range(rest):
            s = after + 1 + i
            level = tank.keep * level + self.hours * charge[i]
            rules += [level >= tank.lower[s], level <= tank.upper[s], charge[i] >= -tank.discharge_kw]
            rules += [charge[i] <= min(tank.charge_kw, self.spare_kw[s])]
        return rules

    def optimum(self, asked: Prices, gas_eur_per_mwh: float, electric_kg=0.0, gas_kg=0.182, eur_per_t=0.0) -> float:
        """EUR; emissions in kg/kWh, fed-in electricity with a negative sign."""
        power, up, down = self.taken["electricity"], self.total("up"), self.total("down")
        paid = (asked.energy @ power - asked.up @ up - asked.down @ down) / 1000
        gas_kwh = self.hours * cp.sum(self.taken["gas"])
        emitted_kg = self.hours * cp.sum(cp.multiply(electric_kg, power)) + gas_kg * gas_kwh
        total = self.cost + self.hours * paid + gas_kwh * gas_eur_per_mwh / 1000 + emitted_kg * eur_per_t / 1000
        problem = cp.Problem(cp.Minimize(total), self.limits + self.balances())
        problem.solve(solver=cp.CLARABEL)
        assert problem.status == cp.OPTIMAL, problem.status
        return problem.value

    def can_follow(self, power_kw: np.ndarray, fixed: dict[str, np.ndarray], until: int, called: int) -> bool:
        """Whether the hub can take power_kw in the `called` periods from `until` on, having kept its schedule before.

        What it takes after the call is free. Asked as: how far from it must it stay?
        """
        span = slice(until, until + called)
        missed = cp.sum(cp.abs((self.taken["electricity"] - power_kw)[span]))
        kept = [cp.abs(self.powers[name][:until] - fixed[name][:until]) <= KEPT_KW for name in fixed] if until else []
        problem = cp.Problem(cp.Minimize(missed), self.limits + self.balances() + kept)
        problem.solve(solver=cp.HIGHS)
        return problem.status == cp.OPTIMAL and problem.value < MISSED_KW


KEPT_KW = 1e-3
MISSED_KW = 0.05
"""A schedule from an interior-point solver is followed up to this."""
