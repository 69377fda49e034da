"""Shared by all tests: how to start a program under mpirun."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Callable
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

MpiStart = Callable[..., subprocess.Popen]
MpiRun = Callable[..., subprocess.CompletedProcess]


def find_mpirun() -> str | None:
    """The mpirun of this Python's own environment, or the one on the path."""
    beside = Path(sys.executable).parent / "mpirun"
    return str(beside) if beside.is_file() else shutil.which("mpirun")


@pytest.fixture(scope="session")
def mpirun_start() -> MpiStart:
    """mpirun_start(ranks, *arguments): start this Python with the arguments on so many ranks."""
    launcher = find_mpirun()
    if launcher is None:
        pytest.skip("no mpirun: pip install mpich mpi4py")
    environment = {**os.environ, **ONE_THREAD, **OPEN_MPI, "PYTHONPATH": str(ROOT)}

    def start(ranks: int, *arguments: str) -> subprocess.Popen:
        command = [launcher, "-n", str(ranks), sys.executable, *arguments]
        return subprocess.Popen(
            command, env=environment, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
        )

    return start


@pytest.fixture(scope="session")
def mpirun(mpirun_start: MpiStart) -> MpiRun:
    """mpirun(ranks, *arguments): start them and wait for the end, a minute at most."""

    def run(ranks: int, *arguments: str) -> subprocess.CompletedProcess:
        with mpirun_start(ranks, *arguments) as job:
            try:
                out, errors = job.communicate(timeout=MPI_SECONDS)
            except subprocess.TimeoutExpired:
                job.kill()
                raise
        return subprocess.CompletedProcess(job.args, job.returncode, out, errors)

    return run
