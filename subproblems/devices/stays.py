"""Stays: spans of time in which something is there, repeated daily and clipped to the horizon."""

from __future__ import annotations

import math
from dataclasses import dataclass

from admm import InputError
from subproblems.horizon import Horizon

ROUNDING = 1e-9
"""A time within this share of a period from an edge counts as being on it."""


@dataclass(frozen=True)
class Stay:
    """Periods first to last (both inside the horizon). periods_before, periods_after: how many more of it the horizon
    cuts at its start and at its end. day: how many days it comes after the one that the hours say."""

    first: int
    last: int
    periods_before: int
    periods_after: int
    day: int

    @property
    def length(self) -> int:
        """Periods of the whole stay."""
        return self.periods_before + self.last + 1 - self.first + self.periods_after

    @property
    def elapsed_before(self) -> float:
        """Share of the whole stay that is over before `first`; 0 unless the horizon cuts it."""
        return self.periods_before / self.length

    def elapsed_after(self, late: int = 0) -> float:
        """Share that is over at the end of `last` of what is left of the stay if it begins so many periods later;
        1 unless the horizon cuts it."""
        return max(0.0, 1 - self.periods_after / max(1, self.length - late))


def whole_periods(horizon: Horizon, start_hour: float, end_hour: float) -> int:
    """Number of whole periods between two hours of the day."""
    first, end = _edges(horizon, start_hour, end_hour)
    return end - first


def stays(horizon: Horizon, start_hour: float, end_hour: float, repeat_daily: bool, where: str) -> list[Stay]:
    """The stays that touch the horizon, in order. Hours count from local midnight of the horizon's first day.

    A start or end inside a period is rounded inwards: only whole periods count. With repeat_daily the
    stay comes every 24 hours, also before the horizon. Raises InputError, beginning with `where`, if
    the stay has no whole period or overlaps its own repetition.
    """
    first, end = _edges(horizon, start_hour, end_hour)
    span = f"{where} from hour {start_hour:g} to hour {end_hour:g}"
    day, length = horizon.periods_per_day, end - first
    if length < 1:
        raise InputError(f"{span} holds no whole period of {horizon.step_minutes} minutes: lengthen it")
    if repeat_daily and length > day:
        raise InputError(
            f"{span} exceeds 24 h and repeats daily, so it overlaps itself: shorten it or set repeat_daily = false"
        )
    days = range(-(end // day) - 1, (horizon.periods - first) // day + 2) if repeat_daily else [0]
    clipped = [_clip(first + day * d, length, horizon.periods, d) for d in days]
    return [stay for stay in clipped if stay is not None]


def _edges(horizon: Horizon, start_hour: float, end_hour: float) -> tuple[int, int]:
    """The first whole period at or after the start, and the period that begins at or before the end."""
    first = math.ceil((start_hour - horizon.first_hour) / horizon.hours - ROUNDING)
    end = math.floor((end_hour - horizon.first_hour) / horizon.hours + ROUNDING)
    return first, end


def _clip(first: int, length: int, periods: int, day: int) -> Stay | None:
    begin, end = max(first, 0), min(first + length, periods)
    if begin >= end:
        return None
    return Stay(begin, end - 1, begin - first, first + length - end, day)
