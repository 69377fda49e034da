"""Accelerations: what they do to a linear map, when they fall back, and that a run reports answers that were given."""

from __future__ import annotations

import numpy as np
import pytest

import admm
from admm.acceleration import Anderson, Plain, Point, Relaxation, acceleration_for, least_squares
from tests.small_problems import PROBLEMS, Parabola, coupling, pair
from tests.tolerances import EXACT, SOLVER

PENALTY = np.array([4.0, 0.25, 9.0])


def _map(seed: int = 5) -> tuple[np.ndarray, np.ndarray]:
    """A contraction x -> M x + c of six numbers with eigenvalues up to 0.95, not symmetric."""
    random = np.random.default_rng(seed)
    basis = random.normal(size=(6, 6))
    return basis @ np.diag([0.95, 0.9, 0.7, 0.5, -0.4, 0.1]) @ np.linalg.inv(basis), random.normal(size=6)


def _scaled(x: np.ndarray) -> Point:
    """Six numbers in the norm of the loop as z and price."""
    return Point(x[:3] / np.sqrt(PENALTY), x[3:] * np.sqrt(PENALTY))


def _flat(point: Point) -> np.ndarray:
    return np.concatenate([point.second * np.sqrt(PENALTY), point.price / np.sqrt(PENALTY)])


def _error_after(steps: int, acceleration: Plain) -> float:
    matrix, constant = _map()
    fixed = np.linalg.solve(np.eye(6) - matrix, constant)
    point = _scaled(np.zeros(6))
    for _ in range(steps):
        after = _scaled(matrix @ _flat(point) + constant)
        point = acceleration.next_start(point, after, PENALTY)
    return float(np.linalg.norm(_flat(point) - fixed) / np.linalg.norm(fixed))


class Unguarded(Anderson):
    """Without the safeguards, which are not part of the textbook method."""

    TIKHONOV, LONGEST, LARGEST_WEIGHT, REACH = 0.0, np.inf, np.inf, np.inf


def test_a_linear_map_is_solved_in_as_many_steps_as_it_has_dimensions() -> None:
    """Anderson on a linear map is GMRES (Walker and Ni 2011): d + 1 steps are exact, which plain ones are far from."""
    assert _error_after(8, Unguarded(6)) < SOLVER
    assert _error_after(8, Plain()) > 0.1
    assert _error_after(5, Unguarded(6)) > 1e-4


def test_one_remembered_step_is_the_secant_by_hand() -> None:
    """x -> x / 2 from 8: f = -4 and -2, g = 4 and 2; w = f dF / dF^2 = -1; next = 2 + (2 - 4) = 0, the fixed point."""
    secant, one = Unguarded(1), np.ones(1)
    first = secant.next_start(Point(8 * one, 0 * one), Point(4 * one, 0 * one), one)
    assert first.second == pytest.approx(4 * one, rel=EXACT)
    second = secant.next_start(first, Point(2 * one, 0 * one), one)
    assert second.second == pytest.approx(0 * one, abs=EXACT)


def test_weights_from_inner_products_are_those_of_least_squares() -> None:
    random = np.random.default_rng(2)
    columns, right = random.normal(size=(40, 4)), random.normal(size=40)
    stacked = np.column_stack([columns, right])
    expected = np.linalg.lstsq(columns, right, rcond=None)[0]
    assert least_squares(stacked.T @ stacked, 0.0) == pytest.approx(expected, rel=SOLVER)
    strength = 0.3 * np.sum(columns**2)
    ridge = np.linalg.lstsq(np.vstack([columns, np.sqrt(strength) * np.eye(4)]), [*right, 0, 0, 0, 0], rcond=None)[0]
    assert least_squares(stacked.T @ stacked, 0.3) == pytest.approx(ridge, rel=SOLVER)
    assert least_squares(np.zeros((3, 3)), 0.3) is None


