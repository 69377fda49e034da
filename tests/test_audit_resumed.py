"""A run that went on: its transcript keeps all that left in every launch, and its sums are what the run counted."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

from admm.audit import read_transcripts
from tests.case_tools import ROOT_ENVIRONMENT, tieline

CASE = Path(__file__).parent / "data" / "failing" / "audit_after_resume"
SUMS = re.compile(r"until the result (\d+) bytes; summary.json says (\d+): the same")


def test_both_launches_are_kept_and_their_sums_are_the_same(tmp_path: Path, capsys) -> None:
    out = tmp_path / "out"
    assert tieline(capsys, "run", CASE, "--out", out, "--max-iterations", "3", "--audit").code == 3
    first = (out / "audit" / "rank-0.jsonl").read_text()
    resumed = tieline(capsys, "run", CASE, "--resume", out, "--max-iterations", "6", "--audit")
    assert resumed.code in (0, 3), resumed.errors
    assert (out / "audit" / "rank-0.jsonl").read_text().startswith(first)
    ended = tieline(capsys, "audit", out)
    assert ended.code == 0, ended.out
    assert SUMS.search(ended.out) and "launch 2: goes on after iteration 3" in ended.out
    launches = read_transcripts(out).launches
    assert [max(line["iteration"] for line in launch.lines) for launch in launches] == [3, 6]


def test_sums_that_differ_have_a_code_of_their_own(tmp_path: Path, capsys) -> None:
    out = tmp_path / "out"
    assert tieline(capsys, "run", CASE, "--out", out, "--max-iterations", "2", "--audit").code == 3
    summary = json.loads((out / "summary.json").read_text())
    summary["bytes_exchanged"] += 1
    (out / "summary.json").write_text(json.dumps(summary))
    ended = tieline(capsys, "audit", out)
    assert ended.code == 5 and "NOT the same" in ended.out


def test_what_was_not_written_down_is_said(tmp_path: Path, capsys) -> None:
    """The first launch had no --audit."""
    out = tmp_path / "out"
    assert tieline(capsys, "run", CASE, "--out", out, "--max-iterations", "2").code == 3
    assert tieline(capsys, "run", CASE, "--resume", out, "--max-iterations", "4", "--audit").code in (0, 3)
    ended = tieline(capsys, "audit", out)
    assert ended.code == 0 and re.search(r"the same; \d+ bytes of before are not written down", ended.out)


def test_a_killed_launch_and_the_one_that_goes_on_add_up(tmp_path: Path, capsys) -> None:
    out = tmp_path / "out"
    words = [*("run", str(CASE), "--tolerance", "1e-13", "--checkpoint-every", "0.05", "--audit"), "--max-iterations"]
    command = [sys.executable, "-m", "admm", *words, "100000", "--out", str(out)]
    with subprocess.Popen(command, env=ROOT_ENVIRONMENT, stdout=subprocess.DEVNULL) as job:
        until = time.monotonic() + 60
        while not (out / "checkpoint-previous.h5").exists() and job.poll() is None and time.monotonic() < until:
            time.sleep(0.005)
        os.kill(job.pid, signal.SIGKILL)
    resumed = tieline(capsys, *words, "1", "--resume", out)
    assert resumed.code == 3, resumed.errors
    ended = tieline(capsys, "audit", out)
    assert ended.code == 0 and SUMS.search(ended.out), ended.out
    assert "launch 1: from the start, 1 ranks" in ended.out and "it did not end" in ended.out


def test_launches_on_ranks_add_up(mpirun, tmp_path: Path, capsys) -> None:
    out = tmp_path / "out"
    one = ("-m", "admm", "run", str(CASE), "--audit", "--checkpoint-every", "1e-6")
    assert mpirun(2, *one, "--out", str(out), "--max-iterations", "2").returncode == 3
    assert mpirun(3, *one, "--resume", str(out), "--max-iterations", "4").returncode in (0, 3)
    ended = tieline(capsys, "audit", out)
    assert ended.code == 0 and SUMS.search(ended.out), ended.out
    assert "launch 1: from the start, 2 ranks" in ended.out and "launch 2: goes on after iteration 2, 3" in ended.out
