"""What the six studies on the market came to: means, quantiles, paired savings, and the figure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.figures import save, start_figure
from benchmarks.study_cases import STUDIES
from benchmarks.tables import BELOW_THE_TABLE, made_with

NONE = "none"
PUBLISHED_SAVING = 0.1313
""""Integrating energy communities with electric vehicle fleets into flexibility markets", study `all`."""
QUANTILES = (0.05, 0.95)
SAVED = {
    "dso_upstream_eur": "distribution operator: paid upstream",
    "dso_net_eur": "distribution operator: net of its communities",
    "tso_reserve_eur": "reserve of the transmission operator",
    "community_eur": "communities",
    "community_without_relief_eur": "communities, without relief",
    "whole_without_relief_eur": "everything, without relief",
    "whole_eur": "everything",
}
"""Costs that are compared with those of `none`."""
DRAWN = (
    "dso_upstream_eur",
    "dso_net_eur",
    "tso_reserve_eur",
    "community_without_relief_eur",
    "whole_without_relief_eur",
)
NOT_SHOWN = ("study", "draw", "day", "solver", "status", "day_ahead_converged", "seconds", *BELOW_THE_TABLE)
Rows = Sequence[Mapping[str, Any]]
Kept = dict[str, dict[int, Mapping[str, Any]]]
"""{study: {draw: row}}"""


def studies_text(draws: Rows, week: Rows) -> str:
    """market_studies.md."""
    kept, what = complete(draws)
    parts = ["# Six studies on the market, per feeder", what, "Days without a result: " + _failures(draws, week)]
    if kept:
        parts += ["## Savings against `none`, pair by pair", _savings(kept)]
        parts += ["## The winter day: mean (5 %, 95 %) over the draws", _means(kept)]
    if by_study(week):
        parts += ["## The winter week, draw 0: sums over its days", _week(week)]
    solvers = " or ".join(dict.fromkeys(str(row["solver"]) for row in (*draws, *week)))
    below = ". ".join([solvers, *made_with([*draws, *week]).values()])
    return "\n\n".join([*parts, f"Agents solved by {below}."]) + "\n"


def with_relief_apart(rows: Rows) -> list[Mapping[str, Any]]:
    """Relief is the price of limits that gave way, not money: costs without it are of interest, too."""
    return [
        row | {f"{who}_without_relief_eur": row[f"{who}_eur"] - row["relief_eur"] for who in ("community", "whole")}
        for row in rows
        if row["status"] == "done"
    ]


def complete(rows: Rows) -> tuple[Kept, str]:
    """{study: {draw: row}} of the draws that every study has got through, and a sentence on them."""
    found: Kept = {}
    for row in with_relief_apart(rows):
        found.setdefault(row["study"], {})[row["draw"]] = row
    studies = [study for study in STUDIES if study in found]
    common = sorted(set.intersection(*(set(found[study]) for study in studies))) if studies else []
    words = f"{len(common)} draws that all of {', '.join(studies)} have got through."
    return {study: {draw: found[study][draw] for draw in common} for study in studies} if common else {}, words


def saving(kept: Kept, study: str, key: str) -> tuple[np.ndarray, np.ndarray]:
    """Of each draw, (draws,): what is saved against `none` in EUR, and as a share of what `none` costs."""
    base = np.array([row[key] for row in kept[NONE].values()], dtype=float)
    saved = base - np.array([row[key] for row in kept[study].values()], dtype=float)
    return saved, saved / base


def _savings(kept: Kept) -> str:
    """Two tables, a line a cost and a column a study: shares, and EUR."""
    if NONE not in kept:
        return "There is no `none` to compare with."
    studies = [study for study in kept if study != NONE]
    shares, amounts = [], []
    for key, words in SAVED.items():
        pairs = {study: saving(kept, study, key) for study in studies}
        shares.append({"saved": words} | {study: _percent(share) for study, (_, share) in pairs.items()})
        amounts.append({"saved, EUR": words} | {study: _spread(eur) for study, (eur, _) in pairs.items()})
    note = (
        "Mean (5 %, 95 %) of the pairs with the same draw. Published, of the distribution operator's operational cost "
        f"in study `all`: {PUBLISHED_SAVING:.2%}. Cheapest first, by what the operator pays upstream: "
        f"{', '.join(_ordered(kept, 'dso_upstream_eur'))}; by everything without relief: "
        f"{', '.join(_ordered(kept, 'whole_without_relief_eur'))}."
    )
    return "\n\n".join([_table(shares), _table(amounts), note])


def _ordered(kept: Kept, key: str) -> list[str]:
    return sorted(kept, key=lambda study: float(np.mean([row[key] for row in kept[study].values()])))


def _means(kept: Kept) -> str:
    """A line a measure, a column a study."""
    lines = []
    for key in _measures(next(iter(kept.values()))[next(iter(next(iter(kept.values()))))]):
        line: dict[str, Any] = {"measure": key.replace("_", " ")}
        for study, rows in kept.items():
            line[study] = _spread(np.array([row[key] for row in rows.values()], dtype=float))
        lines.append(line)
    return _table(lines)


def _week(week: Rows) -> str:
    """Sums of what was got through; savings of those that got through as many days as `none` did."""
    lines, done = [], by_study(week)
    for key in ("days", *_measures(next(iter(done.values()))[0])):
        line: dict[str, Any] = {"measure": key.replace("_", " ")}
        for study, rows in done.items():
            line[study] = str(len(rows)) if key == "days" else _short(_of_days(rows, key))
        lines.append(line)
    for key in SAVED if NONE in done else ():
        base = _of_days(done[NONE], key)
        line = {"measure": f"saved: {SAVED[key]}"}
        whole = {study: rows for study, rows in done.items() if len(rows) == len(done[NONE])}
        lines.append(line | {study: f"{1 - _of_days(rows, key) / base:.2%}" for study, rows in whole.items()})
    return _table(lines)


def by_study(week: Rows) -> dict[str, list[Mapping[str, Any]]]:
    """The days that each study got through."""
    every = with_relief_apart(week)
    found = {study: [row for row in every if row["study"] == study] for study in STUDIES}
    return {study: rows for study, rows in found.items() if rows}


def _of_days(rows: Rows, key: str) -> float:
    """A week's sum; of iterations the mean."""
    values = [row[key] for row in rows]
    return float(np.mean(values) if "iterations" in key else np.sum(values))


