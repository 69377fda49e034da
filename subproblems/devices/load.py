"""Inflexible load: what people switch on."""

from __future__ import annotations

from typing import ClassVar, Literal

from subproblems.builder import Builder
from subproblems.devices.attributes import Series, number, series
from subproblems.devices.base import Device, Resolver
from subproblems.horizon import Horizon
from subproblems.port import Port


class Load(Device):
    """Consumption[t] = scale_factor power[t], in kW."""

    label: ClassVar[str] = "load"
    kind: Literal["load"] = "load"
    power_kw: Series = series("consumption", "kW", ge=0)
    scale_factor: float = number("multiplies the consumption", "", 1.0, ge=0)

    def add(self, builder: Builder, horizon: Horizon, series: Resolver, product_periods: int = 1) -> Port:
        power_kw = self.scale_factor * self.values("power_kw", horizon, series)
        return Port(consumption=(), constant_kw=power_kw, nominal_kw=float(power_kw.max()))
