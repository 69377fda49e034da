"""Wholes of random programs whose agents' limits are apart by a known amount: planted conflicts, and the other way.

Agents are joined by a tree, some with further couplings that close cycles. Each has a box, devices inside, and a few
random rows, all of which a planted agreement keeps. Some agents next to each other also have a need: a row with one
random direction d of what they share,

    sign . d . (their values)  >=  what it is at the planted agreement + margin / (number of these agents)

Over these agents the left sides of an agreement add up to 0, and so do the planted ones. So for a margin above 0 no
agreement exists, and for one of 0 or less the planted one does: the edge is exact.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import scipy.sparse as sp

import admm
from subproblems import QuadraticProgram
from subproblems.quadratic_program import Block

MOST_PERIODS, ROWS, INSIDE = 6, 3, 2
NEED, DEVICES = "need", "devices"
WIDE = 1.0
"""Half of a box, in scales, is this at least."""


@dataclass(frozen=True)
class Whole:
    """programs: {agent: its program}. needy: agents with a need."""

    programs: Mapping[str, QuadraticProgram]
    couplings: tuple[admm.Coupling, ...]
    needy: tuple[str, ...]


def random_whole(seed: int, margin: float) -> Whole:
    """The whole of a seed; margin: of its needs, in scales, above 0 without an agreement."""
    draw = np.random.default_rng([1384, seed])
    count, periods = int(draw.integers(2, 7)), int(draw.integers(1, MOST_PERIODS + 1))
    ends = [(int(draw.integers(0, i)), i) for i in range(1, count)]
    ends += [pair for pair in _further(count, ends) if draw.random() < 0.3]
    scale, price_scale = float(10 ** draw.uniform(-1, 1)), float(10 ** draw.uniform(0, 2))
    quantity = admm.Quantity("p_mw", periods, scale=scale, price_scale=price_scale)
    couplings = tuple(admm.Coupling(f"a{i}-a{j}", f"a{j}", f"a{i}", [quantity]) for i, j in ends)
    planted = {coupling.name: scale * draw.normal(size=periods) for coupling in couplings}
    needs = _needs(draw, couplings, planted, margin * scale)
    programs = {
        name: _program(draw, name, couplings, planted, scale, price_scale, needs) for name in _agents(couplings)
    }
    return Whole(programs, couplings, tuple(needs))


def _agents(couplings: tuple[admm.Coupling, ...]) -> list[str]:
    return sorted({name for coupling in couplings for name in (coupling.lower, coupling.upper)})


def _further(count: int, ends: list[tuple[int, int]]) -> list[tuple[int, int]]:
    return [(i, j) for j in range(count) for i in range(j) if (i, j) not in ends]


def _needs(
    draw: np.random.Generator,
    couplings: tuple[admm.Coupling, ...],
    planted: Mapping[str, np.ndarray],
    margin: float,
) -> dict[str, tuple[dict[str, np.ndarray], float]]:
    """{agent: ({coupling: signed direction, (periods,)}, least value)} for agents around one, or two, couplings."""
    shared = [coupling for coupling in couplings if "a0" in (coupling.lower, coupling.upper)]
    shared = shared[: int(draw.integers(1, len(shared) + 1))]
    directions: dict[str, dict[str, np.ndarray]] = {}
    for coupling in shared:
        d = np.where(draw.random(planted[coupling.name].size) < 0.7, draw.uniform(0.5, 1.5), 0.0)
        d = d * draw.choice([-1.0, 1.0]) if d.any() else np.ones_like(d)
        directions.setdefault(coupling.lower, {})[coupling.name] = d
        directions.setdefault(coupling.upper, {})[coupling.name] = -d
    return {
        name: (parts, sum(float(d @ planted[key]) for key, d in parts.items()) + margin / len(directions))
        for name, parts in directions.items()
    }


def _program(
    draw: np.random.Generator,
    name: str,
    couplings: tuple[admm.Coupling, ...],
    planted: Mapping[str, np.ndarray],
    scale: float,
    price_scale: float,
    needs: Mapping[str, tuple[dict[str, np.ndarray], float]],
) -> QuadraticProgram:
    own = [coupling.name for coupling in couplings if name in (coupling.lower, coupling.upper)]
    periods = planted[own[0]].size
    at = {key: np.arange(periods) + i * periods for i, key in enumerate(own)}
    inside = scale * draw.normal(size=INSIDE * periods)
    point = np.concatenate([*(planted[key] for key in own), inside])
    box = scale * draw.uniform(WIDE, 3 * WIDE, size=(2, point.size))
    rows = draw.normal(size=(ROWS, point.size)) * (draw.random((ROWS, point.size)) < 0.5)
    room = scale * draw.uniform(0.5, 2.0, size=(2, ROWS))
    A, lower, upper = [np.eye(point.size), rows], [point - box[0], rows @ point - room[0]], [point + box[1]]
    upper.append(rows @ point + room[1])
    blocks = [Block("own limits", 0, point.size), Block(DEVICES, point.size, ROWS)]
    if name in needs:
        parts, least = needs[name]
        row = np.zeros(point.size)
        for key, d in parts.items():
            row[at[key]] = d
        A, lower, upper = [*A, row[None, :]], [*lower, np.array([least])], [*upper, np.array([np.inf])]
        blocks.append(Block(NEED, point.size + ROWS, 1))
    curvature = draw.uniform(0.0, 1.0, point.size) * (draw.random(point.size) < 0.7) * price_scale / scale
    return QuadraticProgram(
        P=sp.diags_array(curvature, format="csc"),
        q=price_scale * draw.normal(size=point.size),
        A=sp.csc_matrix(np.vstack(A)),
        l=np.concatenate(lower),
        u=np.concatenate(upper),
        boundary={(key, "p_mw"): positions for key, positions in at.items()},
        rows=tuple(blocks),
        name=name,
    )
