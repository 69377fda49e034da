"""Runs `tieline` on a rank that has a case folder of its own, as on another host, and keeps every byte that it sends.

mpirun -n N python tests/apart_run.py FOLDER OUT     rank R reads FOLDER/rank-R/case; what it sends: FOLDER/sent-R.hex
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

from mpi4py import MPI

import admm.mpi
from admm.cli import main


class Watched:
    """A communicator that keeps what is sent over it, a line a message."""

    def __init__(self, comm: MPI.Intracomm, path: Path) -> None:
        self._comm, self._file = comm, path.open("w", encoding="ascii")

    def __getattr__(self, name: str) -> Any:
        """Only what receives or asks: another way to send would be an error here."""
        if name not in ("Get_rank", "Get_size", "Improbe", "Abort"):
            raise AttributeError(f"{name} is not watched")
        return getattr(self._comm, name)

    def Isend(self, buffer: list, **where: int) -> MPI.Request:
        self._file.write(bytes(buffer[0]).hex() + "\n")
        self._file.flush()
        return self._comm.Isend(buffer, **where)


if __name__ == "__main__":
    folder, out, rank = Path(sys.argv[1]), sys.argv[2], MPI.COMM_WORLD.rank
    watched = Watched(MPI.COMM_WORLD, folder / f"sent-{rank}.hex")
    admm.mpi.world = lambda: watched
    raise SystemExit(main(["run", str(folder / f"rank-{rank}" / "case"), "--audit", "--out", out]))
