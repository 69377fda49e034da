"""The proof that a run asks for once it has passed its tests."""

from __future__ import annotations

import clarabel
import numpy as np
import pytest
import scipy.sparse as sp

import admm
from admm import closing
from admm.couplings import Layout
from admm.updates import turnover_floor
from benchmarks.random_problems import KINDS, RandomProblem, random_problem, stacked
from subproblems import Builder, QPAgent
from tests.tolerances import OF_TURNOVER


def _optimum_eur(problem: RandomProblem) -> float:
    """Of the whole, stacked, by a solver that knows no agents."""
    P, q, A, low, up = stacked(problem)
    equal = low == up
    rows = sp.vstack([A[equal], A[~equal], -A[~equal]], format="csc")
    right = np.concatenate([up[equal], up[~equal], -low[~equal]])
    cones = [clarabel.ZeroConeT(int(equal.sum())), clarabel.NonnegativeConeT(2 * int((~equal).sum()))]
    settings = clarabel.DefaultSettings()
    settings.verbose = False
    settings.tol_gap_abs = settings.tol_gap_rel = settings.tol_feas = 1e-9
    found = clarabel.DefaultSolver(sp.triu(P, format="csc"), q, rows, right, cones, settings).solve()
    assert str(found.status) in ("Solved", "AlmostSolved")
    return found.obj_val


@pytest.mark.parametrize("kind", KINDS)
def test_what_is_called_converged_is_the_optimum(kind: str) -> None:
    converged = 0
    for seed in range(8):
        problem = random_problem(kind, seed)
        result = admm.solve(problem.agents("piqp"), problem.couplings, admm.Settings(max_iterations=150))
        if not result.converged:
            continue
        converged += 1
        allowed = OF_TURNOVER * max(result.turnover, turnover_floor(Layout(problem.couplings)))
        optimum, last = _optimum_eur(problem), result.history[-1]
        assert last.lower_bound_eur <= optimum + 0.01 * allowed
        assert last.upper_bound_eur >= optimum - 0.01 * allowed
        assert abs(result.objective - optimum) <= allowed
        assert result.certified_gap + 1e-6 >= 0.0 and result.certified_gap <= 1e-4
    assert converged >= 4


def test_without_a_proof_asked_for_the_run_ends_at_its_tests() -> None:
    problem = random_problem("plain", 3)
    proven = admm.solve(problem.agents(), problem.couplings)
    plain = admm.solve(problem.agents(), problem.couplings, admm.Settings(proof=False))
    assert plain.converged and plain.certified_gap is None
    assert proven.iterations >= plain.iterations


def test_agents_that_keep_their_costs_leave_no_proof() -> None:
    problem = random_problem("plain", 3)
    result = admm.solve(problem.agents(shares_cost=False), problem.couplings)
    assert result.converged and result.certified_gap is None and result.objective is None


def test_proofs_change_no_schedule() -> None:
    """Answers to them are beside the schedules: what the agents do is the same to the last bit."""
    problem = random_problem("plain", 8)
    runs = [admm.solve(problem.agents(), problem.couplings, admm.Settings(proof=proof)) for proof in (True, False)]
    assert runs[0].certified_gap is not None and runs[0].iterations == runs[1].iterations
    for name, solution in runs[0].solutions.items():
        assert all(np.array_equal(values, runs[1].solutions[name][key]) for key, values in solution.items())


def test_an_agent_without_limits_leaves_no_lower_bound_and_the_tests_decide() -> None:
    """What it is asked at the price alone has no answer: that is no error."""
    free = Builder("free")
    power = free.variable("p_mw", 2, unit="MW")
    free.cost(power, linear=30.0)
    free.boundary("c", "p_mw", power)
    user = Builder("user")
    taken = user.variable("p_mw", 2, lower=0.0, upper=2.0, unit="MW")
    user.cost(taken, linear=-40.0, quadratic=5.0)
    user.boundary("c", "p_mw", taken)
    agents = {"free": QPAgent(free.build()), "user": QPAgent(user.build())}
    result = admm.solve(agents, [admm.Coupling("c", "user", "free", [admm.Quantity("p_mw", 2)])])
    assert result.converged
    np.testing.assert_allclose(result.boundary["c"]["p_mw"].lower, 1.0, atol=2e-3)


def test_a_large_problem_is_not_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    problem = random_problem("plain", 8)
    monkeypatch.setattr(closing, "MOST_ENTRIES", Layout(problem.couplings).size - 1)
    assert admm.solve(problem.agents(), problem.couplings).certified_gap is None


def test_bounds_that_do_not_meet_leave_another_status(monkeypatch: pytest.MonkeyPatch) -> None:
    problem = random_problem("plain", 8)
    monkeypatch.setattr(closing.Closing, "proven", lambda self: False)
    result = admm.solve(problem.agents(), problem.couplings)
    assert result.status is admm.Status.AGREED and result.agreed and not result.converged
    assert result.iterations > 17
