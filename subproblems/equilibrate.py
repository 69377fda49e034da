"""Sizes of variables and rows where a program states none: those at which the terms of every row are alike.

A solver's tolerances are absolute in scaled units, so a variable in W beside one in MW needs a size of its own. The
boundary's variables have the scale of their coupling; from there sizes spread along the rows. Curtis and Reid (1972),
"On the automatic scaling of matrices for Gaussian elimination", over all entries of rows with several:

    minimise  sum over entries of (log|a_ij| + log size_j - log row_i)^2,     size_j given at the boundary

Where rows do nothing but convert units and add up, that finds the units exactly.
"""

from __future__ import annotations

import numpy as np
import scipy.sparse as sp
from scipy.sparse.linalg import lsmr

from subproblems.quadratic_program import QuadraticProgram

REACH = 1e12
"""How far from the boundary's largest scale a size may be."""
ACCURACY = 1e-3
"""Of the logarithms: sizes need no more."""


def sizes(
    program: QuadraticProgram, boundary_at: np.ndarray, boundary_scale: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Sizes of the variables, (n,), and of the rows, (m,): the program's own where it states them.

    boundary_at, boundary_scale: positions of the boundary's variables, and their scales.
    """
    nominal = float(boundary_scale.max())
    if program.variable_scale is not None:
        variables = program.variable_scale.copy()
    else:
        variables = np.full(program.size, nominal)
        variables[boundary_at] = boundary_scale
        variables *= np.exp(_changes(abs(program.A), variables, boundary_at))
        variables = np.clip(variables, nominal / REACH, nominal * REACH)
        variables[boundary_at] = boundary_scale
    rows = _largest(program.A, variables, nominal) if program.row_scale is None else program.row_scale.copy()
    return variables, rows


def _changes(A: sp.csc_matrix, variables: np.ndarray, given: np.ndarray) -> np.ndarray:
    """Logarithm of the factor on each variable's size, (n,); 0 where nothing is known."""
    entries = sp.coo_matrix(A)
    several = np.bincount(entries.row[entries.data > 0], minlength=A.shape[0]) > 1  # a bound says nothing of others
    used = (entries.data > 0) & several[entries.row]
    row, column, here = entries.row[used], entries.col[used], np.arange(int(used.sum()))
    loose = np.ones(A.shape[1], dtype=bool)
    loose[given] = False
    ones = np.ones(here.size)
    of_rows = sp.csr_matrix((-ones, (here, row)), (here.size, A.shape[0]))
    of_variables = sp.csr_matrix((ones * loose[column], (here, column)), (here.size, A.shape[1]))
    size = np.log(entries.data[used]) + np.log(variables[column])
    found = lsmr(sp.hstack([of_variables, of_rows]), -size, atol=ACCURACY, btol=ACCURACY, conlim=0.0)[0]
    return found[: A.shape[1]]


def _largest(A: sp.csc_matrix, variables: np.ndarray, nominal: float) -> np.ndarray:
    """Of each row the size of its largest term; the nominal one where it has none."""
    largest = np.zeros(A.shape[0])
    np.maximum.at(largest, A.indices, np.abs(A.data) * np.repeat(variables, np.diff(A.indptr)))
    return np.where(largest == 0, nominal, largest)
