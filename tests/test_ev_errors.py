"""Stays that differ from the file, against numbers by hand: later, with another need, too late to be charged."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest

from admm import InputError
from networks.case import load_case
from networks.market.community_day import CommunityDay
from networks.market.ev_errors import EvErrors, EvErrorTable
from networks.market.intraday_program import ROOM_SHARE, IntradayProgram, Relief
from subproblems import QPAgent, QuadraticProgram
from subproblems.community import Community, compile_community
from subproblems.ev_error import AS_FORECAST, EvError, Stays
from tests.device_reference import COUPLING, Prices, columns, horizon, solve_program
from tests.tolerances import EXACT, SOLVER

N = 12
SOLVED_KW = 1e-4
"""Powers of a solved program, of some 10 kW."""
CLASS = {
    "name": "night", "vehicles": 2, "capacity_kwh": 50.0, "charger_kw": 10.0, "charge_efficiency": 0.8,
    "arrival_hour": 2.0, "departure_hour": 8.0, "energy_on_arrival_kwh": 10.0, "energy_at_departure_kwh": 40.0,
    "repeat_daily": False,
}  # fmt: skip
"""Two cars from 2 to 8 o'clock: they need 30 kWh each and can take 8 an hour."""
CHEAP_LATE = Prices(np.linspace(100.0, 10.0, N), np.zeros(N), np.zeros(N))


