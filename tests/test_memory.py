"""The scheme "memory": what it keeps of answers, who leads, real problems, cases, and MPI."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

import admm
from admm.couplings import Layout
from admm.graph import split
from admm.memory.drift import DRIFTING, ROUNDS, SPAN, STEP, DriftPenalty
from admm.memory.remembered import IDLE_ROUNDS, MOST_CUTS, Follower, Remembered
from admm.memory.roles import roles_of
from benchmarks.problem_files import read_problem
from subproblems import QPAgent
from tests.case_tools import tieline
from tests.mpi_program import LED
from tests.planted import hubs, supplied
from tests.small_problems import coupling, star
from tests.test_cases import made  # noqa: F401 - a fixture
from tests.test_mpi import PROGRAM, _found
from tests.tolerances import EXACT, FLOW_PU, LOSS_SHARE, OF_TURNOVER, SOLVER, VIOLATION_PU

WEIGHT, TARGET = np.array([[3.0, 1.0], [1.0, 2.0]]), np.array([1.0, -2.0])
FAR_MW = 50.0
MOST_EXCHANGES = {"memory": 8, "certified": 25}
"""On feeder118-gas65-00: 5 and 21 were seen."""


# ---------------------------------------------------------------- what is kept of answers


def quadratic_cost(value: np.ndarray) -> float:
    """1/2 (b - target)' W (b - target)."""
    return float(0.5 * (value - TARGET) @ WEIGHT @ (value - TARGET))


def answered(rng: np.random.Generator, tells: bool) -> tuple[admm.Question, admm.Answer]:
    """A random question to the agent of `quadratic_cost`, and the answer to it by hand."""
    price, reference = rng.normal(0.0, 5.0, (2, 2))
    penalty = rng.uniform(0.0, 4.0, 2) * (rng.random() < 0.7)
    value = np.linalg.solve(WEIGHT + np.diag(penalty), WEIGHT @ TARGET - price + penalty * reference)
    cost = quadratic_cost(value) if tells else None
    return admm.Question(1, price, reference, penalty), admm.Answer(value, cost_eur=cost)


@pytest.mark.parametrize("tells", [True, False])
def test_differences_of_costs_are_those_of_a_quadratic(tells: bool) -> None:
    """Where costs are not told, the trapezoid rule along slopes gives them exactly."""
    rng, kept = np.random.default_rng(1), Remembered(np.array([4, 7]))
    for _ in range(12):
        kept.add(*answered(rng, tells))
    columns = kept.columns()
    true = np.array([quadratic_cost(value) for value in columns.values])
    np.testing.assert_allclose(columns.cost_eur - columns.cost_eur[0], true - true[0], atol=EXACT * true.max())
    np.testing.assert_array_equal(columns.entries, [4, 7])
    assert np.ptp(true) > 1.0


def test_a_forced_answer_without_a_cost_is_not_kept() -> None:
    kept = Remembered(np.arange(2))
    forced = admm.Question(1, np.zeros(2), TARGET, np.full(2, np.inf))
    kept.add(forced, admm.Answer(TARGET))
    assert not kept.values
    kept.add(forced, admm.Answer(TARGET, cost_eur=3.0))
    assert kept.cost_eur == [3.0]


def test_an_answer_is_forgotten_when_no_mix_has_used_it_for_some_rounds() -> None:
    rng, kept = np.random.default_rng(2), Remembered(np.arange(2))
    for _ in range(3):
        kept.add(*answered(rng, True))
    values = list(kept.values)
    for _ in range(IDLE_ROUNDS - 1):
        kept.forget_idle([np.array([1.0, 0.0, 0.0]), np.array([0.5, 0.0, 0.5])])
    assert len(kept.values) == len(kept.cost_eur) == len(kept.slope) == 3
    kept.forget_idle([np.array([0.5, 0.0, 0.5])])
    np.testing.assert_array_equal(kept.values, [values[0], values[2]])
    kept.forget_idle([np.array([1.0, 0.0])])
    kept.forget_idle([np.array([0.0, 1.0])])  # use sets the count of idle rounds back
    kept.forget_idle([np.array([0.0, 1.0])])
    assert len(kept.values) == 2


