"""Electric vehicles, by class: vehicles of a class come and leave together and count as one store."""

from __future__ import annotations

from typing import ClassVar, Literal

import numpy as np
from pydantic import Field, model_validator

from subproblems.builder import Builder
from subproblems.devices.attributes import Attributes, Name, flag, number
from subproblems.devices.base import Device, Resolver
from subproblems.devices.costs import add_wear
from subproblems.devices.stays import Stay, stays, whole_periods
from subproblems.horizon import Horizon
from subproblems.port import Port, join
from subproblems.reservoir import Leg, Reservoir, add_reservoir

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

    def energy_kwh(self, elapsed: float) -> float:
        """Energy of a vehicle that is pro rata between arrival and departure after a share of its stay."""
        return (1 - elapsed) * self.energy_on_arrival_kwh + elapsed * self.energy_at_departure_kwh


class EvFleet(Device):
    """For every class and stay, with n = vehicles and h = hours of a period:

    energy[t] = energy[t-1] + h charge_efficiency charge[t] - h discharge[t] / discharge_efficiency,
    energy before the stay = n energy_on_arrival, energy at its end >= n energy_at_departure,
    n min_energy <= energy <= n capacity; nothing in periods without a stay. A stay that the horizon
    cuts has the energy pro rata between arrival and departure there: fixed at the start, at least at the end.
    """

    label: ClassVar[str] = "ev_fleet"
    kind: Literal["ev_fleet"] = "ev_fleet"
    classes: list[EvClass] = Field(description="vehicles by class", min_length=1, json_schema_extra={"unit": ""})
    wear_cost_eur_per_kwh: float = number("wear cost of each kWh charged and each discharged", "EUR/kWh", 0.005, ge=0)
    wear_rise_eur_per_kwh: float = number("rise of the marginal wear cost up to full power", "EUR/kWh", 0.002, ge=0)
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
        reservoir = self._reservoir(horizon, each)
        added = add_reservoir(builder, reservoir, self.flexible, product_periods)
        for leg in reservoir.legs:
            wear = (self.wear_cost_eur_per_kwh, self.wear_rise_eur_per_kwh)
            add_wear(builder, added.legs[leg.name], leg.nominal_kw, horizon.hours, *wear)
        return added.port

    def _reservoir(self, horizon: Horizon, each: EvClass) -> Reservoir:
        found = self._stays(horizon, each)
        present, keep, drift, lower = (np.zeros(horizon.periods) for _ in range(4))
        for stay in found:
            span = slice(stay.first, stay.last + 1)
            present[span], keep[span], lower[span] = 1.0, 1.0, each.min_energy_kwh
            keep[stay.first], drift[stay.first] = 0.0, each.energy_kwh(stay.elapsed_before)
            lower[stay.last] = each.energy_kwh(stay.elapsed_after)
        return Reservoir(
            prefix=f"{self.name}.{each.name}_",
            label=f"{self.name} class {each.name}",
            state_name="energy_kwh",
            state_words="stored energy",
            unit="kWh",
            initial=0.0,
            keep=keep,
            drift=each.vehicles * drift,
            lower=each.vehicles * lower,
            upper=each.vehicles * each.capacity_kwh * present,
            legs=_legs(each, horizon.hours, present),
        )

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


def _legs(each: EvClass, hours: float, present: np.ndarray) -> tuple[Leg, ...]:
    """Charging, and discharging where the class can. present: (periods,), 1 where the vehicles are there."""
    n, every = each.vehicles, np.ones(present.size)
    charge = Leg("charge_kw", "charging", n * each.charger_kw * present, hours * each.charge_efficiency * every)
    if each.discharge_kw == 0:
        return (charge,)
    change = -hours / each.discharge_efficiency * every
    return charge, Leg("discharge_kw", "discharging", n * each.discharge_kw * present, change, consumes=False)
