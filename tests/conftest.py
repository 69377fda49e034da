"""Shared by all tests: how to start a program under mpirun."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
MPI_SECONDS = 60
ONE_THREAD = {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}
OPEN_MPI = {
    "OMPI_ALLOW_RUN_AS_ROOT": "1",
    "OMPI_ALLOW_RUN_AS_ROOT_CONFIRM": "1",
    "PRTE_MCA_rmaps_default_mapping_policy": ":oversubscribe",
}
LAUNCHERS_WORDS = re.compile(r"(?ms)^-{70,}\n.*?^-{70,}\n?|^\[(warn|[^]\n]+:\d+)\] [^\n]*\n")
"""What Open MPI's mpirun itself says of a job that failed: in a frame, or after [warn] or [HOST:PROCESS]."""

MpiStart = Callable[..., subprocess.Popen]
MpiRun = Callable[..., subprocess.CompletedProcess]


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """`-m mpi`: the tests that start ranks, to run them again with another MPI."""
    for item in items:
        if {"mpirun", "mpirun_start"} & set(getattr(item, "fixturenames", ())):
            item.add_marker("mpi")


def find_mpirun() -> str | None:
    """The mpirun of this Python's own environment, or the one on the path."""
    beside = Path(sys.executable).parent / "mpirun"
    return str(beside) if beside.is_file() else shutil.which("mpirun")


@pytest.fixture(scope="session")
def mpirun_start(tmp_path_factory: pytest.TempPathFactory) -> MpiStart:
    """mpirun_start(ranks, *arguments, options=()): start this Python with the arguments on so many ranks.

    The launchers of one worker have a temporary folder of their own: two of Open MPI's mpirun that share one now and
    then take each other's folder away while they start (exit code 213).
    """
    launcher = find_mpirun()
    if launcher is None:
        pytest.skip("no mpirun: pip install mpich mpi4py")
    environment = {**os.environ, **ONE_THREAD, **OPEN_MPI, "PYTHONPATH": str(ROOT)}
    environment["TMPDIR"] = str(tmp_path_factory.mktemp("launcher"))

    def start(ranks: int, *arguments: str, options: Sequence[str] = ()) -> subprocess.Popen:
        command = [launcher, *options, "-n", str(ranks), sys.executable, *arguments]
        return subprocess.Popen(
            command, env=environment, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
        )

    return start


@pytest.fixture(scope="session")
def mpirun(mpirun_start: MpiStart) -> MpiRun:
    """mpirun(ranks, *arguments, options=()): start them and wait for the end, a minute at most."""

    def run(ranks: int, *arguments: str, options: Sequence[str] = ()) -> subprocess.CompletedProcess:
        with mpirun_start(ranks, *arguments, options=options) as job:
            try:
                out, errors = job.communicate(timeout=MPI_SECONDS)
            except subprocess.TimeoutExpired:
                job.kill()
                raise
        ours = LAUNCHERS_WORDS.sub("", errors)
        if ours != errors:
            print(errors)  # shown of a test that fails: the launcher may know why
        return subprocess.CompletedProcess(job.args, job.returncode, out, ours)

    return run
