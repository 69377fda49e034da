"""Scenario files: what turns out is given, instead of drawn, and forecasts of it are updated by persistence."""

from __future__ import annotations

import difflib
import math
import os
from collections.abc import Iterable, Sequence
from numbers import Real
from pathlib import Path

import numpy as np

from admm import InputError
from networks.market.forecast_errors import check_forecast, check_gate, check_whole, pattern_matches
from networks.profiles import TIME_COLUMN, Profiles
from networks.tables import read_table
from subproblems.horizon import Horizon

ABSOLUTE = ("*_degc", "*_per_mwh", "*_per_kwh")
"""Temperatures and prices pass through zero, so a deviation relative to them means nothing."""
TELLING_SHARE = 0.05
"""Relative deviations of a series below this share of its largest forecast say little: a sunrise one minute early."""


class ScenarioFile:
    """Actual values from one CSV file in the format of profiles; a series without a column has an exact forecast.

    A column of an agent's private file is called agent/column, one of a public file by its own name.

    The updated forecast is by persistence of the latest deviation, with r = exp(-period / correlation_hours):

        forecast[t] (1 + r^(t - j) d),  d = actual[j] / forecast[j] - 1 limited to +-1,

    where j is the last known period whose forecast is at least 5 % of the horizon's largest, so that PV is remembered
    overnight; no change before there is one. Columns that match `absolute` have forecast[t] + r^(t - j) (actual[j] -
    forecast[j]) with j the last known period. Neither leaves the range of the day-ahead forecast and the known values.
    """

    def __init__(
        self, path: Path, horizon: Horizon, correlation_hours: float = 6.0, absolute: Sequence[str] = ABSOLUTE
    ) -> None:
        _check_hours(correlation_hours)
        self._path, self._horizon, self._absolute = path, horizon, tuple(absolute)
        self._correlation = math.exp(-horizon.hours / correlation_hours)
        profiles = Profiles([path], horizon)
        names = [name for name in read_table(path, [TIME_COLUMN])[0].cells if name != TIME_COLUMN]
        if not names:
            raise InputError(
                f"{path}: has only the column '{TIME_COLUMN}', expected actual values; add a column named as a "
                "column of the case's profiles"
            )
        self._actual = {name: profiles.series(name) for name in names}

    def check_names(self, names: Iterable[str]) -> None:
        """InputError if a column is none of the series of the case."""
        known = sorted(set(names))
        for column in self._actual:
            if column not in known:
                close = difflib.get_close_matches(column, known, n=1)
                hint = f"did you mean '{close[0]}'?" if close else f"there are {', '.join(known) or 'none'}"
                raise InputError(
                    f"{self._path}: column '{column}' is no series of the case, expected a profile column "
                    f"(agent/column if private); {hint}"
                )

    def actual(self, name: str, forecast: np.ndarray) -> np.ndarray:
        """What turns out for the series, given its day-ahead forecast; both (periods,) in its unit."""
        return self.at_gate(name, forecast, self._horizon.periods)

    def at_gate(self, name: str, forecast: np.ndarray, gate: int) -> np.ndarray:
        """shape (periods,): actual values before period `gate`, the rule of the class from there on."""
        check_gate(gate, self._horizon)
        values = check_forecast(name, forecast, self._horizon)
        if name not in self._actual or gate == 0:
            return values
        known = self._actual[name][:gate]
        updated = self._persisted(name, values, known)
        seen = np.concatenate([values, known])
        return np.concatenate([known, np.clip(updated, seen.min(), seen.max())])

    def _persisted(self, name: str, forecast: np.ndarray, known: np.ndarray) -> np.ndarray:
        """shape (periods - gate,): the rule before its limits."""
        gate = known.size
        if any(pattern_matches(pattern, name) for pattern in self._absolute):
            deviation, last = known[-1] - forecast[gate - 1], gate - 1
            return forecast[gate:] + self._decay(last, gate) * deviation
        size = np.abs(forecast)
        telling = np.flatnonzero((size[:gate] >= TELLING_SHARE * size.max()) & (size[:gate] > 0))
        if telling.size == 0:
            return forecast[gate:]
        last = int(telling[-1])
        deviation = np.clip(known[last] - forecast[last], -size[last], size[last]) / forecast[last]
        return forecast[gate:] * (1 + self._decay(last, gate) * deviation)

    def _decay(self, last: int, gate: int) -> np.ndarray:
        """r^(t - last) for the periods t from the gate on."""
        return self._correlation ** np.arange(gate - last, self._horizon.periods - last)


def scenario_files(path: Path) -> list[Path]:
    """The file itself, or the CSV files of a folder in the order of their names: one for each draw."""
    if os.path.isfile(path):
        return [path]
    if not os.path.isdir(path):
        raise InputError(f"{path}: there is no such file or folder of scenarios; check the path")
    files = sorted(each for each in path.iterdir() if each.suffix == ".csv" and each.is_file())
    if not files:
        raise InputError(f"{path}: holds no CSV file, expected one scenario file for each draw; add them")
    return files


def scenario_file(path: Path, draw: int) -> Path:
    """The file of that draw, counted from 0; InputError if there are fewer."""
    check_whole("draw", draw)
    files = scenario_files(path)
    if draw >= len(files):
        raise InputError(
            f"{path}: draw is {draw}, but there are {len(files)} scenario files; expected at most {len(files) - 1}: "
            "ask for fewer draws, or add files"
        )
    return files[draw]


def _check_hours(correlation_hours: float) -> None:
    number = isinstance(correlation_hours, Real) and not isinstance(correlation_hours, bool)
    if not number or not 0 < correlation_hours < math.inf:
        raise InputError(f"market: correlation_hours is {correlation_hours!r}, expected a number of hours above 0")
