"""Devices of gas and heat, and hubs of them: against a model written another way, by hand, and by delivering."""

from __future__ import annotations

import cvxpy as cp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from admm import AnswerStatus, Coupling, Quantity, Question, Settings, solve
from admm.couplings import Layout
from subproblems import Builder, QPAgent
from subproblems.community import compile_community
from subproblems.devices import CHP, below_minimum_load
from subproblems.hub import Hub
from tests.device_reference import COUPLING, QUANTITIES, Prices, Store, columns, compiled, horizon, prices, store_part
from tests.independent_hub import GAS_COUPLING, HubModel, compiled_hub, solve_hub
from tests.tolerances import EXACT, OF_TURNOVER, SOLVER

POWER_KW = 1e-3
OVERSHOOT = 1.05
GAS_EUR_PER_MWH = 40.0

CHP_DATA = {"kind": "chp", "name": "chp", "rated_kw": 100, "electric_efficiency": 0.35, "thermal_efficiency": 0.5}
BOILER = {"kind": "gas_boiler", "name": "boiler", "max_heat_kw": 300, "efficiency": 0.9}
PUMP = {"kind": "hub_heat_pump", "name": "hp", "max_kw": 40, "outdoor_temperature_degc": "out"}
PUMP |= {"cop_at_7c": 3.2, "cop_slope_per_k": 0.1}
TANK = {"kind": "heat_storage", "name": "tank", "capacity_kwh": 300, "charge_kw": 90, "discharge_kw": 110}
TANK |= {"loss_per_h": 0.02, "initial_share": 0.4}
HEAT = {"kind": "load", "name": "warmth", "carrier": "heat", "power_kw": "heat", "scale_factor": 150}
DUAL = {"kind": "dual_fuel_load", "name": "dual", "demand_kw": "cooking", "gas_share": 0.6, "gas_kwh_per_kwh": 1.7}
ELECTROLYSER = {"kind": "electrolyser", "name": "ely", "max_kw": 30, "efficiency": 0.6, "hydrogen_demand_kw": 9}
ELECTROLYSER |= {"tank_kwh": 60}
DUMP = {"kind": "heat_dump", "name": "dump", "max_heat_kw": 60}


def profiles(n: int) -> dict[str, np.ndarray]:
    t = np.arange(n)
    return {"out": 3 + 6 * np.sin(t / 3), "heat": 0.6 + 0.3 * np.cos(t / 2), "cooking": 20 + 10 * np.sin(t)}


def cop(outdoor: np.ndarray) -> np.ndarray:
    return np.minimum(np.maximum(3.2 + 0.1 * (outdoor - 7), 1.5), 6.0)


def reference(n: int, hours: float, product: int, *, gas_limit_kw=1e5, ramp_kw_per_h=None, run_cost=0.01) -> HubModel:
    """CHP, boiler, heat pump, tank and heat load with the data above."""
    series, model = profiles(n), HubModel(n, hours, product, gas_limit_kw)
    model.chp(100.0, 0.35, 0.5, run_cost, ramp_kw_per_h)
    model.boiler(300.0, 0.9)
    model.heat_pump(40.0, cop(series["out"]))
    model.store(300, 90, 110, 0.02, 120, 120)
    model.load("heat", 150 * series["heat"])
    return model


@pytest.mark.parametrize(
    ("step", "product", "ramp_kw_per_h", "gas_limit_kw"),
    [(60, 1, None, 2000.0), (60, 2, 60.0, 240.0), (15, 3, 60.0, 2000.0)],
)
def test_heat_side_reaches_the_optimum_of_a_model_with_explicit_responses(step, product, ramp_kw_per_h, gas_limit_kw):
    n, hours, asked = 6, step / 60, prices(6, seed=step + product, up=60, down=60)
    chp = CHP_DATA | {"run_cost_eur_per_kwh": 0.01, "ramp_kw_per_h": ramp_kw_per_h}
    series, options = columns(n, **profiles(n)), {"gas_connection_kw": gas_limit_kw}
    qp = compiled_hub([chp, BOILER, PUMP, TANK, HEAT], n, series, step=step, product=product, **options)
    found, schedule = solve_hub(qp, asked, GAS_EUR_PER_MWH, hours)
    model = reference(n, hours, product, gas_limit_kw=gas_limit_kw, ramp_kw_per_h=ramp_kw_per_h)
    assert found == pytest.approx(model.optimum(asked, GAS_EUR_PER_MWH), rel=SOLVER, abs=SOLVER)
    assert schedule["connection.flex_up_mw"].max() > 1e-3 * POWER_KW, "nothing on offer, so nothing is tested"


