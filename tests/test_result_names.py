"""Every array of every result file says what its rows and columns are, in the words of the network's own tables."""

from __future__ import annotations

import csv
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import NamedTuple

import h5py
import numpy as np
import pandas as pd
import pytest

from networks.case import load_case
from networks.grids import ELECTRIC, GAS, grid_folder
from tests.case_tools import copy_case

PERIODS = 3
COLUMNS = {"node", "branch", "pipe", "gate"}
KINDS = {"device", "coupling", "generator", "bus", "node", "gate", "scenario"}
VOLTAGE_SQ_PU, FLOW_MW, GAS_MW = 1e-5, 1e-2, 1e-4
"""As exact as flows are that a run does not correct, and the sums of solvers' own tolerances."""


class Ran(NamedTuple):
    """Where a run's case is, with which variant, and its results."""

    name: str
    case: str
    out: Path


def run_of(folder: Path, name: str, variant: str = "") -> Ran:
    """A run of the first hours of a bundled case."""
    made = copy_case(folder, name)
    text = (made / "case.toml").read_text(encoding="utf-8")
    (made / "case.toml").write_text(text.replace("periods = 24", f"periods = {PERIODS}", 1), encoding="utf-8")
    return Ran(name + variant, f"{made}{variant}", folder / "out")


