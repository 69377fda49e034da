"""Penalty policies: where they start, which way they move, and that they come to rest."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

import admm
from admm.couplings import Layout
from admm.penalty import (
    POLICIES,
    NormalisedBalancing,
    NormalisedPerQuantity,
    ResidualBalancing,
    Spectral,
    SpectralPerAgent,
    policy_for,
    relative_ratio,
    unit_penalty,
)
from tests.small_problems import TIGHT, Parabola, coupling, pair
from tests.tolerances import EXACT


@pytest.fixture
def layout() -> Layout:
    """Two quantities of two periods: EUR 50 per 0.5 MW and EUR 5 per 2 Mvar."""
    quantities = [admm.Quantity("p_mw", 2, scale=0.5), admm.Quantity("q_mvar", 2, "Mvar", scale=2.0, price_scale=5.0)]
    return Layout([admm.Coupling("ab", "a", "b", quantities)])


def _seen(iteration: int, mismatch: object, dual_step: object) -> admm.Observation:
    """Values and prices of one unit of scale, so relative and scaled numbers are the same."""
    spread = lambda value: np.broadcast_to(np.asarray(value, dtype=float), 4).copy()  # noqa: E731
    return admm.Observation(iteration, spread(mismatch), spread(dual_step), *[np.ones(4)] * 4)


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
    [
        (0.4, 0.1, 2),
        (0.1, 0.9, 1 / 3),
        (0.2, 0.1, 1),
        (0.1, 0.2, 1),
        (1.0, 1e-6, 10),
        (1e-6, 1.0, 0.1),
        (0.0, 1.0, 0.1),
        (1.0, 0.0, 10),
        (0, 0, 1),
    ],
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


DRIFT_EVERY = 6


def _drift(
    policy: admm.Adaptive, penalty: np.ndarray, mismatch: object, dual_step: object, rounds: int = 1
) -> np.ndarray:
    for k in range(rounds * DRIFT_EVERY):
        penalty = policy.update(penalty, _seen(13 + k, mismatch, dual_step))
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
    for k in range(DRIFT_EVERY):
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


def _late(policy: admm.Adaptive, penalty: np.ndarray, mismatch: object, error: float, rounds: int = 3) -> np.ndarray:
    for k in range(rounds):
        penalty = policy.update(penalty, replace(_seen(13 + k, mismatch, mismatch), objective_error=error))
    return penalty


def test_a_quantity_that_lacks_agreement_only_is_sharpened(layout: Layout) -> None:
    """The first quantity's largest mismatch stays above the tolerance of 1e-3; costs are within ten times theirs."""
    apart = [2e-3, 0.0, 0.5e-3, 0.5e-3]
    policy = admm.Adaptive()
    start = policy.start(layout)
    assert _late(policy, start.copy(), apart, error=9e-4) / start == pytest.approx([2.0, 2.0, 1.0, 1.0], rel=EXACT)
    for error, rounds in ((1.1e-3, 3), (9e-4, 2)):
        policy.start(layout)
        assert _late(policy, start, apart, error, rounds) is start
    assert _late(admm_without(layout, "sharpen"), start, apart, error=9e-4) is start


def admm_without(layout: Layout, ingredient: str) -> admm.Adaptive:
    policy = admm.Adaptive(**{ingredient: False})
    policy.start(layout)
    return policy


def test_each_ingredient_can_be_left_out(layout: Layout) -> None:
    start = admm.Adaptive().start(layout)
    assert _drift(admm_without(layout, "balance_drift"), start, 0.1, 0.01) is start
    assert admm_without(layout, "balance_quantities").update(start, _seen(3, 0.9, 0.1)) is start
    assert admm.Adaptive(price_scaled=False).start(layout) == pytest.approx(np.full(4, 0.4), rel=EXACT)


def test_a_warm_penalty_is_taken_for_a_balanced_one(layout: Layout) -> None:
    policy = admm.Adaptive()
    warm = 7.0 * policy.start(layout)
    for iteration in (1, 2, 3):
        assert policy.update(warm, _seen(iteration, 0.9, 0.1)) is warm
    assert _drift(policy, warm, 0.1, 0.01, rounds=20) / warm == pytest.approx(np.full(4, 64.0), rel=EXACT)


