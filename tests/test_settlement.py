"""Settlement: a day settled by hand, the same ledger by a naive loop and pandas, and what holds for any day."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from admm import InputError
from admm.state import BoundaryResult
from networks.market.record import OUTSIDE, DayRecord, Ends
from networks.market.settlement import settle, worse_off
from networks.market.tariffs import DOWN, ENERGY, QUANTITIES, UP
from tests.tolerances import EXACT

START = datetime(2026, 1, 15, tzinfo=UTC)
HALF_A_CENT = 0.005
"""How far an account is from its exact value at most."""
Triple = tuple[Sequence[float], Sequence[float]]


def boundary(**couplings: Sequence[Triple]) -> dict[str, dict[str, BoundaryResult]]:
    """Of each coupling p, up and down as (values in MW, prices in EUR per MW and period); both sides agree."""
    return {
        name: {
            quantity: BoundaryResult(np.array(mw, float), np.array(mw, float), np.array(eur, float), "MW")
            for quantity, (mw, eur) in zip(QUANTITIES, triples, strict=True)
        }
        for name, triples in couplings.items()
    }


# -------------------------------------------------------------------- by hand


def hand_day(**changes) -> DayRecord:
    """Two periods of half an hour; a community 'ec' at a distribution operator 'dso' at a transmission one, 'tso'.

    Prices per MW and period are half of those per MWh. Day-ahead: energy 40 and 60 EUR/MWh for ec, 38 and 50 for dso.
    ec holds 0.2 MW up in period 0, at 4 EUR/MW/h that are paid to it, and dso sells it on at 5.
    """
    none = ([0, 0], [0, 0])
    day_ahead = boundary(
        ec=[([1.0, 2.0], [20, 30]), ([0.2, 0.0], [-2, 0]), none],
        dso=[([3.0, 4.0], [19, 25]), ([0.2, 0.0], [-2.5, 0]), none],
    )
    # Gate 0: ec draws 0.3 MW less in period 0, of which 0.2 were held; its flexibility is used up. Energy at 50 EUR/MWh
    # for ec and 48 for dso, up flexibility at 2 and 3 EUR/MW/h; period 1: 0.4 MW more at 70 (ec) and 66 (dso).
    gate_0 = boundary(
        ec=[([0.7, 2.4], [25, 35]), ([0.0, 0.0], [-1, 0]), none],
        dso=[([2.7, 4.4], [24, 33]), ([0.0, 0.0], [-1.5, 0]), none],
    )
    # Gate 1: ec in period 1 back to 2.1 MW at 80 EUR/MWh; dso at 76.
    gate_1 = boundary(
        ec=[([0.7, 2.1], [0, 40]), none, none],
        dso=[([2.7, 4.1], [0, 38]), none, none],
    )
    # It came otherwise: ec drew 0.1 MW more than planned in both periods; of dso's other load, dso drew 0.2 MW more in
    # period 0 in all and 0.1 MW less in period 1.
    closing = boundary(ec=[([0.8, 2.2], [0, 0]), none, none], dso=[([2.9, 4.0], [0, 0]), none, none])
    day = DayRecord(
        start=START,
        hours=0.5,
        couplings={"ec": Ends("ec", "dso", 8), "dso": Ends("dso", "tso", 8)},
        day_ahead=day_ahead,
        gates=(gate_0, gate_1),
        closing=closing,
        balancing_mw=np.array([0.2, -0.1]),
        balancing_eur=np.array([5.5, -3.0]),
        costs_eur={"ec": 10.0, "dso": 4.0, "tso": None},
        relief_eur={"ec": 0.25},
    )
    return replace(day, **changes)


SPREAD = 4.0
HAND_ROWS = [
    # stage, gate, period, coupling, payer, payee, product, MWh, EUR/MWh, EUR
    ("day-ahead", -1, 0, "ec", "ec", "dso", "energy", 0.5, 40, 20.00),
    ("day-ahead", -1, 0, "ec", "dso", "ec", "capacity_up", 0.1, -4, 0.40),
    ("day-ahead", -1, 0, "dso", "dso", "tso", "energy", 1.5, 38, 57.00),
    ("day-ahead", -1, 0, "dso", "tso", "dso", "capacity_up", 0.1, -5, 0.50),
    ("day-ahead", -1, 1, "ec", "ec", "dso", "energy", 1.0, 60, 60.00),
    ("day-ahead", -1, 1, "dso", "dso", "tso", "energy", 2.0, 50, 100.00),
    ("intra-day", 0, 0, "ec", "dso", "ec", "activation", -0.10, 50, 5.00),
    ("intra-day", 0, 0, "ec", "dso", "ec", "intraday_energy", -0.05, 50, 2.50),
    ("intra-day", 0, 0, "ec", "ec", "dso", "intraday_capacity_up", -0.1, -2, 0.20),
    ("intra-day", 0, 0, "dso", "tso", "dso", "activation", -0.10, 48, 4.80),
    ("intra-day", 0, 0, "dso", "tso", "dso", "intraday_energy", -0.05, 48, 2.40),
    ("intra-day", 0, 0, "dso", "dso", "tso", "intraday_capacity_up", -0.1, -3, 0.30),
    ("intra-day", 0, 1, "ec", "ec", "dso", "intraday_energy", 0.20, 70, 14.00),
    ("intra-day", 0, 1, "dso", "dso", "tso", "intraday_energy", 0.20, 66, 13.20),
    ("intra-day", 1, 1, "ec", "dso", "ec", "intraday_energy", -0.15, 80, 12.00),
    ("intra-day", 1, 1, "dso", "tso", "dso", "intraday_energy", -0.15, 76, 11.40),
    # period 0: the system is short by 0.2 MW, so 4 EUR/MWh dearer; period 1: long by 0.1 MW, 4 cheaper for all
    ("imbalance", 0, 0, "ec", "ec", "dso", "imbalance", 0.05, 54, 2.70),
    ("imbalance", 0, 0, "dso", "dso", "tso", "imbalance", 0.10, 52, 5.20),
    ("imbalance", 0, 0, OUTSIDE, "tso", OUTSIDE, "balancing", 0.10, 55, 5.50),
    ("imbalance", 1, 1, "ec", "ec", "dso", "imbalance", 0.05, 76, 3.80),
    ("imbalance", 1, 1, "dso", "tso", "dso", "imbalance", -0.05, 72, 3.60),
    ("imbalance", 1, 1, OUTSIDE, OUTSIDE, "tso", "balancing", -0.05, 60, 3.00),
]
COLUMNS = [
    "stage",
    "gate",
    "period",
    "coupling",
    "payer",
    "payee",
    "product",
    "quantity_mwh",
    "price_eur_per_mwh",
    "amount_eur",
]


def test_a_day_settled_by_hand():
    found = settle(hand_day(), SPREAD).rows
    assert list(found) == COLUMNS
    order = ("stage", "period", "gate", "coupling", "product")
    expected = pd.DataFrame(HAND_ROWS, columns=COLUMNS).sort_values(list(order), ignore_index=True)
    rows = pd.DataFrame(found).sort_values(list(order), ignore_index=True)
    pd.testing.assert_frame_equal(rows, expected, check_dtype=False, rtol=0, atol=EXACT)


def test_what_each_agent_receives_and_pays_in_all():
    settlement = settle(hand_day(), SPREAD)
    assert settlement.by_agent() == {
        "ec": {
            "energy": -80.0,
            "capacity_up": 0.4,
            "activation": 5.0,
            "intraday_energy": 0.5,  # 2.50 - 14.00 + 12.00
            "intraday_capacity_up": -0.2,
            "imbalance": -6.5,
        },
        "dso": {
            "energy": -77.0,
            "capacity_up": 0.1,
            "activation": -0.2,
            "intraday_energy": 0.1,  # 2.40 - 13.20 + 11.40 - 0.50
            "intraday_capacity_up": -0.1,
            "imbalance": 4.9,  # 6.50 - 5.20 + 3.60
        },
        "tso": {
            "energy": 157.0,
            "capacity_up": -0.5,
            "activation": -4.8,
            "intraday_energy": -0.6,
            "intraday_capacity_up": 0.3,
            "imbalance": 1.6,
            "balancing": -2.5,
        },
        OUTSIDE: {"balancing": 2.5},
    }
    assert settlement.total_cents() == 0
    assert settlement.net_eur() == pytest.approx({"ec": 10 + 0.25 + 80.8, "dso": 4 + 72.2, "tso": None}, abs=EXACT)


def test_flexibility_that_was_used_and_what_came_otherwise():
    ec = settle(hand_day(), SPREAD).activated_mwh()["ec"]
    expected = {"contracted_up": 0.1, "inside_up": 0.1, "beyond_up": 0.05, "beyond_down": 0.05, "short": 0.1}
    nothing = dict.fromkeys(("contracted_down", "inside_down", "long"), 0.0)
    assert ec == pytest.approx({**nothing, **expected}, abs=EXACT)


def test_both_sides_are_settled_at_the_mean_of_their_values():
    day = hand_day()
    apart = {"lower": day.day_ahead["ec"][ENERGY].lower + 0.1, "upper": day.day_ahead["ec"][ENERGY].upper - 0.3}
    ec = {**day.day_ahead["ec"], ENERGY: replace(day.day_ahead["ec"][ENERGY], **apart)}
    rows = pd.DataFrame(settle(replace(day, day_ahead={**day.day_ahead, "ec": ec})).rows)
    energy = rows[(rows["product"] == "energy") & (rows.coupling == "ec")]
    assert energy.amount_eur.tolist() == [0.9 * 20, 1.9 * 30]


def test_spreads_by_period():
    rows = pd.DataFrame(settle(hand_day(), np.array([0.0, 10.0])).rows)
    prices = rows[(rows["product"] == "imbalance") & (rows.coupling == "ec")].price_eur_per_mwh
    assert prices.tolist() == pytest.approx([50, 70], abs=EXACT)


def three_at_one(drawn_mw: Sequence[float], feeders: Sequence[int] = (1, 1, 1)) -> dict[str, float]:
    """What imbalance leaves of three that planned to draw nothing, at 10 EUR/MWh and a spread of 7."""
    plan, none, names = ([0.0], [10.0]), ([0.0], [0.0]), "abc"
    agreed = boundary(**{name: [plan, none, none] for name in names})
    closing = boundary(**{name: [([mw], [0]), none, none] for name, mw in zip(names, drawn_mw, strict=True)})
    couplings = {name: Ends(name, "dso", count) for name, count in zip(names, feeders, strict=True)}
    costs = dict.fromkeys((*names, "dso"), 0.0)
    day = DayRecord(START, 1.0, couplings, agreed, (agreed,), closing, np.zeros(1), np.zeros(1), costs, {})
    return {name: of.get("imbalance", 0.0) for name, of in settle(day, 7.0).by_agent().items()}


def test_deviations_that_cancel_out_cost_no_spread():
    assert 0.1 + 0.2 - 0.3 != 0  # rounding alone makes a system neither short nor long
    assert three_at_one([0.1, 0.2, -0.3]) == {"a": -1.0, "b": -2.0, "c": 3.0, "dso": 0.0}


def test_a_deviation_counts_in_the_system_once_a_feeder():
    assert three_at_one([1.0, 1.0, -2.0], feeders=[1, 1, 2]) == {"a": -3.0, "b": -3.0, "c": 6.0, "dso": 0.0}
    assert three_at_one([1.0, 1.0, -3.0], feeders=[2, 2, 1]) == {"a": -17.0, "b": -17.0, "c": 51.0, "dso": -17.0}


def test_where_no_agent_is_at_the_top_every_coupling_counts():
    """Three agents in a ring: deviations of 3, -1 and -1 MW are 1 MW short in all."""
    plan, none = ([5.0], [10.0]), ([0.0], [0.0])
    couplings = {"ab": Ends("a", "b"), "bc": Ends("b", "c"), "ca": Ends("c", "a")}
    agreed = boundary(**{name: [plan, none, none] for name in couplings})
    closing = boundary(**{n: [([mw], [0]), none, none] for n, mw in {"ab": 8.0, "bc": 4.0, "ca": 4.0}.items()})
    costs, nothing = dict.fromkeys("abc", 0.0), np.zeros(1)
    day = DayRecord(START, 1.0, couplings, agreed, (agreed,), closing, nothing, nothing, costs, {})
    imbalance = {name: of.get("imbalance", 0.0) for name, of in settle(day, 7.0).by_agent().items()}
    assert imbalance == {
        "a": -3 * 17.0 - 17.0,
        "b": 3 * 17.0 + 17.0,
        "c": 0.0,
    }  # paid at one coupling, received at the other


def test_balancing_that_costs_without_a_quantity_has_no_price():
    rows = pd.DataFrame(settle(hand_day(balancing_mw=np.array([0.2, 0.0]))).rows)
    one = rows[(rows["product"] == "balancing") & (rows.period == 1)].iloc[0]
    assert (one.payer, one.payee, one.quantity_mwh, one.amount_eur) == (OUTSIDE, "tso", 0.0, 3.0)
    assert np.isnan(one.price_eur_per_mwh)


def test_small_amounts_do_not_get_lost_in_rounding():
    """A hundred times 0.3 cents are 30 cents, although each rounds to nothing."""
    periods, none = 100, (np.zeros(100), np.zeros(100))
    agreed = boundary(ec=[(np.full(periods, 0.003), np.ones(periods)), none, none])
    costs, nothing = {"ec": 0.0, "dso": 0.0}, np.zeros(periods)
    couplings = {"ec": Ends("ec", "dso")}
    day = DayRecord(START, 1.0, couplings, agreed, (agreed,) * periods, agreed, nothing, nothing, costs, {})
    settlement = settle(day)
    assert settlement.by_agent() == {"ec": {"energy": -0.3}, "dso": {"energy": 0.3}}
    assert set(settlement.rows["amount_eur"]) == {0.0, 0.01}


# -------------------------------------------------------------------- any day


NAMES = {"a": Ends("a", "dso"), "b": Ends("b", "dso"), "dso": Ends("dso", "tso", 3)}
AGENTS = ("a", "b", "dso", "tso")


def random_day(seed: int, periods: int, hours: float) -> DayRecord:
    """Positions and prices of any sign; some gates change nothing, some prices are 0."""
    random = np.random.default_rng(seed)

    def step() -> dict[str, dict[str, BoundaryResult]]:
        found = {}
        for name in NAMES:
            found[name] = {}
            for quantity in QUANTITIES:
                mw, eur = random.normal(0, 1, periods), random.normal(20, 40, periods).round(1)
                if quantity != ENERGY:
                    mw = np.where(random.random(periods) < 0.2, -1e-5, 0.3 * np.abs(mw))  # solvers stop just below 0
                eur[random.random(periods) < 0.1] = 0.0
                found[name][quantity] = BoundaryResult(mw, mw + 1e-4 * random.normal(size=periods), eur, "MW")
        return found

    gates = [step() for _ in range(periods)]
    if periods > 2:
        gates[1] = gates[0]
    power, paid = random.normal(size=(2, periods))
    costs = dict.fromkeys(AGENTS, 1.0)
    return DayRecord(START, hours, NAMES, step(), tuple(gates), step(), power, paid, costs, {})


DAYS = st.builds(random_day, st.integers(0, 2**32 - 1), st.integers(1, 5), st.sampled_from([0.25, 1 / 3, 1.0]))


def naive_rows(day: DayRecord, spread: float) -> pd.DataFrame:
    """The ledger by loops over steps, couplings and periods, signed: what the lower agent pays, exact EUR."""
    rows, h = [], day.hours

    def mw(step, name, quantity, t):
        return (step[name][quantity].lower[t] + step[name][quantity].upper[t]) / 2

    for name in day.couplings:
        for t in range(day.periods):
            first, before = day.day_ahead, day.day_ahead
            low = mw(first, name, ENERGY, t) - max(0.0, mw(first, name, UP, t))
            high = mw(first, name, ENERGY, t) + max(0.0, mw(first, name, DOWN, t))
            for quantity, product in ((ENERGY, "energy"), (UP, "capacity_up"), (DOWN, "capacity_down")):
                rows.append((name, t, product, h * mw(first, name, quantity, t), first[name][quantity].price[t]))
            for gate in range(t + 1):
                now = day.gates[gate]
                a, b = mw(before, name, ENERGY, t), mw(now, name, ENERGY, t)
                inside = min(max(b, low), high) - min(max(a, low), high)
                rows.append((name, t, "activation", h * inside, now[name][ENERGY].price[t]))
                rows.append((name, t, "intraday_energy", h * (b - a - inside), now[name][ENERGY].price[t]))
                for quantity, product in ((UP, "intraday_capacity_up"), (DOWN, "intraday_capacity_down")):
                    change = mw(now, name, quantity, t) - mw(before, name, quantity, t)
                    rows.append((name, t, product, h * change, now[name][quantity].price[t]))
                before = now
            system = mw(day.closing, "dso", ENERGY, t) - mw(day.gates[t], "dso", ENERGY, t)
            price = day.gates[t][name][ENERGY].price[t] + (spread if system > 0 else -spread) * h
            deviation = mw(day.closing, name, ENERGY, t) - mw(day.gates[t], name, ENERGY, t)
            rows.append((name, t, "imbalance", h * deviation, price))
    frame = pd.DataFrame(rows, columns=["coupling", "period", "product", "quantity_mwh", "eur_per_mw"])
    frame["eur"] = frame.quantity_mwh / h * frame.eur_per_mw
    return frame


@settings(max_examples=30, deadline=None)
@given(DAYS)
def test_the_same_ledger_by_a_naive_loop(day):
    rows, expected = pd.DataFrame(settle(day, 3.0).rows), naive_rows(day, 3.0)
    rows = rows[rows["product"] != "balancing"]
    lower = rows.coupling.map({name: ends.lower for name, ends in day.couplings.items()})
    rows = rows.assign(eur=np.where(rows.payer == lower, 1, -1) * rows.amount_eur)
    for keys, key, within in (
        (["coupling", "product", "period"], "quantity_mwh", EXACT),
        (["coupling", "product"], "eur", HALF_A_CENT + EXACT),
    ):
        pair = [frame.groupby(keys)[key].sum() for frame in (rows, expected)]
        assert pair[0].sub(pair[1], fill_value=0.0).abs().max() <= within


@settings(max_examples=30, deadline=None)
@given(DAYS)
def test_what_is_paid_is_received_to_the_cent(day):
    settlement = settle(day, 3.0)
    rows, cents = pd.DataFrame(settlement.rows), {}
    for one in rows.itertuples():
        amount = round(100 * one.amount_eur)
        assert one.amount_eur == amount / 100 >= 0
        cents[one.payer] = cents.get(one.payer, 0) - amount
        cents[one.payee] = cents.get(one.payee, 0) + amount
    assert sum(cents.values()) == settlement.total_cents() == 0
    told = {name: round(100 * sum(of.values())) for name, of in settlement.by_agent().items()}
    assert {name: value for name, value in told.items() if value} == {k: v for k, v in cents.items() if v}


@settings(max_examples=30, deadline=None)
@given(DAYS)
def test_transfers_are_the_exact_amount_to_the_cent(day):
    rows = pd.DataFrame(settle(day, 3.0).rows)
    exact = (rows.quantity_mwh * rows.price_eur_per_mwh).abs()
    assert (rows.amount_eur - exact).abs().max() <= 2 * HALF_A_CENT + EXACT
    lower = rows.coupling.map({name: ends.lower for name, ends in day.couplings.items()} | {OUTSIDE: "tso"})
    paid = rows.quantity_mwh * rows.price_eur_per_mwh
    moved = rows.amount_eur > 0
    assert ((rows.payer == lower) == (paid > 0))[moved].all()


@settings(max_examples=30, deadline=None)
@given(DAYS)
def test_what_was_traded_and_the_imbalance_are_what_was_exchanged(day):
    rows = pd.DataFrame(settle(day).rows)
    energy = rows[rows["product"].isin(["energy", "activation", "intraday_energy", "imbalance"])]
    mwh = energy.groupby(["coupling", "period"]).quantity_mwh.sum()
    for name in day.couplings:
        closing = day.closing[name][ENERGY]
        realised = day.hours * (closing.lower + closing.upper) / 2
        assert mwh[name].to_numpy() == pytest.approx(realised, abs=EXACT)


@settings(max_examples=30, deadline=None)
@given(DAYS)
def test_called_flexibility_stays_within_what_was_held(day):
    for of in settle(day).activated_mwh().values():
        assert min(of.values()) >= 0
        assert of["inside_up"] <= of["contracted_up"] + EXACT
        assert of["inside_down"] <= of["contracted_down"] + EXACT


@settings(max_examples=20, deadline=None)
@given(DAYS)
def test_where_everything_comes_as_forecast_only_the_day_ahead_market_pays(day):
    """Whatever the gates' prices are; what they say of periods that are over does not matter."""
    gates = []
    for number, gate in enumerate(day.gates):
        over = np.arange(day.periods) < number
        gates.append(
            {
                name: {
                    q: replace(
                        day.day_ahead[name][q],
                        lower=np.where(over, 9.0, day.day_ahead[name][q].lower),
                        upper=np.where(over, 9.0, day.day_ahead[name][q].upper),
                        price=gate[name][q].price,
                    )
                    for q in QUANTITIES
                }
                for name in day.couplings
            }
        )
    nothing = np.zeros(day.periods)
    calm = replace(day, gates=tuple(gates), closing=day.day_ahead, balancing_mw=nothing, balancing_eur=nothing)
    settlement = settle(calm, 3.0)
    assert set(settlement.rows["stage"]) == {"day-ahead"}
    assert OUTSIDE not in settlement.by_agent()


