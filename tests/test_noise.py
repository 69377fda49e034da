"""Answers with noise: the noise is what its statement says, and nothing else leaves."""

from __future__ import annotations

import math
from pathlib import Path
from statistics import NormalDist

import numpy as np
import pytest

import admm
from admm.couplings import Layout
from admm.privacy import Noise, Noisy, epsilon, rho, rho_for
from admm.resume import CHECKPOINT, Checkpoints
from subproblems import Builder, QPAgent
from tests.small_problems import Parabola, pair
from tests.tolerances import EXACT, SOLVER

QUESTIONS = 4000
STANDARD_ERRORS = 5.0
SIGMA = 1e-3
"""Of the noise in runs, as a share of what is exchanged."""


def exact_delta(epsilon: float, sensitivity: float, sigma: float) -> float:
    """The least delta of the Gaussian mechanism: Balle and Wang (ICML 2018), Theorem 8."""
    phi, a, b = NormalDist().cdf, sensitivity / (2 * sigma), epsilon * sigma / sensitivity
    return phi(a - b) - math.exp(epsilon) * phi(-a - b)


@pytest.mark.parametrize("target", [0.1, 1.0, 10.0])
@pytest.mark.parametrize("answers", [1, 50])
def test_the_accountant_is_right_and_not_far_off(target: float, answers: int) -> None:
    """k answers with sigma are one with sigma / sqrt(k), whose exact delta is known."""
    delta, sensitivity = 1e-5, 3.0
    sigma = sensitivity * math.sqrt(answers / (2 * rho_for(target, delta)))
    assert epsilon(rho(sensitivity, sigma, answers), delta) == pytest.approx(target, rel=EXACT)
    assert exact_delta(target, sensitivity * math.sqrt(answers), sigma) <= delta
    assert exact_delta(0.5 * target, sensitivity * math.sqrt(answers), sigma) > delta


def prepared(noise: Noise, seed: int | None = 1, agent: admm.Agent | None = None) -> Noisy:
    noisy = Noisy(agent or Parabola(2.0, [3.0, -1.0]), noise, seed)
    noisy.prepare(Layout(pair().couplings).boundary("low"))
    return noisy


def question(reference: tuple[float, float] = (3.0, -1.0)) -> admm.Question:
    """At the parabola's own target and a price of 0: the answer without noise is (3, -1)."""
    return admm.Question(1, np.zeros(2), np.array(reference), np.full(2, 0.5))


def test_the_noise_is_normal_of_the_size_that_the_budget_says() -> None:
    noise = Noise({"p_mw": 0.01}, epsilon=50.0, answers=QUESTIONS, clip=1e6)
    noisy = prepared(noise)
    sigma = 0.01 * math.sqrt(2 * QUESTIONS / (2 * rho_for(50.0, 1e-5)))
    assert noisy.sigma == pytest.approx(np.full(2, sigma), rel=EXACT)
    error = np.array([noisy.answer(question()).values for _ in range(QUESTIONS)]) - [3.0, -1.0]
    standard = error / sigma
    n = standard.size
    assert abs(standard.mean()) < STANDARD_ERRORS / math.sqrt(n)
    assert abs(standard.var() - 1) < STANDARD_ERRORS * math.sqrt(2 / n)
    assert abs((standard**4).mean() - 3) < STANDARD_ERRORS * math.sqrt(96 / n)
    assert abs(np.corrcoef(standard.T)[0, 1]) < STANDARD_ERRORS / math.sqrt(QUESTIONS)
    assert noisy.epsilon_of(QUESTIONS) == pytest.approx(50.0, rel=EXACT)
    assert noisy.epsilon_of(1) < 50.0 / math.sqrt(QUESTIONS) * 1.1


