"""Profiles from CSV files: a `time_utc` column (start of each period) and columns with units in their names."""

from __future__ import annotations

import difflib
from collections.abc import Iterable
from datetime import datetime, timedelta
from itertools import pairwise
from pathlib import Path
from typing import NamedTuple

import numpy as np

from admm import InputError
from networks.tables import TableRow, read_table
from subproblems.horizon import Horizon

TIME_COLUMN = "time_utc"
STAMP = "%Y-%m-%dT%H:%MZ"


class Column(NamedTuple):
    """A column as its file has it, checked when it is first asked for. cells: of the horizon's rows."""

    path: Path
    cells: list[TableRow]


class Profiles:
    """Columns of one or more CSV files, cut to a horizon.

    A finer file is averaged to the horizon's step; a coarser one is an error, since how to refine it is
    the user's choice. `series` takes a number (constant) or a column's name and gives an array (periods,).
    Columns that nobody asks for may hold anything.
    """

    def __init__(self, files: Iterable[Path], horizon: Horizon) -> None:
        self._horizon = horizon
        self._columns: dict[str, list[Column]] = {}
        self._values: dict[str, np.ndarray] = {}
        for path in files:
            self._add(path)

    def _add(self, path: Path) -> None:
        rows = read_table(path, [TIME_COLUMN])
        picked = [rows[i] for i in _pick(path, [_stamp(row) for row in rows], self._horizon)]
        for name in [name for name in rows[0].cells if name != TIME_COLUMN]:
            self._columns.setdefault(name, []).append(Column(path, picked))

    def series(self, name: str | float) -> np.ndarray:
        """shape (periods,): the column of that name, or a constant. Raises InputError, naming file, line, column."""
        if not isinstance(name, str):
            return np.full(self._horizon.periods, float(name))
        if name not in self._columns:
            close = difflib.get_close_matches(name, self._columns, n=1)
            hint = f"did you mean '{close[0]}'?" if close else f"columns: {', '.join(sorted(self._columns)) or 'none'}"
            paths = (column.path.name for columns in self._columns.values() for column in columns)
            files = ", ".join(dict.fromkeys(paths)) or "any file"
            raise InputError(f"there is no column '{name}' in {files}; {hint}")
        if name not in self._values:
            self._values[name] = self._read(name)
        return self._values[name].copy()

    def _read(self, name: str) -> np.ndarray:
        column, *more = self._columns[name]
        if more:
            raise InputError(f"{more[0].path}: column '{name}' is also in {column.path}; give it another name")
        values = np.array([row.number(name) for row in column.cells])
        return values.reshape(self._horizon.periods, -1).mean(axis=1)

    @property
    def names(self) -> frozenset[str]:
        """Of the columns."""
        return frozenset(self._columns)

    def with_file(self, path: Path) -> Profiles:
        """These columns and those of one more file."""
        more = Profiles([], self._horizon)
        more._columns = {name: list(columns) for name, columns in self._columns.items()}
        more._values = dict(self._values)
        more._add(path)
        more._values = {name: values for name, values in more._values.items() if len(more._columns[name]) == 1}
        return more


def _stamp(row: TableRow) -> datetime:
    text = row.text(TIME_COLUMN)
    try:
        stamp = datetime.fromisoformat(text)
    except ValueError:
        raise InputError(f"{row.where}: '{text}' is no time; expected one like 2016-01-14T00:00Z") from None
    if stamp.utcoffset() != timedelta(0):
        raise InputError(f"{row.where}: '{text}' is not in UTC; expected a time ending in Z")
    return stamp


def _pick(path: Path, stamps: list[datetime], horizon: Horizon) -> list[int]:
    """Positions of the rows of the horizon, checked to be complete and even."""
    wanted = horizon.stamps()
    begin, end = wanted[0], wanted[-1] + timedelta(minutes=horizon.step_minutes)
    found = _positions(path, {i: stamp for i, stamp in enumerate(stamps) if begin <= stamp < end})
    if begin not in found:
        raise InputError(
            f"{path}: has no row for {begin:{STAMP}}, where the horizon starts; "
            f"its rows go from {min(stamps):{STAMP}} to {max(stamps):{STAMP}}"
        )
    step = _step(path, sorted(found), horizon)
    expected = [begin + k * step for k in range(round((end - begin) / step))]
    for stamp in expected:
        if stamp not in found:
            raise InputError(
                f"{path}: is too short or has a gap: no row for {stamp:{STAMP}}, "
                f"expected one every {_minutes(step)} up to {end:{STAMP}}"
            )
    if len(found) > len(expected):
        odd = min(set(found) - set(expected))
        raise InputError(f"{path}: the row for {odd:{STAMP}} is not on the file's step of {_minutes(step)}; remove it")
    return [found[stamp] for stamp in expected]


def _positions(path: Path, stamps: dict[int, datetime]) -> dict[datetime, int]:
    found: dict[datetime, int] = {}
    for position, stamp in stamps.items():
        if stamp in found:
            raise InputError(f"{path}: has two rows for {stamp:{STAMP}}; each period needs one row")
        found[stamp] = position
    return found


def _step(path: Path, stamps: list[datetime], horizon: Horizon) -> timedelta:
    """The file's step inside the horizon: the shortest time between two of its sorted stamps."""
    period = timedelta(minutes=horizon.step_minutes)
    step = min((b - a for a, b in pairwise(stamps)), default=period)
    if period % step != timedelta(0):
        raise InputError(
            f"{path}: has a row every {_minutes(step)}, which does not fit the horizon's step of "
            f"{_minutes(period)}; refine the file, or choose a coarser step"
        )
    return step


def _minutes(step: timedelta) -> str:
    return f"{step.total_seconds() / 60:g} minutes"
