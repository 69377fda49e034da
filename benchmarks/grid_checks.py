"""What one network is measured by: its base flow, a run with one community on it, and its DC flows."""

from __future__ import annotations

import contextlib
import copy
import io
import json
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import scipy.sparse as sp
from scipy.sparse.linalg import spsolve

from admm.cli import main as tieline
from benchmarks.matpower_flows import MatpowerFlow
from networks.feeder_model import Feeder
from networks.pandapower_import import transmission_from_pandapower
from networks.sweep import FlowState, Sweep

PERIODS = 3
COMMUNITY_SHARE = 0.05
"""Size of the community's connection as a share of the feeder's load."""
ANY_POWER_MW = 1e4
RESULTS_WITH_LOSSES = ("res_line", "res_trafo", "res_trafo3w", "res_impedance")
CASE = """name = "one"
profiles = ["public.csv"]
[horizon]
start = 2024-01-15T00:00:00Z
periods = {periods}
step_minutes = 60
[[network]]
kind = "distribution"
name = "dso"
source = "{source}"
supply_price_eur_per_mwh = "price"
load_profile = "load_pu"
{sgen}
voltage_min_pu = 0.51
voltage_max_pu = 1.49
current_limit_scale = 1e6
[[agent]]
kind = "community"
name = "homes"
network = "dso"
bus = {bus}
file = "homes.toml"
connection_kw = {size_kw}
"""
HOMES = """import_limit_kw = {size_kw}
export_limit_kw = {size_kw}
[[devices]]
kind = "load"
name = "load"
power_kw = {load_kw}
[[devices]]
kind = "battery"
name = "battery"
capacity_kwh = {size_kw}
charge_kw = {load_kw}
discharge_kw = {load_kw}
"""


@dataclass(frozen=True)
class BaseFlow:
    """Largest difference of a voltage, per unit, and of the power from the source, as a percentage of losses."""

    max_voltage_error_pu: float
    loss_error_percent: float


def base_flow(net: Any, feeder: Feeder, own: MatpowerFlow | None = None) -> BaseFlow:
    """The feeder's flow against pandapower's power flow of the same network, and against MATPOWER's own.

    Args:
        net: the network.
        feeder: what the import made of it.
        own: MATPOWER's own flow of the script that the network comes from; without it none is compared.
    """
    flow = _own_flow(feeder)
    found = np.abs(flow.voltage_pu[0])
    errors = [] if own is None else [_matpower_error(net, feeder, flow, own)]
    try:
        errors.append(_pandapower_error(net, feeder, found, float(flow.root_p_mw[0])))
    except pandapower_failed():
        if own is None:
            raise
    return BaseFlow(max(one.max_voltage_error_pu for one in errors), max(one.loss_error_percent for one in errors))


def pandapower_failed() -> type[Exception]:
    """The error of a power flow that pandapower does not find; it is imported late, as it takes long."""
    import pandapower

    return pandapower.LoadflowNotConverged


def _own_flow(feeder: Feeder) -> FlowState:
    own = feeder.fixed_load(np.ones(1))
    fixed_z = (own["z_load_p_mw"] + 1j * own["z_load_q_mvar"]) * feeder.base_per_nominal**2
    return Sweep(feeder).run(own["load_p_mw"], own["load_q_mvar"], feeder.shunt_mva[None] + fixed_z)


def _pandapower_error(net: Any, feeder: Feeder, found: np.ndarray, drawn_mw: float) -> BaseFlow:
    import pandapower

    work = copy.deepcopy(net)
    pandapower.runpp(work, numba=False, tolerance_mva=1e-10, max_iteration=50)
    expected = work.res_bus["vm_pu"]
    errors = [abs(found[i] - expected[int(name)]) for i, name in enumerate(feeder.nodes) if name.isdigit()]
    losses = sum(work[table]["pl_mw"].sum() for table in RESULTS_WITH_LOSSES if "pl_mw" in work.get(table, ()))
    difference = abs(drawn_mw - work.res_ext_grid["p_mw"].dropna().sum())
    return BaseFlow(float(max(errors)), 100 * difference / max(abs(losses), 1e-9))


def _matpower_error(net: Any, feeder: Feeder, flow: FlowState, own: MatpowerFlow) -> BaseFlow:
    """Lowest and mean voltage, and losses, against MATPOWER's."""
    found = np.abs(flow.voltage_pu[0])
    buses = np.array([found[feeder.node(str(bus))] for bus in net.bus.index if str(bus) not in feeder.left_out])
    voltage = max(abs(buses.min() - own.lowest_vm_pu), abs(buses.mean() - own.mean_vm_pu))
    return BaseFlow(float(voltage), 100 * abs(float(flow.losses_mw[0]) - own.losses_mw) / max(own.losses_mw, 1e-9))


