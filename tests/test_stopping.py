"""When a run may end: without any turnover, and not on answers that are not exact."""

from __future__ import annotations

from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest

import admm
from admm.commands.summary import against_reference
from tests.small_problems import Parabola, coupling


@pytest.mark.parametrize(("low", "up"), [([3.0, -1.0], [3.0, -1.0]), ([1.0, 2.0], [-1.0, -2.0])])
def test_a_price_or_an_exchange_of_nothing_converges(low: list[float], up: list[float]) -> None:
    """Equal wishes: the price is 0. Opposite ones: nothing is exchanged. Either way there is no turnover."""
    agents = {"low": Parabola(2.0, low), "up": Parabola(2.0, up)}
    couplings = [coupling("low-up", "low", "up", periods=2, scale=2.0, price_scale=5.0)]
    result = admm.solve(agents, couplings)
    assert result.converged
    assert result.objective == pytest.approx(np.sum((np.array(low) - np.array(up)) ** 2) / 2, abs=1e-4)


class NeverExact(Parabola):
    """Says of each answer that it is not exact."""

    def answer(self, question: admm.Question) -> admm.Answer:
        return replace(super().answer(question), status=admm.AnswerStatus.INACCURATE)


def test_an_inexact_answer_does_not_end_a_run() -> None:
    agents = {"low": NeverExact(2.0, [3.0]), "up": Parabola(2.0, [1.0])}
    couplings = [coupling("low-up", "low", "up", scale=2.0, price_scale=5.0)]
    result = admm.solve(agents, couplings, admm.Settings(max_iterations=60))
    assert result.status is admm.Status.MAX_ITERATIONS
    assert result.residuals.mismatch < 1e-6


@pytest.mark.parametrize(("turnover", "gap"), [(0.0, 0.02), (0.1, 0.02), (4.0, 0.001)])
def test_the_gap_to_a_reference_has_the_floor_of_the_stop(turnover: float, gap: float) -> None:
    """1 % of 2 x 2 periods x 5 = 20 is 0.2 EUR: 0.004 EUR are 0.02 of it, and 0.001 of a turnover of 4 EUR."""
    reference = {"case": {"case_sha256": "0", "objective_eur": 7.0, "turnover_eur": turnover}}
    folder = SimpleNamespace(reference=lambda: reference)
    couplings = [coupling("low-up", "low", "up", periods=2, scale=2.0, price_scale=5.0)]
    case = SimpleNamespace(name="case", folder=folder, couplings=couplings)
    found = against_reference(case, {"case_sha256": "0", "objective_eur": 7.004})
    assert found["gap_to_reference"] == pytest.approx(gap, rel=1e-9)
