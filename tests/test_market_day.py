"""One day of both markets as a whole: perfect forecasts change nothing, failing ones are accounted for to the cent.

The bundled case runs once, with a gate every six hours; all else happens to two communities in one afternoon.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

import admm
from networks.case import Case, load_case
from networks.market.day import MarketDay
from networks.market.ev_errors import EvErrors, EvErrorTable
from networks.market.forecast_errors import ErrorTable
from networks.market.rules import MarketTable
from networks.market.settlement import Settlement, settle
from networks.market.uncertainty import Uncertainty
from subproblems import QuadraticProgram
from subproblems.ev_error import EvError
from tests.case_tools import BUNDLED_CASE, edit
from tests.market_tools import (
    CARS,
    HOMES,
    PERIODS,
    Day,
    forecasts,
    perfect,
    remove_errors,
    run_day,
    small_case,
    two_days,
    write_scenario,
)
from tests.tolerances import EXACT, OF_TURNOVER

FINE = admm.Settings(consensus_tolerance=1e-4, optimality_tolerance=1e-5)
OF_COST = 1e-4
FLAT_SHARE = 0.05
"""Of a community's largest power: by how much powers of two optima may differ. The optimum is flat: when a store
charges in hours of one price hardly changes the cost, and both runs stop within their tolerance of it."""
SUBSTATION_SHARE = 5e-3
"""The same of all of them together, where what one moves another one takes up."""
SOLVED_KW = 0.02
"""Powers and energies of some 100 kW in an answer to a run's last question, rounded to so much."""
CENT = 0.01


@pytest.fixture(scope="module")
def case(tmp_path_factory) -> Case:
    return load_case(str(small_case(tmp_path_factory.mktemp("small"))))


@pytest.fixture(scope="module")
def failed(case) -> Day:
    """Forecasts fail as the case says."""
    return run_day(case)


# ---- perfect forecasts


@pytest.fixture(scope="module")
def known() -> Day:
    """The bundled case, and nothing fails."""
    case = load_case(BUNDLED_CASE)
    table = perfect(case.table.market).model_copy(update={"gate_minutes": 360})
    return run_day(case, FINE, table)


def test_nothing_fails_and_the_closing_costs_what_was_cleared_day_ahead(known) -> None:
    record, cleared = known.outcome.record, known.results[-1]
    assert all(result.converged for result in known.results.values())
    assert sum(known.outcome.day_ahead_eur.values()) == pytest.approx(cleared.objective, rel=EXACT)
    cost = sum(record.costs_eur.values()) + record.balancing_eur.sum()
    assert cost == pytest.approx(cleared.objective, abs=OF_TURNOVER * cleared.turnover)
    assert cost == pytest.approx(cleared.objective, rel=OF_COST)
    assert set(record.relief_eur.values()) == {0.0} and known.outcome.reserve_short_mwh["tso"] <= 1e-3


def test_nothing_fails_and_powers_are_those_that_were_cleared(known) -> None:
    record = known.outcome.record
    planned, realised = record.positions_mw("p_mw")[0], record.realised_mw()
    size = np.abs(planned).max(axis=1)
    share = np.where([name == "dso-tso" for name in record.couplings], SUBSTATION_SHARE, FLAT_SHARE)
    assert (np.abs(realised - planned).max(axis=1) <= share * size).all()
    assert np.abs(record.balancing_mw).max() <= SUBSTATION_SHARE * size.max()


def test_gates_at_which_nothing_is_new_begin_near_their_end(case, known) -> None:
    """Of the day-ahead market's iterations a third at most, at the usual tolerance; at a finer one, a half."""
    usual = run_day(case, table=perfect(case.table.market))
    for day, share in ((usual, 1 / 3), (known, 1 / 2)):
        gates = [result.iterations for gate, result in day.results.items() if gate >= 0 and result is not day.closing]
        assert np.median(gates) <= share * day.results[-1].iterations


# ---- matrices


def same(one: QuadraticProgram, other: QuadraticProgram, matrix: str) -> bool:
    """The same pattern and the same numbers, to the last bit."""
    a, b = getattr(one, matrix), getattr(other, matrix)
    alike = a.shape == b.shape and np.array_equal(a.indptr, b.indptr) and np.array_equal(a.indices, b.indices)
    return alike and np.array_equal(a.data, b.data)


