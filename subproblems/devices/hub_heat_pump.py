"""Heat pump that feeds the heat balance of a hub."""

from __future__ import annotations

from dataclasses import replace
from typing import ClassVar, Literal

import numpy as np

from subproblems.builder import Builder
from subproblems.devices.attributes import flag
from subproblems.devices.base import Resolver
from subproblems.devices.heat_pump import HeatPumpUnit
from subproblems.devices.ranges import add_power, add_range_flexibility
from subproblems.horizon import Horizon
from subproblems.port import ELECTRICITY, HEAT, Flow, Port


class HubHeatPump(HeatPumpUnit):
    """heat[t] = cop[t] power[t], 0 <= power[t] <= max_kw, with the cop of `HeatPumpUnit`."""

    label: ClassVar[str] = "hub_heat_pump"
    kind: Literal["hub_heat_pump"] = "hub_heat_pump"
    flexible: bool = flag("whether it offers flexibility", True)

    def add(self, builder: Builder, horizon: Horizon, series: Resolver, product_periods: int = 1) -> Port:
        cop = self.cop(self.values("outdoor_temperature_degc", horizon, series))
        none_kw = np.zeros(horizon.periods)
        most_kw, heat_kw = none_kw + self.max_kw, cop * self.max_kw
        power = add_power(builder, f"{self.name}.power_kw", most_kw, "electric power limits")
        flows = {
            ELECTRICITY: Flow(((power, 1.0),), none_kw, self.max_kw),
            HEAT: Flow(((power, -cop),), none_kw, float(heat_kw.max()), least_kw=-heat_kw),
        }
        if not self.flexible:
            return Port(flows)
        awards = add_range_flexibility(
            builder,
            self.name,
            power,
            (none_kw, most_kw),
            product_periods,
            consumes=True,
            scale_kw=self.max_kw,
            takes_more={HEAT: -cop},
        )
        return replace(Port(flows), **awards, flexible_kw=self.max_kw)
