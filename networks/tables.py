"""CSV tables of grids and profiles, read with a message for whatever is wrong in them."""

from __future__ import annotations

import csv
import io
import math
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from admm import InputError
from networks.validation import read_text
from subproblems.devices.sizes import expected, is_sensible, unit_by_name

NUMBER = re.compile(r"[+-]?([0-9]+(\.[0-9]*)?|\.[0-9]+)([eE][+-]?[0-9]+)?")
"""Plain digits only: Python itself also reads other scripts' digits and 1_000."""
BY_COMMAS = "separate columns by commas and write decimals with a point"


@dataclass(frozen=True)
class TableRow:
    """One row of a table; `where` names the file and the line in messages. twice: names that several columns have."""

    where: str
    cells: dict[str, str]
    twice: frozenset[str] = frozenset()

    def text(self, key: str) -> str:
        """The cell's text, never empty."""
        if key in self.twice:
            file = self.where.rpartition(": line ")[0]
            raise InputError(f"{file}: two columns are called '{key}'; give each its own name")
        value = self.cells[key].strip()
        if not value:
            raise InputError(f"{self.where}: {key} is empty, expected a value")
        return value

    def number(self, key: str) -> float:
        """The cell as a finite number, in the unit that the column's name says."""
        value = self.text(key)
        number = float(value) if NUMBER.fullmatch(value) else math.nan
        if not math.isfinite(number):
            hint = "; write decimals with a point" if "," in value else ""
            raise InputError(f"{self.where}: {key} is '{value}', expected a finite number{hint}")
        unit = unit_by_name(key)
        if not is_sensible(number, unit):
            raise InputError(f"{self.where}: {key} is '{value}', expected {expected(unit)}")
        return number

    def flag(self, key: str) -> bool:
        """The cell as 0 or 1."""
        value = self.text(key)
        if value not in ("0", "1"):
            raise InputError(f"{self.where}: {key} is '{value}', expected 0 or 1")
        return value == "1"


def read_table(path: Path, columns: Sequence[str]) -> list[TableRow]:
    """Read the rows of a CSV file that has at least the given columns; other columns keep their names.

    Columns without a name, rows without a value and empty cells beyond the header are passed over, as spreadsheets
    leave them. A name that two columns have is refused where one of them is read.
    """
    lines = csv.reader(io.StringIO(read_text(path), newline=""), strict=True)
    try:
        header = [name.strip() for name in next(lines, [])]
        _check_header(path, header, columns)
        rows = [_row(f"{path}: line {lines.line_num}", header, cells) for cells in lines if any(map(str.strip, cells))]
    except csv.Error as error:
        raise InputError(f"{path}: line {lines.line_num} is no CSV ({error})") from None
    if not rows:
        raise InputError(f"{path}: has no rows below its header, expected at least one {columns[0]}")
    return rows


def _check_header(path: Path, header: list[str], columns: Sequence[str]) -> None:
    missing = [column for column in columns if column not in header]
    if missing:
        found = ", ".join(filter(None, header)) or "no columns"
        hint = f"; {BY_COMMAS}" if len(header) == 1 or any(mark in found for mark in ";\t|") else ""
        raise InputError(f"{path}: column '{missing[0]}' is missing in the header; found {found}{hint}")
    twice = [name for name in columns if header.count(name) > 1]
    if twice:
        raise InputError(f"{path}: two columns are called '{twice[0]}'; give each its own name")


def _row(where: str, header: list[str], cells: list[str]) -> TableRow:
    if len(cells) < len(header) or any(map(str.strip, cells[len(header) :])):
        hint = f"; {BY_COMMAS}" if len(cells) > len(header) else ""
        raise InputError(f"{where} has {len(cells)} cells, expected {len(header)} as in the header{hint}")
    named = [(name, cell) for name, cell in zip(header, cells, strict=False) if name]
    twice = frozenset(name for name, _ in named if header.count(name) > 1)
    return TableRow(where, dict(named), twice)