def test_gates_change_bounds_and_costs_only() -> None:
    """Every agent's program keeps P and A. Of the transmission operator's P, only what balancing power costs goes with
    the periods that are over; of the distribution operator's A, only the flow's rows move, with their points."""
    case = load_case(BUNDLED_CASE)
    table = case.table.market.model_copy(update={"gate_minutes": 360})
    everyone = [*case.agents]
    assert not any("temperature" in pattern for entry in table.error for pattern in entry.applies_to)
    once = admm.Settings(max_iterations=1)
    day = MarketDay(case, everyone, Uncertainty(table).knowledge(case, 0), admm.InProcessTransport(), table)
    day.day_ahead(once)
    points = day.agents["dso"].program.first_points()
    before = {name: day.agents[name].qp for name in case.communities}
    before["dso"] = day.agents["dso"].program.linearised(points)
    changed = dict.fromkeys(before, False)
    for gate in day.gates(once):
        now = {name: day.agents[name].qp for name in case.communities}
        now["dso"] = day.agents["dso"].program.linearised(points)
        for name, qp in now.items():
            assert same(qp, before[name], "P") and same(qp, before[name], "A"), (name, gate.number)
            moved = not (np.array_equal(qp.l, before[name].l) and np.array_equal(qp.u, before[name].u))
            changed[name] |= moved
        operator = day.intraday.transmission["tso"].agent.qp
        before.setdefault("tso", operator)
        check_operator(operator, before["tso"], gate.number)
    assert all(changed.values()), "the numbers are other ones, or this test sees nothing"


def check_operator(now: QuadraticProgram, before: QuadraticProgram, gate: int) -> None:
    """P is the same but for balancing power and missing reserve of periods before the gate."""
    assert same(now, before, "A")
    assert np.array_equal(now.P.indptr, before.P.indptr) and np.array_equal(now.P.indices, before.P.indices)
    over = np.zeros(now.size, dtype=bool)
    for block in now.variables:
        if block.name.startswith("market."):
            over[block.start : block.start + gate] = True
    column = np.repeat(np.arange(now.size), np.diff(now.P.indptr))
    assert np.array_equal(now.P.data[~over[column]], before.P.data[~over[column]])


# ---- draws


def test_one_draw_is_one_result_to_the_last_bit_and_another_draw_another(case, failed) -> None:
    again, other = run_day(case), run_day(case, draw=1)
    for gate, result in failed.results.items():
        for coupling, quantities in result.boundary.items():
            for quantity, values in quantities.items():
                found = again.results[gate].boundary[coupling][quantity]
                assert np.array_equal(values.lower, found.lower) and np.array_equal(values.price, found.price)
    assert np.array_equal(ledger(failed).entries, ledger(again).entries)
    assert again.outcome.record.costs_eur == failed.outcome.record.costs_eur
    assert np.abs(other.outcome.record.realised_mw() - failed.outcome.record.realised_mw()).max() > 1e-3


def test_an_entry_for_another_series_changes_none_that_is_there(case) -> None:
    table, name = case.table.market, f"{HOMES}/load_kw"
    more = ErrorTable(
        name="outside", applies_to=["temperature_degc"], distribution="gaussian", std_abs=2.0, correlation_hours=6.0
    )
    changed = table.model_copy(update={"error": (more, *table.error)})
    series = forecasts(case, HOMES)
    one, other = (Uncertainty(each).knowledge(case, 3).series for each in (table, changed))
    for gate in range(PERIODS + 1):
        assert np.array_equal(one.at_gate(name, series[name], gate), other.at_gate(name, series[name], gate))
    outside = series["temperature_degc"]
    assert np.array_equal(one.actual("temperature_degc", outside), outside)
    assert np.abs(other.actual("temperature_degc", outside) - outside).max() > 0.1


# ---- what came of a day


def ledger(day: Day) -> Settlement:
    return settle(day.outcome.record, day.outcome.spread_eur_per_mwh)


