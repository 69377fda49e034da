"""Supervised launches: again from the checkpoint, never twice for the same reason, nothing left of them."""

from __future__ import annotations

import json
import os
import shlex
import subprocess
import sys
import time
from pathlib import Path

import pytest

import admm.supervise
from admm.cli import main
from admm.folder_lock import LOCK
from admm.shared_memory import left_behind
from admm.supervise import MARK, marked, pause_seconds, run_once, supervise
from tests.case_tools import ROOT_ENVIRONMENT, tieline
from tests.market_tools import small_case

DEADLINE = 1.0


def python(code: str, *arguments: object) -> list[str]:
    return [sys.executable, "-c", code, *map(str, arguments)]


COUNTING = """
import pathlib, sys
path = pathlib.Path(sys.argv[1])
launches = int(path.read_text()) + 1 if path.exists() else 1
path.write_text(str(launches))
"""


def test_a_lost_launch_is_launched_again_with_resume_until_one_ends(tmp_path: Path) -> None:
    code = COUNTING + "assert ('--resume' in sys.argv) == (launches > 1); sys.exit(75 if launches < 3 else 0)"
    command = python(code, tmp_path / "count")
    assert supervise(command, ["--resume", "there"], 5, DEADLINE, lambda: 1) == 0
    assert (tmp_path / "count").read_text() == "3"


def test_where_nothing_is_saved_it_starts_over(tmp_path: Path) -> None:
    code = COUNTING + "assert '--resume' not in sys.argv; sys.exit(75 if launches < 2 else 0)"
    assert supervise(python(code, tmp_path / "count"), ["--resume", "there"], 5, DEADLINE, lambda: 0) == 0


