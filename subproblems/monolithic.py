"""All agents stacked into one QP and solved by Clarabel: the centralised reference.

    minimise    sum_a f_a(x_a)   subject to   l_a <= A_a x_a <= u_a,   y_c - z_c = 0 for every coupling c

It shares no solver with the agents, and the multiplier of y - z = 0 is the price.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
import scipy.sparse as sp

from admm import Coupling, InfeasibleError, SolverError
from admm.couplings import Layout
from admm.state import BoundaryResult
from subproblems.conflict import find_conflict
from subproblems.infeasibility import explain
from subproblems.quadratic_program import INFINITE, Block, QuadraticProgram

GAP_TOLERANCE = 1e-9
CAREFUL: tuple[Mapping[str, float], ...] = ({}, {"max_step_fraction": 0.9}, {"static_regularization_constant": 1e-7})
"""Settings of Clarabel, tried in this order: now and then rounding stops it just before the tolerance."""
FINAL = ("Solved", "PrimalInfeasible", "DualInfeasible")
CONFLICT_AGENTS, CONFLICT_SHARE = 3, 0.1
"""How many agents an infeasible whole is blamed on, and above which share of the largest weight."""


@dataclass(frozen=True)
class MonolithicSolution:
    """objective_eur: sum of all costs. x: {agent: (n_a,)}. price and value: (n,) over the layout's entries,
    EUR per unit and period and in the unit. turnover_eur: sum of |price x value|."""

    objective_eur: float
    x: dict[str, np.ndarray]
    price: np.ndarray
    value: np.ndarray
    layout: Layout

    @property
    def turnover_eur(self) -> float:
        return float(np.abs(self.price * self.value).sum())

    def boundary(self) -> dict[str, dict[str, BoundaryResult]]:
        """In the form of a run's result, both sides equal."""
        found: dict[str, dict[str, BoundaryResult]] = {}
        for block in self.layout.blocks:
            value, price = self.value[block.entries], self.price[block.entries]
            here = BoundaryResult(value, value, price, block.quantity.unit, block.quantity.scale)
            found.setdefault(block.coupling.name, {})[block.quantity.name] = here
        return found


def solve_monolithic(programs: Mapping[str, QuadraticProgram], couplings: Sequence[Coupling]) -> MonolithicSolution:
    """Solve all programs as one. Raises InfeasibleError, with the constraints in conflict, or SolverError."""
    layout = Layout(couplings)
    names = list(programs)
    start = dict(zip(names, np.cumsum([0, *(programs[n].size for n in names)]), strict=False))
    scale = np.concatenate([_scale_of(programs[n], "variable_scale", programs[n].size) for n in names])
    money = float(np.mean(layout.price_scale * layout.scale))
    P = sp.block_diag([programs[n].P for n in names], format="csc")
    q = np.concatenate([programs[n].q for n in names])
    ties = _ties(layout, programs, start, scale.size)
    rows = [sp.diags(1 / _scale_of(programs[n], "row_scale", programs[n].l.size)) @ programs[n].A for n in names]
    A = sp.vstack([sp.block_diag(rows), sp.diags(1 / layout.scale) @ ties], format="csc") @ sp.diags(scale)
    lower, upper = (_stacked_bounds(programs, names, key, layout.size) for key in ("l", "u"))
    numbers = (sp.diags(scale) @ P @ sp.diags(scale) / money, scale * q / money, A, lower, upper)
    try:
        x, multiplier = _clarabel(*numbers, programs)
    except InfeasibleError as error:
        raise _shortest(error, programs, layout, *numbers) from None
    x = scale * x
    split = {n: x[start[n] : start[n] + programs[n].size] for n in names}
    price = multiplier[-layout.size :] * money / layout.scale
    objective = sum(programs[n].cost_eur(split[n]) for n in names)
    return MonolithicSolution(float(objective), split, price, _values(layout, programs, split), layout)


def _scale_of(program: QuadraticProgram, key: str, size: int) -> np.ndarray:
    given = getattr(program, key)
    return np.ones(size) if given is None else given


def _stacked_bounds(programs: Mapping[str, QuadraticProgram], names: list[str], key: str, ties: int) -> np.ndarray:
    parts = [getattr(programs[n], key) / _scale_of(programs[n], "row_scale", programs[n].l.size) for n in names]
    return np.concatenate([*parts, np.zeros(ties)])


def _ties(
    layout: Layout, programs: Mapping[str, QuadraticProgram], start: Mapping[str, int], size: int
) -> sp.csc_matrix:
    """Rows y - z, shape (n, all variables)."""
    rows, columns, data = [], [], []
    for block in layout.blocks:
        for agent, sign in ((block.coupling.lower, 1.0), (block.coupling.upper, -1.0)):
            at = programs[agent].boundary[block.coupling.name, block.quantity.name]
            rows.append(np.arange(block.entries.start, block.entries.stop))
            columns.append(start[agent] + at)
            data.append(np.full(at.size, sign))
    entries = (np.concatenate(data), (np.concatenate(rows), np.concatenate(columns)))
    return sp.csc_matrix(entries, shape=(layout.size, size))


