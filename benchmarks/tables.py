"""Rows of results as CSV and as Markdown; `versions` and `machine` go below the table."""

from __future__ import annotations

import csv
import math
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from statistics import median
from typing import Any

BELOW_THE_TABLE = ("versions", "machine")


def made_with(rows: Sequence[Mapping[str, Any]]) -> dict[str, str]:
    """Versions and machine of all these rows; "A, or B" where they were not made all at once."""
    found = {key: dict.fromkeys(str(row[key]) for row in rows if key in row) for key in BELOW_THE_TABLE}
    return {key: ", or ".join(values) for key, values in found.items() if values}


def write_csv(path: Path, rows: Sequence[Mapping[str, Any]]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, list(rows[0]), lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)


def read_csv(path: Path) -> list[dict[str, Any]]:
    """Rows as they were written: numbers are numbers again, truth is truth, an empty cell is None."""
    with path.open(newline="", encoding="utf-8") as file:
        return [{key: _value(text) for key, text in row.items()} for row in csv.DictReader(file)]


def _value(text: str) -> bool | int | float | str | None:
    if not text:
        return None
    if text in ("True", "False"):
        return text == "True"
    for kind in (int, float):
        try:
            return kind(text)
        except ValueError:
            continue
    return text


def markdown_table(rows: Sequence[Mapping[str, Any]], note: str, nothing: str = "not reached") -> str:
    """One line a row. nothing: what stands for None."""
    keys = [key for key in rows[0] if key not in BELOW_THE_TABLE]
    lines = ["| " + " | ".join(key.replace("_", " ") for key in keys) + " |", "| --- " * len(keys) + "|"]
    lines += ["| " + " | ".join(_cell(row[key], nothing) for key in keys) + " |" for row in rows]
    below = " ".join([note, *(f"{words}." for words in made_with(rows).values())])
    return "\n".join([*lines, "", below, ""])


def _cell(value: Any, nothing: str) -> str:
    if value is None:
        return nothing
    if not isinstance(value, float):
        return str(value)
    return f"{value:.1e}" if 0 < abs(value) < 0.01 else f"{value:.3f}".rstrip("0").rstrip(".")


def reached(value: float | None) -> float:
    """A count of exchanges; one that was not reached is infinite."""
    return math.inf if value is None else float(value)


def median_and_worst(values: Iterable[float | None]) -> str:
    """`median/worst`, failures counted as infinite: "34/inf"."""
    counts = [reached(value) for value in values]
    return "-" if not counts else f"{_short(median(counts))}/{_short(max(counts))}"


def lower_by(count: float, of: float) -> str:
    """By how much a count is lower, in words; against a failure there is no number."""
    if math.isinf(count) or math.isinf(of):
        return "-"
    return f"{100 * (1 - count / of):.0f} %"


def _short(count: float) -> str:
    return "inf" if math.isinf(count) else f"{count:g}"
