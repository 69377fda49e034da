"""Acceleration that stays within reach: small problems on which an unbounded one ran away, against known optima.

The problems in data/qps are random coupled QPs, feasible by construction; their optimum is that of a stacked Clarabel
solve, which HiGHS agrees with.
"""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import scipy.sparse as sp

import admm
from admm.acceleration import Anderson
from networks.case import Case, load_case
from subproblems import QPAgent, QuadraticProgram
from tests.tolerances import OF_TURNOVER

DATA = Path(__file__).parent / "data"


def _agent(data: dict) -> QPAgent:
    parts = {key: np.array(data[key], dtype=float) for key in ("P", "q", "A", "l", "u")}
    boundary = {tuple(key.split("/")): np.array(at) for key, at in data["boundary"].items()}
    qp = QuadraticProgram(
        sp.csc_matrix(parts["P"]), parts["q"], sp.csc_matrix(parts["A"]), parts["l"], parts["u"], boundary=boundary
    )
    return QPAgent(qp, shares_cost=True)


def _solved(name: str, acceleration: str) -> tuple[admm.Result, float]:
    """The run of a problem, and its known optimum."""
    data = json.loads((DATA / "qps" / f"{name}.json").read_text())
    agents = {key: _agent(one) for key, one in data["agents"].items()}
    couplings = [
        admm.Coupling(
            one["name"],
            one["lower"],
            one["upper"],
            [admm.Quantity(one["quantity"], data["periods"], "MW", one["scale"], one["price_scale"])],
        )
        for one in data["couplings"]
    ]
    return admm.solve(agents, couplings, admm.Settings(acceleration=acceleration)), data["optimum"]


@pytest.mark.parametrize("name", ["zero-49", "plain-1023", "plain-1089", "plain-1434"])
def test_acceleration_needs_at_most_about_as_many_iterations_as_none(name: str) -> None:
    accelerated, optimum = _solved(name, "anderson")
    plain, _ = _solved(name, "none")
    assert accelerated.converged
    assert abs(accelerated.objective - optimum) <= OF_TURNOVER * accelerated.turnover
    assert accelerated.iterations <= 1.3 * plain.iterations + 4
    ends = [one for quantities in accelerated.boundary.values() for one in quantities.values()]
    assert max(np.abs(one.lower - one.upper).max() / one.scale for one in ends) <= 1e-3


def test_where_tests_pass_far_from_the_optimum_the_run_is_not_called_converged() -> None:
    """Prices have to reach 1,893: there a mismatch of 5e-4 of scale is worth a sixth of the optimum."""
    result, optimum = _solved("plain-1384", "anderson")
    assert not result.converged or abs(result.objective - optimum) <= OF_TURNOVER * result.turnover


def test_the_mismatch_of_a_relayed_coupling_is_that_of_its_given_ends() -> None:
    result, _ = _solved("plain-1434", "anderson")
    ends = [one.mismatch.max() for quantities in result.boundary.values() for one in quantities.values()]
    assert result.residuals.mismatch == pytest.approx(max(ends), rel=1e-9)


def _case_run(name: str, acceleration: str) -> tuple[Case, admm.Result]:
    case = load_case(str(DATA / "failing" / name))
    agents = {agent: case.build_agent(agent) for agent in case.agents}
    return case, admm.solve(agents, case.couplings, admm.Settings(acceleration=acceleration))


@pytest.mark.parametrize("name", ["tiny_agent", "swing_prices"])
def test_agents_of_a_watt_and_prices_that_swing_end_at_the_optimum(name: str) -> None:
    case, result = _case_run(name, "anderson")
    reference = json.loads((DATA / "failing" / name / "reference.json").read_text())[case.name]
    assert result.converged
    assert abs(result.objective - reference["objective_eur"]) <= OF_TURNOVER * reference["turnover_eur"]


def _point(value: float) -> admm.acceleration.Point:
    return admm.acceleration.Point(np.full(2, value), np.zeros(2))


def test_a_start_is_within_reach_of_the_plain_one() -> None:
    anderson, penalty = Anderson(), np.ones(2)
    anderson.next_start(_point(0.0), _point(1.0), penalty)
    start = anderson.next_start(_point(1.0), _point(1.999), penalty)  # the secant would lead to 1000
    size = 0.999 * np.sqrt(2.0)
    assert np.linalg.norm(start.second - 1.999) == pytest.approx(Anderson.REACH * size)


def test_after_each_way_back_twice_as_many_starts_are_plain() -> None:
    """A map that throws every accelerated start far away."""
    anderson, penalty, here, runs = Anderson(), np.ones(2), 0.0, [0]
    for k in range(80):
        after = here + 100.0 if anderson._accelerated else here + 0.9**k
        before, backs = here, anderson._ways_back
        here = float(anderson.next_start(_point(before), _point(after), penalty).second[0])
        if anderson._ways_back > backs:
            runs.append(0)
        elif here == after:
            runs[-1] += 1
    assert len(runs) >= 4
    waits = runs[1:-1]
    assert all(run >= 2**k for k, run in enumerate(waits))
    assert waits == sorted(waits)


def test_prices_that_have_far_to_go_get_there_as_soon_with_acceleration_as_without() -> None:
    """Each moves by all that it may, again and again: steps of one length, from which there is nothing to learn."""
    accelerated, plain = (_case_run("swing_prices", name)[1] for name in ("anderson", "none"))
    assert accelerated.converged and plain.converged
    assert accelerated.iterations <= 1.1 * plain.iterations