def test_a_start_forgets_the_run_before(layout: Layout) -> None:
    policy, fresh = admm.Adaptive(), admm.Adaptive()
    _drift(policy, policy.start(layout), 0.1, 0.01, rounds=policy.max_changes + 1)
    again, first = _drift(policy, policy.start(layout), 0.1, 0.01), _drift(fresh, fresh.start(layout), 0.1, 0.01)
    assert np.array_equal(again, first)


def test_no_ratio_where_there_is_nothing_to_compare() -> None:
    at = np.arange(4)
    assert relative_ratio(_seen(3, 0.0, 0.0), at) is None
    assert relative_ratio(_seen(3, 0.0, 1.0), at) == 0.0
    assert relative_ratio(_seen(3, 1.0, 0.0), at) == np.inf
    assert relative_ratio(_seen(3, 0.6, 0.2), at) == pytest.approx(3.0, rel=EXACT)


def test_a_price_moves_by_no_more_than_the_policy_allows() -> None:
    """One step at 1e6 per unit; `classical` is textbook ADMM and moves as far as the formula says."""
    problem = pair()
    moves = {}
    for policy in (admm.Adaptive(start=1e6), admm.Classical(1e6)):
        result = problem.solve(penalty=policy, max_iterations=1, acceleration="none")
        scale = {q.name: q.price_scale for c in problem.couplings for q in c.quantities}
        moves[policy.name] = max(
            float(np.abs(found.price / scale[quantity] - 1.0).max())
            for quantities in result.boundary.values()
            for quantity, found in quantities.items()
        )
    assert moves["adaptive"] == pytest.approx(1.0, rel=EXACT) and moves["classical"] > 2.0


def test_policies_by_name() -> None:
    assert policy_for("classical:0.2").per_unit == 0.2
    assert policy_for("adaptive:0.2").start_per_unit == 0.2
    assert policy_for("classical-raw:7").raw == 7.0
    assert {policy_for(name).name for name in POLICIES} == set(POLICIES)
    mine = admm.Classical()
    assert policy_for(mine) is mine


@pytest.mark.parametrize("given", ["", "spectrum", "adaptive:zero", "adaptive:nan", "classical:0", None, 1.0])
def test_policies_that_are_none_are_refused(given: object) -> None:
    with pytest.raises(admm.InputError, match="penalty"):
        policy_for(given)


@pytest.mark.parametrize(
    ("mismatch", "dual_step", "factor"), [(1.1, 0.1, 2.0), (0.1, 1.1, 0.5), (0.9, 0.1, 1.0), (0.1, 0.9, 1.0), (1, 0, 2)]
)
def test_residual_balancing_doubles_or_halves(layout: Layout, mismatch: float, dual_step: float, factor: float) -> None:
    policy = ResidualBalancing(start=3.0)
    start = policy.start(layout)
    assert start == pytest.approx(3.0 * unit_penalty(layout), rel=EXACT)
    assert policy.update(start, _seen(1, mismatch, dual_step)) == pytest.approx(factor * start, rel=EXACT)


def test_normalised_balancing_moves_all_by_the_root_of_one_ratio(layout: Layout) -> None:
    """Relative mismatch sqrt((2 x 0.4^2 + 2 x 0.3^2) / 4), relative step a sixteenth of it: a factor of 4."""
    policy = NormalisedBalancing()
    start = policy.start(layout)
    mismatch = np.array([0.4, 0.4, 0.3, 0.3])
    step = np.full(4, np.sqrt(0.125) / 16)
    assert policy.update(start, _seen(1, mismatch, step)) == pytest.approx(4.0 * start, rel=EXACT)
    assert policy.update(start, _seen(1, mismatch, step * 2)) is start
    assert policy.update(start, _seen(1, mismatch, step / 100)) == pytest.approx(10.0 * start, rel=EXACT)


def test_normalised_balancing_does_not_see_units(layout: Layout) -> None:
    """A tenth of everything that is a price, a third of everything that is a value: the same ratio."""
    one = admm.Observation(1, *(np.full(4, value) for value in (0.6, 0.02, 1.0, 0.4, 2.0, 1.0)))
    other = admm.Observation(1, *(np.full(4, value) for value in (0.2, 0.002, 1 / 3, 0.4 / 3, 0.2, 1.0)))
    policy = NormalisedBalancing()
    start = policy.start(layout)
    assert policy.update(start, one) == pytest.approx(policy.update(start, other), rel=EXACT)


