"""At which round-trip time which variant is the quickest: `python -m benchmarks round_trips`.

Reads the rows of `convergence`: wall time = seconds of computing until the yardstick + exchanges x round-trip time.
Writes results/round_trips.csv, .md and .png; nothing is run. Break-even is where a variant with fewer exchanges and
more computing overtakes the default.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from statistics import median
from typing import Any

import numpy as np

from admm import InputError
from benchmarks.figures import draw_lines
from benchmarks.options import Options
from benchmarks.tables import made_with, markdown_table, reached, read_csv, write_csv
from benchmarks.variants import BASELINES, DEFAULT

ROUND_TRIPS_SECONDS = (0.0, 1e-3, 1e-2, 1e-1, 1.0)
SHOWN = (*BASELINES, DEFAULT, "certified", "memory")
FILE = "round_trips"


def run_round_trips(options: Options) -> list[dict[str, Any]]:
    path = options.out / "convergence.csv"
    if not path.is_file():
        raise InputError(f"{path}: there is no such file; run `python -m benchmarks convergence` first")
    rows = [row for row in read_csv(path) if row["variant"] in SHOWN]
    table = wall_times(rows)
    write_csv(options.out / f"{FILE}.csv", table)
    note = (
        "Seconds to the yardstick by round-trip time, median over the family's instances (inf: at least half failed); "
        f"break-even: round trip in seconds from which the variant is quicker than `{DEFAULT}`."
    )
    (options.out / f"{FILE}.md").write_text(markdown_table(table, note), encoding="utf-8")
    for family in dict.fromkeys(row["family"] for row in rows):
        lines = curves([row for row in rows if row["family"] == family])
        draw_lines(lines, options.out / f"{FILE}_{family}.png", "round-trip time, s", "wall time, s", family)
    return table


def wall_seconds(row: Mapping[str, Any], round_trip_seconds: float) -> float:
    """Infinite where the yardstick was not met."""
    exchanges = reached(row["yardstick_exchanges"])
    return math.inf if math.isinf(exchanges) else row["seconds"] + exchanges * round_trip_seconds


def wall_times(rows: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """A line a family and variant; `wins at` lists the round-trip times at which it is the quickest."""
    table = []
    for family, variant, mine in _groups(rows):
        line: dict[str, Any] = {"family": family, "variant": variant}
        for trip in ROUND_TRIPS_SECONDS:
            line[_label(trip)] = median(wall_seconds(row, trip) for row in mine)
        table.append(line)
    for line in table:
        rivals = [other for other in table if other["family"] == line["family"]]
        labels = [_label(trip) for trip in ROUND_TRIPS_SECONDS]
        won = [label for label in labels if line[label] < math.inf and line[label] == min(r[label] for r in rivals)]
        line["wins at"] = ", ".join(won) or "-"
        line["break-even"] = break_even([r for r in rows if r["family"] == line["family"]], line["variant"])
        line |= made_with(rows)
    return table


def _groups(rows: Sequence[Mapping[str, Any]]):
    for family in dict.fromkeys(row["family"] for row in rows):
        here = [row for row in rows if row["family"] == family]
        for variant in dict.fromkeys(row["variant"] for row in here):
            yield family, variant, [row for row in here if row["variant"] == variant]


def _label(seconds: float) -> str:
    return f"{seconds:g} s"


def break_even(rows: Sequence[Mapping[str, Any]], variant: str) -> str:
    """Median over instances of  (seconds - default's seconds) / (default's exchanges - exchanges), in words."""
    base = {row["subject"]: row for row in rows if row["variant"] == DEFAULT}
    found = []
    for row in rows:
        other = base.get(row["subject"])
        if row["variant"] == variant and variant != DEFAULT and other is not None:
            found.append(_overtakes(row, other))
    if not found:
        return "-"
    middle = median(found)
    return "never" if math.isinf(middle) else f"{middle:.2g} s"


def _overtakes(row: Mapping[str, Any], base: Mapping[str, Any]) -> float:
    """Round-trip time from which the row beats the base; 0 if always, infinite without fewer exchanges."""
    more = wall_seconds(row, 0.0) - wall_seconds(base, 0.0)
    fewer = reached(base["yardstick_exchanges"]) - reached(row["yardstick_exchanges"])
    if (math.isinf(more) and more > 0) or not fewer > 0:
        return math.inf
    return max(0.0, more / fewer) if math.isfinite(fewer) else 0.0


def curves(rows: Sequence[Mapping[str, Any]]) -> dict[str, list[tuple[float, float]]]:
    """{variant: [(round trip, median wall time), ...]} from 0.1 ms to 10 s."""
    trips = np.logspace(-4, 1, 26)
    return {
        variant: [(float(trip), median(wall_seconds(row, float(trip)) for row in mine)) for trip in trips]
        for _, variant, mine in _groups(rows)
    }
