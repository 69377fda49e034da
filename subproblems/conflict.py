"""The smallest set of constraints that contradict each other, found by a linear program and said in numbers.

Farkas: no point satisfies l <= Ax <= u if there are weights y with A'y = 0 and u'y+ - l'y- < 0. Every vertex of the set
of such weights names an irreducible conflict: without any one of its rows the others can hold (Gleeson and Ryan 1990).
So the simplex method on

    minimise sum of w (y+ + y-)   subject to   A'(y+ - y-) = 0,   u'y+ - l'y- = -1,   y+, y- >= 0

ends at an irreducible conflict. What lies inside one period is looked at first, as a conflict of one period is told
in a line; else the weights w are renewed a few times, which makes the conflict shorter.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import numpy as np
import scipy.sparse as sp
from scipy.optimize import linprog

from admm import InfeasibleError
from admm.errors import public_words
from subproblems.infeasibility import explain
from subproblems.quadratic_program import INFINITE, Block, QuadraticProgram

SECONDS = 20.0
"""Time limit of one linear program."""
RENEWALS, FLOOR = 3, 1e-2
"""How often weights are renewed, and the share of the largest multiplier below which all weigh alike."""
INVOLVED = 1e-7
"""Share of the largest multiplier below which a row has no part in the conflict."""
MOST_PARTS = 8
"""Blocks of rows that a message names."""
LEAST_GAP = 1e-7
"""Violation per unit of a row's scale below which limits only touch."""


@dataclass(frozen=True)
class Conflict:
    """Rows of a program that contradict each other. weight: (m,), Farkas multipliers, positive at an upper bound."""

    qp: QuadraticProgram
    weight: np.ndarray

    def public_words(self) -> str:
        """Name the constraints without a number of them."""
        return explain(self.qp, self.weight * _row_scale(self.qp), share=0.0)

    def words(self) -> str:
        """Name the constraints with their numbers and times, for whoever owns them."""
        found = [self._part(block) for block in self.rows]
        told = [words for words, telling in found if telling] or [words for words, _ in found]
        more = f"; and {len(told) - MOST_PARTS} more" if len(told) > MOST_PARTS else ""
        limits = "; ".join(told[:MOST_PARTS])
        return f"{self._when()}these limits cannot hold together: {limits}{more}{self._missing()}{self._again()}"

    @cached_property
    def rows(self) -> list[Block]:
        """Blocks with a part in the conflict: what is fixed first, then by the weight of their rows."""
        touched = [block for block in self.qp.rows if self.weight[block.entries].any()]
        scaled = np.abs(self.weight) * _row_scale(self.qp)
        return sorted(touched, key=lambda block: (not block.fixed, -scaled[block.entries].max()))

    @cached_property
    def periods(self) -> list[int]:
        """All periods that have a row in the conflict."""
        return sorted({period for block in self.rows for period in self._at(block)})

    def _at(self, block: Block) -> list[int]:
        at = np.flatnonzero(self.weight[block.entries])
        return [int(i) if block.periods is None else block.periods[i] for i in at]

    def _when(self) -> str:
        return f"at {self._time(self.periods)} " if len(self.periods) == 1 else ""

    def _time(self, periods: list[int]) -> str:
        first, last = periods[0], periods[-1]
        which = f"period {first}" if first == last else f"periods {first} to {last}"
        if not self.qp.times:
            return which
        times = self.qp.times[first] if first == last else f"{self.qp.times[first]} to {self.qp.times[last]}"
        return f"{times} ({which})"

    def _part(self, block: Block) -> tuple[str, bool]:
        """A block's rows in words, and whether they tell something: that a power is not below 0 does not."""
        at = np.flatnonzero(self.weight[block.entries])
        when = f" from {self._time(self._at(block))}" if len(self.periods) > 1 else ""
        fixed = [f"{name} takes {_range(np.array(kw)[at])} kW" for name, kw in block.fixed if np.any(np.array(kw)[at])]
        if fixed:
            return f"{' and '.join(fixed)} ({block.name}){when}", True
        sides = (at[self.weight[block.entries][at] > 0], at[self.weight[block.entries][at] < 0])
        told = [self._bounds(block, rows, upper) for rows, upper in zip(sides, (True, False), strict=True) if rows.size]
        return f"{block.name}: {' and '.join(words for words, _ in told)}{when}", any(telling for _, telling in told)

    def _bounds(self, block: Block, rows: np.ndarray, upper: bool) -> tuple[str, bool]:
        """Upper or lower bounds of a block's rows, and whether one is not 0."""
        bounds = (self.qp.u if upper else self.qp.l)[block.entries][rows]
        unit, factor = block.shown or (block.unit, 1.0)
        exact = (self.qp.l[block.entries][rows] == self.qp.u[block.entries][rows]).all()
        words = "exactly" if exact else "at most" if upper == (factor > 0) else "at least"
        return f"{words} {_range(bounds * factor)} {unit}".rstrip(), bool(bounds.any())

    def _missing(self) -> str:
        """By how much the limits of one period are apart, where there is a balance to count it in."""
        balance = next((block for block in self.rows if block.fixed), None)
        if balance is None or len(self.periods) != 1:
            return ""
        gap = _gap(self.qp, self.weight) / np.abs(self.weight[balance.entries]).max()
        return f"; {gap:.4g} kW are missing"

    def _again(self) -> str:
        """In how many other periods the same rows contradict each other with the same weights."""
        if len(self.periods) != 1:
            return ""
        others = 0
        for shift in range(-self.periods[0], max(block.length for block in self.rows) - self.periods[0]):
            moved = self._moved(shift)
            if shift and moved is not None and _gap(self.qp, moved) > 0 and _combines_to_nothing(self.qp, moved):
                others += 1
        return f"; the same in {others} more period{'s' * (others > 1)}" if others else ""

    def _moved(self, shift: int) -> np.ndarray | None:
        moved = np.zeros_like(self.weight)
        for block in self.rows:
            (at,) = np.flatnonzero(self.weight[block.entries])
            if not 0 <= at + shift < block.length:
                return None
            moved[block.start + at + shift] = self.weight[block.start + at]
        return moved