def test_a_whole_hub_reaches_the_optimum_of_another_model():
    """All carriers and all kinds at once, with tasks of gas and of heat and a price of emissions."""
    n, hours, product, asked = 8, 1.0, 1, prices(8, seed=4, up=40, down=40)
    series = profiles(n) | {"homes": 30 + 5 * np.cos(np.arange(n)), "pollution": np.linspace(0.2, 0.6, n)}
    kiln = {"kind": "shiftable_load", "name": "kiln", "carrier": "gas", "repeat_daily": False}
    kiln["windows"] = [{"start_hour": 2, "end_hour": 7, "energy_kwh": 120, "max_kw": 50}]
    pool = kiln | {"name": "pool", "carrier": "heat"}
    battery = {"kind": "battery", "name": "bat", "capacity_kwh": 40, "charge_kw": 20, "discharge_kw": 20}
    homes = {"kind": "load", "name": "homes", "power_kw": "homes"}
    stove = {"kind": "load", "name": "stove", "carrier": "gas", "power_kw": 12}
    devices = [CHP_DATA | {"run_cost_eur_per_kwh": 0.01, "ramp_kw_per_h": 50}, BOILER, PUMP, TANK, HEAT, kiln, pool]
    devices += [DUAL, ELECTROLYSER, DUMP, battery | {"min_share": 0}, homes, stove]
    green = {"electricity_emission_kg_per_kwh": "pollution", "emission_price_eur_per_t": 90.0}
    qp = compiled_hub(devices, n, columns(n, **series), gas_connection_kw=400, **green)
    found, schedule = solve_hub(qp, asked, GAS_EUR_PER_MWH, hours)

    model = reference(n, hours, product, gas_limit_kw=400.0, ramp_kw_per_h=50.0)
    model.task("gas", 2, 7, 120.0, 50.0)
    model.task("heat", 2, 7, 120.0, 50.0)
    model.dual_fuel(series["cooking"], 0.6, 1.7)
    model.dump(60.0)
    lower = np.zeros(n)
    lower[-1] = 20.0
    full = np.full(n, 40.0)
    store = Store(20.0, 1.0, np.zeros(n), lower, full, np.full(n, 0.95), 20.0, 1 / 0.95, 20.0)
    model.add(store_part(store, hours, n, product=product, wear=(0.005, 0.002)))
    lower = np.zeros(n)
    lower[-1] = 30.0
    tank = Store(30.0, 1.0, np.full(n, -9.0), lower, np.full(n, 60.0), np.full(n, 0.6), 30.0)
    model.add(store_part(tank, hours, n, product=product))
    model.load("electricity", series["homes"])
    model.load("gas", np.full(n, 12.0))
    expected = model.optimum(asked, GAS_EUR_PER_MWH, series["pollution"], 0.182, 90.0)
    assert found == pytest.approx(expected, rel=SOLVER)
    drawn, gas = 1000 * schedule["connection.p_mw"], 1000 * schedule["connection.gas_mw"]
    emitted = series["pollution"] * drawn + 0.182 * gas
    assert schedule["connection.emissions_kg"] == pytest.approx(emitted, abs=POWER_KW)
    assert drawn.min() < 0 < drawn.max(), "both directions must occur, or the sign of emissions is not tested"


def test_the_reference_is_not_blind():
    """The reference must notice a longer call and a tighter gas connection, or the comparisons above prove nothing."""
    asked = prices(4, seed=61, up=60, down=60)
    given = ((1, 2000.0), (2, 2000.0), (1, 240.0))
    found = [
        reference(4, 1.0, product, gas_limit_kw=limit_kw).optimum(asked, GAS_EUR_PER_MWH) for product, limit_kw in given
    ]
    assert min(found[1] - found[0], found[2] - found[0]) > 1e3 * SOLVER


# ---------------------------------------------------------------- by hand


def no_flexibility(energy) -> Prices:
    energy = np.asarray(energy, dtype=float)
    return Prices(energy, 0 * energy, 0 * energy)


