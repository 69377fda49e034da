"""Two days in one horizon are two days one after the other, the second from the states that the first ended with.

States are those that the programs' balances give for powers drawn at random, held against recursions written by hand.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

import numpy as np
import pytest
import scipy.sparse as sp

from admm import InputError
from networks.case import load_case
from subproblems import QuadraticProgram
from subproblems.builder import Builder
from subproblems.community import Community, compile_community
from subproblems.devices import DEVICES
from subproblems.horizon import Horizon
from tests.tolerances import EXACT

DAY, MONDAY = 24, datetime(2024, 1, 15, tzinfo=UTC)
RANDOM = np.random.default_rng(11)
OUTSIDE_DEGC = RANDOM.uniform(-5, 10, 2 * DAY)
DEMAND_KW = RANDOM.uniform(5, 20, 2 * DAY)
GAINS_KW = RANDOM.uniform(0, 6, 2 * DAY)
PROFILES = {"outside": OUTSIDE_DEGC, "demand": DEMAND_KW, "gains": GAINS_KW}
Powers = dict[str, np.ndarray]


@dataclass(frozen=True)
class Kind:
    """A device that stores; its recursion by hand takes the state before a period, the period and the powers."""

    device: dict
    state: str
    before_first: float
    step: Callable[[float, int, Powers], float]


def after_charging(energy: float, t: int, p: Powers) -> float:
    return energy * 0.99 + 0.9 * p["charge_kw"][t] - p["discharge_kw"][t] / 0.8


def of_cars(energy: float, t: int, p: Powers) -> float:
    """Three cars are there from 18 to 7 o'clock."""
    hour = t % DAY
    if 7 <= hour < 18:
        return 0.0
    before = 3 * 20.0 if hour == 18 else energy
    return before + 0.92 * p["night_charge_kw"][t] - p["night_discharge_kw"][t] / 0.92


def indoors(degc: float, t: int, p: Powers) -> float:
    a = math.exp(-1 / (0.2 * 60))
    return a * degc + (1 - a) * (
        OUTSIDE_DEGC[t] + 0.2 * (3 * p["heating_kw"][t] - 3 * p["cooling_kw"][t] + GAINS_KW[t])
    )


def in_the_tank(heat: float, t: int, p: Powers) -> float:
    return 0.99 * heat + (3.5 + 0.07 * (OUTSIDE_DEGC[t] - 7)) * p["power_kw"][t] - DEMAND_KW[t]


def served(energy: float, t: int, p: Powers) -> float:
    """The window is open from 20 to 4 o'clock."""
    hour = t % DAY
    if 4 <= hour < 20:
        return 0.0
    return (0.0 if hour == 20 else energy) + p["power_kw"][t]


CLASS = {
    "name": "night", "vehicles": 3, "capacity_kwh": 60.0, "charger_kw": 11.0, "discharge_kw": 8.0,
    "arrival_hour": 18.0, "departure_hour": 31.0, "energy_on_arrival_kwh": 20.0, "energy_at_departure_kwh": 46.0,
}  # fmt: skip
KINDS = {
    "battery": Kind(
        {"capacity_kwh": 100.0, "charge_kw": 30.0, "discharge_kw": 30.0, "charge_efficiency": 0.9,
         "discharge_efficiency": 0.8, "self_discharge_per_h": 0.01, "initial_share": 0.4},
        "energy_kwh", 40.0, after_charging,
    ),
    "ev_fleet": Kind({"classes": [CLASS]}, "night_energy_kwh", 3 * (20.0 + 6 / 13 * 26.0), of_cars),
    "thermostatic_load": Kind(
        {"resistance_k_per_kw": 0.2, "capacitance_kwh_per_k": 60.0, "outdoor_temperature_degc": "outside",
         "gains_kw": "gains", "max_heating_kw": 50.0, "max_cooling_kw": 20.0, "initial_temperature_degc": 20.5},
        "temperature_degc", 20.5, indoors,
    ),
    "heat_pump": Kind(
        {"max_kw": 12.0, "outdoor_temperature_degc": "outside", "heat_demand_kw": "demand", "tank_kwh": 80.0},
        "tank_kwh", 40.0, in_the_tank,
    ),
    "shiftable_load": Kind(
        {"windows": [{"start_hour": 20.0, "end_hour": 28.0, "energy_kwh": 40.0, "max_kw": 20.0}]},
        "served_kwh", 20.0, served,
    ),
    "heat_storage": Kind(
        {"capacity_kwh": 100.0, "charge_kw": 20.0, "discharge_kw": 20.0, "loss_per_h": 0.02},
        "energy_kwh", 50.0, lambda heat, t, p: 0.98 * heat + p["charge_kw"][t],
    ),
    "electrolyser": Kind(
        {"max_kw": 40.0, "hydrogen_demand_kw": "demand", "tank_kwh": 60.0},
        "tank_kwh", 30.0, lambda level, t, p: level + 0.7 * p["power_kw"][t] - DEMAND_KW[t],
    ),
}  # fmt: skip


def program(kind: str, first: int, periods: int, initial_states: dict[str, float] | None = None) -> QuadraticProgram:
    """The device alone, from period `first` of the two days on."""
    device = DEVICES[kind](name="it", **KINDS[kind].device)
    builder = Builder("alone", initial_states)
    horizon = Horizon(MONDAY + timedelta(hours=first), periods, 60)

    def series(value: str | float) -> np.ndarray:
        return PROFILES[value][first : first + periods] if isinstance(value, str) else np.full(periods, float(value))

    device.add(builder, horizon, series)
    builder.check_initial_states()
    return builder.build()


