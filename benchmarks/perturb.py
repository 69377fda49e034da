"""The same problem a day later: errors of load and PV in the communities' and hubs' programs.

The files name no devices, so what is load and what is PV is read off the rows:
load: equality rows that hold the boundary value p_mw and have a right-hand side (the power balance);
PV: a variable, one a period, between 0 and an upper bound that is 0 at night and takes many values by day.
Each entry gets an error of its own, Gaussian, of the given relative standard deviation.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import scipy.sparse as sp

from benchmarks.subjects import Problem, solved_problem
from subproblems import QuadraticProgram

LOAD_ERROR, PV_ERROR = 0.03, 0.06
LEAST_LEVELS = 5
"""Different positive bounds in a day from which a bound is weather and not a timetable."""


def with_errors(problem: Problem, seed: int) -> Problem:
    """The problem with errors, and the optimum that belongs to them. Raises InfeasibleError where there is none."""
    return solved_problem(f"{problem.name}-errors{seed}", perturbed(problem, seed), problem.couplings, seed)


def perturbed(
    problem: Problem, seed: int, load: float = LOAD_ERROR, pv: float = PV_ERROR
) -> dict[str, QuadraticProgram]:
    """The programs with other load and PV at every agent that is nobody's upper side."""
    random = np.random.default_rng(seed)
    uppers = {coupling.upper for coupling in problem.couplings}
    return {
        name: program if name in uppers else _perturbed(program, random, load, pv)
        for name, program in problem.programs.items()
    }


def _perturbed(program: QuadraticProgram, random: np.random.Generator, load: float, pv: float) -> QuadraticProgram:
    lower, upper = program.l.copy(), program.u.copy()
    rows = load_rows(program)
    factor = np.maximum(0.0, 1 + load * random.standard_normal(rows.size))
    lower[rows] *= factor
    upper[rows] *= factor
    for rows in pv_rows(program):
        upper[rows] *= np.maximum(0.0, 1 + pv * random.standard_normal(rows.size))
    return program.with_numbers(l=lower, u=upper)


def load_rows(program: QuadraticProgram) -> np.ndarray:
    """Positions of the power balances' rows."""
    boundary = np.concatenate([at for (_, quantity), at in program.boundary.items() if quantity == "p_mw"])
    touched = np.diff(sp.csr_matrix(program.A[:, boundary]).indptr) > 0
    return np.flatnonzero(touched & (program.l == program.u) & (program.u != 0))


def pv_rows(program: QuadraticProgram) -> Iterator[np.ndarray]:
    """Positions of the rows that bound each PV plant's output, one array of (periods,) a plant."""
    rows = sp.csr_matrix(program.A)
    single = np.flatnonzero(np.diff(rows.indptr) == 1)
    row_of = dict(zip(rows.indices[rows.indptr[single]].tolist(), single.tolist(), strict=True))
    periods = next(iter(program.boundary.values())).size
    boundary = set(np.concatenate(list(program.boundary.values())).tolist())
    for start in range(0, program.size - periods + 1, periods):
        columns = range(start, start + periods)
        if not boundary.isdisjoint(columns) or not row_of.keys() >= set(columns):
            continue
        at = np.array([row_of[column] for column in columns])
        top = program.u[at]
        weather = np.unique(top[top > 0]).size >= LEAST_LEVELS and (top == 0).any() and np.isfinite(top).all()
        if weather and (program.l[at] == 0).all():
            yield at
