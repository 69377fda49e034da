"""The two sides of the coupling graph, and relays where a graph has no two sides.

Two-block ADMM needs every coupling to join one agent of the first side with one of the second.
`split` colours each connected part of the graph; a coupling that closes an odd cycle is cut in
two by a relay agent, so the loop never has to know.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from admm.couplings import Coupling, Layout
from admm.errors import InputError
from admm.interfaces import AgentBoundary

LOWER_HALF, UPPER_HALF = "/lower", "/upper"
RELAY = "relay:"


@dataclass(frozen=True)
class Sides:
    """first: agents that answer first, in parallel; second: those that answer them.

    couplings: the given ones, with each relayed one in two halves. relays: {relay agent: coupling
    that it stands on}.
    """

    first: tuple[str, ...]
    second: tuple[str, ...]
    couplings: tuple[Coupling, ...]
    relays: dict[str, Coupling]


def split(couplings: Sequence[Coupling], relay_all: bool = False) -> Sides:
    """Find the two sides; with `relay_all`, put a relay on every coupling (general-form consensus)."""
    if not isinstance(couplings, Sequence):
        raise InputError(f"couplings is {type(couplings).__name__}, expected a list of admm.Coupling objects")
    _check_names(couplings)
    relayed = list(couplings) if relay_all else _odd_couplings(couplings)
    relays: dict[str, Coupling] = {}
    expanded: list[Coupling] = []
    for coupling in couplings:
        if coupling not in relayed:
            expanded.append(coupling)
            continue
        relay = RELAY + coupling.name
        relays[relay] = coupling
        expanded.append(Coupling(coupling.name + LOWER_HALF, coupling.lower, relay, coupling.quantities))
        expanded.append(Coupling(coupling.name + UPPER_HALF, relay, coupling.upper, coupling.quantities))
    colour = _colour(expanded)
    first = tuple(name for name, side in colour.items() if side == 0)
    second = tuple(name for name, side in colour.items() if side == 1)
    return Sides(first, second, tuple(expanded), relays)


def given_name(coupling: str) -> str:
    """The name that the user gave to a coupling, from that of one of its halves or its own."""
    return coupling.removesuffix(LOWER_HALF).removesuffix(UPPER_HALF)


def entries_as_given(layout: Layout) -> np.ndarray:
    """(n,): for each entry of the layout one of the couplings as given; the halves of a relayed one have the same."""
    starts: dict[tuple[str, str], int] = {}
    where, size = np.zeros(layout.size, dtype=int), 0
    for block in layout.blocks:
        key = (given_name(block.coupling.name), block.quantity.name)
        if key not in starts:
            starts[key], size = size, size + block.quantity.periods
        where[block.entries] = starts[key] + np.arange(block.quantity.periods)
    return where


def same_on_relays(values: np.ndarray, layout: Layout) -> np.ndarray:
    """Values, (n,), with both halves of every relayed coupling at their mean: a relay has one value and one price."""
    where = entries_as_given(layout)
    return (np.bincount(where, values) / np.bincount(where))[where]


def boundary_as_given(boundary: AgentBoundary) -> AgentBoundary:
    """An agent's boundary under the names of the couplings that the user gave, not of relayed halves."""
    return replace(boundary, keys=tuple((given_name(c), quantity, periods) for c, quantity, periods in boundary.keys))


def _check_names(couplings: Sequence[Coupling]) -> None:
    """Names of relays and of halves are reserved, and names are paths in the output files."""
    for coupling in couplings:
        if not isinstance(coupling, Coupling):
            raise InputError(f"couplings hold {coupling!r}, expected admm.Coupling objects")
        for name in (coupling.name, *(quantity.name for quantity in coupling.quantities)):
            if "/" in name or "\0" in name or name == ".":
                raise InputError(f"coupling '{coupling.name}': '{name}' is not allowed as a name: leave out '/'")
        for agent in (coupling.lower, coupling.upper):
            if agent.startswith(RELAY):
                raise InputError(f"coupling '{coupling.name}': agent '{agent}' starts with the reserved '{RELAY}'")


def _neighbours(couplings: Sequence[Coupling]) -> dict[str, list[str]]:
    found: dict[str, list[str]] = {}
    for coupling in couplings:
        found.setdefault(coupling.lower, []).append(coupling.upper)
        found.setdefault(coupling.upper, []).append(coupling.lower)
    return found


def _walk(neighbours: dict[str, list[str]]) -> list[dict[str, int]]:
    """Breadth-first colouring of each connected part: [{agent: 0 or 1}]."""
    parts, seen = [], set()
    for root in neighbours:
        if root in seen:
            continue
        part, queue = {root: 0}, deque([root])
        while queue:
            agent = queue.popleft()
            for other in neighbours[agent]:
                if other not in part:
                    part[other] = 1 - part[agent]
                    queue.append(other)
        seen |= part.keys()
        parts.append(part)
    return parts


def _odd_couplings(couplings: Sequence[Coupling]) -> list[Coupling]:
    colour = {name: side for part in _walk(_neighbours(couplings)) for name, side in part.items()}
    return [c for c in couplings if colour[c.lower] == colour[c.upper]]


def _colour(couplings: Sequence[Coupling]) -> dict[str, int]:
    """In each connected part, the side of its first coupling's lower agent answers first.

    Relays have to answer second: then the two halves of a relayed coupling have one price.
    """
    colour: dict[str, int] = {}
    for part in _walk(_neighbours(couplings)):
        relay_sides = {side for name, side in part.items() if name.startswith(RELAY)}
        swap = relay_sides == {0}
        colour.update({name: side ^ swap for name, side in part.items()})
    return colour
