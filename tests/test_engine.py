"""The loop against optima known by hand, against Clarabel on the stacked problem, and against bad agents."""

from __future__ import annotations

import re
import subprocess
import sys

import cvxpy as cp
import numpy as np
import pytest
import scipy.sparse as sp
from hypothesis import given, settings
from hypothesis import strategies as st

import admm
from admm.run import MEDIAN_OF, check_answer
from subproblems import QPAgent, QuadraticProgram
from tests.batches import run_of
from tests.small_problems import PROBLEMS, TIGHT, Parabola, Problem, consumer, coupling, pair, star, triangle
from tests.tolerances import SOLVER

VALUE_MW = 1e-6
PRICE = 1e-5
RANDOM_VALUE_MW = 2e-4
RANDOM_OBJECTIVE = 1e-5
MANY_EXAMPLES = 25


@pytest.mark.parametrize("penalty", ["adaptive", "classical", "classical:0.3"])
@pytest.mark.parametrize("name", PROBLEMS)
def test_optimum_and_prices_are_those_found_by_hand(name: str, penalty: str) -> None:
    problem = PROBLEMS[name]()
    result = problem.solve(penalty=penalty)
    assert result.converged, result.status
    assert result.objective == pytest.approx(problem.objective, rel=SOLVER)
    for coupling_name, value in problem.value.items():
        found = result.boundary[coupling_name]["p_mw"]
        assert found.lower == pytest.approx(value, abs=VALUE_MW)
        assert found.upper == pytest.approx(value, abs=VALUE_MW)
        assert found.price == pytest.approx(problem.price[coupling_name], abs=PRICE)


@pytest.mark.parametrize("name", PROBLEMS)
def test_a_relay_on_every_coupling_changes_nothing(name: str) -> None:
    problem = PROBLEMS[name]()
    result = problem.solve(relay_all=True)
    assert result.converged
    assert result.objective == pytest.approx(problem.objective, rel=SOLVER)
    assert set(result.boundary) == {c.name for c in problem.couplings}
    assert set(result.solutions) == set(result.solve_seconds) == set(problem.agents)
    for coupling_name, price in problem.price.items():
        assert result.boundary[coupling_name]["p_mw"].price == pytest.approx(price, abs=PRICE)


def test_the_price_is_the_slope_of_the_optimum() -> None:
    """Another MW of the lower agent's wish costs minus its own slope: d optimum / d target = price."""
    step = 1e-3

    def optimum(shift: float) -> float:
        problem = pair()
        problem.agents["low"] = lambda: Parabola(2.0, [3.0 + shift, -1.0])
        return problem.solve().objective

    slope = (optimum(step) - optimum(-step)) / (2 * step)
    price = pair().solve().boundary["low-up"]["p_mw"].price[0]
    assert slope == pytest.approx(price, rel=1e-5)


def test_the_same_run_twice_is_the_same_to_the_last_bit() -> None:
    one, two = star().solve(), star().solve()
    assert [p.residuals for p in one.history] == [p.residuals for p in two.history]
    assert [p.objective_eur for p in one.history] == [p.objective_eur for p in two.history]
    for name, quantities in one.boundary.items():
        for key in ("lower", "upper", "price"):
            assert np.array_equal(getattr(quantities["p_mw"], key), getattr(two.boundary[name]["p_mw"], key))


def test_adaptive_needs_fewer_iterations_than_a_bad_fixed_penalty() -> None:
    bad = pair().solve(penalty="classical:100", acceleration="none")
    assert bad.converged
    assert pair().solve(penalty="adaptive", acceleration="none").iterations < bad.iterations / 2


def test_start_values_at_the_optimum_end_the_run_at_once() -> None:
    problem = pair()
    start = {"initial_values": {"low-up": {"p_mw": problem.value["low-up"]}}}
    start["initial_price"] = {"low-up": {"p_mw": problem.price["low-up"]}}
    assert problem.solve(**start).iterations <= 2 < problem.solve().iterations


def test_initial_values_reach_a_relayed_coupling() -> None:
    problem = triangle()
    value, price = ({name: {"p_mw": a} for name, a in found.items()} for found in (problem.value, problem.price))
    warm = problem.solve(initial_values=value, initial_price=price)
    assert warm.iterations <= 2 < problem.solve().iterations


