"""One rank of `scaling` over MPI: `mpirun -n 2 python -m benchmarks.scaling_rank JOB`; started by scaling.py."""

from __future__ import annotations

import pickle
import sys
from dataclasses import replace
from pathlib import Path

from admm.mpi import MpiTransport, world
from benchmarks.scaling import run_admm


def main(path: Path) -> None:
    row, problem, solver, cap = pickle.loads(path.read_bytes())
    comm = world()
    owned = rank_of(problem, comm.Get_size())
    mine = {name: program for name, program in problem.programs.items() if owned[name] == comm.Get_rank()}
    run_admm(row, replace(problem, programs=mine), solver, cap, MpiTransport(comm))
    if comm.Get_rank() == 0:
        path.with_suffix(".done").write_bytes(pickle.dumps(row))


def rank_of(problem, ranks: int) -> dict[str, int]:
    """Communities in turn over all ranks, since their kinds repeat; operators on rank 0."""
    uppers = {coupling.upper for coupling in problem.couplings}
    below = [name for name in problem.programs if name not in uppers]
    return {name: 0 for name in uppers} | {name: (i // 10 + i) % ranks for i, name in enumerate(below)}


if __name__ == "__main__":
    main(Path(sys.argv[1]))
