"""The points nearest to an agreement: mixes are the best ones, agents' points projections, and conflicts are found."""

from __future__ import annotations

import numpy as np
import pytest
import scipy.sparse as sp
from scipy.optimize import lsq_linear, nnls

import admm
from admm import conflict
from admm.couplings import Layout
from admm.nearest import least_norm
from benchmarks.infeasible import Stacked
from benchmarks.wholes import NEED, random_whole
from networks.case import load_case
from subproblems import QPAgent, QuadraticProgram
from tests.test_limits_together import SMALL

KEY = ("low-up", "p_mw")


@pytest.mark.parametrize("seed", range(8))
def test_mixes_have_the_least_norm(seed: int) -> None:
    """Against non-negative least squares with rows of weight 1e4 that make each agent's shares add up to 1."""
    draw = np.random.default_rng(seed)
    of_agent = np.repeat(np.arange(4), draw.integers(1, 8, 4))
    columns = draw.normal(size=(12, of_agent.size)) + draw.normal(size=(4, 12))[of_agent].T
    shares = least_norm(columns, of_agent, np.where(np.diff(of_agent, prepend=-1) > 0, 1.0, 0.0))
    sums = 1e4 * np.eye(4)[:, of_agent]
    other = nnls(np.vstack([columns, sums]), np.concatenate([np.zeros(12), np.full(4, 1e4)]))[0]
    assert (shares >= 0).all() and np.bincount(of_agent, shares) == pytest.approx(np.ones(4))
    assert np.linalg.norm(columns @ shares) == pytest.approx(np.linalg.norm(columns @ other), rel=1e-5, abs=1e-6)


@pytest.mark.parametrize("solver", ["osqp", "piqp"])
def test_a_question_without_cost_and_with_a_penalty_asks_for_the_nearest_point(solver: str) -> None:
    """x in a box, its first two entries shared, their sum fixed: by bounded least squares with a heavy row."""
    rows = sp.csc_matrix(np.vstack([np.eye(3), [1.0, 1.0, 1.0]]))
    ends = np.array([-1.0, 0.0, -2.0, 1.5]), np.array([1.0, 0.4, 2.0, 1.5])
    program = QuadraticProgram(np.eye(3), [90.0, -7.0, 3.0], rows, *ends, {KEY: [0, 1]}, constant=4.0)
    layout = Layout([admm.Coupling("low-up", "low", "up", [admm.Quantity("p_mw", 2)])])
    ordinary = admm.Question(1, np.ones(2), np.zeros(2), np.ones(2))
    agent, other = QPAgent(program, solver=solver), QPAgent(program, solver=solver)
    for one in (agent, other):
        one.prepare(layout.boundary("low"))
        one.answer(ordinary)
    wanted, penalty = np.array([-3.0, 2.0]), np.array([2.0, 8.0])
    near = agent.answer(admm.Question(1, np.zeros(2), wanted, penalty, accuracy=1e-8, own_cost=False))
    heavy = np.vstack([np.diag([*np.sqrt(penalty), 0.0])[:2], 1e5 * np.ones((1, 3))])
    best = lsq_linear(heavy, [*(np.sqrt(penalty) * wanted), 1.5e5], bounds=(ends[0][:3], ends[1][:3]), tol=1e-14)
    assert near.values == pytest.approx(best.x[:2], abs=1e-6) and near.bound_eur is None and near.cost_eur == 0.0
    assert np.array_equal(agent.answer(ordinary).values, other.answer(ordinary).values)


@pytest.mark.parametrize("seed", [3, 9, 12, 16])
def test_a_planted_conflict_is_proved_and_named_and_nothing_else(seed: int) -> None:
    """Trees and cycles 10 % apart; HiGHS says how far apart the agents are that are named, without the others."""
    whole, joined = random_whole(seed, 0.1), random_whole(seed, -0.3)
    with pytest.raises(admm.InfeasibleError) as raised:
        solve(whole)
    words = str(raised.value)
    named = [name for name in whole.programs if f"'{name}'" in words.partition("What holds them")[0]]
    assert set(whole.needy) <= set(named) and NEED in words and " MW are missing or in excess" in words
    assert Stacked(whole.programs, whole.couplings).apart_eur(named) > 1e-4
    assert solve(joined).converged and Stacked(joined.programs, joined.couplings).apart_eur(joined.programs) < 1e-6


def test_a_small_conflict_whose_mismatch_never_lasts_is_proved_late() -> None:
    """A need of 2 % of scale, spread over four agents and their periods: a mismatch of a few tolerances."""
    with pytest.raises(admm.InfeasibleError, match=r"\(iteration 51, \d+ more exchanges\)$"):
        solve(random_whole(73, 0.02))


def test_when_a_proof_is_due() -> None:
    steady, turning = [np.array([2e-3, 0.0])] * conflict.WINDOW, [np.array([2e-3, 0.0]), np.array([-2e-3, 0.0])] * 5
    assert conflict.due(100, 101, steady, 1e-3) and not conflict.due(101, 101, steady, 1e-3)
    assert not conflict.due(100, 0, turning, 1e-3) and not conflict.due(100, 0, steady[:5], 1e-3)
    assert conflict.due(30, 30, [10 * one for one in steady], 1e-3)


@pytest.mark.parametrize("seed", [4, 5])
def test_hardly_inside_the_edge_the_search_is_in_vain(seed: int) -> None:
    """Its mismatch lasts, so a proof is looked for; the planted agreement is 1 % of scale inside all needs."""
    result = solve(random_whole(seed, -0.01))
    assert result.converged and result.proof_exchanges > 0


def solve(whole) -> admm.Result:
    agents = {name: QPAgent(program) for name, program in whole.programs.items()}
    return admm.solve(agents, whole.couplings)


def test_an_operator_remembers_nothing_of_a_search() -> None:
    case = load_case(str(SMALL))
    agents = [case.build_agent("dso", "piqp") for _ in range(2)]
    boundary = Layout(case.couplings).boundary("dso")
    nothing, wanted = np.zeros(boundary.size), 50 * boundary.scale

    def ask(agent, iteration: int) -> np.ndarray:
        return agent.answer(admm.Question(iteration, 10 + nothing, 0.3 * wanted, 5 + nothing, settle=True)).values

    for agent in agents:
        agent.prepare(boundary)
        ask(agent, 1)
    near = agents[0].answer(admm.Question(1, nothing, wanted, 1 + nothing, own_cost=False))
    held = agents[0].answer(admm.Question(1, -1 + nothing, nothing, nothing, own_cost=False, settle=True))
    assert near.status.usable and held.bound_eur is not None and held.reason
    assert np.array_equal(ask(agents[0], 2), ask(agents[1], 2))
    assert agents[0].checks() == agents[1].checks() and agents[0].solution().keys() == agents[1].solution().keys()
