"""The same problems under mpirun: same numbers whatever the number of ranks, and no failure that hangs."""

from __future__ import annotations

import json
import os
import signal
import time
from functools import cache
from pathlib import Path

import numpy as np
import pytest

import admm
from admm.launch import LAUNCHER_VARIABLES, launched_under_mpi
from admm.wire import HEADER, answers_bytes, questions_bytes
from tests.batches import BATCHES, plain, run_of
from tests.small_problems import PROBLEMS
from tests.tolerances import EXACT

MARK = "RESULT "
PROGRAM = str(Path(__file__).with_name("mpi_program.py"))
ALL_RANKS = (1, 2, 3, 5)
"""5 = agents + 1 of the largest problem; in the smaller ones some ranks own nothing."""
DIGEST_BYTES = 64
SHARED = ("", "Stück für 5 €", "x" * 200_000)
"""As in the program."""
SLEEP_SECONDS = 0.3
GIVE_UP_SECONDS = 15.0


def _found(done) -> list[dict]:
    """The reports of all ranks, in the order printed."""
    assert done.returncode == 0, done.stderr
    return [json.loads(line.removeprefix(MARK)) for line in done.stdout.splitlines() if line.startswith(MARK)]


@cache
def _problems(mpirun, ranks: int) -> list[dict]:
    """The small problems on so many ranks, run once."""
    return _found(mpirun(ranks, PROGRAM, "problems"))


@pytest.mark.parametrize("ranks", ALL_RANKS)
def test_the_numbers_are_those_of_one_process_whatever_the_ranks(mpirun, ranks: int) -> None:
    reports = _problems(mpirun, ranks)
    for name, make in PROBLEMS.items():
        own = {r["rank"]: r["found"] for r in reports if r["found"]["problem"] == name}
        assert {rank: r["words"] for rank, r in own.items()} == {
            rank: [] if rank else [f"rank {i}" for i in range(ranks)] for rank in range(ranks)
        }
        _check_owners(own, list(make().agents), ranks)
        _check_same(own[0], make().solve())


@pytest.mark.parametrize("ranks", ALL_RANKS)
def test_all_ranks_hear_the_text_of_rank_0(mpirun, ranks: int) -> None:
    reports = _problems(mpirun, ranks)
    assert len(reports) == ranks * len(PROBLEMS)
    for report in reports:
        texts = [f"{text} of rank 0" for text in SHARED]
        assert report["found"]["shared"] == [[len(text), text[-30:]] for text in texts]


def test_before_a_run_each_rank_has_its_own_text_only(mpirun) -> None:
    reports = _found(mpirun(3, PROGRAM, "apart"))
    assert {r["rank"]: r["found"] for r in reports} == {i: [f"rank {i}", [f"rank {i}"]] for i in range(3)}


def test_alone_a_text_is_shared_with_nobody() -> None:
    transport = admm.InProcessTransport()
    assert transport.share_text("alone") == "alone" and transport.gather_text("alone") == ["alone"]


def _check_owners(found: dict[int, dict], agents: list[str], ranks: int) -> None:
    """Each agent on one rank; its schedule can be read there, and on rank 0 only its own agents'."""
    assert sorted(name for report in found.values() for name in report["owned"]) == sorted(agents)
    assert all(report["solved"] == report["owned"] for report in found.values())
    assert sorted(found[0]["solutions"]) == sorted(found[0]["owned"])
    assert ranks <= len(agents) or not found[0]["owned"]


def _check_same(found: dict, alone) -> None:
    assert found["status"] == alone.status.name == "CONVERGED"
    assert found["objective"] == pytest.approx(alone.objective, rel=EXACT)
    eur, gap, reason, change = alone.schedule_cost
    assert found["schedule"][0] == (None if eur is None else pytest.approx(eur, rel=EXACT))
    assert found["schedule"][1] == (None if gap is None else pytest.approx(gap, abs=EXACT))
    assert found["schedule"][2:] == [reason, change] and (reason == "") == (found["problem"] == "star")
    history = [[p.residuals.primal, p.residuals.dual, p.penalty, p.objective_eur] for p in alone.history]
    assert np.array(found["history"]) == pytest.approx(np.array(history), rel=EXACT)
    for key, values in found["boundary"].items():
        name, which = key.split()
        assert values == pytest.approx(getattr(alone.boundary[name]["p_mw"], which), rel=EXACT, abs=EXACT)


def test_bytes_are_counted_as_they_cross(mpirun) -> None:
    """With rank 0 driving only, every question and answer of the star crosses, and four start messages a rank."""
    reports = _problems(mpirun, 5)
    star = next(r["found"] for r in reports if r["rank"] == 0 and r["found"]["problem"] == "star")
    iterations = len(star["history"])
    exchanged = sum(questions_bytes(n) + answers_bytes(n) for n in (1, 1, 1, 3))
    start = 4 * (3 * HEADER.size + DIGEST_BYTES + 8)
    schedule = questions_bytes(3) + answers_bytes(3)
    assert star["bytes"] == iterations * exchanged + schedule + start
    alone = PROBLEMS["star"]().solve()
    assert alone.bytes_exchanged == iterations * exchanged + schedule