def _values(layout: Layout, programs: Mapping[str, QuadraticProgram], x: Mapping[str, np.ndarray]) -> np.ndarray:
    """The lower agents' boundary values, shape (n,)."""
    keys = [(b.coupling.lower, (b.coupling.name, b.quantity.name)) for b in layout.blocks]
    return np.concatenate([x[agent][programs[agent].boundary[key]] for agent, key in keys])


def _clarabel(
    P: sp.csc_matrix,
    q: np.ndarray,
    A: sp.csc_matrix,
    lower: np.ndarray,
    upper: np.ndarray,
    programs: Mapping[str, QuadraticProgram],
) -> tuple[np.ndarray, np.ndarray]:
    """x and the multipliers of the rows (positive at the upper bound), by Clarabel's conic form Ax + s = b."""
    import clarabel

    equal = np.flatnonzero(lower == upper)
    above = np.flatnonzero((upper < INFINITE) & (lower != upper))
    below = np.flatnonzero((lower > -INFINITE) & (lower != upper))
    rows = sp.csr_matrix(A)
    stacked = sp.vstack([rows[equal], rows[above], -rows[below]], format="csc")
    b = np.concatenate([upper[equal], upper[above], -lower[below]])
    cones = [clarabel.ZeroConeT(equal.size), clarabel.NonnegativeConeT(above.size + below.size)]
    for careful in CAREFUL:
        settings = clarabel.DefaultSettings()
        settings.verbose = False
        settings.tol_gap_abs = settings.tol_gap_rel = settings.tol_feas = GAP_TOLERANCE
        for key, value in careful.items():
            setattr(settings, key, value)
        found = clarabel.DefaultSolver(sp.triu(P, format="csc"), q, stacked, b, cones, settings).solve()
        if str(found.status) in FINAL:
            break
    multiplier = np.zeros(lower.size)
    z = np.asarray(found.z)
    multiplier[equal] = z[: equal.size]
    multiplier[above] += z[equal.size : equal.size + above.size]
    multiplier[below] -= z[equal.size + above.size :]
    _check_status(str(found.status), multiplier, programs)
    return np.asarray(found.x), multiplier


def _check_status(status: str, multiplier: np.ndarray, programs: Mapping[str, QuadraticProgram]) -> None:
    if status == "Solved":
        return
    if "PrimalInfeasible" in status:
        raise InfeasibleError("the whole problem is infeasible: " + _conflict(multiplier, programs))
    raise SolverError(f"the centralised solve ended with status {status}: check scales and bounds of the programs")


def _shortest(
    error: InfeasibleError,
    programs: Mapping[str, QuadraticProgram],
    layout: Layout,
    P: sp.csc_matrix,
    q: np.ndarray,
    A: sp.csc_matrix,
    lower: np.ndarray,
    upper: np.ndarray,
) -> InfeasibleError:
    """The error with an irreducible conflict, where one is found in time: without any row of it the others can hold."""
    rows, variables, height, width = [], [], 0, 0
    for name, program in programs.items():
        rows += [replace(one, start=one.start + height, name=f"{name}: {one.name}") for one in program.rows]
        variables += [replace(one, start=one.start + width) for one in program.variables]
        height, width = height + program.l.size, width + program.size
    for one in layout.blocks:
        size = one.entries.stop - one.entries.start
        rows.append(Block(f"{one.coupling.name}: {one.quantity.name} agrees", height + one.entries.start, size))
    whole = QuadraticProgram(P, q, A, lower, upper, {}, variables=tuple(variables), rows=tuple(rows))
    conflict = find_conflict(whole)
    if conflict is None:
        return error
    told = replace(conflict, weight=np.append(conflict.weight[:height], np.zeros(layout.size)))  # ties say nothing
    return InfeasibleError(f"the whole problem is infeasible: {told.public_words()}")


def _conflict(multiplier: np.ndarray, programs: Mapping[str, QuadraticProgram]) -> str:
    """In words, which constraints of which agents weigh most in the proof of infeasibility."""
    largest, start, found = np.abs(multiplier).max(initial=0.0), 0, []
    for name, program in programs.items():
        part = multiplier[start : start + program.l.size]
        start += program.l.size
        found.append((np.abs(part).max(initial=0.0), f"{name}: {explain(program, part, share=CONFLICT_SHARE)}"))
    found.sort(key=lambda pair: -pair[0])
    return "; ".join(words for weight, words in found[:CONFLICT_AGENTS] if weight > CONFLICT_SHARE * largest)
