"""Where a gate's coordination begins, by hand: values, prices and penalties."""

from __future__ import annotations

import numpy as np
import pytest

from admm import Coupling, Quantity, Settings
from admm.state import BoundaryResult
from networks.market.gate_start import FLEXIBILITY_SHARE, POWER_SHARE, gate_settings
from tests.tolerances import EXACT

SCALE_MW, PRICE, TOLERANCE = 2.0, 50.0, 1e-3
ENDED = {"p_mw": [2.0, 8.0, 4.0], "flex_up_mw": [1.0, 1.0, 9.0]}
"""Penalties that the day-ahead run ended with, one a period, and their medians:"""
MEDIAN = {"p_mw": 4.0, "flex_up_mw": 1.0}
JUST_BELOW, JUST_ABOVE = 0.9 * TOLERANCE * SCALE_MW, 1.1 * TOLERANCE * SCALE_MW


def start(change_mw: float, gate: int) -> Settings:
    """Of a gate at which the power of the last of three periods has changed."""
    quantities = tuple(Quantity(name, 3, "MW", SCALE_MW, PRICE) for name in ENDED)
    ones = np.ones(3)
    former = {
        "a-b": {
            name: BoundaryResult(ones, ones, PRICE * ones, "MW", SCALE_MW, np.array(penalty))
            for name, penalty in ENDED.items()
        }
    }
    changes = {"a-b": np.array([0.0, 0.0, change_mw])}
    settings = Settings(consensus_tolerance=TOLERANCE)
    return gate_settings(settings, [Coupling("a-b", "a", "b", quantities)], former, former, changes, gate)


@pytest.mark.parametrize("change_mw", [0.0, JUST_BELOW, -JUST_BELOW])
def test_where_forecasts_hold_penalties_are_medians_of_the_day_ahead_run(change_mw: float) -> None:
    found = start(change_mw, gate=1).initial_penalty["a-b"]
    for name, median in MEDIAN.items():
        np.testing.assert_allclose(found[name], median, rtol=EXACT)


@pytest.mark.parametrize("change_mw", [JUST_ABOVE, -JUST_ABOVE])
def test_where_forecasts_failed_a_share_of_them_is_used(change_mw: float) -> None:
    found = start(change_mw, gate=1).initial_penalty["a-b"]
    np.testing.assert_allclose(found["p_mw"], POWER_SHARE * MEDIAN["p_mw"], rtol=EXACT)
    np.testing.assert_allclose(found["flex_up_mw"], FLEXIBILITY_SHARE * MEDIAN["flex_up_mw"], rtol=EXACT)


def test_power_moves_by_what_changed_and_flexibility_and_prices_of_the_past_are_gone() -> None:
    found = start(0.25, gate=2)
    assert found.initial_values["a-b"]["p_mw"].tolist() == [1.0, 1.0, 1.25]
    assert found.initial_values["a-b"]["flex_up_mw"].tolist() == [0.0, 0.0, 1.0]
    assert [found.initial_price["a-b"][name].tolist() for name in ENDED] == [[0.0, 0.0, PRICE]] * 2
