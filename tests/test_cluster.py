"""Of the cluster scripts what needs neither root nor Slurm: what the job script does with each exit code."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest

from admm import InputError
from benchmarks.cluster import hosts

CLUSTER = Path(__file__).parent.parent / "benchmarks" / "cluster"
MOST = 3


@pytest.fixture
def submitted(tmp_path: Path):
    """submitted(code, restarts, *arguments): run the job script where srun ends with that code; what was called."""

    def run(
        code: int, restarts: int, *arguments: str, state: str = "RUNNING"
    ) -> tuple[subprocess.CompletedProcess, list[str]]:
        called = tmp_path / "called"
        programs = {name: f'echo {name} "$@" >>{called}' for name in ("srun", "scontrol")}
        for name, line in (programs | {"squeue": f"echo {state}"}).items():
            (tmp_path / name).write_text(f"#!/bin/sh\n{line}\nexit {code if name == 'srun' else 0}\n")
            (tmp_path / name).chmod(0o755)
        environment = {"PATH": f"{tmp_path}:{os.environ['PATH']}", "SLURM_JOB_ID": "17", "MOST_STARTS": str(MOST)}
        environment |= {"SLURM_RESTART_COUNT": str(restarts)} if restarts else {}
        job = subprocess.run(
            ["bash", CLUSTER / "tieline.sbatch", *arguments], env=environment, capture_output=True, text=True
        )
        return job, called.read_text().splitlines() if called.exists() else []

    return run


@pytest.mark.parametrize("code", [0, 1, 2, 3, 4])
def test_a_job_that_ended_by_itself_is_over(submitted, code: int) -> None:
    job, called = submitted(code, 0, "case", "out", "--scheme", "memory")
    assert job.returncode == code and len(called) == 1
    assert "tieline run case --resume out --deadline 120 --scheme memory" in called[0]


@pytest.mark.parametrize("code", [75, 130, 137, 143, 255])
def test_a_job_that_was_ended_is_queued_again(submitted, code: int) -> None:
    job, called = submitted(code, MOST - 2, "case", "out")
    assert job.returncode == 0 and called[1:] == ["scontrol requeue 17"]
    assert f"exit code {code} in start {MOST - 1}; queued again" in job.stderr


def test_but_not_for_ever(submitted) -> None:
    job, called = submitted(75, MOST - 1, "case", "out")
    assert job.returncode == 75 and len(called) == 1 and "the last one" in job.stderr


def test_nor_when_slurm_has_ended_it(submitted) -> None:
    job, called = submitted(130, 0, "case", "out", state="COMPLETING")
    assert job.returncode == 130 and len(called) == 1 and "COMPLETING" in job.stderr


def test_a_job_without_a_folder_says_how_to_submit_it(submitted) -> None:
    job, called = submitted(0, 0, "case")
    assert job.returncode == 2 and not called and "usage: sbatch" in job.stderr


def test_hosts_need_root_and_their_programs(monkeypatch) -> None:
    monkeypatch.setenv("PATH", os.environ["PATH"])
    monkeypatch.setattr(hosts.shutil, "which", lambda name: None if name in ("ip", "sshd") else name)
    with pytest.raises(InputError, match=r"there is no ip \(iproute2\), no sshd \(openssh-server\)"):
        hosts.check_possible()
    monkeypatch.setattr(hosts.shutil, "which", lambda name: name)
    monkeypatch.setattr(hosts.os, "geteuid", lambda: 1000)
    with pytest.raises(InputError, match="need root"):
        hosts.check_possible()
