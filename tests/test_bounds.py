"""Proven bounds: never above the optimum, whatever they were made of, and tight where the solve was exact."""

from __future__ import annotations

from dataclasses import replace
from functools import cache

import cvxpy as cp
import numpy as np
import pytest
import scipy.sparse as sp
from scipy.optimize import linprog

from admm import AnswerStatus, Question
from admm.couplings import Layout
from benchmarks.problem_files import Problem, read_problem
from networks.distribution import DistributionAgent
from subproblems import Builder, QPAgent, QuadraticProgram
from subproblems.bound import safe_bound
from subproblems.box import curvature, outer_box
from subproblems.monolithic import solve_monolithic
from subproblems.osqp_solver import OsqpSolver
from subproblems.solver import Numbers
from tests.test_distribution import ask, boundary_of, operator
from tests.test_qp_agent import boundary, program, question
from tests.tolerances import EXACT, SOLVER

SOLVERS = ("osqp", "piqp")
SHARE_OF_TURNOVER = 1e-6
"""What the bounds of all agents together may lose at the optimal prices."""
BY_HAND = 16.75
"""Optimum of `program` at no price: p = (2.25, 1.75, 1.25, 0.75) MW, where 2 p + t is 4.5 in every period t."""


def random_program(seed: int, n: int = 8) -> tuple[QuadraticProgram, np.ndarray, np.ndarray]:
    """A feasible program without structure, and the bounds of its variables; half of them also curve the cost."""
    rng = np.random.default_rng(seed)
    inside = rng.uniform(-1, 1, n)
    lower, upper = inside - rng.uniform(0, 2, n), inside + rng.uniform(0, 2, n)
    root = rng.standard_normal((n // 2, n)) * (rng.random((n // 2, n)) < 0.4)
    rows = rng.standard_normal((5, n)) * (rng.random((5, n)) < 0.6)
    value, room = rows @ inside, rng.uniform(0, 1, (2, 5))
    ends = np.array([value - room[0], value + room[1]])
    ends[:, 0] = value[0]  # an equality
    ends[0, 1], ends[1, 2] = -np.inf, np.inf
    qp = QuadraticProgram(
        sp.csc_matrix(root.T @ root),
        rng.standard_normal(n),
        sp.csc_matrix(np.vstack([rows, 2.0 * np.eye(n)])),
        np.concatenate([ends[0], 2 * lower]),
        np.concatenate([ends[1], 2 * upper]),
        boundary={("a-b", "p_mw"): np.arange(3)},
        constant=float(rng.standard_normal()),
    )
    return qp, lower, upper


def optimum(qp: QuadraticProgram, price: np.ndarray) -> float:
    """min cost + price . x by Clarabel through cvxpy, from the matrices alone."""
    x = cp.Variable(qp.size)
    value = qp.A @ x
    above, below = np.isfinite(qp.u), np.isfinite(qp.l)
    rows = [value[above] <= qp.u[above], value[below] >= qp.l[below]]
    cost = 0.5 * cp.quad_form(x, cp.psd_wrap(qp.P)) + (qp.q + price) @ x + qp.constant
    problem = cp.Problem(cp.Minimize(cost), rows)
    return problem.solve(solver=cp.CLARABEL)


@pytest.mark.parametrize("seed", range(6))
def test_no_point_and_no_multipliers_prove_too_much(seed):
    qp, _, _ = random_program(seed)
    rng, box = np.random.default_rng(100 + seed), outer_box(qp)
    price = rng.standard_normal(qp.size)
    best = optimum(qp, price)
    for size in 10.0 ** np.arange(-3, 4):
        bound = safe_bound(qp, box, size * rng.standard_normal(qp.size), size * rng.standard_normal(qp.l.size), price)
        assert np.isfinite(bound) and bound <= best + SOLVER


@pytest.mark.parametrize("accuracy", [1e-2, 1e-3, 1e-4, 1e-6])
def test_a_loose_solve_proves_less_never_more(accuracy):
    """What a loose solve reports as its value is wrong to either side; what it proves is not."""
    reported, proven = [], []
    for seed in range(20, 30):
        qp, _, _ = random_program(seed)
        price = np.random.default_rng(seed).standard_normal(qp.size)
        best = optimum(qp, price)
        numbers = Numbers(_upper_with_diagonal(qp.P), qp.q + price, qp.A, qp.l, qp.u)
        found = OsqpSolver(numbers).solve(numbers, accuracy)
        bound = safe_bound(qp, outer_box(qp), found.x, found.y, price)
        reported.append(qp.cost_eur(found.x) + price @ found.x - best)
        proven.append(best - bound)
    assert min(proven) >= -SOLVER
    assert max(proven) <= 300 * accuracy
    if accuracy >= 1e-3:
        assert min(reported) < -SOLVER, "the solves must be loose enough to claim what is false"


def _upper_with_diagonal(P: sp.csc_matrix) -> sp.csc_matrix:
    """The upper triangle in the form that solvers take: every diagonal entry stored."""
    upper = sp.csc_matrix(np.triu(P.toarray()) + np.eye(P.shape[0]))
    upper.sort_indices()
    upper.data[upper.indptr[1:] - 1] -= 1.0
    return upper


@pytest.mark.parametrize("x", [np.zeros(4), np.array([9.0, -3.0, 0.5, 2.0])])
@pytest.mark.parametrize(("need", "expected"), [(-4.5, BY_HAND), (-5.5, 15.75)])
def test_bound_by_hand(x, need, expected):
    """The dual function of `program` by hand: 6 s - sum (s - t)^2 / 4 at the slope s; any x gives the same."""
    qp = program()
    multiplier = np.concatenate([[need], np.full(4, 7.0)])  # of the power limits: what is given does not matter
    bound = safe_bound(qp, outer_box(qp), x, multiplier, np.zeros(4))
    assert bound == pytest.approx(expected, abs=EXACT) and bound <= expected, "rounding must not help"


def test_a_bound_can_be_beaten_by_an_end_of_the_box():
    """At a price of -20 all that the limits allow is wanted; the slope of energy is then the multiplier's business."""
    qp = program()
    price = np.array([-20.0, 20.0, 20.0, -20.0])
    expected = 9.0 + 9.0 + 3 * 3.0 - 20 * 6.0  # p = (3, 0, 0, 3)
    for slope in (0.0, 5.0):
        bound = safe_bound(qp, outer_box(qp), np.zeros(4), np.array([slope, 0, 0, 0, 0]), price)
        assert bound == pytest.approx(expected, abs=EXACT)


def seller(
    prices: tuple[float, float], shares: tuple[float, float] = (1.0, 1.0)
) -> tuple[QuadraticProgram, np.ndarray]:
    """total = a and b by their shares, none of them bounded; cost 1.5 total + total^2 / 4, less what is paid."""
    builder = Builder("seller")
    total, a, b = (builder.variable(name, 1, unit="MW") for name in ("total", "a", "b"))
    builder.rows("balance", [(total, 1.0), (a, -shares[0]), (b, -shares[1])], 0.0, 0.0)
    builder.cost(total, linear=1.5, quadratic=0.25)
    return builder.build(), np.array([0.0, -prices[0], -prices[1]])


@pytest.mark.parametrize(
    ("paid", "shares"), [(4.0, (1.0, 1.0)), (3.2409675022358226, (0.7493395061746735, 0.5728188902281534))]
)
def test_multipliers_are_repaired_where_no_box_helps(paid, shares):
    """At `paid` a MW of total, total = 2 (paid - 1.5). The reduced costs of a and b must be zero; in the
    second case no floating-point multiplier makes them so exactly."""
    qp, price = seller((paid * shares[0], paid * shares[1]), shares)
    box = outer_box(qp)
    assert np.isinf(box.lower).all() and np.isinf(box.upper).all()
    bound = safe_bound(qp, box, np.array([5.1, 2.0, 3.0]), np.array([-paid + 1e-3]), price)
    assert bound == pytest.approx(-((paid - 1.5) ** 2), abs=EXACT)


def test_there_is_no_bound_where_the_cost_falls_without_end():
    qp, price = seller((4.0, 4.5))
    assert safe_bound(qp, outer_box(qp), np.zeros(3), np.array([-4.2]), price) is None
    hole = QuadraticProgram(
        np.zeros((1, 1)), [0.0], np.zeros((1, 1)), [-np.inf], [np.inf], boundary={("a-b", "p_mw"): [0]}
    )
    assert safe_bound(hole, outer_box(hole), np.zeros(1), np.zeros(1), np.ones(1)) is None
    assert safe_bound(hole, outer_box(hole), np.zeros(1), np.zeros(1), np.zeros(1)) == pytest.approx(0.0, abs=EXACT)


def test_a_solver_that_gave_no_numbers_proves_nothing():
    qp = program()
    assert safe_bound(qp, outer_box(qp), np.zeros(4), np.full(5, np.nan), np.zeros(4)) is None


# ---------------------------------------------------------------- boxes


@pytest.mark.parametrize("seed", range(4))
def test_boxes_hold_every_feasible_point(seed):
    """Against the least and the largest value of each variable, by HiGHS; never wider than the given bounds."""
    qp, lower, upper = random_program(seed)
    box, A = outer_box(qp), qp.A.toarray()
    above, below = np.isfinite(qp.u), np.isfinite(qp.l)
    rows, ends = np.vstack([A[above], -A[below]]), np.concatenate([qp.u[above], -qp.l[below]])
    for k in range(qp.size):
        for sign, end in ((1.0, box.lower[k]), (-1.0, box.upper[k])):
            least = linprog(sign * np.eye(qp.size)[k], rows, ends, bounds=(None, None)).fun
            assert sign * end <= least + SOLVER
    assert (box.lower >= lower - EXACT).all() and (box.upper <= upper + EXACT).all()


def test_bounds_travel_along_a_chain_of_rows():
    """y_0 within 0 and 1, y_t = y_{t-1} - 0.5 d_t with d within -2 and 4: y_t within -2 t and 1 + t."""
    n = 6
    builder = Builder("store")
    y, d = builder.variable("y", n, unit="MWh"), builder.variable("d", n, -2.0, 4.0, unit="MW")
    later = sp.eye_array(n, format="csr")[1:]
    earlier = sp.eye_array(n, format="csr")[: n - 1]
    builder.rows("balance", [(y, earlier - later), (d, -0.5 * later)], 0.0, 0.0)
    builder.rows("start", [(y, sp.eye_array(n, format="csr")[:1])], 0.0, 1.0)
    box, t = outer_box(builder.build()), np.arange(n)
    np.testing.assert_allclose(box.lower[:n], -2.0 * t, atol=EXACT)
    np.testing.assert_allclose(box.upper[:n], 1.0 + t, atol=EXACT)


@pytest.mark.parametrize("seed", range(4))
def test_curvature_is_below_the_matrix(seed):
    """On two coupled blocks, a variable by itself, one without cost; in units that differ by a factor of 1000."""
    rng = np.random.default_rng(seed)
    blocks = [rng.standard_normal((k, k)) for k in (3, 4)]
    scale = 10.0 ** rng.uniform(-1.5, 1.5, 9)
    P = sp.block_diag([*(b @ b.T for b in blocks), sp.diags_array([2.0, 0.0])]).toarray() * np.outer(scale, scale)
    found = curvature(sp.csc_matrix(P))
    assert np.linalg.eigvalsh((P - np.diag(found)) / np.outer(scale, scale)).min() >= -EXACT
    assert (found[:7] > 0).all()
    assert found[7] == pytest.approx(2.0 * scale[7] ** 2) and found[8] == 0.0


def test_curvature_makes_an_unbounded_box_enough():
    """1/2 x^2 + x without any bound: -1/2, from a point that is not the minimum."""
    qp = QuadraticProgram(np.eye(1), [1.0], np.zeros((0, 1)), [], [], boundary={("a-b", "p_mw"): [0]})
    box = outer_box(qp)
    assert np.isinf([box.lower, box.upper]).all() and box.curvature == [1.0]
    assert safe_bound(qp, box, np.array([3.0]), np.empty(0), np.zeros(1)) == pytest.approx(-0.5, abs=EXACT)


# ---------------------------------------------------------------- agents


@cache
def priced_problem(name: str) -> tuple[Problem, np.ndarray]:
    """A problem file and its optimal prices, (n,)."""
    problem = read_problem(name)
    return problem, solve_monolithic(problem.programs, problem.couplings).price


@pytest.mark.parametrize("solver", SOLVERS)
@pytest.mark.parametrize("name", ["feeder33-tso57-01", "feeder118-gas65-00"])
def test_bounds_of_all_agents_meet_the_known_optimum(name, solver):
    """At the optimal prices the dual function is the optimum, of which some OSQP cannot even answer the questions."""
    problem, price = priced_problem(name)
    layout, total = Layout(problem.couplings), 0.0
    for agent_name, agent in problem.agents(solver).items():
        boundary = layout.boundary(agent_name)
        agent.prepare(boundary)
        zero = np.zeros(boundary.size)
        asked = Question(1, boundary.sign * price[layout.entries(agent_name)], zero, zero, 1e-5)
        answer = agent.answer(asked)
        assert answer.status is AnswerStatus.SOLVED
        assert answer.bound_eur <= answer.cost_eur + asked.price @ answer.values + SOLVER * problem.turnover_eur
        total += answer.bound_eur
    short = (problem.optimum_eur - total) / problem.turnover_eur
    assert -EXACT <= short <= SHARE_OF_TURNOVER


@pytest.mark.parametrize("solver", SOLVERS)
def test_only_answers_to_a_price_alone_carry_a_bound(solver):
    agent = QPAgent(program(), solver=solver)
    agent.prepare(boundary())
    assert agent.answer(question(0, 1, 1)).bound_eur is None
    assert agent.answer(question(0, [2.0, 1.0, 1.0, 2.0], np.inf)).bound_eur is None
    assert agent.answer(question(0, 0, 0)).bound_eur == pytest.approx(BY_HAND, abs=SOLVER)
    assert agent.answer(question(2.0, 0, 0)).bound_eur == pytest.approx(BY_HAND + 2.0 * 6.0, abs=SOLVER)


def test_a_cost_that_is_not_shared_has_no_bound():
    agent = QPAgent(program(), shares_cost=False)
    agent.prepare(boundary())
    answer = agent.answer(question(0, 0, 0))
    assert answer.status is AnswerStatus.SOLVED and answer.cost_eur is None and answer.bound_eur is None


@pytest.mark.parametrize("solver", SOLVERS)
def test_a_price_alone_leaves_the_schedule_and_the_next_answers_as_they_were(solver):
    asked, same = QPAgent(program(), solver=solver), QPAgent(program(), solver=solver)
    for agent in (asked, same):
        agent.prepare(boundary())
        agent.answer(question([3, 1, 0, -2], 1, 5))
    priced = asked.answer(question(-30.0, 0, 0))
    assert np.abs(priced.values - asked.x).max() > 0.1
    np.testing.assert_array_equal(asked.solution()["boiler.p_mw"], same.solution()["boiler.p_mw"])
    again = question([3, 1, 1, -2], 1, 5)
    np.testing.assert_array_equal(asked.answer(again).values, same.answer(again).values)


def test_an_update_moves_the_box():
    """To the double size, where p = (4.5, 3.5, 2.5, 1.5) MW leaves the first box."""
    agent = QPAgent(program())
    agent.prepare(boundary())
    agent.answer(question(0, 0, 0))
    agent.update(program(size=2.0))
    p = np.array([4.5, 3.5, 2.5, 1.5])
    assert agent.answer(question(0, 0, 0)).bound_eur == pytest.approx(p @ p / 2 + p @ np.arange(4), abs=SOLVER)


# ---------------------------------------------------------------- the distribution operator

PAID = {"p_mw": -55.0, "flex_up_mw": 8.5, "flex_down_mw": 9.0}
"""EUR a MW, as the operator sees it: what communities pay for p and are paid for flexibility."""


@pytest.fixture
def distribution():
    """A small operator after three answers, the question of a schedule, and one of a price alone."""
    model = operator()
    model = replace(model, connections=[replace(one, capacity_mw=0.6) for one in model.connections])
    boundary = boundary_of(model)
    fixed = dict.fromkeys(PAID, 0.1)
    held = [ask(model, boundary, fixed, PAID, iteration, iteration > 1, penalty=60.0) for iteration in (1, 2, 3)]
    return model, boundary, held, ask(model, boundary, dict.fromkeys(PAID, 0.0), PAID, 4, True, penalty=0.0)


@pytest.mark.parametrize("solver", SOLVERS)
def test_the_operators_bound_is_the_optimum_of_all_its_rows(distribution, solver):
    model, boundary, held, priced = distribution
    agent = DistributionAgent(model, solver=solver)
    agent.prepare(boundary)
    for one in held:
        agent.answer(one)
        answer = agent.answer(priced)
    qp = agent.program.linearised(agent._points)
    price = np.zeros(qp.size)
    price[np.concatenate([qp.boundary[c, q] for c, q, _ in boundary.keys])] = priced.price
    best = optimum(qp, price)
    assert answer.bound_eur == pytest.approx(best, rel=SOLVER)
    assert answer.cost_eur + priced.price @ answer.values == pytest.approx(best, rel=SOLVER)
    assert answer.bound_eur <= qp.cost_eur(agent._rows.x) + price @ agent._rows.x


def test_a_price_alone_corrects_nothing_at_the_operator(distribution):
    model, boundary, held, priced = distribution
    asked, same = (DistributionAgent(model, solver="piqp") for _ in range(2))
    errors = []
    for agent in (asked, same):
        agent.prepare(boundary)
        for one in held[:2]:
            answer = agent.answer(one)
            errors.append(answer.model_error)
            if agent is asked:
                before = agent.solution()
                assert agent.answer(priced).model_error == answer.model_error
                np.testing.assert_array_equal(agent.solution()["base.voltage_pu"], before["base.voltage_pu"])
    assert asked.corrections == same.corrections >= 1
    assert errors[:2] == errors[2:] and min(errors) > 0
    np.testing.assert_array_equal(asked.answer(held[2]).values, same.answer(held[2]).values)
