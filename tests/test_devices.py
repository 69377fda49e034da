"""Every device against a model written another way, its flexibility by delivering it, and its refusals."""

from __future__ import annotations

import math

import cvxpy as cp
import numpy as np
import pytest

from subproblems.calls import drift_of_state
from subproblems.devices import HeatPump
from tests.device_reference import (
    Part,
    Prices,
    Store,
    breaks_when_called,
    columns,
    compiled,
    horizon,
    prices,
    solve_parts,
    solve_program,
    store_part,
)
from tests.tolerances import EXACT, SOLVER

OVERSHOOT = 1.05
POWER_KW = 1e-3


def agree(qp, parts, asked, hours) -> dict[str, np.ndarray]:
    """Both models have the same optimum; the product's schedule comes back."""
    found, schedule = solve_program(qp, asked, hours)
    assert found == pytest.approx(solve_parts(parts, asked, hours), rel=SOLVER, abs=SOLVER)
    return schedule


def battery_store(n: int, hours: float) -> Store:
    """capacity 40 kWh, 20 kW in, 25 kW out, efficiencies 0.9 and 0.8, 1 %/h lost, 10 to 90 %, from and to 40 %."""
    lower = np.full(n, 4.0)
    lower[-1] = 16.0
    return Store(
        16.0, 0.99**hours, np.zeros(n), lower, np.full(n, 36.0), np.full(n, hours * 0.9), 20.0, hours / 0.8, 25.0
    )


BATTERY = {
    "kind": "battery",
    "name": "bat",
    "capacity_kwh": 40,
    "charge_kw": 20,
    "discharge_kw": 25,
    "charge_efficiency": 0.9,
    "discharge_efficiency": 0.8,
    "self_discharge_per_h": 0.01,
    "initial_share": 0.4,
    "max_share": 0.9,
    "wear_cost_eur_per_kwh": 0.004,
    "wear_rise_eur_per_kwh": 0.003,
}


@pytest.mark.parametrize(("step", "product"), [(60, 1), (60, 2), (15, 1), (15, 4)])
def test_battery_reaches_the_optimum_of_a_model_with_explicit_recourse(step, product):
    n, hours, asked = 12, step / 60, prices(12, seed=step + product)
    qp = compiled([BATTERY], horizon(n, step), flexibility_duration_minutes=product * step)
    part = store_part(battery_store(n, hours), hours, n, product=product, wear=(0.004, 0.003))
    agree(qp, [part], asked, hours)


def test_battery_in_two_periods_by_hand():
    """Buy at 10, sell at 100 EUR/MWh: charge 8 kW in the first hour, 8 x 0.9 x 0.9 kW come back in the second."""
    device = BATTERY | {"capacity_kwh": 100, "charge_kw": 8, "discharge_efficiency": 0.9, "self_discharge_per_h": 0}
    device |= {"wear_cost_eur_per_kwh": 0.0, "wear_rise_eur_per_kwh": 0.0, "flexible": False}
    asked = Prices(np.array([10.0, 100.0]), np.zeros(2), np.zeros(2))
    cost, schedule = solve_program(compiled([device], horizon(2)), asked, 1.0)
    assert schedule["connection.p_mw"] == pytest.approx([0.008, -0.00648], abs=SOLVER)
    assert cost == pytest.approx(0.08 - 0.648, abs=SOLVER)


@pytest.mark.parametrize("product", [1, 3])
@pytest.mark.parametrize("direction", ["up", "down"])
def test_battery_delivers_what_is_awarded_and_not_much_more(product, direction):
    n = 12
    asked = prices(n, seed=5, up=150.0, down=150.0)
    qp = compiled([BATTERY], horizon(n), flexibility_duration_minutes=60 * product)
    _, found = solve_program(qp, asked, 1.0)
    schedule = {"fill": found["bat.charge_kw"], "drain": found["bat.discharge_kw"]}
    schedule |= {"up": found["bat.up_kw"], "down": found["bat.down_kw"]}
    check_delivery(battery_store(n, 1.0), schedule, direction, product)


def check_delivery(store, schedule, direction, product):
    assert schedule[direction].max() > POWER_KW, "nothing was awarded, so nothing is tested"
    for start in range(store.size):
        for called in range(1, product + 1):
            assert breaks_when_called(store, schedule, direction, start, called, 1.0) == []
    starts = range(store.size)
    assert any(breaks_when_called(store, schedule, direction, start, product, OVERSHOOT) for start in starts)


def ev_class(**changes) -> dict:
    data = {"name": "home", "vehicles": 4, "capacity_kwh": 40, "charger_kw": 10, "discharge_kw": 8, "arrival_hour": 18}
    data |= {"departure_hour": 30, "energy_on_arrival_kwh": 12, "energy_at_departure_kwh": 36, "min_energy_kwh": 6}
    return data | {"charge_efficiency": 0.9, "discharge_efficiency": 0.85} | changes


