"""Rows of results as CSV and as Markdown; `versions`, the same in every row, goes below the table."""

from __future__ import annotations

import csv
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any


def write_csv(path: Path, rows: Sequence[Mapping[str, Any]]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, list(rows[0]), lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)


def markdown_table(rows: Sequence[Mapping[str, Any]], note: str) -> str:
    """One line a row; a number that was not reached is None."""
    keys = [key for key in rows[0] if key != "versions"]
    lines = ["| " + " | ".join(key.replace("_", " ") for key in keys) + " |", "| --- " * len(keys) + "|"]
    lines += ["| " + " | ".join(_cell(row[key]) for key in keys) + " |" for row in rows]
    return "\n".join([*lines, "", f"{note} {rows[0]['versions']}.", ""])


def _cell(value: Any) -> str:
    if value is None:
        return "not reached"
    if not isinstance(value, float):
        return str(value)
    return f"{value:.1e}" if 0 < abs(value) < 0.01 else f"{value:.3f}".rstrip("0").rstrip(".")
