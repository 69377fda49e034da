"""Couplings: which boundary quantities two agents must agree on, and where each entry lies.

The whole problem's boundary is one flat array of ``n`` entries: couplings in the order given, in
each its quantities, in each its periods. A :class:`Layout` maps between that array and the agents.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np

from admm.errors import InputError
from admm.interfaces import AgentBoundary
from admm.values import is_finite, is_name, is_whole

SMALLEST_SCALE, LARGEST_SCALE = 1e-12, 1e12
"""Squares and ratios of scales inside these stay far from where numbers overflow."""
MOST_PERIODS = 1_000_000
"""A year by the half minute; arrays of a length that is a mistake are not made."""


@dataclass(frozen=True)
class Quantity:
    """One boundary quantity of a coupling, one value a period.

    scale: a nominal size, in `unit`. price_scale: a nominal price, in EUR per unit and period.
    Both only steer the algorithm and its tolerances; they do not change the optimum.
    """

    name: str
    periods: int
    unit: str = "MW"
    scale: float = 1.0
    price_scale: float = 50.0

    def __post_init__(self) -> None:
        if not is_name(self.name) or not isinstance(self.unit, str):
            raise InputError(
                f"quantity {self.name!r}: name and unit are {self.name!r} and {self.unit!r}, expected text"
            )
        object.__setattr__(self, "name", str(self.name))
        if not is_whole(self.periods) or not 1 <= self.periods <= MOST_PERIODS:
            raise InputError(
                f"quantity '{self.name}': periods is {self.periods!r}, "
                f"expected a whole number of at least 1 and at most {MOST_PERIODS}"
            )
        for key in ("scale", "price_scale"):
            value = getattr(self, key)
            if not is_finite(value) or value <= 0:
                raise InputError(f"quantity '{self.name}': {key} is {value!r}, expected a finite number above 0")
            if not SMALLEST_SCALE <= value <= LARGEST_SCALE:
                raise InputError(
                    f"quantity '{self.name}': {key} is {value!r}, expected a nominal size between "
                    f"{SMALLEST_SCALE:g} and {LARGEST_SCALE:g}; choose another unit"
                )
            object.__setattr__(self, key, float(value))  # an array of one number could change later
        object.__setattr__(self, "periods", int(self.periods))


@dataclass(frozen=True)
class Coupling:
    """Two agents and the quantities on which they must agree.

    Signs: what the lower agent takes from the upper one is positive; the price is what the lower
    agent pays the upper one for it.
    """

    name: str
    lower: str
    upper: str
    quantities: tuple[Quantity, ...]

    def __init__(self, name: str, lower: str, upper: str, quantities: Iterable[Quantity]) -> None:
        for key, value in (("name", name), ("lower", lower), ("upper", upper)):
            if not is_name(value):
                raise InputError(f"coupling {name!r}: {key} is {value!r}, expected a name")
        quantities = tuple(quantities) if isinstance(quantities, Iterable) else (quantities,)
        for quantity in quantities:
            if not isinstance(quantity, Quantity):
                raise InputError(f"coupling '{name}': quantities holds {quantity!r}, expected admm.Quantity objects")
        if lower == upper:
            raise InputError(f"coupling '{name}': lower and upper are both '{lower}', expected two agents")
        if not quantities:
            raise InputError(f"coupling '{name}': has no quantities, expected at least one")
        names = [quantity.name for quantity in quantities]
        if len(set(names)) != len(names):
            raise InputError(f"coupling '{name}': two quantities have the same name among {names}")
        for key, value in (("name", name), ("lower", lower), ("upper", upper), ("quantities", quantities)):
            object.__setattr__(self, key, value)

    @property
    def size(self) -> int:
        return sum(quantity.periods for quantity in self.quantities)


@dataclass(frozen=True)
class Block:
    """One quantity of one coupling in the flat array."""

    coupling: Coupling
    quantity: Quantity
    entries: slice


class Layout:
    """Positions of every boundary entry.

    size: number of entries n. scale, price_scale: shape (n,). blocks: one a coupling's quantity.
    """

    def __init__(self, couplings: Sequence[Coupling]) -> None:
        if not couplings:
            raise InputError("there are no couplings: expected at least one")
        for name, count in Counter(coupling.name for coupling in couplings).items():
            if count > 1:
                raise InputError(f"two couplings are called '{name}': give each its own name")
        self.couplings = tuple(couplings)
        self.blocks: list[Block] = []
        for coupling in self.couplings:
            for quantity in coupling.quantities:
                start = self.blocks[-1].entries.stop if self.blocks else 0
                self.blocks.append(Block(coupling, quantity, slice(start, start + quantity.periods)))
        self.size = self.blocks[-1].entries.stop
        self.scale = self._spread(lambda block: block.quantity.scale)
        self.price_scale = self._spread(lambda block: block.quantity.price_scale)
        self.agents = tuple(dict.fromkeys(n for c in self.couplings for n in (c.lower, c.upper)))
        mine: dict[str, list[Block]] = {name: [] for name in self.agents}
        for block in self.blocks:
            for name in (block.coupling.lower, block.coupling.upper):
                mine[name].append(block)
        self._boundary = {name: self._boundary_of(name, blocks) for name, blocks in mine.items()}
        self._entries = {name: _entries_of(blocks) for name, blocks in mine.items()}

    def _spread(self, value) -> np.ndarray:
        return np.concatenate([np.full(b.quantity.periods, float(value(b))) for b in self.blocks])

    def entries(self, agent: str) -> np.ndarray:
        """Positions of the agent's entries in the flat array, shape (n of the agent,)."""
        return self._entries[agent]

    def boundary(self, agent: str) -> AgentBoundary:
        """What the agent is told of its own entries."""
        return self._boundary[agent]

    def _boundary_of(self, agent: str, blocks: Sequence[Block]) -> AgentBoundary:
        at = _entries_of(blocks)
        sign = [np.full(b.quantity.periods, 1.0 if b.coupling.lower == agent else -1.0) for b in blocks]
        return AgentBoundary(
            keys=tuple((b.coupling.name, b.quantity.name, b.quantity.periods) for b in blocks),
            scale=self.scale[at],
            price_scale=self.price_scale[at],
            sign=np.concatenate(sign),
        )

    def quantity_groups(self) -> dict[str, np.ndarray]:
        """Entries by quantity name, over all couplings: {name: positions}."""
        groups: dict[str, list[np.ndarray]] = {}
        for block in self.blocks:
            groups.setdefault(block.quantity.name, []).append(np.arange(block.entries.start, block.entries.stop))
        return {name: np.concatenate(parts) for name, parts in groups.items()}


def _entries_of(blocks: Sequence[Block]) -> np.ndarray:
    """Positions of an agent's blocks in the flat array."""
    return np.concatenate([np.arange(b.entries.start, b.entries.stop) for b in blocks])
