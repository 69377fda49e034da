"""Heat pumps: what all share, and one with a buffer tank that serves a heat demand of its own."""

from __future__ import annotations

from typing import ClassVar, Literal

import numpy as np

from subproblems.builder import Builder
from subproblems.devices.attributes import Series, flag, number, series
from subproblems.devices.base import Device, Resolver
from subproblems.horizon import Horizon
from subproblems.port import Port
from subproblems.reservoir import Leg, Reservoir, add_reservoir

COP_LEAST, COP_MOST = 1.5, 6.0


class HeatPumpUnit(Device):
    """cop[t] = cop_at_7c + cop_slope_per_k (T_out[t] - 7), at least 1.5 and at most 6."""

    max_kw: float = number("greatest electric power", "kW", gt=0)
    outdoor_temperature_degc: Series = series("outdoor temperature, T_out", "degC", ge=-60, le=60)
    cop_at_7c: float = number("heat per electric energy at 7 degC outside", "", 3.5, ge=1, le=8)
    cop_slope_per_k: float = number("rise of that per K of outdoor temperature", "1/K", 0.07, ge=0, le=0.5)

    def cop(self, outdoor_degc: np.ndarray) -> np.ndarray:
        """Heat per electric energy, shape of the outdoor temperature (degC)."""
        return np.clip(self.cop_at_7c + self.cop_slope_per_k * (outdoor_degc - 7.0), COP_LEAST, COP_MOST)


class HeatPump(HeatPumpUnit):
    """energy[t] = (1 - tank_loss_per_h)^h energy[t-1] + h cop[t] power[t] - h heat_demand[t], all heat in kWh;

    0 <= energy[t] <= tank_kwh; the last energy is at least the initial one.
    """

    label: ClassVar[str] = "heat_pump"
    kind: Literal["heat_pump"] = "heat_pump"
    heat_demand_kw: Series = series("heat that must be served", "kW (heat)", ge=0)
    tank_kwh: float = number("heat that the buffer tank can hold; 0 = none", "kWh (heat)", 0.0, ge=0)
    tank_loss_per_h: float = number("share of the tank's heat lost in an hour", "1/h", 0.01, ge=0, lt=1)
    initial_share: float = number("heat in the tank at the start as a share of tank_kwh", "", 0.5, ge=0, le=1)
    flexible: bool = flag("whether it offers flexibility", True)

    def add(self, builder: Builder, horizon: Horizon, series: Resolver, product_periods: int = 1) -> Port:
        return add_reservoir(builder, self._reservoir(horizon, series), self.flexible, product_periods).port

    def _reservoir(self, horizon: Horizon, series: Resolver) -> Reservoir:
        h, every = horizon.hours, np.ones(horizon.periods)
        demand_kw = self.values("heat_demand_kw", horizon, series)
        heat = h * self.cop(self.values("outdoor_temperature_degc", horizon, series))
        lower = 0.0 * every
        lower[-1] = self.initial_share * self.tank_kwh
        return Reservoir(
            prefix=f"{self.name}.",
            label=self.name,
            state_name="tank_kwh",
            state_words="heat balance of the tank",
            unit="kWh",
            initial=self.initial_share * self.tank_kwh,
            keep=(1 - self.tank_loss_per_h) ** h * every,
            drift=-h * demand_kw,
            lower=lower,
            upper=self.tank_kwh * every,
            legs=(Leg("power_kw", "electric", self.max_kw * every, heat),),
        )