def test_all_payments_add_up_to_nothing_and_net_costs_to_the_whole(failed) -> None:
    """Summed up anew from the rows that a user reads: each is one payer's loss and one payee's gain."""
    record, settlement = failed.outcome.record, ledger(failed)
    received = dict.fromkeys([*record.agents, "outside"], 0)
    for payer, payee, eur in zip(*(settlement.rows[key] for key in ("payer", "payee", "amount_eur")), strict=True):
        received[payer] -= round(100 * eur)
        received[payee] += round(100 * eur)
    assert sum(received.values()) == settlement.total_cents() == 0
    assert received["outside"] / 100 == pytest.approx(record.balancing_eur.sum(), abs=CENT)
    assert abs(record.balancing_eur.sum()) > 1.0, "something was balanced"
    own = {name: record.costs_eur[name] + record.relief_eur.get(name, 0.0) for name in record.agents}
    net = {name: eur - received[name] / 100 for name, eur in own.items()}
    assert settlement.net_eur() == pytest.approx(net)
    whole = sum(record.costs_eur.values()) + record.balancing_eur.sum() + sum(record.relief_eur.values())
    assert sum(net.values()) == pytest.approx(whole, abs=CENT)
    assert whole > failed.results[-1].objective, "knowing less costs more"


def test_a_community_draws_what_its_devices_and_its_actual_load_add_up_to(case, failed) -> None:
    """From its private results and the series as they turned out, MW at the meter from kW inside."""
    series = Uncertainty(case.table.market).knowledge(case, 0).series
    actual = {name: series.actual(name, values) for name, values in forecasts(case, HOMES).items()}
    values, units = failed.market.intraday.communities[HOMES].happened()
    assert units["battery.charge_kw"] == "kW" and units["connection.p_mw"] == "MW"
    devices = values["battery.charge_kw"] - values["battery.discharge_kw"] - values["pv.production_kw"]
    devices = devices + values["homes.heating_kw"] + values["homes.cooling_kw"]
    drawn_kw = actual[f"{HOMES}/load_kw"] + devices
    assert 1e3 * values["connection.p_mw"] == pytest.approx(drawn_kw, abs=SOLVED_KW)
    realised = dict(zip(failed.outcome.record.couplings, failed.outcome.record.realised_mw(), strict=True))
    assert 1e3 * realised[f"{HOMES}-dso"] == pytest.approx(drawn_kw, abs=0.1)
    assert (values["pv.production_kw"] <= 120.0 * actual[f"{HOMES}/pv_pu_own"] + SOLVED_KW).all()
    assert np.abs(actual[f"{HOMES}/load_kw"] - forecasts(case, HOMES)[f"{HOMES}/load_kw"]).max() > 1.0
    stored = 100.0
    for t in range(PERIODS):
        stored = stored * (1 - 0.0002) + 0.96 * values["battery.charge_kw"][t]
        stored -= values["battery.discharge_kw"][t] / 0.96
        assert values["battery.energy_kwh"][t] == pytest.approx(stored, abs=SOLVED_KW)


# ---- limits that have to give way


def late_cars(to: Path) -> tuple[Case, MarketTable]:
    """Cars that are there from 16 to 19 o'clock, of which nothing else fails than when they come."""
    folder = small_case(to)
    hours = "arrival_hour = 17.5\ndeparture_hour = 31.0", "arrival_hour = 16.0\ndeparture_hour = 19.0"
    edit(f"agents/{CARS}.toml", *hours)(folder)
    remove_errors(folder)
    case = load_case(str(folder))
    entry = EvErrorTable(name="late", applies_to=["*/v2g"], arrival_std_hours=2.0, max_shift_hours=3.0)
    return case, case.table.market.model_copy(update={"ev_error": (entry,)})


def test_cars_that_come_too_late_leave_with_less_and_it_is_paid_for(tmp_path: Path) -> None:
    """15 cars lack 20 kWh each and are there for one hour of three: 11 kW x 0.95 of it are charged."""
    case, table = late_cars(tmp_path)

    def shift(draw: int) -> EvError:
        return EvErrors(table.ev_error, table.seed, draw, case.horizon).actual(f"{CARS}/cars/v2g", 16.0)

    day = run_day(case, table=table, draw=next(draw for draw in range(100) if 1.0 < shift(draw).shift_hours < 2.0))
    values, units = day.market.intraday.communities[CARS].happened()
    assert values["cars.v2g_charge_kw"] == pytest.approx([0, 0, 0, 0, 165.0, 0], abs=SOLVED_KW)
    missing_kwh = 15 * (20.0 - 0.95 * 11.0)
    assert [name for name in values if name.endswith("_beyond")] == ["cars.v2g_energy_kwh_beyond"]
    assert values["cars.v2g_energy_kwh_beyond"] == pytest.approx([0, 0, 0, 0, missing_kwh, 0], abs=SOLVED_KW)
    assert units["cars.v2g_energy_kwh_beyond"] == "kWh"
    relief_eur = day.outcome.record.relief_eur
    assert relief_eur[HOMES] == 0.0
    assert relief_eur[CARS] == pytest.approx(0.95 * missing_kwh * table.state_relief_eur_per_kwh, abs=SOLVED_KW)
    assert ledger(day).total_cents() == 0


