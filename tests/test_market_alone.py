"""What a community pays alone, under the same errors: settled by hand, and against the day-ahead comparison."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from networks.case import load_case
from networks.market.alone import SettledPrices, alone_eur
from networks.market.settlement import settle
from tests.market_tools import CARS, HOMES, Day, perfect, run_day, small_case
from tests.tolerances import EXACT

PERIODS = 3


def test_a_day_alone_settled_by_hand() -> None:
    """1 and 2 MW day-ahead at 20 and 30 EUR/MW: 80. Gate 0: 1 MW less in period 1 at 40: -40. Gate 1: 0.5 MW more in
    period 1 at 50: 25; what it says of period 0 is over. Drawn 0.1 MW less in period 0 at 60 and 0.2 more in period 1
    at 10: -6 + 2. Own cost 5, limits that gave way 1."""
    day = SimpleNamespace(cost_eur=lambda: 5.0, relief_eur=lambda: 1.0)
    prices = SettledPrices.of_lists({"-1": [20, 30], "0": [99, 40], "1": [77, 50]}, [60, 10])
    prices.steps[0][0] = 0.0
    plans = iter([(0, np.array([1.0, 1.0])), (1, np.array([9.0, 1.5])), (2, np.array([0.9, 1.7]))])
    found = alone_eur(day, plans, np.array([1.0, 2.0]), prices)
    assert found == pytest.approx(80 - 40 + 25 - 6 + 2 + 5 + 1, rel=EXACT)


@pytest.fixture(scope="module")
def failed(tmp_path_factory: pytest.TempPathFactory) -> Day:
    """A day whose forecasts fail."""
    return run_day(small_case(tmp_path_factory.mktemp("failed"), PERIODS))


def test_with_perfect_forecasts_it_is_the_day_ahead_comparison(tmp_path: Path) -> None:
    case = load_case(str(small_case(tmp_path, PERIODS)))
    day = run_day(case, table=perfect(case.table.market))
    alone = day.market.alone(settle(day.outcome.record, day.outcome.spread_eur_per_mwh))
    assert alone.keys() == {HOMES, CARS}
    for name, eur in alone.items():
        assert eur == pytest.approx(day.outcome.standalone_eur[name], abs=0.05)


def test_errors_cost_alone_too_and_the_market_is_no_dearer(failed: Day) -> None:
    settlement = settle(failed.outcome.record, failed.outcome.spread_eur_per_mwh)
    alone, net = failed.market.alone(settlement), settlement.net_eur()
    for name, eur in alone.items():
        assert abs(eur - failed.outcome.standalone_eur[name]) > 0.05, "the day did not come as planned"
        assert net[name] <= eur + 0.05


def test_the_schedule_of_the_market_is_left_alone(failed: Day) -> None:
    before = {name: day.happened()[0] for name, day in failed.market.intraday.communities.items()}
    failed.market.alone(settle(failed.outcome.record, failed.outcome.spread_eur_per_mwh))
    for name, day in failed.market.intraday.communities.items():
        after = day.happened()[0]
        assert all(np.array_equal(values, before[name][block]) for block, values in after.items())
