"""Reward tariffs: the best blocks against all partitions, responses against another model, shares and signs by hand."""

from __future__ import annotations

from dataclasses import replace
from itertools import combinations

import cvxpy as cp
import numpy as np
import pytest

import admm
from admm import Coupling, InputError, Quantity
from admm.couplings import Layout
from networks.market.tariffs import (
    DOWN,
    ENERGY,
    QUANTITIES,
    UP,
    CommunityTariffs,
    Tariff,
    TariffRules,
    at_coupling,
    baseline_tariffs,
    best_blocks,
    captured_share,
    flexibility_seen,
    net_peak_mw,
    nodal_tariffs,
    response,
    tariff_question,
    uniform_tariffs,
    value_eur,
)
from subproblems import Builder, QPAgent
from tests.device_reference import COUPLING, Part, Prices, Store, columns, compiled, horizon, solve_parts, store_part
from tests.small_problems import TIGHT, Parabola
from tests.tolerances import EXACT, SOLVER

PERIODS = 8
VALUE_MW = 1e-5
"""Of a schedule of a strictly convex community, by two solvers."""
SHARE = 1e-4
"""Of a gain of a few EUR, against prices of a run that is exact to 1e-7 of its scales."""
FLEX_COST = 500.0
"""EUR/(MW^2 h): 20 EUR/MWh at 20 kW, so that flexibility has one best amount."""
WEAR = (0.005, 0.05)


# -------------------------------------------------------------------- blocks


def error(series, weights, fitted) -> float:
    return float(np.sum(weights * (series - fitted) ** 2))


def least_error(series, weights, blocks: int, day: int, lowest: float) -> float:
    """Over every partition of the day and the best value of every block in it, days put side by side."""
    n, period = min(day, series.size), np.arange(series.size) % day
    best = np.inf
    for cuts in combinations(range(1, n), min(blocks, n) - 1):
        total = 0.0
        for start, end in zip((0, *cuts), (*cuts, n), strict=True):
            here = (period >= start) & (period < end)
            if weights[here].sum() > 0:
                value = max(lowest, np.average(series[here], weights=weights[here]))
                total += error(series[here], weights[here], value)
        best = min(best, total)
    return best


@pytest.mark.parametrize("lowest", [-np.inf, 0.0])
@pytest.mark.parametrize(("periods", "day"), [(9, 9), (9, 12), (16, 8), (19, 8)])
@pytest.mark.parametrize("blocks", [1, 2, 3, 5, 30])
def test_blocks_are_the_best_of_all_partitions(blocks, periods, day, lowest):
    for seed in range(5):
        random = np.random.default_rng(seed)
        series = random.normal(0.5, 2.0, periods)
        weights = random.uniform(0, 1, periods) * (random.uniform(size=periods) > 0.3)
        found = best_blocks(series, blocks, day, weights, lowest)
        assert found.starts[0] == 0 and (np.diff(found.starts) > 0).all()
        assert found.starts.size == found.values.size == min(blocks, day, periods)
        assert found.values.min() >= lowest
        expected = least_error(series, weights, blocks, day, lowest)
        assert error(series, weights, found.series()) == pytest.approx(expected, rel=SOLVER, abs=EXACT)


def test_steps_are_found_and_come_again_every_day():
    day = np.repeat([3.0, 7.0, -2.0, 7.0], [6, 3, 10, 5])
    found = best_blocks(np.concatenate([day, day, day[:4]]), 4, 24)
    assert found.starts.tolist() == [0, 6, 9, 19]
    assert found.values == pytest.approx([3.0, 7.0, -2.0, 7.0], abs=EXACT)
    assert found.series() == pytest.approx(np.concatenate([day, day, day[:4]]), abs=EXACT)


def test_small_steps_on_a_large_price_are_found():
    series = 1e6 + np.repeat([0.0, 1e-3, 0.0], [3, 5, 4])
    assert best_blocks(series, 3, 12).starts.tolist() == [0, 3, 8]


def test_a_block_without_weight_has_its_plain_mean():
    series, weights = np.array([1.0, 1.0, 4.0, 6.0]), np.array([1.0, 1.0, 0.0, 0.0])
    assert best_blocks(series, 4, 4, weights).values == pytest.approx(series, abs=EXACT)
    assert best_blocks(series, 1, 4, np.zeros(4)).values == pytest.approx([3.0], abs=EXACT)


