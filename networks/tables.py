"""CSV tables of grids and profiles, read with a message for whatever is wrong in them."""

from __future__ import annotations

import csv
import io
import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from admm import InputError
from networks.validation import read_text
from subproblems.devices.attributes import SENSIBLE, is_sensible


@dataclass(frozen=True)
class TableRow:
    """One row of a table; `where` names the file and the line in messages."""

    where: str
    cells: dict[str, str]

    def text(self, key: str) -> str:
        """The cell's text, never empty."""
        value = self.cells[key].strip()
        if not value:
            raise InputError(f"{self.where}: {key} is empty, expected a value")
        return value

    def number(self, key: str) -> float:
        """The cell as a finite number, in the unit that the column's name says."""
        value = self.text(key)
        try:
            number = float(value)
        except ValueError:
            number = math.nan
        if not math.isfinite(number):
            raise InputError(f"{self.where}: {key} is '{value}', expected a finite number")
        if not is_sensible(number):
            raise InputError(f"{self.where}: {key} is '{value}', expected {SENSIBLE}")
        return number

    def flag(self, key: str) -> bool:
        """The cell as 0 or 1."""
        value = self.text(key)
        if value not in ("0", "1"):
            raise InputError(f"{self.where}: {key} is '{value}', expected 0 or 1")
        return value == "1"


def read_table(path: Path, columns: Sequence[str]) -> list[TableRow]:
    """The rows of a CSV file that has at least the given columns; other columns keep their names."""
    lines = csv.reader(io.StringIO(read_text(path), newline=""))
    try:
        header = [name.strip() for name in next(lines, [])]
        _check_header(path, header, columns)
        rows = [_row(f"{path}: line {lines.line_num}", header, cells) for cells in lines if cells]
    except csv.Error as error:
        raise InputError(f"{path}: line {lines.line_num} is no CSV ({error})") from None
    if not rows:
        raise InputError(f"{path}: has no rows below its header, expected at least one {columns[0]}")
    return rows


def _check_header(path: Path, header: list[str], columns: Sequence[str]) -> None:
    missing = [column for column in columns if column not in header]
    if missing:
        found = ", ".join(header) or "no columns"
        hint = "; separate columns by commas" if len(header) == 1 else ""
        raise InputError(f"{path}: column '{missing[0]}' is missing in the header; found {found}{hint}")
    twice = [name for name in header if header.count(name) > 1]
    if twice:
        raise InputError(f"{path}: two columns are called '{twice[0]}'; give each its own name")


def _row(where: str, header: list[str], cells: list[str]) -> TableRow:
    if len(cells) != len(header):
        raise InputError(f"{where} has {len(cells)} cells, expected {len(header)} as in the header")
    return TableRow(where, dict(zip(header, cells, strict=True)))