@pytest.mark.parametrize(
    ("key", "given", "words"),
    [
        ("initial_values", {"low-up": {"p_mw": [1.0]}}, "shape (1,)"),
        ("initial_price", {"low-up": {"p_mw": [1.0, np.nan]}}, "finite"),
        ("initial_price", {"low-up": {"p_kw": [1.0, 1.0]}}, "'p_kw'"),
        ("initial_price", {"up-low": {"p_mw": [1.0, 1.0]}}, "'up-low'"),
        ("initial_price", {"low-up": {"p_mw": "dear"}}, "is str, expected 2 finite numbers"),
        ("initial_values", {"low-up": [1.0, 1.0]}, "expected {coupling: {quantity: array (periods,)}}"),
    ],
)
def test_wrong_start_values_are_named(key: str, given: dict, words: str) -> None:
    with pytest.raises(admm.InputError, match=_literally(words)):
        pair().solve(**{key: given})


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("scheme", "three-block"),
        ("scheme", {}),
        ("lead", "dso"),
        ("callback", 3),
        ("consensus_tolerance", 10**400),
        ("max_iterations", 0),
        ("max_iterations", 2.5),
        ("max_iterations", True),
        ("consensus_tolerance", 0.0),
        ("absolute_tolerance", float("nan")),
        ("relative_tolerance", -1.0),
        ("time_limit_seconds", float("inf")),
        ("penalty", "classic"),
        ("penalty", "classical:many"),
        ("penalty", "classical:-1"),
        ("penalty", 3.0),
    ],
)
def test_wrong_settings_are_named(key: str, value: object) -> None:
    with pytest.raises(admm.InputError, match=key):
        pair().solve(**{key: value})


class _Answers(Parabola):
    """A parabola whose answers are bent by a function."""

    def __init__(self, bend) -> None:
        super().__init__(2.0, [3.0, -1.0])
        self.bend = bend

    def answer(self, question: admm.Question) -> admm.Answer:
        return self.bend(super().answer(question).values)


@pytest.mark.parametrize(
    ("bend", "error", "words"),
    [
        (lambda v: admm.Answer(v[:1]), admm.InputError, "shape (1,)"),
        (lambda v: admm.Answer(v * np.nan), admm.SolverError, "answer.values"),
        (lambda v: admm.Answer(v, cost_eur=np.inf), admm.SolverError, "answer.cost_eur"),
        (lambda v: admm.Answer(v, model_error=np.nan), admm.SolverError, "answer.model_error"),
        (lambda v: v, admm.InputError, "ndarray"),
        (lambda v: None, admm.InputError, "NoneType"),
        (lambda v: admm.Answer([[1.0], 2.0]), admm.InputError, "answer.values is list, expected an array of numbers"),
        (lambda v: admm.Answer(v + 1j), admm.InputError, "answer.values is ndarray, expected an array of numbers"),
        (lambda v: admm.Answer(v, status=0), admm.InputError, "answer.status is 0, expected an admm.AnswerStatus"),
        (lambda v: admm.Answer(v, reason=["late"]), admm.InputError, "answer.reason is list, expected text"),
        (lambda v: admm.Answer(v, cost_eur="1"), admm.InputError, "answer.cost_eur is str, expected a number"),
        (lambda v: admm.Answer(v, solve_seconds=None), admm.InputError, "answer.solve_seconds is NoneType"),
        (lambda v: admm.Answer(v, cost_eur=10**300), admm.InputError, "answer.cost_eur is int, expected a number"),
        (lambda v: admm.Answer(v, inner_iterations=np.nan), admm.SolverError, "answer.inner_iterations"),
        (lambda v: admm.Answer(v, admm.AnswerStatus.INFEASIBLE, "no room"), admm.InfeasibleError, "no room"),
        (lambda v: admm.Answer(v, admm.AnswerStatus.UNBOUNDED, "no floor"), admm.SolverError, "no floor"),
        (lambda v: admm.Answer(v, admm.AnswerStatus.FAILED, "lost"), admm.SolverError, "lost"),
    ],
)
def test_answers_that_cannot_be_used_stop_the_run_and_name_the_agent(bend, error: type, words: str) -> None:
    agents = {"low": _Answers(bend), "up": Parabola(6.0, [1.0, 5.0])}
    with pytest.raises(error, match=_literally(words)) as caught:
        admm.solve(agents, pair().couplings)
    assert "'low'" in str(caught.value)


def test_an_inaccurate_answer_is_used() -> None:
    check_answer("low", admm.Answer(np.zeros(2), admm.AnswerStatus.INACCURATE), 2)


