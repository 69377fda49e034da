"""Small cases whose feeder has one property that the import must not miss, through the command line."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import h5py
import numpy as np
import pandapower as pp
import pytest

from networks.case_file import CASE_FILE
from tests.case_tools import edit, tieline
from tests.feeder_nets import KINDS, coupler
from tests.tolerances import FLOW_PU

SMALL = Path(__file__).parent / "data" / "failing"
KEY = "pandapower_runpp_vm_pu_with_5_kW_at_bus"


def run(name, to, capsys):
    ended = tieline(capsys, "run", SMALL / name, "--out", to / "out")
    assert "Traceback" not in ended.errors and "Warning" not in ended.errors
    return ended


def voltages(out):
    with h5py.File(out / "private" / "dso.h5") as file:
        return np.asarray(file["base/voltage_pu"])


@pytest.mark.parametrize(
    "name", ["cable_charging", "isolated_bus", "parallel_lines", "parallel_transformers", "tap_changer_type_none"]
)
def test_voltages_are_those_of_pandapower(name, tmp_path, capsys):
    ended = run(name, tmp_path, capsys)
    assert ended.code == 0, ended.errors
    expected = json.loads((SMALL / name / "expected.json").read_text())[KEY]
    for found in voltages(tmp_path / "out"):
        assert found == pytest.approx([one for one in expected.values() if one is not None], abs=FLOW_PU)


def test_an_isolated_bus_and_an_ignored_tap_are_noted(tmp_path, capsys):
    for name, words in (
        ("isolated_bus", "network 'dso': bus 3 is not connected with the ext_grid: left out, as in pandapower"),
        (
            "tap_changer_type_none",
            "trafo 0 (tap_pos 3): tap_changer_type is empty, so tap_pos has no effect",
        ),
        ("parallel_lines", "are parallel: they are one branch"),
    ):
        assert words in tieline(capsys, "check", SMALL / name).out


def test_a_bus_coupler_of_almost_no_impedance_passes_the_check_of_the_flow(tmp_path, capsys):
    ended = run("near_zero_branch", tmp_path, capsys)
    summary = json.loads((tmp_path / "out" / "summary.json").read_text())
    assert ended.code == 0 and summary["ac_passed"] and summary["user_net_max_voltage_error_pu"] < FLOW_PU
    found = voltages(tmp_path / "out")
    assert found[:, 1] == pytest.approx(found[:, 2], abs=1e-9)


def test_limits_hold_per_unit_of_the_bus_whatever_the_tap_is(tmp_path, capsys):
    """The tap leaves 0.932 of 20 kV at bus 2; the band is 0.95 to 1.05."""
    ended = run("tap_voltage_limits", tmp_path, capsys)
    assert ended.code == 4 and "0.95" in ended.errors + ended.out


@pytest.mark.parametrize(
    ("name", "words"),
    [("line_length_nan", "line 0: length_km is empty"), ("load_nan", "load 0: p_mw is empty")],
)
def test_an_empty_cell_is_refused_in_one_line(name, words, tmp_path, capsys):
    ended = run(name, tmp_path, capsys)
    assert ended.code == 2 and ended.errors.count("\n") == 1 and not (tmp_path / "out").exists()
    assert all(part in ended.errors for part in ("case.toml", "network 'dso'", words, "expected a number"))


@pytest.mark.parametrize("kind", ["constant impedance", "coupler"])
def test_a_run_agrees_with_the_users_network_where_pandapower_needs_it_written_another_way(kind, tmp_path, capsys):
    """The load follows a profile of 0.8, and its share of constant impedance with it."""
    case = Path(shutil.copytree(SMALL / "cable_charging", tmp_path / "case"))
    edit(CASE_FILE, "bus = 2", "bus = 3")(case)
    edit(CASE_FILE, "load_profile = 1", 'load_profile = "load_pu"')(case)
    pp.to_json(coupler() if kind == "coupler" else KINDS[kind](), str(case / "feeder.json"))
    ended = tieline(capsys, "run", case, "--out", tmp_path / "out")
    summary = json.loads((tmp_path / "out" / "summary.json").read_text())
    assert ended.code == 0 and summary["ac_passed"]
    assert summary["user_net_max_voltage_error_pu"] < 1e-8 and summary["user_net_max_loading_error"] < 1e-8
