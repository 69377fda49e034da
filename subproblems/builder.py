"""Named blocks of variables and rows, put together to one QuadraticProgram.

A term of a row block is (block of variables, coefficient). A scalar or a vector coefficient goes on
the diagonal (entry t of the rows sees entry t of the variables); a matrix is taken as it stands.

    builder = Builder("shop")
    charge = builder.variable("battery.charge_kw", 24, lower=0, upper=50, unit="kW", scale=50)
    energy = builder.variable("battery.energy_kwh", 24, lower=0, upper=100, unit="kWh", scale=100)
    builder.rows("battery: energy balance", [(energy, 1), (energy, -previous(24)), (charge, -0.95)], first, first)
"""

from __future__ import annotations

import difflib
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import scipy.sparse as sp

from admm import InputError
from subproblems.ev_error import Stays, as_announced
from subproblems.quadratic_program import Block, QuadraticProgram

Coefficient = Any
Term = tuple[Block, Coefficient]


def previous(length: int) -> sp.csr_matrix:
    """The matrix that takes entry t - 1 for entry t and nothing for the first, shape (length, length)."""
    return sp.eye_array(length, k=-1, format="csr")


class Builder:
    """Collects one agent's variables, rows, costs and boundary; `build` makes the program.

    Names must be unique. Units are those of the names; a variable's `scale` is its nominal size.
    initial_states: {name of a state's block: its value before the first period}, where it is not the devices' own.
    stays: the errors of stays, asked for fleet/class. times: the start of each period, for messages.
    Raises InputError where one of these values is not finite.
    """

    def __init__(
        self,
        name: str,
        initial_states: Mapping[str, float] | None = None,
        stays: Stays | None = None,
        times: Sequence[str] = (),
    ) -> None:
        self.times = tuple(times)
        self.name, self.stays = name, stays or as_announced
        self._initial_states = dict(initial_states or {})
        self._states: list[str] = []
        for state, value in self._initial_states.items():
            if not math.isfinite(value):
                raise InputError(f"{name}: initial state '{state}' is {value!r}, expected a finite number")
        self.constant = 0.0
        self._variables: dict[str, Block] = {}
        self._rows: dict[str, Block] = {}
        self._scales: list[np.ndarray] = []
        self._linear: list[np.ndarray] = []
        self._bounds: list[tuple[np.ndarray, np.ndarray]] = []
        self._bound_names: dict[str, str] = {}
        self._terms: list[tuple[int, int, Coefficient, int]] = []
        self._row_bounds: list[tuple[np.ndarray, np.ndarray, np.ndarray]] = []
        self._quadratic: list[tuple[int, int, sp.coo_array]] = []
        self._boundary: dict[tuple[str, str], np.ndarray] = {}

    def variable(
        self,
        name: str,
        length: int,
        lower: Any = -np.inf,
        upper: Any = np.inf,
        *,
        unit: str,
        scale: Any = 1.0,
        bound_name: str | None = None,
        shown: tuple[str, float] | None = None,
    ) -> Block:
        """Add `length` variables; lower and upper are scalars or arrays (length,).

        bound_name: the words for the bounds in messages, such as "battery: charging power limit". shown: see `Block`.
        """
        if name in self._variables:
            raise InputError(f"{self.name}: two blocks of variables are called '{name}'")
        block = Block(name, self.size, length, unit, shown=shown)
        self._variables[name] = block
        self._bounds.append((self._spread(name, lower, length), self._spread(name, upper, length)))
        self._scales.append(self._spread(name, scale, length))
        self._linear.append(np.zeros(length))
        self._bound_names[name] = bound_name or f"{name}: limits"
        return block

    def initial_state(self, name: str, own: float) -> float:
        """What the state `name` is before the first period: as given to this builder, else the device's own value."""
        self._states.append(name)
        return float(self._initial_states.get(name, own))

    def check_initial_states(self) -> None:
        """Once all devices are added: raises InputError where a value was given for what is no state of theirs."""
        for name in self._initial_states:
            if name not in self._states:
                close = difflib.get_close_matches(name, self._states, n=1)
                known = ", ".join(dict.fromkeys(self._states)) or "none"
                hint = f"did you mean '{close[0]}'?" if close else f"states: {known}"
                raise InputError(f"initial_states: there is no state '{name}'; {hint}")

    def _spread(self, name: str, value: Any, length: int) -> np.ndarray:
        array = np.asarray(value, dtype=float)
        if array.ndim == 0:
            return np.full(length, float(array))
        if array.shape != (length,):
            raise InputError(f"{self.name}: '{name}' got an array of shape {array.shape}, expected {(length,)}")
        return array.copy()

    @property
    def size(self) -> int:
        return sum(block.length for block in self._variables.values())

    def rows(self, name: str, terms: Iterable[Term], lower: Any, upper: Any, *, scale: Any = 1.0) -> Block:
        """Add lower <= sum of terms <= upper. scale: nominal size of the rows' value, in their unit."""
        if name in self._rows:
            raise InputError(f"{self.name}: two blocks of rows are called '{name}'")
        terms = list(terms)
        length = max(_rows_of(block, coefficient) for block, coefficient in terms)
        block = Block(name, sum(b.length for b in self._rows.values()), length)
        self._rows[name] = block
        self._terms += [(block.start, of.start, coefficient, length) for of, coefficient in terms]
        bounds = [self._spread(name, value, length) for value in (lower, upper, scale)]
        self._row_bounds.append((bounds[0], bounds[1], bounds[2]))
        return block

    def describe(
        self,
        rows: str,
        fixed: Mapping[str, np.ndarray] | None = None,
        unit: str = "",
        shown: tuple[str, float] | None = None,
        implied: bool = False,
    ) -> None:
        """Say of rows what messages should: see `Block`. fixed: {what has no choice: kW, (length,)}."""
        pairs = tuple((name, tuple(kw.tolist())) for name, kw in (fixed or {}).items())
        self._rows[rows] = replace(self._rows[rows], unit=unit, fixed=pairs, shown=shown, implied=implied)

    def cost(self, block: Block, linear: Any = 0.0, quadratic: Any = 0.0) -> None:
        """Add linear * x + quadratic * x^2 for every entry (EUR per unit, EUR per unit squared)."""
        self._linear[self._index(block)] += self._spread(block.name, linear, block.length)
        weights = 2.0 * self._spread(block.name, quadratic, block.length)
        if weights.any():
            self._quadratic.append((block.start, block.start, sp.coo_array(sp.diags_array(weights))))

    def cost_of_deviation(self, block: Block, quadratic: Any, target: Any) -> None:
        """Add quadratic * (x - target)^2 for every entry."""
        weight, target = (
            self._spread(block.name, quadratic, block.length),
            self._spread(block.name, target, block.length),
        )
        self.cost(block, linear=-2.0 * weight * target, quadratic=weight)
        self.constant += float(weight @ target**2)

    def _index(self, block: Block) -> int:
        return list(self._variables).index(block.name)

    def boundary(self, coupling: str, quantity: str, block: Block) -> None:
        """Say that the block's variables are the boundary values of one quantity, one a period."""
        self._boundary[coupling, quantity] = np.arange(block.start, block.start + block.length)

    def build(self) -> QuadraticProgram:
        """The program; bounds of variables become rows of A after all others."""
        n = self.size
        bounds, bound_rows = self._bound_rows()
        row_bounds = [*self._row_bounds, *bounds]
        lower, upper, scale = (np.concatenate([np.empty(0), *(part[i] for part in row_bounds)]) for i in range(3))
        return QuadraticProgram(
            P=self._hessian(n),
            q=np.concatenate(self._linear),
            A=self._matrix(n, lower.size),
            l=lower,
            u=upper,
            boundary=self._boundary,
            constant=self.constant,
            variables=tuple(self._variables.values()),
            rows=(*self._rows.values(), *bound_rows),
            variable_scale=np.concatenate(self._scales),
            row_scale=scale,
            name=self.name,
            times=self.times,
        )

    def _bounded(self) -> list[tuple[Block, int]]:
        """The blocks of variables that have a bound, each with the number of its first row."""
        start, found = sum(b.length for b in self._rows.values()), []
        for block, (lower, upper) in zip(self._variables.values(), self._bounds, strict=True):
            if np.isfinite(lower).any() or np.isfinite(upper).any():
                found.append((block, start))
                start += block.length
        return found

    def _bound_rows(self) -> tuple[list[tuple[np.ndarray, np.ndarray, np.ndarray]], list[Block]]:
        bounds, rows = [], []
        for block, start in self._bounded():
            index = self._index(block)
            bounds.append((*self._bounds[index], self._scales[index]))
            rows.append(
                Block(self._bound_names[block.name], start, block.length, block.unit, shown=block.shown, bounds=True)
            )
        return bounds, rows

    def _hessian(self, n: int) -> sp.csc_matrix:
        return _assemble([(r, c, m) for r, c, m in self._quadratic], (n, n))

    def _matrix(self, n: int, m: int) -> sp.csc_matrix:
        parts = [(row, column, _as_matrix(coefficient, length)) for row, column, coefficient, length in self._terms]
        parts += [(start, block.start, _as_matrix(1.0, block.length)) for block, start in self._bounded()]
        return _assemble(parts, (m, n))


def _rows_of(block: Block, coefficient: Coefficient) -> int:
    return coefficient.shape[0] if np.ndim(coefficient) == 2 or sp.issparse(coefficient) else block.length


def _as_matrix(coefficient: Coefficient, length: int) -> sp.coo_array:
    if sp.issparse(coefficient) or np.ndim(coefficient) == 2:
        return sp.coo_array(coefficient)
    diagonal = np.broadcast_to(np.asarray(coefficient, dtype=float), (length,))
    at = np.arange(length)
    return sp.coo_array((diagonal, (at, at)), shape=(length, length))


def _assemble(parts: Sequence[tuple[int, int, sp.coo_array]], shape: tuple[int, int]) -> sp.csc_matrix:
    """Put matrices at (row, column) offsets; entries at one place add up."""
    if not parts:
        return sp.csc_matrix(shape)
    rows = np.concatenate([row + part.coords[0] for row, _, part in parts])
    columns = np.concatenate([column + part.coords[1] for _, column, part in parts])
    data = np.concatenate([part.data for _, _, part in parts])
    return sp.csc_matrix((data, (rows, columns)), shape=shape)
