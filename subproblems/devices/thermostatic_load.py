"""Buildings that are heated or cooled electrically: one reservoir whose state is the indoor temperature."""

from __future__ import annotations

import math
from typing import ClassVar, Literal

import numpy as np
from pydantic import model_validator

from subproblems.builder import Builder
from subproblems.devices.attributes import Series, flag, number, series
from subproblems.devices.base import Device, Resolver
from subproblems.horizon import Horizon
from subproblems.port import Port
from subproblems.reservoir import Leg, Reservoir, add_reservoir


class ThermostaticLoad(Device):
    """First-order building, exact for inputs that are constant over a period, a = exp(-h / (R C)):

    T[t] = a T[t-1] + (1 - a) (T_out[t] + R (cop_heating heating[t] - cop_cooling cooling[t] + gains[t]))

    min_temperature <= T[t] <= max_temperature at every period's end, and the last T is within end_tolerance_k
    of the initial one. Discomfort costs h discomfort_cost (T - set_point)^2. Quantities are those of all buildings.
    """

    label: ClassVar[str] = "thermostatic_load"
    kind: Literal["thermostatic_load"] = "thermostatic_load"
    resistance_k_per_kw: float = number("thermal resistance to the outside, R", "K/kW", gt=0)
    capacitance_kwh_per_k: float = number("heat capacity, C", "kWh/K", gt=0)
    outdoor_temperature_degc: Series = series("outdoor temperature, T_out", "degC", ge=-60, le=60)
    gains_kw: Series = series("solar and internal heat gains", "kW (heat)", 0.0)
    cop_heating: float = number("heat per electric energy when heating", "", 3.0, gt=0, le=10)
    max_heating_kw: float = number("greatest electric power for heating; 0 = none", "kW", 0.0, ge=0)
    cop_cooling: float = number("heat removed per electric energy when cooling", "", 3.0, gt=0, le=10)
    max_cooling_kw: float = number("greatest electric power for cooling; 0 = none", "kW", 0.0, ge=0)
    min_temperature_degc: float = number("lower end of the comfort band", "degC", 19.0, ge=-30, le=60)
    max_temperature_degc: float = number("upper end of the comfort band", "degC", 24.0, ge=-30, le=60)
    set_point_degc: float = number("temperature without discomfort", "degC", 21.0, ge=-30, le=60)
    discomfort_cost_eur_per_k2h: float = number("cost of squared distance to the set point", "EUR/(K^2 h)", 0.05, ge=0)
    initial_temperature_degc: float = number("indoor temperature at the start", "degC", 21.0, ge=-30, le=60)
    end_tolerance_k: float = number("greatest distance of the last temperature from the first", "K", 1.0, ge=0)
    flexible: bool = flag("whether it offers flexibility", True)

    @model_validator(mode="after")
    def _consistent(self) -> ThermostaticLoad:
        low, high = self.min_temperature_degc, self.max_temperature_degc
        if low > high:
            raise ValueError(f"min_temperature_degc is {low:g}, expected at most max_temperature_degc {high:g}")
        for key in ("initial_temperature_degc", "set_point_degc"):
            if not low <= getattr(self, key) <= high:
                raise ValueError(f"{key} is {getattr(self, key):g}, expected in the comfort band {low:g} to {high:g}")
        if self.max_heating_kw == 0 and self.max_cooling_kw == 0:
            raise ValueError("max_heating_kw and max_cooling_kw are both 0, expected at least one above 0")
        return self

    def add(self, builder: Builder, horizon: Horizon, series: Resolver, product_periods: int = 1) -> Port:
        reservoir = self._reservoir(horizon, series)
        added = add_reservoir(builder, reservoir, self.flexible, product_periods)
        cost = horizon.hours * self.discomfort_cost_eur_per_k2h
        builder.cost_of_deviation(added.state, quadratic=cost, target=self.set_point_degc)
        return added.port

    def _reservoir(self, horizon: Horizon, series: Resolver) -> Reservoir:
        every = np.ones(horizon.periods)
        keep = math.exp(-horizon.hours / (self.resistance_k_per_kw * self.capacitance_kwh_per_k))
        heat = (1 - keep) * self.resistance_k_per_kw  # K at the period's end per kW of heat
        outdoor_degc = self.values("outdoor_temperature_degc", horizon, series)
        gains_kw = self.values("gains_kw", horizon, series)
        lower, upper = self.min_temperature_degc * every, self.max_temperature_degc * every
        lower[-1] = max(lower[-1], self.initial_temperature_degc - self.end_tolerance_k)
        upper[-1] = min(upper[-1], self.initial_temperature_degc + self.end_tolerance_k)
        return Reservoir(
            prefix=f"{self.name}.",
            label=self.name,
            state_name="temperature_degc",
            state_words="indoor temperature",
            unit="degC",
            initial=self.initial_temperature_degc,
            keep=keep * every,
            drift=(1 - keep) * outdoor_degc + heat * gains_kw,
            lower=lower,
            upper=upper,
            legs=self._legs(heat, every),
        )

    def _legs(self, heat: float, every: np.ndarray) -> tuple[Leg, ...]:
        heating = Leg("heating_kw", "heating", self.max_heating_kw * every, heat * self.cop_heating * every)
        cooling = Leg("cooling_kw", "cooling", self.max_cooling_kw * every, -heat * self.cop_cooling * every)
        return tuple(leg for leg in (heating, cooling) if leg.maximum_kw.any())
