"""How many threads the linear algebra library (BLAS) behind numpy and scipy takes: one.

Agents are solved side by side already. More threads in each of them wait for one another more than they compute, and
how many there are changes the last bits of a result.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager

from admm.errors import InputError

VARIABLE = "TIELINE_BLAS_THREADS"
"""In the environment: how many threads instead."""
MOST_DIGITS = 3
LIBRARIES = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")
"""In the environment: with how many threads a library starts that is not loaded yet."""


def wanted_threads() -> int:
    """One, or what the environment says."""
    text = os.environ.get(VARIABLE) or "1"
    if not text.isdecimal() or len(text) > MOST_DIGITS or int(text) < 1:
        raise InputError(f"{VARIABLE} is '{text[:20]}', expected a whole number from 1 to {10**MOST_DIGITS - 1}")
    return int(text)


def start_with_few() -> None:
    """Before numpy is loaded: libraries start no threads that nobody needs, on a node with many ranks and cores."""
    for variable in LIBRARIES:
        os.environ[variable] = str(wanted_threads())


class _Limit:
    """The number is one of the process: the first run that begins sets it, the last one that ends puts it back."""

    def __init__(self) -> None:
        self._lock, self._runs, self._set = threading.Lock(), 0, None

    @contextmanager
    def held(self) -> Iterator[None]:
        self._begin()
        try:
            yield
        finally:
            self._end()

    def _begin(self) -> None:
        from threadpoolctl import threadpool_limits  # help does without

        threads = wanted_threads()
        with self._lock:
            if not self._runs:
                self._set = threadpool_limits(threads, user_api="blas")
            self._runs += 1

    def _end(self) -> None:
        with self._lock:
            self._runs -= 1
            if not self._runs:
                self._set.restore_original_limits()


few_threads = _Limit().held
"""While this context lasts, BLAS libraries that are loaded have so many threads."""