def ev_store(n, hours, initial, end, vehicles=4, discharge_kw=8.0) -> Store:
    lower = np.full(n, 6.0 * vehicles)
    lower[-1] = end * vehicles
    drain = hours / 0.85 if discharge_kw else 0.0
    upper, fill = np.full(n, 40.0 * vehicles), np.full(n, hours * 0.9)
    return Store(
        initial * vehicles, 1.0, np.zeros(n), lower, upper, fill, 10.0 * vehicles, drain, discharge_kw * vehicles
    )


@pytest.mark.parametrize("product", [1, 2])
def test_ev_fleet_over_a_day_is_one_store_a_stay(product):
    """Home from 18 to 6: half of a stay is over at midnight, so 24 kWh at both cuts. Work from 8.2 to 16.9: 9 to 16."""
    work = ev_class(name="work", vehicles=3, discharge_kw=0, arrival_hour=8.2, departure_hour=16.9)
    device = {"kind": "ev_fleet", "name": "cars", "classes": [ev_class(), work]}
    qp = compiled([device], horizon(24), flexibility_duration_minutes=60 * product)
    spans = [(0, ev_store(6, 1.0, 24, 36)), (18, ev_store(6, 1.0, 12, 24)), (9, ev_store(7, 1.0, 12, 36, 3, 0.0))]
    parts = [store_part(store, 1.0, 24, first, product=product, wear=(0.005, 0.002)) for first, store in spans]
    schedule = agree(qp, parts, prices(24, seed=3), 1.0)
    absent = np.r_[6:18]
    assert np.abs(schedule["cars.home_charge_kw"][absent]).max() < POWER_KW


@pytest.mark.parametrize("direction", ["up", "down"])
def test_ev_fleet_delivers_what_is_awarded_and_not_much_more(direction):
    device = {
        "kind": "ev_fleet",
        "name": "cars",
        "classes": [ev_class(arrival_hour=0, departure_hour=4, repeat_daily=False)],
    }
    device["classes"][0]["energy_at_departure_kwh"] = 30
    _, found = solve_program(compiled([device], horizon(16, 15)), prices(16, seed=7, up=80, down=80), 0.25)
    schedule = {"fill": found["cars.home_charge_kw"], "drain": found["cars.home_discharge_kw"]}
    schedule |= {"up": found["cars.home_up_kw"], "down": found["cars.home_down_kw"]}
    check_delivery(ev_store(16, 0.25, 12, 30), schedule, direction, 1)


THERMOSTAT = {
    "kind": "thermostatic_load",
    "name": "house",
    "resistance_k_per_kw": 0.8,
    "capacitance_kwh_per_k": 12,
    "outdoor_temperature_degc": "out",
    "gains_kw": "gains",
    "cop_heating": 2.5,
    "max_heating_kw": 14,
    "min_temperature_degc": 20,
    "max_temperature_degc": 23,
    "set_point_degc": 21.5,
    "initial_temperature_degc": 21,
    "end_tolerance_k": 0.5,
    "discomfort_cost_eur_per_k2h": 0.1,
}


def house_store(n, hours, outside, gains, cooling_kw) -> Store:
    a = math.exp(-hours / (0.8 * 12))
    lower, upper = np.full(n, 20.0), np.full(n, 23.0)
    lower[-1], upper[-1] = 20.5, 21.5
    drift = (1 - a) * (outside + 0.8 * gains)
    drain = (1 - a) * 0.8 * 4.0 if cooling_kw else 0.0
    return Store(21.0, a, drift, lower, upper, np.full(n, (1 - a) * 0.8 * 2.5), 14.0, drain, cooling_kw, drain_sign=1)


@pytest.mark.parametrize(("step", "product", "cooling_kw"), [(60, 1, 0.0), (60, 2, 6.0), (15, 2, 6.0)])
def test_thermostatic_load_reaches_the_optimum_of_another_model(step, product, cooling_kw):
    n, hours = 12, step / 60
    outside, gains = 8 + (22 if cooling_kw else 6) * np.sin(np.arange(n) / 4) ** 2, np.linspace(0, 3, n)
    device = THERMOSTAT | {"max_cooling_kw": cooling_kw, "cop_cooling": 4}
    series = columns(n, out=outside, gains=gains)
    qp = compiled([device], horizon(n, step), series, flexibility_duration_minutes=product * step)
    store = house_store(n, hours, outside, gains, cooling_kw)
    part = store_part(store, hours, n, product=product)
    part.cost = part.cost + 0.1 * hours * cp.sum_squares(part.state - 21.5)
    agree(qp, [part], prices(n, seed=step), hours)


