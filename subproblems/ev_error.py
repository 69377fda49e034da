"""How a stay of electric vehicles differs from the one of its class in the agent's file."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

from admm import InputError


@dataclass(frozen=True)
class EvError:
    """Of one stay: hours by which arrival is later, the factor on its energy need, and whether both are known."""

    shift_hours: float
    energy_factor: float
    known: bool

    def __post_init__(self) -> None:
        for key, least in (("shift_hours", -math.inf), ("energy_factor", 0.0)):
            value = getattr(self, key)
            if not math.isfinite(value) or value < least:
                floor = "" if math.isinf(least) else f" of at least {least:g}"
                raise InputError(f"error of a stay: {key} is {value!r}, expected a finite number{floor}")


AS_FORECAST = EvError(0.0, 1.0, known=True)
Stays = Callable[[str, float, int], EvError]
"""The error of a stay, from the class's name, its arrival_hour and the day of the stay: 0 for that of the file."""


def as_announced(name: str, arrival_hour: float, day: int) -> EvError:
    return AS_FORECAST
