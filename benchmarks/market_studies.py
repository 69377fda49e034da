"""Six studies on the market, from no flexibility to all of it: `python -m benchmarks market_studies`.

Studies are those of `study_cases`, with current limits of the feeder raised by 30 % in all of them, for without
flexibility the case's own are too narrow in some hours of the week. Every study meets the same forecast errors
(seed and draw number give every series its own stream), so differences are paired. Gates are four hours
apart: six sessions a day, as on the Iberian intra-day market.

    market_draws.csv    the winter day, a row a study and draw
    market_week.csv     the winter week, draw 0, a row a study and day; stores begin where the day before left them
    market_studies.md   means and quantiles over the draws, savings against `none`, and the week's sums
    market_studies.png  savings, and the published one of the distribution operator
"""

from __future__ import annotations

import argparse
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import asdict, dataclass, replace
from functools import lru_cache
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import admm
from admm import Settings, TielineError
from admm.cli import whole_number
from benchmarks.market_day import DayRow, measured, run_day
from benchmarks.market_tables import draw_studies, studies_text
from benchmarks.options import Options
from benchmarks.registry import chosen
from benchmarks.study_cases import STUDIES, write_study
from benchmarks.tables import write_csv
from networks.case import Case, load_case
from networks.case_file import BUNDLED
from networks.market.rules import MarketTable
from networks.market.uncertainty import Uncertainty

CASE, WEEK = "ieee33-10ec", "winter-week"
CURRENT_LIMIT_FACTOR = 1.3
GATE_MINUTES = 240
DRAWS = 50
DRAWS_FILE, WEEK_FILE, FILE = "market_draws.csv", "market_week.csv", "market_studies"
SETTINGS = Settings(max_iterations=300)
MOST_WORDS = 160
Rows = list[dict[str, Any]]


@dataclass(frozen=True)
class Task:
    """One draw of a study's winter day, or (week) of its winter week."""

    study: str
    folder: str
    draw: int
    week: bool
    solver: str


def add_own_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--draws", type=whole_number, default=DRAWS, help="of the winter day, for each study")
    parser.add_argument("--only-summary", action="store_true", help="run nothing; tables and figure from what is there")


def run_market_studies(options: Options) -> Rows:
    """--subjects chooses studies."""
    paths = {True: options.out / WEEK_FILE, False: options.out / DRAWS_FILE}
    keeping = replace(options, resume=True) if options.own["only_summary"] else options
    rows = {week: keeping.former_rows(path) for week, path in paths.items()}
    if not options.own["only_summary"]:
        with tempfile.TemporaryDirectory() as folder:
            for task, found in results(open_tasks(Path(folder), rows, options), options.processes or 1):
                others = [row for row in rows[task.week] if (row["study"], row["draw"]) != (task.study, task.draw)]
                rows[task.week] = others + [asdict(row) for row in found]
                write_csv(paths[task.week], in_order(rows[task.week]))
                print(" ".join(f"{key}={value}" for key, value in list(rows[task.week][-1].items())[:-2]), flush=True)
    (options.out / f"{FILE}.md").write_text(studies_text(rows[False], rows[True]), encoding="utf-8")
    draw_studies(rows[False], rows[True], options.out / f"{FILE}.png")
    return rows[False]


def open_tasks(folder: Path, rows: Mapping[bool, Rows], options: Options) -> list[Task]:
    """What is still to be run, all studies of a draw before the next; weeks, which take longest, after the first."""
    studies = chosen(tuple(STUDIES), options.subjects, "study")
    paths = {s: str(write_study(BUNDLED / CASE, s, folder / s, CURRENT_LIMIT_FACTOR)) for s in studies}
    done = {(week, row["study"], row["draw"]) for week, found in rows.items() for row in found}
    turns = [(False, 0), (True, 0), *((False, draw) for draw in range(1, options.own["draws"]))]
    every = (Task(study, paths[study], draw, week, options.solver) for week, draw in turns for study in studies)
    return [task for task in every if options.again or (task.week, task.study, task.draw) not in done]


def in_order(rows: Rows) -> Rows:
    names = list(STUDIES)
    return sorted(rows, key=lambda row: (row["draw"], names.index(row["study"]), row["day"]))


def results(tasks: Sequence[Task], processes: int) -> Iterator[tuple[Task, list[DayRow]]]:
    """As they come."""
    if processes == 1:
        yield from ((task, work(task)) for task in tasks)
        return
    with ProcessPoolExecutor(processes, mp_context=get_context("spawn")) as pool:
        futures = {pool.submit(work, task): task for task in tasks}
        for future in as_completed(futures):
            yield futures[future], future.result()


def work(task: Task) -> list[DayRow]:
    """The rows of a task; the first day that fails ends a week."""
    rows, states = [], None
    for number, case in enumerate(days(task)):
        row, table = DayRow(task.study, task.draw, number, task.solver), market_rules(case)
        knowledge = Uncertainty(table).knowledge(case, task.draw, number)
        first = SETTINGS if task.week else day_ahead_settings(task.folder, task.solver)
        try:
            run = run_day(case, knowledge, table, SETTINGS, first, task.solver, states)
        except TielineError as error:
            row.status = f"{type(error).__name__}: {error}"[:MOST_WORDS]
            return [*rows, row]
        rows.append(measured(row, run))
        states = run.day.states()
    return rows


def days(task: Task) -> list[Case]:
    if not task.week:
        return [load_case(task.folder)]
    return [Case(folder) for folder in load_case(f"{task.folder}:{WEEK}").folder.days()]


def market_rules(case: Case) -> MarketTable:
    return case.table.market.model_copy(update={"gate_minutes": GATE_MINUTES})


@lru_cache
def day_ahead_settings(folder: str, solver: str) -> Settings:
    """Forecasts of the day-ahead market are the same in every draw: all begin at the result of one cold run."""
    case = load_case(folder)
    agents = {name: case.build_agent(name, solver) for name in case.agents}
    result = admm.solve(agents, case.couplings, SETTINGS)
    return admm.warm_start(result.boundary, case.couplings).applied_to(SETTINGS)
