"""Ctrl-C and SIGTERM while the command line runs.

A run that has begun to iterate ends after the iteration, so that its state is whole. Before that, and after it, there
is nothing to save: the process ends at once, with one line. A thread sees to that where the main thread is in a
library's code and does not hear.
"""

from __future__ import annotations

import os
import signal
import threading
import time
from types import FrameType

from admm.ending import leave
from admm.errors import write_line
from admm.launch import rank_in_environment

ENDS = "ends after this iteration, with a checkpoint"
WORDS = f"tieline: {ENDS} (Ctrl-C again: at once)"
EXIT_CODE = 130
NAMES = {signal.SIGINT: "Ctrl-C", signal.SIGTERM: "SIGTERM"}
NOTHING = "nothing is under way that could be saved"
OVER = "after the last iteration; results are not complete, --resume goes on from the last checkpoint, if there is one"
MAIN_THREAD_SECONDS = 1.0
"""Left to the main thread to hear a signal itself."""
RANK_0_SECONDS = 1.0
"""Left to rank 0, which most often hears the same, to end all ranks."""


class Interrupts:
    """While in this context, a first signal is only noted (`asked`); a second Ctrl-C is a KeyboardInterrupt as ever.

    begun: whether there is something to save; until it is set a signal ends the process at once, as outside.
    quiet: of a rank that does not drive: it passes on what it hears. ended: whether one that had begun is over.
    """

    ended = False

    def __init__(self, begun: bool = True, quiet: bool = False) -> None:
        self.asked, self.begun, self._quiet = False, begun, quiet

    def __enter__(self) -> Interrupts:
        Interrupts.ended = False
        self._before = {number: signal.signal(number, self._note) for number in NAMES}
        return self

    def _note(self, number: int, frame: FrameType | None) -> None:
        if not self.begun:
            end_at_once(number, frame)
        if self.asked and number == signal.SIGINT:
            raise KeyboardInterrupt
        if not self.asked and not self._quiet:
            write_line(WORDS)
        self.asked = True

    def __exit__(self, *_: object) -> None:
        """A launcher that says SIGTERM more than once may not end the run while it writes what it has."""
        Interrupts.ended = self.begun
        listening = self._before[signal.SIGTERM] is end_at_once
        for number, handler in self._before.items():
            again = self.asked and listening and number == signal.SIGTERM
            signal.signal(number, signal.SIG_IGN if again else handler)


def listen() -> None:
    """From now on a signal ends this process with one line. For the command line only."""
    if threading.current_thread() is not threading.main_thread():
        return
    for number in NAMES:
        if signal.getsignal(number) is not signal.SIG_IGN:  # of `nohup`, say
            signal.signal(number, end_at_once)
    reads, writes = os.pipe()
    os.set_blocking(writes, False)
    signal.set_wakeup_fd(writes, warn_on_full_buffer=False)
    threading.Thread(target=_hear, args=(reads,), name="signals", daemon=True).start()


def end_at_once(number: int, _: FrameType | None) -> None:
    """End this process: nothing is under way that could be saved."""
    if rank_in_environment() not in (0, None):
        time.sleep(RANK_0_SECONDS)
    when = f" {OVER}" if Interrupts.ended else f"; {NOTHING}"
    leave(EXIT_CODE, f"tieline: interrupted by {NAMES[signal.Signals(number)]}{when}")


def _hear(reads: int) -> None:
    """Each signal, also while the main thread is in code that knows of no signals."""
    while True:
        number = os.read(reads, 1)[0]
        if number in NAMES and _ends_at_once(number):
            time.sleep(MAIN_THREAD_SECONDS)
            end_at_once(number, None)


def _ends_at_once(number: int) -> bool:
    handler = signal.getsignal(number)
    noting = getattr(handler, "__self__", None)
    return handler is end_at_once or (isinstance(noting, Interrupts) and not noting.begun)