def test_an_infeasible_agent_is_named_with_its_constraints() -> None:
    qp = QuadraticProgram(
        sp.identity(1), [0.0], sp.csc_matrix([[1.0], [1.0]]), [2.0, -5.0], [5.0, 1.0], {("a-s", "p_mw"): np.array([0])}
    )
    agents = {"a": QPAgent(qp), "s": Parabola(1.0, [0.0])}
    with pytest.raises(admm.InfeasibleError, match="'a' is infeasible: .*0-1"):
        admm.solve(agents, [coupling("a-s", "a", "s")])


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda agents, c: agents.pop("up"), "'up', which is not there"),
        (lambda agents, c: agents.update(other=Parabola(1.0, [1.0])), "'other' is in no coupling"),
        (lambda agents, c: agents.update(up=3), "lacks prepare"),
        (lambda agents, c: agents.update(up=Parabola), "is the class Parabola, expected an object of it"),
        (lambda agents, c: c.append("low-up"), "couplings hold 'low-up', expected admm.Coupling objects"),
        (lambda agents, c: agents.update(up=Parabola(1.0, [1.0])), "1 targets, expected 2"),
        (lambda agents, c: c.clear(), "no couplings"),
        (lambda agents, c: c.append(c[0]), "two couplings are called 'low-up'"),
    ],
)
def test_a_problem_that_does_not_fit_together_is_refused(change, words: str) -> None:
    agents, couplings = {name: make() for name, make in pair().agents.items()}, pair().couplings
    change(agents, couplings)
    with pytest.raises(admm.InputError, match=_literally(words)):
        admm.solve(agents, couplings)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (({"low": None}, None), "couplings is NoneType, expected a list"),
        ((None, pair().couplings), "agents is NoneType, expected a dictionary"),
        (({}, pair().couplings, {"penalty": "adaptive"}), "settings is dict, expected an admm.Settings"),
    ],
)
def test_arguments_of_another_type_are_refused(arguments: tuple, words: str) -> None:
    with pytest.raises(admm.InputError, match=words):
        admm.solve(*arguments)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"name": 3}, "expected text"),
        ({"name": ""}, "expected text"),
        ({"unit": ["MW"]}, "expected text"),
        ({"periods": 2**40}, "at most 1000000"),
        ({"scale": 1e300}, "scale is 1e+300, expected a nominal size between 1e-12 and 1e+12"),
        ({"price_scale": 10**400}, "expected a finite number above 0"),
        ({"price_scale": "dear"}, "price_scale is 'dear'"),
    ],
)
def test_quantities_that_cannot_be_are_refused(changes: dict, words: str) -> None:
    with pytest.raises(admm.InputError, match=_literally(words)):
        admm.Quantity(**{"name": "p_mw", "periods": 1} | changes)
    with pytest.raises(admm.InputError, match="quantities holds"):
        admm.Coupling("a-b", "a", "b", "p_mw")


def test_a_message_is_one_printable_line_of_limited_length() -> None:
    error = admm.InputError("name 'a\nb\x1b[31m\u2028' " + "x" * 10_000 + " try another")
    assert str(error).startswith("name 'a\\nb\\x1b[31m\\u2028' xxx") and str(error).endswith("xxx try another")
    assert str(error).isprintable() and len(str(error)) < 4100
    assert str(admm.InputError(str(error))) == str(error), "the same again after a way over the wire"
    assert str(admm.InputError("Wärme: 水")) == "Wärme: 水"


def test_limits_and_the_callback_stop_the_run_with_the_values_so_far() -> None:
    seen: list[int] = []

    def stop_at_four(progress: admm.Progress) -> bool:
        seen.append(progress.iteration)
        return progress.iteration == 4

    stopped = star().solve(callback=stop_at_four)
    assert (stopped.status, stopped.iterations, seen) == (admm.Status.STOPPED, 4, [1, 2, 3, 4])
    assert star().solve(max_iterations=3).status is admm.Status.MAX_ITERATIONS
    late = star().solve(time_limit_seconds=1e-9)
    assert (late.status, late.iterations, late.converged) == (admm.Status.TIME_LIMIT, 1, False)
    assert set(late.boundary) == {"a-s", "b-s", "c-s"}


def test_ctrl_c_keeps_the_values_so_far() -> None:
    def interrupt(progress: admm.Progress) -> None:
        if progress.iteration == 5:
            raise KeyboardInterrupt

    result = star().solve(callback=interrupt)
    assert (result.status, result.iterations, len(result.history)) == (admm.Status.INTERRUPTED, 5, 5)


class _Interrupted(Parabola):
    """Interrupted by the user in the middle of its sixth answer."""

    def answer(self, question: admm.Question) -> admm.Answer:
        if question.iteration == 6:
            raise KeyboardInterrupt
        return super().answer(question)