def test_one_step_of_the_building_is_the_solution_of_its_differential_equation():
    """10 kW of heat at 0 degC outside for an hour, integrated in 1e5 Euler steps."""
    device = THERMOSTAT | {"end_tolerance_k": 5, "min_temperature_degc": 5, "max_heating_kw": 4, "flexible": False}
    device |= {"discomfort_cost_eur_per_k2h": 1e3, "set_point_degc": 23}
    series = columns(1, out=np.zeros(1), gains=np.zeros(1))
    _, schedule = solve_program(compiled([device], horizon(1), series), prices(1), 1.0)
    temperature, steps = 21.0, 100_000
    for _ in range(steps):
        temperature += (10.0 - temperature / 0.8) / 12 / steps
    assert schedule["house.temperature_degc"][0] == pytest.approx(temperature, abs=1e-4)


HEAT_PUMP = {
    "kind": "heat_pump",
    "name": "hp",
    "max_kw": 10,
    "heat_demand_kw": "heat",
    "outdoor_temperature_degc": "out",
}
HEAT_PUMP |= {"cop_at_7c": 3.2, "cop_slope_per_k": 0.1, "tank_kwh": 30, "tank_loss_per_h": 0.02}


def tank_store(n, hours, outside, heat) -> Store:
    cop = np.minimum(np.maximum(3.2 + 0.1 * (outside - 7), 1.5), 6.0)
    lower = np.zeros(n)
    lower[-1] = 15.0
    return Store(15.0, 0.98**hours, -hours * heat, lower, np.full(n, 30.0), hours * cop, 10.0)


@pytest.mark.parametrize(("step", "product"), [(60, 1), (15, 3)])
def test_heat_pump_reaches_the_optimum_of_another_model_and_delivers(step, product):
    n, hours = 12, step / 60
    outside, heat = np.linspace(-15, 12, n), np.linspace(12, 20, n)
    series = columns(n, out=outside, heat=heat)
    qp = compiled([HEAT_PUMP], horizon(n, step), series, flexibility_duration_minutes=product * step)
    store = tank_store(n, hours, outside, heat)
    found = agree(qp, [store_part(store, hours, n, product=product)], prices(n, seed=2), hours)
    schedule = {
        "fill": found["hp.power_kw"],
        "drain": np.zeros(n),
        "up": found["hp.up_kw"],
        "down": found["hp.down_kw"],
    }
    for direction in ("up", "down"):
        check_delivery(store, schedule, direction, product)


def test_cop_is_clipped_at_both_ends():
    cop = HeatPump(**HEAT_PUMP).cop(np.array([-40.0, 7.0, 17.0, 60.0]))
    assert cop == pytest.approx([1.5, 3.2, 4.2, 6.0], abs=EXACT)


def test_heat_pump_without_a_tank_follows_the_demand():
    device = HEAT_PUMP | {"tank_kwh": 0}
    series = columns(4, out=np.full(4, 7.0), heat=np.array([3.2, 6.4, 16.0, 0.0]))
    _, schedule = solve_program(compiled([device], horizon(4), series), prices(4), 1.0)
    assert schedule["hp.power_kw"] == pytest.approx([1, 2, 5, 0], abs=POWER_KW)
    assert schedule["connection.flex_up_mw"] == pytest.approx(0, abs=SOLVER)


def test_shiftable_load_serves_each_window_in_its_cheapest_periods():
    """Windows 2-6 (9 kWh at 4 kW) and 22-26 (8 kWh at 2 kW, half of it before midnight), by hand."""
    windows = [{"start_hour": 2, "end_hour": 6, "energy_kwh": 9, "max_kw": 4}]
    windows += [{"start_hour": 22, "end_hour": 26, "energy_kwh": 8, "max_kw": 2}]
    device = {"kind": "shiftable_load", "name": "wash", "windows": windows, "flexible": False}
    energy = np.full(24, 50.0)
    energy[2:6] = [30, 10, 40, 20]
    _, schedule = solve_program(compiled([device], horizon(24)), Prices(energy, np.zeros(24), np.zeros(24)), 1.0)
    expected = np.zeros(24)
    expected[2:6] = [1, 4, 0, 4]
    expected[[0, 1, 22, 23]] = 2
    assert schedule["wash.power_kw"] == pytest.approx(expected, abs=POWER_KW)


