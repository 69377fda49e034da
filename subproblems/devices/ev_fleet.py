"""Electric vehicles, by class: vehicles of a class come and leave together and count as one store."""

from __future__ import annotations

import math
from typing import ClassVar, Literal

import numpy as np
from pydantic import Field, model_validator

from subproblems.builder import Builder
from subproblems.devices.at_once import filled_at_once, level_after
from subproblems.devices.attributes import Attributes, Name, choice, flag, number
from subproblems.devices.base import Device, Resolver
from subproblems.devices.costs import add_wear
from subproblems.devices.stays import ROUNDING, Stay, stays, whole_periods
from subproblems.ev_error import AS_FORECAST, EvError
from subproblems.horizon import HOURS_PER_DAY, Horizon
from subproblems.port import Port, join
from subproblems.reservoir import Leg, Reservoir, add_reservoir, with_carried_state

REACH_TOLERANCE_KWH = 1e-9


class EvClass(Attributes):
    """`vehicles` equal vehicles that arrive and depart together; all energies and powers are per vehicle.

    Hours count from local midnight of the horizon's first day and may be negative or exceed 24. Vehicles are
    present in whole periods only: an arrival or departure inside a period is rounded inwards.
    """

    label: ClassVar[str] = "class"
    name: Name
    vehicles: int = number("number of vehicles", "", ge=1)
    capacity_kwh: float = number("battery capacity", "kWh", gt=0)
    charger_kw: float = number("greatest charging power", "kW", gt=0)
    discharge_kw: float = number("greatest power to the grid (V2G); 0 = none", "kW", 0.0, ge=0)
    charge_efficiency: float = number("stored energy per energy taken", "", 0.92, gt=0, le=1)
    discharge_efficiency: float = number("energy given per stored energy", "", 0.92, gt=0, le=1)
    arrival_hour: float = number("arrival, in hours from local midnight of the first day", "h", ge=-168, le=336)
    departure_hour: float = number("departure, in hours from local midnight of the first day", "h", ge=-168, le=336)
    energy_on_arrival_kwh: float = number("stored energy on arrival", "kWh", ge=0)
    energy_at_departure_kwh: float = number("least stored energy at departure", "kWh", ge=0)
    min_energy_kwh: float = number("least stored energy while present", "kWh", 0.0, ge=0)
    repeat_daily: bool = flag("whether the stay comes every 24 h, also on the day before", True)

    @model_validator(mode="after")
    def _in_order(self) -> EvClass:
        if self.departure_hour <= self.arrival_hour:
            raise ValueError(
                f"departure_hour is {self.departure_hour:g}, expected after arrival_hour {self.arrival_hour:g}; "
                "add 24 for a departure on the next day"
            )
        for key in ("energy_on_arrival_kwh", "energy_at_departure_kwh"):
            energy = getattr(self, key)
            if not self.min_energy_kwh <= energy <= self.capacity_kwh:
                raise ValueError(
                    f"{key} is {energy:g}, expected from min_energy_kwh {self.min_energy_kwh:g} "
                    f"to capacity_kwh {self.capacity_kwh:g}"
                )
        return self

    def arrival_kwh(self, factor: float) -> float:
        """Energy of a vehicle on arrival if it needs `factor` times as much; its battery limits what it can need."""
        need_kwh = factor * (self.energy_at_departure_kwh - self.energy_on_arrival_kwh)
        return min(max(self.energy_at_departure_kwh - need_kwh, self.min_energy_kwh), self.capacity_kwh)

    def energy_kwh(self, elapsed: float, factor: float = 1.0) -> float:
        """Energy of a vehicle that is pro rata between arrival and departure after a share of its stay."""
        return (1 - elapsed) * self.arrival_kwh(factor) + elapsed * self.energy_at_departure_kwh


