"""The community as a whole: signs, units, limits, names, and the document that others build a model from."""

from __future__ import annotations

import subprocess
import sys
from datetime import UTC, datetime, timedelta, timezone
from pathlib import Path

import numpy as np
import pytest

from admm import AnswerStatus, Coupling, InputError, Quantity, Question
from admm.couplings import Layout
from subproblems import QPAgent
from subproblems.community import Community
from subproblems.horizon import Horizon
from subproblems.reservoir import simultaneous
from tests.device_reference import (
    COUPLING,
    QUANTITIES,
    Prices,
    Store,
    columns,
    compiled,
    horizon,
    prices,
    solve_parts,
    solve_program,
    store_part,
)
from tests.device_reference import Part as ReferencePart
from tests.tolerances import SOLVER

ROOT = Path(__file__).resolve().parent.parent
SCALED = 20.0
"""Variables and rows of a compiled community must be within this factor of one, per unit of their scale."""
ANSWER_MW = 1e-4

LOAD = {"kind": "load", "name": "homes", "power_kw": "homes"}
ROOF = {"kind": "pv", "name": "roof", "installed_kw": 50, "available_pu": "pv"}
BATTERY = {"kind": "battery", "name": "bat", "capacity_kwh": 40, "charge_kw": 20, "discharge_kw": 20, "min_share": 0}


def profiles(n: int):
    t = np.arange(n)
    return columns(n, homes=30 + 10 * np.sin(t), pv=np.maximum(np.sin(t / 3), 0))


def battery_store(n: int) -> Store:
    lower = np.zeros(n)
    lower[-1] = 20.0
    return Store(20.0, 1.0, np.zeros(n), lower, np.full(n, 40.0), np.full(n, 0.95), 20.0, 1 / 0.95, 20.0)


def roof_part(n: int, available_kw: np.ndarray) -> ReferencePart:
    import cvxpy as cp

    spilt, up, down = (cp.Variable(n, nonneg=True) for _ in range(3))
    limits = [spilt <= available_kw, up <= spilt, down <= available_kw - spilt]
    return ReferencePart(spilt - available_kw, up, down, 0.0, limits)


def agent_answer(qp, asked: Prices, hours: float, penalty: float = 0.0):
    n = asked.energy.size
    quantities = [Quantity(name, n, scale=0.05, price_scale=50.0 * hours) for name in QUANTITIES]
    agent = QPAgent(qp)
    agent.prepare(Layout([Coupling(COUPLING, "ec", "dso", quantities)]).boundary("ec"))
    price = hours * np.concatenate([asked.energy, -asked.up, -asked.down])
    return agent.answer(Question(1, price, np.zeros(3 * n), np.full(3 * n, penalty), accuracy=1e-6))


def test_community_reaches_the_optimum_of_another_model_within_its_connection():
    n, limit_kw = 12, 38.0
    series, asked = profiles(n), prices(n, seed=1)
    qp = compiled([LOAD, ROOF, BATTERY], horizon(n), series, import_limit_kw=limit_kw, export_limit_kw=limit_kw)
    parts = [store_part(battery_store(n), 1.0, n, wear=(0.005, 0.002)), roof_part(n, 50 * series("pv"))]
    parts.append(ReferencePart(series("homes"), np.zeros(n), np.zeros(n)))
    found, schedule = solve_program(qp, asked, 1.0)
    assert found == pytest.approx(solve_parts(parts, asked, 1.0, limit_kw), rel=SOLVER)
    imported = 1000 * (schedule["connection.p_mw"] + schedule["connection.flex_down_mw"])
    assert imported.max() == pytest.approx(limit_kw, abs=1e-3), "the limit must bind, or nothing is tested"


def test_agent_answers_prices_with_the_optimum():
    n = 12
    series, asked = profiles(n), prices(n, seed=1)
    qp = compiled([LOAD, ROOF, BATTERY], horizon(n), series, flex_quadratic_cost_eur_per_mw2h=5.0)
    found, _ = solve_program(qp, asked, 1.0)
    answer = agent_answer(qp, asked, 1.0)
    paid = np.concatenate([asked.energy, -asked.up, -asked.down]) @ answer.values
    assert answer.status is AnswerStatus.SOLVED
    assert answer.cost_eur + paid == pytest.approx(found, abs=1e-3)


