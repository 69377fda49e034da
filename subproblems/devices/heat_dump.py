"""Dry cooler: the one device that lets heat go to waste."""

from __future__ import annotations

from typing import ClassVar, Literal

import numpy as np

from subproblems.builder import Builder
from subproblems.devices.attributes import number
from subproblems.devices.base import Device, Resolver
from subproblems.devices.ranges import add_power
from subproblems.horizon import Horizon
from subproblems.port import HEAT, Flow, Port, Responder


class HeatDump(Device):
    """0 <= heat[t] <= max_heat_kw leaves the heat balance unused. It follows while flexibility is called."""

    label: ClassVar[str] = "heat_dump"
    kind: Literal["heat_dump"] = "heat_dump"
    max_heat_kw: float = number("greatest heat that can be thrown away", "kW (heat)", gt=0)

    def add(self, builder: Builder, horizon: Horizon, series: Resolver, product_periods: int = 1) -> Port:
        none_kw = np.zeros(horizon.periods)
        most_kw = none_kw + self.max_heat_kw
        heat = add_power(builder, f"{self.name}.heat_kw", most_kw, "heat limits")
        responder = Responder(self.name, heat, none_kw, most_kw, {HEAT: 1.0})
        return Port({HEAT: Flow(((heat, 1.0),), none_kw, self.max_heat_kw)}, responders=(responder,))
