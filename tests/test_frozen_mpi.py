"""A run over MPI that goes on without a rank: how it ends, and what is left of it."""

from __future__ import annotations

import json
import subprocess
import time
from pathlib import Path

import pytest

from tests.case_tools import tieline
from tests.conftest import find_mpirun
from tests.frozen_program import DEADLINE_SECONDS, LOST_CODE
from tests.market_tools import small_case
from tests.mpi_program import MARK

PROGRAM = str(Path(__file__).with_name("frozen_program.py"))
RANKS = 4
END_SECONDS = 10.0
"""Until a launcher has buried all its processes."""
CASE_DEADLINE_SECONDS = 3.0


def found(done: subprocess.CompletedProcess) -> list:
    """What rank 0 reports."""
    assert done.returncode == LOST_CODE, done.stderr
    (line,) = [line for line in done.stdout.splitlines() if line.startswith(MARK)]
    return json.loads(line.removeprefix(MARK))["found"]


def processes_with(text: str) -> list[str]:
    """Command lines that hold it."""
    lines = []
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            lines.append(path.read_text(errors="replace"))
        except OSError:
            continue
    return [line for line in lines if text in line]


def check_nothing_left(text: str) -> None:
    until = time.monotonic() + END_SECONDS
    while (left := processes_with(text)) and time.monotonic() < until:
        time.sleep(0.05)
    assert not left


def test_ranks_lost_at_once_cost_one_deadline_and_one_that_comes_back_ends_nothing(mpirun) -> None:
    status, lost, longest, words = found(mpirun(RANKS, PROGRAM, "several"))
    assert (status, [*lost]) == ("STOPPED", ["a", "b"])
    assert DEADLINE_SECONDS <= longest < 2 * DEADLINE_SECONDS
    assert words == ["rank 0", "rank 3"]


def test_a_rank_that_is_lost_while_it_saves_is_done_without(mpirun) -> None:
    status, lost, *_ = found(mpirun(RANKS, PROGRAM, "saved"))
    assert (status, [*lost]) == ("STOPPED", ["a"])


def test_nothing_more_is_taken_from_a_rank_that_answers_twice(mpirun) -> None:
    status, lost, _, words = found(mpirun(RANKS, PROGRAM, "twice"))
    assert (status, [*lost], words) == ("STOPPED", ["a"], ["rank 0", "rank 2", "rank 3"])
    assert "rank 1: agent 'a': message ANSWER has exchange" in lost["a"]


def test_no_run_goes_on_without_an_operator(mpirun) -> None:
    done = mpirun(RANKS, PROGRAM, "operator")
    assert done.returncode == LOST_CODE and MARK not in done.stdout
    assert "rank 0: agent 's' is lost: TransportError: rank 0: rank 1 was not heard of" in done.stderr


def test_a_process_that_dies_is_noticed_at_once_where_mpi_can_lose_one(mpirun) -> None:
    said = subprocess.run([find_mpirun() or "true", "--version"], capture_output=True, text=True).stdout
    if "Open MPI" not in said:
        pytest.skip("MPICH ends all ranks with one that dies")
    status, lost, _, words = found(mpirun(RANKS, PROGRAM, "killed", options=("--with-ft", "ulfm")))
    assert (status, [*lost], words) == ("STOPPED", ["a"], ["rank 0", "rank 2", "rank 3"])


def test_on_the_command_line_the_result_names_the_agent_and_the_run_can_go_on_with_it(mpirun, tmp_path, capsys) -> None:
    case, out, stamp = small_case(tmp_path), tmp_path / "out", tmp_path / "stamp"
    fault = ("-m", "benchmarks.fault_rank", "SIGSTOP", "7", "2", str(stamp))
    options = ("--out", str(out), "--deadline", str(CASE_DEADLINE_SECONDS), "--checkpoint-every", "1e-6")
    done = mpirun(3, *fault, "run", str(case), *options, "--on-lost-agent", "freeze")
    assert done.returncode == LOST_CODE, done.stderr
    assert "rank 2 was lost: all ranks are ended" in done.stderr
    summary = json.loads((out / "summary.json").read_text())
    assert summary["complete"] and summary["converged"] and summary["lost_agents"] == "ec01-homes"
    assert not (out / "private" / "ec01-homes.h5").exists()
    check_nothing_left(str(tmp_path))
    assert tieline(capsys, "run", case, "--resume", out).code == 0
    summary = json.loads((out / "summary.json").read_text())
    assert summary["lost_agents"] == "" and summary["resumed_after"] == 6
