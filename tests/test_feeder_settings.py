"""What the source of a feeder says holds; a key of the case file overrides it, and a line of output says so."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path

import h5py
import numpy as np
import pytest

from networks.case import load_case
from networks.case_file import CASE_FILE
from networks.feeder_settings import with_settings
from tests.case_tools import copy_case, edit, own_feeder, tieline
from tests.tolerances import FLOW_PU

SMALL = Path(__file__).parent / "data" / "failing"


def small_case(name: str, to: Path, *lines: str) -> Path:
    """A copy of a small case, with further lines in the table of its network."""
    folder = Path(shutil.copytree(SMALL / name, to / name))
    edit(CASE_FILE, "load_profile = ", "\n".join([*lines, "load_profile = "]))(folder)
    return folder


def test_the_voltage_of_the_external_grid_is_that_of_the_root(tmp_path, capsys) -> None:
    case = small_case("ext_grid_vm_ignored", tmp_path)
    ended = tieline(capsys, "run", case, "--out", tmp_path / "out")
    assert ended.code == 0 and "slack_voltage_pu" not in ended.out
    with h5py.File(tmp_path / "out" / "private" / "dso.h5") as file:
        found = np.asarray(file["base.voltage_pu"] if "base.voltage_pu" in file else file["base/voltage_pu"])
    expected = json.loads((case / "expected.json").read_text())["pandapower_runpp_vm_pu_with_5_kW_at_bus"]
    assert found[0] == pytest.approx([expected[bus] for bus in ("0", "1", "2")], abs=FLOW_PU)


def test_a_slack_voltage_of_the_case_file_overrides_the_file_and_a_line_says_so(tmp_path, capsys) -> None:
    case = small_case("ext_grid_vm_ignored", tmp_path, "slack_voltage_pu = 1.02")
    words = "network 'dso': slack_voltage_pu = 1.02 overrides the source's 1.04"
    for command, options in (
        ("check", ()),
        ("run", ("--out", tmp_path / "a")),
        ("centralised", ("--out", tmp_path / "b")),
    ):
        assert words in tieline(capsys, command, case, *options).out
    for out in ("a", "b"):
        assert json.loads((tmp_path / out / "summary.json").read_text())["notes"] == words
    assert load_case(str(case)).feeders["dso"].slack_voltage_pu == 1.02


def test_limits_of_the_buses_hold_where_the_case_file_has_none(tmp_path, capsys) -> None:
    """The file's 0.99 pu is broken by the feeder's own load, which leaves 0.976 pu at bus 2."""
    case = small_case("bus_limits_ignored", tmp_path)
    feeder = load_case(str(case)).feeders["dso"]
    assert feeder.v_min_pu[1:] == pytest.approx(0.99) and feeder.v_max_pu[1:] == pytest.approx(1.02)
    ended = tieline(capsys, "centralised", case, "--out", tmp_path / "out")
    assert ended.code == 4 and "voltage" in ended.errors and "2" in ended.errors


def test_one_limit_of_the_case_file_leaves_the_other_one_as_in_the_file(tmp_path, capsys) -> None:
    case = small_case("bus_limits_ignored", tmp_path, "voltage_min_pu = 0.95")
    feeder = load_case(str(case)).feeders["dso"]
    assert feeder.v_min_pu[1:] == pytest.approx(0.95) and feeder.v_max_pu[1:] == pytest.approx(1.02)
    ended = tieline(capsys, "run", case, "--out", tmp_path / "out")
    assert ended.code == 0 and "voltage_min_pu = 0.95 overrides the source's 0.99" in ended.out


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ("voltage_min_pu = 1.03", ("voltage_min_pu is 1.03", "below", "1.02 at bus", "give voltage_max_pu, too")),
        ("voltage_max_pu = 0.98", ("voltage_max_pu is 0.98", "above", "0.99 at bus", "give voltage_min_pu, too")),
    ],
)
def test_a_limit_that_crosses_the_other_one_of_the_file_is_refused(line, words, tmp_path, capsys) -> None:
    ended = tieline(capsys, "check", small_case("bus_limits_ignored", tmp_path, line))
    assert ended.code == 2 and ended.errors.count("\n") == 1
    assert all(word in ended.errors for word in ("case.toml", "network 'dso'", *words))


def test_where_the_file_states_no_limits_the_default_is_named(tmp_path, capsys) -> None:
    case = small_case("ext_grid_vm_ignored", tmp_path)
    edit(CASE_FILE, "voltage_min_pu = 0.85\nvoltage_max_pu = 1.15\n", "")(case)
    ended = tieline(capsys, "check", case)
    assert ended.code == 0
    assert "the source states no lower voltage limit: 0.95 pu is taken" in ended.out
    assert "the source states no upper voltage limit: 1.05 pu is taken" in ended.out


def test_limits_and_ratings_of_a_csv_feeder_hold_bus_by_bus(tmp_path) -> None:
    case = copy_case(tmp_path)
    lower = edit("feeder/bus.csv", "2,PQ,12.66,100.0,60.0,0.9,", "2,PQ,12.66,100.0,60.0,0.93,")
    own_feeder(lower)(case)
    edit(CASE_FILE, "voltage_min_pu = 0.95\nvoltage_max_pu = 1.05\n", "")(case)
    edit(CASE_FILE, "current_limit_scale = 0.5\n", "")(case)
    loaded = load_case(str(case))
    feeder = loaded.feeders["dso"]
    assert feeder.v_min_pu[1:3] == pytest.approx([0.93, 0.9]) and feeder.v_max_pu[1:] == pytest.approx(1.1)
    assert feeder.i_max_pu[0] == pytest.approx(np.sqrt(3) * 12.66 * 315 / 1e3)
    assert loaded.notes == ()


def test_a_scale_of_current_limits_that_are_not_there_is_named(tmp_path) -> None:
    case = load_case(str(small_case("ext_grid_vm_ignored", tmp_path, "current_limit_scale = 0.5")))
    unrated = replace(case.feeders["dso"], i_max_pu=np.full(2, np.inf))
    _, words = with_settings(unrated, case.folder.distribution[0], has_slack_voltage=True)
    assert words == "current_limit_scale = 0.5 changes nothing, as no branch of the source has a rating"
