"""Calls of flexibility: an award of period t, once called, is held through t, t+1, ... t+product_periods-1.

A row that must hold while a call runs comes once for each lag 0 ... product_periods-1; its entry t is about
the call that began in t, seen `lag` periods later. Calls that would outlast the horizon count up to its end.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import scipy.sparse as sp


def lags(periods: int, product_periods: int) -> Iterator[tuple[int, str]]:
    """Every lag with the words that tell its rows apart."""
    for lag in range(min(product_periods, periods)):
        yield lag, f", {lag + 1} periods into a call" if lag else ""


def begin(periods: int, lag: int) -> sp.dia_array:
    """The matrix that takes period t for entry t, shape (periods - lag, periods)."""
    return sp.eye_array(periods - lag, periods)


def later(periods: int, lag: int) -> sp.dia_array:
    """The matrix that takes period t + lag for entry t, shape (periods - lag, periods)."""
    return sp.eye_array(periods - lag, periods, k=lag)


def drift_of_state(keep: np.ndarray, effect: np.ndarray, lag: int) -> np.ndarray:
    """How far a call of 1 kW has moved a state at the end of its period t + lag, shape (periods - lag,).

    keep, effect: shape (periods,). d_0[t] = effect[t], d_k[t] = keep[t+k] d_{k-1}[t] + effect[t+k].
    """
    moved = effect
    for k in range(1, lag + 1):
        moved = keep[k:] * moved[: keep.size - k] + effect[k:]
    return moved