@pytest.fixture(
    scope="module",
    params=[("ieee33-10ec", ""), ("feeder118-gas65", ""), ("feeder118-gas65", ":one-operator")],
    ids=["electric", "hubs", "one operator"],
)
def ran(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Ran:
    from admm.cli import main

    found = run_of(tmp_path_factory.mktemp("names"), *request.param)
    assert main(["run", found.case, "--qp-solver", "piqp", "--out", str(found.out)]) == 0
    return found


def arrays(path: Path) -> dict[str, h5py.Dataset]:
    """All arrays with rows of an open file, by their paths."""
    found: dict[str, h5py.Dataset] = {}
    file = h5py.File(path)
    file.visititems(
        lambda name, item: found.update({name: item}) if isinstance(item, h5py.Dataset) and item.ndim else None
    )
    return found


def result_files(out: Path) -> list[Path]:
    """boundary.h5 and the private results; a run that takes long has checkpoints beside them."""
    private = [path for path in (out / "private").glob("*.h5") if ".checkpoint-" not in path.name]
    return [out / "boundary.h5", *private]


def frame(data: h5py.Dataset) -> pd.DataFrame:
    """As the README reads an array with columns."""
    return pd.DataFrame(data[:], index=pd.to_datetime(data.attrs["time_utc"]), columns=data.attrs[data.dims[1].label])


def table(grid: str, name: str, kind: str = ELECTRIC) -> list[dict[str, str]]:
    with (grid_folder(grid, kind) / f"{name}.csv").open(encoding="utf-8") as file:
        return list(csv.DictReader(file))


def times(case: str) -> list[str]:
    horizon = load_case(case).horizon
    return [f"{horizon.start + k * timedelta(hours=1):%Y-%m-%dT%H:%MZ}" for k in range(PERIODS)]


def test_every_array_has_times_and_names_of_the_right_length(ran: Ran) -> None:
    expected, seen = times(ran.case), set()
    for path in result_files(ran.out):
        for name, data in arrays(path).items():
            where = f"{path.name}: {name}"
            assert data.attrs["unit"], where
            assert data.dims[0].label == "time_utc", where
            assert list(data.attrs["time_utc"]) == expected[: data.shape[0]], where
            if data.ndim == 2:
                kind = data.dims[1].label
                assert kind in COLUMNS and len(data.attrs[kind]) == data.shape[1], where
                assert len(set(data.attrs[kind])) == data.shape[1], where
                seen.add(kind)
            elif path.name != "boundary.h5":
                (kind,) = KINDS & set(data.attrs)
                assert data.attrs[kind] in name, where
    assert {"node", "branch"} <= seen and (("pipe" in seen) == ("gas" in ran.name))


def test_rows_of_the_history_are_iterations(ran: Ran) -> None:
    for data in arrays(ran.out / "history.h5").values():
        assert (data.dims[0].label, data.attrs["rows"]) == ("iteration", "iterations, from 1")


def test_voltages_fall_along_the_branches_by_their_names(ran: Ran) -> None:
    """DistFlow with the ohms of branch.csv: v_to^2 = v_from^2 - 2 (r p + x q) + (r^2 + x^2) i^2."""
    grid = "zhang118" if "feeder118" in ran.name else "ieee33"
    kv = float(table(grid, "bus")[0]["base_kV"])
    file = h5py.File(ran.out / "private" / "dso.h5")["base"]
    voltage, current = frame(file["voltage_pu"]), frame(file["current_pu"])
    p, q = frame(file["branch_p_mw"]), frame(file["branch_q_mvar"])
    assert list(voltage.index) == list(pd.to_datetime(times(ran.case)))
    checked = 0
    for row in table(grid, "branch"):
        name = f"branch {row['branch']}"
        if name not in p.columns:
            assert row["tie"] == "1"
            continue
        r, x = float(row["r_ohm"]) / kv**2, float(row["x_ohm"]) / kv**2
        fall = 2 * (r * p[name] + x * q[name]) - (r**2 + x**2) * current[name] ** 2
        squared = (voltage[row["from_bus"]] ** 2 - fall).to_numpy()
        assert voltage[row["to_bus"]].to_numpy() ** 2 == pytest.approx(squared, abs=VOLTAGE_SQ_PU), name
        checked += 1
    assert checked == p.shape[1]


def test_flows_of_the_transmission_grid_balance_at_every_bus_by_name(ran: Ran) -> None:
    if ran.name != "ieee33-10ec":
        pytest.skip("a case without a transmission grid")
    case, file = load_case(ran.case), h5py.File(ran.out / "private" / "tso.h5")
    (feeder,), grid = case.folder.supplied, table("ieee57", "bus")
    flow = frame(file["network/branch_flow_mw"])
    surplus = {row["bus"]: np.zeros(PERIODS) for row in grid}
    for row in table("ieee57", "branch"):
        surplus[row["from_bus"]] -= flow[f"branch {row['branch']}"].to_numpy()
        surplus[row["to_bus"]] += flow[f"branch {row['branch']}"].to_numpy()
    owner = {f"generator {row['gen']}": row["bus"] for row in table("ieee57", "gen")}
    for group in file.values():
        if isinstance(group, h5py.Group) and "generator" in group.get("p_mw", group).attrs:
            surplus[owner[group["p_mw"].attrs["generator"]]] += group["p_mw"][:]
    load_pu = case.profiles.series("transmission_load_pu") * case.folder.transmission[0].load_scale
    for row in grid:
        if row["bus"] != str(feeder.upstream_bus):
            expected = float(row["Pd_MW"]) * load_pu
        else:
            expected = feeder.feeders * file["dso-tso/p_mw"][:]
        assert surplus[row["bus"]] == pytest.approx(expected, abs=FLOW_MW), row["bus"]


def test_gas_balances_at_every_node_by_name(ran: Ran) -> None:
    if "gas" not in ran.name:
        pytest.skip("a case without gas")
    case, file = load_case(ran.case), h5py.File(ran.out / "private" / ("gas.h5" if ":" not in ran.name else "dso.h5"))
    model = case.gas_model(case.folder.gas[0])
    pipe, gate = frame(file["gas/pipe_flow_mw"]), frame(file["gas/gate_flow_mw"])
    surplus = {row["node"]: np.zeros(PERIODS) for row in table("gas65", "node", GAS)}
    for row in table("gas65", "pipe", GAS):
        surplus[row["from_node"]] -= pipe[f"pipe {row['pipe']}"].to_numpy()
        surplus[row["to_node"]] += pipe[f"pipe {row['pipe']}"].to_numpy()
    for row in table("gas65", "gate", GAS):
        surplus[row["node"]] += gate[row["gate"]].to_numpy()
    for hub in case.folder.gas_hubs:
        name = f"{hub.name}-{case.gas_operator('gas')}"
        assert file[f"{name}/gas_mw"].attrs["coupling"] == name
        surplus[str(hub.gas_node)] -= file[f"{name}/gas_mw"][:]
    for node, demand in zip(model.grid.nodes, model.demand_mw.T, strict=True):
        assert surplus[node.name] == pytest.approx(demand, abs=GAS_MW), node.name
    pressure = frame(file["gas/pressure_bar_g"])
    for row in table("gas65", "node", GAS):
        assert pressure[row["node"]].between(float(row["p_min_bar_g"]) - 1e-3, float(row["p_max_bar_g"]) + 1e-3).all()


def test_files_are_the_same_to_the_byte_whenever_they_are_written(ran: Ran, tmp_path: Path) -> None:
    from admm.cli import main

    if ran.name != "ieee33-10ec":
        pytest.skip("one case shows it")
    assert main(["run", ran.case, "--qp-solver", "piqp", "--out", str(tmp_path / "again")]) == 0
    for path in result_files(ran.out):
        assert path.read_bytes() == (tmp_path / "again" / path.relative_to(ran.out)).read_bytes(), path.name


def test_names_of_thousands_of_nodes_fit(tmp_path: Path) -> None:
    from admm.history import write_private
    from admm.interfaces import Names

    names = tuple(f"Ortsnetzstation Müllerstraße {k}" for k in range(9000))
    values = {"base.voltage_pu": np.ones((2, 9000)), "base.losses_mw": np.ones(2)}
    units = {"base.voltage_pu": "pu", "base.losses_mw": "MW"}
    stamps = [f"{datetime(2024, 1, 1, k, tzinfo=UTC):%Y-%m-%dT%H:%MZ}" for k in range(2)]
    write_private(tmp_path / "a.h5", values, units, None, stamps, {"base.voltage_pu": Names("node", names)})
    with h5py.File(tmp_path / "a.h5") as file:
        assert tuple(file["base/voltage_pu"].attrs["node"]) == names
        assert list(file["base/losses_mw"].attrs["time_utc"]) == stamps
