"""An answer, a start or a checkpoint that cannot be meant is refused by name before anybody uses it."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

import admm
from admm.checkpoint import read_checkpoint, write_checkpoint
from admm.resume import CHECKPOINT, Checkpoints
from subproblems import QPAgent
from tests.small_problems import pair, star


class Poisoned:
    """A good agent whose answer number `turn` has one value `times` as large, or a cost of `cost_eur`."""

    def __init__(self, good: admm.Agent, turn: int, value: float = 0.0, cost_eur: float | None = None) -> None:
        self.good, self.turn, self.value, self.cost_eur, self.calls = good, turn, value, cost_eur, 0

    def prepare(self, boundary: admm.AgentBoundary) -> None:
        self.good.prepare(boundary)

    def answer(self, question: admm.Question) -> admm.Answer:
        self.calls += 1
        answer = self.good.answer(question)
        if self.calls != self.turn:
            return answer
        values = answer.values.copy()
        values[-1] += self.value
        return replace(answer, values=values, cost_eur=answer.cost_eur if self.cost_eur is None else self.cost_eur)

    def solution(self):
        return self.good.solution()

    def join(self, *args):
        return self.good.join(*args)


class Seen:
    """A good agent that remembers what it was asked."""

    def __init__(self, good: admm.Agent) -> None:
        self.good, self.prepare, self.solution, self.asked = good, good.prepare, good.solution, []

    def answer(self, question: admm.Question) -> admm.Answer:
        self.asked.append(question)
        return self.good.answer(question)


@pytest.mark.parametrize("value", [1e30, -1e30, 1e9, 1e8, np.finfo(float).max])
@pytest.mark.parametrize("turn", [1, 4])
@pytest.mark.parametrize("name", ["low", "up"])
def test_a_poisoned_answer_names_its_agent_and_nobody_sees_it(name: str, turn: int, value: float) -> None:
    problem = pair()
    agents = {who: make() for who, make in problem.agents.items()}
    other = next(who for who in agents if who != name)
    agents = {name: Poisoned(agents[name], turn, value), other: Seen(agents[other])}
    words = f"agent '{name}': its answer at coupling 'low-up', p_mw, period 1 is .* times the scale of 2, expected"
    with pytest.raises(admm.AgentError, match=words) as raised:
        admm.solve(agents, problem.couplings, admm.Settings(**problem.settings))
    assert raised.value.exit_code == 75
    assert all(np.abs(asked.reference).max() < 100 for asked in agents[other].asked)


@pytest.mark.parametrize("scheme", ["certified", "memory"])
@pytest.mark.parametrize("turn", [1, 3, 5])
def test_in_schemes_with_certificates_too(scheme: str, turn: int) -> None:
    problem = star()
    agents = {name: make() for name, make in problem.agents.items()}
    agents["c"] = Poisoned(agents["c"], turn, 1e30)
    settings = admm.Settings(**problem.settings, scheme=scheme)
    with pytest.raises(admm.AgentError, match="agent 'c': its answer at coupling 'c-s', p_mw, period 0 is 1e"):
        admm.solve(agents, problem.couplings, settings)


@pytest.mark.parametrize("cost_eur", [1e30, -1e25])
def test_a_cost_that_cannot_be_meant_names_its_agent(cost_eur: float) -> None:
    problem = star()
    agents = {name: make() for name, make in problem.agents.items()}
    agents["b"] = Poisoned(agents["b"], 2, cost_eur=cost_eur)
    with pytest.raises(admm.AgentError, match="agent 'b': its cost_eur is .*, expected a size of at most"):
        admm.solve(agents, problem.couplings, admm.Settings(**problem.settings))


def test_a_run_that_freezes_lost_agents_goes_on_without_the_poison() -> None:
    problem = star()
    agents = {name: make() for name, make in problem.agents.items()}
    agents["a"] = Poisoned(agents["a"], 5, 1e30)
    result = admm.solve(agents, problem.couplings, admm.Settings(on_lost_agent="freeze", **problem.settings))
    assert list(result.lost_agents) == ["a"] and "times the scale" in result.lost_agents["a"]
    assert np.abs(result.boundary["a-s"]["p_mw"].lower).max() < 10


def test_an_answer_far_beyond_a_scale_that_is_only_small_is_taken() -> None:
    """A value of 2 at a scale of 1e-6 can be meant: it is the scale that is wrong."""
    problem = star()
    couplings = [replace_scale(one, 1e-6) if one.name == "a-s" else one for one in problem.couplings]
    agents = {name: make() for name, make in problem.agents.items()}
    result = admm.solve(agents, couplings, admm.Settings(max_iterations=5))
    assert np.isfinite(result.objective)


def replace_scale(coupling: admm.Coupling, scale: float) -> admm.Coupling:
    quantities = [replace(quantity, scale=scale) for quantity in coupling.quantities]
    return admm.Coupling(coupling.name, coupling.lower, coupling.upper, quantities)


@pytest.mark.parametrize(
    ("key", "value", "words"),
    [
        ("initial_values", 1e30, "is 1e.30 in period 1, expected a size of at most 1e.07 times the nominal 2"),
        ("initial_values", -1e9, "is -1e.09 in period 1"),
        ("initial_price", 1e30, "is 1e.30 in period 1, expected a size of at most 1e.09 times the nominal 5"),
        ("initial_penalty", 1e30, "a penalty is .* times price scale / scale, expected 1e-12 to 1e.12 times"),
        ("initial_penalty", 1e-30, "a penalty is .* times price scale / scale"),
    ],
)
def test_a_start_that_cannot_be_meant_is_refused(key: str, value: float, words: str) -> None:
    with pytest.raises(admm.InputError, match=words):
        pair().solve(**{key: {"low-up": {"p_mw": [1.0, value]}}})


@pytest.mark.parametrize("penalty", ["classical:1e300", "classical:1e-300", "adaptive:1e40"])
def test_a_penalty_that_cannot_be_meant_is_refused(penalty: str) -> None:
    with pytest.raises(admm.InputError, match="a penalty is .* times price scale / scale"):
        pair().solve(penalty=penalty)


@pytest.mark.parametrize("key", ["lower", "upper", "price"])
def test_a_checkpoint_that_cannot_be_meant_is_not_resumed(key: str, tmp_path) -> None:
    problem = star()

    def go(resume: bool, **changes) -> admm.Result:
        agents = {name: make() for name, make in problem.agents.items()}
        assert all(isinstance(agent, QPAgent) for agent in agents.values())
        settings = admm.Settings(**{**problem.settings, **changes})
        kept = Checkpoints(tmp_path, {"case": "star"}, every_seconds=1e-9, resume=resume)
        return admm.solve(agents, problem.couplings, settings, checkpoints=kept)

    go(False, max_iterations=6)
    (tmp_path / "checkpoint-previous.h5").unlink(missing_ok=True)
    found = read_checkpoint(tmp_path / CHECKPOINT)
    getattr(found["run"]["state"], key)[0] = 1e30
    write_checkpoint(tmp_path / CHECKPOINT, found, found["iteration"])
    with pytest.raises(admm.InputError, match="a value or a price is far beyond what its scale allows"):
        go(True)
