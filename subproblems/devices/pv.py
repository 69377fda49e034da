"""Photovoltaic plant that can be curtailed."""

from __future__ import annotations

from dataclasses import replace
from typing import ClassVar, Literal

import numpy as np

from subproblems.builder import Builder
from subproblems.devices.attributes import Series, flag, number, series
from subproblems.devices.base import Device, Resolver
from subproblems.devices.ranges import add_range_flexibility
from subproblems.horizon import Horizon
from subproblems.port import ELECTRICITY, Flow, Port


class PV(Device):
    """min_share available[t] <= production[t] <= available[t] = installed_kw available_pu[t].

    Up flexibility gives back what is curtailed, down flexibility curtails more. Neither strains a store.
    """

    label: ClassVar[str] = "pv"
    kind: Literal["pv"] = "pv"
    installed_kw: float = number("installed power", "kW", gt=0)
    available_pu: Series = series("available power per installed power", "kW/kW", ge=0, le=1.5)
    min_share: float = number("share of the available power that cannot be curtailed", "", 0.0, ge=0, le=1)
    curtailment_cost_eur_per_kwh: float = number("cost of curtailed energy", "EUR/kWh", 0.0, ge=0)
    flexible: bool = flag("whether it offers flexibility", True)

    def add(self, builder: Builder, horizon: Horizon, series: Resolver, product_periods: int = 1) -> Port:
        available_kw = self.installed_kw * self.values("available_pu", horizon, series)
        production = builder.variable(
            f"{self.name}.production_kw",
            horizon.periods,
            self.min_share * available_kw,
            available_kw,
            unit="kW",
            scale=self.installed_kw,
            bound_name=f"{self.name}: available power limits",
        )
        cost = horizon.hours * self.curtailment_cost_eur_per_kwh
        builder.cost(production, linear=-cost)
        builder.constant += cost * float(available_kw.sum())
        port = Port({ELECTRICITY: Flow(((production, -1.0),), np.zeros(horizon.periods), self.installed_kw)})
        if not self.flexible:
            return port
        limits_kw = (self.min_share * available_kw, available_kw)
        size_kw = self.installed_kw
        awards = add_range_flexibility(
            builder, self.name, production, limits_kw, product_periods, consumes=False, scale_kw=size_kw
        )
        return replace(port, **awards, flexible_kw=size_kw)
