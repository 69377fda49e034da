"""Gas boiler that feeds the heat balance."""

from __future__ import annotations

from typing import ClassVar, Literal

import numpy as np

from subproblems.builder import Builder
from subproblems.devices.attributes import number
from subproblems.devices.base import Device, Resolver
from subproblems.devices.ranges import add_power
from subproblems.horizon import Horizon
from subproblems.port import GAS, HEAT, Flow, Port, Responder


class GasBoiler(Device):
    """gas[t] = heat[t] / efficiency, 0 <= heat[t] <= max_heat_kw. It follows while flexibility is called."""

    label: ClassVar[str] = "gas_boiler"
    kind: Literal["gas_boiler"] = "gas_boiler"
    max_heat_kw: float = number("greatest heat", "kW (heat)", gt=0)
    efficiency: float = number("heat per gas (HHV)", "", 0.9, gt=0, le=1)

    def add(self, builder: Builder, horizon: Horizon, series: Resolver, product_periods: int = 1) -> Port:
        none_kw, gas = np.zeros(horizon.periods), 1 / self.efficiency
        most_kw = none_kw + self.max_heat_kw
        heat = add_power(builder, f"{self.name}.heat_kw", most_kw, "heat limits")
        flows = {
            GAS: Flow(((heat, gas),), none_kw, gas * self.max_heat_kw),
            HEAT: Flow(((heat, -1.0),), none_kw, self.max_heat_kw, least_kw=-most_kw),
        }
        return Port(flows, responders=(Responder(self.name, heat, none_kw, most_kw, {GAS: gas, HEAT: -1.0}),))
