"""The optimum of a case with admittances, ratios and parallel branches, by IPOPT on the exact equations."""

from __future__ import annotations

import shutil
from pathlib import Path

import pandapower as pp
import pytest

from benchmarks.nonlinear import nonlinear_optimum
from networks.case import load_case
from networks.case_file import CASE_FILE
from networks.centralised import solve_centralised
from tests.case_tools import edit
from tests.feeder_nets import KINDS
from tests.tolerances import NONLINEAR_SHARE

SMALL = Path(__file__).parent / "data" / "failing" / "cable_charging"
SOLAR = """import_limit_kw = 9000.0
export_limit_kw = 9000.0
[[devices]]
kind = "pv"
name = "pv"
installed_kw = 9000.0
available_pu = 0.9
[[devices]]
kind = "battery"
name = "battery"
capacity_kwh = 800
charge_kw = 400
discharge_kw = 400
charge_efficiency = 0.95
discharge_efficiency = 0.95
initial_share = 0.3
"""


@pytest.mark.parametrize(
    ("kind", "change"),
    [
        ("charging", {}),
        ("parallel lines", {}),
        ("constant impedance", {"max_i_ka": 1e5, "max_vm_pu": 1.05}),
        ("three windings", {"max_i_ka": 1e5, "max_vm_pu": 1.05}),
    ],
)
def test_a_limit_that_binds_costs_what_the_exact_equations_say(kind, change, tmp_path):
    """More sun than the feeder carries: the schedule is at its current limit or at its voltage limit."""
    pytest.importorskip("casadi")
    net = KINDS[kind]()
    net.line["max_i_ka"] = change.get("max_i_ka", 0.12 if kind == "parallel lines" else 0.2)
    net.bus["max_vm_pu"] = change.get("max_vm_pu", 1.2)
    case = Path(shutil.copytree(SMALL, tmp_path / "case"))
    edit(CASE_FILE, "voltage_min_pu = 0.85\nvoltage_max_pu = 1.15\n", "")(case)
    edit(CASE_FILE, "bus = 2", "bus = 3")(case)
    edit(CASE_FILE, "connection_kw = 50.0", "connection_kw = 9000.0")(case)
    pp.to_json(net, str(case / "feeder.json"))
    (case / "agents" / "a1.toml").write_text(SOLAR)
    loaded = load_case(str(case))
    exact = nonlinear_optimum(loaded).cost_eur
    solution = solve_centralised(loaded).solution
    assert solution.objective_eur == pytest.approx(exact, rel=NONLINEAR_SHARE)
    assert exact > -0.9 * 9.0 * (50 + 54.9) * 0.95  # less than could be sold without the limit
