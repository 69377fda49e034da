"""Heat pump that feeds the heat balance of a hub."""

from __future__ import annotations

from dataclasses import replace
from typing import ClassVar, Literal

import numpy as np

from subproblems.builder import Builder
from subproblems.devices.attributes import flag
from subproblems.devices.base import Resolver
from subproblems.devices.heat_pump import HeatPumpUnit
from subproblems.devices.ranges import add_range_flexibility
from subproblems.horizon import Horizon
from subproblems.port import ELECTRICITY, HEAT, Flow, Port


class HubHeatPump(HeatPumpUnit):
    """heat[t] = cop[t] power[t], 0 <= power[t] <= max_kw, with the cop of `HeatPumpUnit`."""

    label: ClassVar[str] = "hub_heat_pump"
    kind: Literal["hub_heat_pump"] = "hub_heat_pump"
    flexible: bool = flag("whether it offers flexibility", True)

    def add(self, builder: Builder, horizon: Horizon, series: Resolver, product_periods: int = 1) -> Port:
        cop = self.cop(self.values("outdoor_temperature_degc", horizon, series))
        power = builder.variable(
            f"{self.name}.power_kw",
            horizon.periods,
            0.0,
            self.max_kw,
            unit="kW",
            scale=self.max_kw,
            bound_name=f"{self.name}: electric power limits",
        )
        none_kw = np.zeros(horizon.periods)
        heat_kw = cop * self.max_kw
        flows = {
            ELECTRICITY: Flow(((power, 1.0),), none_kw, self.max_kw),
            HEAT: Flow(((power, -cop),), none_kw, float(heat_kw.max()), least_kw=-heat_kw),
        }
        if not self.flexible:
            return Port(flows)
        limits_kw = (none_kw, none_kw + self.max_kw)
        awards = add_range_flexibility(
            builder,
            self.name,
            power,
            limits_kw,
            product_periods,
            consumes=True,
            scale_kw=self.max_kw,
            takes_more={HEAT: -cop},
        )
        return replace(Port(flows), **awards, flexible_kw=self.max_kw)
