"""Why a program has no feasible point, in words: which device, which limit, which periods."""

from __future__ import annotations

import numpy as np

from subproblems.quadratic_program import Block, QuadraticProgram

SHARE = 1e-3
"""Rows whose weight in the certificate is below this share of the largest are left out."""
HELD_SHARE = 0.3
"""The same for rows that hold a program at a price: an optimum has many that hardly matter."""
MOST_BLOCKS = 6


def explain(qp: QuadraticProgram, certificate: np.ndarray, share: float = SHARE) -> str:
    """The constraints in conflict, from a certificate of infeasibility in scaled rows, shape (m,).

    Farkas: weights y on the rows with A'y = 0 and u'y+ - l'y- < 0 prove that no point satisfies all
    rows with a non-zero weight; those rows are in conflict.
    """
    weight = np.abs(certificate)
    if not weight.any():
        return "no point satisfies all constraints"
    if not qp.rows:
        return f"{_named(qp, weight, share)} contradict each other"
    return f"these constraints contradict each other: {_named(qp, weight, share)}"


def held_by(qp: QuadraticProgram, multiplier: np.ndarray) -> str:
    """The constraints that hold a program where prices alone drive it, from its multipliers, (m,), of scaled rows."""
    weight = np.abs(multiplier)
    return _named(qp, weight, HELD_SHARE) if weight.any() else ""


def _named(qp: QuadraticProgram, weight: np.ndarray, share: float) -> str:
    """Rows of weight, the heaviest blocks first."""
    involved = weight > share * weight.max()
    if not qp.rows:
        return f"rows {_ranges(np.flatnonzero(involved))}"
    found = []
    for block in qp.rows:
        at = np.flatnonzero(involved[block.entries])
        if at.size:
            found.append((weight[block.entries].max(), f"{block.name} ({_periods(at, block)})"))
    found.sort(key=lambda pair: -pair[0])
    words = [text for _, text in found[:MOST_BLOCKS]]
    more = f" and {len(found) - MOST_BLOCKS} more" if len(found) > MOST_BLOCKS else ""
    return "; ".join(words) + more


def _periods(at: np.ndarray, block: Block) -> str:
    if block.periods is not None:
        at = np.array(block.periods)[at]
    elif at.size == block.length:
        return "all periods"
    return ("period " if at.size == 1 else "periods ") + _ranges(at)


def _ranges(at: np.ndarray) -> str:
    """Sorted whole numbers as "2-5, 8"."""
    groups = np.split(at, np.flatnonzero(np.diff(at) > 1) + 1)
    return ", ".join(str(g[0]) if g.size == 1 else f"{g[0]}-{g[-1]}" for g in groups)
