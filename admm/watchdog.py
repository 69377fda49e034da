"""The end of a rank that waits for others where no message can be waited for: while MPI starts, and while it ends."""

from __future__ import annotations

import faulthandler
import os
import threading
from typing import TextIO

from admm.ending import leave
from admm.launch import rank_in_environment

LOST = 75
GRACE_SECONDS = 8.0
"""Beyond the deadline: ranks of a busy machine import for seconds what others have ready."""
BACKSTOP_SECONDS = 1.0
"""So much later a process ends whose threads cannot run, without a word."""
DEADLINE_SECONDS = 600.0


class Watchdog:
    """Ends this process when a phase of its life takes longer than the deadline."""

    def __init__(self) -> None:
        self._timer: threading.Timer | None = None
        self._nowhere: TextIO | None = None

    def watch(self, seconds: float, what: str) -> None:
        """From now on `what` may take so many seconds, and some more; what was watched before is not any more."""
        self.rest()
        rank = rank_in_environment()
        words = (
            f"{'tieline' if rank is None else f'rank {rank}'}: {what} took longer than {seconds:g} s: a rank is lost "
            "or stuck; resume the run from its checkpoint, or raise the deadline"
        )
        self._timer = threading.Timer(seconds + GRACE_SECONDS, leave, (LOST, words))
        self._timer.daemon = True
        self._timer.start()
        self._nowhere = self._nowhere or open(os.devnull, "w")  # noqa: SIM115 - until the process ends
        faulthandler.dump_traceback_later(seconds + GRACE_SECONDS + BACKSTOP_SECONDS, exit=True, file=self._nowhere)

    def rest(self) -> None:
        """Nothing is watched."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
            faulthandler.cancel_dump_traceback_later()


WATCHDOG = Watchdog()