def follower(entries: int) -> Follower:
    return Follower(np.arange(entries), [np.arange(entries)], np.full(entries, 10.0))


@pytest.mark.parametrize("tells", [True, False])
def test_a_cut_supports_the_cost(tells: bool) -> None:
    """At its own point it is the cost (or differs by one constant), and nowhere is it more."""
    rng, known = np.random.default_rng(3), follower(2)
    for _ in range(8):
        known.add_cut(*answered(rng, tells))
    cuts = known.cuts()
    shift = 0.0 if tells else quadratic_cost(cuts.values[0])
    for value in rng.normal(0.0, 4.0, (40, 2)):
        planes = shift + cuts.cost_eur + np.sum(cuts.slope * (value - cuts.values), axis=1)
        assert planes.max() <= quadratic_cost(value) + EXACT * 100
    true = [quadratic_cost(value) for value in cuts.values]
    np.testing.assert_allclose(shift + cuts.cost_eur, true, atol=EXACT * 100)


def test_cuts_of_a_supplier_support_its_cost() -> None:
    """Against the cost that the agent tells when it is made to follow a value."""
    problem = supplied(4)
    layout, agent = Layout(problem.couplings), QPAgent(problem.programs["s"], solver="piqp")
    boundary, at = layout.boundary("s"), layout.entries("s")
    agent.prepare(boundary)
    rng, known = np.random.default_rng(4), follower(boundary.size)
    paid = boundary.sign * problem.price[at]
    for penalty in (0.0, 0.0, 16.0, 16.0, 160.0):
        price, reference = paid + rng.normal(0.0, 10.0, at.size), problem.value[at] + rng.normal(0.0, 0.3, at.size)
        asked = admm.Question(1, price, reference, np.full(at.size, penalty))
        known.add_cut(asked, agent.answer(asked))
    cuts, followed = known.cuts(), 0
    for _ in range(40):
        value = rng.dirichlet(np.ones(5)) @ cuts.values
        answer = agent.answer(admm.Question(1, np.zeros(at.size), value, np.full(at.size, np.inf)))
        planes = cuts.cost_eur + np.sum(cuts.slope * (value - cuts.values), axis=1)
        followed += answer.status.usable
        assert not answer.status.usable or planes.max() <= answer.cost_eur + 100 * SOLVER
    assert followed >= 20


def test_the_oldest_cuts_are_dropped() -> None:
    rng, known = np.random.default_rng(5), follower(2)
    asked = [answered(rng, True) for _ in range(MOST_CUTS + 5)]
    for question, answer in asked:
        known.add_cut(question, answer)
    np.testing.assert_array_equal(known.cuts().values, [answer.values for _, answer in asked[5:]])


def test_a_followers_curvature_follows_the_secant_within_limits() -> None:
    """From 0.1 x 0.3 x the penalty of 10 at first, to the geometric mean with 0.2 x 10 at most, 0.02 x 10 at least."""
    known = follower(2)
    assert not known.cuts().curvature.any() and known.cuts().values.shape == (0, 2)
    for price, value, curvature in (
        ([0.0, 0.0], [1.0, 0.0], 0.3),
        ([-1.0, 0.0], [3.0, 0.0], np.sqrt(0.3 * 0.5)),  # the slope rises by 1 in 2
        ([-99.0, 0.0], [4.0, 0.0], np.sqrt(np.sqrt(0.3 * 0.5) * 2.0)),
        ([-99.0, 0.0], [5.0, 0.0], np.sqrt(np.sqrt(np.sqrt(0.3 * 0.5) * 2.0) * 0.2)),
    ):
        known.move_to(admm.Question(1, np.array(price), np.zeros(2), np.zeros(2)), admm.Answer(np.array(value)))
        np.testing.assert_allclose(known.cuts().curvature, curvature, rtol=EXACT)
        np.testing.assert_array_equal(known.cuts().centre, value)


