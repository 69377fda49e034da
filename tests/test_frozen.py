"""A run that goes on without an agent: its last values stand, and the others agree with them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

import admm
from admm import Answer, AnswerStatus, InProcessTransport, Settings
from admm.resume import Checkpoints
from tests.small_problems import pair
from tests.tolerances import SOLVER

FREEZE = {"on_lost_agent": "freeze", "max_iterations": 2000}


class Fails:
    """Another agent until a certain iteration; then something happens to it."""

    def __init__(self, agent: admm.Agent, at: int, how: Any) -> None:
        self._agent, self._at, self._how = agent, at, how
        self.latest: np.ndarray | None = None

    def prepare(self, boundary: admm.AgentBoundary) -> None:
        self._agent.prepare(boundary)

    def answer(self, question: admm.Question) -> Answer:
        if question.iteration >= self._at:
            return self._how()
        answer = self._agent.answer(question)
        self.latest = np.array(answer.values)
        return answer

    def solution(self) -> Any:
        return self._agent.solution()


def _raises() -> Answer:
    raise RuntimeError("the model server is gone")


HOW = {
    "raises": _raises,
    "not a number": lambda: Answer(np.full(2, np.nan)),
    "gives up": lambda: Answer(np.zeros(2), AnswerStatus.FAILED, "no luck"),
}


@pytest.mark.parametrize("how", HOW)
@pytest.mark.parametrize("threads", [1, 2])
def test_the_other_side_agrees_with_the_last_values(how: str, threads: int) -> None:
    problem = pair()
    low = Fails(problem.agents["low"](), 4, HOW[how])
    agents = {"low": low, "up": problem.agents["up"]()}
    settings = Settings(**{**problem.settings, **FREEZE})
    result = admm.solve(agents, problem.couplings, settings, InProcessTransport(threads))
    assert result.converged and set(result.lost_agents) == {"low"}
    found = result.boundary["low-up"]["p_mw"]
    np.testing.assert_array_equal(found.lower, low.latest)
    np.testing.assert_allclose(found.upper, low.latest, atol=SOLVER)
    slope = 6.0 * (low.latest - np.array([1.0, 5.0]))  # of the other parabola, by hand
    np.testing.assert_allclose(found.price, slope, atol=100 * SOLVER)


@pytest.mark.parametrize("how", HOW)
@pytest.mark.parametrize("threads", [1, 2])
def test_by_default_the_run_ends_and_names_the_agent(how: str, threads: int) -> None:
    """In what it raises itself, or in a note on what the agent raised."""
    problem = pair()
    agents = {"low": Fails(problem.agents["low"](), 4, HOW[how]), "up": problem.agents["up"]()}
    with pytest.raises((admm.TielineError, RuntimeError)) as ended:
        admm.solve(agents, problem.couplings, Settings(**problem.settings), InProcessTransport(threads))
    assert "agent 'low'" in " ".join([str(ended.value), *getattr(ended.value, "__notes__", [])])


def test_an_operator_is_never_frozen() -> None:
    problem = pair()
    agents = {"low": problem.agents["low"](), "up": Fails(problem.agents["up"](), 4, HOW["raises"])}
    with pytest.raises(admm.TransportError, match="agent 'up' is lost: RuntimeError: the model server is gone"):
        admm.solve(agents, problem.couplings, Settings(**{**problem.settings, **FREEZE}), InProcessTransport(1))


def test_an_agent_that_never_answered_has_nothing_to_stand_in() -> None:
    problem = pair()
    agents = {"low": Fails(problem.agents["low"](), 1, HOW["raises"]), "up": problem.agents["up"]()}
    with pytest.raises(admm.TransportError, match="agent 'low' is lost"):
        admm.solve(agents, problem.couplings, Settings(**{**problem.settings, **FREEZE}), InProcessTransport(1))


def test_what_is_wrong_with_a_problem_is_still_said() -> None:
    problem = pair()

    def infeasible() -> Answer:
        return Answer(np.zeros(2), AnswerStatus.INFEASIBLE, "no point")

    agents = {"low": Fails(problem.agents["low"](), 4, infeasible), "up": problem.agents["up"]()}
    with pytest.raises(admm.InfeasibleError, match="agent 'low' is infeasible: no point"):
        admm.solve(agents, problem.couplings, Settings(**{**problem.settings, **FREEZE}), InProcessTransport(1))


@pytest.mark.parametrize(
    ("change", "words"),
    [({"on_lost_agent": "ignore"}, "expected stop or freeze"), ({"scheme": "memory"}, "needs the scheme 'two-block'")],
)
def test_wrong_settings_are_named(change: dict[str, str], words: str) -> None:
    with pytest.raises(admm.InputError, match=words):
        Settings(**{"on_lost_agent": "freeze", **change})


def test_an_agent_that_is_lost_before_it_answers_again_has_its_answer_of_before_the_checkpoint(tmp_path: Path) -> None:
    problem, transport = pair(), InProcessTransport(1)
    agents = {name: make() for name, make in problem.agents.items()}
    stopped = Settings(**{**problem.settings, **FREEZE}, callback=lambda progress: progress.iteration == 4)
    before = admm.solve(agents, problem.couplings, stopped, transport, Checkpoints(tmp_path))
    agents["low"] = Fails(problem.agents["low"](), 5, _raises)
    goes_on = Settings(**{**problem.settings, **FREEZE})
    result = admm.solve(agents, problem.couplings, goes_on, transport, Checkpoints(tmp_path, resume=True))
    assert result.converged and set(result.lost_agents) == {"low"}
    found, expected = result.boundary["low-up"]["p_mw"], before.boundary["low-up"]["p_mw"]
    np.testing.assert_array_equal(found.lower, expected.lower)
