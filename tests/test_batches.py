"""Several questions in one message: each has its own answer, in order, and an infeasible one spoils no other."""

from __future__ import annotations

import numpy as np
import pytest

import admm
from admm.couplings import Layout
from admm.wire import answers_bytes, questions_bytes
from tests.batches import BATCHES, by_hand, question, run_of
from tests.small_problems import Parabola, coupling, star
from tests.tolerances import SOLVER


@pytest.fixture(params=[1, 2])
def run(request):
    run = run_of(admm.InProcessTransport(threads=request.param), {n: make() for n, make in star().agents.items()})
    yield run
    run.transport.finish(has_result=False)


def test_every_question_has_its_own_answer_in_order(run) -> None:
    answers = run.ask_batches(BATCHES, "agents", check=False)
    assert list(answers) == list(BATCHES)
    for name, expected in by_hand().items():
        for answer, values in zip(answers[name], expected, strict=True):
            assert answer.status is (admm.AnswerStatus.INFEASIBLE if values is None else admm.AnswerStatus.SOLVED)
            assert answer.values == pytest.approx(np.zeros(1) if values is None else values, abs=SOLVER)
    assert answers["a"][1].reason and not answers["a"][0].reason
    assert {name: len(times) for name, times in run.answer_seconds.items()} == {"a": 3, "b": 0, "c": 1, "s": 2}
    assert run.answer_seconds["a"] == [answer.solve_seconds for answer in answers["a"]]


def test_a_message_has_one_header_whatever_it_carries(run) -> None:
    answers = run.ask_batches(BATCHES, "agents", check=False)
    entries = {"a": 1, "c": 1, "s": 3}
    expected = sum(
        questions_bytes(entries[name], len(asked)) + answers_bytes(entries[name], [a.reason for a in answers[name]])
        for name, asked in BATCHES.items()
    )
    assert run.transport.traffic.bytes == expected


def test_an_unusable_answer_raises_unless_it_is_wanted(run) -> None:
    with pytest.raises(admm.InfeasibleError, match="agent 'a' is infeasible"):
        run.ask_batches(BATCHES, "agents")
    with pytest.raises(admm.InfeasibleError, match="agent 'a' is infeasible"):
        run.ask({"a": BATCHES["a"][1]}, "agents")
    assert run.ask({"c": BATCHES["c"][0]}, "agents")["c"].values == pytest.approx([0.5], abs=SOLVER)


class OneArray(Parabola):
    """Answers with the same array again and again, as an agent with a state of its own may."""

    def answer(self, question: admm.Question) -> admm.Answer:
        answer = super().answer(question)
        self.shared = getattr(self, "shared", np.zeros(answer.values.size))
        self.shared[:] = answer.values
        return admm.Answer(self.shared)


class NotANumber(Parabola):
    """Answers the second question with NaN."""

    def answer(self, question: admm.Question) -> admm.Answer:
        return admm.Answer(np.full(1, np.nan if question.price[0] == 1.0 else 0.0))


@pytest.mark.parametrize("kind", [OneArray, Parabola])
def test_an_answer_stays_when_its_agent_answers_again(kind: type[Parabola]) -> None:
    transport = admm.InProcessTransport()
    layout = Layout([coupling("low-up", "low", "up")])
    transport.start({"low": kind(2.0, [3.0])}, {"low": layout.boundary("low")})
    answers = transport.ask({"low": [question([price], [0.0], 0.0) for price in (0.0, 1.0, 2.0)]})["low"]
    assert [float(answer.values[0]) for answer in answers] == [3.0, 2.5, 2.0]


def test_a_number_that_is_none_is_never_returned(run) -> None:
    run.transport._agents["a"] = NotANumber(2.0, [3.0])
    with pytest.raises(admm.SolverError, match="answer.values has a value that is not a finite number"):
        run.ask_batches({"a": [question([price], [0.0], 0.0) for price in (0.0, 1.0)]}, "agents", check=False)
