"""The communities a second time: written in cvxpy from `subproblems/README.md` alone, for `independent_model`.

Powers in kW, energies in kWh, costs in EUR; arrays and expressions are (periods,).
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import cvxpy as cp
import numpy as np

if TYPE_CHECKING:
    from tests.independent_model import CaseData

KW_PER_MW = 1000.0
EDGE = 1e-9
"""Periods: an edge of a span that is this close to a period's edge is that edge."""
DEFAULTS: dict[str, dict[str, Any]] = {
    "community": {
        "flex_up_cost_eur_per_mwh": 0.0,
        "flex_down_cost_eur_per_mwh": 0.0,
        "flex_quadratic_cost_eur_per_mw2h": 1.0,
    },
    "load": {"scale_factor": 1.0},
    "pv": {"min_share": 0.0, "curtailment_cost_eur_per_kwh": 0.0, "flexible": True},
    "battery": {
        "charge_efficiency": 0.95,
        "discharge_efficiency": 0.95,
        "self_discharge_per_h": 0.0,
        "initial_share": 0.5,
        "min_share": 0.1,
        "max_share": 1.0,
        "wear_cost_eur_per_kwh": 0.005,
        "wear_rise_eur_per_kwh": 0.002,
        "flexible": True,
    },
    "ev_fleet": {"wear_cost_eur_per_kwh": 0.005, "wear_rise_eur_per_kwh": 0.002, "flexible": True},
    "class": {
        "discharge_kw": 0.0,
        "charge_efficiency": 0.92,
        "discharge_efficiency": 0.92,
        "min_energy_kwh": 0.0,
        "repeat_daily": True,
    },
    "thermostatic_load": {
        "gains_kw": 0.0,
        "cop_heating": 3.0,
        "max_heating_kw": 0.0,
        "cop_cooling": 3.0,
        "max_cooling_kw": 0.0,
        "min_temperature_degc": 19.0,
        "max_temperature_degc": 24.0,
        "set_point_degc": 21.0,
        "discomfort_cost_eur_per_k2h": 0.05,
        "initial_temperature_degc": 21.0,
        "end_tolerance_k": 1.0,
        "flexible": True,
    },
    "heat_pump": {
        "cop_at_7c": 3.5,
        "cop_slope_per_k": 0.07,
        "tank_kwh": 0.0,
        "tank_loss_per_h": 0.01,
        "initial_share": 0.5,
        "flexible": True,
    },
    "shiftable_load": {"repeat_daily": True, "flexible": True},
}
"""The README's defaults."""


@dataclass
class Part:
    """What a device adds to its community: expressions (periods,) in kW, a cost in EUR, constraints, its reservoirs."""

    consumption: Any = 0.0
    up: Any = 0.0
    down: Any = 0.0
    cost: Any = 0.0
    constraints: list[Any] = field(default_factory=list)
    stores: list[Reservoir] = field(default_factory=list)

    def __add__(self, other: Part) -> Part:
        mine, others = vars(self), vars(other)
        return Part(**{key: mine[key] + others[key] for key in mine})


@dataclass
class Leg:
    """A power: sign at the meter, gain in the state per kW over a period, greatest power; all (periods,)."""

    sign: float
    gain: np.ndarray
    most: np.ndarray


