"""One rank of `tieline run` with a planted fault: `python -m benchmarks.fault_rank FAULT ITERATION RANK STAMP run ...`.

The fault strikes once, at a rank's first answer in or after an iteration, and leaves the moment in the file STAMP; a
process that finds that file is sound. Faults that a signal from outside brings about only leave their stamp.
"""

from __future__ import annotations

import os
import resource
import signal
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from admm import checkpoint, wire
from admm.interfaces import Answer, Question
from admm.start import main

FAULTS: dict[str, Callable[[Answer], Answer]] = {}
OUTSIDE = ("SIGINT", "SIGTERM")
"""Signals that whoever has launched the run sends to the launcher."""
BETWEEN_RANKS = ("wrong iteration", "twice")
"""Faults of messages."""
LATE_SECONDS, SMALL_FILE_BYTES, LITTLE_MEMORY_BYTES = 600.0, 16384, 64 << 20


def fault(name: str) -> Callable[[Callable[[Answer], Answer]], Callable[[Answer], Answer]]:
    def put(strike: Callable[[Answer], Answer]) -> Callable[[Answer], Answer]:
        FAULTS[name] = strike
        return strike

    return put


@fault("raise")
def _raise(answer: Answer) -> Answer:
    raise RuntimeError("a planted error")


@fault("SIGKILL")
def _kill(answer: Answer) -> Answer:
    os.kill(os.getpid(), signal.SIGKILL)
    return answer


FAULTS["checkpoint damaged"] = _kill  # and whoever has launched the run damages the file


@fault("SIGSTOP")
def _stop(answer: Answer) -> Answer:
    os.kill(os.getpid(), signal.SIGSTOP)
    return answer


@fault("NaN")
def _nan(answer: Answer) -> Answer:
    return replace(answer, values=np.full_like(answer.values, np.nan))


@fault("late")
def _late(answer: Answer) -> Answer:
    time.sleep(LATE_SECONDS)
    return answer


@fault("memory limit")
def _memory(answer: Answer) -> Answer:
    used = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (used + LITTLE_MEMORY_BYTES,) * 2)
    return replace(answer, values=answer.values + 0.0 * np.ones(LITTLE_MEMORY_BYTES).sum())


@fault("disk full")
def _disk(answer: Answer) -> Answer:
    """Files may not grow beyond a small size: writing fails as on a full disk."""
    resource.setrlimit(resource.RLIMIT_FSIZE, (SMALL_FILE_BYTES,) * 2)
    return answer


@fault("wrong iteration")
def _wrong_iteration(answer: Answer) -> Answer:
    sound = wire.answers_message
    wire.answers_message = lambda run, sequence, *rest: sound(run, sequence - 1, *rest)
    return answer


@fault("twice")
def _twice(answer: Answer) -> Answer:
    from admm.mpi import MpiTransport

    sound = MpiTransport._post

    def post(self: MpiTransport, rank: int, message: wire.Message) -> None:
        sound(self, rank, message)
        sound(self, rank, message)

    MpiTransport._post = post
    return answer


@fault("kill while writing the checkpoint")
def _kill_in_write(answer: Answer) -> Answer:
    def write(path: Path, data: bytes, *_: int) -> None:
        path.with_name(f"{path.name}.{os.getpid()}.part").write_bytes(data[: len(data) // 2])
        os.kill(os.getpid(), signal.SIGKILL)

    checkpoint.write_whole = write
    return answer


class Faulty:
    """An agent that is as it was until the fault strikes."""

    def __init__(self, agent: Any, strike: Callable[[Answer], Answer], iteration: int, stamp: Path) -> None:
        self._agent, self._strike, self._iteration, self._stamp = agent, strike, iteration, stamp

    def __getattr__(self, name: str) -> Any:
        return getattr(self._agent, name)

    def answer(self, question: Question) -> Answer:
        answer = self._agent.answer(question)
        if question.iteration < self._iteration or self._stamp.exists():
            return answer
        self._stamp.write_text(repr(time.time()))
        return self._strike(answer)


def plant(name: str, iteration: int, stamp: Path) -> None:
    """Every agent that this process builds for a community is faulty."""
    from networks.case import Case

    build, strike = Case.build_agent, FAULTS.get(name, lambda answer: answer)

    def faulty(self: Case, agent: str, *rest: Any) -> Any:
        built = build(self, agent, *rest)
        return Faulty(built, strike, iteration, stamp) if agent in self.communities else built

    Case.build_agent = faulty


if __name__ == "__main__":
    which, at, victim, stamp, *arguments = sys.argv[1:]
    rank = os.environ.get("PMI_RANK", os.environ.get("OMPI_COMM_WORLD_RANK", "0"))
    if rank == victim:
        plant(which, int(at), Path(stamp))
    sys.exit(main(arguments))
