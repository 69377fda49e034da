"""A program is checked when it is made: every mistake is one InputError that names it."""

from __future__ import annotations

import numpy as np
import pytest
import scipy.sparse as sp

from admm import InputError
from subproblems import Builder, QuadraticProgram


def parts(**changes):
    """A correct program of two variables and one row, with some parts replaced."""
    good = {
        "P": sp.csc_matrix(np.diag([1.0, 2.0])),
        "q": np.array([1.0, -1.0]),
        "A": sp.csc_matrix([[1.0, 1.0]]),
        "l": np.array([0.0]),
        "u": np.array([np.inf]),
        "boundary": {("a-b", "p_mw"): np.array([0])},
        "name": "shop",
    }
    return good | changes


WRONG = {
    "short q": ({"q": np.ones(3)}, r"shop: q has shape \(3,\), expected \(2,\)"),
    "NaN in q": ({"q": np.array([1.0, np.nan])}, "q has a value that is not a finite number, at position 1"),
    "words in q": ({"q": ["one", "two"]}, "q is list, expected 2 numbers"),
    "infinite q": ({"q": np.array([np.inf, 0.0])}, "not a finite number, at position 0"),
    "NaN in l": ({"l": np.array([np.nan])}, "l has a value"),
    "wide A": ({"A": sp.csc_matrix((1, 3))}, r"A has shape \(1, 3\), expected \(1, 2\)"),
    "rectangular P": ({"P": sp.csc_matrix((2, 3))}, "expected a square matrix"),
    "crossed bounds": ({"l": np.array([2.0]), "u": np.array([1.0])}, "l is above u in row 0"),
    "non-convex diagonal": ({"P": sp.csc_matrix(np.diag([1.0, -1.0]))}, "not positive semidefinite"),
    "non-convex off the diagonal": ({"P": sp.csc_matrix([[1.0, 2.0], [2.0, 1.0]])}, "not positive semidefinite"),
    "one triangle only": ({"P": sp.csc_matrix([[1.0, 0.5], [0.0, 1.0]])}, "not symmetric"),
    "complex P": ({"P": sp.identity(2, dtype=complex)}, "P is .*, expected a sparse matrix of numbers"),
    "complex list": ({"P": [[1j, 0.0], [0.0, 1j]]}, "P is list, expected a sparse matrix of numbers"),
    "complex q": ({"q": np.ones(2, dtype=complex)}, "q is ndarray, expected 2 numbers"),
    "huge whole number": ({"q": [10**400, 1]}, "q is list, expected 2 numbers"),
    "no constant": ({"constant": None}, "constant is None, expected a finite number"),
    "infinite constant": ({"constant": np.inf}, "constant is inf, expected a finite number"),
    "boundary of rows": ({"boundary": {("a-b", "p_mw"): [[0], [0, 1]]}}, "expected a list of positions"),
    "boundary below": ({"boundary": {("a-b", "p_mw"): np.array([-1])}}, "names position -1, expected 0 to 1"),
    "no boundary": ({"boundary": None}, "boundary is None, expected"),
    "boundary outside": ({"boundary": {("a-b", "p_mw"): np.array([2])}}, "names position 2, expected 0 to 1"),
    "boundary of floats": ({"boundary": {("a-b", "p_mw"): np.array([0.5])}}, "expected a list of positions"),
    "boundary key": ({"boundary": {"p_mw": np.array([0])}}, r"expected \(coupling, quantity\)"),
    "boundary twice": (
        {"boundary": {("a-b", "p_mw"): np.array([0]), ("a-c", "p_mw"): np.array([0])}},
        "stands for two boundary values",
    ),
    "zero scale": ({"variable_scale": np.array([1.0, 0.0])}, "variable_scale has a value that is not above 0"),
}


@pytest.mark.parametrize(("changes", "words"), WRONG.values(), ids=WRONG.keys())
def test_wrong_parts_are_named(changes, words):
    with pytest.raises(InputError, match=words):
        QuadraticProgram(**parts(**changes))