def test_an_interrupted_iteration_does_not_count() -> None:
    """The other side has answered already, but what comes back is the state after five whole iterations."""
    problem, five = pair(), pair().solve(max_iterations=5).boundary["low-up"]["p_mw"]
    problem.agents["up"] = lambda: _Interrupted(6.0, [1.0, 5.0])
    result = problem.solve()
    found = result.boundary["low-up"]["p_mw"]
    assert (result.status, result.iterations, len(result.history)) == (admm.Status.INTERRUPTED, 5, 5)
    assert all(np.array_equal(getattr(found, key), getattr(five, key)) for key in ("lower", "upper", "price"))


class _Attentive(Parabola):
    """Remembers how exact it was asked to be."""

    def __init__(self) -> None:
        super().__init__(6.0, [1.0, 5.0])
        self.asked: list[float] = []

    def answer(self, question: admm.Question) -> admm.Answer:
        self.asked.append(question.accuracy)
        return super().answer(question)


def test_a_stop_counts_only_at_the_final_accuracy_and_accuracy_never_loosens() -> None:
    problem, attentive = pair(), _Attentive()
    problem.agents["up"] = lambda: attentive
    assert problem.solve().converged
    assert attentive.asked[-1] == TIGHT["final_accuracy"] < attentive.asked[0]
    assert attentive.asked == sorted(attentive.asked, reverse=True)


class _Unsettled(Parabola):
    """Has a model that is off by five tolerances until it has been asked to settle twice."""

    def __init__(self) -> None:
        super().__init__(6.0, [1.0, 5.0])
        self.settled = 0

    def answer(self, question: admm.Question) -> admm.Answer:
        self.settled += question.settle
        answer = super().answer(question)
        return admm.Answer(answer.values, cost_eur=answer.cost_eur, model_error=5.0 if self.settled < 2 else 0.5)


def test_the_run_goes_on_until_every_model_has_settled() -> None:
    problem, unsettled = pair(), _Unsettled()
    problem.agents["up"] = lambda: unsettled
    result = problem.solve()
    assert result.converged
    assert unsettled.settled == 2
    assert result.history[-1].model_error == 0.5
    assert result.history[-1].accuracy <= TIGHT["final_accuracy"]


def test_a_cost_that_one_agent_keeps_leaves_no_objective() -> None:
    problem = star()
    problem.agents["a"] = lambda: QPAgent(consumer("a", 2.0, 1.0, 9.0).qp, shares_cost=False)
    result = problem.solve()
    assert result.converged
    assert result.objective is None


class _BadPolicy:
    """Good at the start, then gives what it is told to."""

    name = "bad"

    def __init__(self, later: object) -> None:
        self.later = later

    def start(self, layout) -> np.ndarray:
        return np.ones(layout.size)

    def update(self, penalty: np.ndarray, seen: admm.Observation) -> object:
        return self.later


@pytest.mark.parametrize("later", [np.zeros(2), np.array([1.0, np.inf]), np.array([1.0, -1.0]), 1.0])
def test_a_policy_that_gives_a_useless_penalty_is_stopped(later: object) -> None:
    with pytest.raises(admm.InputError, match="penalty policy 'bad'"):
        pair().solve(penalty=_BadPolicy(later))


def test_wall_time_is_split_without_rest_or_overlap() -> None:
    problem = pair()
    problem.agents["low"] = lambda: Parabola(2.0, [3.0, -1.0], seconds=0.01)
    result = problem.solve(max_iterations=5)
    timing = result.timing
    parts = timing.agents + timing.operators + timing.communication + timing.waiting + timing.engine
    assert parts == pytest.approx(timing.wall, rel=1e-6)
    assert timing.agents >= 5 * 0.01
    assert result.solve_seconds["low"] >= 0.01 > result.solve_seconds["up"]


class SlowAtFirst(Parabola):
    """Sets something up before its first answer."""

    def answer(self, question: admm.Question) -> admm.Answer:
        self.seconds = 0.2 if question.iteration == 1 else 0.002
        return super().answer(question)


def test_the_first_answer_does_not_dominate_the_time_that_balances_ranks() -> None:
    problem = pair()
    problem.agents["low"] = lambda: SlowAtFirst(2.0, [3.0, -1.0])
    assert 0.002 <= problem.solve(max_iterations=6).solve_seconds["low"] < 0.03


def test_times_of_the_latest_answers_are_kept_and_no_more() -> None:
    run = run_of(admm.InProcessTransport(), {name: make() for name, make in star().agents.items()})
    times = [*[5.0] * MEDIAN_OF, *np.arange(1.0, MEDIAN_OF + 1)]
    run.count("a", [admm.Answer(np.zeros(1), solve_seconds=seconds) for seconds in times])
    assert run.median_seconds("a") == (MEDIAN_OF + 1) / 2 and len(run.answer_seconds["a"]) == MEDIAN_OF
    assert run.median_seconds("b") == 0.0