def test_after_so_many_launches_it_is_given_up(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    command = python(COUNTING + "sys.exit(75)", tmp_path / "count")
    assert supervise(command, [], 2, DEADLINE, lambda: 0) == 75
    assert (tmp_path / "count").read_text() == "3"
    assert "given up after 3 launches" in capfd.readouterr().err


@pytest.mark.parametrize("code", [0, 2, 3, 4, 74, 130])
def test_what_another_launch_would_not_change_is_final(code: int, tmp_path: Path) -> None:
    command = python(COUNTING + f"sys.exit({code})", tmp_path / "count")
    assert supervise(command, [], 5, DEADLINE, lambda: 0) == code
    assert (tmp_path / "count").read_text() == "1"


def test_the_same_agent_at_the_same_iteration_is_no_accident(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    words = "print(\"tieline: agent 'dso' gave no usable answer\", file=sys.stderr); sys.exit(1)"
    command = python(COUNTING + words, tmp_path / "count")
    assert supervise(command, [], 9, DEADLINE, lambda: 12) == 1
    assert (tmp_path / "count").read_text() == "2"
    assert "agent 'dso' has failed twice after iteration 12" in capfd.readouterr().err


def test_progress_between_two_failures_makes_them_two_accidents(tmp_path: Path) -> None:
    words = "print(\"tieline: agent 'dso' gave no usable answer\", file=sys.stderr); sys.exit(1)"
    command, saved = python(COUNTING + words, tmp_path / "count"), iter(range(9))
    assert supervise(command, [], 3, DEADLINE, lambda: next(saved)) == 75
    assert (tmp_path / "count").read_text() == "4"


def test_launches_that_gain_nothing_are_further_and_further_apart(monkeypatch, tmp_path: Path) -> None:
    """Iterations 0, 0, 0, 5, 5, 5, 5 are saved by seven lost launches: waits before the third, fourth and seventh."""
    waited: list[int] = []
    monkeypatch.setattr(admm.supervise, "_pause", waited.append)
    saved = iter([0, 0, 0, 5, 5, 5, 5])
    assert supervise(python("raise SystemExit(75)"), [], 6, DEADLINE, lambda: next(saved)) == 75
    assert waited == [0, 1, 2, 3, 0, 1, 2]
    assert [pause_seconds(fruitless) for fruitless in (*range(5), 7, 8, 2000)] == [0, 0, 1, 2, 4, 32, 60, 60]


DETACHED = """
import os, subprocess, sys, time
child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"], start_new_session=True)
print("pid", child.pid, file=sys.stderr, flush=True)
os._exit(1)
"""


def test_descendants_are_ended_wherever_they_went() -> None:
    launch = run_once(python(DETACHED), DEADLINE)
    pid = int(next(line for line in launch.lines if line.startswith("pid")).split()[1])
    assert launch.code == 1
    assert not _alive(pid)


def _alive(pid: int) -> bool:
    """Neither gone nor waiting for somebody to take note."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def test_a_stopped_process_is_lost_after_the_deadline() -> None:
    began = time.monotonic()
    launch = run_once(python("import os, signal; os.kill(os.getpid(), signal.SIGSTOP)"), DEADLINE)
    assert launch.code == 137 and DEADLINE <= time.monotonic() - began < DEADLINE + 10.0


def test_what_was_told_to_stop_is_not_launched_again(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    """Whatever code its launcher ends with: Open MPI's is 1."""
    code = "import os, signal, sys, time; os.kill(os.getppid(), signal.SIGTERM); time.sleep(30)"
    assert supervise(python(code), [], 3, DEADLINE, lambda: 4) == 130
    assert "told to stop; saved until iteration 4" in capfd.readouterr().err


def test_a_process_is_found_by_its_mark_alone() -> None:
    with subprocess.Popen(python("input()"), env={**os.environ, MARK: "abc"}, stdin=subprocess.PIPE) as child:
        assert list(marked("abc")) == [child.pid]
        child.communicate(b"\n")
    assert not list(marked("abc"))


def test_a_file_of_mpi_that_is_mapped_or_not_ours_is_not_left_behind(monkeypatch, tmp_path: Path) -> None:
    import mmap

    import admm.shared_memory

    monkeypatch.setattr(admm.shared_memory, "FOLDER", tmp_path)
    used, unused, foreign = (tmp_path / name for name in ("mpich_shm_1", "mpich_shm_2", "something"))
    for path in (used, unused, foreign):
        path.write_bytes(b"\0" * mmap.PAGESIZE)
    with used.open("r+b") as file, mmap.mmap(file.fileno(), mmap.PAGESIZE):
        assert left_behind(since=0.0) == [unused]
        assert left_behind(since=time.time() + 60.0) == []


def test_a_supervised_run_is_the_run(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    case = small_case(tmp_path)
    alone = tieline(capsys, "run", case, "--out", tmp_path / "alone")
    watched = tieline(capsys, "run", case, "--out", tmp_path / "watched", "--supervise", "1")
    assert alone.code == watched.code == 0
    same = [(tmp_path / name / "boundary.h5").read_bytes() for name in ("alone", "watched")]
    assert same[0] == same[1]


def test_what_another_run_has_saved_is_nothing_to_go_on_from(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """A launch that is lost before its first iteration leaves an older run's checkpoint where it was."""
    case, out, count = small_case(tmp_path), tmp_path / "out", tmp_path / "count"
    assert tieline(capsys, "run", case, "--max-iterations", "2", "--penalty", "classical", "--out", out).code == 3
    launcher = tmp_path / "launcher"
    launcher.write_text(
        f"#!{sys.executable}\n"
        "import os, pathlib, sys\n"
        f"first = not os.path.exists({str(count)!r})\n"
        f"pathlib.Path({str(count)!r}).touch()\n"
        "os._exit(75) if first else os.execv(sys.argv[1], sys.argv[1:])\n"
    )
    launcher.chmod(0o755)
    ended = tieline(capsys, "run", case, "--out", out, "--supervise", "1", "--launcher", launcher)
    assert ended.code == 0, ended.errors
    assert json.loads((out / "summary.json").read_text())["resumed_after"] == 0


INTRUDER = """
import os, pathlib, subprocess, sys
from admm.folder_lock import LENT
from admm.supervise import MARK
count, out, *command = sys.argv[1:]
if os.path.exists(count):
    os.execv(command[0], command)
other = {name: text for name, text in os.environ.items() if name not in (LENT, MARK)}
intruder = [sys.executable, "-m", "admm", "run", "ieee33-10ec", "--out", out]
ended = subprocess.run(intruder, env=other, capture_output=True)
pathlib.Path(count).write_text(f"{os.getppid()} {ended.returncode} {ended.stderr.decode()}")
os._exit(75)
"""
TWICE = "import subprocess, sys; jobs = [subprocess.Popen(sys.argv[1:]) for _ in range(2)]\n"
TWICE += "sys.exit(max(job.wait() for job in jobs))\n"


def launcher(path: Path, code: str, *arguments: object) -> str:
    """A program that starts what stands behind its arguments."""
    path.write_text(code)
    return shlex.join(map(str, (sys.executable, path, *arguments)))


def test_the_folder_is_the_supervisors_between_launches_too(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A launch is over, the next has not begun, and another run comes."""
    monkeypatch.setenv("PYTHONPATH", ROOT_ENVIRONMENT["PYTHONPATH"])
    case, out, count = small_case(tmp_path), tmp_path / "out", tmp_path / "count"
    words = launcher(tmp_path / "intruder.py", INTRUDER, count, out)
    ended = tieline(capsys, "run", case, "--out", out, "--supervise", "1", "--launcher", words)
    assert ended.code == 0, ended.errors
    process, code, said = count.read_text().split(" ", 2)
    assert code == "2" and f"another run writes there: process {process} on host" in said and said.count("\n") == 1
    assert json.loads((out / "summary.json").read_text())["complete"] and not list(out.glob(f"{LOCK}*"))


def test_a_launch_that_is_two_runs_is_one_run_and_one_refusal(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    """Such as `srun` without MPI: the supervisor lends its lock once."""
    case, out = small_case(tmp_path), tmp_path / "out"
    words = launcher(tmp_path / "twice.py", TWICE)
    assert main(["run", str(case), "--out", str(out), "--supervise", "0", "--launcher", words]) == 2
    assert capfd.readouterr().err.count("another run writes there") == 1
    assert json.loads((out / "summary.json").read_text())["complete"] and not list(out.glob(f"{LOCK}*"))


def test_a_launcher_that_launches_nothing_is_no_success(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Nor is an older run's result its own."""
    case, out = small_case(tmp_path), tmp_path / "out"
    for _ in range(2):
        ended = tieline(capsys, "run", case, "--out", out, "--supervise", "1", "--launcher", "true")
        assert ended.code == 2 and "--launcher 'true': has ended with exit code 0, but" in ended.errors
        assert tieline(capsys, "run", case, "--out", out).code == 0


def test_what_is_lost_is_launched_again_or_done_without_not_both(capsys: pytest.CaptureFixture[str]) -> None:
    ended = tieline(capsys, "run", "ieee33-10ec", "--supervise", "1", "--on-lost-agent", "freeze")
    assert ended.code == 2 and "--on-lost-agent freeze" in ended.errors and ended.errors.count("\n") == 1


@pytest.mark.parametrize(
    ("launcher", "words"),
    [("no-such-launcher -n 2", "there is no program 'no-such-launcher'"), ("mpirun -n '2", "cannot be read")],
)
def test_a_launcher_that_cannot_be_started_is_named(
    launcher: str, words: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    ended = tieline(capsys, "run", "ieee33-10ec", "--supervise", "1", "--launcher", launcher, "--out", tmp_path / "out")
    assert ended.code == 2 and words in ended.errors and ended.errors.count("\n") == 1
    assert not (tmp_path / "out").exists()
