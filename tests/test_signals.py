"""SIGTERM and Ctrl-C from the first moment to the last, in one process and on ranks; ranks that never begin or end."""

from __future__ import annotations

import io
import json
import os
import pty
import signal
import subprocess
import sys
import threading
import time
from contextlib import suppress
from pathlib import Path

import pytest

from admm.abort import abort
from admm.commands.common import lock_for
from admm.progress import ProgressPrinter
from admm.resume import latest_iteration
from tests.case_tools import ROOT_ENVIRONMENT
from tests.conftest import find_mpirun
from tests.market_tools import small_case

SECONDS = 5.0


@pytest.fixture(scope="module")
def case(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return small_case(tmp_path_factory.mktemp("case"))


def start(
    *arguments: object, planted: Path | None = None, stdout: int = subprocess.PIPE, stderr: int = subprocess.PIPE
) -> subprocess.Popen:
    paths = [str(planted)] if planted else []
    environment = {**ROOT_ENVIRONMENT, "PYTHONPATH": os.pathsep.join([*paths, ROOT_ENVIRONMENT["PYTHONPATH"]])}
    command = [sys.executable, "-m", "admm", *map(str, arguments)]
    return subprocess.Popen(
        command,
        stdout=stdout,
        stderr=stderr,
        text=True,
        env=environment,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),  # a shell's background job ignores Ctrl-C
    )


def plant(folder: Path, code: str) -> Path:
    """A program that Python runs before it begins with anything else."""
    folder.mkdir(exist_ok=True)
    (folder / "sitecustomize.py").write_text(code)
    return folder


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
@pytest.mark.parametrize("seconds", [0.0, 0.3, 0.8])
def test_a_signal_while_a_run_prepares_ends_it_with_one_line(
    number: signal.Signals, seconds: float, case: Path, tmp_path: Path
) -> None:
    """Python imports, the case is read, agents are built: the moments are of no account."""
    code = "import builtins, sys, time\nsys.addaudithook(lambda e, a: time.sleep(20) if e == 'open' and "
    code += "str(a[0]).endswith('case.toml') else None)\n"  # it is still at it, however fast the machine is
    with start("run", case, "--out", tmp_path / "out", planted=plant(tmp_path / "planted", code)) as job:
        wait_for(lambda: hears(job.pid, signal.SIGTERM), job)
        time.sleep(seconds)
        job.send_signal(number)
        sent = time.monotonic()
        out, errors = job.communicate(timeout=20)
    assert time.monotonic() - sent < SECONDS
    assert job.returncode == 130 and out == "", (job.returncode, out, errors)
    name = "SIGTERM" if number == signal.SIGTERM else "Ctrl-C"
    assert errors == f"tieline: interrupted by {name}; nothing is under way that could be saved\n"
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_after_the_last_iteration_says_that_a_checkpoint_may_be_there(number, case, tmp_path: Path) -> None:
    """It comes in the checks: the first that needs pandapower is held up when it imports it."""
    out, checking = tmp_path / "out", tmp_path / "checking"
    code = f"import os, sys, time\nsys.addaudithook(lambda e, a: (os.mkdir({str(checking)!r}), time.sleep(20)) if "
    planted = plant(tmp_path / "planted", code + "e == 'import' and a[0] == 'pandapower' else None)\n")
    with start("run", case, "--out", out, "--checkpoint-every", "1e-6", planted=planted) as job:
        wait_for(checking.exists, job)
        job.send_signal(number)
        _, errors = job.communicate(timeout=20)
    assert job.returncode == 130 and errors.count("\n") == 1, errors
    assert "after the last iteration; results are not complete, --resume goes on from the last checkpoint" in errors
    assert (out / "checkpoint.h5").exists()


BUSY = """
import hashlib
from admm.interrupts import listen
listen()
print("ready", flush=True)
hashlib.pbkdf2_hmac("sha256", b"", b"", 10**9)
"""


def test_a_main_thread_that_does_not_hear_is_ended_all_the_same() -> None:
    command = [sys.executable, "-c", BUSY]
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=ROOT_ENVIRONMENT
    ) as job:
        assert job.stdout.readline() == "ready\n"
        job.terminate()
        _, errors = job.communicate(timeout=SECONDS)
    assert job.returncode == 130 and errors.count("\n") == 1 and "SIGTERM" in errors


