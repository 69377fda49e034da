"""`tieline market` that is interrupted or killed goes on after the latest gate, and ends with the same bytes."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

import admm
from admm.resume import CHECKPOINT, PREVIOUS
from networks.market.day import MarketDay
from tests.case_tools import Ended, edit, tieline
from tests.market_tools import add_rule, small_case, two_days

BAD_INPUT, NOT_CONVERGED, INTERRUPTED = 2, 3, 130
PERIODS = 3
FEW = ("--max-iterations", "3")
"""What goes on to the last bit does so from wherever it is: no need to converge."""
COMPARED = ("*.csv", "market.h5", "boundary.h5", "private/*.h5")
MOST_SECONDS = 60.0


def contents(out: Path) -> dict[str, bytes]:
    """All results of the market but what has times or checkpoints in it."""
    found = [path for glob in COMPARED for path in out.rglob(glob) if ".checkpoint-" not in path.name]
    return {str(path.relative_to(out)): path.read_bytes() for path in found}


def summary(folder: Path) -> dict:
    return json.loads((folder / "summary.json").read_text(encoding="utf-8"))


@pytest.fixture(scope="module")
def case(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return small_case(tmp_path_factory.mktemp("small"), PERIODS)


@pytest.fixture(scope="module")
def whole(case: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    """The results of the undisturbed market."""
    from admm.cli import main

    out = tmp_path_factory.mktemp("whole") / "out"
    assert main(["market", str(case), *FEW, "--out", str(out)]) == NOT_CONVERGED
    return contents(out)


@pytest.fixture
def signal_in_run(monkeypatch: pytest.MonkeyPatch) -> Callable[[int], None]:
    """signal_in_run(n): SIGTERM comes during the second iteration of the n-th coordination of each market."""
    solve, runs = admm.solve, []

    def after(number: int) -> None:
        runs.clear()

        def counted(agents, couplings, settings, transport):
            runs.append(1)

            def seen(progress: admm.Progress) -> admm.Status | None:
                if len(runs) == number and progress.iteration == 2:
                    os.kill(os.getpid(), signal.SIGTERM)
                return settings.callback(progress)

            return solve(agents, couplings, admm.Settings(**{**vars(settings), "callback": seen}), transport)

        monkeypatch.setattr(admm, "solve", counted if number else solve)

    return after


def stopped_in(number: int, case: Path, out: Path, capsys, signal_in_run: Callable[[int], None], *more: str) -> Ended:
    """A market that SIGTERM ends in its n-th coordination, 1 the day-ahead market."""
    signal_in_run(number)
    ended = tieline(capsys, "market", case, *FEW, *more, "--out", out)
    signal_in_run(0)
    assert ended.code == INTERRUPTED and f"go on with --resume {out}" in ended.out, ended
    assert "ends after this iteration" in ended.errors
    return ended


@pytest.mark.parametrize(("number", "after"), [(1, None), (2, "the day-ahead market"), (5, "gate 2")], ids=str)
def test_a_market_that_is_stopped_goes_on_to_the_same_bytes(
    number: int, after: str | None, case: Path, whole: dict[str, bytes], tmp_path: Path, capsys, signal_in_run
) -> None:
    out = tmp_path / "out"
    stopped_in(number, case, out, capsys, signal_in_run)
    assert summary(out)["interrupted"] is True and not (out / "settlement").exists()
    again = tieline(capsys, "market", case, *FEW, "--resume", out)
    said = "has no checkpoint yet; the run starts over" if after is None else f"goes on after {after}, from"
    assert again.code == NOT_CONVERGED and said in again.out, again
    assert contents(out) == whole
    assert summary(out)["interrupted"] is False and summary(out)["gates"] == PERIODS


def test_a_market_that_is_over_may_be_resumed_and_stays_the_same(case, whole, tmp_path: Path, capsys) -> None:
    out = tmp_path / "out"
    for where in ("--out", "--resume"):
        assert tieline(capsys, "market", case, *FEW, where, out).code == NOT_CONVERGED
        assert contents(out) == whole


def test_the_second_of_two_days_goes_on_from_the_stores_of_the_first(tmp_path: Path, capsys, signal_in_run) -> None:
    case, few = two_days(tmp_path), ("--max-iterations", "2")
    assert tieline(capsys, "market", case, *few, "--out", tmp_path / "whole").code == NOT_CONVERGED
    out = tmp_path / "stopped"
    signal_in_run(6)
    assert tieline(capsys, "market", case, *few, "--out", out).code == INTERRUPTED
    signal_in_run(0)
    again = tieline(capsys, "market", case, *few, "--resume", out)
    assert again.code == NOT_CONVERGED and "goes on after the day-ahead market of 2016-01-13" in again.out, again
    assert contents(out) == contents(tmp_path / "whole")
    assert summary(out)["cost_eur"] == summary(tmp_path / "whole")["cost_eur"]


def test_a_time_limit_ends_it_with_what_was_saved(case, whole, tmp_path: Path, capsys) -> None:
    out = tmp_path / "out"
    ended = tieline(capsys, "market", case, *FEW, "--time-limit", "0.001", "--out", out)
    assert ended.code == NOT_CONVERGED and "the time limit is reached: the day is not settled" in ended.out
    assert tieline(capsys, "market", case, *FEW, "--resume", out).code == NOT_CONVERGED
    assert contents(out) == whole


# ---- checkpoints that cannot be used


@pytest.fixture(scope="module")
def stopped(case: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A market that has ended in its fourth gate."""
    from admm.cli import main

    out, held = tmp_path_factory.mktemp("stopped") / "out", []
    with pytest.MonkeyPatch.context() as patch:
        snapshot = MarketDay.snapshot

        def third(day: MarketDay) -> dict:
            held.append(1)
            if len(held) == 4:
                os.kill(os.getpid(), signal.SIGTERM)
            return snapshot(day)

        patch.setattr(MarketDay, "snapshot", third)
        assert main(["market", str(case), *FEW, "--out", str(out)]) == INTERRUPTED
    return out