def test_the_penalty_rises_where_a_mismatch_keeps_its_sign() -> None:
    """Entry 0 drifts, entry 1 changes sign, entry 2 is too small to count."""
    penalty = DriftPenalty()
    start = penalty.start(Layout([coupling("a-b", "a", "b", periods=3, scale=2.0, price_scale=40.0)])).copy()
    np.testing.assert_allclose(start, 0.8 * 40.0 / 2.0, rtol=EXACT)
    for k in range(ROUNDS):
        np.testing.assert_allclose(penalty.value, start, rtol=EXACT)
        value = penalty.update(DRIFTING * np.array([2.0, 2.0 * (-1.0) ** k, 0.9]))
    np.testing.assert_allclose(value, start * [STEP, 1.0, 1.0], rtol=EXACT)
    np.testing.assert_allclose(penalty.update(np.array([-1.0, 1.0, 0.0])), start, rtol=EXACT)
    for _ in range(20 * ROUNDS):
        value = penalty.update(np.array([-1.0, 0.0, 0.0]))
    np.testing.assert_allclose(value, start * [SPAN, 1.0, 1.0], rtol=EXACT)


# ---------------------------------------------------------------- roles


def roles(problem, *named: str):
    agents = problem.agents()
    sides = split(problem.couplings)
    return roles_of(Layout(sides.couplings), sides, named, agents)


def test_who_leads_who_is_remembered_and_who_follows() -> None:
    found = roles(supplied(0))
    assert (found.leads, found.remembered, found.followers) == (("o",), ("a", "b", "c"), ("s",))
    both = roles(hubs(0))
    assert (both.leads, both.remembered, both.followers) == (("o", "g"), ("a", "b", "c"), ())
    one = roles(hubs(0), "g")
    assert (one.leads, one.remembered, one.followers) == (("g",), ("a", "b", "c"), ("o",))
    beyond = roles(supplied(0), "s")
    assert (beyond.leads, beyond.remembered, beyond.followers) == (("s",), ("o",), ("a", "b", "c"))


@pytest.mark.parametrize(("make", "lead"), [(hubs, ("g",)), (hubs, ("g", "o"))])
def test_named_leads_find_the_same_optimum(make, lead: tuple[str, ...]) -> None:
    problem = make(1)
    settings = admm.Settings(scheme="memory", lead=lead, max_iterations=80)
    result = admm.solve(problem.agents(), problem.couplings, settings)
    assert result.status is admm.Status.CERTIFIED
    assert result.objective == pytest.approx(problem.optimum_eur, abs=OF_TURNOVER * problem.turnover_eur)


class Noting(QPAgent):
    """Keeps what it was asked to come near to."""

    def prepare(self, boundary: admm.AgentBoundary) -> None:
        super().prepare(boundary)
        self.asked: list[np.ndarray] = []

    def answer(self, question: admm.Question) -> admm.Answer:
        if question.penalty.any():
            self.asked.append(question.reference)
        return super().answer(question)


@pytest.mark.parametrize("seed", range(3))
def test_a_follower_is_asked_for_more_than_it_can_and_teaches_the_lead(seed: int) -> None:
    """Limits of the lead that do not bind at the optimum are opened: the optimum stays, its wishes do not."""
    problem = supplied(seed)
    layout, lead = Layout(problem.couplings), problem.programs["o"]
    at = layout.entries("o")
    rows = slice(lead.l.size - lead.size, lead.l.size - lead.size + at.size)
    lower, upper, value = lead.l.copy(), lead.u.copy(), problem.value[at]
    lower[rows] = np.where(lower[rows] < value, -FAR_MW, value)
    upper[rows] = np.where(upper[rows] > value, FAR_MW, value)
    agents = problem.agents()
    agents["o"] = QPAgent(lead.with_numbers(l=lower, u=upper), solver="piqp")
    agents["s"] = Noting(problem.programs["s"], solver="piqp")
    result = admm.solve(agents, problem.couplings, admm.Settings(scheme="memory", max_iterations=60))
    assert result.status is admm.Status.CERTIFIED
    assert result.objective == pytest.approx(problem.optimum_eur, abs=OF_TURNOVER * problem.turnover_eur)
    own, n = problem.programs["s"], layout.entries("s").size
    least, most = (end[end.size - own.size :][:n] for end in (own.l, own.u))
    assert max(np.maximum(least - asked, asked - most).max() for asked in agents["s"].asked) > 0.1