@pytest.mark.parametrize(
    ("changed", "words"),
    [
        ({"blocks": 0}, "blocks is 0"),
        ({"blocks": True}, "blocks is True"),
        ({"periods_per_day": 2.5}, "periods_per_day is 2.5"),
        ({"series": np.array([1.0, np.nan])}, "series has a value that is not a finite number"),
        ({"series": np.empty(0)}, r"series has shape \(0,\)"),
        ({"weights": np.ones(3)}, r"weights has shape \(3,\), expected \(2,\)"),
        ({"weights": np.array([1.0, -1.0])}, "weights has -1, expected no value below 0"),
    ],
)
def test_bad_series_are_refused(changed, words):
    given = {"series": np.array([1.0, 2.0]), "blocks": 1, "periods_per_day": 24} | changed
    with pytest.raises(InputError, match=words):
        best_blocks(**given)


# -------------------------------------------------------------------- tariffs of communities


def made_prices(seed: int, periods: int = 6) -> dict[str, np.ndarray]:
    random = np.random.default_rng(seed)
    drawn = (random.uniform(20, 60, periods), -random.uniform(0.5, 5, periods), -random.uniform(0.5, 3, periods))
    return dict(zip(QUANTITIES, drawn, strict=True))


def test_rewards_are_paid_and_never_negative():
    """The community pays for energy, gets a reward where the price is below 0, and pays nothing where it is above."""
    mine = {
        ENERGY: np.array([10.0, 10.0, 20.0, 20.0]),
        UP: np.array([-3.0, -3.0, 2.0, 2.0]),
        DOWN: np.array([1.0, 1.0, -5.0, -5.0]),
    }
    published = nodal_tariffs({"ec": mine}, TariffRules(0.5, 48, blocks=2))["ec"]
    assert published.energy_eur_per_mwh.values == pytest.approx([20.0, 40.0], abs=EXACT)
    assert published.up_eur_per_mw.values == pytest.approx([3.0, 0.0], abs=EXACT)
    assert published.down_eur_per_mw.values == pytest.approx([0.0, 5.0], abs=EXACT)
    told = published.prices()
    assert told[ENERGY] == pytest.approx(mine[ENERGY], abs=EXACT)
    assert told[UP] == pytest.approx([-3.0, -3.0, 0.0, 0.0], abs=EXACT)
    assert told[DOWN] == pytest.approx([0.0, 0.0, -5.0, -5.0], abs=EXACT)


def test_as_many_blocks_as_periods_are_the_prices():
    mine = made_prices(0)
    told = nodal_tariffs({"ec": mine}, TariffRules(0.25, 96, blocks=96))["ec"].prices()
    for quantity in QUANTITIES:
        assert told[quantity] == pytest.approx(mine[quantity], rel=EXACT)


def test_energy_may_have_blocks_of_its_own():
    published = nodal_tariffs({"ec": made_prices(0)}, TariffRules(1.0, 6, blocks=2, energy_blocks=5))["ec"]
    assert published.energy_eur_per_mwh.values.size == 5
    assert published.up_eur_per_mw.values.size == published.down_eur_per_mw.values.size == 2


@pytest.mark.parametrize("weighted", [False, True])
def test_one_tariff_for_all_is_the_nearest_to_all_their_prices(weighted):
    prices = {name: made_prices(seed) for seed, name in enumerate(("one", "two", "three"))}
    random = np.random.default_rng(9)
    weights = {name: {UP: random.uniform(0, 1, 6)} for name in prices} if weighted else None
    told = uniform_tariffs(prices, TariffRules(1.0, 6, blocks=3), weights).up_eur_per_mw.series()
    rewards = np.array([-mine[UP] for mine in prices.values()])
    of = np.array([weights[name][UP] for name in prices]) if weighted else np.ones_like(rewards)
    best = np.inf
    for cuts in combinations(range(1, 6), 2):
        parts = [slice(*ends) for ends in zip((0, *cuts), (*cuts, 6), strict=True)]
        values = [np.average(rewards[:, at], weights=of[:, at]) for at in parts]
        best = min(best, sum(error(rewards[:, at], of[:, at], v) for at, v in zip(parts, values, strict=True)))
    assert error(rewards, of, told) == pytest.approx(best, rel=SOLVER)