def find_conflict(qp: QuadraticProgram) -> Conflict | None:
    """Find rows that contradict each other; None where all can hold together, or it cannot be decided in time."""
    inside, own = _inside_one_period(qp), np.ones(qp.l.size, dtype=bool)
    for block in qp.rows:
        own[block.entries] = not block.implied
    weight = _multipliers(qp, inside & own, np.ones(qp.l.size))
    if weight is None:
        weight = _shortest(qp, own)
    if weight is None and not own.all():
        weight = _shortest(qp, np.ones_like(own))
    return None if weight is None else Conflict(qp, weight)


def limits_that_hold(qp: QuadraticProgram, at: np.ndarray, price: np.ndarray, least_eur: float) -> np.ndarray | None:
    """Find few rows that alone keep price . x at `least_eur`: multipliers per unit of their scale, (m,).

    None where none are found in time.

    Args:
        at: (k,), the variables with a price. price: (k,), EUR per unit.
    """
    if not price.any():
        return np.zeros(qp.l.size)
    sizes = np.ones(at.size) if qp.variable_scale is None else qp.variable_scale[at]
    asked = replace(
        qp,
        A=sp.vstack([qp.A, sp.csc_matrix((price, (np.zeros(at.size, dtype=int), at)), (1, qp.size))], format="csc"),
        l=np.append(qp.l, -INFINITE),
        u=np.append(qp.u, least_eur),
        row_scale=np.append(_row_scale(qp), float(np.abs(price) @ sizes)),
    )
    weight = _multipliers(asked, np.ones(asked.l.size, dtype=bool), np.ones(asked.l.size))
    return None if weight is None else weight[:-1] * _row_scale(qp)


def _shortest(qp: QuadraticProgram, taken: np.ndarray) -> np.ndarray | None:
    """Multipliers of a conflict of few of the taken rows, (m,); None if there is none."""
    found, costs = None, np.ones(qp.l.size)
    for _ in range(1 + RENEWALS):
        renewed = _multipliers(qp, taken, costs)
        if renewed is None:
            break
        found, size = renewed, np.abs(renewed) * _row_scale(qp)
        costs = 1.0 / (size / size.max() + FLOOR)
    return found


def _row_scale(qp: QuadraticProgram) -> np.ndarray:
    return np.ones(qp.l.size) if qp.row_scale is None else qp.row_scale


