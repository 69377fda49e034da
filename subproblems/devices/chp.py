"""Combined heat and power: gas becomes electricity and heat."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import ClassVar, Literal

import numpy as np
import scipy.sparse as sp
from pydantic import model_validator

from subproblems.builder import Builder, previous
from subproblems.devices.attributes import flag, number
from subproblems.devices.base import Device, Resolver
from subproblems.devices.ranges import add_power, add_range_flexibility
from subproblems.horizon import Horizon
from subproblems.port import ELECTRICITY, GAS, HEAT, Flow, Port
from subproblems.quadratic_program import Block

STILL = 1e-3
"""Share of the rated power below which a CHP stands still: what a solver leaves is no running machine."""


class CHP(Device):
    """gas[t] = power[t] / electric_efficiency, heat[t] = thermal_efficiency gas[t], 0 <= power[t] <= rated_kw.

    The commitment u[t] that makes it run at minimum_kw u <= power <= rated_kw u is relaxed to 0 <= u <= 1. As
    starting and idling cost nothing, what is left of it is 0 <= power <= rated_kw; what lies between 0 and
    minimum_kw is found after the run by `below_minimum_load`.
    -ramp_kw_per_h h <= power[t] - power[t-1] <= ramp_kw_per_h h from the second period on.
    """

    label: ClassVar[str] = "chp"
    kind: Literal["chp"] = "chp"
    rated_kw: float = number("greatest electric power", "kW", gt=0)
    electric_efficiency: float = number("electricity per gas (HHV)", "", gt=0, le=1)
    thermal_efficiency: float = number("heat per gas (HHV)", "", gt=0, le=1)
    minimum_kw: float = number("least electric power when it runs, relaxed", "kW", 0.0, ge=0)
    ramp_kw_per_h: float | None = number("greatest change of the electric power in an hour", "kW/h", None, gt=0)
    run_cost_eur_per_kwh: float = number("cost of each kWh of electricity beside the gas", "EUR/kWh", 0.0, ge=0)
    flexible: bool = flag("whether it offers flexibility", True)

    @model_validator(mode="after")
    def _consistent(self) -> CHP:
        total = self.electric_efficiency + self.thermal_efficiency
        if total > 1:
            raise ValueError(
                f"electric_efficiency {self.electric_efficiency:g} and thermal_efficiency {self.thermal_efficiency:g} "
                f"add up to {total:g}, expected at most 1: efficiencies are per higher heating value, HHV"
            )
        if self.minimum_kw > self.rated_kw:
            raise ValueError(f"minimum_kw is {self.minimum_kw:g}, expected at most rated_kw {self.rated_kw:g}")
        return self

    def add(self, builder: Builder, horizon: Horizon, series: Resolver, product_periods: int = 1) -> Port:
        most_kw = np.full(horizon.periods, self.rated_kw)
        power = add_power(builder, f"{self.name}.power_kw", most_kw, "electric power limits")
        builder.cost(power, linear=horizon.hours * self.run_cost_eur_per_kwh)
        port = self._port(power)
        if self.flexible:
            port = self._with_flexibility(builder, power, port, product_periods)
        if self.ramp_kw_per_h is not None:
            self._add_ramp_rows(builder, power, port, horizon.hours * self.ramp_kw_per_h, product_periods)
        return port

    def _port(self, power: Block) -> Port:
        none_kw = np.zeros(power.length)
        gas, heat = 1 / self.electric_efficiency, self.thermal_efficiency / self.electric_efficiency
        flows = {
            ELECTRICITY: Flow(((power, -1.0),), none_kw, self.rated_kw),
            GAS: Flow(((power, gas),), none_kw, gas * self.rated_kw),
            HEAT: Flow(((power, -heat),), none_kw, heat * self.rated_kw, least_kw=none_kw - heat * self.rated_kw),
        }
        return Port(flows)

    def _with_flexibility(self, builder: Builder, power: Block, port: Port, product_periods: int) -> Port:
        every = np.ones(power.length)
        takes_more = {carrier: port.flows[carrier].terms[0][1] * every for carrier in (GAS, HEAT)}
        awards = add_range_flexibility(
            builder,
            self.name,
            power,
            (0.0 * every, self.rated_kw * every),
            product_periods,
            consumes=False,
            scale_kw=self.rated_kw,
            takes_more=takes_more,
        )
        return replace(port, **awards, flexible_kw=self.rated_kw)

    def _add_ramp_rows(self, builder: Builder, power: Block, port: Port, most_kw: float, product_periods: int) -> None:
        """|power[t] - power[t-1]| <= most_kw, also where a call begins (begun) and where it has ended (over)."""
        periods = power.length
        change = (sp.eye_array(periods, format="csr") - previous(periods))[1:]
        rows = f"{self.name}: ramp limit"
        if periods > 1:
            builder.rows(rows, [(power, change)], -most_kw, most_kw, scale=self.rated_kw)
            builder.describe(rows, unit="kW a period")
        for direction, awards, sign in (("up", port.up, 1.0), ("down", port.down, -1.0)):
            for award in awards:
                begun = sign * sp.eye_array(periods, format="csr")[1:]
                over = -sign * sp.eye_array(periods - product_periods, periods) if periods > product_periods else None
                steps = [(begun, change, "begins")]
                steps += [(over, change[product_periods - 1 :], "has ended")] if over is not None else []
                for moved, schedule, words in steps:
                    terms = [(power, schedule), (award.block, moved)]
                    name = f"{rows} where a call of {direction} flexibility {words}"
                    builder.rows(name, terms, -most_kw, most_kw, scale=self.rated_kw)


def below_minimum_load(
    devices: list[Device], solution: Mapping[str, np.ndarray], tolerance_kw: float = 0.1
) -> dict[str, np.ndarray]:
    """Find where a schedule runs a CHP below its minimum load, which the machine itself cannot do.

    A CHP that gives at most tolerance_kw, or STILL of rated_kw, stands still.

    solution: {block name: array (periods,)}, such as `QPAgent.solution()`. Returns for each CHP that does so, by its
    name, minimum_kw less its power, kW, shape (periods,); 0 where it stands still, and up to tolerance_kw.
    """
    found = {}
    for device in devices:
        if isinstance(device, CHP):
            power_kw = solution[f"{device.name}.power_kw"]
            runs = power_kw > max(tolerance_kw, STILL * device.rated_kw)
            missing_kw = np.where(runs, device.minimum_kw - power_kw, 0.0)
            if missing_kw.max(initial=0.0) > tolerance_kw:
                found[device.name] = np.where(missing_kw > tolerance_kw, missing_kw, 0.0)
    return found