def program(stays: Stays | None = None, hours: int = N, step: int = 60, first: int = 0, **changes) -> QuadraticProgram:
    """The fleet alone; changes of the class, except `fleet`, changes of the fleet."""
    fleet = {"kind": "ev_fleet", "name": "cars", **changes.pop("fleet", {}), "classes": [CLASS | changes]}
    one = Community(import_limit_kw=1e4, export_limit_kw=1e4, flex_quadratic_cost_eur_per_mw2h=0.0, devices=[fleet])
    over = horizon(hours * 60 // step, step, first)
    return compile_community("ec", one, over, columns(over.periods), COUPLING, stays=stays)


def always(shift_hours: float, energy_factor: float = 1.0, known: bool = True) -> Stays:
    return lambda name, hour, day: EvError(shift_hours, energy_factor, known)


def limits(qp: QuadraticProgram, variable: str) -> tuple[np.ndarray, np.ndarray]:
    """The bounds of a block of variables."""
    start = next(block.start for block in qp.variables if block.name == variable)
    rows = [r for r in qp.rows if (qp.A[r.entries][:, [start]] != 0).nnz and abs(qp.A[r.entries]).sum() == r.length]
    (rows,) = (r for r in rows if "limits" in r.name)
    return qp.l[rows.entries], qp.u[rows.entries]


def same_matrices(one: QuadraticProgram, other: QuadraticProgram) -> bool:
    """The same arrays, and scales, so that a solver's scaled ones are the same, too; costs as well."""
    pairs = [(getattr(one, key), getattr(other, key)) for key in ("q", "variable_scale", "row_scale")]
    for key in ("A", "P"):
        pairs += [(getattr(getattr(one, key), part), getattr(getattr(other, key), part)) for part in PARTS]
    return all(np.array_equal(a, b) for a, b in pairs) and one.constant == other.constant


PARTS = ("indptr", "indices", "data")
ERRORS = [always(2.5), always(-1.0), always(100.0), always(0.0, 1.2), always(0.0, 0.0), always(1.2, 2.0, known=False)]


@pytest.mark.parametrize("stays", ERRORS)
@pytest.mark.parametrize("charging", ["controlled", "on_arrival"])
def test_errors_change_bounds_only(stays: Stays, charging: str) -> None:
    for changes in ({}, {"discharge_kw": 5.0}, {"departure_hour": 20.0}):
        fleet = {"charging": charging}
        own, other = program(fleet=fleet, **changes), program(stays, fleet=fleet, **changes)
        assert same_matrices(own, other)
    assert stays is ERRORS[1] or not (np.array_equal(own.l, other.l) and np.array_equal(own.u, other.u))


def test_without_errors_nothing_changes() -> None:
    own, other = program(), program(lambda name, hour, day: AS_FORECAST)
    assert same_matrices(own, other) and (own.l == other.l).all() and (own.u == other.u).all()


def test_a_late_car_has_less_time() -> None:
    """2.5 h late: there for all of hour 5 and after, 3 hours of 16 kWh. It needs 60 kWh less 12: 40 kW x 0.8 = 32."""
    qp = program(always(2.5), energy_at_departure_kwh=26.0, discharge_kw=4.0)
    there = np.isin(np.arange(N), [5, 6, 7])
    assert limits(qp, "cars.night_charge_kw")[1] == pytest.approx(20.0 * there, abs=EXACT)
    assert limits(qp, "cars.night_discharge_kw")[1] == pytest.approx(8.0 * there, abs=EXACT)
    for direction in ("up", "down"):
        assert limits(qp, f"cars.night_{direction}_kw")[1] == pytest.approx(28.0 * there, abs=EXACT)
    schedule = solve_program(qp, CHEAP_LATE, 1.0)[1]
    assert schedule["cars.night_charge_kw"] == pytest.approx([0, 0, 0, 0, 0, 0, 20, 20, 0, 0, 0, 0], abs=SOLVED_KW)
    energy = [0, 0, 20, 20, 20, 20, 36, 52, 0, 0, 0, 0]
    assert schedule["cars.night_energy_kwh"] == pytest.approx(energy, abs=SOLVED_KW)


def first_there(error: EvError, step: int = 60, **changes) -> int:
    """The first period with power."""
    return int(np.flatnonzero(limits(program(lambda *_: error, step=step, **changes), "cars.night_charge_kw")[1])[0])


@pytest.mark.parametrize(
    ("error", "hour", "step", "first"),
    [
        (EvError(1.0, 1.0, True), 2.0, 60, 3),
        (EvError(1.01, 1.0, True), 2.0, 60, 4),
        (EvError(1.01, 1.0, True), 2.0, 15, 13),  # until 3:15
        (EvError(1.4, 1.0, False), 2.0, 60, 3),  # expected at 3:24: most of that hour it is there
        (EvError(1.6, 1.0, False), 2.0, 60, 4),
        (EvError(0.4, 1.0, True), 2.5, 60, 3),  # at 2:54 in place of 2:30: in time for the same hour
        (EvError(0.6, 1.0, True), 2.5, 60, 4),
        (EvError(0.0, 1.0, False), 2.2, 60, 3),  # nothing is known yet, so nothing changes
        (EvError(-1.7, 1.0, True), 2.0, 60, 2),  # early, but taken when it was announced
        (EvError(-1.7, 1.0, False), 2.0, 15, 8),
    ],
)
def test_it_is_there_in_whole_periods(error: EvError, hour: float, step: int, first: int) -> None:
    assert first_there(error, step, arrival_hour=hour) == first


def test_another_need_is_another_energy_on_arrival() -> None:
    """Need 30: with 1.2 it is 36, so 4 are there on arrival; with 2 the least, 1; with 0 all 40."""
    for factor, energy_kwh in ((1.2, 4.0), (2.0, 1.0), (0.5, 25.0), (0.0, 40.0)):
        qp = program(always(0.0, factor), min_energy_kwh=1.0)
        balance = next(rows for rows in qp.rows if "balance" in rows.name and "cars" in rows.name)
        assert qp.l[balance.start + 2] == pytest.approx(2 * energy_kwh, abs=EXACT)
    schedule = solve_program(program(always(0.0, 1.2)), CHEAP_LATE, 1.0)[1]
    assert 0.8 * schedule["cars.night_charge_kw"].sum() == pytest.approx(2 * 36.0, abs=SOLVED_KW)
    emptied = program(always(0.0, 2.0), energy_on_arrival_kwh=45.0, capacity_kwh=48.0)  # 5 more than they need
    assert limits(emptied, "cars.night_energy_kwh")[1][2] == 2 * 48.0
    balance = next(rows for rows in emptied.rows if "balance" in rows.name and "cars" in rows.name)
    assert emptied.l[balance.start + 2] == 2 * 48.0


def test_a_stay_that_the_end_cuts_is_pro_rata_from_the_late_arrival() -> None:
    """From 2 to 22, cut at 12: half of 30 kWh. From 7 on: 5 of 15 hours. After 12 nothing can be asked of it."""
    for shift, factor, energy_kwh in ((0, 1, 25.0), (5, 1, 20.0), (5, 1.2, 4 + 12.0), (15, 1, 10.0), (30, 1, 10.0)):
        qp = program(always(float(shift), factor), departure_hour=22.0)
        assert limits(qp, "cars.night_energy_kwh")[0][-1] == pytest.approx(2 * energy_kwh, abs=EXACT)


def test_a_stay_that_has_begun_is_as_it_was_forecast_and_others_are_asked_for_by_day() -> None:
    """Every night from 20 to 30 h: that of day -1 is cut by the start at midnight, days 0 and 1 begin later."""
    asked = []

    def stays(name: str, hour: float, day: int) -> EvError:
        asked.append((name, hour, day))
        return EvError(2.0, 1.0, True) if day == 1 else AS_FORECAST

    qp = program(stays, hours=72, repeat_daily=True, arrival_hour=20.0, departure_hour=30.0)
    assert asked == [("cars/night", 20.0, 0), ("cars/night", 20.0, 1), ("cars/night", 20.0, 2)]
    there = np.flatnonzero(limits(qp, "cars.night_charge_kw")[1])
    assert list(there) == [*range(6), *range(20, 30), *range(46, 54), *range(68, 72)]
    assert (program(always(3.0), first=4).u == program(first=4).u).all()


def test_charging_on_arrival_comes_later_and_takes_what_is_needed() -> None:
    """20 kW until 60 kWh are there: from 2 on 75 kW h; 1 h late the same an hour later; 36 each need 90 kW h."""
    fleet = {"charging": "on_arrival"}
    for stays, powers in (
        (None, {2: 20.0, 3: 20.0, 4: 20.0, 5: 15.0}),
        (always(0.3), {3: 20.0, 4: 20.0, 5: 20.0, 6: 15.0}),
        (always(0.0, 1.2), {2: 20.0, 3: 20.0, 4: 20.0, 5: 20.0, 6: 10.0}),
        (always(4.0), {6: 20.0, 7: 20.0}),
    ):
        expected = np.zeros(N)
        expected[list(powers)] = list(powers.values())
        for bound in limits(program(stays, fleet=fleet), "cars.night_charge_kw"):
            assert bound == pytest.approx(expected, abs=EXACT)


# ---- too late


def shortage(stays: Stays, gate: int, **changes) -> tuple[dict[str, np.ndarray], np.ndarray]:
    """What gives way when the errors come up at a gate, and its cost in EUR a period."""
    cleared = program(**changes)
    made = IntradayProgram(cleared, COUPLING, 1.0, Relief(state_eur_per_kwh=2.0), 0.0)
    given_way = made.program(program(stays, **changes), gate, np.zeros(cleared.size))[1]
    return given_way, made.relief_eur(given_way)


@pytest.mark.parametrize("flexible", [True, False])
@pytest.mark.parametrize("gate", [0, 4])
def test_what_a_late_car_cannot_be_charged_is_short_at_its_departure(flexible: bool, gate: int) -> None:
    """3 h late: 3 hours of 16 kWh of the 60 that are needed; 12 are short, which 12 / 0.8 kWh would have made.

    They are short once, at the departure, whether or not flexibility is offered on the way there.
    """
    given_way, eur = shortage(always(3.0), gate, fleet={"flexible": flexible})
    expected = np.where(np.arange(N) == 7, 12.0, 0.0)
    room = 2 * ROOM_SHARE * 16.0
    assert list(given_way) == ["cars.night_energy_kwh"]
    assert given_way["cars.night_energy_kwh"] == pytest.approx(expected, abs=room)
    assert eur == pytest.approx(2.0 * expected / 0.8, abs=4 * room)


def test_a_need_and_a_delay_that_fit_let_nothing_give_way() -> None:
    assert shortage(always(2.0), 3)[0] == {}  # 4 hours of 16 kWh for 60
    needs = {"energy_on_arrival_kwh": 20.0, "energy_at_departure_kwh": 50.0}
    assert shortage(always(0.0, 1.6), 2, **needs)[0] == {}  # 48 each, as much as 6 hours make
    given_way = shortage(always(0.0, 1.65), 2, **needs)[0]["cars.night_energy_kwh"]
    assert given_way.sum() == pytest.approx(2 * 1.5, abs=2 * ROOM_SHARE * 16.0)


def test_a_car_that_never_comes_lacks_all_it_needs() -> None:
    """Nor can charging that is frozen before the gate make up for it: the car was not there."""
    given_way, _ = shortage(always(6.0), 5)
    assert given_way["cars.night_energy_kwh"].sum() == pytest.approx(60.0, abs=2 * ROOM_SHARE * 16.0)


def test_the_schedule_that_is_left_charges_all_the_time_that_remains() -> None:
    cleared = program()
    made = IntradayProgram(cleared, COUPLING, 1.0, Relief(), 0.0)
    qp = made.program(program(always(3.0)), 3, np.zeros(cleared.size))[0]
    assert same_matrices(cleared, replace(qp, q=cleared.q))
    schedule = solve_program(qp, CHEAP_LATE, 1.0)[1]
    assert schedule["cars.night_charge_kw"][5:8] == pytest.approx([20.0] * 3, abs=1e-2)


def before(day: CommunityDay) -> np.ndarray:
    return day.agent.x[day.agent.qp.boundary[COUPLING, "p_mw"]]


def test_a_day_takes_the_errors_as_they_come_up() -> None:
    """Charged from 2 on day-ahead. At gate 3 the car has not come, at gate 4 it is known to be there from 4 on."""
    cleared = program(energy_at_departure_kwh=40.0)
    agent = QPAgent(cleared)
    agent.x = np.zeros(cleared.size)
    charge = next(block for block in cleared.variables if block.name == "cars.night_charge_kw")
    agent.x[charge.entries][2:6] = [20.0, 20.0, 20.0, 15.0]
    day = CommunityDay(agent, lambda revise, *, stays: program(stays), COUPLING, 1.0, Relief(), 0.0)
    drawn = [
        1e3 * (before(day) + day.open(gate, gate, lambda name, values: values, stays))
        for gate, stays in ((2, None), (3, always(1.4, known=False)), (4, always(1.9, 1.2)))
    ]
    assert drawn[0] == pytest.approx([0, 0, 20, 20, 20, 15, 0, 0, 0, 0, 0, 0], abs=SOLVER)
    assert drawn[1] == pytest.approx([0, 0, 0, 20, 20, 15, 0, 0, 0, 0, 0, 0], abs=SOLVER)
    assert drawn[2] == pytest.approx([0, 0, 0, 0, 20, 15, 0, 0, 0, 0, 0, 0], abs=SOLVER)
    assert day.given_way["cars.night_energy_kwh"][7] == pytest.approx(72.0 - 64.0, abs=2 * ROOM_SHARE * 16.0)


# ---- a case


def test_a_case_asks_for_agent_fleet_and_class() -> None:
    case, asked = load_case("ieee33-10ec"), []
    assert case.private.stay_names(case.communities["ec07-village"]) == ("ec07-village/cars/cars",)
    case.community_program("ec07-village", stays=lambda *stay: asked.append(stay) or AS_FORECAST)
    assert asked and {name for name, _, _ in asked} == {"ec07-village/cars/cars"}


def test_drawn_errors_fit_in(gates: tuple[int, ...] = (0, 18, 20, 24)) -> None:
    """At gate 0 nothing is known; in the end the actual arrival is what bounds the power."""
    case, name = load_case("ieee33-10ec"), "ec07-village/cars/cars"
    entry = EvErrorTable(name="all", applies_to=["*"], arrival_std_hours=2.0, energy_std_share=0.3)
    errors = EvErrors([entry], 1, 0, case.horizon)
    errors.check_names([name for one in case.communities.values() for name in case.private.stay_names(one)])
    found = []
    for gate in gates:
        stays = lambda each, hour, day, gate=gate: errors.at_gate(each, hour, gate, day)  # noqa: E731
        found.append(case.community_program("ec07-village", stays=stays))
    own = case.community_program("ec07-village")
    assert (found[0].u == own.u).all() and (found[0].l == own.l).all()
    assert all(same_matrices(own, each) for each in found)
    (cars,) = (d for d in case.devices("ec07-village") if d.name == "cars")
    hour = cars.classes[0].arrival_hour
    present = np.flatnonzero(limits(found[-1], "cars.cars_charge_kw")[1])
    wanted = math.ceil(max(hour, hour + errors.actual(name, hour).shift_hours) / case.horizon.hours)
    assert present[present > 12 / case.horizon.hours][0] == wanted


@pytest.mark.parametrize(("shift", "factor", "words"), [(math.nan, 1, "shift_hours is nan"), (0, -1, "energy_factor")])
def test_impossible_errors_are_refused(shift: float, factor: float, words: str) -> None:
    with pytest.raises(InputError, match=words):
        program(always(shift, factor))
