"""Where the command `tieline` begins: signals are heard before anything that takes time is imported."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence

from admm.interrupts import listen


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command; returns its exit code."""
    _open_streams()
    listen()
    from admm.cli import main as command

    return command(arguments)


def _open_streams() -> None:
    """Put /dev/null in the place of a closed output; else the next file that is opened would get its number."""
    for name in ("stdout", "stderr"):
        if getattr(sys, name) is None:
            setattr(sys, name, open(os.devnull, "w"))  # noqa: SIM115 - for as long as the process lives
