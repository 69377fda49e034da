"""Limits that cannot hold together are found, no row too many, and told in numbers to their owner only."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import scipy.sparse as sp
from scipy.optimize import linprog

from admm import Coupling, InfeasibleError, Quantity, Question
from admm.couplings import Layout
from subproblems import QPAgent, QuadraticProgram
from subproblems.conflict import find_conflict, in_numbers
from tests.case_tools import tieline
from tests.device_reference import COUPLING, QUANTITIES, columns, compiled, horizon
from tests.independent_hub import compiled_hub
from tests.test_hub import BOILER, CHP_DATA, HEAT, TANK

CASE = Path(__file__).parent / "data" / "failing" / "load_above_limit"
OVER = horizon(6)
LOAD = {"kind": "load", "name": "homes", "power_kw": "load"}
BATTERY = {"kind": "battery", "name": "bat", "capacity_kwh": 40, "charge_kw": 20, "discharge_kw": 20}
ROOF = {"kind": "pv", "name": "roof", "installed_kw": 100, "available_pu": "sun", "min_share": 1.0}
CAR = {"name": "a", "vehicles": 2, "capacity_kwh": 60, "charger_kw": 11, "arrival_hour": 1, "departure_hour": 4}
CARS = {"kind": "ev_fleet", "name": "cars"}
CARS["classes"] = [CAR | {"energy_on_arrival_kwh": 10, "energy_at_departure_kwh": 40}]
KILN = {"kind": "shiftable_load", "name": "kiln", "repeat_daily": False}
KILN["windows"] = [{"start_hour": 2, "end_hour": 5, "energy_kwh": 120, "max_kw": 50}]
PUMP = {"kind": "heat_pump", "name": "hp", "max_kw": 5, "outdoor_temperature_degc": 7, "heat_demand_kw": "heat"}
PUMP |= {"tank_kwh": 10}
HOUSE = {"kind": "thermostatic_load", "name": "house", "resistance_k_per_kw": 2, "capacitance_kwh_per_k": 3}
HOUSE |= {"outdoor_temperature_degc": -15, "max_heating_kw": 3}
WARM = HEAT | {"scale_factor": 1}
KITCHEN = {"kind": "load", "name": "kitchen", "carrier": "gas", "power_kw": 40}
RAMP = CHP_DATA | {"ramp_kw_per_h": 5, "flexible": False}
SERIES = columns(
    6,
    load=np.array([50.0, 60, 70, 120, 60, 50]),
    sun=np.array([0, 0.2, 0.9, 0.8, 0.1, 0]),
    heat=np.array([10.0, 12, 30, 30, 12, 10]),
)
PEAK, PLATEAU = columns(3, heat=np.array([90.0, 130, 90])), columns(6, heat=np.full(6, 150.0))
STEP = columns(3, heat=np.array([20.0, 100, 20]))


def community(*devices: dict, **limits: float) -> QuadraticProgram:
    return compiled(devices, OVER, SERIES, **limits)


KINDS: dict[str, tuple[Callable[[], QuadraticProgram], tuple[str, ...]]] = {
    "load above import": (
        lambda: community(LOAD, import_limit_kw=100),
        (
            "at 2024-01-15T03:00Z (period 3)",
            "homes takes 120 kW",
            "import limit",
            "at most 100 kW",
            "20 kW are missing",
        ),
    ),
    "load above import and battery": (
        lambda: community(LOAD, BATTERY, import_limit_kw=60),
        ("homes takes 120 kW", "at most 60 kW", "bat: discharging power limits: at most 20 kW", "40 kW are missing"),
    ),
    "must-run PV above export": (
        lambda: community(LOAD, ROOF, export_limit_kw=10),
        (
            "period 2",
            "homes takes 70 kW",
            "export limit",
            "at most 10 kW",
            "roof: available power limits: exactly 90 kW",
        ),
    ),
    "cars above import": (
        lambda: community(CARS, import_limit_kw=15),
        ("(periods 1 to 3)", "cars class a: stored energy limits: at least 80 kWh", "import limit", "at most 15 kW"),
    ),
    "task above import": (
        lambda: community(KILN, import_limit_kw=35),
        ("kiln: energy served limits: exactly 120 kWh", "at most 35 kW from", "(periods 2 to 4)"),
    ),
    "heat pump too small": (
        lambda: community(PUMP),
        ("hp: electric power limits: at most 5 kW", "at most 10 kWh and at least 0 kWh", "(periods 1 to 3)"),
    ),
    "house too cold": (
        lambda: community(HOUSE),
        ("period 0", "at least 19 degC", "heating power limits: at most 3 kW"),
    ),
    "heat above its source": (
        lambda: compiled_hub([BOILER | {"max_heat_kw": 100}, WARM], 3, PEAK, gas_connection_kw=500),
        ("period 1", "warmth takes 130 kW", "boiler: heat limits: at most 100 kW", "30 kW are missing"),
    ),
    "gas above its connection": (
        lambda: compiled_hub([BOILER, WARM, KITCHEN], 3, PEAK, gas_connection_kw=150),
        ("warmth takes 130 kW", "kitchen takes 40 kW", "gas connection limit: at most 150 kW"),
    ),
    "heat above source and store": (
        lambda: compiled_hub([BOILER | {"max_heat_kw": 100}, TANK, WARM], 6, PLATEAU, gas_connection_kw=500),
        ("warmth takes 150 kW", "boiler: heat limits: at most 100 kW", "tank: stored heat limits: at least 120 kWh"),
    ),
    "ramp of a CHP": (
        lambda: compiled_hub([RAMP, WARM], 3, STEP, gas_connection_kw=500),
        ("warmth takes 20 to 100 kW", "chp: ramp limit: at least -5 kW a period"),
    ),
}


def feasible(qp: QuadraticProgram, rows: np.ndarray) -> bool:
    """Whether some of the rows can hold together, by another linear program: over points, not over multipliers."""
    A = sp.diags_array(1 / qp.row_scale[rows]) @ sp.csr_matrix(qp.A)[rows] @ sp.diags_array(qp.variable_scale)
    upper, lower = qp.u[rows] / qp.row_scale[rows], qp.l[rows] / qp.row_scale[rows]
    above, below = np.isfinite(upper), np.isfinite(lower)
    found = linprog(
        np.zeros(qp.size),
        sp.vstack([A[above], -A[below]]),
        np.concatenate([upper[above], -lower[below]]),
        bounds=(None, None),
        method="highs-ipm",
    )
    return found.status == 0


@pytest.mark.parametrize(("made", "words"), KINDS.values(), ids=KINDS.keys())
def test_conflicts_are_told_in_numbers(made: Callable[[], QuadraticProgram], words: tuple[str, ...]) -> None:
    told = find_conflict(made()).words()
    assert all(part in told for part in words), told
    assert told.isprintable() and "behind" not in told


@pytest.mark.parametrize(("made", "_"), KINDS.values(), ids=KINDS.keys())
def test_a_conflict_has_no_row_too_many(made: Callable[[], QuadraticProgram], _: tuple[str, ...]) -> None:
    qp = made()
    rows = np.flatnonzero(find_conflict(qp).weight)
    assert not feasible(qp, rows)
    assert all(feasible(qp, np.delete(rows, i)) for i in range(rows.size))


def test_limits_that_can_hold_together_are_no_conflict() -> None:
    assert find_conflict(community(LOAD, BATTERY, ROOF, CARS, import_limit_kw=1000)) is None
    assert find_conflict(compiled_hub([BOILER, TANK, WARM], 6, PLATEAU, gas_connection_kw=500)) is None


def test_equal_conflicts_of_other_periods_are_counted() -> None:
    told = find_conflict(compiled([LOAD | {"power_kw": 130}], OVER, SERIES, import_limit_kw=100)).words()
    assert "homes takes 130 kW" in told and "the same in 5 more periods" in told


@pytest.mark.parametrize("solver", ["osqp", "piqp"])
def test_others_hear_names_only(solver: str) -> None:
    agent = QPAgent(community(LOAD, BATTERY, import_limit_kw=60), solver=solver)
    quantities = [Quantity(q, 6, scale=0.05, price_scale=50.0) for q in QUANTITIES]
    agent.prepare(Layout([Coupling(COUPLING, "ec", "dso", quantities)]).boundary("ec"))
    answer = agent.answer(Question(1, np.zeros(18), np.zeros(18), np.full(18, 100.0), accuracy=1e-6))
    assert "connection: power balance (period 3)" in answer.reason and "bat: discharging power limits" in answer.reason
    error = in_numbers(InfeasibleError(f"agent 'ec' is infeasible: {answer.reason}"), {"ec": agent})
    assert "homes takes 120 kW" in str(error)
    for private in ("120", "60 kW", "20 kW", "homes"):
        assert private not in error.public and private not in answer.reason


def test_a_program_of_no_times_is_explained_by_the_solver_alone() -> None:
    qp = replace(community(LOAD, import_limit_kw=100), times=())
    assert find_conflict(qp).words().startswith("at period 3 these limits")


@pytest.mark.parametrize("command", ["check", "run", "centralised"])
def test_a_load_above_its_limit_is_told_by_every_command(command: str, tmp_path: Path, capsys) -> None:
    arguments = [] if command == "check" else ["--out", tmp_path / "out"]
    ended = tieline(capsys, command, CASE, *arguments)
    assert ended.code == 4 and ended.errors.count("\n") == 1
    for words in ("agent 'a1'", "2024-01-15T00:00Z (period 0)", "load takes 600 kW", "import limit", "at most 500 kW"):
        assert words in ended.errors
    assert not (tmp_path / "out" / "summary.json").exists()


def test_only_the_owner_says_the_numbers(mpirun, tmp_path: Path) -> None:
    done = mpirun(3, "-m", "admm", "run", str(CASE), "--out", str(tmp_path / "out"))
    names, numbers = sorted(done.stderr.splitlines(), key=lambda line: "600 kW" in line)
    assert done.returncode == 4
    assert "connection: power balance (period 0)" in names and "kW" not in names
    assert "load takes 600 kW" in numbers
