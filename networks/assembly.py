"""Variables and rows numbered as grids (periods, elements), put together to one QuadraticProgram.

Where `subproblems.Builder` adds a block at a time, this adds a whole network at a time, and dense blocks.
Entries that are zero are stored all the same, so the pattern does not depend on the numbers.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import scipy.sparse as sp

from subproblems.quadratic_program import Block, QuadraticProgram


class Columns:
    """The variables of a program, one block of `periods` each; made once, used by every assembly."""

    def __init__(self, periods: int) -> None:
        self.periods = periods
        self.blocks: list[Block] = []
        self.scales: list[float] = []

    def add(self, name: str, unit: str, scale: float) -> np.ndarray:
        """Positions of a new block of variables, shape (periods,). scale: nominal size, in the unit."""
        start = _end(self.blocks)
        self.blocks.append(Block(name, start, self.periods, unit))
        self.scales.append(scale)
        return start + np.arange(self.periods)

    @property
    def size(self) -> int:
        return _end(self.blocks)


class Assembly:
    """Collects rows and costs over given columns. Element by element, each with its periods."""

    def __init__(self, name: str, columns: Columns) -> None:
        self.name, self.columns, self.constant = name, columns, 0.0
        self._rows: list[Block] = []
        self._bounds: list[tuple[np.ndarray, np.ndarray, np.ndarray]] = []
        self._entries: list[tuple[np.ndarray, np.ndarray, np.ndarray]] = []
        self._linear = np.zeros(columns.size)
        self._quadratic: list[tuple[np.ndarray, np.ndarray, np.ndarray]] = []

    def rows(
        self,
        labels: Sequence[str],
        lower: np.ndarray | float,
        upper: np.ndarray | float,
        scale: float,
        mask: np.ndarray | None = None,
    ) -> np.ndarray:
        """Positions of new rows, shape (periods, elements), one label an element; -1 where mask is false.

        lower, upper: bounds of the rows' values, broadcast to (periods, elements). scale: their nominal size.
        """
        shape, start = (self.columns.periods, len(labels)), _end(self._rows)
        wanted = (np.ones(shape, dtype=bool) if mask is None else mask).T
        counts = wanted.sum(axis=1).tolist()
        for element in np.flatnonzero(counts):  # of thousands of limits few are taken
            taken, count = wanted[element], counts[element]
            periods = tuple(np.flatnonzero(taken).tolist()) if count < taken.size else None
            self._rows.append(Block(labels[element], _end(self._rows), count, periods=periods))
        flat = [np.broadcast_to(value, shape).T[wanted].astype(float) for value in (lower, upper, scale)]
        self._bounds.append((flat[0], flat[1], flat[2]))
        positions = np.full(wanted.shape, -1)
        positions[wanted] = start + np.arange(flat[0].size)
        return positions.T

    def put(self, rows: np.ndarray, columns: np.ndarray, values: np.ndarray | float) -> None:
        """Add values at (rows, columns), entry by entry; the three are broadcast together."""
        self._entries.append(_flat(rows, columns, values))

    def combine(
        self,
        label: str,
        terms: Sequence[tuple[np.ndarray, float]],
        lower: np.ndarray | float,
        upper: np.ndarray | float,
        scale: float,
    ) -> None:
        """lower <= sum of factor * variable <= upper in every period; a term is (positions (periods,), factor).

        lower, upper: a number, or (periods, 1).
        """
        rows = self.rows([label], lower, upper, scale)[:, 0]
        for columns, factor in terms:
            self.put(rows, columns, factor)

    def quadratic_cost(self, columns: np.ndarray, factor: np.ndarray | float) -> None:
        """Add factor * x^2 for each of the variables, factors broadcast to columns, EUR."""
        self._quadratic.append(_flat(columns, columns, 2.0 * factor))

    def linear_cost(self, columns: np.ndarray, factor: np.ndarray | float, constant: float = 0.0) -> None:
        """Add factor * x for each of the variables, factors broadcast to columns, and a constant, EUR."""
        np.add.at(self._linear, columns, np.broadcast_to(factor, columns.shape))
        self.constant += constant

    def curvature(self, columns: np.ndarray, matrix: np.ndarray, linear: np.ndarray, constant: float) -> None:
        """Add 1/2 u' matrix u + linear' u + constant in every period.

        columns: (T, K). matrix: (T, K, K). linear: (T, K). constant: over all periods.
        """
        self._quadratic.append(_flat(columns[:, :, None], columns[:, None, :], matrix))
        np.add.at(self._linear, columns, linear)
        self.constant += constant

    def build(self, boundary: Mapping[tuple[str, str], np.ndarray]) -> QuadraticProgram:
        """The program; boundary: {(coupling, quantity): positions (periods,)}."""
        n, m = self.columns.size, _end(self._rows)
        lower, upper, scale = (np.concatenate([bounds[i] for bounds in self._bounds]) for i in range(3))
        return QuadraticProgram(
            P=_matrix(self._quadratic, (n, n)),
            q=self._linear,
            A=_matrix(self._entries, (m, n)),
            l=lower,
            u=upper,
            boundary=boundary,
            constant=self.constant,
            variables=tuple(self.columns.blocks),
            rows=tuple(self._rows),
            variable_scale=np.repeat(self.columns.scales, self.columns.periods),
            row_scale=scale,
            name=self.name,
        )


def _end(blocks: Sequence[Block]) -> int:
    return blocks[-1].start + blocks[-1].length if blocks else 0


def _flat(
    rows: np.ndarray, columns: np.ndarray, values: np.ndarray | float
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    found = np.broadcast_arrays(rows, columns, np.asarray(values, dtype=float))
    return found[0].ravel(), found[1].ravel(), found[2].ravel()


def _matrix(entries: Sequence[tuple[np.ndarray, np.ndarray, np.ndarray]], shape: tuple[int, int]) -> sp.csc_matrix:
    """Triplets to a matrix; entries at one place add up, zeros stay."""
    if not entries:
        return sp.csc_matrix(shape)
    rows, columns, values = (np.concatenate([entry[i] for entry in entries]) for i in range(3))
    return sp.csc_matrix((values, (rows, columns)), shape=shape)