@dataclass
class Reservoir:
    """State bounds and dynamics, each (periods,); `start` is the state before the first period."""

    keep: np.ndarray
    drift: np.ndarray
    lower: np.ndarray
    upper: np.ndarray
    start: float
    legs: list[Leg]

    def safe_bounds(self) -> tuple[np.ndarray, np.ndarray]:
        """floor and ceiling of the README, computed backwards."""
        floor, ceiling = self.lower.copy(), self.upper.copy()
        for t in range(floor.size - 2, -1, -1):
            if self.keep[t + 1] == 0.0:
                continue
            fill = sum(max(leg.gain[t + 1], 0.0) * leg.most[t + 1] for leg in self.legs)
            draw = sum(min(leg.gain[t + 1], 0.0) * leg.most[t + 1] for leg in self.legs)
            floor[t] = max(floor[t], (floor[t + 1] - self.drift[t + 1] - fill) / self.keep[t + 1])
            ceiling[t] = min(ceiling[t], (ceiling[t + 1] - self.drift[t + 1] - draw) / self.keep[t + 1])
        return floor, ceiling

    def part(self, flexible: bool, calls: int) -> tuple[Part, Any, list[Any]]:
        """The part without costs, the state (periods,) and the legs' powers."""
        periods = self.keep.size
        state, powers = cp.Variable(periods), [cp.Variable(periods, nonneg=True) for _ in self.legs]
        before = np.eye(periods, k=-1) @ state + self.start * np.eye(periods)[0]
        change = sum(cp.multiply(leg.gain, power) for leg, power in zip(self.legs, powers, strict=True))
        part = Part(sum(leg.sign * power for leg, power in zip(self.legs, powers, strict=True)), stores=[self])
        part.constraints += [state == cp.multiply(self.keep, before) + change + self.drift]
        part.constraints += [state >= self.lower, state <= self.upper]
        pairs = list(zip(self.legs, powers, strict=True))
        part.constraints += [power <= leg.most for leg, power in pairs]
        for raises in (True, False) if flexible else ():
            group = [(leg, power) for leg, power in pairs if bool((leg.sign * leg.gain >= 0).all()) is raises]
            if group:
                part += self._group_flexibility(group, state, raises, calls)
        return part, state, powers

    def _group_flexibility(self, group: list[tuple[Leg, Any]], state: Any, raises: bool, calls: int) -> Part:
        periods = self.keep.size
        floor, ceiling = self.safe_bounds()
        up, down = cp.Variable(periods, nonneg=True), cp.Variable(periods, nonneg=True)
        less = sum(power if leg.sign > 0 else leg.most - power for leg, power in group)
        more = sum(leg.most - power if leg.sign > 0 else power for leg, power in group)
        weakest = np.max([np.abs(leg.gain) for leg, _ in group], axis=0)
        falls, rises = (up, down) if raises else (down, up)
        rows, effect = [], np.zeros(periods)
        for k in range(calls):
            first, last = periods - k, slice(k, None)
            effect = self.keep[last] * effect[:first] + weakest[last]
            rows += [up[:first] <= less[last], down[:first] <= more[last]]
            rows += [state[last] - cp.multiply(effect, falls[:first]) >= floor[last]]
            rows += [state[last] + cp.multiply(effect, rises[:first]) <= ceiling[last]]
        return Part(up=up, down=down, constraints=rows)


