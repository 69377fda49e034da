"""Drawn errors of stays of electric vehicles: their distributions, what is known at a gate, refusals."""

from __future__ import annotations

from functools import cache

import numpy as np
import pytest
from scipy import integrate, stats

from admm import InputError
from networks.market.distributions import capped_weibull, truncated_normal_mean, weibull_power
from networks.market.ev_errors import EvErrors, EvErrorTable
from subproblems.ev_error import EvError
from tests.test_forecast_errors import DAY, DEVIATIONS, DRAWS, P_VALUE, SEED, mean_is
from tests.tolerances import SOLVER

CAR = "ec02/cars/commuters"


def ev(draw: int = 0, seed: int = SEED, **changes) -> EvErrors:
    given = {"name": "cars", "applies_to": ["*"], "arrival_std_hours": 1.0, "energy_std_share": 0.4, "max_factor": 1.5}
    return EvErrors([EvErrorTable(**{**given, "max_shift_hours": 2.0, **changes})], seed, draw, DAY)


@cache
def stays(gate: int) -> np.ndarray:
    """shape (draws, 3): shift (h), factor and known, of a stay that is forecast to begin at 17.5 h."""
    found = [ev(draw).at_gate(CAR, 17.5, gate) for draw in range(DRAWS)]
    return np.array([[each.shift_hours, each.energy_factor, each.known] for each in found])


def test_arrival_is_truncated_normal() -> None:
    shifts = stays(24)[:, 0]
    assert stats.kstest(shifts, stats.truncnorm(-2, 2).cdf).pvalue > P_VALUE
    assert np.abs(shifts).max() <= 2.0


def test_energy_need_is_a_capped_weibull_of_mean_one() -> None:
    factors = stays(24)[:, 1]
    mean_is(factors, 1.0)
    shape = 1 / float(weibull_power(np.array(0.4)))
    law = stats.weibull_min(shape, scale=np.exp(_log_scale(shape, 1.5)))
    capped = law.sf(1.5)
    assert (factors == 1.5).mean() == pytest.approx(capped, abs=DEVIATIONS * np.sqrt(capped / DRAWS))
    below = factors[factors < 1.5]
    assert stats.kstest(below, lambda w: law.cdf(w) / law.cdf(1.5)).pvalue > P_VALUE


def _log_scale(shape: float, cap: float) -> float:
    """log of the scale for which the area under the survival function up to the cap is 1, by bisection."""
    low, high = -1.0, 3.0
    for _ in range(60):
        middle = (low + high) / 2
        area = integrate.quad(stats.weibull_min(shape, scale=np.exp(middle)).sf, 0, cap)[0]
        low, high = (middle, high) if area < 1 else (low, middle)
    return low


@pytest.mark.parametrize(("std", "cap"), [(0.01, 1.01), (0.4, 1.5), (0.4, 100.0), (1.0, 1.2), (2.0, 3.0)])
def test_any_cap_leaves_the_mean_at_one(std: float, cap: float) -> None:
    """Sum over a fine grid of z; coarse only at the kink of the cap."""
    z = np.linspace(-9, 9, 1001)
    values = [capped_weibull(each, std, cap) for each in z]
    assert (values * stats.norm.pdf(z)).sum() * (z[1] - z[0]) == pytest.approx(1.0, abs=1e-4)


def test_a_stay_is_known_once_it_has_begun() -> None:
    for gate in (0, 16, 17, 18, 19, 24):
        actual, found = stays(24), stays(gate)
        begun = (17.5 + actual[:, 0] < gate) & (gate > 0)
        assert (found[:, 2] == begun).all()
        assert (found[begun] == actual[begun]).all()
        assert (found[~begun, 1] == 1.0).all()
        assert (17.5 + found[~begun, 0] >= gate).all(), "a car that has not come is not expected in the past"
    assert 0.05 < stays(17)[:, 2].mean() < 0.95
    assert ev().at_gate(CAR, 17.5, 0) == EvError(0.0, 1.0, known=False)


def test_arrival_forecasts_are_martingales() -> None:
    for gate in (0, 16, 17, 18, 19, 20):
        mean_is(stays(gate)[:, :2], [0.0, 1.0])
    added = stays(24)[:, 0] - stays(18)[:, 0]
    mean_is(added[:, None] * stays(18)[:, :2], 0.0)


@pytest.mark.parametrize("above", [-2.0, -1.0, 0.0, 1.5, 1.999])
def test_mean_of_a_car_that_is_late(above: float) -> None:
    expected = 0.5 * stats.truncnorm(above / 0.5, 4.0).mean()
    assert truncated_normal_mean(above, 0.5, 2.0) == pytest.approx(expected, abs=SOLVER)


def test_stays_of_a_class_differ_by_day_and_those_before_the_horizon_are_known() -> None:
    one = ev()
    assert one.actual(CAR, 17.5, 0) != one.actual(CAR, 17.5, 1)
    assert one.actual(CAR, 17.5, -1) == one.at_gate(CAR, 17.5, 0, -1) == EvError(0.0, 1.0, known=True)
    assert one.actual(CAR, 17.5) == ev().actual(CAR, 17.5) != one.actual("ec02/cars/visitors", 17.5)
    assert ev(applies_to=["ec01/*"]).actual(CAR, 17.5) == EvError(0.0, 1.0, known=True)
    still = ev(arrival_std_hours=0.0, energy_std_share=0.0).actual(CAR, 17.5)
    assert still == EvError(0.0, 1.0, known=True)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"arrival_std_hours": -1.0}, "market.ev_error 'cars': arrival_std_hours is -1.0"),
        ({"max_shift_hours": 0.0}, "max_shift_hours is 0.0, expected greater than or equal to 0.01"),
        ({"energy_std_share": -0.1}, "energy_std_share is -0.1, expected greater than or equal to 0"),
        ({"max_factor": 1.0}, "max_factor is 1.0, expected greater than or equal to 1.01"),
        ({"seed": 1.5}, "seed is 1.5, expected a whole number of at least 0"),
    ],
)
def test_bad_vehicle_entries_are_refused(changes: dict, message: str) -> None:
    with pytest.raises(InputError, match=message):
        ev(**changes)


@pytest.mark.parametrize(("hour", "day", "message"), [("17", 0, "arrival_hour is '17'"), (17, 0.5, "day is 0.5")])
def test_bad_stays_are_refused(hour, day, message: str) -> None:
    with pytest.raises(InputError, match=f"class '{CAR}': {message}, expected"):
        ev().actual(CAR, hour, day)


def test_gates_and_patterns_are_checked() -> None:
    with pytest.raises(InputError, match="gate is 1.0, expected a whole number of at least 0"):
        ev().at_gate(CAR, 17.5, 1.0)
    with pytest.raises(InputError, match="applies_to holds .*ec9/.*, expected what matches a name; there are none"):
        ev(applies_to=["ec9/*"]).check_names([])