def test_chp_and_boiler_share_the_heat_by_hand():
    """175 kW of heat. At 20 EUR/MWh the boiler gives all: 194.4 kW of gas. At 200 the CHP runs fully: 100 kW of
    electricity, 142.9 of heat, 285.7 of gas; the boiler gives the other 32.1 of heat from 35.7 kW of gas."""
    heat = HEAT | {"power_kw": 175, "scale_factor": 1}
    qp = compiled_hub([CHP_DATA | {"flexible": False}, BOILER, heat], 2, gas_connection_kw=500)
    cost, schedule = solve_hub(qp, no_flexibility([20, 200]), GAS_EUR_PER_MWH, 1.0)
    assert schedule["connection.p_mw"] == pytest.approx([0, -0.1], abs=SOLVER)
    gas = [0.175 / 0.9, 0.1 / 0.35 + (0.175 - 0.1 * 0.5 / 0.35) / 0.9]
    assert schedule["connection.gas_mw"] == pytest.approx(gas, abs=SOLVER)
    assert cost == pytest.approx(GAS_EUR_PER_MWH * sum(gas) - 20, abs=1e-4)


def test_heat_store_waits_for_the_cheap_hour_by_hand():
    """100 kW of heat in both hours, COP 3.2 at 7 degC; 90 kW more are made in the first, 2 % of which get lost."""
    devices = [PUMP | {"outdoor_temperature_degc": 7, "max_kw": 100}, TANK | {"initial_share": 0}]
    devices.append(HEAT | {"power_kw": 100, "scale_factor": 1})
    _, schedule = solve_hub(compiled_hub(devices, 2), no_flexibility([10, 100]), 0.0, 1.0)
    assert schedule["tank.charge_kw"] == pytest.approx([90, -88.2], abs=POWER_KW)
    assert schedule["hp.power_kw"] == pytest.approx([190 / 3.2, 11.8 / 3.2], abs=POWER_KW)


def test_substitution_follows_the_prices_by_hand():
    """1.7 kWh of gas at 40 replace a kWh: worth it above 68 EUR/MWh, for 60 % of 10 kW."""
    qp = compiled_hub([DUAL | {"demand_kw": 10, "flexible": False}], 2, gas_connection_kw=50)
    _, schedule = solve_hub(qp, no_flexibility([67, 69]), GAS_EUR_PER_MWH, 1.0)
    assert schedule["connection.p_mw"] == pytest.approx([0.010, 0.004], abs=SOLVER)
    assert schedule["connection.gas_mw"] == pytest.approx([0.0, 0.0102], abs=SOLVER)


def test_electrolyser_fills_its_tank_in_the_cheap_hour_by_hand():
    """9 kW of hydrogen need 15 kW; 30 kW in the first hour store 9 kWh for the second."""
    device = ELECTROLYSER | {"initial_share": 0, "flexible": False}
    _, schedule = solve_hub(compiled_hub([device], 2), no_flexibility([10, 100]), 0.0, 1.0)
    assert schedule["ely.power_kw"] == pytest.approx([30, 0], abs=POWER_KW)
    assert schedule["ely.tank_kwh"] == pytest.approx([9, 0], abs=POWER_KW)


@pytest.mark.parametrize(("extra", "electric_kw"), [([], 70.0), ([DUMP], 100.0)])
def test_heat_is_thrown_away_only_where_a_device_does_it(extra, electric_kw):
    """100 kW of heat hold a CHP to 70 kW whatever its electricity is worth; a cooler of 60 kW lets it run fully."""
    devices = [CHP_DATA | {"flexible": False}, HEAT | {"power_kw": 100, "scale_factor": 1}, *extra]
    qp = compiled_hub(devices, 1, gas_connection_kw=500)
    _, schedule = solve_hub(qp, no_flexibility([500]), GAS_EUR_PER_MWH, 1.0)
    assert schedule["chp.power_kw"] == pytest.approx([electric_kw], abs=POWER_KW)


