"""Battery: one reservoir of electric energy."""

from __future__ import annotations

from typing import ClassVar, Literal

import numpy as np
from pydantic import model_validator

from subproblems.builder import Builder
from subproblems.devices.attributes import flag, number
from subproblems.devices.base import Device, Resolver
from subproblems.devices.costs import add_wear
from subproblems.devices.shares import check_shares, level_limits_kwh
from subproblems.horizon import Horizon
from subproblems.port import Port
from subproblems.reservoir import Leg, Reservoir, add_reservoir


class Battery(Device):
    """With h = hours of a period:

    energy[t] = (1 - self_discharge_per_h)^h energy[t-1]
                + h charge_efficiency charge[t] - h discharge[t] / discharge_efficiency,
    min_share capacity <= energy[t] <= max_share capacity, and the last energy is at least end_share capacity.
    """

    label: ClassVar[str] = "battery"
    kind: Literal["battery"] = "battery"
    capacity_kwh: float = number("energy that it can hold", "kWh", gt=0)
    charge_kw: float = number("greatest charging power at the meter", "kW", gt=0)
    discharge_kw: float = number("greatest discharging power at the meter", "kW", gt=0)
    charge_efficiency: float = number("stored energy per energy taken from the meter", "", 0.95, gt=0, le=1)
    discharge_efficiency: float = number("energy given to the meter per stored energy", "", 0.95, gt=0, le=1)
    self_discharge_per_h: float = number("share of the energy lost in an hour", "1/h", 0.0, ge=0, lt=1)
    initial_share: float = number("energy at the start as a share of the capacity", "", 0.5, ge=0, le=1)
    min_share: float = number("least energy as a share of the capacity", "", 0.1, ge=0, le=1)
    max_share: float = number("greatest energy as a share of the capacity", "", 1.0, ge=0, le=1)
    end_share: float | None = number(
        "least energy at the end as a share of the capacity; initial_share if not given", "", None, ge=0, le=1
    )
    wear_cost_eur_per_kwh: float = number("wear cost of each kWh charged and each discharged", "EUR/kWh", 0.005, ge=0)
    wear_rise_eur_per_kwh: float = number("rise of the marginal wear cost up to full power", "EUR/kWh", 0.002, ge=0)
    flexible: bool = flag("whether it offers flexibility", True)

    @model_validator(mode="after")
    def _shares_in_order(self) -> Battery:
        check_shares(self)
        return self

    def add(self, builder: Builder, horizon: Horizon, series: Resolver, product_periods: int = 1) -> Port:
        added = add_reservoir(builder, self._reservoir(horizon), self.flexible, product_periods)
        for name, maximum_kw in (("charge_kw", self.charge_kw), ("discharge_kw", self.discharge_kw)):
            wear = (self.wear_cost_eur_per_kwh, self.wear_rise_eur_per_kwh)
            add_wear(builder, added.legs[name], maximum_kw, horizon.hours, *wear)
        return added.port

    def _reservoir(self, horizon: Horizon) -> Reservoir:
        h, every = horizon.hours, np.ones(horizon.periods)
        lower, upper = level_limits_kwh(self, horizon.periods)
        return Reservoir(
            prefix=f"{self.name}.",
            label=self.name,
            state_name="energy_kwh",
            state_words="stored energy",
            unit="kWh",
            initial=self.initial_share * self.capacity_kwh,
            keep=(1 - self.self_discharge_per_h) ** h * every,
            drift=0.0 * every,
            lower=lower,
            upper=upper,
            legs=(
                Leg("charge_kw", "charging", self.charge_kw * every, h * self.charge_efficiency * every),
                Leg(
                    "discharge_kw",
                    "discharging",
                    self.discharge_kw * every,
                    -h / self.discharge_efficiency * every,
                    False,
                ),
            ),
        )
