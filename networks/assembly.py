"""Variables and rows numbered as grids (periods, elements), put together to one QuadraticProgram.

Where `subproblems.Builder` adds a block at a time, this adds a whole network at a time: 33 nodes x 24
periods x 3 scenarios make some 25,000 rows, and they are numbered and filled by whole arrays. Entries
that are zero are stored all the same, so the pattern does not depend on the numbers.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import scipy.sparse as sp

from subproblems.quadratic_program import Block, QuadraticProgram


class Assembly:
    """Collects variables, rows, costs and proximal terms. Element e, period t stands at e * periods + t."""

    def __init__(self, name: str, periods: int) -> None:
        self.name, self.periods = name, periods
        self._variables: list[Block] = []
        self._rows: list[Block] = []
        self._variable_scale: list[np.ndarray] = []
        self._row_numbers: list[tuple[np.ndarray, np.ndarray, np.ndarray]] = []
        self._entries: list[tuple[np.ndarray, np.ndarray, np.ndarray]] = []
        self._costs: list[tuple[np.ndarray, np.ndarray, np.ndarray]] = []
        self._proximal: list[tuple[np.ndarray, np.ndarray, np.ndarray]] = []

    def variables(self, name: str, elements: int, unit: str, scale: float) -> np.ndarray:
        """Positions of a new block of variables, shape (periods, elements)."""
        start = _end(self._variables)
        self._variables.append(Block(name, start, elements * self.periods, unit))
        self._variable_scale.append(np.full(elements * self.periods, scale))
        return self._grid(start, elements)

    def rows(self, labels: Sequence[str], lower: np.ndarray | float, upper: np.ndarray | float, scale: float) -> np.ndarray:
        """Positions of new rows, shape (periods, elements), one label an element.

        lower, upper: bounds of the rows' values, broadcast to (periods, elements).
        """
        start = _end(self._rows)
        self._rows += [Block(label, start + e * self.periods, self.periods) for e, label in enumerate(labels)]
        shape = (self.periods, len(labels))
        flat = [np.broadcast_to(value, shape).T.ravel().astype(float) for value in (lower, upper, scale)]
        self._row_numbers.append((flat[0], flat[1], flat[2]))
        return self._grid(start, len(labels))

    def _grid(self, start: int, elements: int) -> np.ndarray:
        return start + np.arange(elements)[None, :] * self.periods + np.arange(self.periods)[:, None]

    def put(self, rows: np.ndarray, columns: np.ndarray, values: np.ndarray | float) -> None:
        """Add values at (rows, columns), entry by entry; the three are broadcast together."""
        found = np.broadcast_arrays(rows, columns, np.asarray(values, dtype=float))
        self._entries.append((found[0].ravel(), found[1].ravel(), found[2].ravel()))

    def limit(self, label: str, columns: np.ndarray, lower: np.ndarray | float, upper: np.ndarray | float, scale: float) -> None:
        """Bound one element's variables, shape (periods, 1), by a row each."""
        self.put(self.rows([label], lower, upper, scale), columns, 1.0)

    def cost(self, columns: np.ndarray, linear: np.ndarray | float, quadratic: np.ndarray | float) -> None:
        """Add linear * x + quadratic * x^2 to the cost, EUR."""
        found = np.broadcast_arrays(columns, np.asarray(linear, dtype=float), np.asarray(quadratic, dtype=float))
        self._costs.append((found[0].ravel(), found[1].ravel(), found[2].ravel()))

    def proximal(self, columns: np.ndarray, weight: np.ndarray, center: np.ndarray) -> None:
        """Add 1/2 weight * (x - center)^2 to the solve, not to the cost."""
        found = np.broadcast_arrays(columns, weight, center)
        self._proximal.append((found[0].ravel(), found[1].ravel(), found[2].ravel()))

    def build(self, boundary: Mapping[tuple[str, str], np.ndarray]) -> QuadraticProgram:
        """The program; boundary: {(coupling, quantity): positions (periods,)}."""
        n, m = _end(self._variables), _end(self._rows)
        q, diagonal, weight, center = np.zeros(n), np.zeros(n), np.zeros(n), np.zeros(n)
        for columns, linear, quadratic in self._costs:
            np.add.at(q, columns, linear)
            np.add.at(diagonal, columns, 2.0 * quadratic)
        for columns, weights, centers in self._proximal:
            weight[columns], center[columns] = weights, centers
        rows, columns, values = (np.concatenate([entry[i] for entry in self._entries]) for i in range(3))
        lower, upper, scale = (np.concatenate([numbers[i] for numbers in self._row_numbers]) for i in range(3))
        return QuadraticProgram(
            P=sp.csc_matrix(sp.diags_array(diagonal)),
            q=q,
            A=sp.csc_matrix((values, (rows, columns)), shape=(m, n)),
            l=lower,
            u=upper,
            boundary=boundary,
            variables=tuple(self._variables),
            rows=tuple(self._rows),
            variable_scale=np.concatenate(self._variable_scale),
            row_scale=scale,
            proximal_weight=weight,
            proximal_center=center,
            name=self.name,
        )


def _end(blocks: Sequence[Block]) -> int:
    return blocks[-1].start + blocks[-1].length if blocks else 0
