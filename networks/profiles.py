"""Profiles from CSV files: a `time_utc` column (start of each period) and columns with units in their names."""

from __future__ import annotations

import csv
import difflib
from collections.abc import Callable, Iterable
from datetime import datetime, timedelta
from pathlib import Path

import numpy as np

from admm import InputError
from subproblems.horizon import Horizon

TIME_COLUMN = "time_utc"
Series = Callable[[str | float], np.ndarray]


class Profiles:
    """Columns of one or more CSV files, cut to a horizon.

    A finer file is averaged to the horizon's step; a coarser one is an error, since how to refine it is
    the user's choice. `series` takes a number (constant) or a column's name and gives an array (periods,).
    """

    def __init__(self, files: Iterable[Path], horizon: Horizon) -> None:
        self._horizon = horizon
        self._columns: dict[str, np.ndarray] = {}
        self._origin: dict[str, Path] = {}
        for path in files:
            self._add(path)

    def _add(self, path: Path) -> None:
        stamps, columns = read_csv(path)
        picked = _pick(path, stamps, self._horizon)
        for name, values in columns.items():
            if name in self._columns:
                raise InputError(f"{path}: column '{name}' is also in {self._origin[name]}; give it another name")
            self._columns[name] = self._cut(path, name, values[picked])
            self._origin[name] = path

    def _cut(self, path: Path, name: str, values: np.ndarray) -> np.ndarray:
        bad = ~np.isfinite(values)
        if bad.any():
            period = int(np.argmax(bad)) * self._horizon.periods // values.size
            stamp = self._horizon.stamps()[period]
            raise InputError(
                f"{path}: column '{name}' has no number in the period of {stamp:%Y-%m-%dT%H:%MZ}; fill the gap"
            )
        return values.reshape(self._horizon.periods, -1).mean(axis=1)

    def series(self, name: str | float) -> np.ndarray:
        """shape (periods,): the column of that name, or a constant."""
        if not isinstance(name, str):
            return np.full(self._horizon.periods, float(name))
        if name not in self._columns:
            close = difflib.get_close_matches(name, self._columns, n=1)
            hint = f"did you mean '{close[0]}'?" if close else f"columns: {', '.join(sorted(self._columns)) or 'none'}"
            raise InputError(f"there is no profile column '{name}'; {hint}")
        return self._columns[name].copy()

    def with_file(self, path: Path) -> Profiles:
        """These columns and those of one more file."""
        more = Profiles([], self._horizon)
        more._columns, more._origin = dict(self._columns), dict(self._origin)
        more._add(path)
        return more


def read_csv(path: Path) -> tuple[list[datetime], dict[str, np.ndarray]]:
    """Time stamps and columns; empty or non-numeric cells become NaN. InputError if it is no such table."""
    try:
        with path.open(newline="", encoding="utf-8") as file:
            table = list(csv.reader(file))
    except FileNotFoundError:
        raise InputError(f"{path}: file not found; check the name in the case file") from None
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"{path}: cannot be read ({error})") from None
    if len(table) < 2 or TIME_COLUMN not in table[0]:
        raise InputError(f"{path}: expected a header with a column '{TIME_COLUMN}' and at least one row below it")
    header, rows = [name.strip() for name in table[0]], [row for row in table[1:] if row]
    if len(set(header)) != len(header):
        raise InputError(f"{path}: two columns have the same name; each needs its own")
    for number, row in enumerate(rows, start=2):
        if len(row) != len(header):
            raise InputError(f"{path}: line {number} has {len(row)} cells, expected {len(header)} as in the header")
    at = header.index(TIME_COLUMN)
    stamps = [_stamp(path, number, row[at]) for number, row in enumerate(rows, start=2)]
    cells = {name: np.array([_number(row[i]) for row in rows]) for i, name in enumerate(header) if i != at}
    return stamps, cells


def _stamp(path: Path, line: int, text: str) -> datetime:
    try:
        stamp = datetime.fromisoformat(text)
    except ValueError:
        raise InputError(f"{path}: line {line}: '{text}' is no time; expected one like 2016-01-14T00:00Z") from None
    if stamp.utcoffset() != timedelta(0):
        raise InputError(f"{path}: line {line}: '{text}' is not in UTC; expected a time ending in Z")
    return stamp


def _number(text: str) -> float:
    try:
        return float(text)
    except ValueError:
        return float("nan")


def _pick(path: Path, stamps: list[datetime], horizon: Horizon) -> np.ndarray:
    """Positions of the rows of the horizon, checked to be complete and even."""
    wanted = horizon.stamps()
    begin, end = wanted[0], wanted[-1] + timedelta(minutes=horizon.step_minutes)
    inside = [i for i, stamp in enumerate(stamps) if begin <= stamp < end]
    if not inside or stamps[inside[0]] != begin:
        raise InputError(
            f"{path}: has no row for {begin:%Y-%m-%dT%H:%MZ}, where the horizon starts; "
            f"its rows go from {stamps[0]:%Y-%m-%dT%H:%MZ} to {stamps[-1]:%Y-%m-%dT%H:%MZ}"
        )
    step = _step(path, [stamps[i] for i in inside], horizon)
    expected = [begin + k * step for k in range(round((end - begin) / step))]
    found = {stamps[i]: i for i in inside}
    if len(found) != len(inside):
        raise InputError(f"{path}: two rows have the same time; each period needs one row")
    for stamp in expected:
        if stamp not in found:
            raise InputError(
                f"{path}: is too short or has a gap: no row for {stamp:%Y-%m-%dT%H:%MZ}, "
                f"expected one every {int(step.total_seconds() // 60)} minutes up to {end:%Y-%m-%dT%H:%MZ}"
            )
    return np.array([found[stamp] for stamp in expected])


def _step(path: Path, stamps: list[datetime], horizon: Horizon) -> timedelta:
    period = timedelta(minutes=horizon.step_minutes)
    step = min((b - a for a, b in zip(stamps, stamps[1:], strict=False) if b > a), default=period)
    if period % step != timedelta(0):
        raise InputError(
            f"{path}: has a row every {int(step.total_seconds() // 60)} minutes, which does not fit the horizon's step of "
            f"{horizon.step_minutes} minutes; refine the file, or choose a coarser step"
        )
    return step
