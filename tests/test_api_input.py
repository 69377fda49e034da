"""What an embedding passes to the engine: anything but what is asked for is refused in one line that names it."""

from __future__ import annotations

import warnings
from decimal import Decimal

import numpy as np
import pytest
import scipy.sparse as sp

import admm
from admm.acceleration import Plain
from admm.state import BoundaryResult
from subproblems import QPAgent
from subproblems.quadratic_program import QuadraticProgram
from tests.small_problems import Parabola, coupling, pair, star, supplier

NO_NUMBERS = {
    "text": (["0.5", "1"], "text"),
    "text in an array": (np.array(["0.5", "1"]), "text"),
    "text among numbers": (["0.5", 1.0], "text"),
    "truth values": (np.array([True, False]), "truth values"),
    "a truth value among numbers": ([True, 1.0], "truth values"),
    "complex": (np.array([1j, 1.0]), "complex numbers"),
    "objects": (np.array([1.0, 2.0], dtype=object), "objects"),
    "decimals": ([Decimal(1), Decimal(2)], "objects"),
    "none": ([None, None], "objects"),
    "dates": (np.array(["2020-01-01"] * 2, dtype="M8[D]"), "dates"),
    "masked": (np.ma.array([1.0, 2.0], mask=[True, False]), "masked values"),
}


@pytest.fixture(autouse=True)
def no_warning():
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        yield


def parts(**changes: object) -> dict:
    """A program of two variables, x^2 - 2 x each, at most 3 each."""
    eye = sp.identity(2, format="csc")
    good = {"P": 2.0 * eye, "q": np.full(2, -2.0), "A": eye, "l": np.full(2, -np.inf), "u": np.full(2, 3.0)}
    return {**good, "boundary": {("low-up", "p_mw"): np.arange(2)}, "name": "shop", **changes}


@pytest.mark.parametrize("given", NO_NUMBERS)
@pytest.mark.parametrize("key", ["q", "l", "u", "variable_scale", "row_scale"])
def test_vectors_of_a_program_are_real_numbers(key: str, given: str) -> None:
    value, found = NO_NUMBERS[given]
    with pytest.raises(admm.InputError, match=f"^shop: {key} is .*, expected 2 numbers; found {found}$"):
        QuadraticProgram(**parts(**{key: value}))


@pytest.mark.parametrize("key", ["P", "A"])
@pytest.mark.parametrize(
    "value",
    [
        np.eye(2, dtype=bool),
        np.array([["2", "0"], ["0", "2"]]),
        np.eye(2, dtype=object),
        sp.identity(2, dtype=bool, format="csc"),
        "22",
        None,
    ],
)
def test_matrices_of_a_program_are_real_numbers(key: str, value: object) -> None:
    with pytest.raises(admm.InputError, match=f"^shop: {key} is .*expected a sparse matrix of numbers"):
        QuadraticProgram(**parts(**{key: value}))


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"name": 3}, "name is 3, expected text"),
        ({"variables": "ab"}, "variables is 'ab', expected a tuple of .*Block"),
        ({"rows": ["ab"]}, r"rows is \['ab'\], expected a tuple of .*Block"),
    ],
)
def test_other_parts_of_a_program(changes: dict, words: str) -> None:
    with pytest.raises(admm.InputError, match=words):
        QuadraticProgram(**parts(**changes))


@pytest.mark.parametrize(
    ("changes", "key"),
    [
        ({"q": [1e300, 0.0]}, "q"),
        ({"P": 1e40 * sp.identity(2)}, "P"),
        ({"variable_scale": [1e99, 1.0]}, "P"),
    ],
)
def test_numbers_that_no_solver_can_hold(changes: dict, key: str) -> None:
    problem = pair()
    agents = {"low": QPAgent(QuadraticProgram(**parts(**changes))), "up": problem.agents["up"]()}
    with pytest.raises(admm.InputError, match=f"shop: the largest entry of {key} is .* in scaled units"):
        admm.solve(agents, problem.couplings)


@pytest.mark.parametrize("given", NO_NUMBERS)
@pytest.mark.parametrize("key", ["initial_price", "initial_values", "initial_penalty"])
def test_where_a_run_starts_is_real_numbers(key: str, given: str) -> None:
    value, found = NO_NUMBERS[given]
    with pytest.raises(admm.InputError, match=f"settings: {key} of 'low-up', 'p_mw' is .*numbers; found {found}$"):
        pair().solve(**{key: {"low-up": {"p_mw": value}}})


