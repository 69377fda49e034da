"""Errors of stays of electric vehicles: when they really come, how much they need, and what is expected at a gate."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from numbers import Integral, Real
from typing import ClassVar

from admm import InputError
from networks.market.distributions import capped_weibull, standard_normals, truncated_normal, truncated_normal_mean
from networks.market.forecast_errors import (
    PatternTable,
    check_entries,
    check_gate,
    check_patterns,
    check_whole,
    first_match,
)
from subproblems.devices.attributes import number
from subproblems.ev_error import AS_FORECAST, EvError
from subproblems.horizon import HOURS_PER_DAY, Horizon


class EvErrorTable(PatternTable):
    """A `[[market.ev_error]]`: how stays of electric vehicles differ from those of their class in the agent's file.

    Arrival is later by a normal variable that is truncated to +-max_shift_hours. The energy need, which is
    energy_at_departure - energy_on_arrival, has a factor min(W, max_factor), W Weibull; its mean is 1.
    """

    label: ClassVar[str] = "market.ev_error"
    arrival_std_hours: float = number("standard deviation of arrival before truncation", "h", 0.0, ge=0, le=24)
    max_shift_hours: float = number("largest shift of arrival", "h", 3.0, ge=0.01, le=24)
    energy_std_share: float = number("standard deviation of the factor on energy before its cap", "", 0.0, ge=0, le=2)
    max_factor: float = number("largest factor on energy", "", 2.0, ge=1.01, le=100)


class EvErrors:
    """One draw of all stays; a class is named agent/fleet/class. Every stay of a class has a stream of its own.

    Errors of a stay are known at the first gate after its actual arrival. A stay that by the agent's file has begun
    when the horizon starts is known day-ahead and has none, and so has a class without an entry.
    """

    def __init__(self, tables: Sequence[EvErrorTable], seed: int, draw: int, horizon: Horizon) -> None:
        check_whole("seed", seed)
        check_whole("draw", draw)
        check_entries(tables)
        self._tables, self._horizon = tuple(tables), horizon
        self._stream = (int(seed), int(draw))

    def check_names(self, names: Iterable[str]) -> None:
        """InputError if a pattern matches none of the classes of the case, or only those of earlier entries."""
        check_patterns(self._tables, names)

    def actual(self, name: str, arrival_hour: float, day: int = 0) -> EvError:
        """What turns out for the stay that by the class's arrival_hour (local) begins so many days later."""
        _check_stay(name, arrival_hour, day)
        table = first_match(self._tables, name)
        if table is None or arrival_hour + HOURS_PER_DAY * day < self._horizon.first_hour:
            return AS_FORECAST
        z = standard_normals(*self._stream, f"stay {name} day {day}", 2)
        shift_hours = truncated_normal(z[0], table.arrival_std_hours, table.max_shift_hours)
        return EvError(shift_hours, capped_weibull(z[1], table.energy_std_share, table.max_factor), known=True)

    def at_gate(self, name: str, arrival_hour: float, gate: int, day: int = 0) -> EvError:
        """The actual errors if the stay began before the gate, else their mean given that it did not."""
        check_gate(gate, self._horizon)
        actual, table = self.actual(name, arrival_hour, day), first_match(self._tables, name)
        if table is None or actual is AS_FORECAST:
            return actual
        past_hours = self._horizon.first_hour + self._horizon.hours * gate - arrival_hour - HOURS_PER_DAY * day
        if gate == 0:
            return EvError(0.0, 1.0, known=False)
        if actual.shift_hours < past_hours:
            return actual
        shift_hours = truncated_normal_mean(past_hours, table.arrival_std_hours, table.max_shift_hours)
        return EvError(shift_hours, 1.0, known=False)


def _check_stay(name: str, arrival_hour: float, day: int) -> None:
    if isinstance(arrival_hour, bool) or not isinstance(arrival_hour, Real) or not math.isfinite(arrival_hour):
        raise InputError(f"class '{name}': arrival_hour is {arrival_hour!r}, expected a number of hours")
    if isinstance(day, bool) or not isinstance(day, Integral):
        raise InputError(f"class '{name}': day is {day!r}, expected a whole number of days after the first stay")