@pytest.mark.parametrize("kind", ["csc", "csr", "bsr", "coo"])
@pytest.mark.parametrize("index", [-1, 2, 2**31 - 1])
def test_indices_that_point_nowhere_never_reach_compiled_code(kind, index):
    """Conversions and factorisations of scipy read and write where such an index says."""
    matrix = sp.csc_matrix([[2.0, 0.5], [0.5, 2.0]]).asformat(kind)
    (matrix.row if kind == "coo" else matrix.indices)[0] = index
    with pytest.raises(InputError, match=r"shop: P is .*ind(ex|ices).*, expected a sparse matrix of numbers"):
        QuadraticProgram(**parts(P=matrix))


@pytest.mark.parametrize(("position", "value"), [(0, 1), (0, -1), (1, 99), (1, -1), (2, 99), (2, -1)])
def test_a_broken_index_pointer_never_reaches_compiled_code(position, value):
    matrix = sp.csc_matrix(np.eye(2))
    matrix.indptr[position] = value
    with pytest.raises(InputError, match="shop: P is "):
        QuadraticProgram(**parts(P=matrix))


@pytest.mark.parametrize("P", [np.zeros((2, 2)), [[1.0, 1.0], [1.0, 1.0]], np.diag([0.0, 3.0])])
def test_semidefinite_is_convex(P):
    assert QuadraticProgram(**parts(P=sp.csc_matrix(P))).size == 2


def test_cost_and_violation_by_hand():
    program = QuadraticProgram(**parts(constant=3.0))
    x = np.array([2.0, -3.0])
    assert program.cost_eur(x) == pytest.approx(0.5 * 4 + 0.5 * 2 * 9 + 2 + 3 + 3)
    assert program.violation(x) == pytest.approx([1.0])


def test_a_program_keeps_its_own_copy():
    q = np.array([1.0, -1.0])
    program = QuadraticProgram(**parts(q=q))
    q[0] = 99.0
    assert program.q[0] == 1.0


def test_builder_puts_terms_bounds_and_costs_where_they_belong():
    builder = Builder("shop")
    first = builder.variable("a.power_kw", 2, lower=0, upper=[1, 2], unit="kW")
    second = builder.variable("b.power_kw", 2, unit="kW")
    builder.rows("balance", [(first, 2.0), (second, np.array([1.0, -1.0]))], 0.0, [5.0, 6.0])
    builder.cost(first, linear=1.0, quadratic=3.0)
    builder.cost_of_deviation(second, 2.0, 1.0)
    program = builder.build()
    expected = [[2, 0, 1, 0], [0, 2, 0, -1], [1, 0, 0, 0], [0, 1, 0, 0]]
    np.testing.assert_array_equal(program.A.toarray(), expected)
    np.testing.assert_array_equal(program.u, [5, 6, 1, 2])
    x = np.array([1.0, 1.0, 2.0, 0.0])
    assert program.cost_eur(x) == pytest.approx(2 * (1 + 3) + 2 * (1 + 1))
    assert program.row_label(3) == "a.power_kw: limits, entry 1"


def test_builder_refuses_a_name_twice_and_a_wrong_length():
    builder = Builder("shop")
    builder.variable("a", 2, unit="kW")
    with pytest.raises(InputError, match="two blocks of variables are called 'a'"):
        builder.variable("a", 2, unit="kW")
    with pytest.raises(InputError, match=r"'b' got an array of shape \(3,\), expected \(2,\)"):
        builder.variable("b", 2, lower=[1, 2, 3], unit="kW")


def test_duplicate_entries_add_up_and_small_curvature_counts():
    doubled = sp.csc_matrix((np.array([1.0, 1.0, 1.0]), np.array([0, 0, 0]), np.array([0, 2, 3])), shape=(1, 2))
    assert QuadraticProgram(**parts(A=doubled)).A.toarray().tolist() == [[2.0, 1.0]]
    with pytest.raises(InputError, match="not positive semidefinite"):
        QuadraticProgram(**parts(P=sp.csc_matrix([[1e6, 1.0], [1.0, -5e-4]])))
    with pytest.raises(InputError, match="no point satisfies"):
        QuadraticProgram(**parts(l=np.array([np.inf])))