@pytest.mark.parametrize("ranks", ALL_RANKS)
def test_answers_to_batches_are_those_of_one_process_to_the_last_bit(mpirun, ranks: int) -> None:
    (report,) = _found(mpirun(ranks, PROGRAM, "batches"))
    alone = run_of(admm.InProcessTransport(), {name: make() for name, make in PROBLEMS["star"]().agents.items()})
    assert report["found"] == plain(alone.ask_batches(BATCHES, "agents", check=False))
    alone.transport.finish(has_result=False)


EXPECTED_ERRORS = {
    "prepare": ("InputError", "up: no profile"),
    "prepare_bug": ("TielineError", "KeyError, see what its own rank says"),
    "input": ("InputError", "up: a bad question"),
    "solver": ("SolverError", "up: stuck"),
    "bug": ("AgentError", "rank 1: agent 'up': ZeroDivisionError, see what its own rank says"),
    "infeasible": ("InfeasibleError", "agent 'up' is infeasible: the battery's limits"),
    "not_a_number": ("AgentError", "agent 'up': answer.values"),
    "driver_agent": ("InputError", "up: on rank 0"),
    "missing": ("InputError", "agent 'up' is on none of the 2 ranks"),
    "duplicate": ("InputError", "agent 'up' is on ranks 0 and 1"),
    "other_couplings": ("InputError", "rank 1 has other couplings"),
    "bad_couplings_on_one_rank": ("InputError", "two couplings are called 'low-up'"),
    "works": ("CONVERGED", ""),
}
RAISED_BY_OWNER = {"prepare_bug": "KeyError", "bug": "ZeroDivisionError"}
STOPPED_QUIETLY = ("infeasible", "driver_agent", "works")


def test_errors_reach_rank_0_as_themselves_and_the_next_run_works(mpirun) -> None:
    reports = _found(mpirun(2, PROGRAM, "failures"))
    driver, worker = ({r["rank"]: r["found"] for r in reports}[rank] for rank in (0, 1))
    for case, (error, words) in EXPECTED_ERRORS.items():
        assert driver[case][0] == error, (case, driver[case])
        assert words in driver[case][1]
        expected = "" if case in STOPPED_QUIETLY else RAISED_BY_OWNER.get(case, error)
        assert worker[case][0] == expected, (case, worker[case])


def test_agents_on_other_ranks_really_work_at_the_same_time(mpirun) -> None:
    """Agents that sleep 0.3, 0.3 and 0.06 s, three ranks, three iterations: 0.9 s, not 2 s.

    The 0.24 s for which rank 0 has nothing to do while others solve are theirs, not waiting.
    """
    (report,) = _found(mpirun(3, PROGRAM, "parallel"))
    found = report["found"]
    assert min(found["each"][f"sleeper{i}"] for i in (1, 2)) >= SLEEP_SECONDS
    assert 3 * SLEEP_SECONDS <= found["agents"] < 6 * SLEEP_SECONDS
    assert found["waiting"] < SLEEP_SECONDS


@pytest.mark.parametrize(
    ("ranks", "program", "code", "words"),
    [
        (3, "hang", 75, "rank 0: rank 2 was not heard of with the answer of agent 'up' for 1.5 s"),
        (2, "silence", 75, "rank 1: rank 0 was not heard of for 3 s"),
        (2, "crash", 75, "rank 1: agent 'up': ZeroDivisionError: by zero"),
        (2, "crash_at_home", 75, "rank 0: agent 'up': ZeroDivisionError: by zero"),
        (2, "crash_early", 75, "rank 1: agent 'up': ZeroDivisionError: by zero"),
        (2, "infeasible", 4, ""),
    ],
)
def test_nothing_hangs_and_the_exit_code_says_why(mpirun, ranks: int, program: str, code: int, words: str) -> None:
    began = time.perf_counter()
    done = mpirun(ranks, PROGRAM, program)
    assert time.perf_counter() - began < GIVE_UP_SECONDS
    assert done.returncode == code, done.stderr
    assert words in done.stderr
    assert done.stderr.count("in answer\n") <= 1


def test_who_is_lost_is_told_nothing(mpirun, tmp_path: Path) -> None:
    """A send over a link that is dead may crash; ranks that have answered are told to stop."""
    assert mpirun(4, PROGRAM, "hang_among_others", str(tmp_path)).returncode == 75
    sent = [json.loads(line) for line in (tmp_path / "rank-0.jsonl").read_text().splitlines()]
    assert [line["target"] for line in sent if line.get("kind") == "STOP"] == [2, 3]


def test_ctrl_c_ends_the_run_with_the_values_so_far(mpirun_start) -> None:
    """Every rank is interrupted, as a terminal does it; rank 0 packs its result, the other one ends quietly."""
    with mpirun_start(2, PROGRAM, "interrupt") as job:
        first = [json.loads(job.stdout.readline().removeprefix(MARK)) for _ in range(2)]
        time.sleep(SLEEP_SECONDS)
        for report in first:
            os.kill(report["found"], signal.SIGINT)
        out, errors = job.communicate(timeout=GIVE_UP_SECONDS)
    assert job.returncode == 0, errors
    last = [json.loads(line.removeprefix(MARK)) for line in out.splitlines() if line.startswith(MARK)]
    assert {r["rank"]: r["found"] for r in last} == {0: ["INTERRUPTED", True], 1: None}


def test_a_launcher_is_known_by_its_variables(monkeypatch) -> None:
    for name in LAUNCHER_VARIABLES:
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("SLURM_NTASKS", "8")
    assert not launched_under_mpi()
    monkeypatch.setenv("PMI_RANK", "0")
    assert launched_under_mpi()