class CommunityModel:
    """One community: its devices added up, and its boundary values in MW."""

    def __init__(self, case: CaseData, name: str) -> None:
        self.case, self.hours, self.periods = case, case.hours, case.periods
        self._columns = case.public | case.columns[name]
        table = DEFAULTS["community"] | case.communities[name]
        self.calls = round(table.get("flexibility_duration_minutes", 60 * self.hours) / (60 * self.hours))
        total = Part()
        for device in table["devices"]:
            total += getattr(self, f"_{device['kind']}")(DEFAULTS[device["kind"]] | device)
        keys = ("p_mw", "flex_up_mw", "flex_down_mw")
        self.boundary = dict(zip(keys, [cp.Variable(self.periods) for _ in keys], strict=True))
        self.stores = total.stores
        p, up, down = self.boundary.values()
        self.constraints = [*total.constraints, up >= 0, down >= 0, KW_PER_MW * p == total.consumption]
        self.constraints += [KW_PER_MW * up == total.up, KW_PER_MW * down == total.down]
        for k in range(self.calls):
            first = self.periods - k
            self.constraints += [KW_PER_MW * (p[k:] + down[:first]) <= table["import_limit_kw"]]
            self.constraints += [KW_PER_MW * (p[k:] - up[:first]) >= -table["export_limit_kw"]]
        linear = table["flex_up_cost_eur_per_mwh"] * cp.sum(up) + table["flex_down_cost_eur_per_mwh"] * cp.sum(down)
        square = table["flex_quadratic_cost_eur_per_mw2h"] * (cp.sum_squares(up) + cp.sum_squares(down))
        self.cost = total.cost + self.hours * (linear + square)

    def _series(self, value: float | str) -> np.ndarray:
        return self._columns[value] if isinstance(value, str) else np.full(self.periods, float(value))

    def _span(self, start_hour: float, end_hour: float) -> tuple[int, int]:
        """First period and the one after the last, with edges rounded inwards; may lie outside the horizon."""
        since = self.case.local_hour
        first = math.ceil((start_hour - since) / self.hours - EDGE)
        return first, math.floor((end_hour - since) / self.hours + EDGE)

    def _spans(self, start_hour: float, end_hour: float, repeat: bool) -> list[tuple[int, int]]:
        """The spans that touch the horizon."""
        days = range(-8, 9) if repeat else (0,)
        spans = [self._span(start_hour + 24 * day, end_hour + 24 * day) for day in days]
        return [(first, end) for first, end in spans if end > 0 and first < self.periods]

    def _wear(self, device: Mapping[str, Any], powers: list[Any], most_kw: list[float]) -> Any:
        linear, rise = device["wear_cost_eur_per_kwh"], device["wear_rise_eur_per_kwh"]
        pairs = zip(powers, most_kw, strict=True)
        return self.hours * sum(linear * cp.sum(p) + rise / (2 * most) * cp.sum_squares(p) for p, most in pairs)

    def _load(self, device: Mapping[str, Any]) -> Part:
        return Part(device["scale_factor"] * self._series(device["power_kw"]))

    def _pv(self, device: Mapping[str, Any]) -> Part:
        available = device["installed_kw"] * self._series(device["available_pu"])
        least, production = device["min_share"] * available, cp.Variable(self.periods)
        part = Part(-production, constraints=[production >= least, production <= available])
        part.cost = self.hours * device["curtailment_cost_eur_per_kwh"] * cp.sum(available - production)
        if device["flexible"]:
            part.up, part.down = cp.Variable(self.periods, nonneg=True), cp.Variable(self.periods, nonneg=True)
            for k in range(self.calls):
                first = self.periods - k
                part.constraints += [part.up[:first] <= (available - production)[k:]]
                part.constraints += [part.down[:first] <= (production - least)[k:]]
        return part

    def _battery(self, device: Mapping[str, Any]) -> Part:
        size, flat = device["capacity_kwh"], np.ones(self.periods)
        lower = device["min_share"] * size * flat
        lower[-1] = device.get("end_share", device["initial_share"]) * size
        charge = Leg(1.0, self.hours * device["charge_efficiency"] * flat, device["charge_kw"] * flat)
        discharge = Leg(-1.0, -self.hours / device["discharge_efficiency"] * flat, device["discharge_kw"] * flat)
        keep = (1 - device["self_discharge_per_h"]) ** self.hours * flat
        start = device["initial_share"] * size
        store = Reservoir(keep, 0 * flat, lower, device["max_share"] * size * flat, start, [charge, discharge])
        part, _, powers = store.part(device["flexible"], self.calls)
        part.cost = self._wear(device, powers, [device["charge_kw"], device["discharge_kw"]])
        return part

    def _ev_fleet(self, device: Mapping[str, Any]) -> Part:
        total = Part()
        for one in device["classes"]:
            total += self._ev_class(device, DEFAULTS["class"] | one)
        return total

    def _ev_class(self, device: Mapping[str, Any], one: Mapping[str, Any]) -> Part:
        n, (keep, drift, lower, upper, here) = one["vehicles"], np.zeros((5, self.periods))
        arrives, leaves, start = n * one["energy_on_arrival_kwh"], n * one["energy_at_departure_kwh"], 0.0
        for first, end in self._spans(one["arrival_hour"], one["departure_hour"], one["repeat_daily"]):
            stay = slice(max(first, 0), min(end, self.periods))
            keep[stay], here[stay] = 1.0, 1.0
            lower[stay], upper[stay] = n * one["min_energy_kwh"], n * one["capacity_kwh"]
            share = np.clip((np.array([0, self.periods]) - first) / (end - first), 0.0, 1.0)
            energy = (1 - share) * arrives + share * leaves
            lower[stay.stop - 1] = energy[1]
            if first >= 0:
                keep[first], drift[first] = 0.0, arrives
            else:
                start = energy[0]
        charge = Leg(1.0, self.hours * one["charge_efficiency"] * np.ones(self.periods), n * one["charger_kw"] * here)
        gain = -self.hours / one["discharge_efficiency"] * np.ones(self.periods)
        legs = [charge, Leg(-1.0, gain, n * one["discharge_kw"] * here)][: 2 if one["discharge_kw"] > 0 else 1]
        part, _, powers = Reservoir(keep, drift, lower, upper, start, legs).part(device["flexible"], self.calls)
        part.cost = self._wear(device, powers, [n * one["charger_kw"], n * one["discharge_kw"]][: len(legs)])
        return part

    def _thermostatic_load(self, device: Mapping[str, Any]) -> Part:
        resistance, flat = device["resistance_k_per_kw"], np.ones(self.periods)
        a = math.exp(-self.hours / (resistance * device["capacitance_kwh_per_k"]))
        outdoor, gains = self._series(device["outdoor_temperature_degc"]), self._series(device["gains_kw"])
        lower, upper = device["min_temperature_degc"] * flat, device["max_temperature_degc"] * flat
        initial, give = device["initial_temperature_degc"], device["end_tolerance_k"]
        lower[-1], upper[-1] = max(lower[-1], initial - give), min(upper[-1], initial + give)
        heating, cooling = (1.0, "heating"), (-1.0, "cooling")
        sides = [(way * device[f"cop_{word}"], device[f"max_{word}_kw"]) for way, word in (heating, cooling)]
        legs = [Leg(1.0, (1 - a) * resistance * cop * flat, most * flat) for cop, most in sides if most > 0]
        room = Reservoir(a * flat, (1 - a) * (outdoor + resistance * gains), lower, upper, initial, legs)
        part, state, _ = room.part(device["flexible"], self.calls)
        discomfort = self.hours * device["discomfort_cost_eur_per_k2h"]
        part.cost = discomfort * cp.sum_squares(state - device["set_point_degc"])
        return part

    def _heat_pump(self, device: Mapping[str, Any]) -> Part:
        outdoor, flat = self._series(device["outdoor_temperature_degc"]), np.ones(self.periods)
        cop = np.clip(device["cop_at_7c"] + device["cop_slope_per_k"] * (outdoor - 7.0), 1.5, 6.0)
        start = device["initial_share"] * device["tank_kwh"]
        lower = np.append(np.zeros(self.periods - 1), start)
        keep = (1 - device["tank_loss_per_h"]) ** self.hours * flat
        drift = -self.hours * self._series(device["heat_demand_kw"])
        leg = Leg(1.0, self.hours * cop, device["max_kw"] * flat)
        tank = Reservoir(keep, drift, lower, device["tank_kwh"] * flat, start, [leg])
        return tank.part(device["flexible"], self.calls)[0]

    def _shiftable_load(self, device: Mapping[str, Any]) -> Part:
        keep, drift, lower, upper, most = np.zeros((5, self.periods))
        for window in device["windows"]:
            energy = window["energy_kwh"]
            for first, end in self._spans(window["start_hour"], window["end_hour"], device["repeat_daily"]):
                inside = slice(max(first, 0), min(end, self.periods))
                share = np.clip((np.array([0, self.periods]) - first) / (end - first), 0.0, 1.0)
                keep[inside], upper[inside], most[inside] = 1.0, energy, window["max_kw"]
                keep[inside.start], drift[inside.start] = 0.0, share[0] * energy
                lower[inside.stop - 1] = share[1] * energy
        leg = Leg(1.0, self.hours * np.ones(self.periods), most)
        return Reservoir(keep, drift, lower, upper, 0.0, [leg]).part(device["flexible"], self.calls)[0]