def test_values_are_clipped_to_the_reference_before_and_after() -> None:
    noisy = prepared(Noise({"p_mw": 10.0}, epsilon=1.0, answers=100, clip=0.25))  # scale 2: +- 0.5
    grid = 2 ** np.floor(np.log2(noisy.sigma / 1024))
    told = np.array([noisy.answer(question((1.0, 1.0))).values for _ in range(50)])
    assert np.abs(told - 1.0).max() <= 0.5 + grid.max()
    assert {*np.sign(told[:, 0] - 1.0)} == {*np.sign(told[:, 1] - 1.0)}, "the noise is far above the clip"
    quiet = prepared(Noise({"p_mw": 1e-9}, epsilon=1e3, answers=1, clip=0.25))
    assert quiet.answer(question((1.0, 1.0))).values == pytest.approx([1.5, 0.5], abs=1e-6)


def test_between_any_two_agents_the_clip_is_all_that_is_assumed() -> None:
    """2 clip = change: both statements are one."""
    noisy = prepared(Noise({"p_mw": 1.0}, epsilon=3.0, answers=7, clip=0.25))
    assert noisy.epsilon_of_anything(7) == pytest.approx(3.0, rel=EXACT)


def test_nothing_but_noisy_values_is_told() -> None:
    noisy = prepared(Noise({"p_mw": 0.1}, epsilon=1.0, answers=2))
    answer = noisy.answer(question())
    assert (answer.cost_eur, answer.bound_eur, answer.reason, answer.inner_iterations) == (None, None, "", 0)
    assert answer.solve_seconds == 1e-9 and answer.status is admm.AnswerStatus.SOLVED
    assert not np.array_equal(answer.values, noisy.solution()) and noisy.solution() == pytest.approx([3.0, -1.0])
    assert np.all(answer.values / 2.0**-30 % 1 == 0), "on a grid far above the last digits"


class NoAnswer(Parabola):
    def answer(self, question: admm.Question) -> admm.Answer:
        return admm.Answer(np.zeros(2), admm.AnswerStatus.INFEASIBLE, "battery.energy (period 3)", inner_iterations=7)


def test_a_reason_stays() -> None:
    told = prepared(Noise({"p_mw": 0.1}, epsilon=1.0, answers=2), agent=NoAnswer(1.0, [0.0, 0.0])).answer(question())
    assert told.status is admm.AnswerStatus.INFEASIBLE and (told.reason, told.inner_iterations) == ("", 0)


def test_a_budget_is_spent_once() -> None:
    noisy = prepared(Noise({"p_mw": 0.1}, epsilon=1.0, answers=2))
    noisy.answer(question())
    noisy.prepare(Layout(pair().couplings).boundary("low"))
    noisy.answer(question())
    with pytest.raises(admm.SolverError, match="budget of 2 answers is spent"):
        noisy.answer(question())


def test_a_seed_repeats_and_the_operating_system_does_not() -> None:
    noise = Noise({"p_mw": 0.1}, epsilon=1.0, answers=9)
    same = [prepared(noise, seed=5).answer(question()).values for _ in range(2)]
    other = [prepared(noise, seed=None).answer(question()).values for _ in range(2)]
    assert np.array_equal(*same) and not np.array_equal(*other)


@pytest.mark.parametrize(
    ("keys", "words"),
    [
        ({"epsilon": 0.0}, "epsilon is 0.0"),
        ({"delta": 1.0}, "delta is 1.0"),
        ({"answers": 0}, "answers is 0"),
        ({"clip": math.nan}, "clip is nan"),
        ({"change": {"p_mw": -1.0}}, "p_mw is -1.0"),
        ({"change": {"gas_mw": 1.0}}, "change has no 'p_mw'"),
    ],
)
def test_bad_input_is_said(keys: dict, words: str) -> None:
    with pytest.raises(admm.InputError, match=words):
        prepared(Noise(**{"change": {"p_mw": 1.0}, "epsilon": 1.0, "answers": 1, **keys}))


