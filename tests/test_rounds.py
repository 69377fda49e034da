"""Rounds that look for the proof: mixes of answers, prices far from their scales, plans that agents follow."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

import admm
from admm.closing import Closing
from admm.couplings import Layout
from admm.mix import Mixes
from admm.resume import Checkpoints
from admm.updates import turnover_floor
from benchmarks.random_problems import random_problem
from benchmarks.random_qps import by_clarabel
from tests.tolerances import EXACT, OF_TURNOVER

FAR = ("scarce", 1)
"""A problem whose price is 231 times its scale, and which ADMM alone does not end in 500 iterations."""


def test_the_best_mix_and_its_price_are_those_solved_by_hand() -> None:
    """The user would take 0 (for 0 EUR) or 4 MW (for -100 EUR), the grid gives 1 (10 EUR) or 3 MW (50 EUR): three
    quarters of the user's second answer, and the grid's second one."""
    layout = Layout([admm.Coupling("c", "user", "grid", [admm.Quantity("p_mw", 1, scale=2.0, price_scale=50.0)])])
    mixes = Mixes(layout, ["user", "grid"])
    assert mixes.best(np.zeros(1), 10.0) is None
    for name, values, cost_eur in (("user", 0.0, 0.0), ("user", 4.0, -100.0), ("grid", 1.0, 10.0), ("grid", 3.0, 50.0)):
        mixes.add(name, np.array([values]), cost_eur)
    found = mixes.best(np.zeros(1), 10.0)
    assert found.plan == pytest.approx([3.0], rel=EXACT) and found.cost_eur == pytest.approx(-25.0, rel=EXACT)
    assert found.apart == pytest.approx(0.0, abs=EXACT)


def test_a_box_holds_the_price() -> None:
    """What a MW is worth to the user is 25 EUR: a box around 10 EUR of half a tenth of the scale ends at 15 EUR."""
    layout = Layout([admm.Coupling("c", "user", "grid", [admm.Quantity("p_mw", 1, price_scale=50.0)])])
    mixes = Mixes(layout, ["user", "grid"])
    for name, values, cost_eur in (("user", 0.0, 0.0), ("user", 4.0, -100.0), ("grid", 1.0, 30.0)):
        mixes.add(name, np.array([values]), cost_eur)
    assert abs(mixes.best(np.array([10.0]), 10.0).price[0]) == pytest.approx(25.0, rel=EXACT)
    held = mixes.best(np.array([10.0]), 0.1)
    assert abs(held.price[0]) == pytest.approx(15.0, rel=EXACT) and held.apart > 0.1


@pytest.mark.parametrize("solver", ["osqp", "piqp"])
def test_a_price_that_has_to_rise_to_hundreds_of_its_scale_gets_there(solver: str) -> None:
    problem = random_problem(*FAR)
    result = admm.solve(problem.agents(solver), problem.couplings)
    assert result.status is admm.Status.CERTIFIED
    layout = Layout(problem.couplings)
    prices = [abs(values.price).max() for one in result.boundary.values() for values in one.values()]
    assert max(prices) > 100 * layout.price_scale.max()
    assert result.objective == pytest.approx(by_clarabel(problem), abs=OF_TURNOVER * result.turnover)
    for one in result.boundary.values():
        for values in one.values():
            assert np.abs(values.lower - values.upper).max() <= 1e-3 * values.scale


def test_a_run_that_goes_on_in_the_middle_of_the_rounds_ends_the_same(tmp_path: Path) -> None:
    problem = random_problem(*FAR)

    def go(resume: bool, **changes: int) -> admm.Result:
        kept = Checkpoints(tmp_path, {"case": "far"}, every_seconds=1e-9, resume=resume)
        return admm.solve(problem.agents(), problem.couplings, admm.Settings(**changes), checkpoints=kept)

    whole = admm.solve(problem.agents(), problem.couplings)
    broken = go(False, max_iterations=52)
    assert broken.history[-1].lower_bound_eur is not None and not broken.converged
    resumed = go(True)
    assert (resumed.status, resumed.iterations, resumed.objective) == (whole.status, whole.iterations, whole.objective)
    for name, one in whole.boundary.items():
        for key, values in one.items():
            assert np.array_equal(values.lower, resumed.boundary[name][key].lower)
            assert np.array_equal(values.price, resumed.boundary[name][key].price)


def test_a_plan_that_costs_less_than_the_lower_bound_is_no_plan(monkeypatch: pytest.MonkeyPatch) -> None:
    """Answers that break limits by what they are not exact may cost less than the optimum."""
    seen = []

    def cheaper(closing: Closing, cost_eur: float) -> None:
        before = closing.upper_eur
        take(closing, closing.lower_eur - 1.0)
        seen.append(closing.upper_eur is before)
        take(closing, cost_eur)

    take = Closing._take_upper
    monkeypatch.setattr(Closing, "_take_upper", cheaper)
    problem = random_problem("plain", 2)
    result = admm.solve(problem.agents("piqp"), problem.couplings)
    assert result.converged and seen and all(seen)
    allowed = OF_TURNOVER * max(result.turnover, turnover_floor(Layout(problem.couplings)))
    assert abs(result.objective - by_clarabel(problem)) <= allowed
