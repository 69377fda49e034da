"""Ctrl-C and SIGTERM while the command line runs: the run ends after the iteration, so that its state is whole."""

from __future__ import annotations

import signal
import sys
from types import FrameType

WORDS = "tieline: ends after this iteration, with a checkpoint (Ctrl-C again: at once)"


class Interrupts:
    """While in this context, a first signal is only noted (`asked`); a second Ctrl-C is a KeyboardInterrupt as ever."""

    def __init__(self) -> None:
        self.asked = False

    def __enter__(self) -> Interrupts:
        self._before = {number: signal.signal(number, self._note) for number in (signal.SIGINT, signal.SIGTERM)}
        return self

    def _note(self, number: int, frame: FrameType | None) -> None:
        if self.asked and number == signal.SIGINT:
            raise KeyboardInterrupt
        if not self.asked:
            print(WORDS, file=sys.stderr, flush=True)
        self.asked = True

    def __exit__(self, *_: object) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)
