"""Runs many tasks, one after the other or in a pool of processes, and writes each row as soon as it is there."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import asdict
from multiprocessing import get_context
from pathlib import Path
from typing import Any, TypeVar

from benchmarks.measure import Row
from benchmarks.options import Options
from benchmarks.tables import write_csv

Task = TypeVar("Task")
Key = tuple[Any, ...]


def run_all(
    tasks: Mapping[Key, Task],
    work: Callable[[Task], Row],
    path: Path,
    key: Sequence[str],
    options: Options,
    processes: int = 1,
) -> list[dict[str, Any]]:
    """All rows of `path`, which is kept up to date: those of the tasks and, where the options say so, former ones.

    tasks: {values of the key columns: what `work` gets}. processes: where the options do not say.
    """
    rows: dict[Key, dict[str, Any]] = {tuple(row[name] for name in key): row for row in options.former_rows(path)}
    open_tasks = {at: task for at, task in tasks.items() if options.again or at not in rows}
    order, began = {at: i for i, at in enumerate(dict.fromkeys([*rows, *tasks]))}, time.perf_counter()
    processes = options.processes or processes
    for done, (at, row) in enumerate(_results(open_tasks, work, processes), 1):
        rows[at] = asdict(row)
        write_csv(path, [rows[at] for at in sorted(rows, key=order.__getitem__)])
        print(f"[{done}/{len(open_tasks)}, {time.perf_counter() - began:.0f} s] {_line(row)}", flush=True)
    return [rows[at] for at in order]


def _results(tasks: Mapping[Key, Task], work: Callable[[Task], Row], processes: int) -> Iterator[tuple[Key, Row]]:
    if processes == 1:
        yield from ((at, work(task)) for at, task in tasks.items())
        return
    with ProcessPoolExecutor(processes, mp_context=get_context("spawn")) as pool:
        futures = {pool.submit(work, task): at for at, task in tasks.items()}
        try:
            for future in as_completed(futures):
                yield futures[future], future.result()
        except BaseException:
            pool.shutdown(wait=False, cancel_futures=True)
            raise


def _line(row: Row) -> str:
    def words(count: int | None) -> str:
        return "not reached" if count is None else str(count)

    return (
        f"{row.subject}: {row.variant}: Boyd {words(row.boyd_exchanges)}, yardstick {words(row.yardstick_exchanges)}, "
        f"certified {words(row.certified_exchanges)}, {row.seconds:.1f} s, {row.status}"
    )
