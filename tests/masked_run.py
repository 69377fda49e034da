"""Run under mpirun by test_masks: a group whose members live on several ranks. Prints what each rank found as JSON."""

from __future__ import annotations

import json
import sys
from pathlib import Path

from mpi4py import MPI

from admm.mpi import MpiTransport, abort_on_exception
from tests.apart_run import Watched
from tests.sharing import NAMES, member, numbers, solve_shared

DEADLINE_SECONDS = 20.0

if __name__ == "__main__":
    comm = MPI.COMM_WORLD
    with abort_on_exception(comm):
        watched = Watched(comm, Path(sys.argv[1], f"sent-{comm.rank}.hex"))
        mine = {name: member(name) for i, name in enumerate(NAMES) if 1 + i % (comm.size - 1) == comm.rank}
        result, here = solve_shared(MpiTransport(watched, DEADLINE_SECONDS), mine, supplies=comm.rank == 0)
        found = {
            "result": None if result is None else numbers(result),
            "solution": {name: float(of["load.p_mw"][0]) for name, of in here.solution().items()},
            "publics": here.publics,
        }
        Path(sys.argv[1], f"found-{comm.rank}.json").write_text(json.dumps(found), encoding="utf-8")
