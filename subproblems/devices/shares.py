"""Levels of a store as shares of its capacity: where it starts, between what it stays and where it must end."""

from __future__ import annotations

from typing import Protocol

import numpy as np


class HasShares(Protocol):
    """A store with these attributes; end_share None means initial_share."""

    capacity_kwh: float
    initial_share: float
    min_share: float
    max_share: float
    end_share: float | None


def check_shares(store: HasShares) -> None:
    """Raises ValueError unless the store starts and ends between its least and its greatest share."""
    for key in ("initial_share", "end_share"):
        share = getattr(store, key)
        if share is not None and not store.min_share <= share <= store.max_share:
            raise ValueError(
                f"{key} is {share:g}, expected from min_share {store.min_share:g} to max_share {store.max_share:g}"
            )


def level_limits_kwh(store: HasShares, periods: int) -> tuple[np.ndarray, np.ndarray]:
    """Least and greatest energy at the end of each period, each (periods,)."""
    every = np.ones(periods)
    lower = store.min_share * store.capacity_kwh * every
    lower[-1] = store.capacity_kwh * (store.initial_share if store.end_share is None else store.end_share)
    return lower, store.max_share * store.capacity_kwh * every
