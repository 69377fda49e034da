"""Penalty policies: where they start, which way they move, and that they come to rest."""

from __future__ import annotations

import numpy as np
import pytest

import admm
from admm.couplings import Layout
from admm.penalty import policy_for, relative_ratio, unit_penalty

EXACT = 1e-12


@pytest.fixture
def layout() -> Layout:
    """Two quantities of two periods: EUR 50 per 0.5 MW and EUR 5 per 2 Mvar."""
    quantities = [admm.Quantity("p_mw", 2, scale=0.5), admm.Quantity("q_mvar", 2, "Mvar", scale=2.0, price_scale=5.0)]
    return Layout([admm.Coupling("ab", "a", "b", quantities)])


def _seen(iteration: int, mismatch: object, dual_step: object) -> admm.Observation:
    """Values and prices of one unit of scale, so relative and scaled numbers are the same."""
    spread = lambda value: np.broadcast_to(np.asarray(value, dtype=float), 4).copy()  # noqa: E731
    return admm.Observation(iteration, spread(mismatch), spread(dual_step), np.ones(4), np.ones(4), np.ones(4))


def test_the_unit_penalty_is_price_scale_over_scale(layout: Layout) -> None:
    assert unit_penalty(layout) == pytest.approx([100.0, 100.0, 2.5, 2.5], rel=EXACT)


def test_classical_starts_where_it_is_told_and_never_moves(layout: Layout) -> None:
    assert admm.Classical(0.3).start(layout) == pytest.approx([30.0, 30.0, 0.75, 0.75], rel=EXACT)
    fixed = admm.Classical(raw=7.0)
    penalty = fixed.start(layout)
    assert penalty == pytest.approx(np.full(4, 7.0), rel=EXACT)
    assert fixed.update(penalty, _seen(3, 1.0, 1e-6)) is penalty


@pytest.mark.parametrize(
    ("mismatch", "dual_step", "factor"),
    [(0.4, 0.1, 2), (0.1, 0.9, 1 / 3), (0.2, 0.1, 1), (0.1, 0.2, 1), (1.0, 1e-6, 10), (1e-6, 1.0, 0.1), (0.0, 1.0, 1)],
)
def test_quantities_are_balanced_by_the_square_root_of_their_ratio(
    layout: Layout, mismatch: float, dual_step: float, factor: float
) -> None:
    """Hand-computed: ratio 4 gives 2, ratio 1/9 gives 1/3, ratios within 3 nothing, the rest is held to 10."""
    policy = admm.Adaptive()
    start = policy.start(layout)
    moved = policy.update(start.copy(), _seen(3, [mismatch, mismatch, 0.1, 0.1], [dual_step, dual_step, 0.1, 0.1]))
    assert moved / start == pytest.approx([factor, factor, 1.0, 1.0], rel=EXACT)


def test_quantities_are_balanced_only_when_due(layout: Layout) -> None:
    policy = admm.Adaptive()
    penalty = policy.start(layout)
    moved = {i: policy.update(penalty, _seen(i, 0.9, 0.1)) is not penalty for i in range(1, 18)}
    assert [i for i, changed in moved.items() if changed] == [3, 6, 9, 12]


def _drift(
    policy: admm.Adaptive, penalty: np.ndarray, mismatch: object, dual_step: object, rounds: int = 1
) -> np.ndarray:
    for k in range(rounds * policy.DRIFT_EVERY):
        penalty = policy.update(penalty, _seen(policy.QUANTITY_UNTIL + 1 + k, mismatch, dual_step))
    return penalty


def test_entries_that_drift_get_twice_or_half_the_penalty(layout: Layout) -> None:
    """Mismatch ten times the step: twice. The other way round: half. Equal, or both tiny: as it was."""
    policy = admm.Adaptive()
    start = policy.start(layout)
    moved = _drift(policy, start.copy(), [0.1, 0.01, 0.1, 1e-5], [0.01, 0.1, 0.1, 1e-7])
    assert moved / start == pytest.approx([2.0, 0.5, 1.0, 1.0], rel=EXACT)


def test_a_mismatch_that_swings_is_no_drift(layout: Layout) -> None:
    policy = admm.Adaptive()
    start = penalty = policy.start(layout)
    for k in range(policy.DRIFT_EVERY):
        penalty = policy.update(penalty, _seen(13 + k, 0.1 * (-1) ** k, 0.01 * (-1) ** k))
    assert penalty is start


def test_drift_stays_within_its_span_and_comes_to_rest(layout: Layout) -> None:
    policy = admm.Adaptive()
    start = policy.start(layout)
    assert _drift(policy, start.copy(), 0.1, 0.01, rounds=20) / start == pytest.approx(np.full(4, 64.0), rel=EXACT)
    resting = admm.Adaptive(max_changes=3)
    penalty = _drift(resting, resting.start(layout), 0.1, 0.01, rounds=10)
    assert penalty / start == pytest.approx(np.full(4, 8.0), rel=EXACT)
    assert _drift(resting, penalty, 0.1, 0.01) is penalty


def test_a_start_forgets_the_run_before(layout: Layout) -> None:
    policy, fresh = admm.Adaptive(), admm.Adaptive()
    _drift(policy, policy.start(layout), 0.1, 0.01, rounds=policy.max_changes + 1)
    again, first = _drift(policy, policy.start(layout), 0.1, 0.01), _drift(fresh, fresh.start(layout), 0.1, 0.01)
    assert np.array_equal(again, first)


def test_no_ratio_where_there_is_nothing_to_compare() -> None:
    at = np.arange(4)
    assert relative_ratio(_seen(3, 0.0, 1.0), at) is None
    assert relative_ratio(_seen(3, 1.0, 0.0), at) is None
    assert relative_ratio(_seen(3, 0.6, 0.2), at) == pytest.approx(3.0, rel=EXACT)


def test_policies_by_name() -> None:
    assert policy_for("classical:0.2").per_unit == 0.2
    assert policy_for("adaptive:0.2").start_per_unit == 0.2
    mine = admm.Classical()
    assert policy_for(mine) is mine


@pytest.mark.parametrize("given", ["", "spectral", "adaptive:zero", "adaptive:nan", "classical:0", None, 1.0])
def test_policies_that_are_none_are_refused(given: object) -> None:
    with pytest.raises(admm.InputError, match="penalty"):
        policy_for(given)
