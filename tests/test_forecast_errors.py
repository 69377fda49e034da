"""Forecast errors: their distributions, what is known at a gate, streams that do not disturb each other, refusals."""

from __future__ import annotations

from datetime import UTC, datetime
from functools import cache
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from scipy import integrate, stats

from admm import InputError
from networks.market.distributions import beta_value, weibull_power
from networks.market.forecast_errors import ErrorTable, ForecastErrors
from subproblems.horizon import Horizon
from tests.tolerances import EXACT, SOLVER

START = datetime(2024, 3, 1, tzinfo=UTC)
DAY = Horizon(START, 24, 60)
DRAWS, SEED = 700, 7
DEVIATIONS = 4.5
"""How many standard errors a mean over draws may be off."""
P_VALUE = 1e-4
"""Least p-value of a Kolmogorov-Smirnov test; seeds are fixed, so a pass stays a pass."""
QUADRATURE = 1e-7
"""Conditional means of moderate deviations against adaptive integration."""

SHARES = 0.5 + 0.4 * np.sin(np.arange(24))
GAUSSIAN = {"distribution": "gaussian", "std_share": 0.3}
WIDE_GAUSSIAN = {"distribution": "gaussian", "std_share": 0.8}
ABSOLUTE = {"distribution": "gaussian", "std_abs": 2.5}
BETA = {"distribution": "beta", "std_share": 0.35}
WEIBULL = {"distribution": "weibull", "std_share": 0.5}
ALL = [GAUSSIAN, WIDE_GAUSSIAN, ABSOLUTE, BETA, WEIBULL]


def table(law: dict = GAUSSIAN, **changes) -> ErrorTable:
    """An entry of that law for series x, with changes."""
    return ErrorTable(**{"name": "e", "applies_to": ["x"], "correlation_hours": 3.0, **law, **changes})


def errors(tables, draw: int = 0, seed: int = SEED, horizon: Horizon = DAY) -> ForecastErrors:
    return ForecastErrors(tables if isinstance(tables, list) else [tables], seed, draw, horizon)


@cache
def sampled(law: int, gate: int, **changes) -> np.ndarray:
    """shape (draws, periods): forecasts of series x at the gate, one row a draw."""
    entry = table(ALL[law], **changes)
    return np.array([errors(entry, draw).at_gate("x", SHARES, gate) for draw in range(DRAWS)])


def frozen(law: dict, forecast: float):
    """scipy's distribution of the actual value, with shapes from formulas of its own."""
    std = law.get("std_share", law.get("std_abs"))
    if "std_abs" in law:
        return stats.norm(forecast, std)
    if law["distribution"] == "gaussian":
        return stats.norm(forecast, std * forecast)
    if law["distribution"] == "beta":
        size = 1 / std**2 - 1
        return stats.beta(forecast * size, (1 - forecast) * size)
    shape = 1 / float(weibull_power(np.array(std)))
    return stats.weibull_min(shape, scale=forecast / stats.weibull_min(shape).mean())


def value_of(law: dict, forecast: float, z):
    """The actual value at a latent z, by scipy's quantiles; a Gaussian share is limited to [0, 2 forecast]."""
    value = frozen(law, forecast).ppf(stats.norm.cdf(z))
    limited = law["distribution"] == "gaussian" and "std_share" in law
    return np.clip(value, 0, 2 * forecast) if limited else value


def latent_of(law: dict, forecast: float, actual):
    return stats.norm.ppf(frozen(law, forecast).cdf(actual))


def mean_is(samples: np.ndarray, expected) -> None:
    """The mean over rows is the expected one, up to a few standard errors."""
    allowed = DEVIATIONS * samples.std(axis=0) / np.sqrt(len(samples)) + EXACT
    off = np.abs(samples.mean(axis=0) - expected)
    assert (off <= allowed).all(), (off / allowed).max()


# ---- distributions


@pytest.mark.parametrize("law", range(len(ALL)))
def test_actual_values_have_the_distribution(law: int) -> None:
    actual = sampled(law, 24)
    for period in (0, 5, 23):
        values, expected = actual[:, period], frozen(ALL[law], SHARES[period])
        inside = values[(values > 0) & (values < 2 * SHARES[period])] if law == 1 else values
        if law == 1:  # the limited Gaussian: the mass at the limits, and the shape between them
            tail = stats.norm.cdf(-1 / 0.8)
            assert (values == 0).mean() == pytest.approx(tail, abs=DEVIATIONS * np.sqrt(tail / DRAWS))
            expected = stats.truncnorm(-1.25, 1.25, loc=SHARES[period], scale=0.8 * SHARES[period])
        assert stats.kstest(inside, expected.cdf).pvalue > P_VALUE