def test_three_times_the_load_goes_beyond_the_connection_and_it_is_paid_for(tmp_path: Path) -> None:
    """Before the cars are there nothing can be moved: what the roof does not give is drawn, whatever the limit."""
    folder = small_case(tmp_path)
    remove_errors(folder)
    edit(f"agents/{CARS}.toml", "import_limit_kw = 220.0", "import_limit_kw = 90.0")(folder)
    case = load_case(str(folder))
    load_kw = 3 * forecasts(case, CARS)[f"{CARS}/load_kw"]
    sun_kw = 70 * forecasts(case, CARS)[f"{CARS}/pv_pu_own"]
    day = run_day(case, scenario=write_scenario(folder, f"{CARS}/load_kw", load_kw.tolist()))
    values, units = day.market.intraday.communities[CARS].happened()
    beyond_kw = 1e3 * values["connection.p_mw_beyond"]
    assert units["connection.p_mw_beyond"] == "MW"
    expected = np.maximum(load_kw - sun_kw - 90.0, 0.0)
    assert expected[1] > 20.0 and beyond_kw[:4] == pytest.approx(expected[:4], abs=SOLVED_KW)
    assert beyond_kw == pytest.approx(np.maximum(1e3 * values["connection.p_mw"] - 90.0, 0.0), abs=SOLVED_KW)
    table, relief_eur = case.table.market, day.outcome.record.relief_eur[CARS]
    v2g_kwh, plain_kwh = (np.sum(values.get(f"cars.{name}_energy_kwh_beyond", 0.0)) for name in ("v2g", "plain"))
    states_eur = table.state_relief_eur_per_kwh * (0.95 * v2g_kwh + plain_kwh / 0.95)
    paid = 1e-3 * table.connection_relief_eur_per_mwh * beyond_kw.sum() + states_eur
    assert relief_eur == pytest.approx(paid, rel=EXACT)
    assert ledger(day).net_eur()[CARS] == pytest.approx(
        day.outcome.record.costs_eur[CARS] + relief_eur - sum(ledger(day).by_agent()[CARS].values())
    )


# ---- the next day


def test_the_next_day_begins_with_what_the_last_one_left(tmp_path: Path) -> None:
    """Energy and temperature after the first hour, by hand from the states of the evening before."""
    first, second = (Case(folder) for folder in load_case(str(two_days(tmp_path))).folder.days())
    day = run_day(first)
    states = day.market.states()
    ended, _ = day.market.intraday.communities[HOMES].happened()
    assert states[HOMES] == {name: ended[name][-1] for name in ("battery.energy_kwh", "homes.temperature_degc")}
    moved = {HOMES: states[HOMES] | {"battery.energy_kwh": 77.0}}
    for given in (states, moved):
        table = second.table.market
        knowledge = Uncertainty(table).knowledge(second, 0, 1)
        market = MarketDay(second, list(second.agents), knowledge, admm.InProcessTransport(), table, given)
        market.day_ahead(admm.Settings())
        values = market.agents[HOMES].solution()
        stored = given[HOMES]["battery.energy_kwh"] * (1 - 0.0002) + 0.96 * values["battery.charge_kw"][0]
        stored -= values["battery.discharge_kw"][0] / 0.96
        assert values["battery.energy_kwh"][0] == pytest.approx(stored, abs=SOLVED_KW)
        series = forecasts(second, HOMES)
        kept = np.exp(-1 / (0.142857 * 168.0))
        power = 3.0 * values["homes.heating_kw"][0] - 3.2 * values["homes.cooling_kw"][0]
        power += series[f"{HOMES}/gains_kw"][0]
        towards = series["temperature_degc"][0] + 0.142857 * power
        indoors = kept * given[HOMES]["homes.temperature_degc"] + (1 - kept) * towards
        assert values["homes.temperature_degc"][0] == pytest.approx(indoors, abs=1e-3)