def test_a_step_that_is_too_long_goes_back_to_where_the_last_one_led() -> None:
    anderson, one = Anderson(), np.ones(3)
    anderson.next_start(Point(0 * one, 0 * one), Point(one, one), PENALTY)
    kept = anderson.next_start(Point(one, one), Point(1.5 * one, 1.5 * one), PENALTY)
    assert not np.allclose(kept.second, 1.5 * one)
    back = anderson.next_start(kept, Point(kept.second + 5 * one, kept.price), PENALTY)
    assert back.second == pytest.approx(1.5 * one, rel=EXACT)
    assert back.price == pytest.approx(1.5 * one, rel=EXACT)
    plain = anderson.next_start(back, Point(9 * one, 9 * one), PENALTY)
    assert plain.second == pytest.approx(9 * one, rel=EXACT)


def test_weights_too_large_to_trust_give_the_plain_step() -> None:
    anderson, one = Anderson(), np.ones(1)
    anderson.TIKHONOV = 0.0
    anderson.next_start(Point(0 * one, 0 * one), Point(one, 0 * one), one)
    found = anderson.next_start(Point(one, 0 * one), Point(2 * one - 1e-6, 0 * one), one)
    assert found.second == pytest.approx(2 * one - 1e-6, rel=EXACT)


def test_what_is_forgotten_has_no_effect() -> None:
    used, fresh, one = Anderson(), Anderson(), np.ones(3)
    used.next_start(Point(0 * one, 0 * one), Point(one, one), PENALTY)
    used.forget()
    for anderson in (used, fresh):
        last = anderson.next_start(Point(2 * one, one), Point(2.5 * one, one), PENALTY)
        assert last.second == pytest.approx(2.5 * one, rel=EXACT)


def test_two_relaxed_iterations_by_hand() -> None:
    """Weights 2 and 6, targets 3 and 1, penalty 2, factor 1.5, from 0 (Boyd et al. 2011, section 3.4.3).

    y1 = 6 / 4 = 1.5, shown 2.25;  z1 = (6 + 2 x 2.25) / 8 = 1.3125;  price1 = 2 (2.25 - 1.3125) = 1.875
    y2 = (6 - 1.875 + 2.625) / 4 = 1.6875, shown 1.5 x 1.6875 - 0.5 x 1.3125 = 1.875
    z2 = (6 + 1.875 + 3.75) / 8 = 1.453125;  price2 = 1.875 + 2 (1.875 - 1.453125) = 2.71875
    """
    problem = pair()
    problem.agents.update(low=lambda: Parabola(2.0, [3.0, 3.0]), up=lambda: Parabola(6.0, [1.0, 1.0]))
    given = {"penalty": admm.Classical(raw=2.0), "acceleration": "relaxation:1.5"}
    given |= {"initial_price": {"low-up": {"p_mw": [0.0, 0.0]}}}
    for iterations, lower, upper, price in ((1, 1.5, 1.3125, 1.875), (2, 1.6875, 1.453125, 2.71875)):
        found = problem.solve(max_iterations=iterations, **given).boundary["low-up"]["p_mw"]
        assert found.lower == pytest.approx([lower] * 2, rel=EXACT)
        assert found.upper == pytest.approx([upper] * 2, rel=EXACT)
        assert found.price == pytest.approx([price] * 2, rel=EXACT)


class Recorder(Parabola):
    """Remembers every question and answer."""

    def prepare(self, boundary: admm.AgentBoundary) -> None:
        super().prepare(boundary)
        self.log: list[tuple[admm.Question, admm.Answer]] = []

    def answer(self, question: admm.Question) -> admm.Answer:
        answer = super().answer(question)
        self.log.append((question, answer))
        return answer


RUNS = ("none", "relaxation:1.6", "anderson:3")


