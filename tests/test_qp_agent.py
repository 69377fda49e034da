"""The guarded agent: right answers by both solvers, and no silent wrong one."""

from __future__ import annotations

import highspy
import numpy as np
import pytest
import scipy.sparse as sp

from admm import AgentBoundary, AnswerStatus, Coupling, InputError, Quantity, Question
from admm.couplings import Layout
from subproblems import Builder, QPAgent, QuadraticProgram
from subproblems.osqp_solver import OsqpSolver
from subproblems.solver import Numbers
from tests.tolerances import SOLVER

SOLVERS = ("osqp", "piqp")
PERIODS = 4
PENALTIES = np.array([1.0, 100.0, 1.0, 1.0])


def boundary(scale: float = 1.0) -> AgentBoundary:
    full = np.full(PERIODS, scale)
    return AgentBoundary((("a-b", "p_mw", PERIODS),), full, np.full(PERIODS, 50.0), np.ones(PERIODS))


def program(energy_mwh: float = 6.0, size: float = 1.0) -> QuadraticProgram:
    """0 <= p <= 3 size, sum p = energy size, cost p^2 / size + t p: the same problem at every size."""
    builder = Builder("boiler")
    p = builder.variable(
        "boiler.p_mw", PERIODS, 0.0, 3.0 * size, unit="MW", scale=size, bound_name="boiler: power limit"
    )
    builder.rows("boiler: energy need", [(p, np.ones((1, PERIODS)))], energy_mwh * size, energy_mwh * size, scale=size)
    builder.cost(p, linear=np.arange(PERIODS, dtype=float), quadratic=1.0 / size)
    builder.boundary("a-b", "p_mw", p)
    return builder.build()


def question(price, reference, penalty, accuracy=1e-7) -> Question:
    spread = lambda value: np.broadcast_to(np.asarray(value, dtype=float), (PERIODS,)).copy()  # noqa: E731
    return Question(1, spread(price), spread(reference), spread(penalty), accuracy)


def by_highs(qp: QuadraticProgram, asked: Question) -> np.ndarray:
    """The same question by HiGHS on matrices put together here."""
    at = qp.boundary["a-b", "p_mw"]
    hessian, q = qp.P.toarray(), qp.q.copy()
    hessian[at, at] += asked.penalty
    q[at] += asked.price - asked.penalty * asked.reference
    highs = highspy.Highs()
    highs.silent()
    highs.addVars(qp.size, np.full(qp.size, -highspy.kHighsInf), np.full(qp.size, highspy.kHighsInf))
    highs.changeColsCost(qp.size, np.arange(qp.size), q)
    rows = sp.csr_matrix(qp.A)
    highs.addRows(rows.shape[0], qp.l, qp.u, rows.nnz, rows.indptr[:-1], rows.indices, rows.data)
    model = highspy.HighsHessian()
    lower = sp.csc_matrix(np.tril(hessian))
    model.dim_, model.start_, model.index_, model.value_ = qp.size, lower.indptr, lower.indices, lower.data
    highs.passHessian(model)
    highs.run()
    return np.array(highs.getSolution().col_value)[at]


@pytest.mark.parametrize("solver", SOLVERS)
@pytest.mark.parametrize("size", [1.0, 1e-3, 40.0])
def test_answers_equal_highs_at_every_size(solver, size):
    qp = program(size=size)
    agent = QPAgent(qp, solver=solver)
    agent.prepare(boundary(size))
    for asked in (
        question(0, 0, 0),
        question([3, 1, 0, -2], size, 7 / size),
        question([3, 1, 0, -2], 2 * size, PENALTIES / size),
    ):
        answer = agent.answer(asked)
        assert answer.status is AnswerStatus.SOLVED
        np.testing.assert_allclose(answer.values, by_highs(qp, asked), atol=10 * SOLVER * size)
        assert answer.cost_eur == pytest.approx(qp.cost_eur(agent.x))


@pytest.mark.parametrize("solver", SOLVERS)
def test_an_infinite_penalty_is_followed_exactly(solver):
    agent = QPAgent(program(), solver=solver)
    agent.prepare(boundary())
    agent.answer(question(0, 0, 1))
    wish = np.array([0.5, 2.5, 1.0, 2.0])
    np.testing.assert_allclose(agent.answer(question(0, wish, np.inf)).values, wish, atol=SOLVER)
    free = agent.answer(question(0, 0, 0))
    assert np.abs(free.values - wish).max() > 0.1


@pytest.mark.parametrize("solver", SOLVERS)
def test_infeasible_names_the_constraints_in_conflict_and_recovers(solver):
    agent = QPAgent(program(energy_mwh=13.0), solver=solver)
    agent.prepare(boundary())
    answer = agent.answer(question(0, 0, 1))
    assert answer.status is AnswerStatus.INFEASIBLE
    assert "boiler: energy need" in answer.reason
    assert "boiler: power limit (all periods)" in answer.reason
    agent.update(program(energy_mwh=6.0))
    again = agent.answer(question(0, 0, 1))
    assert again.status is AnswerStatus.SOLVED
    assert again.values.sum() == pytest.approx(6.0, abs=10 * SOLVER)