@pytest.mark.parametrize("value", ["0.5", True, np.True_, 1j, None, [1.0], np.ones(1), Decimal(1), b"1", "1e3"])
@pytest.mark.parametrize("key", ["scale", "price_scale"])
def test_scales_are_numbers(key: str, value: object) -> None:
    with pytest.raises(admm.InputError, match=f"quantity 'p_mw': {key} is .*, expected a finite number above 0"):
        admm.Quantity("p_mw", 2, **{key: value})


def test_a_scale_in_an_array_does_not_change_later() -> None:
    scale = np.array(2.0)
    quantity = admm.Quantity("p_mw", np.int64(2), scale=scale)
    scale[...] = 7.0
    assert quantity.scale == 2.0 and type(quantity.scale) is float and type(quantity.periods) is int


@pytest.mark.parametrize(
    ("key", "value", "words"),
    [
        ("relay_all", "no", "relay_all is 'no', expected True or False"),
        ("relay_all", np.array([1, 2]), "relay_all is .*, expected True or False"),
        ("on_lost_agent", np.array([1, 2]), "on_lost_agent is .*, expected stop or freeze"),
    ],
)
def test_settings_that_are_no_words(key: str, value: object, words: str) -> None:
    with pytest.raises(admm.InputError, match=words):
        admm.Settings(**{key: value})


@pytest.mark.parametrize(
    "returned", ["yes", 1, 0, 0.5, np.ones(2), [], {}, object(), admm.Status.CONVERGED, admm.Status.CERTIFIED]
)
def test_a_callback_that_returns_something_odd_is_refused(returned: object) -> None:
    with pytest.raises(admm.InputError, match="the callback returned .* expected True to stop the run"):
        pair().solve(callback=lambda progress: returned)


@pytest.mark.parametrize(
    ("returned", "status", "iterations"),
    [
        (True, admm.Status.STOPPED, 1),
        (np.True_, admm.Status.STOPPED, 1),
        (admm.Status.INTERRUPTED, admm.Status.INTERRUPTED, 1),
        (None, admm.Status.MAX_ITERATIONS, 3),
        (np.False_, admm.Status.MAX_ITERATIONS, 3),
        (admm.Status.RUNNING, admm.Status.MAX_ITERATIONS, 3),
    ],
)
def test_what_a_callback_may_return(returned: object, status: admm.Status, iterations: int) -> None:
    result = pair().solve(max_iterations=3, callback=lambda progress: returned)
    assert (result.status, result.iterations) == (status, iterations)


def test_what_a_callback_raises_is_passed_on_as_it_is() -> None:
    def raises(progress: admm.Progress) -> None:
        raise LookupError("of the user's own")

    with pytest.raises(LookupError, match=r"^'?of the user's own'?$"):
        pair().solve(callback=raises)


def test_one_object_under_two_names_is_refused() -> None:
    one = Parabola(2.0, [3.0])
    couplings = [coupling("a-c", "a", "c"), coupling("b-c", "b", "c")]
    with pytest.raises(admm.InputError, match="agents 'a' and 'b' are one object, expected an object of its own"):
        admm.solve({"a": one, "b": one, "c": Parabola(1.0, [0.0, 0.0])}, couplings)


@pytest.mark.parametrize(
    ("key", "value", "words"),
    [
        ("transport", "mpi", "transport is 'mpi', expected"),
        ("transport", admm.InProcessTransport, "transport is <class .*, expected"),
        ("checkpoints", "folder", "checkpoints is 'folder', expected"),
        ("settings", {"penalty": "adaptive"}, "settings is dict, expected"),
        ("settings", 0, "settings is int, expected"),
    ],
)
def test_arguments_of_solve(key: str, value: object, words: str) -> None:
    problem = pair()
    agents = {name: make() for name, make in problem.agents.items()}
    with pytest.raises(admm.InputError, match=words):
        admm.solve(agents, problem.couplings, **{key: value})


@pytest.mark.parametrize("value", [0, -1, "2", 1.5, True])
def test_threads_are_a_count(value: object) -> None:
    with pytest.raises(admm.InputError, match="threads is .*, expected a whole number of at least 1"):
        admm.InProcessTransport(threads=value)