@pytest.mark.parametrize("law", range(len(ALL)))
def test_mean_is_the_forecast(law: int) -> None:
    mean_is(sampled(law, 24), SHARES)


@pytest.mark.parametrize(("law", "std"), [(0, 0.3 * SHARES), (2, 2.5), (3, 0.35 * np.sqrt(SHARES * (1 - SHARES)))])
def test_variance_is_as_documented(law: int, std) -> None:
    """(0: the limits at 3.3 deviations take less than 0.2 % of the variance.)"""
    mean_is((sampled(law, 24) - SHARES) ** 2, np.square(std))


@pytest.mark.parametrize("std", [1e-6, 0.01, 0.2, 0.5, 1.0, 2.0])
def test_weibull_shape_gives_the_deviation(std: float) -> None:
    shape = 1 / float(weibull_power(np.array(std)))
    ratio = stats.weibull_min(shape).std() / stats.weibull_min(shape).mean()
    assert ratio == pytest.approx(std, rel=SOLVER if std >= 0.01 else 0.01)


def test_values_keep_their_bounds() -> None:
    assert ((sampled(3, 24) >= 0) & (sampled(3, 24) <= 1)).all()
    assert (sampled(4, 24) >= 0).all()
    assert ((sampled(1, 24) >= 0) & (sampled(1, 24) <= 2 * SHARES + EXACT)).all()
    assert sampled(1, 24).min() == 0, "the limit was never reached, so the test says nothing"


def test_no_sun_and_full_sun_are_certain() -> None:
    forecast = np.tile([0.0, 1.0, 0.5], 8)
    entry = table(BETA, std_share=0.9)
    for gate in (0, 7, 24):
        found = errors(entry).at_gate("x", forecast, gate)
        assert (found[0::3] == 0).all() and (found[1::3] == 1).all()


def test_both_tails_of_beta_are_exact() -> None:
    """At z = +-8.2 a quantile 1 - 1e-16 would be lost; the distribution is symmetric at 0.5."""
    z = np.array([-8.2, -3.0, 3.0, 8.2])
    found = beta_value(z, np.array(0.5), np.array(0.3))
    assert found[:2] == pytest.approx(frozen({**BETA, "std_share": 0.3}, 0.5).ppf(stats.norm.cdf(z[:2])), rel=SOLVER)
    assert found[2:] == pytest.approx(1 - found[1::-1], abs=EXACT)


@pytest.mark.parametrize("minutes", [60, 15])
def test_errors_are_correlated_in_time(minutes: int) -> None:
    """exp(-time / correlation_hours), whatever the length of a period."""
    horizon = Horizon(START, 24, minutes)
    actual = np.array([errors(table(std_share=0.1), d, horizon=horizon).actual("x", SHARES) for d in range(DRAWS)])
    for lag in (1, 4, 12):
        expected = np.exp(-lag * minutes / 60 / 3.0)
        found = np.corrcoef(actual[:, 5], actual[:, 5 + lag])[0, 1]
        assert abs(found - expected) <= DEVIATIONS * (1 - expected**2) / np.sqrt(DRAWS)


def test_deviation_grows_with_lead() -> None:
    """By hand: half at lead 0, sqrt(1 - 0.75 e^-2) of it after the growth time, all of it in the end."""
    std = table(std_share=0.2, floor_share=0.5, growth_hours=12.0).std(Horizon(START, 96, 60))
    assert std[[0, 12]] == pytest.approx([0.1, 0.2 * 0.9478916], rel=SOLVER)
    assert std[95] == pytest.approx(0.2, rel=1e-5)
    assert (np.diff(std) > 0).all()
    actual = sampled(2, 24, floor_share=0.5, growth_hours=12.0)
    mean_is((actual[:, [0, 12]] - SHARES[[0, 12]]) ** 2, np.square([1.25, 2.5 * 0.9478916]))


