"""Reads columns of pandapower tables, and names the element and the column of whatever is no value there."""

from __future__ import annotations

from typing import Any

import numpy as np

from admm import InputError
from admm.values import is_finite
from subproblems.devices.sizes import SENSIBLE, is_sensible

WHOSE = "pandapower network"


def is_empty(cell: Any) -> bool:
    """Say whether a cell is None, NaN or pandas' NA, or blank text."""
    if isinstance(cell, str):
        return not cell.strip()
    return cell is None or (not isinstance(cell, (list, tuple, dict, np.ndarray)) and bool(_is_missing(cell)))


def _is_missing(cell: Any) -> bool:
    import pandas

    return pandas.isna(cell)


def check_base(net: Any, *keys: str) -> None:
    """Raise InputError unless these numbers of the whole network are above 0. keys: "sn_mva", "f_hz"."""
    for key in keys:
        found = net.get(key)
        if not (is_finite(found) and found > 0):
            raise InputError(f"{WHOSE}: {key} is {found!r}, expected a number above 0")


class Elements:
    """The elements of a table that are in service; none where the network has no such table.

    name: of the table, as "load". index: of those elements. frame: their rows.
    """

    def __init__(self, net: Any, name: str) -> None:
        self.name, frame = name, net.get(name)
        if frame is None:
            self.frame, self.index = None, []
            return
        if not frame.index.is_unique:
            twice = frame.index[frame.index.duplicated()][0]
            raise InputError(f"{WHOSE}: {name} {twice} is there twice; give every {name} an index of its own")
        wanted = [True] * len(frame)
        if "in_service" in frame.columns:
            wanted = [self._in_service(index, cell) for index, cell in frame["in_service"].items()]
        self.frame = frame[np.array(wanted, dtype=bool)]
        self.index = list(self.frame.index)

    def _in_service(self, index: Any, cell: Any) -> bool:
        if is_empty(cell) or isinstance(cell, (list, dict)) or cell not in (True, False):
            found = "is empty" if is_empty(cell) else f"is {cell!r}"
            raise InputError(f"{WHOSE}: {self.name} {index}: in_service {found}, expected True or False")
        return bool(cell)

    def __len__(self) -> int:
        return len(self.index)

    def require(self, column: str, expected: str) -> None:
        """Raise InputError where there are elements but not the column."""
        if len(self) and not self.has(column):
            raise InputError(f"{WHOSE}: {self.name} has no column {column}, expected one of {expected}")

    def has(self, column: str) -> bool:
        """Say whether the table has the column."""
        return self.frame is not None and column in self.frame.columns

    def cells(self, column: str) -> list[Any]:
        """The cells as they are; None everywhere where the column is missing."""
        return list(self.frame[column]) if self.has(column) else [None] * len(self)

    def numbers(self, column: str, default: float | None = None) -> np.ndarray:
        """The column as finite numbers. default: for empty cells and a missing column, which are refused without."""
        if default is None:
            self.require(column, "numbers")
        return np.array([self._number(*one, column, default) for one in zip(self.index, self.cells(column))])  # noqa: B905

    def _number(self, index: Any, cell: Any, column: str, default: float | None) -> float:
        where = f"{WHOSE}: {self.name} {index}: {column}"
        if is_empty(cell):
            if default is None:
                raise InputError(f"{where} is empty, expected a number; fill it, or take the element out of service")
            return default
        try:
            number = float(cell)
        except (TypeError, ValueError):
            raise InputError(f"{where} is {cell!r}, expected a number") from None
        if not np.isfinite(number) or not is_sensible(number):
            raise InputError(f"{where} is {number:g}, expected {SENSIBLE}")
        return number

    def above_0(self, column: str, default: float | None = None) -> np.ndarray:
        """The column as numbers above 0."""
        found = self.numbers(column, default)
        for index, number in zip(self.index, found, strict=True):
            if number <= 0:
                raise InputError(f"{WHOSE}: {self.name} {index}: {column} is {number:g}, expected a number above 0")
        return found

    def buses(self, column: str, known: set[int]) -> list[int]:
        """The column as indices of buses, which must exist."""
        self.require(column, "buses")
        found = []
        for index, cell in zip(self.index, self.cells(column), strict=True):
            if is_empty(cell) or isinstance(cell, (list, dict, bool, np.bool_)) or cell not in known:
                what = "is empty" if is_empty(cell) else f"is {cell!r}, which is no bus"
                raise InputError(f"{WHOSE}: {self.name} {index}: {column} {what}, expected the index of a bus")
            found.append(int(cell))
        return found

    def named(self) -> list[str]:
        """The elements' names in messages, as "load 3"."""
        return [f"{self.name} {index}" for index in self.index]