@pytest.mark.parametrize("step", [15, 60])
def test_cost_of_flexibility_by_hand(step):
    """All is curtailed at -100 EUR/MWh; giving back f MW costs 3 f + 50 f^2 EUR/h and earns 5 f, so f = 0.02."""
    hours = step / 60
    qp = compiled(
        [ROOF | {"available_pu": 0.8}],
        horizon(1, step),
        flex_up_cost_eur_per_mwh=3.0,
        flex_quadratic_cost_eur_per_mw2h=50.0,
    )
    cost, schedule = solve_program(qp, Prices(np.array([-100.0]), np.array([5.0]), np.zeros(1)), hours)
    assert schedule["connection.flex_up_mw"] == pytest.approx([0.02], abs=SOLVER)
    assert cost == pytest.approx(-hours * 0.02, abs=SOLVER)


def test_limits_hold_while_flexibility_is_called():
    n, series = 6, columns(6, pv=np.full(6, 1.0), homes=np.full(6, 10.0))
    asked = Prices(np.full(n, 50.0), np.full(n, 200.0), np.full(n, 200.0))
    qp = compiled([LOAD, ROOF, BATTERY], horizon(n), series, import_limit_kw=15, export_limit_kw=30)
    _, schedule = solve_program(qp, asked, 1.0)
    p, up, down = (1000 * schedule[f"connection.{name}"] for name in QUANTITIES)
    assert (p - up).min() == pytest.approx(-30, abs=1e-3)
    assert (p + down).max() == pytest.approx(15, abs=1e-3)


def down_offered(devices, series, product: int, **limits) -> np.ndarray:
    """MW of down flexibility in two periods at 50 EUR/MWh of energy and 10 of flexibility; all PV produces."""
    asked = Prices(np.full(2, 50.0), np.zeros(2), np.full(2, 10.0))
    qp = compiled(devices, horizon(2), series, flexibility_duration_minutes=60 * product, **limits)
    _, schedule = solve_program(qp, asked, 1.0)
    assert schedule["roof.production_kw"] == pytest.approx(50 * series("pv"), abs=1e-3)
    return schedule["connection.flex_down_mw"]


@pytest.mark.parametrize(("product", "expected"), [(1, [0.04, 0.0]), (2, [0.0, 0.0])])
def test_pv_holds_a_call_through_its_duration(product, expected):
    """40 kW of roof may be shed at noon, but there is nothing left to shed an hour later."""
    series = columns(2, pv=np.array([0.8, 0.0]))
    assert down_offered([ROOF], series, product) == pytest.approx(expected, abs=SOLVER)


@pytest.mark.parametrize(("product", "expected"), [(1, [0.04, 0.015]), (2, [0.015, 0.015])])
def test_connection_holds_a_call_through_its_duration(product, expected):
    """40 kW of roof, loads of 10 and 50 kW and a limit of 25 kW: 15 kW more fit in the second hour."""
    series = columns(2, pv=np.full(2, 0.8), homes=np.array([10.0, 50.0]))
    found = down_offered([LOAD, ROOF], series, product, import_limit_kw=25)
    assert found == pytest.approx(expected, abs=SOLVER)


def test_infeasible_communities_say_which_limits_contradict_each_other():
    series = columns(4, homes=np.array([10.0, 10.0, 90.0, 10.0]))
    qp = compiled([LOAD, BATTERY], horizon(4), series, import_limit_kw=60)
    answer = agent_answer(qp, prices(4), 1.0, penalty=100.0)
    assert answer.status is AnswerStatus.INFEASIBLE
    assert "connection: import limit" in answer.reason and "period 2" in answer.reason
    assert "bat: " in answer.reason


def test_everything_is_about_one_per_unit_of_its_scale():
    n = 24
    qp = compiled([LOAD, ROOF, BATTERY], horizon(n), profiles(n))
    _, schedule = solve_program(qp, prices(n), 1.0)
    x = np.concatenate([schedule[block.name] for block in qp.variables])
    assert np.abs(x / qp.variable_scale).max() < SCALED
    coefficients = np.abs((qp.A.multiply(qp.variable_scale[None, :]) / qp.row_scale[:, None]).tocsr().data)
    assert coefficients.max() < SCALED and coefficients[coefficients > 0].min() > 1 / SCALED


def test_boundary_is_one_value_a_period_in_mw():
    qp = compiled([LOAD], horizon(5), columns(5, homes=np.full(5, 20.0)))
    assert set(qp.boundary) == {(COUPLING, quantity) for quantity in QUANTITIES}
    assert all(at.size == 5 for at in qp.boundary.values())
    units = {block.name: block.unit for block in qp.variables}
    assert units["connection.p_mw"] == "MW"
    assert agent_answer(qp, prices(5), 1.0).values[:5] == pytest.approx(0.02, abs=ANSWER_MW)


