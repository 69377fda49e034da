"""What devices refuse, in which words, and how hours of the day become periods."""

from __future__ import annotations

import numpy as np
import pytest

from admm import InputError
from subproblems.devices import DEVICES, Battery, EvFleet
from subproblems.devices.stays import stays
from tests.device_reference import columns, compiled, horizon
from tests.test_devices import BATTERY, HEAT_PUMP, THERMOSTAT, ev_class
from tests.tolerances import EXACT


@pytest.mark.parametrize(
    ("start", "end", "hour", "step", "repeat", "expected"),
    [
        (18, 30, 0, 60, True, [(0, 5, 0.5, 1.0), (18, 23, 0.0, 0.5)]),
        (-6, 6, 0, 60, True, [(0, 5, 0.5, 1.0), (18, 23, 0.0, 0.5)]),
        (-6, 6, 0, 60, False, [(0, 5, 0.5, 1.0)]),
        (8.2, 16.9, 0, 60, True, [(9, 15, 0.0, 1.0)]),
        (8.2, 16.9, 0, 15, False, [(33, 66, 0.0, 1.0)]),
        (8, 10, 9, 60, True, [(0, 0, 0.5, 1.0), (23, 23, 0.0, 0.5)]),
        (0, 24, 0, 60, True, [(0, 23, 0.0, 1.0)]),
        (30, 40, 0, 60, False, []),
    ],
)
def test_stays_are_rounded_inwards_repeated_and_clipped(start, end, hour, step, repeat, expected):
    found = stays(horizon(24 * 60 // step, step, hour), start, end, repeat, "here")
    spans = [(stay.first, stay.last, stay.elapsed_before, stay.elapsed_after()) for stay in found]
    assert spans == [pytest.approx(span, abs=EXACT) for span in expected]


def fleet(**changes) -> dict:
    return {"kind": "ev_fleet", "name": "cars", "classes": [ev_class(**changes)]}


def windows(*spans) -> dict:
    keys = ("start_hour", "end_hour", "energy_kwh", "max_kw")
    return {"kind": "shiftable_load", "name": "wash", "windows": [dict(zip(keys, span, strict=True)) for span in spans]}


@pytest.mark.parametrize(
    ("device", "words"),
    [
        (BATTERY | {"capacity_kwh": -3}, ["battery 'bat'", "capacity_kwh is -3", "greater than 0"]),
        (BATTERY | {"capacity_kwh": "40"}, ["battery 'bat'", "capacity_kwh is '40'", "number"]),
        (BATTERY | {"capacity_kwh": True}, ["capacity_kwh is True"]),
        (BATTERY | {"charge_kw": float("inf")}, ["charge_kw is inf", "finite"]),
        (BATTERY | {"capcity_kwh": 3}, ["unknown key 'capcity_kwh'", "did you mean 'capacity_kwh'"]),
        (BATTERY | {"initial_share": 0.95}, ["initial_share is 0.95", "max_share 0.9"]),
        (BATTERY | {"name": "a.b"}, ["name is 'a.b'", "letters"]),
        ({"kind": "battery", "name": "bat", "charge_kw": 1, "discharge_kw": 1}, ["'capacity_kwh' is missing", "kWh"]),
        ({"kind": "batery", "name": "bat"}, ["unknown kind 'batery'", "did you mean 'battery'"]),
        ({"name": "bat"}, ["'kind' is missing"]),
        (
            fleet(arrival_hour=20, departure_hour=7),
            ["ev_fleet 'cars'", "class 'home'", "departure_hour is 7", "add 24"],
        ),
        (fleet(departure_hour=20), ["ev_fleet 'cars'", "class 'home'", "energy_at_departure_kwh is 36", "30 kWh"]),
        (fleet(arrival_hour=18.4, departure_hour=19.6), ["class 'home'", "holds no whole period"]),
        (fleet(departure_hour=43), ["class 'home'", "exceeds 24 h", "repeat_daily"]),
        (fleet(energy_on_arrival_kwh=3), ["class 'home'", "energy_on_arrival_kwh is 3", "min_energy_kwh 6"]),
        (fleet(vehicles=2.5), ["class 'home'", "vehicles is 2.5"]),
        ({"kind": "ev_fleet", "name": "cars", "classes": [ev_class(), ev_class()]}, ["two classes are called 'home'"]),
        (windows((2, 4, 9, 4)), ["shiftable_load 'wash'", "window 1", "energy_kwh is 9", "8 kWh"]),
        (windows((2, 8, 9, 4), (7, 9, 1, 4)), ["window 2 overlaps"]),
        (windows((8, 2, 9, 4)), ["window", "end_hour is 2", "add 24"]),
        (THERMOSTAT | {"initial_temperature_degc": 25}, ["initial_temperature_degc is 25", "comfort band 20 to 23"]),
        (THERMOSTAT | {"max_heating_kw": 0}, ["both 0"]),
        (
            HEAT_PUMP | {"heat_demand_kw": "bad"},
            ["heat_pump 'hp'", "heat_demand_kw ('bad') is -1", "2024-01-15T01:00Z"],
        ),
        (HEAT_PUMP | {"heat_demand_kw": "short"}, ["heat_demand_kw", "shape (2,)", "24 periods"]),
        (HEAT_PUMP | {"heat_demand_kw": "words"}, ["heat_demand_kw", "not a number"]),
        (HEAT_PUMP | {"heat_demand_kw": "hole"}, ["heat_demand_kw ('hole') is nan"]),
        (HEAT_PUMP | {"heat_demand_kw": False}, ["heat_demand_kw is False", "name of a column"]),
    ],
)
def test_wrong_input_is_refused_in_words(device, words):
    bad, hole = np.ones(24), np.ones(24)
    bad[1], hole[3] = -1.0, np.nan
    series = columns(24, out=np.zeros(24), gains=np.zeros(24), bad=bad, hole=hole, short=np.ones(2), words=["a"] * 24)
    with pytest.raises(InputError) as refused:
        compiled([device], horizon(24), series)
    for word in words:
        assert word in str(refused.value)


def test_devices_made_in_python_are_refused_alike():
    with pytest.raises(InputError, match="battery 'b': capacity_kwh is 0"):
        Battery(name="b", capacity_kwh=0, charge_kw=1, discharge_kw=1)
    with pytest.raises(InputError, match="ev_fleet 'f': class 'home': departure_hour"):
        EvFleet(name="f", classes=[ev_class(departure_hour=3)])


def test_every_attribute_has_words_and_a_unit_entry():
    for kind, model in DEVICES.items():
        assert model.model_fields["kind"].default == kind
        for key, about in model.model_fields.items():
            if key not in ("name", "kind"):
                assert about.description and "unit" in about.json_schema_extra, f"{kind}.{key}"
