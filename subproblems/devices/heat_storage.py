"""Tank of hot water on the heat balance of a hub."""

from __future__ import annotations

from dataclasses import replace
from typing import ClassVar, Literal

import numpy as np
from pydantic import model_validator

from subproblems.builder import Builder
from subproblems.devices.attributes import number
from subproblems.devices.base import Device, Resolver
from subproblems.devices.shares import check_shares, level_limits_kwh
from subproblems.horizon import Horizon
from subproblems.port import HEAT, Port, Responder
from subproblems.reservoir import Leg, Reservoir, add_reservoir


class HeatStorage(Device):
    """energy[t] = (1 - loss_per_h)^h energy[t-1] + h charge[t], -discharge_kw <= charge[t] <= charge_kw;

    min_share capacity <= energy[t] <= max_share capacity, and the last energy is at least end_share capacity.
    Charging and discharging lose nothing, so one power does both. It follows while flexibility is called.
    """

    label: ClassVar[str] = "heat_storage"
    kind: Literal["heat_storage"] = "heat_storage"
    capacity_kwh: float = number("heat that it can hold", "kWh (heat)", gt=0)
    charge_kw: float = number("greatest heat into it", "kW (heat)", gt=0)
    discharge_kw: float = number("greatest heat out of it", "kW (heat)", gt=0)
    loss_per_h: float = number("share of its heat lost in an hour", "1/h", 0.01, ge=0, lt=1)
    initial_share: float = number("heat at the start as a share of the capacity", "", 0.5, ge=0, le=1)
    min_share: float = number("least heat as a share of the capacity", "", 0.0, ge=0, le=1)
    max_share: float = number("greatest heat as a share of the capacity", "", 1.0, ge=0, le=1)
    end_share: float | None = number(
        "least heat at the end as a share of the capacity; initial_share if not given", "", None, ge=0, le=1
    )

    @model_validator(mode="after")
    def _shares_in_order(self) -> HeatStorage:
        check_shares(self)
        return self

    def add(self, builder: Builder, horizon: Horizon, series: Resolver, product_periods: int = 1) -> Port:
        reservoir = self._reservoir(horizon)
        added = add_reservoir(builder, reservoir, False, product_periods, HEAT)
        most_kw = reservoir.legs[0].maximum_kw
        least_kw = 0.0 * most_kw - self.discharge_kw
        charge = added.legs["charge_kw"]
        follows = Responder(self.name, charge, least_kw, most_kw, {HEAT: 1.0}, reservoir, added.state)
        return replace(added.port, responders=(follows,))

    def _reservoir(self, horizon: Horizon) -> Reservoir:
        every = np.ones(horizon.periods)
        lower, upper = level_limits_kwh(self, horizon.periods)
        charge = Leg("charge_kw", "heat", self.charge_kw * every, horizon.hours * every, minimum_kw=-self.discharge_kw)
        return Reservoir(
            prefix=f"{self.name}.",
            label=self.name,
            state_name="energy_kwh",
            state_words="stored heat",
            unit="kWh",
            initial=self.initial_share * self.capacity_kwh,
            keep=(1 - self.loss_per_h) ** horizon.hours * every,
            drift=0.0 * every,
            lower=lower,
            upper=upper,
            legs=(charge,),
        )
