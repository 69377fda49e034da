"""What hubs and their devices refuse, and in which words."""

from __future__ import annotations

import numpy as np
import pytest

from admm import InputError
from tests.device_reference import columns, compiled
from tests.device_reference import horizon as over
from tests.independent_hub import compiled_hub
from tests.test_hub import BOILER, CHP_DATA, DUAL, DUMP, ELECTROLYSER, HEAT, PUMP, TANK

GAS = {"gas_connection_kw": 500}
WARMTH = HEAT | {"power_kw": 10}


@pytest.mark.parametrize(
    ("devices", "words"),
    [
        ([CHP_DATA | {"thermal_efficiency": 0.7}], ["chp 'chp'", "thermal_efficiency 0.7", "add up to 1.05", "HHV"]),
        ([CHP_DATA | {"minimum_kw": 120}], ["chp 'chp'", "minimum_kw is 120", "rated_kw 100"]),
        ([CHP_DATA | {"rated_kw": -5}], ["chp 'chp'", "rated_kw is -5", "greater than 0"]),
        ([CHP_DATA | {"ramp_kw_per_h": 0}], ["ramp_kw_per_h is 0"]),
        ([CHP_DATA | {"electric_efficiency": float("nan")}], ["electric_efficiency is nan", "finite"]),
        ([CHP_DATA], ["hub: chp 'chp'", "gives heat", "heat_dump"]),
        ([BOILER | {"efficiency": 1.05}, WARMTH], ["gas_boiler 'boiler'", "efficiency is 1.05"]),
        ([BOILER | {"max_heat_kw": 0}, WARMTH], ["gas_boiler 'boiler'", "max_heat_kw is 0"]),
        ([WARMTH], ["hub: load 'warmth'", "no device gives any", "gas_boiler"]),
        ([WARMTH, TANK], ["load 'warmth'", "no device gives any"]),
        ([TANK], ["heat_storage 'tank'", "stands alone"]),
        ([DUMP], ["heat_dump 'dump'", "no device gives any"]),
        ([BOILER, WARMTH, TANK, TANK | {"name": "other"}], ["'tank' and 'other'", "add them up"]),
        ([BOILER, WARMTH, TANK | {"initial_share": 0.2, "min_share": 0.3}], ["initial_share is 0.2", "min_share 0.3"]),
        ([BOILER, WARMTH, TANK | {"loss_per_h": 1}], ["heat_storage 'tank'", "loss_per_h is 1"]),
        ([BOILER, HEAT | {"carrier": "steam"}], ["load 'warmth'", "carrier is 'steam'", "'heat'"]),
        ([BOILER, HEAT | {"power_kw": "short"}], ["load 'warmth'", "power_kw", "shape (2,)", "4 periods"]),
        ([BOILER, HEAT | {"power_kw": "hole"}], ["load 'warmth'", "power_kw ('hole') is nan", "period 1"]),
        ([BOILER, HEAT | {"power_kw": "cold"}], ["power_kw ('cold') is -1"]),
        ([PUMP | {"outdoor_temperature_degc": "hot"}, WARMTH], ["hub_heat_pump 'hp'", "is 99 degC", "at most 60"]),
        ([PUMP | {"outdoor_temperature_degc": 7, "cop_at_7c": 0.5}, WARMTH], ["cop_at_7c is 0.5"]),
        ([PUMP | {"outdoor_temperature_degc": 7, "heat_demand_kw": 3}, WARMTH], ["unknown key 'heat_demand_kw'"]),
        ([ELECTROLYSER | {"efficiency": 0}], ["electrolyser 'ely'", "efficiency is 0"]),
        ([ELECTROLYSER | {"hydrogen_demand_kw": "hole"}], ["hydrogen_demand_kw ('hole') is nan"]),
        ([DUAL | {"demand_kw": 5, "gas_share": 1.2}], ["dual_fuel_load 'dual'", "gas_share is 1.2"]),
        ([DUAL | {"demand_kw": 5, "gas_kwh_per_kwh": -1}], ["gas_kwh_per_kwh is -1"]),
    ],
)
def test_wrong_devices_are_refused_in_words(devices, words):
    hole, cold = np.ones(4), np.ones(4)
    hole[1], cold[2] = np.nan, -1.0
    series = columns(4, short=np.ones(2), hole=hole, cold=cold, hot=np.full(4, 99.0), heat=np.ones(4), out=np.ones(4))
    with pytest.raises(InputError) as refused:
        compiled_hub(devices, 4, series, **GAS)
    for word in words:
        assert word in str(refused.value)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({}, ["gas_boiler 'boiler'", "takes gas", "gas_connection_kw"]),
        ({"gas_connection_kw": 0}, ["hub: gas_connection_kw is 0", "greater than 0"]),
        ({"gas_connection_kw": "500"}, ["hub: gas_connection_kw is '500'", "number"]),
        ({"gas_conection_kw": 500}, ["unknown key 'gas_conection_kw'", "did you mean 'gas_connection_kw'"]),
        (GAS | {"gas_emission_kg_per_kwh": -0.2}, ["gas_emission_kg_per_kwh is -0.2"]),
        (GAS | {"emission_price_eur_per_t": float("inf")}, ["emission_price_eur_per_t is inf"]),
        (GAS | {"electricity_emission_kg_per_kwh": "hole"}, ["hub: electricity_emission_kg_per_kwh ('hole') is nan"]),
        (GAS | {"electricity_emission_kg_per_kwh": 400}, ["is 400 kg/kWh", "at most 5"]),
        (GAS | {"electricity_emission_kg_per_kwh": "short"}, ["shape (1,)", "2 periods"]),
    ],
)
def test_wrong_hubs_are_refused_in_words(options, words):
    series = columns(2, hole=np.array([1.0, np.nan]), short=np.ones(1))
    with pytest.raises(InputError) as refused:
        compiled_hub([BOILER, WARMTH], 2, series, **options)
    for word in words:
        assert word in str(refused.value)


def test_a_community_has_no_gas():
    with pytest.raises(InputError, match="ec: gas_boiler 'boiler': takes gas, but there is no gas_connection_kw"):
        compiled([BOILER, WARMTH], over(2))
