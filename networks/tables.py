"""CSV tables of a grid, read with a message for whatever is wrong in them."""

from __future__ import annotations

import csv
import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from admm import InputError


@dataclass(frozen=True)
class TableRow:
    """One row of a table; `where` names the file and the line in messages."""

    where: str
    cells: dict[str, str]

    def text(self, key: str) -> str:
        """The cell's text, never empty."""
        value = (self.cells.get(key) or "").strip()
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
        return number

    def flag(self, key: str) -> bool:
        """The cell as 0 or 1."""
        value = self.text(key)
        if value not in ("0", "1"):
            raise InputError(f"{self.where}: {key} is '{value}', expected 0 or 1")
        return value == "1"


def read_table(path: Path, columns: Sequence[str]) -> list[TableRow]:
    """The rows of a CSV file that has at least the given columns."""
    if not path.is_file():
        raise InputError(f"{path}: no such file, expected a CSV table with the columns {', '.join(columns)}")
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            reader = csv.DictReader(file)
            found = reader.fieldnames or []
            rows = [TableRow(f"{path.name}, line {reader.line_num}", cells) for cells in reader]
    except (UnicodeDecodeError, csv.Error) as error:
        raise InputError(f"{path}: cannot be read as UTF-8 CSV ({error})") from None
    missing = [column for column in columns if column not in found]
    if missing:
        raise InputError(f"{path}: column '{missing[0]}' is missing; found {', '.join(found) or 'no columns'}")
    if not rows:
        raise InputError(f"{path}: has no rows, expected at least one")
    return rows