def test_import_starts_nothing() -> None:
    code = "import sys, admm; print(sorted({'mpi4py', 'h5py', 'scipy', 'osqp'} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


# ---------------------------------------------------------------- random problems against Clarabel


def _random_problem(seed: int) -> tuple[dict[str, QuadraticProgram], list[admm.Coupling]]:
    """Two to five agents, each with a strongly convex QP with rows and bounds; a random connected graph.

    Bounds are wide around 0 and rows hold there, so 0 on every boundary is feasible for all.
    """
    rng = np.random.default_rng(seed)
    count = int(rng.integers(2, 6))
    names = [f"agent{i}" for i in range(count)]
    ends = [(i, int(rng.integers(0, i))) for i in range(1, count)]
    ends += [tuple(rng.choice(count, 2, replace=False)) for _ in range(int(rng.integers(0, 3)))]
    periods = int(rng.integers(1, 4))
    couplings = [coupling(f"c{k}", names[i], names[j], periods, price_scale=5.0) for k, (i, j) in enumerate(ends)]
    return {name: _random_program(rng, name, couplings) for name in names}, couplings


def _random_program(rng: np.random.Generator, name: str, couplings: list[admm.Coupling]) -> QuadraticProgram:
    mine = [c for c in couplings if name in (c.lower, c.upper)]
    entries = sum(c.size for c in mine)
    n, m = entries + int(rng.integers(0, 4)), int(rng.integers(1, 4))
    factor = rng.normal(size=(n, n))
    A = np.vstack([rng.normal(size=(m, n)), np.eye(n)])
    wide = np.concatenate([rng.uniform(0.2, 2.0, m), rng.uniform(0.3, 3.0, n)])
    starts = np.cumsum([0, *(c.size for c in mine)])
    boundary = {(c.name, "p_mw"): np.arange(s, s + c.size) for c, s in zip(mine, starts[:-1], strict=True)}
    P = factor @ factor.T / n + 0.3 * np.eye(n)
    return QuadraticProgram(
        sp.csc_matrix((P + P.T) / 2), rng.normal(scale=3.0, size=n), sp.csc_matrix(A), -wide, wide, boundary, name=name
    )


def _stacked_optimum(programs: dict[str, QuadraticProgram], couplings: list[admm.Coupling]) -> tuple[float, dict]:
    """The whole problem as one, written in CVXPY and solved by Clarabel: optimum and boundary values."""
    x = {name: cp.Variable(qp.size) for name, qp in programs.items()}
    cost = sum(0.5 * cp.quad_form(x[n], cp.psd_wrap(qp.P.toarray())) + qp.q @ x[n] for n, qp in programs.items())
    rows = [row for n, qp in programs.items() for row in (qp.A @ x[n] <= qp.u, qp.A @ x[n] >= qp.l)]
    for c in couplings:
        low, up = (x[n][programs[n].boundary[c.name, "p_mw"]] for n in (c.lower, c.upper))
        rows.append(low == up)
    problem = cp.Problem(cp.Minimize(cost), rows)
    problem.solve(solver=cp.CLARABEL)
    values = {c.name: x[c.lower].value[programs[c.lower].boundary[c.name, "p_mw"]] for c in couplings}
    return float(problem.value), values


@given(st.integers(0, 2**32 - 1), st.booleans())
@settings(max_examples=MANY_EXAMPLES, deadline=None, derandomize=True)
def test_random_problems_reach_the_optimum_of_the_stacked_one(seed: int, relay_all: bool) -> None:
    programs, couplings = _random_problem(seed)
    optimum, values = _stacked_optimum(programs, couplings)
    agents = {name: (lambda qp=qp: QPAgent(qp)) for name, qp in programs.items()}
    tight = {**TIGHT, "consensus_tolerance": 1e-6, "optimality_tolerance": 1e-7, "absolute_tolerance": 1e-6}
    result = Problem(agents, couplings, tight, optimum).solve(relay_all=relay_all)
    assert result.converged, result.status
    assert result.objective == pytest.approx(optimum, abs=RANDOM_OBJECTIVE * max(1.0, abs(optimum)))
    for name, value in values.items():
        assert result.boundary[name]["p_mw"].lower == pytest.approx(value, abs=RANDOM_VALUE_MW)


def _literally(words: str) -> str:
    return re.escape(words)