def test_a_group_shares_a_part_of_the_variance() -> None:
    grouped = {"group": "weather", "common": 0.7, "applies_to": ["a", "b"]}
    tables = [table(ABSOLUTE, **grouped), table(ABSOLUTE, name="f", applies_to=["c"], group="else", common=0.7)]
    found = np.array([[errors(tables, d).actual(n, SHARES)[9] for n in "abc"] for d in range(DRAWS)])
    correlation = np.corrcoef(found.T)
    assert abs(correlation[0, 1] - 0.7) <= DEVIATIONS * (1 - 0.49) / np.sqrt(DRAWS)
    assert abs(correlation[0, 2]) <= DEVIATIONS / np.sqrt(DRAWS)
    assert found.std(axis=0) == pytest.approx([2.5] * 3, rel=DEVIATIONS / np.sqrt(2 * DRAWS))


def test_all_in_common_is_one_process() -> None:
    one = errors(table(WEIBULL, applies_to=["*"], group="weather", common=1.0))
    assert (one.actual("a", SHARES) == one.actual("b", SHARES)).all()


# ---- what is known at a gate


@pytest.mark.parametrize("law", range(len(ALL)))
def test_updated_forecasts_are_martingales(law: int) -> None:
    """What a later gate adds has mean zero, and is uncorrelated with what was known."""
    for early, late in pairwise((0, 4, 11, 24)):
        known = sampled(law, early)
        added = (sampled(law, late) - known)[:, 11:]
        mean_is(added, 0.0)
        if early:
            last = known[:, [early - 1]] - SHARES[early - 1]
            mean_is(added * last, 0.0)
            mean_is(added * last**2, 0.0)


@pytest.mark.parametrize("law", ALL)
def test_updated_forecast_is_the_conditional_mean(law: dict) -> None:
    """Against adaptive integration of scipy's quantiles."""
    entry = table(law)
    for draw, gate, t in [(0, 1, 1), (1, 6, 7), (2, 6, 12), (3, 20, 23)]:
        found = errors(entry, draw).at_gate("x", SHARES, gate)
        z = latent_of(law, SHARES[gate - 1], found[gate - 1])
        if not np.isfinite(z) or found[gate - 1] in (0.0, 2 * SHARES[gate - 1]):
            continue  # a limited value does not say how far beyond the limit z was
        r = np.exp(-(t - gate + 1) / 3.0)
        mean, spread = r * z, np.sqrt(1 - r**2)

        def weighted(x: float, t=t, mean=mean, spread=spread) -> float:
            return value_of(law, SHARES[t], mean + spread * x) * stats.norm.pdf(x)

        bounds = [(side / law.get("std_share", 1) - mean) / spread for side in (-1, 1)]
        expected = integrate.quad(weighted, -8, 8, points=np.clip(bounds, -8, 8), epsabs=1e-10, limit=200)[0]
        assert found[t] == pytest.approx(expected, abs=QUADRATURE)


@pytest.mark.parametrize("law", [BETA, WEIBULL, WIDE_GAUSSIAN])
def test_updated_forecast_is_the_mean_of_simulated_futures(law: dict) -> None:
    """Brute force: the recursion is simulated on from z at the gate, step by step."""
    gate, random = 8, np.random.default_rng(1)
    found = errors(table(law), 1).at_gate("x", SHARES, gate)
    z = np.full(20_000, latent_of(law, SHARES[gate - 1], found[gate - 1]))
    r = np.exp(-1 / 3.0)
    for t in range(gate, gate + 5):
        z = r * z + np.sqrt(1 - r**2) * random.standard_normal(z.size)
        mean_is(value_of(law, SHARES[t], z), found[t])


def test_errors_grow_with_the_time_ahead() -> None:
    """Of a Gaussian in its unit: variance std^2 (1 - r^(2 k)), k periods after the last known one."""
    ahead = np.arange(1, 13)
    expected = 2.5**2 * (1 - np.exp(-2 * ahead / 3.0))
    missed = (sampled(2, 24) - sampled(2, 12))[:, 12:]
    mean_is(missed**2, expected)
    at_noon = [np.square(sampled(2, 24) - sampled(2, gate))[:, 12].mean() for gate in range(4, 13, 2)]
    assert (np.diff(at_noon) < 0).all()


@pytest.mark.parametrize("law", ALL)
def test_gates_begin_with_the_forecast_and_end_with_the_actual(law: dict) -> None:
    one = errors(table(law))
    actual = one.actual("x", SHARES)
    assert (one.at_gate("x", SHARES, 0) == SHARES).all()
    assert (one.at_gate("x", SHARES, 24) == actual).all()
    assert (one.at_gate("x", SHARES, 9)[:9] == actual[:9]).all()
    assert (np.abs(actual - SHARES) > EXACT).all()


