"""The formulas of one iteration, against numbers worked out by hand."""

from __future__ import annotations

import numpy as np
import pytest

import admm
from admm import updates
from admm.couplings import Layout
from admm.state import State
from tests.small_problems import Parabola, pair
from tests.tolerances import EXACT


@pytest.fixture
def layout() -> Layout:
    """One MW entry (scale 2, EUR 10) and one Mvar entry (scale 4, EUR 5)."""
    quantities = [admm.Quantity("p_mw", 1, "MW", 2.0, 10.0), admm.Quantity("q_mvar", 1, "Mvar", 4.0, 5.0)]
    return Layout([admm.Coupling("ab", "a", "b", quantities)])


@pytest.fixture
def state() -> State:
    return State(np.array([8.0, 4.0]), np.array([2.0, 12.0]), np.array([20.0, -5.0]), np.array([3.0, 0.5]))


def test_price_mismatch_step_and_turnover(layout: Layout, state: State) -> None:
    """20 + 3 (8 - 2) = 38, -5 + 0.5 (4 - 12) = -9; (6 / 2, -8 / 4); 3 x 1 / 10, 0.5 x -2 / 5; 20 x 2 + 5 x 12."""
    assert updates.dual_update(state) == pytest.approx([38.0, -9.0], rel=EXACT)
    assert updates.dual_update(state, np.array([10.0, 20.0])) == pytest.approx([30.0, -9.0], rel=EXACT)
    assert updates.scaled_mismatch(state, layout) == pytest.approx([3.0, -2.0], rel=EXACT)
    step = updates.scaled_dual_step(state.penalty, np.array([3.0, 10.0]), np.array([2.0, 12.0]), layout)
    assert step == pytest.approx([0.3, -0.2], rel=EXACT)
    assert updates.turnover_eur(state) == pytest.approx(100.0, rel=EXACT)


def test_residuals_and_tolerances(layout: Layout, state: State) -> None:
    """Scaled values: lower (4, 1), upper (1, 3), price (2, -1); the larger side, sqrt 17, sets the tolerance."""
    settings = admm.Settings(absolute_tolerance=1e-3, relative_tolerance=1e-2)
    seen = updates.residuals(state, np.array([0.3, -0.4]), layout, settings)
    assert seen.primal == pytest.approx(np.sqrt(13.0), rel=EXACT)
    assert seen.dual == pytest.approx(0.5, rel=EXACT)
    assert seen.primal_tolerance == pytest.approx(np.sqrt(2.0) * 1e-3 + 1e-2 * np.sqrt(17.0), rel=EXACT)
    assert seen.dual_tolerance == pytest.approx(np.sqrt(2.0) * 1e-3 + 1e-2 * np.sqrt(5.0), rel=EXACT)
    assert seen.mismatch == pytest.approx(3.0, rel=EXACT)
    state.lower, state.upper = state.upper, state.lower
    assert updates.residuals(state, np.zeros(2), layout, settings).primal_tolerance == seen.primal_tolerance


def test_objective_error_is_a_share_of_the_turnover(layout: Layout, state: State) -> None:
    """|20 x 6 + -5 x -8| = 160 and |1 x 2 - 0.5 x 12| = 4, of 100; without turnover of 1 % of 10 x 2 + 5 x 4."""
    assert updates.objective_error(state, np.array([1.0, -0.5]), layout) == pytest.approx(1.64, rel=EXACT)
    state.price[:] = 0.0
    assert updates.objective_error(state, np.array([1.0, -0.5]), layout) == pytest.approx(4.0 / 0.4, rel=EXACT)


@pytest.mark.parametrize(("primal", "now", "expected"), [(4e-3, 1e-3, 2e-4), (1.0, 1e-3, 1e-3), (1e-9, 1e-3, 1e-5)])
def test_accuracy_is_a_tenth_of_the_mean_mismatch(primal: float, now: float, expected: float) -> None:
    """0.1 x 4e-3 / sqrt 4, held within 1e-5 and 1e-3."""
    assert updates.inner_accuracy(primal, 4, now) == pytest.approx(expected, rel=EXACT)
    assert updates.inner_accuracy(primal, 4, 1e-7) == 1e-7


def test_two_iterations_by_hand() -> None:
    """One entry, weights 2 and 6, targets 3 and 1, penalty 2, all from 0.

    y1 = 6 / 4 = 1.5;  z1 = (6 + 2 x 1.5) / 8 = 1.125;  price1 = 2 x 0.375 = 0.75
    y2 = (6 - 0.75 + 2 x 1.125) / 4 = 1.875;  z2 = (6 + 0.75 + 2 x 1.875) / 8 = 1.3125;  price2 = 0.75 + 1.125
    """
    problem = pair()
    problem.agents.update(low=lambda: Parabola(2.0, [3.0, 3.0]), up=lambda: Parabola(6.0, [1.0, 1.0]))
    plain = {"penalty": admm.Classical(raw=2.0), "initial_price": {"low-up": {"p_mw": [0.0, 0.0]}}}
    for iterations, lower, upper, price in ((1, 1.5, 1.125, 0.75), (2, 1.875, 1.3125, 1.875)):
        found = problem.solve(max_iterations=iterations, **plain).boundary["low-up"]["p_mw"]
        assert found.lower == pytest.approx([lower] * 2, rel=EXACT)
        assert found.upper == pytest.approx([upper] * 2, rel=EXACT)
        assert found.price == pytest.approx([price] * 2, rel=EXACT)