@pytest.mark.parametrize(
    "damage", ["cut", "flipped", "empty", "private", "private gone", "forged gate", "forged results"]
)
def test_a_damaged_checkpoint_is_skipped(
    damage: str, stopped: Path, case: Path, whole: dict[str, bytes], tmp_path: Path, capsys
) -> None:
    out = shutil.copytree(stopped, tmp_path / "out")
    if damage.startswith("forged"):
        forge(out / CHECKPOINT, damage)
    else:
        victim = next((out / "private").glob("dso.checkpoint-4.h5")) if "private" in damage else out / CHECKPOINT
        data = bytearray(victim.read_bytes())
        data[len(data) // 2] ^= 1
        victim.write_bytes({"cut": data[: len(data) // 2], "empty": b""}.get(damage, bytes(data)))
        if damage == "private gone":
            victim.unlink()
    again = tieline(capsys, "market", case, *FEW, "--resume", out)
    assert again.code == NOT_CONVERGED, again
    assert f"warning: {out}" in again.out and "goes on after gate 1, from" in again.out, again.out
    assert contents(out) == whole


def forge(path: Path, damage: str) -> None:
    """The same file with other values, and the SHA-256 of these."""
    from admm.checkpoint import read_checkpoint, write_checkpoint

    values = read_checkpoint(path)
    if damage == "forged gate":
        values["run"]["gate"] = 99
    else:
        values["run"]["results"].pop(0)
    write_checkpoint(path, values, values["iteration"])


def one_line(ended: Ended, *words: str) -> None:
    assert ended.code == BAD_INPUT and ended.errors.startswith("tieline: ") and ended.errors.count("\n") == 1, ended
    for word in words:
        assert word in ended.errors


def test_what_is_not_this_market_s_is_refused_in_one_line(stopped: Path, case: Path, tmp_path: Path, capsys) -> None:
    before = contents(stopped) | {name: (stopped / name).read_bytes() for name in (CHECKPOINT, PREVIOUS)}
    one_line(tieline(capsys, "market", case, *FEW, "--draw", "3", "--resume", stopped), "--draw is '0' there and '3'")
    one_line(tieline(capsys, "market", case, "--resume", stopped), "--max-iterations is '3' there and '500' now")
    one_line(tieline(capsys, "market", case, *FEW, "--perfect", "--resume", stopped), "rules of the market is")
    one_line(tieline(capsys, "run", case, "--resume", stopped))
    one_line(tieline(capsys, "market", case, *FEW, "--resume", stopped, "--out", tmp_path / "x"), "leave out --out")
    other = shutil.copytree(case, tmp_path / "case")
    edit("agents/ec01-homes.toml", "capacity_kwh = ", "capacity_kwh = 1")(other)
    one_line(tieline(capsys, "market", other, *FEW, "--resume", stopped), "agent 'ec01-homes' is another one now")
    add_rule("lead_minutes = 60")(other)
    one_line(tieline(capsys, "market", other, *FEW, "--resume", stopped), "there and")
    assert contents(stopped) | {name: (stopped / name).read_bytes() for name in (CHECKPOINT, PREVIOUS)} == before


def test_two_damaged_checkpoints_are_one_line(stopped: Path, case: Path, tmp_path: Path, capsys) -> None:
    out = shutil.copytree(stopped, tmp_path / "out")
    for name in (CHECKPOINT, PREVIOUS):
        (out / name).write_bytes(b"nonsense")
    one_line(tieline(capsys, "market", case, *FEW, "--resume", out), "no checkpoint can be used", "is no checkpoint")


def test_private_values_that_do_not_fit_are_one_line(stopped: Path, case: Path, tmp_path: Path, capsys) -> None:
    """Whole files with their own SHA-256, but of another shape."""
    from admm.checkpoint import read_checkpoint, write_checkpoint

    out = shutil.copytree(stopped, tmp_path / "out")
    path, private = out / CHECKPOINT, next((out / "private").glob("ec01-homes.checkpoint-4.h5"))
    kept, values = read_checkpoint(private), read_checkpoint(path)
    kept["kept"]["day"]["done"] = kept["kept"]["day"]["done"][:-1]
    values["sha256"]["ec01-homes"] = write_checkpoint(private, kept, 4)
    write_checkpoint(path, values, values["iteration"])
    one_line(
        tieline(capsys, "market", case, *FEW, "--resume", out), "the checkpoint does not fit the agents", "done is"
    )


def test_a_new_market_forgets_the_checkpoints_of_an_older_one(stopped, case, whole, tmp_path, capsys, signal_in_run):
    """Else a kill in the day-ahead market would lead back to the older one."""
    out = shutil.copytree(stopped, tmp_path / "out")
    stopped_in(1, case, out, capsys, signal_in_run)
    assert not (out / CHECKPOINT).exists() and not (out / PREVIOUS).exists()
    assert not list((out / "private").glob("*.checkpoint-*"))


# ---- processes, and ranks


def start(case: Path, out: Path, *more: str) -> subprocess.Popen:
    command = [sys.executable, "-m", "admm", "market", str(case), *FEW, *more]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, env=environment)


def wait_for(path: Path) -> None:
    began = time.monotonic()
    while not path.exists():
        assert time.monotonic() - began < MOST_SECONDS, f"{path} does not come"
        time.sleep(0.01)


def test_a_market_that_is_killed_goes_on_to_the_same_bytes(case, whole, tmp_path: Path, capsys) -> None:
    out = tmp_path / "out"
    with start(case, out, "--out", str(out)) as child:
        wait_for(out / PREVIOUS)
        child.kill()
    assert not (out / "summary.json").exists()
    again = tieline(capsys, "market", case, *FEW, "--resume", out)
    assert again.code == NOT_CONVERGED and "goes on after " in again.out, again
    assert contents(out) == whole


def test_ranks_that_are_told_to_end_go_on_on_any_number_of_them(
    case, whole, mpirun_start, tmp_path: Path, capsys
) -> None:
    out, command = tmp_path / "out", ("-m", "admm", "market", str(case), *FEW)
    with mpirun_start(3, *command, "--out", str(out), "--audit") as job:
        wait_for(out / PREVIOUS)
        job.send_signal(signal.SIGTERM)
        job.communicate(timeout=MOST_SECONDS)
    with mpirun_start(2, *command, "--resume", str(out), "--audit") as job:
        told, errors = job.communicate(timeout=MOST_SECONDS)
    assert job.returncode == NOT_CONVERGED, errors
    assert "goes on after " in told
    assert contents(out) == whole
    audited = adds_up(out, capsys)
    assert "launch 1: from the start, 3 ranks" in audited and "launch 2: goes on after " in audited, audited


@pytest.mark.parametrize("ranks", [1, 2])
def test_an_audit_of_all_stages_adds_up_to_what_was_exchanged(
    ranks: int, case: Path, mpirun, tmp_path: Path, capsys
) -> None:
    out = tmp_path / "out"
    arguments = ("market", str(case), *FEW, "--out", str(out), "--audit")
    code = tieline(capsys, *arguments).code if ranks == 1 else mpirun(ranks, "-m", "admm", *arguments).returncode
    assert code == NOT_CONVERGED
    told = tieline(capsys, "audit", out)
    assert told.code == 0 and f"summary.json says {summary(out)['bytes_exchanged']}: the same" in told.out, told.out
    assert len(list((out / "audit").iterdir())) == ranks


def test_an_infeasible_agent_ends_all_ranks_at_once(mpirun, tmp_path: Path) -> None:
    """The other ranks do not wait for a market that is over."""
    case = small_case(tmp_path, PERIODS)
    edit("agents/ec01-homes.toml", "import_limit_kw = 260.0", "import_limit_kw = 0.2")(case)
    began = time.monotonic()
    done = mpirun(2, "-m", "admm", "market", str(case), "--out", str(tmp_path / "out"))
    assert done.returncode == 4, (done.returncode, done.stderr)
    assert "agent 'ec01-homes' is infeasible" in done.stderr and time.monotonic() - began < MOST_SECONDS


@pytest.mark.parametrize("number", [1, 3, 5])
def test_an_audit_of_a_market_that_went_on_adds_up_over_its_launches(
    number: int, case: Path, whole: dict[str, bytes], tmp_path: Path, capsys, signal_in_run
) -> None:
    """What the first launch sent of the step that was stopped is in its own sum, and not in that of the whole."""
    out = tmp_path / "out"
    stopped_in(number, case, out, capsys, signal_in_run, "--audit")
    first = adds_up(out, capsys)
    assert tieline(capsys, "market", case, *FEW, "--resume", out, "--audit").code == NOT_CONVERGED
    assert contents(out) == whole
    told = adds_up(out, capsys)
    gone_on = {1: "from the start", 3: "goes on after gate 0", 5: "goes on after gate 2"}[number]
    assert f"launch 2: {gone_on}, 1 ranks" in told, told
    undisturbed = tmp_path / "undisturbed"
    assert tieline(capsys, "market", case, *FEW, "--out", undisturbed, "--audit").code == NOT_CONVERGED
    assert summary(out)["bytes_exchanged"] == summary(undisturbed)["bytes_exchanged"]
    assert first != told


def adds_up(out: Path, capsys) -> str:
    """The words of the audit, whose sums are those of the summary."""
    told = tieline(capsys, "audit", out)
    assert told.code == 0 and f"summary.json says {summary(out)['bytes_exchanged']}: the same" in told.out, told.out
    return told.out


def test_an_audit_of_a_market_that_was_over_adds_up(case: Path, tmp_path: Path, capsys) -> None:
    """The second launch has nothing left to do; the first has no --audit in one case."""
    for first, words in ((["--audit"], "launch 2: goes on after the closing"), ([], "are not written down")):
        out = tmp_path / f"out{len(first)}"
        assert tieline(capsys, "market", case, *FEW, "--out", out, *first).code == NOT_CONVERGED
        counted = summary(out)["bytes_exchanged"]
        assert tieline(capsys, "market", case, *FEW, "--resume", out, "--audit").code == NOT_CONVERGED
        assert summary(out)["bytes_exchanged"] == counted > 0
        assert words in adds_up(out, capsys)