def test_unbounded_is_said():
    builder = Builder("hole")
    builder.boundary("a-b", "p_mw", builder.variable("p_mw", PERIODS, unit="MW"))
    agent = QPAgent(builder.build())
    agent.prepare(boundary())
    answer = agent.answer(question(1.0, 0, 0))
    assert answer.status is not AnswerStatus.SOLVED
    assert "without end" in answer.reason


def test_an_update_keeps_the_pattern():
    agent = QPAgent(program())
    agent.prepare(boundary())
    other = program()
    dense = other.with_numbers(P=other.P + sp.csc_matrix(np.full((PERIODS, PERIODS), 0.1)))
    with pytest.raises(InputError, match="numbers only"):
        agent.update(dense)


def test_a_cost_that_is_not_shared_does_not_leave():
    agent = QPAgent(program(), shares_cost=False)
    agent.prepare(boundary())
    assert agent.answer(question(0, 0, 1)).cost_eur is None


def test_boundaries_that_do_not_fit_are_named():
    agent = QPAgent(program())
    three = AgentBoundary((("a-b", "p_mw", 3),), np.ones(3), np.ones(3), np.ones(3))
    with pytest.raises(InputError, match=r"has 4 positions, expected 3 periods"):
        agent.prepare(three)
    other = AgentBoundary((("a-c", "p_mw", PERIODS),), *[np.ones(PERIODS)] * 3)
    with pytest.raises(InputError, match="belongs to no coupling"):
        agent.prepare(other)


@pytest.mark.parametrize("bad", [{"price": np.ones(3)}, {"reference": np.full(PERIODS, np.nan)}])
def test_questions_that_do_not_fit_are_refused(bad):
    agent = QPAgent(program())
    agent.prepare(boundary())
    parts = {"price": np.zeros(PERIODS), "reference": np.zeros(PERIODS), "penalty": np.ones(PERIODS)} | bad
    with pytest.raises(InputError, match=f"question.{next(iter(bad))}"):
        agent.answer(Question(1, **parts))


def test_strided_arrays_do_not_reach_osqp():
    """OSQP reads raw memory: a strided view must be copied first."""
    wide = np.arange(2.0 * PERIODS)
    strided = wide[::2]
    numbers = Numbers(
        sp.csc_matrix(sp.eye(PERIODS)),
        strided,
        sp.csc_matrix(sp.eye(PERIODS)),
        *np.full((2, PERIODS), [[-99.0], [99.0]]),
    )
    solver = OsqpSolver(numbers)
    solver.solve(numbers, 1e-8)
    np.testing.assert_allclose(solver.solve(numbers, 1e-8).x, -strided, atol=SOLVER)


def test_crossed_bounds_and_nan_never_reach_osqp():
    numbers = Numbers(sp.csc_matrix(sp.eye(2)), np.zeros(2), sp.csc_matrix(sp.eye(2)), np.full(2, -1.0), np.ones(2))
    solver = OsqpSolver(numbers)
    numbers.l[0] = 2.0
    with pytest.raises(ValueError, match="above its upper bound"):
        solver.solve(numbers, 1e-6)
    numbers.l[0], numbers.q[1] = -1.0, np.nan
    with pytest.raises(InputError, match="q has a value"):
        solver.solve(numbers, 1e-6)


@pytest.mark.parametrize("solver", ["osqp", "piqp"])
@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"l": [1e30], "u": [np.inf]}, "row 0 lies between 1e.30 and inf, expected bounds below 1e.20"),
        ({"l": [-np.inf], "u": [-1e25]}, "row 0 lies between -inf and -1e.25"),
        (
            {"l": [1.0], "u": [2.0], "row_scale": [1e-30]},
            "row 0 lies between 1 and 2, expected bounds below 1e.20 times",
        ),
        ({"q": [1e300], "variable_scale": [1e10]}, "q is no longer finite in scaled units"),
        ({"P": sp.csc_matrix([[1e300]]), "variable_scale": [1e10]}, "P is no longer finite"),
    ],
)
def test_numbers_that_a_solver_would_take_for_none_are_refused(solver, changes, words):
    good = {"P": sp.identity(1), "q": [0.0], "A": sp.identity(1), "l": [0.0], "u": [1.0], "name": "shop"}
    shop = QPAgent(QuadraticProgram(**good | changes, boundary={("a-b", "p_mw"): np.array([0])}), solver=solver)
    with pytest.raises(InputError, match=f"shop: {words}"):
        shop.prepare(Layout([Coupling("a-b", "a", "b", [Quantity("p_mw", 1)])]).boundary("a"))


def test_an_update_may_not_move_the_boundary():
    agent = QPAgent(program())
    agent.prepare(boundary())
    moved = program().with_numbers(boundary={("a-b", "p_mw"): np.array([1, 0, 2, 3])})
    with pytest.raises(InputError, match="may not move the boundary"):
        agent.update(moved)
