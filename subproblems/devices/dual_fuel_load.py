"""Load of which a share can be met by electricity or by gas: substitution in integrated demand response."""

from __future__ import annotations

from dataclasses import replace
from typing import ClassVar, Literal

import numpy as np

from subproblems.builder import Builder
from subproblems.devices.attributes import Series, flag, number, series
from subproblems.devices.base import Device, Resolver
from subproblems.devices.ranges import add_power, add_range_flexibility
from subproblems.horizon import Horizon
from subproblems.port import ELECTRICITY, GAS, Flow, Port


class DualFuelLoad(Device):
    """electricity[t] = demand[t] - replaced[t], gas[t] = gas_kwh_per_kwh replaced[t],

    0 <= replaced[t] <= gas_share demand[t].
    """

    label: ClassVar[str] = "dual_fuel_load"
    kind: Literal["dual_fuel_load"] = "dual_fuel_load"
    demand_kw: Series = series("consumption if electricity meets it all", "kW", ge=0)
    gas_share: float = number("share of it that gas can meet", "", gt=0, le=1)
    gas_kwh_per_kwh: float = number("gas (HHV) that replaces a kWh of electricity", "kWh/kWh", 1.0, gt=0)
    flexible: bool = flag("whether it offers flexibility", True)

    def add(self, builder: Builder, horizon: Horizon, series: Resolver, product_periods: int = 1) -> Port:
        demand_kw = self.values("demand_kw", horizon, series)
        most_kw = self.gas_share * demand_kw
        size_kw, none_kw = float(most_kw.max()) or 1.0, np.zeros(horizon.periods)
        replaced = add_power(builder, f"{self.name}.replaced_kw", most_kw, "share that gas can meet")
        flows = {
            ELECTRICITY: Flow(((replaced, -1.0),), demand_kw, float(demand_kw.max())),
            GAS: Flow(((replaced, self.gas_kwh_per_kwh),), none_kw, self.gas_kwh_per_kwh * size_kw),
        }
        if not self.flexible:
            return Port(flows)
        awards = add_range_flexibility(
            builder,
            self.name,
            replaced,
            (none_kw, most_kw),
            product_periods,
            consumes=False,
            scale_kw=size_kw,
            takes_more={GAS: none_kw + self.gas_kwh_per_kwh},
        )
        return replace(Port(flows), **awards, flexible_kw=size_kw)
