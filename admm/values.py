"""What counts as a number, a whole number, a name in what users give."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

LARGEST_WHOLE = 2**63
"""From here on numpy takes whole numbers for objects."""
NO_NUMBERS = {"U": "text", "S": "text", "b": "truth values", "c": "complex numbers", "M": "dates", "m": "times"}
"""By kind of an array, what numpy would turn into numbers without a word."""


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


def real_numbers(value: Any) -> np.ndarray:
    """A copy as an array of floats. Raises TypeError or ValueError, which says what was found, where it holds anything
    but real numbers: text that reads like a number, too, truth values, objects, and values that are masked."""
    array = np.asarray(value)
    if np.ma.is_masked(value):
        raise TypeError("masked values")
    if array.dtype.kind not in "fiu":
        raise TypeError(NO_NUMBERS.get(array.dtype.kind, "objects"))
    if isinstance(value, list | tuple) and any(isinstance(one, bool | np.bool_) for one in value):
        raise TypeError("truth values")
    return array.astype(float)


def is_name(value: Any) -> bool:
    return isinstance(value, str) and bool(value)
