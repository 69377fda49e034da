"""The periods that a run covers. Time stamps are UTC and mark the start of a period."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from admm import InputError

HOURS_PER_DAY = 24
FIRST_YEAR, LAST_YEAR = 1900, 2200
"""Others are mistakes, and times of the far ones cannot be counted."""


@dataclass(frozen=True)
class Horizon:
    """`periods` periods of `step_minutes` minutes, the first of which begins at `start` (UTC).

    utc_offset_hours: local time minus UTC; hours of the day in devices (arrivals, windows) are local.
    Raises InputError unless the step divides an hour and the start is a UTC time on a step.
    """

    start: datetime
    periods: int
    step_minutes: int
    utc_offset_hours: float = 0.0

    def __post_init__(self) -> None:
        self._check_step()
        self._check_start()
        object.__setattr__(self, "start", self.start.astimezone(UTC))

    def _check_step(self) -> None:
        for key in ("periods", "step_minutes"):
            value = getattr(self, key)
            if isinstance(value, bool) or not isinstance(value, int) or value < 1:
                raise InputError(f"horizon: {key} is {value!r}, expected a whole number of at least 1")
        if 60 % self.step_minutes:
            raise InputError(f"horizon: step_minutes is {self.step_minutes}, expected a divisor of 60 such as 15")

    def _check_start(self) -> None:
        start = self.start
        if not isinstance(start, datetime) or start.utcoffset() is None:
            raise InputError(
                f"horizon: start is '{start}', expected a date and time with its offset, such as 2024-01-15T00:00:00Z"
            )
        if not FIRST_YEAR <= start.year <= LAST_YEAR:
            raise InputError(f"horizon: start is {start.isoformat()}, expected a year from {FIRST_YEAR} to {LAST_YEAR}")
        if start.second or start.microsecond or start.minute % self.step_minutes or start.utcoffset():
            raise InputError(
                f"horizon: start is {start.isoformat()}, expected a UTC time that is a whole number of steps "
                f"({self.step_minutes} minutes) after the hour"
            )

    @property
    def hours(self) -> float:
        """Length of a period in hours."""
        return self.step_minutes / 60

    @property
    def first_hour(self) -> float:
        """Hours from local midnight of the first day to the start."""
        return (self.start.hour + self.start.minute / 60 + self.utc_offset_hours) % HOURS_PER_DAY

    @property
    def periods_per_day(self) -> int:
        return HOURS_PER_DAY * 60 // self.step_minutes

    def stamps(self) -> list[datetime]:
        """The start of each period, in UTC."""
        step = timedelta(minutes=self.step_minutes)
        return [self.start + step * period for period in range(self.periods)]

    def time_utc(self) -> list[str]:
        """The start of each period as text, such as 2024-01-15T00:00Z."""
        return [f"{stamp:%Y-%m-%dT%H:%MZ}" for stamp in self.stamps()]
