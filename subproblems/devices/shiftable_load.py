"""Tasks that take a given energy at any time inside their windows: washing, pumping, warming up."""

from __future__ import annotations

from typing import ClassVar, Literal

import numpy as np
from pydantic import Field, model_validator

from subproblems.builder import Builder
from subproblems.devices.at_once import filled_at_once, level_after
from subproblems.devices.attributes import Attributes, choice, flag, number
from subproblems.devices.base import Device, Resolver
from subproblems.devices.stays import Stay, stays, whole_periods
from subproblems.horizon import Horizon
from subproblems.port import ELECTRICITY, Carrier, Port
from subproblems.reservoir import Leg, Reservoir, add_reservoir, with_carried_state

ENERGY_TOLERANCE_KWH = 1e-9
WORDS = {"electricity": "electric", "gas": "gas", "heat": "heat"}
"""How messages call a power of each carrier."""


class Window(Attributes):
    """A span of the day in which an energy must be served. Hours count from local midnight of the horizon's
    first day and may be negative or exceed 24; a start or end inside a period is rounded inwards."""

    label: ClassVar[str] = "window"
    start_hour: float = number("begin, in hours from local midnight of the first day", "h", ge=-168, le=336)
    end_hour: float = number("end, in hours from local midnight of the first day", "h", ge=-168, le=336)
    energy_kwh: float = number("energy that must be served in the window", "kWh", ge=0)
    max_kw: float = number("greatest power", "kW", gt=0)

    @model_validator(mode="after")
    def _in_order(self) -> Window:
        if self.end_hour <= self.start_hour:
            raise ValueError(
                f"end_hour is {self.end_hour:g}, expected after start_hour {self.start_hour:g}; add 24 for the next day"
            )
        return self


class ShiftableLoad(Device):
    """In every window: served[t] = served[t-1] + h power[t], from 0 before it to exactly energy_kwh at its end.

    0 <= power <= max_kw inside windows, 0 elsewhere. A window that the horizon cuts has its energy served
    pro rata there: exactly so at the horizon's start, at least so (and at most energy_kwh) at its end.

    Shifting "at_once" leaves nothing to decide: max_kw from the window's start on until energy_kwh is served, also in
    a window that the horizon cuts: there it has been served in the same way before the start.
    """

    label: ClassVar[str] = "shiftable_load"
    kind: Literal["shiftable_load"] = "shiftable_load"
    windows: list[Window] = Field(
        description="spans of the day, which must not overlap", min_length=1, json_schema_extra={"unit": ""}
    )
    repeat_daily: bool = flag("whether the windows come every 24 h, also on the day before", True)
    carrier: Carrier = choice("what it takes: electricity, gas or heat", ELECTRICITY)
    shifting: Literal["controlled", "at_once"] = choice(
        'who decides when: "controlled", or "at_once": at max_kw until served, without flexibility', "controlled"
    )
    flexible: bool = flag("whether it offers flexibility; only a load of electricity can", True)

    def add(self, builder: Builder, horizon: Horizon, series: Resolver, product_periods: int = 1) -> Port:
        reservoir, flexible = self._reservoir(horizon), self.flexible
        if self.shifting == "at_once":
            reservoir, flexible = filled_at_once(with_carried_state(builder, reservoir), reservoir.upper), False
        return add_reservoir(builder, reservoir, flexible, product_periods, self.carrier).port

    def _reservoir(self, horizon: Horizon) -> Reservoir:
        keep, lower, upper, maximum_kw = (np.zeros(horizon.periods) for _ in range(4))
        initial_kwh = 0.0
        for number_of, window in enumerate(self.windows, start=1):
            where = f"{self.label} '{self.name}': window {number_of}"
            self._check_energy(horizon, window, number_of)
            for stay in stays(horizon, window.start_hour, window.end_hour, self.repeat_daily, where):
                span = slice(stay.first, stay.last + 1)
                if maximum_kw[span].any():
                    raise self.error(f"window {number_of} overlaps another one: give one of them its own device")
                keep[span], upper[span], maximum_kw[span] = 1.0, window.energy_kwh, window.max_kw
                if stay.elapsed_before == 0:
                    keep[stay.first] = 0.0
                else:
                    initial_kwh = self._served_at_cut_kwh(window, stay, horizon.hours)
                lower[stay.last] = stay.elapsed_after() * window.energy_kwh
        return Reservoir(
            prefix=f"{self.name}.",
            label=self.name,
            state_name="served_kwh",
            state_words="energy served",
            unit="kWh",
            initial=initial_kwh,
            keep=keep,
            drift=np.zeros(horizon.periods),
            lower=lower,
            upper=upper,
            legs=(Leg("power_kw", WORDS[self.carrier], maximum_kw, np.full(horizon.periods, horizon.hours)),),
        )

    def _served_at_cut_kwh(self, window: Window, stay: Stay, hours: float) -> float:
        """Energy served in a running window before the horizon's start."""
        if self.shifting == "controlled":
            return stay.elapsed_before * window.energy_kwh
        return level_after(0.0, window.energy_kwh, hours * window.max_kw, stay.periods_before)

    def _check_energy(self, horizon: Horizon, window: Window, number_of: int) -> None:
        hours = horizon.hours * whole_periods(horizon, window.start_hour, window.end_hour)
        if window.energy_kwh > window.max_kw * max(hours, 0.0) + ENERGY_TOLERANCE_KWH:
            raise self.error(
                f"window {number_of}: energy_kwh is {window.energy_kwh:g}, but its {hours:g} h of whole periods hold "
                f"{window.max_kw * hours:.4g} kWh at max_kw: lower the energy or lengthen the window"
            )
