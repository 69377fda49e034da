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

MpiRun = Callable[..., subprocess.CompletedProcess]


def find_mpirun() -> str | None:
    """The mpirun of this Python's own environment, or the one on the path."""
    beside = Path(sys.executable).parent / "mpirun"
    return str(beside) if beside.is_file() else shutil.which("mpirun")


@pytest.fixture(scope="session")
def mpirun() -> MpiRun:
    """mpirun(ranks, *arguments): run this Python with the arguments on so many ranks and wait for the end."""
    launcher = find_mpirun()
    if launcher is None:
        pytest.skip("no mpirun: pip install mpich mpi4py")
    environment = {**os.environ, **ONE_THREAD, **OPEN_MPI, "PYTHONPATH": str(ROOT)}

    def run(ranks: int, *arguments: str) -> subprocess.CompletedProcess:
        command = [launcher, "-n", str(ranks), sys.executable, *arguments]
        return subprocess.run(
            command, env=environment, cwd=ROOT, capture_output=True, text=True, timeout=MPI_SECONDS, check=False
        )

    return run