def test_each_quantity_by_itself(layout: Layout) -> None:
    policy = NormalisedPerQuantity()
    start = policy.start(layout)
    moved = policy.update(start, _seen(1, [0.9, 0.9, 0.02, 0.02], [0.036, 0.036, 0.5, 0.5]))
    assert moved / start == pytest.approx([5.0, 5.0, 0.2, 0.2], rel=EXACT)


def _two_pairs() -> tuple[dict[str, Parabola], list[admm.Coupling]]:
    """Two problems that do not touch: curvatures 2 and 6, and 0.5 and 8, in EUR per MW squared."""
    agents = {"a": Parabola(2.0, [3.0, -1.0]), "b": Parabola(6.0, [1.0, 5.0])}
    agents |= {"c": Parabola(0.5, [2.0, 4.0]), "d": Parabola(8.0, [1.0, 0.0])}
    scales = {"periods": 2, "scale": 2.0, "price_scale": 5.0}
    return agents, [coupling(f"{one}{two}", one, two, **scales) for one, two in ("ab", "cd")]


class Watched:
    """A policy that remembers the penalties that it gave."""

    def __init__(self, policy: admm.PenaltyPolicy) -> None:
        self.policy, self.given = policy, []

    def start(self, layout: Layout) -> np.ndarray:
        return self.policy.start(layout)

    def update(self, penalty: np.ndarray, seen: admm.Observation) -> np.ndarray:
        self.given.append(self.policy.update(penalty, seen))
        return self.given[-1]


def _penalties(policy: admm.PenaltyPolicy, swap: bool = False) -> np.ndarray:
    agents, couplings = _two_pairs()
    if swap:
        couplings = [admm.Coupling(c.name, c.upper, c.lower, c.quantities) for c in couplings]
    watched = Watched(policy)
    admm.solve(agents, couplings, admm.Settings(penalty=watched, acceleration="none", max_iterations=5, **_tight()))
    return watched.given[2]


def _tight() -> dict[str, float]:
    return {key: value for key, value in TIGHT.items() if key != "max_iterations"}


@pytest.mark.parametrize("swap", [False, True])
def test_spectral_per_agent_finds_the_mean_of_both_curvatures(swap: bool) -> None:
    """On quadratics the estimates are exact: sqrt(2 x 6) and sqrt(0.5 x 8), whichever side answers first."""
    expected = np.repeat([np.sqrt(12.0), 2.0], 2)
    assert _penalties(SpectralPerAgent(), swap) == pytest.approx(expected, rel=1e3 * EXACT)


def test_spectral_has_one_penalty_in_between() -> None:
    """Each side's estimate lies between its curvatures: 0.5 and 2, 6 and 8."""
    found = _penalties(Spectral())
    assert found == pytest.approx(np.full(4, found[0]), rel=EXACT)
    assert np.sqrt(0.5 * 6.0) < found[0] < np.sqrt(2.0 * 8.0)


def test_spectral_does_not_trust_what_does_not_correlate(layout: Layout) -> None:
    """Values up where the price says down: no curvature of a convex cost, so nothing moves."""
    policy = Spectral()
    start = policy.start(layout)
    ones = np.ones(4)
    before = admm.Observation(1, 0 * ones, 0 * ones, ones, ones, ones, ones)
    after = admm.Observation(3, 0 * ones, 0 * ones, 2 * ones, 0 * ones, 2 * ones, ones)
    assert policy.update(start, before) is start
    assert policy.update(start, after) is start


@pytest.mark.parametrize("name", POLICIES)
def test_every_policy_comes_to_rest(name: str, layout: Layout) -> None:
    """Theory asks for finitely many changes, whatever is seen."""
    policy, random = policy_for(name), np.random.default_rng(1)
    penalty, last = policy.start(layout), 0
    for iteration in range(1, 1500):
        seen = admm.Observation(iteration, *random.lognormal(sigma=3.0, size=(5, 4)), np.ones(4))
        moved = policy.update(penalty, seen)
        assert np.isfinite(moved).all() and (moved > 0).all()
        last = last if np.array_equal(moved, penalty) else iteration
        penalty = moved
    assert last < 1000
    assert (last > 0) != name.startswith("classical")
