"""What a device shows to the meter that it stands behind."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from subproblems.builder import Term


@dataclass(frozen=True)
class Port:
    """Terms of a device's power, in kW; each term is a block of one variable a period and its coefficient.

    consumption, constant_kw: what it takes is the sum of the terms plus the constant, shape (periods,).
    up, down: the terms of how much less and how much more it can take on call.
    nominal_kw: a typical size of what it takes. flexible_kw: a typical size of its flexibility.
    """

    consumption: tuple[Term, ...]
    constant_kw: np.ndarray
    nominal_kw: float
    up: tuple[Term, ...] = ()
    down: tuple[Term, ...] = ()
    flexible_kw: float = 0.0


def join(ports: Sequence[Port]) -> Port:
    """Several ports as one."""
    return Port(
        consumption=tuple(term for port in ports for term in port.consumption),
        constant_kw=np.sum([port.constant_kw for port in ports], axis=0),
        nominal_kw=sum(port.nominal_kw for port in ports),
        up=tuple(term for port in ports for term in port.up),
        down=tuple(term for port in ports for term in port.down),
        flexible_kw=sum(port.flexible_kw for port in ports),
    )
