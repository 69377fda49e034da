"""Run under mpirun by test_frozen_mpi: the star goes on without agents whose ranks are lost.

mpirun -n 4 python tests/frozen_program.py PART
"""

from __future__ import annotations

import os
import signal
import sys
import tempfile
import time
from collections.abc import Callable
from itertools import pairwise
from typing import Any

import admm
from admm.mpi import MpiTransport, abort_on_exception, world
from admm.resume import Checkpoints
from admm.wire import Message
from tests.mpi_program import report
from tests.small_problems import star

DEADLINE_SECONDS = 1.5
STRIKES_AT, LASTS_ITERATIONS = 4, 12
BACK_SECONDS, WAITS_SECONDS = 2.0 * DEADLINE_SECONDS, 2.0 * DEADLINE_SECONDS
"""When a late agent comes back, and for how long its rank would then wait for rank 0."""
PLACES = {"s": 0, "a": 1, "b": 2, "c": 3}
LOST_CODE = 75

comm = world()


class Struck:
    """Another agent, to which something happens before its answer in one iteration, or when it is saved after it."""

    def __init__(self, agent: admm.Agent, strike: Callable[[], Any], saving: bool) -> None:
        self._agent, self._strike, self._saving, self._iteration = agent, strike, saving, 0
        self.prepare, self.solution = agent.prepare, agent.solution

    def answer(self, question: admm.Question) -> admm.Answer:
        self._iteration = question.iteration
        if self._iteration == STRIKES_AT and not self._saving:
            self._strike()
        return self._agent.answer(question)

    def snapshot(self) -> None:
        if self._iteration == STRIKES_AT and self._saving:
            self._strike()


def stops() -> None:
    os.kill(os.getpid(), signal.SIGSTOP)


def dies() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def comes_late() -> None:
    time.sleep(BACK_SECONDS)


def run(
    strikes: dict[str, Callable[[], Any]],
    kept: Checkpoints | None = None,
    saving: bool = False,
    lasts_seconds: float = 0.0,
) -> None:
    """Go on for a while; on rank 0, report what came of it and end all ranks."""
    comm.Barrier()  # ranks take their time to start
    transport, problem, began = MpiTransport(comm, DEADLINE_SECONDS), star(), time.perf_counter()
    own = {name: problem.agents[name]() for name, rank in PLACES.items() if rank == comm.rank}
    own = {
        name: Struck(agent, strikes[name], saving=saving) if name in strikes else agent for name, agent in own.items()
    }
    seconds: list[float] = []

    def last(progress: admm.Progress) -> bool:
        time.sleep(1e-3)
        seconds.append(time.perf_counter() - began)
        return progress.iteration >= LASTS_ITERATIONS and seconds[-1] >= lasts_seconds

    slow = {"penalty": "classical:1e-3", "acceleration": "none", "max_iterations": 10**6}
    settings = admm.Settings(**slow, on_lost_agent="freeze", callback=last)
    result = admm.solve(own, problem.couplings, settings, transport, kept)
    words = transport.gather_text(f"rank {comm.rank}")
    if comm.rank == 0:
        longest = max(after - before for before, after in pairwise(seconds))
        report([result.status.name, result.lost_agents, longest, words])
        transport.end_all(LOST_CODE)


def several() -> None:
    """Two ranks are lost in the same iteration; one of them was only late, and comes back while the run goes on for
    longer than that rank would wait for rank 0."""
    run({"a": stops, "b": comes_late}, lasts_seconds=BACK_SECONDS + WAITS_SECONDS + 0.5)


def killed() -> None:
    run({"a": dies})


def saved() -> None:
    """A rank is lost while it saves its agents' state."""
    with tempfile.TemporaryDirectory() as folder:
        run({"a": stops}, Checkpoints(folder, every_seconds=1e-9), saving=True)


def twice() -> None:
    """From some answer on, a rank sends everything twice."""
    sound = MpiTransport._post

    def post(self: MpiTransport, rank: int, message: Message) -> None:
        sound(self, rank, message)
        sound(self, rank, message)

    run({"a": lambda: setattr(MpiTransport, "_post", post)})


def operator() -> None:
    PLACES.update(s=1, a=0)
    run({"s": stops})


if __name__ == "__main__":
    with abort_on_exception(comm):
        {part.__name__: part for part in (several, killed, saved, twice, operator)}[sys.argv[1]]()
