"""Cases that are right and were refused, and cases that are wrong and are told so in numbers."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pandapower as pp
import pytest

from networks.case_file import CASE_FILE
from tests.case_tools import edit, tieline
from tests.feeder_nets import KINDS

CASES = Path(__file__).parent / "data" / "failing"


@pytest.fixture
def case(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    """A copy of the small case of that name."""
    return Path(shutil.copytree(CASES / request.param, tmp_path / "case"))


@pytest.mark.parametrize("case", ["unused_text_column"], indirect=True)
def test_a_column_of_text_that_nobody_names_is_ignored(case: Path, capsys) -> None:
    assert tieline(capsys, "check", case).code == 0


@pytest.mark.parametrize("case", ["unused_text_column"], indirect=True)
def test_a_column_of_text_that_is_named_is_refused(case: Path, capsys) -> None:
    path = case / "case.toml"
    path.write_text(path.read_text().replace('load_profile = "load_pu"', 'load_profile = "sky"'))
    ended = tieline(capsys, "check", case)
    assert ended.code == 2
    words = ("network 'dso'", "load_profile: ", "public.csv: line 2: sky is 'sunny', expected a finite number")
    assert all(part in ended.errors for part in words), ended.errors


def test_one_bus_and_nodes_that_are_no_bus_are_named_as_such(tmp_path: Path, capsys) -> None:
    """A long open cable has its highest voltage at its open end; one bus states no limits."""
    case = Path(shutil.copytree(CASES / "cable_charging", tmp_path / "case"))
    edit(CASE_FILE, "voltage_min_pu = 0.85", "")(case)
    net = KINDS["plain"]()
    pp.create_line_from_parameters(net, 3, 1, 30.0, 0.3, 0.2, 900.0, 0.2)
    pp.create_switch(net, 1, 2, "l", closed=False)
    net.bus.loc[2, "min_vm_pu"] = np.nan
    net.load["scaling"] = 0.0
    pp.to_json(net, str(case / "feeder.json"))
    ended = tieline(capsys, "check", case)
    assert "the source at 1 bus states no lower voltage limit" in ended.out, ended
    assert "pu at line 2 open end (period 0)" in ended.out, ended.out
