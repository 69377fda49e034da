"""Scenario files: actual values as given, forecasts by persistence without a look ahead, and refusals."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from admm import InputError
from networks.market.scenarios import ScenarioFile, scenario_file, scenario_files
from subproblems.horizon import Horizon
from tests.tolerances import EXACT

START = datetime(2024, 3, 1, tzinfo=UTC)
HORIZON = Horizon(START, 6, 60)
HALVING = 1 / np.log(2)
"""Correlation time (h) for which a deviation halves every hour."""
PV = np.array([0.0, 0.2, 0.8, 0.4, 0.0, 0.0])


def write(path: Path, minutes: int = 60, **columns) -> Path:
    """A file of these columns, a row every so many minutes; "/" in a name is written "__" here."""
    names = [name.replace("__", "/") for name in columns]
    stamps = [START + k * timedelta(minutes=minutes) for k in range(len(next(iter(columns.values()))))]
    rows = zip(*columns.values(), strict=True)
    lines = [",".join([f"{t:%Y-%m-%dT%H:%MZ}", *map(str, row)]) for t, row in zip(stamps, rows, strict=True)]
    path.write_text("\n".join([",".join(["time_utc", *names]), *lines]) + "\n", encoding="utf-8")
    return path


def read(path: Path, minutes: int = 60, **columns) -> ScenarioFile:
    return ScenarioFile(write(path / "a.csv", minutes, **columns), HORIZON, HALVING)


def test_actual_values_are_those_of_the_file(tmp_path: Path) -> None:
    scenario = read(tmp_path, pv_pu=[0, 0.1, 0.9, 0.5, 0.1, 0], ec1__load_kw=[5, 5, 5, 5, 5, 5])
    assert scenario.actual("pv_pu", PV) == pytest.approx([0, 0.1, 0.9, 0.5, 0.1, 0], abs=EXACT)
    assert scenario.actual("ec1/load_kw", PV) == pytest.approx([5.0] * 6, abs=EXACT)
    assert (scenario.actual("load_kw", PV) == PV).all(), "a series without a column is exact"
    assert (scenario.at_gate("load_kw", PV, 3) == PV).all()
    scenario.check_names(["pv_pu", "ec1/load_kw", "ec2/load_kw"])


def test_a_finer_file_is_averaged(tmp_path: Path) -> None:
    scenario = read(tmp_path, 30, load_kw=[1, 3, 2, 2, 5, 6, 7, 7, 8, 10, 0, 0])
    assert scenario.actual("load_kw", PV) == pytest.approx([2, 2, 5.5, 7, 9, 0], abs=EXACT)


def test_a_relative_deviation_decays(tmp_path: Path) -> None:
    """By hand: 50 % above the forecast in period 1, so 25 % in period 2, 12.5 % in period 3, ..."""
    scenario = read(tmp_path, load_kw=[10, 30, 0, 0, 0, 0])
    forecast = np.array([20.0, 20.0, 40.0, 16.0, 24.0, 8.0])
    assert scenario.at_gate("load_kw", forecast, 0) == pytest.approx(forecast, abs=EXACT)
    assert scenario.at_gate("load_kw", forecast, 1)[:3] == pytest.approx([10, 15, 35], abs=EXACT)
    expected = [10, 30, 40 * 1.0, 16 * 1.125, 24 * 1.0625, 8 * 1.03125]  # 40 * 1.25 exceeds all that was seen
    assert scenario.at_gate("load_kw", forecast, 2) == pytest.approx(expected, abs=EXACT)
    assert scenario.at_gate("load_kw", forecast, 6) == pytest.approx([10, 30, 0, 0, 0, 0], abs=EXACT)


def test_pv_is_remembered_overnight(tmp_path: Path) -> None:
    """Period 4 has no sun and says nothing; the forecast of period 5 follows period 3, two hours before."""
    forecast = np.array([0.0, 0.01, 0.8, 0.4, 0.0, 0.6])
    scenario = read(tmp_path, pv_pu=[0, 0.09, 0.4, 0.2, 0, 0.3])
    assert scenario.at_gate("pv_pu", forecast, 5)[5] == pytest.approx(0.6 * (1 - 0.5 / 4), abs=EXACT)
    assert scenario.at_gate("pv_pu", forecast, 1)[1:] == pytest.approx(forecast[1:], abs=EXACT)
    dawn = scenario.at_gate("pv_pu", forecast, 2)
    assert dawn[2:] == pytest.approx(forecast[2:], abs=EXACT), "a sunrise says nothing about noon"


def test_a_relative_deviation_is_limited(tmp_path: Path) -> None:
    """Ten times the forecast counts as twice the forecast."""
    scenario = read(tmp_path, load_kw=[100, 0, 0, 0, 0, 0])
    found = scenario.at_gate("load_kw", np.full(6, 10.0), 1)
    assert found == pytest.approx([100, 15, 12.5, 11.25, 10.625, 10.3125], abs=EXACT)


@pytest.mark.parametrize("name", ["temperature_degc", "price_eur_per_mwh", "price_eur_per_kwh"])
def test_temperatures_and_prices_deviate_in_their_unit(tmp_path: Path, name: str) -> None:
    scenario = read(tmp_path, **{name: [-3, 4, 0, 0, 0, 0]})
    forecast = np.array([-4.0, 0.0, 3.0, 6.0, 9.0, -9.0])
    found = scenario.at_gate(name, forecast, 2)
    assert found == pytest.approx([-3, 4, 3 + 2, 6 + 1, 9, -9 + 0.25], abs=EXACT)


VALUES = st.lists(st.floats(0, 1), min_size=6, max_size=6)


@settings(max_examples=40, deadline=None)
@given(forecast=VALUES, actual=VALUES, other=VALUES, gate=st.integers(0, 6), name=st.sampled_from(["a_pu", "b_degc"]))
def test_forecasts_do_not_look_ahead_and_keep_their_range(
    tmp_path_factory, forecast: list[float], actual: list[float], other: list[float], gate: int, name: str
) -> None:
    folder, day_ahead = tmp_path_factory.mktemp("scenario"), np.array(forecast)
    found = read(folder, **{name: actual}).at_gate(name, day_ahead, gate)
    changed = read(folder, **{name: actual[:gate] + other[gate:]}).at_gate(name, day_ahead, gate)
    assert (found == changed).all()
    assert (found[:gate] == np.array(actual)[:gate]).all()
    assert ((found >= 0) & (found <= 1)).all()
    perfect = read(folder, **{name: forecast})
    assert (perfect.at_gate(name, day_ahead, gate) == day_ahead).all()


def test_a_folder_has_one_file_a_draw(tmp_path: Path) -> None:
    second, first = write(tmp_path / "b.csv", x=[1]), write(tmp_path / "a.csv", x=[1])
    (tmp_path / "README.md").write_text("about")
    assert scenario_files(tmp_path) == [first, second]
    assert scenario_file(tmp_path, 1) == second
    assert scenario_file(first, 0) == first
    with pytest.raises(InputError, match="draw is 2, but there are 2 scenario files; expected at most 1"):
        scenario_file(tmp_path, 2)
    with pytest.raises(InputError, match="draw is -1, expected a whole number of at least 0"):
        scenario_file(tmp_path, -1)


def test_missing_scenarios_are_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="there is no such file or folder of scenarios"):
        scenario_files(tmp_path / "none")
    with pytest.raises(InputError, match="holds no CSV file, expected one scenario file for each draw"):
        scenario_files(tmp_path)
    with pytest.raises(InputError, match="file not found"):
        ScenarioFile(tmp_path / "a.csv", HORIZON)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (
            "time_utc,x\n2024-03-01T00:00Z,1\n2024-03-01T01:00Z,1\n",
            "a.csv: is too short or has a gap: no row for .*02:00Z",
        ),
        ("time_utc,x\n2024-03-01T01:00Z,1\n", "a.csv: has no row for 2024-03-01T00:00Z, where the horizon starts"),
        ("time_utc,x\n2024-03-01T00:00Z,nan\n", "a.csv: line 2: x is 'nan', expected a finite number"),
        ("time_utc,x\n2024-03-01T00:00Z,\n", "a.csv: line 2: x is empty, expected a value"),
        ("time_utc,x,x\n2024-03-01T00:00Z,1,2\n", "a.csv: two columns are called 'x'"),
        ("time,x\n2024-03-01T00:00Z,1\n", "a.csv: column 'time_utc' is missing in the header"),
        (
            "time_utc\n2024-03-01T00:00Z\n",
            "a.csv: has only the column 'time_utc', expected actual values; add a column",
        ),
    ],
)
def test_bad_files_are_refused(tmp_path: Path, text: str, message: str) -> None:
    periods = 6 if "too short" in message else 1
    (tmp_path / "a.csv").write_text(text)
    with pytest.raises(InputError, match=message):
        ScenarioFile(tmp_path / "a.csv", Horizon(START, periods, 60))


def test_unknown_columns_are_refused(tmp_path: Path) -> None:
    scenario = read(tmp_path, pv_puu=PV)
    with pytest.raises(InputError, match=r"a.csv: column 'pv_puu' is no series of the case.*did you mean 'pv_pu'"):
        scenario.check_names(["pv_pu", "load_kw"])
    with pytest.raises(InputError, match="there are none"):
        scenario.check_names([])


@pytest.mark.parametrize("hours", [0, -1.0, np.nan, np.inf, True, "6"])
def test_bad_correlation_times_are_refused(tmp_path: Path, hours) -> None:
    with pytest.raises(InputError, match=f"correlation_hours is {hours!r}, expected a number of hours above 0"):
        ScenarioFile(write(tmp_path / "a.csv", x=PV), HORIZON, hours)


@pytest.mark.parametrize(
    ("forecast", "gate", "message"),
    [
        (PV, 7, "gate is 7, expected at most 6"),
        (PV, 1.0, "gate is 1.0, expected a whole number"),
        (PV[:5], 1, r"series 'pv_pu': the forecast has shape \(5,\), expected \(6,\)"),
    ],
)
def test_bad_questions_are_refused(tmp_path: Path, forecast: np.ndarray, gate, message: str) -> None:
    with pytest.raises(InputError, match=message):
        read(tmp_path, pv_pu=PV).at_gate("pv_pu", forecast, gate)