@settings(max_examples=30, deadline=None)
@given(
    forecast=st.lists(st.floats(0, 1), min_size=6, max_size=6),
    law=st.sampled_from([{**law, key: 0.0} for law in ALL for key in law if key != "distribution"]),
    gate=st.integers(0, 6),
)
def test_without_deviation_all_is_the_forecast(forecast: list[float], law: dict, gate: int) -> None:
    one = errors(table(law), horizon=Horizon(START, 6, 60))
    assert (one.at_gate("x", np.array(forecast), gate) == np.array(forecast)).all()


@settings(max_examples=30, deadline=None)
@given(
    forecast=st.lists(st.floats(0, 1), min_size=6, max_size=6),
    std=st.floats(1e-9, 0.99),
    gate=st.integers(0, 6),
    draw=st.integers(0, 10**12),
)
@example(forecast=[0.0625] * 6, std=0.6875, gate=1, draw=0)  # scipy finds no quantiles at its far nodes
def test_any_beta_forecast_is_a_share(forecast: list[float], std: float, gate: int, draw: int) -> None:
    found = errors(table(BETA, std_share=std), draw, horizon=Horizon(START, 6, 60)).at_gate("x", forecast, gate)
    assert ((found >= 0) & (found <= 1)).all()


# ---- streams


def test_streams_do_not_depend_on_order_or_company() -> None:
    entry = {"applies_to": ["*"], "group": "weather", "common": 0.4}
    one, other = errors(table(BETA, **entry)), errors(table(BETA, **entry))
    first = one.actual("a/pv", SHARES)
    other.actual("b/pv", SHARES)
    other.at_gate("pv", SHARES, 3)
    assert (other.actual("a/pv", SHARES) == first).all()
    more = [table(WEIBULL, name="new", applies_to=["load"]), table(BETA, **entry)]
    assert (errors(more).actual("a/pv", SHARES) == first).all()


def test_a_longer_horizon_begins_alike() -> None:
    short = errors(table()).actual("x", SHARES)
    longer = errors(table(), horizon=Horizon(START, 48, 60)).actual("x", np.tile(SHARES, 2))
    assert (longer[:24] == short).all()


def test_draws_seeds_and_names_differ() -> None:
    entry = table(applies_to=["*"])
    found = [errors(entry, d, s).actual(n, SHARES) for d in (0, 1) for s in (1, 2, 2**40) for n in ("x", "y")]
    correlations = np.corrcoef(np.array(found) / SHARES - 1) - np.eye(len(found))
    assert np.abs(correlations).max() < 0.95
    assert len({tuple(each) for each in found}) == len(found)


def test_a_draw_is_the_same_on_every_machine() -> None:
    """Numbers from the first run: a change here changes the results of users."""
    found = ForecastErrors([table(ABSOLUTE, std_abs=1.0)], 2024, 3, DAY).actual("x", np.zeros(24))
    assert found[:3] == pytest.approx(PINNED, rel=EXACT)


PINNED = [-2.5162851270101374, -2.1409553184006698, -1.2442675101887533]


def test_asking_changes_nothing() -> None:
    forecast = SHARES.copy()
    one = errors(table())
    first = one.at_gate("x", forecast, 5)
    first[:] = 0.0
    assert (forecast == SHARES).all() and (one.at_gate("x", forecast, 5) > 0).any()


def test_the_first_entry_that_matches_holds() -> None:
    tables = [table(applies_to=["ec1/*"], std_share=0.0), table(name="rest", applies_to=["*/load_kw"])]
    one = errors(tables)
    assert (one.actual("ec1/load_kw", SHARES) == SHARES).all()
    assert (one.actual("ec2/load_kw", SHARES) != SHARES).all()
    assert (one.actual("load_kw", SHARES) == SHARES).all(), "no entry matches, so the forecast is exact"
    one.check_names(["ec1/pv_pu", "ec2/load_kw"])


