"""Where the command `tieline` begins: signals are heard before anything that takes time is imported."""

from __future__ import annotations

from collections.abc import Sequence

from admm.interrupts import listen


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command; returns its exit code."""
    listen()
    from admm.cli import main as command

    return command(arguments)