@pytest.mark.parametrize(("gas_kw", "expected_kw"), [(400.0, 30.0), (235.0, 10.0)])
def test_extra_gas_of_a_called_chp_fits_the_gas_connection(gas_kw, expected_kw):
    """At 60 EUR/MWh nothing is produced beside 150 kW of heat from the boiler (166.7 kW of gas). A CHP of 30 kW that
    is called gives 1.429 kW of heat per kW, so the boiler saves 1.587 kW of gas while the CHP takes 2.857 more."""
    devices = [CHP_DATA | {"rated_kw": 30}, BOILER, HEAT | {"power_kw": 150, "scale_factor": 1}]
    limit_kw = gas_kw if gas_kw == 400 else 150 / 0.9 + 10 * (1 / 0.35 - 0.5 / 0.35 / 0.9)
    qp = compiled_hub(devices, 1, gas_connection_kw=limit_kw)
    asked = Prices(np.array([30.0]), np.array([5.0]), np.zeros(1))
    _, schedule = solve_hub(qp, asked, GAS_EUR_PER_MWH, 1.0)
    assert schedule["chp.power_kw"] == pytest.approx([0], abs=POWER_KW)
    assert 1000 * schedule["connection.flex_up_mw"] == pytest.approx([expected_kw], abs=POWER_KW)