def run_with_a_community(net: Any, path: Path, feeder: Feeder) -> dict[str, Any]:
    """The summary of a run with one community at the feeder's last node, and `exit_code` and `words` beside it."""
    total_mw = float(np.abs(feeder.load_p_mw).sum() + np.abs(feeder.sgen_p_mw).sum())
    size_kw = max(round(1e3 * COMMUNITY_SHARE * total_mw, 3), 1.0)
    bus = [name for name in feeder.nodes[1:] if name.isdigit()][-1]
    with tempfile.TemporaryDirectory() as folder:
        case = Path(folder) / "case"
        case.mkdir()
        source = f"net{path.suffix}"
        (case / source).write_bytes(path.read_bytes())
        sgen = "sgen_profile = 1.0" if np.any(feeder.sgen_p_mw) or np.any(feeder.sgen_q_mvar) else ""
        text = CASE.format(periods=PERIODS, source=source, sgen=sgen, bus=bus, size_kw=size_kw)
        (case / "case.toml").write_text(text, encoding="utf-8")
        (case / "homes.toml").write_text(HOMES.format(size_kw=size_kw, load_kw=size_kw / 2), encoding="utf-8")
        rows = [f"2024-01-15T{t:02}:00Z,{30 + 20 * t},{1 - 0.3 * t}" for t in range(PERIODS)]
        (case / "public.csv").write_text("\n".join(["time_utc,price,load_pu", *rows, ""]), encoding="utf-8")
        out, errors = io.StringIO(), io.StringIO()
        with contextlib.redirect_stdout(out), contextlib.redirect_stderr(errors):
            code = tieline(["run", str(case), "--qp-solver", "piqp", "--out", str(Path(folder) / "out")])
        summary = Path(folder) / "out" / "summary.json"
        found = json.loads(summary.read_text(encoding="utf-8")) if summary.is_file() else {}
        words = errors.getvalue().strip().replace(folder, "").replace("\n", " ")
    return {**found, "exit_code": code, "words": words}


def dc_error_mw(net: Any, own: MatpowerFlow | None = None) -> float:
    """Largest difference between a flow of our DC model and pandapower's rundcpp, at the supply that rundcpp finds.

    own: MATPOWER's own flow of the network; then the mean difference of flows' sizes from it counts, too.
    """
    import pandapower

    work = copy.deepcopy(net)
    for table in ("ext_grid", "gen", "sgen"):  # flows do not depend on what a source could deliver
        for column, limit in (("min_p_mw", -ANY_POWER_MW), ("max_p_mw", ANY_POWER_MW)):
            work[table][column] = work[table][column].fillna(limit) if column in work[table] else limit
    work.pwl_cost.drop(index=work.pwl_cost.index, inplace=True)
    grid = transmission_from_pandapower(work)
    pandapower.rundcpp(work)
    supply = -grid.fixed_mw
    for one in grid.generators:
        table, index = one.name.split()
        supply[grid.bus(one.bus)] += work[f"res_{table}"].loc[int(index), "p_mw"]
    flows = _dc_flows(grid, supply)
    errors = [
        abs(value - flows.get(f"{table} {i}", 0.0))
        for table, column in (("line", "p_from_mw"), ("trafo", "p_hv_mw"), ("impedance", "p_from_mw"))
        for i, value in work[f"res_{table}"][column].dropna().items()
    ]
    errors += [
        abs(abs(value) - abs(flows.get(f"trafo3w {i} {side}", 0.0)))
        for side in ("hv", "mv", "lv")
        for i, value in work.res_trafo3w[f"p_{side}_mw"].dropna().items()
    ]
    if own is not None:
        errors.append(abs(sum(map(abs, flows.values())) - own.dc_flow_sum_mw) / len(flows))
    return float(max(errors))


def _dc_flows(grid: Any, supply: np.ndarray) -> dict[str, float]:
    size, count = len(grid.buses), len(grid.branches)
    ends = np.array([[grid.bus(one.from_bus), grid.bus(one.to_bus)] for one in grid.branches])
    rows = np.concatenate([np.arange(count)] * 2)
    signs = np.repeat([1.0, -1.0], count)
    incidence = sp.csr_array((signs, (rows, ends.T.ravel())), (count, size))
    weight = np.array([one.mw_per_rad for one in grid.branches])
    shift = np.radians([one.shift_degree for one in grid.branches])
    matrix = (incidence.T @ sp.diags_array(weight) @ incidence).tocsc()
    free = np.flatnonzero(np.arange(size) != grid.bus(grid.slack))
    angle = np.zeros(size)
    angle[free] = spsolve(matrix[free][:, free].tocsc(), (supply + incidence.T @ (weight * shift))[free])
    return dict(zip((one.name for one in grid.branches), weight * (incidence @ angle - shift), strict=True))
