"""Devices that nobody coordinates: what they draw is worked out by hand, and no price changes it."""

from __future__ import annotations

import numpy as np
import pytest

from admm import InputError
from subproblems.builder import Builder
from subproblems.devices import EvFleet, ShiftableLoad
from tests.device_reference import columns, compiled, horizon, prices, solve_program
from tests.tolerances import EXACT

SOLVED_KW = 1e-4
"""Powers of a solved program, of some 10 kW."""

CARS = {
    "name": "night", "vehicles": 2, "capacity_kwh": 50.0, "charger_kw": 10.0, "charge_efficiency": 0.8,
    "arrival_hour": 18.0, "departure_hour": 31.0, "energy_on_arrival_kwh": 10.0, "energy_at_departure_kwh": 30.0,
}  # fmt: skip


def fleet(**changes) -> dict:
    return {"kind": "ev_fleet", "name": "cars", "charging": "on_arrival", "classes": [CARS | changes]}


def laundry(**changes) -> dict:
    window = {"start_hour": 20.0, "end_hour": 28.0, "energy_kwh": 50.0, "max_kw": 20.0} | changes
    return {"kind": "shiftable_load", "name": "laundry", "shifting": "at_once", "windows": [window]}


def at(periods: int, **power_kw: float) -> np.ndarray:
    """Powers by period, such as p18=20.0; 0 in all others."""
    found = np.zeros(periods)
    for period, power in power_kw.items():
        found[int(period[1:])] = power
    return found


def solved(device: dict, periods: int, hour: int = 0, step: int = 60, **profiles) -> dict[str, np.ndarray]:
    """Its schedule where flexibility is paid well and energy is cheapest when it does not draw."""
    over = horizon(periods, step, hour)
    qp = compiled([device], over, columns(periods, **profiles))
    return solve_program(qp, prices(periods, seed=4, up=300.0, down=300.0), over.hours)[1]


def check_nothing_offered(schedule: dict[str, np.ndarray]) -> None:
    for direction in ("up", "down"):
        assert 1e3 * schedule[f"connection.flex_{direction}_mw"] == pytest.approx(0.0, abs=SOLVED_KW)
    assert not any(name.endswith((".up_kw", ".down_kw")) for name in schedule)


def test_cars_charge_at_full_power_from_their_arrival() -> None:
    """16 kWh an hour for two cars that need 40 kWh: 20 kW twice, then 8 kWh / 0.8. The night before is charged."""
    schedule = solved(fleet(discharge_kw=10.0), 30)
    wanted = at(30, p18=20.0, p19=20.0, p20=10.0)
    assert schedule["cars.night_charge_kw"] == pytest.approx(wanted, abs=SOLVED_KW)
    assert 1e3 * schedule["connection.p_mw"] == pytest.approx(wanted, abs=SOLVED_KW)
    energy = np.r_[np.full(7, 60.0), np.zeros(11), 36.0, 52.0, np.full(10, 60.0)]
    assert schedule["cars.night_energy_kwh"] == pytest.approx(energy, abs=SOLVED_KW)
    assert "cars.night_discharge_kw" not in schedule
    check_nothing_offered(schedule)


def test_cars_of_a_stay_that_the_start_cuts_have_charged_since_their_arrival() -> None:
    """One hour before the start: 36 of 60 kWh are there."""
    schedule = solved(fleet(), 5, hour=19)
    assert schedule["cars.night_charge_kw"] == pytest.approx([20.0, 10.0, 0.0, 0.0, 0.0], abs=SOLVED_KW)
    schedule = solved(fleet(), 8, hour=19, step=15)
    assert schedule["cars.night_charge_kw"] == pytest.approx([20.0] * 6 + [0.0] * 2, abs=SOLVED_KW)


def test_cars_that_arrive_with_enough_do_not_charge() -> None:
    schedule = solved(fleet(energy_on_arrival_kwh=40.0), 30)
    assert schedule["cars.night_charge_kw"] == pytest.approx(np.zeros(30), abs=SOLVED_KW)
    assert schedule["cars.night_energy_kwh"][20] == pytest.approx(80.0, abs=SOLVED_KW)


