"""One run a folder: the second is refused, a lock that is left behind is recognised, ids say what belongs together."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from dataclasses import asdict, replace
from pathlib import Path

import h5py
import pytest

from admm import InputError, shared_memory
from admm.commands.common import lock_for
from admm.ending import do_duties
from admm.folder_lock import LENT, LOCK, FolderLock
from admm.lock_holder import Holder, read_holder, start_ticks
from admm.output import OutputFolder
from tests.case_tools import ROOT_ENVIRONMENT, tieline
from tests.market_tools import small_case

HOLDS = """
import sys, time
from admm.errors import InputError
from admm.folder_lock import FolderLock
time.sleep(max(0.0, float(sys.argv[2]) - time.time()))
try:
    with FolderLock(sys.argv[1]):
        print("held", flush=True)
        sys.stdin.read()
except InputError as error:
    print(f"refused: {error}", flush=True)
"""


def start(folder: Path, at: float = 0.0) -> subprocess.Popen:
    command = [sys.executable, "-c", HOLDS, str(folder), str(at)]
    return subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=ROOT_ENVIRONMENT, cwd="/"
    )


def put_lock(folder: Path, **changes: object) -> Holder:
    """The lock of somebody like this process."""
    holder = replace(Holder.here(), **changes)
    folder.mkdir(exist_ok=True)
    (folder / LOCK).write_text(json.dumps(asdict(holder)))
    return holder


def test_of_two_that_begin_at_the_same_moment_one_holds_the_folder(tmp_path: Path) -> None:
    for number in range(20):
        folder, at = tmp_path / str(number), time.time() + 0.4
        if number % 2:
            put_lock(folder, pid=2**22 + 1)  # stale: both try to remove it
        jobs = [start(folder, at) for _ in range(2)]
        said = sorted(job.stdout.readline() for job in jobs)
        for job in jobs:
            job.communicate()
        assert said[0] == "held\n" and said[1].startswith("refused: "), said
        assert any(f"another run writes there: process {job.pid} on host" in said[1] for job in jobs), said
        assert list(folder.parent.glob(f"{number}/*")) == []


def test_a_lock_of_a_killed_process_is_stale(tmp_path: Path) -> None:
    with start(tmp_path / "out") as job:
        assert job.stdout.readline() == "held\n"
        with pytest.raises(InputError, match=f"process {job.pid} on host .*, started 20..-.*; wait for its end"):
            FolderLock(tmp_path / "out").take()
        os.kill(job.pid, signal.SIGKILL)
    assert read_holder(tmp_path / "out" / LOCK).pid == job.pid
    with FolderLock(tmp_path / "out") as lock:
        assert lock.former.pid == job.pid and read_holder(lock.path).pid == os.getpid()
    assert not (tmp_path / "out" / LOCK).exists()


def test_a_run_that_was_left_leaves_no_lock_but_a_trace_for_the_next_one(tmp_path: Path) -> None:
    """What ranks that were killed have in shared memory is found by when it began."""
    program = "import sys; from admm.folder_lock import FolderLock as L; l = L(sys.argv[1]); l.take(); l.release(True)"
    subprocess.run([sys.executable, "-c", program, tmp_path / "out"], check=True)
    assert not (tmp_path / "out" / LOCK).exists()
    with FolderLock(tmp_path / "out") as lock:
        assert lock.former is not None and lock.former.is_dead() and lock.former.began <= lock.began
        OutputFolder(tmp_path / "out").check()
        OutputFolder(tmp_path / "out").tidy()
    with FolderLock(tmp_path / "out") as lock:
        assert lock.former is None
        assert [path.name for path in lock.folder.iterdir()] == [LOCK]


@pytest.mark.parametrize("there", [True, False])
def test_a_trace_is_left_only_where_something_may_be_in_shared_memory(there: bool, tmp_path: Path, monkeypatch) -> None:
    memory = tmp_path / "shm"
    memory.mkdir()
    if there:
        (memory / "sm_segment.of-a-killed-rank").write_bytes(b"\0")
    monkeypatch.setattr(shared_memory, "FOLDER", memory)
    monkeypatch.setenv("PMI_RANK", "0")
    with lock_for(tmp_path / "out") as lock:
        lock.take()
        do_duties()
        assert not lock.path.exists()
        assert len(list(tmp_path.glob("out/*.part"))) == there


def test_a_process_of_the_same_number_that_began_later_is_another_one(tmp_path: Path) -> None:
    put_lock(tmp_path / "out", ticks=Holder.here().ticks - 1)
    with FolderLock(tmp_path / "out") as lock:
        assert lock.former is not None


def test_a_supervisor_and_its_launch_hold_a_folder_together(tmp_path: Path, monkeypatch) -> None:
    """Whichever of both is killed; when the launch ends, the supervisor holds on."""
    supervisor = put_lock(tmp_path / "out", pid=os.getppid(), ticks=start_ticks(os.getppid()))
    monkeypatch.setenv(LENT, supervisor.token)
    with FolderLock(tmp_path / "out") as launch:
        held = read_holder(launch.path)
        assert launch.is_held() and (held.pid, held.lender) == (os.getpid(), supervisor)
        with pytest.raises(InputError, match=f"process {os.getppid()} on host"):
            FolderLock(tmp_path / "out").take()
        gone = {"pid": 2**22 + 1}
        assert not replace(held, **gone).is_dead() and not replace(held, lender=replace(supervisor, **gone)).is_dead()
        assert f"process {os.getpid()} " in replace(held, lender=replace(supervisor, **gone)).words()
        assert replace(held, **gone, lender=replace(supervisor, **gone)).is_dead()
    assert read_holder(launch.path) == supervisor
    monkeypatch.delenv(LENT)
    with pytest.raises(InputError, match=f"process {os.getppid()} on host"):
        FolderLock(tmp_path / "out").take()


@pytest.mark.parametrize("text", ['{"lender": 1}', "[1]", "1", '"a"', "[" * 10**5, '{"began": 1e400}'])
def test_a_lock_of_odd_words_is_one_that_cannot_be_read(text: str, tmp_path: Path) -> None:
    (tmp_path / LOCK).write_text(text)
    with pytest.raises(InputError, match="is not a lock that can be read"):
        FolderLock(tmp_path).take()
    put_lock(tmp_path, began=1e30)
    with pytest.raises(InputError, match="is not a lock that can be read"):
        FolderLock(tmp_path).take()


@pytest.mark.parametrize("changes", [{"host": "elsewhere"}, {"processes": "pid:[1]"}, {"machine": "another"}])
def test_what_cannot_be_seen_from_here_is_not_taken_for_dead(changes: dict[str, str], tmp_path: Path) -> None:
    put_lock(tmp_path / "out", pid=2**22 + 1, **changes)
    with pytest.raises(InputError, match=f"that host cannot be seen from here: if the run is over, remove .*/{LOCK}"):
        FolderLock(tmp_path / "out").take()


def test_a_queue_that_starts_a_job_anew_has_ended_its_first_attempt(tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setenv("SLURM_JOB_ID", "17")
    put_lock(tmp_path / "out", host="elsewhere", job="17", attempt=0)
    with pytest.raises(InputError, match="'elsewhere'"):
        FolderLock(tmp_path / "out").take()
    monkeypatch.setenv("SLURM_RESTART_COUNT", "1")
    with FolderLock(tmp_path / "out") as lock:
        assert lock.former.host == "elsewhere"


def test_a_lock_that_cannot_be_read_is_left_where_it_is(tmp_path: Path) -> None:
    (tmp_path / LOCK).write_text("mine")
    with pytest.raises(InputError, match="is not a lock that can be read; if no run writes there, remove that file"):
        FolderLock(tmp_path).take()
    assert (tmp_path / LOCK).read_text() == "mine"


def test_a_folder_that_stays_empty_goes_with_its_lock(tmp_path: Path) -> None:
    (tmp_path / "there").mkdir()
    for folder in (tmp_path / "there", tmp_path / "not" / "there"):
        FolderLock(folder).__enter__().release()
    assert sorted(tmp_path.iterdir()) == [tmp_path / "there"]


def test_the_second_run_is_refused_in_one_line_and_changes_nothing(tmp_path: Path, capsys) -> None:
    case, out = small_case(tmp_path), tmp_path / "out"
    assert tieline(capsys, "run", case, "--max-iterations", "1", "--out", out).code == 3
    before = {path: path.read_bytes() for path in out.rglob("*") if path.is_file()}
    with FolderLock(out) as lock:
        for option in ("--out", "--resume"):
            ended = tieline(capsys, "run", case, option, out, "--audit")
            assert ended.code == 2 and ended.errors.count("\n") == 1, ended.errors
            assert f"{option} {out}: another run writes there: process {os.getpid()} on host" in ended.errors
        lock.path.unlink()
    assert {path: path.read_bytes() for path in out.rglob("*") if path.is_file()} == before


def ids_in(out: Path) -> dict[str, str]:
    """The run id of every file."""
    found = {"summary.json": json.loads((out / "summary.json").read_text())["run_id"]}
    for path in out.rglob("*.h5"):
        with h5py.File(path) as file:
            found[str(path.relative_to(out))] = file.attrs["run_id"]
    for path in out.rglob("*.jsonl"):
        lines = [json.loads(line) for line in path.read_text().splitlines()]
        (found[path.name],) = {line["run_id"] for line in lines if "run_id" in line}
    return found


def test_every_file_has_the_id_of_its_run(tmp_path: Path, capsys) -> None:
    case, out = small_case(tmp_path), tmp_path / "out"
    one = ("run", case, "--max-iterations", "2", "--audit")
    assert tieline(capsys, *one, "--out", out).code == 3
    first = ids_in(out)
    names = {"history.h5", "boundary.h5", "checkpoint.h5", "private/dso.h5", "private/dso.checkpoint-2.h5"}
    assert {*names, "summary.json", "rank-0.jsonl"} <= first.keys()
    (run_id,) = set(first.values())
    assert tieline(capsys, *one[:3], "4", "--audit", "--resume", out).code == 3
    assert set(ids_in(out).values()) == {run_id}
    assert tieline(capsys, *one, "--out", out).code == 3
    (next_id,) = set(ids_in(out).values())
    assert next_id != run_id
    assert tieline(capsys, *one, "--out", tmp_path / "new").code == 3
    assert set(ids_in(tmp_path / "new").values()) == {run_id}


def test_rights_are_the_users_own_whatever_the_umask(tmp_path: Path, capsys) -> None:
    case, out = small_case(tmp_path), tmp_path / "out"
    before = os.umask(0)
    try:
        assert tieline(capsys, "run", case, "--max-iterations", "1", "--out", out, "--audit").code == 3
    finally:
        os.umask(before)
    closed = [out / "private", out / "audit", *(out / "private").iterdir(), *(out / "audit").iterdir()]
    assert {path: path.stat().st_mode & 0o077 for path in [*closed, out / "checkpoint.h5"]} == dict.fromkeys(
        [*closed, out / "checkpoint.h5"], 0
    )