@pytest.mark.parametrize(("minutes", "expected_kw"), [(60, 40.0), (120, 20.0)])
def test_flexibility_of_a_heat_pump_is_backed_by_stored_heat(minutes, expected_kw):
    """128 kWh in the tank and nothing to make up for them: 40 kW x COP 3.2 for an hour, or 20 kW for two."""
    heat = columns(3, heat=np.array([128.0, 128.0, 0.0]))
    devices = [PUMP | {"outdoor_temperature_degc": 7, "max_kw": 40}, HEAT | {"scale_factor": 1}]
    store = {"capacity_kwh": 128, "charge_kw": 500, "discharge_kw": 500, "loss_per_h": 0, "initial_share": 1}
    devices.append(TANK | store | {"end_share": 0})
    qp = compiled_hub(devices, 3, heat, product=minutes // 60)
    asked = Prices(np.array([1.0, 1.0, 1.0]), np.array([90.0, 0.0, 0.0]), np.zeros(3))
    _, schedule = solve_hub(qp, asked, 0.0, 1.0)
    assert 1000 * schedule["connection.flex_up_mw"][0] == pytest.approx(expected_kw, abs=POWER_KW)


def test_stored_heat_that_cannot_come_back_in_time_is_not_offered():
    """128 kW of heat in every hour, 144 from the heat pump at full power, and a full tank of 128 kWh that must end at
    64. In the first, cheap hour 40 kW keep it full. Two later hours can add 16 kWh each, so a call may take all but
    32 kWh: 96 kWh or 30 kW x COP 3.2 are on offer and not 40 kW."""
    devices = [PUMP | {"outdoor_temperature_degc": 7, "max_kw": 45}, HEAT | {"power_kw": 128, "scale_factor": 1}]
    store = {"capacity_kwh": 128, "charge_kw": 500, "discharge_kw": 500, "loss_per_h": 0, "initial_share": 1}
    qp = compiled_hub([*devices, TANK | store | {"end_share": 0.5}], 3)
    asked = Prices(np.array([1.0, 9.0, 9.0]), np.array([3.0, 0.0, 0.0]), np.zeros(3))
    _, schedule = solve_hub(qp, asked, 0.0, 1.0)
    assert schedule["hp.power_kw"][0] == pytest.approx(40, abs=POWER_KW)
    assert 1000 * schedule["connection.flex_up_mw"][0] == pytest.approx(30, abs=POWER_KW)


def test_extra_gas_of_a_substitution_fits_the_gas_connection():
    """Of the 6 kW that gas could replace, a connection of 5.1 kW holds 3, as 1.7 kWh of gas replace one."""
    qp = compiled_hub([DUAL | {"demand_kw": 10}], 1, gas_connection_kw=5.1)
    _, schedule = solve_hub(qp, Prices(np.array([30.0]), np.array([5.0]), np.zeros(1)), GAS_EUR_PER_MWH, 1.0)
    assert 1000 * schedule["connection.flex_up_mw"] == pytest.approx([3], abs=POWER_KW)


def test_heat_of_a_called_chp_goes_where_it_may():
    """A CHP at rest gives 1.4286 kW of heat per kW when it is called: a cooler of 60 kW holds 42 kW of electricity."""
    qp = compiled_hub([CHP_DATA, DUMP], 1, gas_connection_kw=900)
    _, schedule = solve_hub(qp, Prices(np.array([30.0]), np.array([5.0]), np.zeros(1)), GAS_EUR_PER_MWH, 1.0)
    assert schedule["chp.power_kw"] == pytest.approx([0], abs=POWER_KW)
    assert 1000 * schedule["connection.flex_up_mw"] == pytest.approx([42], abs=POWER_KW)


def test_ramps_hold_also_where_a_call_begins_and_ends():
    """A ramp of 20 kW/h and a schedule at rest: at most 20 kW of up flexibility, in the first period too."""
    devices = [CHP_DATA | {"ramp_kw_per_h": 20}, BOILER, HEAT | {"power_kw": 150, "scale_factor": 1}]
    asked = Prices(np.full(4, 30.0), np.full(4, 5.0), np.zeros(4))
    _, schedule = solve_hub(compiled_hub(devices, 4, gas_connection_kw=900), asked, GAS_EUR_PER_MWH, 1.0)
    assert schedule["chp.power_kw"] == pytest.approx(0, abs=POWER_KW)
    assert schedule["chp.up_kw"] == pytest.approx(20, abs=POWER_KW)


# ---------------------------------------------------------------- by delivering


@pytest.mark.parametrize("product", [1, 2])
@pytest.mark.parametrize("direction", ["up", "down"])
def test_what_is_awarded_can_be_delivered_and_not_much_more(direction, product):
    """Whatever the call, the hub's physics lets it happen; 5 % more breaks them somewhere."""
    n, asked = 8, prices(8, seed=3, up=90, down=90)
    series, store = profiles(n), TANK | {"capacity_kwh": 120}
    heat = HEAT | {"scale_factor": 120}
    qp = compiled_hub([PUMP, store, heat], n, columns(n, **series), product=product)
    _, found = solve_hub(qp, asked, 0.0, 1.0)
    fixed = {"hp": found["hp.power_kw"], "tank": found["tank.charge_kw"]}
    power, award = found["hp.power_kw"], 1000 * found[f"connection.flex_{direction}_mw"]
    assert award.max() > 1.0, "nothing was awarded, so nothing is tested"

    def follows(start: int, factor: float) -> bool:
        model = HubModel(n, 1.0, product=0)
        model.heat_pump(40.0, cop(series["out"]))
        model.store(120, 90, 110, 0.02, 48, 48)
        model.load("heat", 120 * series["heat"])
        change = -factor * award[start] if direction == "up" else factor * award[start]
        return model.can_follow(power + change, fixed, start, product)

    starts = [start for start in range(n) if award[start] > 1.0]
    assert all(follows(start, 1.0) for start in starts)
    assert not all(follows(start, OVERSHOOT) for start in starts)


# ---------------------------------------------------------------- invariants


@settings(max_examples=12, deadline=None, derandomize=True)
@given(
    rated=st.floats(20, 200),
    electric=st.floats(0.2, 0.5),
    ramp=st.floats(10, 200),
    loss=st.floats(0, 0.1).map(lambda share: round(share, 6)),
    capacity=st.floats(50, 500),
    seed=st.integers(0, 999),
)
def test_balances_levels_and_ramps_hold_whatever_the_hub(rated, electric, ramp, loss, capacity, seed):
    n, series = 6, profiles(6)
    chp = CHP_DATA | {"rated_kw": rated, "electric_efficiency": electric, "thermal_efficiency": 0.9 - electric}
    tank = TANK | {"capacity_kwh": capacity, "loss_per_h": loss}
    devices = [chp | {"ramp_kw_per_h": ramp}, BOILER, PUMP, tank, HEAT]
    qp = compiled_hub(devices, n, columns(n, **series), gas_connection_kw=2000)
    _, found = solve_hub(qp, prices(n, seed=seed), GAS_EUR_PER_MWH, 1.0)
    power, boiler, pump, charge = (
        found[key] for key in ("chp.power_kw", "boiler.heat_kw", "hp.power_kw", "tank.charge_kw")
    )
    made = power * (0.9 - electric) / electric + boiler + cop(series["out"]) * pump
    near = {"abs": 1e-2}
    assert made == pytest.approx(150 * series["heat"] + charge, **near)
    assert 1000 * found["connection.gas_mw"] == pytest.approx(power / electric + boiler / 0.9, **near)
    assert 1000 * found["connection.p_mw"] == pytest.approx(pump - power, **near)
    before = np.concatenate([[0.4 * capacity], found["tank.energy_kwh"][:-1]])
    assert found["tank.energy_kwh"] == pytest.approx((1 - loss) * before + charge, **near)
    assert np.abs(np.diff(power)).max() <= ramp + 1e-2
    assert found["tank.energy_kwh"].max() <= capacity + 1e-2


# ---------------------------------------------------------------- what leaves the hub


def test_boundary_is_keyed_by_coupling_and_quantity():
    qp = compiled_hub([DUAL | {"demand_kw": 10}], 3, gas_connection_kw=50)
    electric = {(COUPLING, quantity) for quantity in QUANTITIES}
    assert set(qp.boundary) == electric | {(GAS_COUPLING, "gas_mw")}
    hub = Hub(import_limit_kw=50, export_limit_kw=50, gas_connection_kw=50, devices=[DUAL | {"demand_kw": 10}])
    one = compile_community("hub", hub, horizon(3), columns(3), COUPLING)
    assert set(one.boundary) == electric | {(COUPLING, "gas_mw")}
    units = {block.name: block.unit for block in qp.variables}
    assert units["connection.gas_mw"] == "MW" and units["connection.emissions_kg"] == "kg"


def test_a_hub_of_electricity_alone_is_a_community():
    """The same rows with the same numbers, and one more block that counts the emissions."""
    battery = {"kind": "battery", "name": "bat", "capacity_kwh": 40, "charge_kw": 20, "discharge_kw": 20}
    community, hub = compiled([battery], horizon(6)), compiled_hub([battery], 6)
    blocks = {block.name: block for block in hub.rows}
    assert set(blocks) - {block.name for block in community.rows} == {"connection: emissions"}
    rows = np.concatenate([np.arange(blocks[b.name].start, blocks[b.name].start + b.length) for b in community.rows])
    assert abs(hub.A.tocsr()[rows, : community.size] - community.A).max() == 0
    assert np.array_equal(hub.l[rows], community.l) and np.array_equal(hub.u[rows], community.u)
    assert np.array_equal(hub.q[: community.size], community.q)


@pytest.mark.parametrize("step", [15, 60])
def test_emissions_by_hand(step):
    """10 kW taken at 0.5 kg/kWh, then 20 kW fed in at the same: +5 and -10 kg an hour; a tonne costs 100 EUR."""
    hours = step / 60
    homes = {"kind": "load", "name": "homes", "power_kw": "homes"}
    roof = {"kind": "pv", "name": "roof", "installed_kw": 30, "available_pu": "pv", "min_share": 1, "flexible": False}
    series = columns(2, homes=np.array([10.0, 10.0]), pv=np.array([0.0, 1.0]))
    factors = {"electricity_emission_kg_per_kwh": 0.5, "emission_price_eur_per_t": 100.0}
    qp = compiled_hub([homes, roof], 2, series, step=step, **factors)
    cost, schedule = solve_hub(qp, no_flexibility([0.0, 0.0]), 0.0, hours)
    assert schedule["connection.emissions_kg"] == pytest.approx([5 * hours, -10 * hours], abs=POWER_KW)
    assert cost == pytest.approx(-0.5 * hours, abs=1e-4)


def test_gas_counts_by_its_higher_heating_value():
    """IPCC 2006: 56.1 kg/GJ of the lower heating value, which is 0.9029 of the higher one (14.622 kWh/kg)."""
    default = Hub.model_fields["gas_emission_kg_per_kwh"].default
    assert default == pytest.approx(56.1e-3 * 3.6 * 13.20179 / 14.62197, abs=5e-4)


def test_running_below_minimum_load_is_reported():
    devices = [CHP(**CHP_DATA, minimum_kw=50), CHP(**CHP_DATA | {"name": "fine"}, minimum_kw=50)]
    schedule = {
        "chp.power_kw": np.array([0.0, 5.0, 20.0, 45.0, 49.95, 50.0, 100.0, -0.02, 0.09]),
        "fine.power_kw": np.array([0.0, 50, 60, 99, 0, 49.99, 0.05, 0, 50]),
    }
    found = below_minimum_load(devices, schedule)
    assert set(found) == {"chp"}
    assert found["chp"] == pytest.approx([0, 45, 30, 5, 0, 0, 0, 0, 0], abs=EXACT)


def test_too_little_heat_is_named():
    devices = [BOILER | {"max_heat_kw": 100}, HEAT | {"scale_factor": 1}]
    qp = compiled_hub(devices, 3, columns(3, heat=np.array([90.0, 130.0, 90.0])), gas_connection_kw=500)
    agent = QPAgent(qp)
    couplings = [Coupling(COUPLING, "hub", "dso", [Quantity(q, 3, scale=0.05, price_scale=50.0) for q in QUANTITIES])]
    couplings.append(Coupling(GAS_COUPLING, "hub", "gas", [Quantity("gas_mw", 3, scale=0.1, price_scale=40.0)]))
    agent.prepare(Layout(couplings).boundary("hub"))
    answer = agent.answer(Question(1, np.zeros(12), np.zeros(12), np.full(12, 100.0), accuracy=1e-6))
    assert answer.status is AnswerStatus.INFEASIBLE
    assert "heat balance (period 1)" in answer.reason and "boiler: heat limits" in answer.reason


def test_everything_is_about_one_per_unit_of_its_scale():
    n = 24
    devices = [CHP_DATA, BOILER, PUMP, TANK, HEAT, DUAL, ELECTROLYSER, DUMP]
    qp = compiled_hub(devices, n, columns(n, **profiles(n)), product=2, gas_connection_kw=700)
    coefficients = np.abs((qp.A.multiply(qp.variable_scale[None, :]) / qp.row_scale[:, None]).tocsr().data)
    coefficients = coefficients[coefficients > 0]
    assert coefficients.max() < 10 and coefficients.min() > 0.02


@pytest.mark.parametrize("solver", ["osqp", "piqp"])
@pytest.mark.parametrize("operators", [("grids", "grids"), ("dso", "gas")])
def test_a_hub_agrees_with_its_operators_on_all_carriers(operators, solver):
    """One operator of both grids, or one each: 60 + 200 p EUR/MWh of electricity, 40 + 20 gas of gas, 10 of up
    flexibility. The optimum is that of the model written another way, with these costs in place of prices."""
    n, asked = 4, Prices(np.full(4, 60.0), np.full(4, 10.0), np.zeros(4))
    qp = compiled_hub([CHP_DATA, BOILER, PUMP, TANK, HEAT], n, columns(n, **profiles(n)), gas_connection_kw=900)
    costs = {("p_mw", COUPLING): (60.0, 100.0), ("flex_up_mw", COUPLING): (-10.0, 0.0)}
    costs |= {("flex_down_mw", COUPLING): (0.0, 0.0), ("gas_mw", GAS_COUPLING): (40.0, 10.0)}
    builders = {name: Builder(name) for name in operators}
    for (quantity, coupling), (linear, quadratic) in costs.items():
        builder = builders[operators[0 if coupling == COUPLING else 1]]
        block = builder.variable(quantity, n, -2.0, 2.0, unit="MW", scale=0.1)
        builder.cost(block, linear=linear, quadratic=quadratic)
        builder.boundary(coupling, quantity, block)
    agents = {"hub": QPAgent(qp, solver=solver)}
    agents |= {name: QPAgent(builder.build(), solver=solver) for name, builder in builders.items()}
    electric = [Quantity(quantity, n, scale=0.1, price_scale=50.0) for quantity in QUANTITIES]
    gas = [Quantity("gas_mw", n, scale=0.3, price_scale=40.0)]
    couplings = [Coupling(COUPLING, "hub", operators[0], electric), Coupling(GAS_COUPLING, "hub", operators[1], gas)]
    result = solve(agents, couplings, settings=Settings(max_iterations=300))
    model = reference(n, 1.0, 1, gas_limit_kw=900.0, run_cost=0.0)
    drawn, burnt = (model.taken[carrier] / 1000 for carrier in ("electricity", "gas"))
    model.cost = model.cost + 100.0 * cp.sum_squares(drawn) + 10.0 * cp.sum_squares(burnt)
    optimum = model.optimum(asked, GAS_EUR_PER_MWH)
    turnover = sum(float(np.abs(v.price * v.lower).sum()) for q in result.boundary.values() for v in q.values())
    assert result.converged
    assert result.objective == pytest.approx(optimum, abs=OF_TURNOVER * turnover)