def test_a_period_in_which_nothing_was_contracted_counts_with_its_plain_mean():
    prices = {"one": made_prices(1, 1), "two": made_prices(2, 1)}
    nothing = {name: {UP: np.zeros(1)} for name in prices}
    told = uniform_tariffs(prices, TariffRules(1.0, 1, blocks=1), nothing).up_eur_per_mw.values
    assert told == pytest.approx([-(prices["one"][UP][0] + prices["two"][UP][0]) / 2], rel=EXACT)


@pytest.mark.parametrize(
    ("prices", "weights", "words"),
    [
        ({}, None, "there are no communities"),
        ({"a": {ENERGY: np.ones(2)}}, None, "community 'a' has no price of flex_up_mw"),
        ({"a": made_prices(0), "b": made_prices(0, 5)}, None, r"have \[5, 6\] periods"),
        ({"a": made_prices(0)}, {}, "no weights of a"),
        ({"a": made_prices(0)}, {"a": {UP: np.ones(4)}}, "weights of flex_up_mw have 4 periods, expected 6"),
        ({"a": made_prices(0)}, {"a": {UP: -np.ones(6)}}, "a weight of flex_up_mw is -1"),
    ],
)
def test_bad_prices_and_weights_are_refused(prices, weights, words):
    with pytest.raises(InputError, match=words):
        uniform_tariffs(prices, TariffRules(1.0, 24), weights)


@pytest.mark.parametrize("hours", [0.0, -1.0, np.nan])
def test_a_period_has_a_length(hours):
    with pytest.raises(InputError, match="hours is"):
        TariffRules(hours, 24)


# -------------------------------------------------------------------- responses


def shop_program():
    """A load and a battery that wears; all costs are strictly convex in what the meter sees."""
    devices = [
        {"kind": "load", "name": "shop", "power_kw": "shop"},
        {
            "kind": "battery", "name": "bat", "capacity_kwh": 40, "charge_kw": 20, "discharge_kw": 20, "min_share": 0,
            "wear_cost_eur_per_kwh": WEAR[0], "wear_rise_eur_per_kwh": WEAR[1],
        },
    ]  # fmt: skip
    series = columns(PERIODS, shop=shop_load_kw())
    return compiled(devices, horizon(PERIODS), series, flex_quadratic_cost_eur_per_mw2h=FLEX_COST)


def shop_load_kw() -> np.ndarray:
    return 30 + 10 * np.sin(np.arange(PERIODS))


def shop_coupling() -> Coupling:
    return Coupling(COUPLING, "ec", "grid", [Quantity(q, PERIODS, "MW", 0.05, 50.0) for q in QUANTITIES])


def grid_program(seed: int):
    """Sells energy at a price that differs from period to period and rises, and wants flexibility, less and less."""
    random, builder = np.random.default_rng(seed), Builder("grid")
    wanted = {ENERGY: random.uniform(20, 120, PERIODS), UP: -random.uniform(5, 30, PERIODS)}
    wanted[DOWN] = -random.uniform(5, 30, PERIODS)
    for quantity, linear in wanted.items():
        block = builder.variable(quantity, PERIODS, -1.0, 1.0, unit="MW", scale=0.05)
        builder.cost(block, linear=linear, quadratic=100.0)
        builder.boundary(COUPLING, quantity, block)
    return builder.build()


class Coordinated:
    """A shop and a grid after their run, and what the shop says to tariffs."""

    def __init__(self, solver: str = "piqp", seed: int = 0) -> None:
        coupling = shop_coupling()
        self.agent, self.boundary = QPAgent(shop_program(), solver), Layout([coupling]).boundary("ec")
        agents = {"ec": self.agent, "grid": QPAgent(grid_program(seed), solver)}
        found = admm.solve(agents, [coupling], admm.Settings(**TIGHT))
        assert found.converged
        self.prices = {q: b.price for q, b in found.boundary[COUPLING].items()}
        self.p_mw = found.boundary[COUPLING][ENERGY].lower
        values = at_coupling(COUPLING, {q: b.lower for q, b in found.boundary[COUPLING].items()})
        own_eur = self.agent.cost_eur()
        self.value_eur = -(own_eur + sum(self.prices[q] @ values[COUPLING, q] for q in QUANTITIES))

    def told(self, published: CommunityTariffs):
        return response("ec", self.agent, self.boundary, at_coupling(COUPLING, published.prices()))

    def worth(self, published: CommunityTariffs) -> float:
        return value_eur(self.told(published), at_coupling(COUPLING, self.prices))