class EvFleet(Device):
    """For every class and stay, with n = vehicles and h = hours of a period:

    energy[t] = energy[t-1] + h charge_efficiency charge[t] - h discharge[t] / discharge_efficiency,
    energy before the stay = n energy_on_arrival, energy at its end >= n energy_at_departure,
    n min_energy <= energy <= n capacity; nothing in periods without a stay. A stay that the horizon
    cuts has the energy pro rata between arrival and departure there: fixed at the start, at least at the end.

    Charging "on_arrival" leaves nothing to decide: full power from the arrival on until n energy_at_departure is
    reached, also in a stay that the horizon cuts: there it has charged in the same way before the start.

    Errors of a stay that begins in the horizon, which the builder is asked for, change bounds only. Vehicles that come
    later have no power until then, but their energy counts from the announced arrival on; of those that come
    earlier nothing changes, as they are taken when they were announced. A factor on the energy need lowers (raises)
    energy_on_arrival.
    """

    label: ClassVar[str] = "ev_fleet"
    kind: Literal["ev_fleet"] = "ev_fleet"
    classes: list[EvClass] = Field(description="vehicles by class", min_length=1, json_schema_extra={"unit": ""})
    wear_cost_eur_per_kwh: float = number("wear cost of each kWh charged and each discharged", "EUR/kWh", 0.005, ge=0)
    wear_rise_eur_per_kwh: float = number("rise of the marginal wear cost up to full power", "EUR/kWh", 0.002, ge=0)
    charging: Literal["controlled", "on_arrival"] = choice(
        'who decides when: "controlled", or "on_arrival": at full power until charged, discharge_kw being ignored, '
        "without flexibility",
        "controlled",
    )
    flexible: bool = flag("whether it offers flexibility", True)

    @model_validator(mode="after")
    def _classes_differ(self) -> EvFleet:
        names = [each.name for each in self.classes]
        for name in names:
            if names.count(name) > 1:
                raise ValueError(f"two classes are called '{name}': give each its own name")
        return self

    def add(self, builder: Builder, horizon: Horizon, series: Resolver, product_periods: int = 1) -> Port:
        return join([self._add_class(builder, horizon, each, product_periods) for each in self.classes])

    def _add_class(self, builder: Builder, horizon: Horizon, each: EvClass, product_periods: int) -> Port:
        reservoir = self._reservoir(builder, horizon, each)
        maximum_kw, flexible = {leg.name: leg.nominal_kw for leg in reservoir.legs}, self.flexible
        if self.charging == "on_arrival":
            target_kwh = np.full(horizon.periods, each.vehicles * each.energy_at_departure_kwh)
            reservoir, flexible = filled_at_once(with_carried_state(builder, reservoir), target_kwh), False
        added = add_reservoir(builder, reservoir, flexible, product_periods)
        for leg, block in added.legs.items():
            wear = (self.wear_cost_eur_per_kwh, self.wear_rise_eur_per_kwh)
            add_wear(builder, block, maximum_kw[leg], horizon.hours, *wear)
        return added.port

    def _reservoir(self, builder: Builder, horizon: Horizon, each: EvClass) -> Reservoir:
        found, initial_kwh = self._stays(horizon, each), 0.0
        announced, present, keep, drift, lower = (np.zeros(horizon.periods) for _ in range(5))
        for stay in found:
            span, error, late = slice(stay.first, stay.last + 1), AS_FORECAST, 0
            announced[span], keep[span], lower[span] = 1.0, 1.0, each.min_energy_kwh
            if stay.periods_before == 0:
                error = builder.stays(f"{self.name}/{each.name}", each.arrival_hour, stay.day)
                late = _periods_late(horizon, each, stay, error)
                keep[stay.first], drift[stay.first] = 0.0, each.arrival_kwh(error.energy_factor)
            else:
                initial_kwh = self._energy_at_cut_kwh(each, stay, horizon.hours)
            present[stay.first + late : stay.last + 1] = 1.0
            lower[stay.last] = each.energy_kwh(stay.elapsed_after(late), error.energy_factor)
        return Reservoir(
            prefix=f"{self.name}.{each.name}_",
            label=f"{self.name} class {each.name}",
            state_name="energy_kwh",
            state_words="stored energy",
            unit="kWh",
            initial=each.vehicles * initial_kwh,
            keep=keep,
            drift=each.vehicles * drift,
            lower=each.vehicles * lower,
            upper=each.vehicles * each.capacity_kwh * announced,
            legs=_legs(each, horizon.hours, announced, present)[: 1 if self.charging == "on_arrival" else None],
        )

    def _energy_at_cut_kwh(self, each: EvClass, stay: Stay, hours: float) -> float:
        """Energy of a vehicle at the horizon's start."""
        if self.charging == "controlled":
            return each.energy_kwh(stay.elapsed_before)
        step_kwh = hours * each.charge_efficiency * each.charger_kw
        arrived_kwh, target_kwh = each.energy_on_arrival_kwh, each.energy_at_departure_kwh
        return level_after(arrived_kwh, target_kwh, step_kwh, stay.periods_before)

    def _stays(self, horizon: Horizon, each: EvClass) -> list[Stay]:
        where = f"{self.label} '{self.name}': class '{each.name}'"
        found = stays(horizon, each.arrival_hour, each.departure_hour, each.repeat_daily, f"{where}: the stay")
        hours = horizon.hours * whole_periods(horizon, each.arrival_hour, each.departure_hour)
        reach = each.energy_on_arrival_kwh + each.charge_efficiency * each.charger_kw * hours
        if each.energy_at_departure_kwh > reach + REACH_TOLERANCE_KWH:
            raise self.error(
                f"class '{each.name}': energy_at_departure_kwh is {each.energy_at_departure_kwh:g}, but its stay holds "
                f"{hours:g} h of whole periods, in which its charger reaches {reach:.4g} kWh: lower it, or raise "
                "charger_kw or energy_on_arrival_kwh"
            )
        return found


def _periods_late(horizon: Horizon, each: EvClass, stay: Stay, error: EvError) -> int:
    """After how many periods of its stay a vehicle is there: for all of a period, or where it is not known when it
    comes, for most of the period in which it is expected."""
    hour = each.arrival_hour + HOURS_PER_DAY * stay.day + error.shift_hours
    period = (hour - horizon.first_hour) / horizon.hours
    return max(0, (math.ceil(period - ROUNDING) if error.known else round(period)) - stay.first)


def _legs(each: EvClass, hours: float, announced: np.ndarray, present: np.ndarray) -> tuple[Leg, ...]:
    """Charging, and discharging where the class can. announced, present: (periods,), 1 where the vehicles should be
    and are there."""
    n, every = each.vehicles, np.ones(present.size)

    def leg(name: str, words: str, kw: float, change: float, consumes: bool) -> Leg:
        return Leg(name, words, n * kw * present, hours * change * every, consumes, usual_kw=n * kw * announced)

    charge = leg("charge_kw", "charging", each.charger_kw, each.charge_efficiency, True)
    if each.discharge_kw == 0:
        return (charge,)
    return charge, leg("discharge_kw", "discharging", each.discharge_kw, -1 / each.discharge_efficiency, False)
