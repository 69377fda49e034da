"""Inflexible load of electricity, gas or heat."""

from __future__ import annotations

from typing import ClassVar, Literal

from subproblems.builder import Builder
from subproblems.devices.attributes import Series, choice, number, series
from subproblems.devices.base import Device, Resolver
from subproblems.horizon import Horizon
from subproblems.port import ELECTRICITY, Carrier, Flow, Port


class Load(Device):
    """Consumption[t] = scale_factor power[t], in kW; gas by its higher heating value.

    With a profile between 0 and 1 as power_kw, scale_factor is the peak in kW.
    """

    label: ClassVar[str] = "load"
    kind: Literal["load"] = "load"
    power_kw: Series = series("consumption, or its profile if scale_factor is the peak", "kW", ge=0)
    scale_factor: float = number("multiplies the consumption", "", 1.0, ge=0)
    carrier: Carrier = choice("what it takes: electricity, gas or heat", ELECTRICITY)

    def add(self, builder: Builder, horizon: Horizon, series: Resolver, product_periods: int = 1) -> Port:
        power_kw = self.scale_factor * self.values("power_kw", horizon, series)
        return Port({self.carrier: Flow((), power_kw, float(power_kw.max()), least_kw=power_kw)})