def test_a_run_ends_as_near_the_optimum_as_the_noise_lets_it() -> None:
    problem, answers = pair(), 60
    budget = 2 * answers / (2 * (SIGMA / 1e-6) ** 2)  # rho
    noise = Noise({"p_mw": 1e-6}, epsilon(budget, 1e-5), answers)
    agents = {"low": Noisy(problem.agents["low"](), noise, seed=3), "up": problem.agents["up"]()}
    loose = {"consensus_tolerance": 1e-9, "max_iterations": answers, "penalty": "classical:1", "acceleration": "none"}
    result = admm.solve(agents, problem.couplings, admm.Settings(**{**problem.settings, **loose}))
    assert agents["low"].sigma == pytest.approx(np.full(2, SIGMA), rel=EXACT)
    assert result.objective is None
    error = result.boundary["low-up"]["p_mw"].upper - problem.value["low-up"]
    assert 0.01 * SIGMA < np.abs(error).max() < 10 * SIGMA


def household(builder: Builder, name: str, random: np.random.Generator) -> list[tuple]:
    """A battery-like thing: power within limits, an energy to be had over the day, costs of its own."""
    power = builder.variable(f"{name}.p_mw", 4, lower=-1.0, upper=1.0, unit="MW")
    builder.cost_of_deviation(power, float(random.uniform(0.1, 3.0)), random.normal(size=4))
    return [power]


def community(households: int, seed: int) -> tuple[QPAgent, list]:
    """So many households of one seed behind a meter, without a common limit."""
    builder, random = Builder("community"), np.random.default_rng(seed)
    meter = builder.variable("meter.p_mw", 4, unit="MW")
    parts = [household(builder, f"h{i}", random)[0] for i in range(households)]
    builder.rows("sum", [(meter, 1.0), *((part, -1.0) for part in parts)], 0.0, 0.0)
    builder.boundary("low-up", "p_mw", meter)
    return QPAgent(builder.build(), solver="piqp"), parts


@pytest.mark.parametrize("seed", range(8))
def test_an_answer_changes_by_no_more_than_what_the_household_takes(seed: int) -> None:
    """The claim of the module: with and without the last of three households."""
    quantity = admm.Quantity("p_mw", 4, scale=1.0)
    boundary = Layout([admm.Coupling("low-up", "low", "up", [quantity])]).boundary("low")
    random = np.random.default_rng(100 + seed)
    asked = admm.Question(1, random.normal(size=4), random.normal(size=4), np.full(4, 2.0), accuracy=1e-8)
    found = {}
    for count in (2, 3):
        agent, _ = community(count, seed)
        agent.prepare(boundary)
        found[count] = (agent.answer(asked).values, agent.solution())
    taken = found[3][1]["h2.p_mw"]
    assert np.linalg.norm(found[3][0] - found[2][0]) <= np.linalg.norm(taken) * (1 + SOLVER) + SOLVER


def test_a_run_that_goes_on_spends_no_budget_twice(tmp_path: Path) -> None:
    """Stopped after 3 answers with the checkpoint of the second: 3 + 4 of the budget of 7 are left to go on with."""
    problem, ledger = pair(), tmp_path / "ledger"

    def run(stop: int, resume: bool = False, ledger: Path | None = ledger) -> Noisy:
        noise = Noise({"p_mw": 1e-6}, epsilon=1e6, answers=7)
        noisy = Noisy(problem.agents["low"](), noise, seed=1, ledger=ledger)
        settings = admm.Settings(callback=lambda progress: progress.iteration >= stop)
        kept = Checkpoints(tmp_path / "kept", every_seconds=1e-9, resume=resume)
        agents = {"low": noisy, "up": problem.agents["up"]()}
        admm.solve(agents, problem.couplings, settings, admm.InProcessTransport(1), kept)
        return noisy

    with pytest.raises(admm.InputError, match="give Noisy a ledger"):
        run(3, ledger=None)
    assert run(3).answers_given == 3
    (tmp_path / "kept" / CHECKPOINT).write_bytes(b"damaged")  # the one before is of iteration 2
    assert run(5, resume=True).answers_given == 6
    with pytest.raises(admm.SolverError, match="budget of 7 answers is spent"):
        run(9, resume=True)
    ledger.unlink()
    with pytest.raises(admm.InputError, match="answers were given, but there is .*ledger, which counts 0"):
        run(9, resume=True)
    ledger.write_text("3")
    with pytest.raises(admm.InputError, match="is no count of answers given"):
        run(9, resume=True)
