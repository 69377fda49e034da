"""What counts as a number, a whole number, a name in what users give."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

LARGEST_WHOLE = 2**63
"""From here on numpy takes whole numbers for objects."""


def is_number(value: Any) -> bool:
    """A real number that numpy can hold, nan and infinite ones among them; no truth value, no text."""
    if isinstance(value, np.ndarray) and value.ndim == 0:
        value = value[()]
    if isinstance(value, int):
        return not isinstance(value, bool) and abs(value) < LARGEST_WHOLE
    return isinstance(value, float | np.integer | np.floating)


def is_finite(value: Any) -> bool:
    return is_number(value) and math.isfinite(value)


def is_whole(value: Any) -> bool:
    return isinstance(value, int | np.integer) and not isinstance(value, bool)


def is_name(value: Any) -> bool:
    return isinstance(value, str) and bool(value)