@pytest.mark.parametrize("product", [1, 2])
def test_shiftable_load_reaches_the_optimum_of_another_model_and_delivers(product):
    windows = [{"start_hour": 0, "end_hour": 3, "energy_kwh": 7, "max_kw": 5}]
    device = {"kind": "shiftable_load", "name": "wash", "windows": windows}
    qp = compiled([device], horizon(12, 15), flexibility_duration_minutes=15 * product)
    lower = np.zeros(12)
    lower[-1] = 7.0
    store = Store(0.0, 1.0, np.zeros(12), lower, np.full(12, 7.0), np.full(12, 0.25), 5.0)
    asked = prices(12, seed=4, up=80, down=80)
    found = agree(qp, [store_part(store, 0.25, 12, product=product)], asked, 0.25)
    schedule = {"fill": found["wash.power_kw"], "drain": np.zeros(12)}
    schedule |= {"up": found["wash.up_kw"], "down": found["wash.down_kw"]}
    for direction in ("up", "down"):
        check_delivery(store, schedule, direction, product)


def test_pv_is_curtailed_where_it_pays_and_keeps_its_least_share():
    """Prices +50, -30, -5 EUR/MWh, curtailment 10 EUR/MWh, 30 % must run: curtailed in the second period only."""
    device = {"kind": "pv", "name": "roof", "installed_kw": 10, "available_pu": "pv", "min_share": 0.3}
    device |= {"curtailment_cost_eur_per_kwh": 0.01}
    asked = Prices(np.array([50.0, -30.0, -5.0]), np.zeros(3), np.zeros(3))
    qp = compiled([device], horizon(3), columns(3, pv=np.array([0.5, 0.8, 1.0])))
    cost, schedule = solve_program(qp, asked, 1.0)
    assert schedule["roof.production_kw"] == pytest.approx([5.0, 2.4, 10.0], abs=POWER_KW)
    assert cost == pytest.approx(-0.25 + 0.03 * 2.4 + 0.005 * 10 + 0.01 * 5.6, abs=SOLVER)


def test_pv_offers_what_is_curtailed_and_what_can_be():
    device = {"kind": "pv", "name": "roof", "installed_kw": 10, "available_pu": 0.8, "min_share": 0.25}
    asked = Prices(np.array([50.0, -30.0]), np.full(2, 5.0), np.full(2, 5.0))
    _, schedule = solve_program(compiled([device], horizon(2)), asked, 1.0)
    assert schedule["connection.flex_up_mw"] == pytest.approx([0, 0.006], abs=SOLVER)
    assert schedule["connection.flex_down_mw"] == pytest.approx([0.006, 0], abs=SOLVER)


def test_load_is_its_column_times_its_factor():
    device = {"kind": "load", "name": "homes", "power_kw": "homes", "scale_factor": 1.5}
    _, schedule = solve_program(
        compiled([device], horizon(2), columns(2, homes=np.array([10.0, 20.0]))), prices(2), 1.0
    )
    assert schedule["connection.p_mw"] == pytest.approx([0.015, 0.03], abs=SOLVER)


@pytest.mark.parametrize("kind", ["battery", "ev_fleet", "thermostatic_load", "heat_pump", "pv"])
def test_an_inflexible_device_offers_nothing(kind):
    data = {"battery": BATTERY, "thermostatic_load": THERMOSTAT, "heat_pump": HEAT_PUMP}
    data["ev_fleet"] = {"kind": "ev_fleet", "name": "cars", "classes": [ev_class()]}
    data["pv"] = {"kind": "pv", "name": "roof", "installed_kw": 10, "available_pu": 0.8}
    series = columns(6, out=np.full(6, 10.0), gains=np.zeros(6), heat=np.full(6, 5.0))
    qp = compiled([data[kind] | {"flexible": False}], horizon(6), series)
    _, schedule = solve_program(qp, prices(6), 1.0)
    assert schedule["connection.flex_up_mw"] == pytest.approx(0, abs=SOLVER)
    assert schedule["connection.flex_down_mw"] == pytest.approx(0, abs=SOLVER)


def test_a_call_moves_the_state_by_a_fading_sum():
    keep, effect = np.array([1.0, 0.5, 0.0, 0.8]), np.array([2.0, 3.0, 4.0, 5.0])
    assert drift_of_state(keep, effect, 0) == pytest.approx(effect, abs=EXACT)
    assert drift_of_state(keep, effect, 1) == pytest.approx([4.0, 4.0, 8.2], abs=EXACT)
    assert drift_of_state(keep, effect, 2) == pytest.approx([4.0, 8.2], abs=EXACT)


def test_reference_part_is_not_blind():
    """The reference model itself must notice a changed parameter, or the comparisons above prove nothing."""
    asked, store = prices(12, seed=61), battery_store(12, 1.0)
    one = solve_parts([store_part(store, 1.0, 12)], asked, 1.0)
    other = solve_parts([store_part(store, 1.0, 12, product=3)], asked, 1.0)
    assert isinstance(store_part(store, 1.0, 12), Part)
    assert other - one > 1e3 * SOLVER