# ---------------------------------------------------------------- real problems and cases


@pytest.mark.parametrize("scheme", MOST_EXCHANGES)
def test_a_gas_and_power_problem_is_proven_in_few_exchanges(scheme: str) -> None:
    """Sixteen hubs below two operators that lead together; the optimum is the file's own."""
    problem = read_problem("feeder118-gas65-00")
    agents = problem.agents("piqp")
    result = admm.solve(agents, problem.couplings, admm.Settings(scheme=scheme, max_iterations=MOST_EXCHANGES[scheme]))
    assert result.status is admm.Status.CERTIFIED
    assert result.objective == pytest.approx(problem.optimum_eur, abs=OF_TURNOVER * problem.turnover_eur)
    lower = [p.lower_bound_eur for p in result.history if p.lower_bound_eur is not None]
    assert max(lower) <= problem.optimum_eur + SOLVER * problem.turnover_eur
    assert max(agent.violation() for agent in agents.values()) <= VIOLATION_PU


def test_a_start_near_the_end_saves_exchanges() -> None:
    problem = supplied(2)
    cold = admm.solve(problem.agents(), problem.couplings, admm.Settings(scheme="memory"))
    given = {
        which: {c: {q: getattr(r, attribute) for q, r in quantities.items()} for c, quantities in cold.boundary.items()}
        for which, attribute in (("initial_price", "price"), ("initial_values", "upper"))
    }
    warm = admm.solve(problem.agents(), problem.couplings, admm.Settings(scheme="memory", **given))
    assert warm.status is admm.Status.CERTIFIED and warm.iterations < cold.iterations


@pytest.mark.parametrize("scheme", MOST_EXCHANGES)
def test_a_case_ends_with_a_proof_whatever_the_ranks(scheme: str, made: Path, mpirun, tmp_path: Path, capsys) -> None:  # noqa: F811
    alone, apart = tmp_path / "alone", tmp_path / "apart"
    ended = tieline(capsys, "run", made, "--scheme", scheme, "--out", alone)
    assert ended.code == 0, ended.errors
    done = mpirun(2, "-m", "admm", "run", str(made), "--scheme", scheme, "--out", str(apart))
    assert done.returncode == 0, done.stderr
    summary, other = (json.loads((out / "summary.json").read_text()) for out in (alone, apart))
    assert (summary["status"], summary["converged"]) == ("certified", True)
    assert summary["certified_gap"] <= admm.Settings().optimality_tolerance
    assert 0 < summary["ac_max_voltage_error_pu"] <= FLOW_PU and summary["ac_max_loss_error"] <= LOSS_SHARE
    assert (other["ranks"], other["iterations"]) == (2, summary["iterations"])
    for key in ("objective_eur", "turnover_eur", "certified_gap"):
        assert other[key] == pytest.approx(summary[key], rel=EXACT, abs=EXACT), key


@pytest.mark.parametrize("scheme", MOST_EXCHANGES)
def test_a_lead_drives_on_rank_0_and_nowhere_else(scheme: str, mpirun) -> None:
    """Two consumers of the star live on the other rank: the same numbers as in one process."""
    found = {r["rank"]: r["found"] for r in _found(mpirun(2, PROGRAM, f"led_{scheme}"))}
    assert found[1] == ["", "", ""]
    result = star().solve(scheme=scheme, **LED)
    assert found[0][0] == result.status.name == "CERTIFIED"
    objective, gap = found[0][1]
    assert objective == pytest.approx(result.objective, rel=EXACT, abs=EXACT)
    assert gap == (None if result.certified_gap is None else pytest.approx(result.certified_gap, rel=EXACT, abs=EXACT))
    assert "lead names 's', which cannot lead: it has no `join`, or not this rank" in found[0][2]
