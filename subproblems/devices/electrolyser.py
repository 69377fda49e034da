"""Electrolyser with a tank that serves a demand for hydrogen."""

from __future__ import annotations

from typing import ClassVar, Literal

import numpy as np

from subproblems.builder import Builder
from subproblems.devices.attributes import Series, flag, number, series
from subproblems.devices.base import Device, Resolver
from subproblems.horizon import Horizon
from subproblems.port import Port
from subproblems.reservoir import Leg, Reservoir, add_reservoir


class Electrolyser(Device):
    """tank[t] = tank[t-1] + h efficiency power[t] - h hydrogen_demand[t], all hydrogen in kWh of its HHV;

    0 <= power[t] <= max_kw, 0 <= tank[t] <= tank_kwh, and the last level is at least the initial one.
    Its hydrogen is used, not fed into the gas grid: that would change the grid's gas, which no agent models.
    """

    label: ClassVar[str] = "electrolyser"
    kind: Literal["electrolyser"] = "electrolyser"
    max_kw: float = number("greatest electric power", "kW", gt=0)
    efficiency: float = number("hydrogen (HHV) per electric energy", "", 0.7, gt=0, le=1)
    hydrogen_demand_kw: Series = series("hydrogen that must be served, by its HHV", "kW (hydrogen)", ge=0)
    tank_kwh: float = number("hydrogen that the tank can hold, by its HHV; 0 = none", "kWh (hydrogen)", 0.0, ge=0)
    initial_share: float = number("hydrogen in the tank at the start as a share of tank_kwh", "", 0.5, ge=0, le=1)
    flexible: bool = flag("whether it offers flexibility", True)

    def add(self, builder: Builder, horizon: Horizon, series: Resolver, product_periods: int = 1) -> Port:
        return add_reservoir(builder, self._reservoir(horizon, series), self.flexible, product_periods).port

    def _reservoir(self, horizon: Horizon, series: Resolver) -> Reservoir:
        h, every = horizon.hours, np.ones(horizon.periods)
        demand_kw = self.values("hydrogen_demand_kw", horizon, series)
        lower = 0.0 * every
        lower[-1] = self.initial_share * self.tank_kwh
        return Reservoir(
            prefix=f"{self.name}.",
            label=self.name,
            state_name="tank_kwh",
            state_words="hydrogen balance of the tank",
            unit="kWh",
            initial=self.initial_share * self.tank_kwh,
            keep=every,
            drift=-h * demand_kw,
            lower=lower,
            upper=self.tank_kwh * every,
            legs=(Leg("power_kw", "electric", self.max_kw * every, h * self.efficiency * every),),
        )