def test_charging_and_discharging_at_once_is_found_where_it_pays():
    """At -100 EUR/MWh a full battery without wear burns energy in its own losses; at +100 it does not."""
    n = 4
    device = BATTERY | {"initial_share": 1.0, "wear_cost_eur_per_kwh": 0.0, "wear_rise_eur_per_kwh": 0.0}
    qp = compiled([device | {"flexible": False}], horizon(n))
    for price, at_once in ((-100.0, True), (100.0, False)):
        _, schedule = solve_program(qp, Prices(np.full(n, price), np.zeros(n), np.zeros(n)), 1.0)
        assert (set(simultaneous(schedule)) == {"bat"}) is at_once
    both = {"a.charge_kw": np.array([1.0, 5.0]), "a.discharge_kw": np.array([2.0, 0.0]), "b.charge_kw": np.ones(2)}
    both |= {"cars.day_charge_kw": np.ones(1), "cars.day_discharge_kw": np.ones(1)}
    both |= {"house.heating_kw": np.ones(1), "house.cooling_kw": np.full(1, 0.5)}
    found = simultaneous(both)
    assert set(found) == {"a", "cars.day", "house"}
    assert found["a"] == pytest.approx([1.0, 0.0])


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"devices": [LOAD, LOAD]}, "two devices are called 'homes'"),
        ({"devices": [LOAD | {"name": "connection"}]}, "rename it"),
        ({"devices": []}, "devices is \\[\\]"),
        ({"import_limit_kw": -1}, "import_limit_kw is -1"),
        ({"import_limits_kw": 1}, "unknown key 'import_limits_kw'; did you mean 'import_limit_kw'"),
        ({"flexibility_duration_minutes": 45}, "ec: flexibility_duration_minutes is 45, expected a multiple .* 60"),
        ({"flexibility_duration_minutes": 0}, "flexibility_duration_minutes is 0"),
    ],
)
def test_wrong_communities_are_refused_in_words(changes, words):
    devices = changes.pop("devices", [LOAD])
    with pytest.raises(InputError, match=words):
        compiled(devices, horizon(2), columns(2, homes=np.ones(2)), **changes)


def test_missing_limits_and_odd_lists_are_refused():
    with pytest.raises(InputError, match="community: key 'export_limit_kw' is missing"):
        Community(import_limit_kw=1, devices=[LOAD])
    with pytest.raises(InputError, match="community: devices is 3"):
        Community(import_limit_kw=1, export_limit_kw=1, devices=3)


def test_horizon_knows_its_periods():
    assert Horizon(datetime(2024, 1, 15, 22, 30, tzinfo=UTC), 8, 15, 2.0).first_hour == 0.5
    over = Horizon(datetime(2024, 1, 15, 22, 30, tzinfo=UTC), 8, 15)
    assert (over.hours, over.first_hour, over.periods_per_day) == (0.25, 22.5, 96)
    assert over.stamps()[-1] == datetime(2024, 1, 16, 0, 15, tzinfo=UTC)


@pytest.mark.parametrize(
    ("start", "periods", "step", "words"),
    [
        (datetime(2024, 1, 1), 24, 60, "start is .* expected a date and time with its offset"),
        (datetime(2024, 1, 1, tzinfo=timezone(timedelta(hours=1))), 24, 60, "UTC"),
        (datetime(2024, 1, 1, 0, 7, tzinfo=UTC), 24, 15, "whole number of steps"),
        ("2024", 24, 60, "start is '2024'"),
        (datetime(2024, 1, 1, tzinfo=UTC), 0, 60, "periods is 0"),
        (datetime(2024, 1, 1, tzinfo=UTC), 2.0, 60, "periods is 2.0"),
        (datetime(2024, 1, 1, tzinfo=UTC), 24, 45, "step_minutes is 45"),
        (datetime(2024, 1, 1, tzinfo=UTC), 24, True, "step_minutes is True"),
    ],
)
def test_wrong_horizons_are_refused_in_words(start, periods, step, words):
    with pytest.raises(InputError, match=words):
        Horizon(start, periods, step)


@pytest.mark.parametrize(
    ("module", "document"),
    [("subproblems.devices", "subproblems/README.md"), ("networks", "networks/README.md")],
)
def test_the_documents_hold_the_attributes_as_they_are(module, document):
    command = [sys.executable, "-m", module]
    printed = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True).stdout
    text = (ROOT / document).read_text(encoding="utf-8")
    assert printed.strip() in text, f"run python -m {module} and put what it prints into {document}"
