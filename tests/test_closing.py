"""The proof that a run asks for once it has passed its tests."""

from __future__ import annotations

import numpy as np
import pytest

import admm
from admm import closing
from admm.couplings import Layout
from admm.updates import turnover_floor
from benchmarks.random_problems import KINDS, random_problem
from benchmarks.random_qps import by_clarabel
from subproblems import Builder, QPAgent
from tests.tolerances import OF_TURNOVER


@pytest.mark.parametrize("kind", KINDS)
def test_what_is_called_converged_is_the_optimum(kind: str) -> None:
    for seed in range(6):
        problem = random_problem(kind, seed)
        result = admm.solve(problem.agents("piqp" if seed % 2 else "osqp"), problem.couplings)
        assert result.converged
        allowed = OF_TURNOVER * max(result.turnover, turnover_floor(Layout(problem.couplings)))
        optimum, last = by_clarabel(problem), result.history[-1]
        assert last.lower_bound_eur <= optimum + 0.01 * allowed
        assert last.upper_bound_eur >= optimum - 0.01 * allowed
        assert abs(result.objective - optimum) <= allowed
        assert result.certified_gap + 1e-5 >= 0.0 and result.certified_gap <= 1e-4


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
