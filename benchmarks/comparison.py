"""Variants on subjects: the rows of one table. Shared by `convergence`, `wrong_start`, `ablation`, `warm`."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import admm
from benchmarks.grid import BestValues, read_best
from benchmarks.measure import Row, Watch, cold_start, measure
from benchmarks.options import Options
from benchmarks.registry import chosen, registry
from benchmarks.runner import run_all
from benchmarks.subjects import Subject
from benchmarks.tables import made_with, median_and_worst
from benchmarks.variants import BEST_OF_FAMILY, BEST_OF_INSTANCE, Variant

CAP = 500
GRID_VALUES = (BEST_OF_FAMILY, BEST_OF_INSTANCE)
TESTS = ("boyd", "yardstick", "certified", "stop")


@dataclass(frozen=True)
class Task:
    """One variant on one subject; everything by name or plain data, so that it can go to another process."""

    subject: str
    variant: str
    settings: Variant
    solver: str
    start: str
    cap: int
    files: tuple[str, ...]
    out: Path


def run_one(task: Task) -> Row:
    return watched(task)[0]


def watched(task: Task) -> tuple[Row, Watch]:
    """The row, and what was seen exchange by exchange."""
    found = registry(task.files)
    subject = found.subjects[task.subject]()
    settings = resolved(found.own_variants.get(task.variant, task.settings), subject, read_best(task.out))
    row = new_row(subject, task.variant, settings, task.start, task.solver, task.cap)
    return row, measure(row, subject, {**settings, **cold_start(subject, task.start)})


def resolved(settings: Variant, subject: Subject | None, best: BestValues | None = None) -> dict[str, Any]:
    """The settings with a real penalty where theirs stands for one; without a subject any that is known will do.

    Raises InputError where the grid has no value.
    """
    penalty = settings.get("penalty")
    if isinstance(penalty, Mapping):
        return {**settings, "penalty": admm.Adaptive(**penalty)}
    if penalty not in GRID_VALUES:
        return dict(settings)
    if subject is None:
        return {**settings, "penalty": "classical"}
    found = best.of_family.get(subject.family) if penalty == BEST_OF_FAMILY else best.of_instance.get(subject.name)
    if found is None:
        raise admm.InputError(
            f"the grid has no rows of '{subject.name}', which penalty '{penalty}' needs: "
            f"run `python -m benchmarks grid --resume --subjects '{subject.name}'` first"
        )
    return {**settings, "penalty": found}


def new_row(subject: Subject, variant: str, settings: Variant, start: str, solver: str, cap: int) -> Row:
    """The row before the run. Raises InputError where the engine does not know the settings."""
    asked = admm.Settings(**settings)
    words = [
        value if isinstance(value, str) else getattr(value, "name", type(value).__name__)
        for value in (asked.penalty, asked.acceleration)
    ]
    return Row(subject.name, subject.family, variant, asked.scheme, *words, start, solver, cap, subject.seed)


def tasks_for(options: Options, variants: Mapping[str, Variant], own: bool = True) -> dict[tuple[str, str], Task]:
    """Every chosen variant on every chosen subject. own: with those of the users' files."""
    found = registry(options.files)
    variants = {**variants, **(found.own_variants if own else {})}
    names = chosen(list(found.subjects), options.subjects, "subject")
    wanted = chosen(list(variants), options.variants, "variant")
    cap = options.cap or CAP
    return {
        (subject, variant): Task(
            subject,
            variant,
            {} if variant in found.own_variants else variants[variant],
            options.solver,
            options.start,
            cap,
            options.files,
            options.out,
        )
        for subject in names
        for variant in wanted
    }


def compare(options: Options, variants: Mapping[str, Variant], file: str) -> list[dict[str, Any]]:
    """Run all and write `file`. Raises InputError, before the first run, where the engine does not know a variant."""
    tasks = tasks_for(options, known(variants, options.skip_unknown))
    began = time.perf_counter()
    rows = run_all(tasks, run_one, options.out / file, ("subject", "variant"), options)
    print(f"{len(rows)} rows in {time.perf_counter() - began:.0f} s: {options.out / file}", flush=True)
    return rows


def known(variants: Mapping[str, Variant], skip: bool) -> dict[str, Variant]:
    """The variants that the engine knows. Raises InputError for another one, or leaves it out and says so."""
    found = {}
    for name, settings in variants.items():
        try:
            admm.Settings(**resolved(settings, None))
        except (admm.InputError, TypeError) as error:
            if not skip:
                raise admm.InputError(f"variant '{name}': {error}") from None
            print(f"left out: {name} ({error})", flush=True)
            continue
        found[name] = settings
    return found


def by_family(rows: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """One line a variant: exchanges to each test as median/worst of each family, failures infinite."""
    families = list(dict.fromkeys(row["family"] for row in rows))
    table = []
    for variant in dict.fromkeys(row["variant"] for row in rows):
        line: dict[str, Any] = {"variant": variant}
        for family in families:
            mine = [row for row in rows if row["variant"] == variant and row["family"] == family]
            for test in TESTS:
                line[f"{family}: {test}"] = median_and_worst(row[f"{test}_exchanges"] for row in mine)
        table.append(line | made_with(rows))
    return table
