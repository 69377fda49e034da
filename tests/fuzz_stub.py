"""A worker of `benchmarks.fuzz` with a subject that does everything that no input may bring about."""

from __future__ import annotations

import os
import signal
import sys
import time
from pathlib import Path
from random import Random

import admm
from benchmarks.fuzz_checks import Fault, ended
from benchmarks.fuzz_subjects import SUBJECTS, Entry, draw_for
from benchmarks.fuzz_worker import work

SEED = 3


class Stub:
    """Case 0 is taken, 6 is refused; in between all goes wrong."""

    def __init__(self, _: Path) -> None:
        self._numbers = {draw_for(SEED, "stub", number).random(): number for number in range(7)}

    def attempt(self, draw: Random) -> str:
        number = self._numbers[draw.random()]
        (lambda: None, _half, _divide, _crash, lambda: os.write(2, b"printed by C"), _hang, lambda: None)[number]()
        return ended(_refuse) if number == 6 else "result"


def _half() -> None:
    raise Fault("half a file")


def _divide() -> float:
    return 1 / 0


def _crash() -> None:
    os.kill(os.getpid(), signal.SIGSEGV)


def _hang() -> None:
    time.sleep(60)


def _refuse() -> None:
    raise admm.InputError("no")


if __name__ == "__main__":
    SUBJECTS["stub"] = Entry(1.0, Stub, "nothing")
    work(sys.argv[1], int(sys.argv[2]), int(sys.argv[3]), int(sys.argv[4]), Path(sys.argv[5]), int(sys.argv[6]))