def test_a_shiftable_load_runs_from_its_window_on() -> None:
    schedule = solved(laundry(), 30)
    wanted = at(30, p20=20.0, p21=20.0, p22=10.0)
    assert schedule["laundry.power_kw"] == pytest.approx(wanted, abs=SOLVED_KW)
    check_nothing_offered(schedule)
    assert solved(laundry(), 4, hour=21)["laundry.power_kw"] == pytest.approx([20.0, 10.0, 0, 0], abs=SOLVED_KW)


@pytest.mark.parametrize(
    ("device", "state", "kilowatts"),
    [
        (EvFleet(**fleet(charger_kw=2.0, charge_efficiency=1.0)), "cars.night_energy_kwh", 4.0),
        (ShiftableLoad(**laundry(max_kw=7.0)), "laundry.served_kwh", 7.0),
    ],
)
def test_slow_ones_go_on_after_midnight_from_what_is_carried_over(device, state: str, kilowatts: float) -> None:
    """40 kWh at 4 kW take from 18 to 4 o'clock; 50 kWh at 7 kW from 20 to 3 o'clock and 1 kWh."""

    def power_kw(initial_states: dict[str, float]) -> np.ndarray:
        builder = Builder("day", initial_states)
        port = device.add(builder, horizon(24), columns(24))
        qp = builder.build()
        block = port.flows["electricity"].terms[0][0]
        bounds = next(rows for rows in qp.rows if "power limits" in rows.name)
        assert (qp.l[bounds.entries] == qp.u[bounds.entries]).all() and block.length == 24
        assert port.flows["electricity"].least_kw == pytest.approx(qp.u[bounds.entries], abs=EXACT)
        return qp.u[bounds.entries]

    every_day = power_kw({})
    need_kwh = 40.0 if kilowatts == 4.0 else 50.0
    assert every_day.sum() == pytest.approx(need_kwh, abs=EXACT)
    before_midnight = every_day[12:].sum()
    began_kwh = 20.0 if kilowatts == 4.0 else 0.0
    assert power_kw({state: began_kwh + before_midnight}) == pytest.approx(every_day, abs=EXACT)
    short = power_kw({state: began_kwh + before_midnight - 5.0})
    assert short[:12].sum() == pytest.approx(every_day[:12].sum() + 5.0, abs=EXACT)
    assert short[:12].max() == kilowatts


def test_a_building_with_a_band_of_one_point_holds_its_set_point() -> None:
    """In steady state R (cop heating + gains) = T - T_out, whatever the heat capacity."""
    outside, gains = np.array([-4.0, 0.0, 9.0, 30.0]), np.array([0.0, 10.0, 5.0, 5.0])
    band = dict.fromkeys(
        ("min_temperature_degc", "max_temperature_degc", "set_point_degc", "initial_temperature_degc"), 21.0
    )
    house = {
        "kind": "thermostatic_load", "name": "house", "resistance_k_per_kw": 0.5, "capacitance_kwh_per_k": 30.0,
        "outdoor_temperature_degc": "outside", "gains_kw": "gains", "max_heating_kw": 30.0, "max_cooling_kw": 20.0,
        "flexible": False, **band,
    }  # fmt: skip
    schedule = solved(house, 4, outside=outside, gains=gains)
    heating = np.array([25 / 0.5, 21 / 0.5 - 10, 12 / 0.5 - 5, 0.0]) / 3
    assert schedule["house.heating_kw"] == pytest.approx(heating, abs=SOLVED_KW)
    assert schedule["house.cooling_kw"] == pytest.approx([0, 0, 0, (9 / 0.5 + 5) / 3], abs=SOLVED_KW)
    check_nothing_offered(schedule)


@pytest.mark.parametrize(("device", "key"), [(fleet(), "charging"), (laundry(), "shifting")])
def test_another_word_is_refused(device: dict, key: str) -> None:
    with pytest.raises(InputError, match=f"{key}.* is 'whenever', expected 'controlled' or '.*'"):
        compiled([device | {key: "whenever"}], horizon(24))
