"""Start and end of MPI for the command line: under the watchdog, whose thread has to run meanwhile.

mpi4py starts and ends MPI while it holds Python's lock, so no other thread could notice that a rank never comes. Called
by ctypes, the library's own functions do not hold it; mpi4py then finds MPI as they leave it.
"""

from __future__ import annotations

import ctypes
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from importlib.util import find_spec
from typing import TYPE_CHECKING

from admm import shared_memory
from admm.launch import launcher_is_gone
from admm.watchdog import WATCHDOG

if TYPE_CHECKING:
    from admm.messenger import Communicator

THREAD_MULTIPLE = 3
"""The same number in MPICH and Open MPI; mpi4py asks for it, too."""


@contextmanager
def mpi_world(deadline_seconds: float) -> Iterator[Communicator]:
    """All ranks of the job, between the start and the end of MPI; before and after, the watchdog is awake."""
    library = _library()
    if library is not None:
        library.MPI_Init_thread(None, None, THREAD_MULTIPLE, ctypes.byref(ctypes.c_int()))
    from admm import mpi  # and with it mpi4py, which finds MPI started

    comm = mpi.world()
    WATCHDOG.rest()
    try:
        yield comm
    finally:
        WATCHDOG.watch(deadline_seconds, "the end of MPI, for which all ranks are waited,")
        if library is not None:
            own = shared_memory.mapped_here()
            library.MPI_Finalize()
            if launcher_is_gone():  # which removes what Open MPI has in shared memory; nobody else does
                shared_memory.unlink(own)


def _library() -> ctypes.CDLL | None:
    """mpi4py's MPI library; None where its functions are not to be had, and mpi4py has to call them."""
    with suppress(ImportError, AttributeError, OSError):
        spec = find_spec("mpi4py.MPI")  # which loads the library that the module wants
        library = ctypes.CDLL(spec.origin)
        started = ctypes.c_int()
        if library.MPI_Initialized(ctypes.byref(started)) == 0 and not started.value and library.MPI_Finalize:
            return library
    return None