def _inside_one_period(qp: QuadraticProgram) -> np.ndarray:
    """(m,): whether all variables of a row belong to one period; false where blocks do not say."""
    period = np.full(qp.size, -1.0)
    for block in qp.variables:
        period[block.entries] = np.arange(block.length) if block.periods is None else block.periods
    pattern = sp.csr_matrix(qp.A)
    pattern.eliminate_zeros()
    found = np.zeros(qp.l.size, dtype=bool)
    filled = np.flatnonzero(np.diff(pattern.indptr))
    if filled.size and qp.variables:
        of = period[pattern.indices]
        starts = pattern.indptr[filled]
        found[filled] = np.minimum.reduceat(of, starts) == np.maximum.reduceat(of, starts)
    return found


def _multipliers(qp: QuadraticProgram, taken: np.ndarray, costs: np.ndarray) -> np.ndarray | None:
    """A vertex of the Farkas multipliers of the taken rows, (m,); None if there are none. costs: of a row's, (m,)."""
    if not taken.any():
        return None
    scale, columns, costs = _row_scale(qp)[taken], qp.variable_scale, costs[taken]
    A = sp.csr_matrix(qp.A)[np.flatnonzero(taken)]
    A = sp.diags_array(1 / scale) @ A @ sp.diags_array(np.ones(qp.size) if columns is None else columns)
    lower, upper = qp.l[taken] / scale, qp.u[taken] / scale
    below, above = np.flatnonzero(qp.l[taken] > -INFINITE), np.flatnonzero(qp.u[taken] < INFINITE)
    combined = sp.hstack([A[above].T, -A[below].T])
    gap = np.concatenate([upper[above], -lower[below]])
    found = linprog(
        np.concatenate([costs[above], costs[below]]),
        A_eq=sp.vstack([combined, sp.csr_matrix(gap[None, :])], format="csc"),
        b_eq=np.concatenate([np.zeros(qp.size), [-1.0]]),
        bounds=(0, 1 / LEAST_GAP),
        method="highs-ds",
        options={"time_limit": SECONDS},
    )
    if not found.success:
        return None
    weight = np.zeros(scale.size)
    np.add.at(weight, above, found.x[: above.size])
    np.add.at(weight, below, -found.x[above.size :])
    weight[np.abs(weight) < INVOLVED * np.abs(weight).max()] = 0.0
    every = np.zeros(qp.l.size)
    every[taken] = weight / scale
    return every


def _gap(qp: QuadraticProgram, weight: np.ndarray) -> float:
    """-(u'y+ - l'y-): above 0 in a conflict."""
    above, below = weight > 0, weight < 0
    return -float(qp.u[above] @ weight[above] + qp.l[below] @ weight[below])


def _combines_to_nothing(qp: QuadraticProgram, weight: np.ndarray) -> bool:
    size = np.ones(qp.size) if qp.variable_scale is None else qp.variable_scale
    left, whole = np.abs(qp.A.T @ weight) * size, (np.abs(qp.A).T @ np.abs(weight)) * size
    return bool((left <= 1e-6 * max(1e-300, whole.max())).all())


def _range(values: np.ndarray) -> str:
    """One number, or the least and the greatest."""
    least, most = values.min(), values.max()
    return f"{least + 0.0:.6g}" if most - least <= 1e-9 * max(abs(least), abs(most)) else f"{least:.6g} to {most:.6g}"


def in_numbers(error: InfeasibleError, agents: Mapping[str, Any]) -> InfeasibleError:
    """The error with the numbers of the own agent that has no answer; other ranks are told its names only."""
    for name, agent in agents.items():
        conflict: Conflict | None = getattr(agent, "conflict", None)
        if conflict is not None:
            return InfeasibleError(f"agent '{name}' is infeasible: {conflict.words()}", public=public_words(error))
    return error


def say_own_conflict(agents: Mapping[str, Any]) -> None:
    """Raise InfeasibleError, with numbers, where an own agent has no answer: rank 0 has said no more than names."""
    for name, agent in agents.items():
        conflict: Conflict | None = getattr(agent, "conflict", None)
        if conflict is not None:
            raise in_numbers(InfeasibleError(f"agent '{name}' is infeasible: {conflict.public_words()}"), {name: agent})