def published_at_random(seed: int) -> CommunityTariffs:
    random, starts = np.random.default_rng(seed), np.array([0, 2, 5])
    energy, up, down = (Tariff(starts, random.uniform(0, top, 3), PERIODS, 24) for top in (150, 40, 40))
    return CommunityTariffs(energy, up, down, 1.0)


def independent_response(asked: CommunityTariffs):
    """Optimum in EUR and p, up, down (T,) in MW: the shop written another way, for cvxpy."""
    lower = np.zeros(PERIODS)
    lower[-1] = 20.0
    efficiency = np.full(PERIODS, 0.95)
    store = Store(20.0, 1.0, np.zeros(PERIODS), lower, np.full(PERIODS, 40.0), efficiency, 20.0, 1 / 0.95, 20.0)
    battery = store_part(store, 1.0, PERIODS, wear=WEAR)
    offered = FLEX_COST * (cp.sum_squares(battery.up / 1000) + cp.sum_squares(battery.down / 1000))
    battery = replace(battery, cost=battery.cost + offered)
    load = Part(cp.Constant(shop_load_kw()), np.zeros(PERIODS), np.zeros(PERIODS))
    tariffs = (asked.energy_eur_per_mwh, asked.up_eur_per_mw, asked.down_eur_per_mw)
    optimum = solve_parts([battery, load], Prices(*(t.series() for t in tariffs)), 1.0)
    return optimum, [(x.value / 1000) for x in (battery.power + load.power, battery.up, battery.down)]


@pytest.mark.parametrize("solver", ["osqp", "piqp"])
def test_response_is_the_optimum_of_another_model(solver):
    agent, boundary = QPAgent(shop_program(), solver), Layout([shop_coupling()]).boundary("ec")
    agent.prepare(boundary)
    for seed in range(2):
        asked = published_at_random(seed)
        told = response("ec", agent, boundary, at_coupling(COUPLING, asked.prices()))
        optimum, values = independent_response(asked)
        assert -value_eur(told, at_coupling(COUPLING, asked.prices())) == pytest.approx(optimum, rel=SOLVER, abs=SOLVER)
        for quantity, expected in zip(QUANTITIES, values, strict=True):
            assert told.values[COUPLING, quantity] == pytest.approx(expected, abs=VALUE_MW)
        assert max(told.values[COUPLING, UP].max(), told.values[COUPLING, DOWN].max()) > 100 * VALUE_MW


def test_true_prices_capture_everything_and_baselines_nothing():
    run = Coordinated()
    published = nodal_tariffs({"ec": run.prices}, TariffRules(1.0, PERIODS, blocks=PERIODS))["ec"]
    told = run.told(published)
    assert told.values[COUPLING, ENERGY] == pytest.approx(run.p_mw, abs=VALUE_MW)
    for flat in (True, False):
        without = run.worth(baseline_tariffs(run.prices, TariffRules(1.0, PERIODS), flat))
        assert run.value_eur - without > 100 * SHARE, "there is nothing to capture"
        assert captured_share(run.worth(published), without, run.value_eur) == pytest.approx(1.0, abs=SHARE)
        assert captured_share(without, without, run.value_eur) == 0.0


def test_few_blocks_capture_a_part_and_none_gets_beyond_the_optimum():
    run, shares = Coordinated(seed=1), []
    without = run.worth(baseline_tariffs(run.prices, TariffRules(1.0, PERIODS), flat=True))
    for blocks in range(1, PERIODS + 1):
        published = nodal_tariffs({"ec": run.prices}, TariffRules(1.0, PERIODS, blocks=blocks))["ec"]
        shares.append(captured_share(run.worth(published), without, run.value_eur))
    assert max(shares) <= 1 + SHARE
    assert shares[0] < shares[3] < shares[-1] and shares[0] < 0.99


