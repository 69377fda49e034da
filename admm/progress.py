"""What a person sees while a run goes on: one live line on a terminal, a line a second in a file or from a launcher."""

from __future__ import annotations

import sys
import time
from typing import TextIO

from admm.launch import launched_under_mpi
from admm.state import Progress

SECONDS_BETWEEN_LINES = 1.0
REDRAWS_A_SECOND = 10
HEADER = "iteration   primal/tol   dual/tol   mismatch   objective error   objective EUR   seconds   waits for"


def line(progress: Progress) -> str:
    """One iteration in words: ratios of 1 and below have passed."""
    seen = progress.residuals
    objective = "-" if progress.objective_eur is None else f"{progress.objective_eur:.2f}"
    return (
        f"{progress.iteration:9d} {seen.primal / seen.primal_tolerance:12.3g} {seen.dual / seen.dual_tolerance:10.3g} "
        f"{seen.mismatch:10.2e} {seen.objective_error:17.1e} {objective:>15} {progress.seconds:9.1f}   "
        f"{progress.waits_for or '-'}"
    )


class ProgressPrinter:
    """Prints progress to a stream; use as a context manager and call it with each Progress.

    A launcher passes on what ranks print, to a file, too, although Open MPI gives them a terminal: no live line there.
    """

    def __init__(self, stream: TextIO | None = None) -> None:
        self._stream = stream or sys.stdout
        self._live = None
        self._printed = float("-inf")
        self._last: Progress | None = None

    def __enter__(self) -> ProgressPrinter:
        print(HEADER, file=self._stream, flush=True)
        if self._stream.isatty() and not launched_under_mpi():
            from rich.console import Console
            from rich.live import Live

            self._live = Live(
                console=Console(file=self._stream),
                refresh_per_second=REDRAWS_A_SECOND,
                redirect_stderr=sys.stderr.isatty(),  # above the live line; into a file goes what is written to it
            )
            self._live.__enter__()
        return self

    def __call__(self, progress: Progress) -> None:
        self._last = progress
        if self._live is not None:
            from rich.text import Text

            self._live.update(Text(line(progress)))
        elif time.monotonic() - self._printed >= SECONDS_BETWEEN_LINES:
            self._print()

    def _print(self) -> None:
        if self._last is not None:
            print(line(self._last), file=self._stream, flush=True)
            self._printed, self._last = time.monotonic(), None

    def __exit__(self, *error: object) -> None:
        if self._live is not None:
            self._live.__exit__(*error)
        else:
            self._print()