def test_once_it_iterates_it_ends_with_a_checkpoint_however_often_it_is_told(case: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    with start("run", case, "--out", out, "--tolerance", "1e-9", "--checkpoint-every", "1e-6") as job:
        wait_for(lambda: (out / "checkpoint.h5").exists(), job)
        for _ in range(3):
            job.terminate()
            time.sleep(0.05)
        _, errors = job.communicate(timeout=30)
    assert job.returncode == 130, errors
    assert errors == "tieline: ends after this iteration, with a checkpoint (Ctrl-C again: at once)\n"
    assert json.loads((out / "summary.json").read_text())["status"] == "interrupted"
    assert not (out / "run.lock").exists()


def test_words_go_to_standard_error_beside_a_live_line_on_the_terminal(case: Path, tmp_path: Path) -> None:
    out, (reads, writes) = tmp_path / "out", pty.openpty()
    seen: list[bytes] = []
    with start("run", case, "--out", out, "--tolerance", "1e-9", "--checkpoint-every", "1e-6", stdout=writes) as job:
        os.close(writes)
        threading.Thread(target=read_all, args=(reads, seen), daemon=True).start()
        wait_for(lambda: (out / "checkpoint.h5").exists(), job)
        job.terminate()
        _, errors = job.communicate(timeout=120)
    assert (job.returncode, errors) == (
        130,
        "tieline: ends after this iteration, with a checkpoint (Ctrl-C again: at once)\n",
    )
    assert b"\x1b[" in b"".join(seen) and b"ends after" not in b"".join(seen)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_that_nobody_reads_its_words_keeps_no_run_from_its_checkpoint(
    number: signal.Signals, case: Path, tmp_path: Path
) -> None:
    """As after `2>&1 | head`, or where the launcher has been killed."""
    out, (reads, writes) = tmp_path / "out", os.pipe()
    options = ("--tolerance", "1e-9", "--checkpoint-every", "1e-6")
    with start("run", case, "--out", out, *options, stderr=writes) as job:
        os.close(reads)
        os.close(writes)
        wait_for(lambda: (out / "checkpoint.h5").exists(), job)
        job.send_signal(number)
        job.communicate(timeout=120)
    assert job.returncode == 130
    assert json.loads((out / "summary.json").read_text())["status"] == "interrupted"


class Aborted(BaseException):
    pass


class Unread(io.StringIO):
    def write(self, text: str) -> int:
        raise BrokenPipeError


class TwoRanks:
    """As much of a communicator as an abort needs."""

    def Get_size(self) -> int:
        return 2

    def Abort(self, code: int) -> None:
        raise Aborted(code)


def test_an_abort_whose_words_nobody_reads_leaves_no_lock(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Open MPI's launcher has been killed: what it read is closed."""
    with lock_for(tmp_path / "out") as lock:
        lock.take()
        monkeypatch.setattr(sys, "stderr", Unread())
        with pytest.raises(Aborted, match="75"):
            abort(TwoRanks(), "rank 0: gone", 75)
        assert not lock.is_held()


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


@pytest.mark.parametrize("launcher", [None, "PMI_RANK", "OMPI_COMM_WORLD_SIZE"])
def test_a_live_line_is_for_a_terminal_of_ones_own(launcher: str | None, monkeypatch: pytest.MonkeyPatch) -> None:
    """Open MPI gives its ranks a terminal, and passes on what they print to wherever that goes."""
    if launcher is not None:
        monkeypatch.setenv(launcher, "1")
    with ProgressPrinter(Terminal()) as shown:
        pass
    assert ("\x1b[" in shown._stream.getvalue()) == (launcher is None)


def read_all(terminal: int, seen: list[bytes]) -> None:
    with suppress(OSError):  # how a terminal says that nobody writes there any more
        while data := os.read(terminal, 4096):
            seen.append(data)


def hears(pid: int, number: signal.Signals) -> bool:
    """Whether a process has a handler of its own; before, there is Python only."""
    status = Path(f"/proc/{pid}/status").read_text()
    caught = next(line.split()[1] for line in status.splitlines() if line.startswith("SigCgt"))
    return bool(int(caught, 16) >> (number - 1) & 1)


def wait_for(condition, job: subprocess.Popen) -> None:
    until = time.monotonic() + 60
    while not condition() and job.poll() is None:
        assert time.monotonic() < until
        time.sleep(0.01)


def pids_of(log: Path) -> dict[int, int]:
    """Process numbers by rank, which ranks write down as they begin."""
    return {int(rank): int(pid) for rank, pid in (line.split() for line in log.read_text().splitlines())}


PROGRAM = """
import os, sys
from admm.launch import rank_in_environment
rank = rank_in_environment()
with open({log!r}, "a") as log:
    log.write(f"{{rank}} {{os.getpid()}}\\n")
{code}
from admm.start import main
sys.argv[1:] = {arguments!r}
sys.exit(main())
"""


def on_ranks(mpirun_start, log: Path, code: str, *arguments: object) -> subprocess.Popen:
    """`tieline ARGUMENTS` on two ranks, with something planted first; they write their process numbers down."""
    program = PROGRAM.format(log=str(log), code=code, arguments=[str(argument) for argument in arguments])
    return mpirun_start(2, "-c", program)


def under_open_mpi() -> bool:
    said = subprocess.run([find_mpirun() or "true", "--version"], capture_output=True, text=True).stdout
    return "Open MPI" in said


@pytest.mark.parametrize("rank", [0, 1])
def test_a_signal_to_one_rank_ends_the_run_with_a_checkpoint(
    rank: int, mpirun_start, case: Path, tmp_path: Path
) -> None:
    out, log = tmp_path / "out", tmp_path / "log"
    options = ("--out", out, "--tolerance", "1e-9", "--checkpoint-every", "1e-6")
    with on_ranks(mpirun_start, log, "", "run", case, *options) as job:
        wait_for(lambda: (out / "checkpoint.h5").exists(), job)
        os.kill(pids_of(log)[rank], signal.SIGTERM)
        _, errors = job.communicate(timeout=120)
    assert job.returncode == 130, errors
    assert "Traceback" not in errors
    told = "rank 1 was told to stop: " if rank == 1 else ""
    assert f"tieline: {told}ends after this iteration, with a checkpoint" in errors, errors
    assert json.loads((out / "summary.json").read_text())["status"] == "interrupted"


def test_a_launcher_that_is_told_to_stop_tells_its_ranks_or_kills_them(
    mpirun_start, case: Path, tmp_path: Path
) -> None:
    """Open MPI's kills them, and only what was saved before is there."""
    out = tmp_path / "out"
    options = ("--out", out, "--tolerance", "1e-9", "--checkpoint-every", "1e-6")
    with on_ranks(mpirun_start, tmp_path / "log", "", "run", case, *options) as job:
        wait_for(lambda: (out / "checkpoint.h5").exists(), job)
        job.terminate()
        _, errors = job.communicate(timeout=120)
    assert job.returncode == (1 if under_open_mpi() else 130) and "Traceback" not in errors, errors
    assert ("ends after this iteration, with a checkpoint" in errors) is not under_open_mpi(), errors
    assert (out / "summary.json").exists() is not under_open_mpi() and latest_iteration(out) > 0


SOON = """
import atexit, signal, time
import admm.watchdog
from admm.watchdog import Watchdog
admm.watchdog.GRACE_SECONDS, watch = 0.0, Watchdog.watch
def soon(self, seconds, what):
    watch(self, 3.0 if "end of MPI" in what or FROM_THE_START else seconds, what)
    if "end of MPI" in what and rank == 1 and STOPS:
        os.kill(os.getpid(), signal.SIGSTOP)
Watchdog.watch = soon
"""
"""The deadline of the run is long, as a machine may be busy; that of the watchdog is short."""
HANGS = {
    "before the run": "FROM_THE_START, STOPS = True, False\nif rank == 1: time.sleep(600)\n",
    "at the end of MPI": "FROM_THE_START, STOPS = False, True\n",
    "after the end of MPI": "FROM_THE_START, STOPS = False, False\nif rank == 1: atexit.register(time.sleep, 600)\n",
}
NOT_CONVERGED = ("--max-iterations", "1")


@pytest.mark.parametrize("when", HANGS)
def test_a_rank_that_hangs_before_or_after_the_run_ends_it(when: str, mpirun_start, case: Path, tmp_path: Path) -> None:
    options = ("--out", tmp_path / "out", "--deadline", "60")
    with on_ranks(mpirun_start, tmp_path / "log", SOON + HANGS[when], "run", case, *options) as job:
        _, errors = job.communicate(timeout=120)
    assert job.returncode == 75, errors
    phase = "start of all ranks" if when == "before the run" else "end of MPI, for which all ranks are waited,"
    assert f"the {phase} took longer than 3 s: a rank is lost or stuck" in errors and "Traceback" not in errors
    assert (tmp_path / "out" / "summary.json").exists() is (when != "before the run")


def test_beside_a_rank_with_a_code_of_its_own_open_mpi_ends_one_that_hangs_after_the_end_of_mpi_at_once(
    mpirun_start, case: Path, tmp_path: Path
) -> None:
    """Rank 0 ends with 3, as the run has not converged; under MPICH the watchdog ends the job, as it does after 0."""
    options = ("--out", tmp_path / "out", "--deadline", "60", *NOT_CONVERGED)
    planted = SOON + HANGS["after the end of MPI"]
    with on_ranks(mpirun_start, tmp_path / "log", planted, "run", case, *options) as job:
        _, errors = job.communicate(timeout=120)
    assert job.returncode == (3 if under_open_mpi() else 75), errors
    assert json.loads((tmp_path / "out" / "summary.json").read_text())["complete"] and "Traceback" not in errors


WITHOUT_LAUNCHER = """
import os, signal, sys, time
from pathlib import Path
from admm.launch import launcher_is_gone
from admm.mpi_start import mpi_world
from admm.shared_memory import mapped_here, unlink_mapped
with mpi_world(20.0) as comm:
    names = comm.gather([str(path) for path in mapped_here()])
    unlink_mapped()
    if comm.Get_rank() == 0:
        Path(sys.argv[1]).write_text("\\n".join(sum(names, ["/dev/shm/none-but-this"])))
        os.kill(os.getppid(), signal.SIGKILL)
    while not launcher_is_gone():
        time.sleep(0.01)
"""


@pytest.mark.mpi
def test_nothing_is_left_in_shared_memory_when_the_launcher_is_killed_at_the_end(mpirun_start, tmp_path: Path) -> None:
    program, names = tmp_path / "program.py", tmp_path / "names"
    program.write_text(WITHOUT_LAUNCHER)
    with mpirun_start(2, str(program), str(names)) as job:
        job.communicate(timeout=60)
    assert names.is_file()
    until = time.monotonic() + 10.0
    while (
        left := [name for name in names.read_text().splitlines() if Path(name).exists()]
    ) and time.monotonic() < until:
        time.sleep(0.05)
    assert not left