# -------------------------------------------------------------------- staying out of it


def test_who_would_rather_have_stayed_out():
    net, alone = {"a": 12.0, "b": 5.0, "c": -1.0, "dso": 3.0}, {"a": 10.0, "b": 5.1, "c": -4.0}
    assert worse_off(net, alone, 0.5) == [("c", 3.0), ("a", 2.0)]
    assert worse_off(net, alone, 2.5) == [("c", 3.0)]


def test_costs_that_are_not_known_are_not_compared_silently():
    with pytest.raises(InputError, match="net_eur of 'a' is None"):
        worse_off({"a": None}, {"a": 1.0}, 0.1)
    with pytest.raises(InputError, match="net_eur of 'b' is None"):
        worse_off({"a": 1.0}, {"b": 1.0}, 0.1)
    with pytest.raises(InputError, match="standalone_eur of 'a' is nan"):
        worse_off({"a": 1.0}, {"a": np.nan}, 0.1)
    with pytest.raises(InputError, match="tolerance_eur is -1"):
        worse_off({"a": 1.0}, {"a": 1.0}, -1)


@pytest.mark.parametrize(
    ("spread", "words"),
    [(-1.0, "0 or above"), (np.nan, "finite"), (np.zeros(3), "has shape (3,), expected one number or 2")],
)
def test_spreads_that_are_refused(spread, words):
    with pytest.raises(InputError) as caught:
        settle(hand_day(), spread)
    assert words in str(caught.value)