@pytest.mark.parametrize("acceleration", RUNS)
@pytest.mark.parametrize("first_is_lower", [True, False])
def test_what_is_reported_are_answers_that_were_given(acceleration: str, first_is_lower: bool) -> None:
    """Values, costs, and the dual residual: by how much the first side's answer is off its optimum at the price.

    A parabola's slope at b is weight (b - target); the first side would want it to be minus its signed price.
    """
    agents = {"low": Recorder(2.0, [3.0, -1.0]), "up": Recorder(6.0, [1.0, 5.0])}
    first, sign = ("low", 1.0) if first_is_lower else ("up", -1.0)
    ends = [coupling("low-up", "low", "up", periods=2, price_scale=5.0)]
    if not first_is_lower:
        agents["first"] = Recorder(1.0, [0.0])
        ends.insert(0, coupling("first-low", "first", "low", price_scale=5.0))
        agents["low"].target = np.array([0.0, 3.0, -1.0])
    settings = admm.Settings(acceleration=acceleration, penalty="classical:0.05", max_iterations=5)
    result = admm.solve(agents, ends, settings)
    found = result.boundary["low-up"]["p_mw"]
    last = {name: agent.log[-1][1] for name, agent in agents.items()}
    assert np.array_equal(found.lower, last["low"].values[-2:])
    assert np.array_equal(found.upper, last["up"].values)
    assert result.objective == pytest.approx(sum(answer.cost_eur for answer in last.values()), rel=EXACT)
    slope = agents[first].weight * (last[first].values - agents[first].target)
    wanted = [(slope + sign * found.price) / 5.0]
    if not first_is_lower:
        wanted.append(last["first"].values + result.boundary["first-low"]["p_mw"].price)
        wanted[-1] = wanted[-1] / 5.0
    assert result.residuals.dual == pytest.approx(np.linalg.norm(np.concatenate(wanted)), rel=EXACT)


@pytest.mark.parametrize(("acceleration", "moved"), [("none", False), ("relaxation", False), ("anderson", True)])
def test_only_anderson_moves_the_start(acceleration: str, moved: bool) -> None:
    low, up = Recorder(2.0, [3.0, -1.0]), Recorder(6.0, [1.0, 5.0])
    settings = admm.Settings(acceleration=acceleration, penalty="classical:0.05", max_iterations=4)
    admm.solve({"low": low, "up": up}, [coupling("low-up", "low", "up", periods=2, price_scale=5.0)], settings)
    assert np.array_equal(low.log[-1][0].reference, up.log[-2][1].values) != moved


@pytest.mark.parametrize("name", PROBLEMS)
@pytest.mark.parametrize("acceleration", RUNS)
@pytest.mark.parametrize("penalty", ["adaptive", "classical", "spectral"])
def test_problems_solved_by_hand(name: str, acceleration: str, penalty: str) -> None:
    """Every acceleration ends at the optimum under every kind of policy."""
    problem = PROBLEMS[name]()
    result = problem.solve(acceleration=acceleration, penalty=penalty)
    assert result.converged
    assert result.objective == pytest.approx(problem.objective, rel=SOLVER)
    for key, value in problem.value.items():
        assert result.boundary[key]["p_mw"].lower == pytest.approx(value, abs=SOLVER)


def test_anderson_needs_fewer_iterations() -> None:
    """A penalty twenty times too small, where plain steps creep."""
    plain, anderson = (pair().solve(acceleration=a, penalty="classical:0.05").iterations for a in ("none", "anderson"))
    assert anderson < 0.5 * plain


class Counting(Plain):
    """Counts how often it is told to forget."""

    def __init__(self) -> None:
        self.forgotten = self.steps = 0

    def forget(self) -> None:
        self.forgotten += 1

    def next_start(self, before: Point, after: Point, penalty: np.ndarray) -> Point:
        self.steps += 1
        return after


class Stepping(admm.Classical):
    """Doubles after iterations 2 and 5."""

    def update(self, penalty: np.ndarray, seen: admm.Observation) -> np.ndarray:
        return 2.0 * penalty if seen.iteration in (2, 5) else penalty


def test_memory_is_cleared_before_a_run_and_at_every_change_of_the_penalty() -> None:
    counting = Counting()
    pair().solve(acceleration=counting, penalty=Stepping(0.01), max_iterations=8)
    assert (counting.forgotten, counting.steps) == (3, 5)


def test_accelerations_by_name() -> None:
    assert acceleration_for("anderson:4").memory == 4
    assert acceleration_for("relaxation:1.2").factor == 1.2
    assert type(acceleration_for("none")) is Plain
    mine = Relaxation(1.5)
    assert acceleration_for(mine) is mine


@pytest.mark.parametrize(
    "given",
    ["", "momentum", "none:1", "anderson:0", "anderson:2.5", "anderson:inf", "relaxation:2", "relaxation:x", None],
)
def test_accelerations_that_are_none_are_refused(given: object) -> None:
    with pytest.raises(admm.InputError, match="acceleration"):
        admm.Settings(acceleration=given)
