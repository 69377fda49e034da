"""Figures of the comparisons. matplotlib is imported when a figure is drawn, and not before."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from statistics import median
from typing import Any

from benchmarks.tables import reached
from benchmarks.variants import BASELINES

Rows = Sequence[Mapping[str, Any]]
LINES = 12
"""Variants in one figure: more cannot be told apart."""


def start_figure(columns: int = 1, rows: int = 1, width: float = 6.4, height: float = 4.0):
    """A figure and its axes, drawn to a file whatever the machine has for a screen."""
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    return plt.subplots(rows, columns, figsize=(width * columns, height * rows), layout="constrained", squeeze=False)


def save(figure, path: Path) -> None:
    import matplotlib.pyplot as plt

    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=130)
    plt.close(figure)


def draw_profile(rows: Rows, path: Path, column: str = "yardstick_exchanges") -> None:
    """Share of subjects solved within a multiple of the fewest exchanges on that subject (Dolan and More 2002)."""
    ratios = profile_ratios(rows, column)
    figure, ((axes,),) = start_figure(width=8.0)
    for variant in shown_variants(rows, column):
        solved = sorted(ratio for ratio in ratios[variant] if math.isfinite(ratio))
        shares = [(i + 1) / len(ratios[variant]) for i in range(len(solved))]
        style = "--" if variant in BASELINES else "-"
        label = f"{variant} ({len(solved)}/{len(ratios[variant])})"
        axes.step([1.0, *solved, 50.0], [0.0, *shares, shares[-1] if shares else 0.0], style, where="post", label=label)
    axes.set(xscale="log", xlim=(1, 50), ylim=(0, 1.02), xlabel="exchanges, as a multiple of the fewest on the subject")
    axes.set_ylabel("share of subjects at the yardstick")
    axes.legend(fontsize="x-small", title="variant (subjects solved)", loc="center left", bbox_to_anchor=(1.0, 0.5))
    save(figure, path)


def profile_ratios(rows: Rows, column: str) -> dict[str, list[float]]:
    """{variant: exchanges on each subject / the fewest of any variant there}; infinite where it failed."""
    best: dict[str, float] = {}
    for row in rows:
        best[row["subject"]] = min(best.get(row["subject"], math.inf), reached(row[column]))
    ratios: dict[str, list[float]] = {}
    for row in rows:
        count = reached(row[column])
        ratio = count / best[row["subject"]] if math.isfinite(count) else math.inf
        ratios.setdefault(row["variant"], []).append(ratio)
    return ratios


def shown_variants(rows: Rows, column: str) -> list[str]:
    """The baselines, and of the others those that solve most subjects in the fewest exchanges (median)."""
    counts: dict[str, list[float]] = {}
    for row in rows:
        counts.setdefault(row["variant"], []).append(reached(row[column]))
    others = sorted((v for v in counts if v not in BASELINES), key=lambda v: (median(counts[v]), max(counts[v])))
    baselines = [variant for variant in BASELINES if variant in counts]
    return [*baselines, *others[: LINES - len(baselines)]]


def draw_histories(rows: Rows, path: Path) -> None:
    """Largest mismatch, true gap and certified gap over exchanges; a column a subject."""
    subjects = list(dict.fromkeys(row["subject"] for row in rows))
    figure, axes = start_figure(columns=len(subjects), rows=2)
    for column, subject in enumerate(subjects):
        here = [row for row in rows if row["subject"] == subject]
        for number, variant in enumerate(dict.fromkeys(row["variant"] for row in here)):
            mine, colour = [row for row in here if row["variant"] == variant], f"C{number % 10}"
            at = [row["exchange"] for row in mine]
            axes[0, column].loglog(at, [row["mismatch"] for row in mine], color=colour, label=variant)
            gaps = [math.nan if row["gap"] is None else abs(row["gap"]) for row in mine]
            axes[1, column].loglog(at, gaps, color=colour)
            proven = [math.nan if row["certified_gap"] is None else row["certified_gap"] for row in mine]
            axes[1, column].loglog(at, proven, color=colour, linestyle=":")
        axes[0, column].set(title=subject, ylabel="largest mismatch, share of scale")
        axes[1, column].set(xlabel="exchanges", ylabel="gap, share of turnover (dotted: certified)")
        for row, limit in ((0, 1e-3), (1, 1e-4)):
            axes[row, column].axhline(limit, color="grey", linewidth=0.8)
    axes[0, 0].legend(fontsize="x-small")
    save(figure, path)


def draw_lines(
    series: Mapping[str, Sequence[tuple[float, float]]],
    path: Path,
    x_label: str,
    y_label: str,
    title: str = "",
    from_zero: bool = False,
) -> None:
    """One line a name on logarithmic axes, y from zero on an even one if asked for; what is not finite is left open."""
    figure, ((axes,),) = start_figure(width=8.0)
    for name, points in series.items():
        axes.loglog([x for x, _ in points], [y for _, y in points], "o-", label=name)
    if from_zero:
        axes.set_yscale("linear")
        axes.set_ylim(bottom=0)
    axes.set(xlabel=x_label, ylabel=y_label, title=title)
    if series:
        axes.legend(fontsize="x-small", loc="center left", bbox_to_anchor=(1.0, 0.5))
    save(figure, path)


def draw_headline(rows: Rows, measures: Mapping[str, str], path: Path) -> None:
    """A bar with its number for each variant and day, a panel a measure; a run that never met the yardstick says so."""
    variants = list(dict.fromkeys(row["variant"] for row in rows))
    days = list(dict.fromkeys(row["subject"] for row in rows))
    figure, (panels,) = start_figure(columns=len(measures), width=4.2, height=4.4)
    for axes, (words, column) in zip(panels, measures.items(), strict=True):
        for i, day in enumerate(days):
            at = [k + 0.8 * (i + 0.5) / len(days) - 0.4 for k in range(len(variants))]
            found = {row["variant"]: row for row in rows if row["subject"] == day}
            met = [found[v]["yardstick_exchanges"] is not None for v in variants]
            unit = 1e6 if words == "MB" else 1.0
            values = [found[v][column] / unit if ok else 0.0 for v, ok in zip(variants, met, strict=True)]
            bars = axes.barh(at, values, 0.8 / len(days), label=day)
            numbers = [f"{value:.3g}" if ok else "not met" for value, ok in zip(values, met, strict=True)]
            axes.bar_label(bars, numbers, padding=2, fontsize="x-small")
        axes.set(xlabel=f"{words} to the yardstick")
        axes.margins(x=0.12)
        axes.set_yticks(range(len(variants)), variants if axes is panels[0] else [""] * len(variants))
        axes.invert_yaxis()
    panels[-1].legend(fontsize="x-small")
    save(figure, path)
