"""The generator of random cases and the table of their runs."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from admm.cli import main
from benchmarks.case_generator import write_case
from benchmarks.random_cases import FAILURES, failure, table
from benchmarks.tables import read_csv

SOLVED = {"status": "CONVERGED", "optimum": "SOLVED", "gap": 1e-5, "schedule_gap": 0.0, "schedule_cost_gap": 0.0}
BAD = {
    "stuck": {"status": "MAX_ITERATIONS"},
    "no optimum": {"optimum": "SolverError"},
    "both": {"status": "INFEASIBLE", "optimum": "SolverError"},
    "apart": {"gap": -3e-4, "schedule_cost_gap": 1e-4},
    "beaten": {"schedule_gap": -2e-4},
}
COMMITTED = Path(__file__).parent.parent / "benchmarks" / "results" / "random_cases.csv"


def files(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_one_seed_gives_the_same_files_twice(tmp_path: Path) -> None:
    traits = [write_case(7, tmp_path / name) for name in ("one", "other")]
    assert traits[0] == traits[1]
    assert files(tmp_path / "one") == files(tmp_path / "other")
    write_case(8, tmp_path / "next")
    assert files(tmp_path / "one") != files(tmp_path / "next")


@pytest.mark.parametrize("seed", range(5))
def test_cases_are_valid(tmp_path: Path, seed: int, capsys: pytest.CaptureFixture[str]) -> None:
    write_case(seed, tmp_path / "case")
    assert main(["check", str(tmp_path / "case")]) == 0
    assert "every agent is feasible on its own" in capsys.readouterr().out


def test_each_failure_is_told_from_the_others() -> None:
    assert BAD.keys() == FAILURES.keys()
    assert [failure(SOLVED | change) for change in BAD.values()] == list(BAD)
    both_say_so = {"status": "INFEASIBLE", "optimum": "INFEASIBLE"}
    for good in ({}, both_say_so, {"gap": 3e-4, "schedule_cost_gap": 3e-4}, {"schedule_gap": None}):
        assert failure(SOLVED | good) == ""


def test_the_committed_table_is_that_of_its_rows() -> None:
    rows: list[dict[str, Any]] = read_csv(COMMITTED)
    assert [row["seed"] for row in rows] == list(range(len(rows)))
    assert all(failure(row) == (row["failure"] or "") for row in rows)
    assert table(rows) == COMMITTED.with_suffix(".md").read_text()
    last = table(rows).split("| all | ")[1].split(" | ")
    assert int(last[0]) == len(rows) == 300
