"""What has to be done before this process ends, however it ends; all but SIGKILL come through here."""

from __future__ import annotations

import contextlib
import os
import sys
import time
from collections.abc import Callable, Iterator
from typing import NoReturn

from admm.errors import write_line
from admm.launch import launched_under_mpi, tell_launcher

FORWARDING_SECONDS = 0.2
"""Left to the launcher to pass on the last words: what it has not read when a rank aborts is lost."""

_duties: list[Callable[[], None]] = []


@contextlib.contextmanager
def duty(done: Callable[[], None], left: Callable[[], None] | None = None) -> Iterator[None]:
    """Call `done` when this context ends; `left`, or `done` without it, when the process leaves in the middle of it."""
    due = left or done
    _duties.append(due)
    try:
        yield
    finally:
        if due in _duties:
            _duties.remove(due)
        done()


def do_duties() -> None:
    """The latest first; none stands in the way of another, and none is done twice."""
    while _duties:
        with contextlib.suppress(Exception):
            _duties.pop()()


def leave(code: int, words: str = "") -> NoReturn:
    """End this process at once, whatever its threads do: say why, do the duties."""
    if words:
        write_line(words)
    do_duties()
    with contextlib.suppress(Exception):
        sys.stdout.flush()
    if launched_under_mpi():
        _unlink_shared_memory()
        time.sleep(FORWARDING_SECONDS)
        tell_launcher(code)
        time.sleep(FORWARDING_SECONDS)
    os._exit(code)


def _unlink_shared_memory() -> None:
    """Nothing is imported for it: the main thread may be stuck in an import, and whoever is not there has no need."""
    module = sys.modules.get("admm.shared_memory")
    with contextlib.suppress(Exception):
        module.unlink_own()
