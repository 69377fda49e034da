"""What every device is: attributes that are checked, and a way to add itself to an agent's program."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable
from datetime import UTC
from typing import Any

import numpy as np

from admm import InputError
from subproblems.builder import Builder
from subproblems.devices.attributes import Attributes, Name
from subproblems.devices.sizes import largest
from subproblems.horizon import Horizon
from subproblems.port import Port

Resolver = Callable[[str | float], np.ndarray]
"""Gives the values (periods,) of a column by its name, or of a number that holds for all periods."""


class Device(Attributes):
    """Base of all devices. Every subclass has a literal `kind` and a file of its own."""

    name: Name

    @abstractmethod
    def add(self, builder: Builder, horizon: Horizon, series: Resolver, product_periods: int = 1) -> Port:
        """Add variables, rows and costs (EUR) to the builder and return what the meter sees, in kW.

        product_periods: for how many periods in a row awarded flexibility must be deliverable.
        Raises InputError where the attributes do not fit the horizon or a column is out of bounds.
        """

    def values(self, key: str, horizon: Horizon, series: Resolver) -> np.ndarray:
        """The attribute `key` as one value a period, shape (periods,), checked against the attribute's bounds."""
        return series_values(self, key, horizon, series, self.error)

    def error(self, message: str) -> InputError:
        return InputError(f"{self.label} '{self.name}': {message}")


def series_values(
    owner: Attributes, key: str, horizon: Horizon, series: Resolver, refusal: Callable[[str], InputError]
) -> np.ndarray:
    """The owner's attribute `key` as one value a period, shape (periods,), checked against the attribute's bounds.

    refusal: makes the error that is raised from its words.
    """
    given = getattr(owner, key)
    try:
        array = np.array(series(given), dtype=float)
    except InputError as error:
        raise refusal(f"{key}: {error}") from None
    except (TypeError, ValueError):
        raise refusal(f"{key} is {given!r}, which holds something that is not a number") from None
    if array.shape != (horizon.periods,):
        raise refusal(f"{key} is {given!r} with shape {array.shape}, expected {horizon.periods} periods")
    words = _out_of_bounds(owner, key, array, horizon)
    if words:
        raise refusal(words)
    return array


def _out_of_bounds(owner: Attributes, key: str, array: np.ndarray, horizon: Horizon) -> str:
    """The first value that is out of bounds, in words; empty if there is none."""
    extra: dict[str, Any] = type(owner).model_fields[key].json_schema_extra
    most_sensible = largest(extra["unit"])
    least = -most_sensible if extra["ge"] is None else extra["ge"]
    most = most_sensible if extra["le"] is None else extra["le"]
    bad = ~np.isfinite(array) | (array < least) | (array > most)
    if not bad.any():
        return ""
    at = int(np.argmax(bad))
    stamp = horizon.stamps()[at].astimezone(UTC).strftime("%Y-%m-%dT%H:%MZ")
    ends = ((f"at least {least:g}", least), (f"at most {most:g}", most))
    expected = " and ".join(words for words, bound in ends)
    return (
        f"{key} ({getattr(owner, key)!r}) is {array[at]:g} {extra['unit']} at {stamp} (period {at}), "
        f"expected {expected}"
    )
