"""Whether this process was started by an MPI launcher, found without importing mpi4py."""

from __future__ import annotations

import contextlib
import os
import stat

LAUNCHER_VARIABLES = ("PMI_RANK", "PMI_SIZE", "PMIX_RANK", "OMPI_COMM_WORLD_SIZE", "MV2_COMM_WORLD_SIZE")
"""Set for each process by MPICH and Intel MPI (PMI), srun with pmi2 or pmix, Open MPI, MVAPICH."""

PARENT = os.getppid()
"""Who has started this process; another one takes it in when that one is gone."""

RANK_VARIABLES = ("PMI_RANK", "PMIX_RANK", "OMPI_COMM_WORLD_RANK", "MV2_COMM_WORLD_RANK")


def rank_in_environment() -> int | None:
    """This process's rank before MPI is there; 0 without a launcher, None where the launcher does not say."""
    if not launched_under_mpi():
        return 0
    found = (os.environ.get(name, "") for name in RANK_VARIABLES)
    return next((int(text) for text in found if text.isdecimal()), None)


def launched_under_mpi() -> bool:
    """True under mpirun, mpiexec or srun with a process management interface.

    A plain shell of a batch job has SLURM_NTASKS but none of these, so it counts as one process.
    """
    return any(name in os.environ for name in LAUNCHER_VARIABLES)


def launcher_is_gone() -> bool:
    return os.getppid() != PARENT


def tell_launcher(code: int) -> None:
    """Ask MPICH's launcher to end all ranks of the job with this exit code; other launchers notice by themselves.

    MPICH's waits for ever where a process leaves before MPI has begun, or in the middle of its start. The words are
    those of its library's own abort, which cannot be called there.
    """
    descriptor = os.environ.get("PMI_FD", "")
    if "HYDI_CONTROL_FD" not in os.environ or not descriptor.isdecimal():
        return
    with contextlib.suppress(OSError):
        if stat.S_ISSOCK(os.fstat(int(descriptor)).st_mode):  # closed at the end of MPI
            os.write(int(descriptor), f"cmd=abort exitcode={code}\n".encode())