# ---- refusals


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"std_share": -0.1}, "market.error 'e': std_share is -0.1, expected greater than or equal to 0"),
        ({"std_share": 2.5}, "std_share is 2.5, expected less than or equal to 2"),
        ({"std_share": "much"}, "std_share is 'much', expected a number"),
        ({"std_share": float("nan")}, "std_share is nan, expected a finite number"),
        ({"std_share": True}, "std_share is True, expected a number"),
        ({"std_share": None}, "neither of std_share and std_abs are given, expected one of them"),
        ({"std_abs": 1.0}, "both of std_share and std_abs are given"),
        ({**WEIBULL, "std_share": None, "std_abs": 1.0}, "std_abs is 1 with distribution 'weibull'"),
        ({**BETA, "std_share": 1.0}, "std_share is 1, expected below 1 with distribution 'beta'"),
        ({"correlation_hours": 0.0}, "correlation_hours is 0.0, expected greater than 0"),
        ({"correlation_hours": -3}, "correlation_hours is -3, expected greater than 0"),
        ({"floor_share": 1.1}, "floor_share is 1.1, expected less than or equal to 1"),
        ({"growth_hours": 0}, "growth_hours is 0, expected greater than 0"),
        ({"common": 0.5}, "group is None and common is 0.5, which belong together"),
        ({"group": "weather"}, "group is 'weather' and common is 0, which belong together"),
        ({"group": "weather", "common": 1.5}, "common is 1.5, expected less than or equal to 1"),
        ({"distribution": "cauchy"}, "distribution is 'cauchy', expected 'gaussian', 'beta' or 'weibull'"),
        ({"applies_to": []}, "applies_to is .*, expected at least one entry"),
        ({"applies_to": "x"}, "applies_to is 'x', expected a list"),
        ({"corelation_hours": 3.0}, "unknown key 'corelation_hours'; did you mean 'correlation_hours'"),
    ],
)
def test_bad_entries_are_refused(changes: dict, message: str) -> None:
    with pytest.raises(InputError, match=message):
        table(**changes)


@pytest.mark.parametrize("value", [1.0, -1, True, "1", None])
def test_seeds_draws_and_gates_are_whole_numbers(value) -> None:
    for key, refused in [
        ("seed", lambda: errors(table(), 0, value)),
        ("draw", lambda: errors(table(), value)),
        ("gate", lambda: errors(table()).at_gate("x", SHARES, value)),
    ]:
        with pytest.raises(InputError, match=f"{key} is {value!r}, expected a whole number of at least 0"):
            refused()


def test_numpy_whole_numbers_are_whole_numbers() -> None:
    found = errors(table(), np.int64(4), np.int32(SEED)).at_gate("x", SHARES, np.int64(24))
    assert (found == errors(table(), 4).actual("x", SHARES)).all()


@pytest.mark.parametrize(
    ("forecast", "message"),
    [
        (SHARES + 1.0, "series 'x' is 1.5 in period 0 .2024-03-01T00:00Z., expected a share of capacity from 0 to 1"),
        (SHARES - 1.0, "series 'x' is -0.5 in period 0"),
        (SHARES[:23], r"has shape \(23,\), expected \(24,\)"),
        (np.where(np.arange(24) == 4, np.nan, SHARES), "is nan in period 4 .2024-03-01T04:00Z., expected a finite"),
        (["a"] * 24, "expected one number a period"),
    ],
)
def test_bad_forecasts_are_refused(forecast, message: str) -> None:
    with pytest.raises(InputError, match=message):
        errors(table(BETA)).actual("x", forecast)


def test_gates_after_the_horizon_are_refused() -> None:
    with pytest.raises(InputError, match="gate is 25, expected at most 24"):
        errors(table()).at_gate("x", SHARES, 25)


def test_patterns_that_match_nothing_are_refused() -> None:
    with pytest.raises(InputError, match=r"'e': applies_to holds 'x', .* did you mean 'x2'"):
        errors(table()).check_names(["x2", "load_kw"])
    with pytest.raises(InputError, match="'late': applies_to is .'x'., but earlier entries hold for all"):
        errors([table(applies_to=["*"]), table(name="late")]).check_names(["x", "y"])


def test_entries_that_contradict_each_other_are_refused() -> None:
    with pytest.raises(InputError, match="two entries are called 'e'"):
        errors([table(), table(applies_to=["y"])])
    grouped = {"group": "weather", "common": 0.5}
    slow = table(name="slow", applies_to=["y"], correlation_hours=6.0, **grouped)
    with pytest.raises(InputError, match="'slow': correlation_hours is 6, expected 3 as in 'e' of the same group"):
        errors([table(**grouped), slow])