@pytest.mark.parametrize("value", [0, -1.0, "2", True, float("nan")])
def test_a_deadline_is_above_0(value: object) -> None:
    with pytest.raises(admm.InputError, match="deadline_seconds is .*, expected a number above 0"):
        admm.InProcessTransport(deadline_seconds=value)


def test_a_deadline_without_end_is_one() -> None:
    problem = star()
    agents = {name: make() for name, make in problem.agents.items()}
    transport = admm.InProcessTransport(deadline_seconds=float("inf"))
    assert admm.solve(agents, problem.couplings, admm.Settings(), transport).converged


@pytest.mark.parametrize("value", ["yes", 1, None, np.ones(2)])
def test_whether_costs_are_shared_is_true_or_false(value: object) -> None:
    with pytest.raises(admm.InputError, match="shares_cost is .*, expected True or False"):
        QPAgent(supplier().qp, shares_cost=value)


class OddStart(Plain):
    """Gives what it is made with as a start."""

    name = "odd"

    def __init__(self, start: object) -> None:
        self.start = start

    def next_start(self, before, after, penalty):
        return self.start(after)


@pytest.mark.parametrize(
    "start",
    [
        lambda after: None,
        lambda after: (after.second, after.price),
        lambda after: after._replace(second=after.second * np.nan),
        lambda after: after._replace(price=after.price[:1]),
        lambda after: after._replace(price=list(after.price)),
    ],
)
def test_an_acceleration_gives_a_point(start) -> None:
    with pytest.raises(admm.InputError, match="acceleration 'odd': next_start must give .*Point of two arrays"):
        pair().solve(acceleration=OddStart(start), penalty="classical")


class OddPolicy:
    name = "odd"

    def __init__(self, value: object) -> None:
        self.value = value

    def start(self, layout):
        return self.value

    def update(self, penalty, seen):
        return penalty


@pytest.mark.parametrize("given", NO_NUMBERS)
def test_a_penalty_policy_gives_real_numbers(given: str) -> None:
    with pytest.raises(admm.InputError, match="penalty policy 'odd': start and update must give 2 finite numbers"):
        pair().solve(penalty=OddPolicy(NO_NUMBERS[given][0]))


def former(**changes: object) -> dict:
    values = {"lower": np.ones(2), "upper": np.ones(2), "price": np.ones(2), "unit": "MW", **changes}
    return {"low-up": {"p_mw": BoundaryResult(**values)}}


@pytest.mark.parametrize(
    ("boundary", "words"),
    [
        (None, "the boundary is NoneType"),
        ({"low-up": [1]}, "the boundary is dict"),
        ({"low-up": {"p_mw": 1}}, "'low-up', 'p_mw' is int"),
        (former(lower=["1", "1"]), "'low-up', 'p_mw' has list"),
        (former(price=np.array(["1", "1"])), "'low-up', 'p_mw' has ndarray"),
        (former(upper=np.ones(2, dtype=object)), "'low-up', 'p_mw' has ndarray"),
    ],
)
def test_a_former_result_is_one(boundary: object, words: str) -> None:
    with pytest.raises(admm.InputError, match=f"warm start: {words}.*, expected"):
        admm.warm_start(boundary, pair().couplings)


@pytest.mark.parametrize("value", [0, -1, "24", 1.5, True])
def test_periods_of_a_day_are_a_count(value: object) -> None:
    with pytest.raises(admm.InputError, match="periods_per_day is .*, expected a whole number above 0"):
        admm.warm_start(former(), pair().couplings, 1, value)


@pytest.mark.parametrize("label", ["model_error", "solve_seconds", "inner_iterations"])
def test_what_an_answer_counts_is_not_below_0(label: str) -> None:
    class Odd(Parabola):
        def answer(self, question: admm.Question) -> admm.Answer:
            return admm.Answer(super().answer(question).values, **{label: -1})

    problem = pair()
    agents = {"low": Odd(2.0, [3.0, -1.0]), "up": problem.agents["up"]()}
    with pytest.raises(admm.InputError, match=f"agent 'low': answer.{label} is -1, expected a number of at least 0"):
        admm.solve(agents, problem.couplings)