def powers_of(qp: QuadraticProgram) -> Powers:
    """Drawn at random between the bounds, by the variables' names without the device's."""
    found = {}
    for block in (b for b in qp.variables if b.unit == "kW" and not b.name.endswith(("up_kw", "down_kw"))):
        rows = sp.csr_matrix(qp.A)[:, block.entries]
        bounds = next(r for r in qp.rows if "power limits" in r.name and abs(rows[r.entries]).sum() == block.length)
        share = RANDOM.uniform(0, 1, block.length)
        found[block.name.removeprefix("it.")] = (1 - share) * qp.l[bounds.entries] + share * qp.u[bounds.entries]
    return found


def states(qp: QuadraticProgram, state: str, powers: Powers) -> np.ndarray:
    """What the program's balance says of the state at these powers, shape (periods,)."""
    balance = next(block for block in qp.rows if "balance" in block.name)
    rows, blocks = sp.csr_matrix(qp.A)[balance.entries], {b.name.removeprefix("it."): b for b in qp.variables}
    known = sum(rows[:, blocks[name].entries] @ power for name, power in powers.items())
    return np.linalg.solve(rows[:, blocks[state].entries].toarray(), qp.l[balance.entries] - known)


@pytest.mark.parametrize("kind", KINDS)
def test_a_horizon_of_two_days_is_two_days_one_after_the_other(kind: str) -> None:
    given, both = KINDS[kind], program(kind, 0, 2 * DAY)
    powers, by_hand, state = powers_of(both), [], given.before_first
    for t in range(2 * DAY):
        state = given.step(state, t, powers)
        by_hand.append(state)
    assert states(both, given.state, powers) == pytest.approx(by_hand, abs=EXACT)
    first = states(program(kind, 0, DAY), given.state, {name: power[:DAY] for name, power in powers.items()})
    second_day = {name: power[DAY:] for name, power in powers.items()}
    carried = program(kind, DAY, DAY, {f"it.{given.state}": first[-1]})
    assert states(carried, given.state, second_day) == pytest.approx(by_hand[DAY:], abs=EXACT)
    afresh = states(program(kind, DAY, DAY), given.state, second_day)
    assert abs(afresh[0] - by_hand[DAY]) > 0.01


@pytest.mark.parametrize("kind", KINDS)
def test_only_the_first_balance_changes(kind: str) -> None:
    own, carried = program(kind, DAY, DAY), program(kind, DAY, DAY, {f"it.{KINDS[kind].state}": 1000.0})
    changed = np.flatnonzero((own.l != carried.l) | (own.u != carried.u))
    balance = next(block for block in own.rows if "balance" in block.name)
    assert list(changed) == [balance.start]
    assert (own.A != carried.A).nnz == 0 and (own.P != carried.P).nnz == 0 and (own.q == carried.q).all()


def test_a_class_that_is_not_there_or_just_arrives_starts_as_ever() -> None:
    for first in (10, 18):
        own, carried = program("ev_fleet", first, 12), program("ev_fleet", first, 12, {"it.night_energy_kwh": 99.0})
        assert (own.l == carried.l).all() and (own.u == carried.u).all()


def community(initial_states: dict[str, float]) -> QuadraticProgram:
    device = {"kind": "battery", "name": "store", **KINDS["battery"].device}
    both = Community(import_limit_kw=100.0, export_limit_kw=100.0, devices=[device])
    series = lambda value: np.full(DAY, float(value))  # noqa: E731
    horizon = Horizon(MONDAY, DAY, 60)
    return compile_community("ec", both, horizon, series, "ec-dso", initial_states=initial_states)


def test_a_name_of_no_state_is_refused_with_the_closest_one() -> None:
    with pytest.raises(InputError, match="ec: initial_states: there is no state 'store.energy'; did you mean 'store.e"):
        community({"store.energy": 1.0})
    with pytest.raises(InputError, match="no state 'zzz'; states: store.energy_kwh"):
        community({"zzz": 1.0})


def test_a_value_that_is_not_finite_is_refused() -> None:
    with pytest.raises(InputError, match="initial state 'store.energy_kwh' is nan, expected a finite number"):
        community({"store.energy_kwh": math.nan})


def test_a_case_hands_carried_states_to_its_communities() -> None:
    case, name = load_case("ieee33-10ec"), "ec07-village"
    own = case.community_program(name)
    names = [block.name for block in own.variables if block.unit in ("kWh", "degC")]
    assert names == ["battery.energy_kwh", "cars.cars_energy_kwh", "heatpump.tank_kwh", "laundry.served_kwh"]
    carried = case.community_program(name, initial_states=dict.fromkeys(names, 10.0))
    started = own.l[np.flatnonzero(own.l != carried.l)]
    keep = np.array([1 - 0.0002, 1.0, 1 - 0.005])
    cars_kwh, peak_kw = 20 * (26 + 19 * 6 / 13), 120.0
    assert started[:2] == pytest.approx(keep[:2] * [60.0, cars_kwh], abs=EXACT)
    assert carried.l[own.l != carried.l] - started == pytest.approx(keep * [-50.0, 10.0 - cars_kwh, -90.0], abs=EXACT)
    assert -peak_kw < started[2] - keep[2] * 100.0 < 0