def test_baselines_have_no_rewards_and_no_flexibility():
    run = Coordinated()
    for flat in (True, False):
        published = baseline_tariffs(run.prices, TariffRules(1.0, PERIODS), flat)
        expected = np.full(PERIODS, run.prices[ENERGY].mean()) if flat else run.prices[ENERGY]
        assert published.prices()[ENERGY] == pytest.approx(expected, rel=EXACT)
        told = run.told(published)
        assert not published.prices()[UP].any() and not published.prices()[DOWN].any()
        assert told.values[COUPLING, UP] == pytest.approx(0.0, abs=VALUE_MW)
        assert told.values[COUPLING, DOWN] == pytest.approx(0.0, abs=VALUE_MW)


def test_a_response_leaves_the_schedule_of_the_run():
    run = Coordinated()
    before = run.agent.x.copy()
    run.told(published_at_random(0))
    assert (run.agent.x == before).all()


def test_a_question_is_signed_for_the_asked_side_and_has_no_penalty():
    layout = Layout([shop_coupling()])
    prices = at_coupling(COUPLING, made_prices(3, PERIODS))
    below, above = (tariff_question(layout.boundary(side), prices) for side in ("ec", "grid"))
    assert (below.price == np.concatenate([prices[COUPLING, q] for q in QUANTITIES])).all()
    assert (above.price == -below.price).all()
    assert not below.penalty.any() and not below.reference.any()


def test_a_community_must_know_all_prices_and_share_its_cost():
    boundary = Layout([shop_coupling()]).boundary("ec")
    prices = at_coupling(COUPLING, made_prices(3, PERIODS))
    silent = QPAgent(shop_program(), "piqp", shares_cost=False)
    silent.prepare(boundary)
    with pytest.raises(InputError, match="'ec' does not share its cost"):
        response("ec", silent, boundary, prices)
    with pytest.raises(InputError, match="no price of flex_down_mw at coupling 'ec-dso'"):
        response("ec", silent, boundary, {key: values for key, values in prices.items() if key[1] != DOWN})
    with pytest.raises(InputError, match=r"price of p_mw at 'ec-dso' has shape \(3,\)"):
        response("ec", silent, boundary, prices | {(COUPLING, ENERGY): np.ones(3)})


def test_value_by_hand():
    """Cost 1/2 (b - 3)^2 at price 2: b = 1, own cost 2; at a price of 5 that schedule is worth -(2 + 5)."""
    coupling = Coupling("c", "ec", "grid", [Quantity("gas_mw", 1)])
    boundary, agent = Layout([coupling]).boundary("ec"), Parabola(1.0, [3.0])
    told = response("ec", agent, boundary, at_coupling("c", {"gas_mw": np.array([2.0])}))
    assert told.values["c", "gas_mw"] == pytest.approx([1.0], abs=EXACT)
    assert told.cost_eur == pytest.approx(2.0, abs=EXACT)
    assert value_eur(told, at_coupling("c", {"gas_mw": np.array([5.0])})) == pytest.approx(-7.0, abs=EXACT)
    with pytest.raises(InputError, match="gas_mw"):
        value_eur(told, {})


def test_shares_by_hand():
    assert captured_share(-8.0, -10.0, -6.0) == pytest.approx(0.5, abs=EXACT)
    assert captured_share(-11.0, -10.0, -6.0) == pytest.approx(-0.25, abs=EXACT)
    assert captured_share(-8.0, -6.0, -6.0) is None


# -------------------------------------------------------------------- what the operator sees


def test_what_the_operator_sees_by_hand():
    promised, needed = [np.array([1.0, 0.0]), np.array([2.0, 1.0])], [np.array([0.5, 2.0]), np.array([0.5, 1.0])]
    seen = flexibility_seen(promised, needed)
    assert seen.promised_mw.tolist() == [3.0, 1.0] and seen.needed_mw.tolist() == [1.0, 3.0]
    assert seen.short_mw.tolist() == [0.0, 2.0] and seen.over_mw.tolist() == [2.0, 0.0]
    assert net_peak_mw([np.array([1.0, 2.0]), np.array([-3.0, 1.0])], np.array([5.0, 0.5])) == 3.5
    assert net_peak_mw([np.array([-1.0, -2.0])]) == -1.0