def _measures(row: Mapping[str, Any]) -> list[str]:
    return [key for key in row if key not in NOT_SHOWN]


def _table(lines: Rows) -> str:
    keys = list(lines[0])
    head = ["| " + " | ".join(keys) + " |", "| --- " * len(keys) + "|"]
    return "\n".join(head + ["| " + " | ".join(str(line.get(key, "-")) for key in keys) + " |" for line in lines])


def _spread(values: np.ndarray) -> str:
    low, high = np.quantile(values, QUANTILES)
    return f"{_short(values.mean())} ({_short(low)}, {_short(high)})"


def _short(value: float) -> str:
    value = 0.0 if abs(value) < 5e-4 else value
    return f"{value:.1f}" if abs(value) >= 100 else f"{value:.3g}"


def _percent(share: np.ndarray) -> str:
    low, high = np.quantile(share, QUANTILES)
    return f"{share.mean():.2%} ({low:.2%}, {high:.2%})"


def _failures(draws: Rows, week: Rows) -> str:
    bad = [row for row in (*draws, *week) if row["status"] != "done"]
    return "; ".join(f"{row['study']}, draw {row['draw']}, day {row['day']}: {row['status']}" for row in bad) or "none."


def draw_studies(draws: Rows, week: Rows, path: Path) -> None:
    """Shares saved against `none`: means of the draws with their quantiles, and those of the week."""
    kept, _ = complete(draws)
    if NONE not in kept or len(kept) < 2:
        return
    studies = [study for study in kept if study != NONE]
    figure, axes = start_figure(columns=len(DRAWN), width=3.1, height=4.2)
    for panel, key in zip(axes[0], DRAWN, strict=True):
        shares = [100 * saving(kept, study, key)[1] for study in studies]
        means = np.array([share.mean() for share in shares])
        ends = np.array([np.quantile(share, QUANTILES) for share in shares]).T
        panel.bar(studies, means, color="C0", alpha=0.7)
        panel.errorbar(studies, means, np.abs(ends - means), fmt="none", color="black", capsize=3)
        _draw_week(panel, week, key, studies)
        if key == "dso_upstream_eur":
            panel.axhline(100 * PUBLISHED_SAVING, color="C3", linestyle="--")
            panel.set_ylim(top=100 * PUBLISHED_SAVING + 1.0)
            panel.text(-0.4, 100 * PUBLISHED_SAVING + 0.1, f"published, all: {PUBLISHED_SAVING:.2%}", color="C3")
        panel.axhline(0.0, color="grey", linewidth=0.8)
        panel.set_title(SAVED[key], fontsize="small")
        panel.tick_params(axis="x", rotation=60)
    axes[0, 0].set_ylabel("saved against none, %")
    if axes[0, -1].get_legend_handles_labels()[1]:
        axes[0, -1].legend(fontsize="x-small")
    save(figure, path)


def _draw_week(panel: Any, week: Rows, key: str, studies: Sequence[str]) -> None:
    """Of studies that got through as many days as `none` did."""
    done = by_study(week)
    whole = [study for study in studies if NONE in done and len(done.get(study, ())) == len(done[NONE])]
    shares = [100 * (1 - _of_days(done[study], key) / _of_days(done[NONE], key)) for study in whole]
    if whole:
        panel.plot(whole, shares, "D", color="C1", markersize=5, label="winter week, draw 0")
