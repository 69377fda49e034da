"""What happened on the main case's feeder, solved anew by pandapower from the files of a day on the market.

The network is made from the published table of branches, a power flow a period, and shares no code with the checks of
the market. The operator's reactive set points are needed for the right flows: without them other branches are
overloaded, so both are told.
"""

from __future__ import annotations

import csv
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pandas as pd

from networks.case import Case
from networks.grids import grid_folder
from networks.market.uncertainty import Uncertainty

CASE_FEEDER, KV, ROOT = "ieee33", 12.66, "1"
TOLERANCE = 1e-3
"""Share of a rating; what a run leaves open is no overload."""


def overloads(case: Case, day: Path, draw: int) -> dict[str, Any]:
    """Count branches and periods beyond their rating, and find the worst, with reactive support and without.

    Args:
        case: the main case.
        day: the market's output folder.
        draw: the draw that it was made with.
    """
    (operator,) = case.folder.distribution
    loads = _consumption(case, day, draw)
    with h5py.File(day / "intra-day" / "private" / f"{operator.name}.h5") as file:
        support = {str(one.bus): file[f"reactive support {one.bus}/q_mvar"][:] for one in operator.reactive_support}
    found: dict[str, Any] = {}
    for name, q_mvar in (("anew", support), ("without_support", {})):
        loading = branch_loading(operator, loads, q_mvar)
        found[f"overloads_{name}"] = int((loading > 1 + TOLERANCE).sum())
        found[f"worst_loading_{name}"] = float(loading.max())
    return found


def _consumption(case: Case, day: Path, draw: int) -> dict[str, np.ndarray]:
    """Add up what came of loads and what communities really drew, (T,) complex MVA by bus."""
    (operator,), periods = case.folder.distribution, case.horizon.periods
    series = Uncertainty(case.table.market).knowledge(case, draw).series
    model = case.distribution_model(operator, lambda name, values: series.at_gate(name, values, periods))
    load = model.load_p_mw + 1j * model.load_q_mvar
    found = {node: load[:, at] for at, node in enumerate(model.feeder.nodes)}
    positions = pd.read_csv(day / "settlement" / "positions.csv")
    power = positions[positions.quantity == "p_mw"].groupby("coupling").realised_mw
    for agent in case.table.agent:
        drawn = power.get_group(f"{agent.name}-{operator.name}").to_numpy()
        found[str(agent.bus)] = found[str(agent.bus)] + drawn * (1 + 1j * np.tan(np.arccos(agent.power_factor)))
    return found


def branch_loading(operator: Any, loads: dict[str, np.ndarray], support_mvar: dict[str, np.ndarray]) -> np.ndarray:
    """Solve every period; currents over ratings, (T, branches) in the order of the table.

    Args:
        operator: the case's table of it.
        loads: (T,) complex MVA by bus.
        support_mvar: (T,) by bus, consumption positive.
    """
    import pandapower

    with (grid_folder(CASE_FEEDER) / "branch.csv").open(encoding="utf-8", newline="") as file:
        branches = [row for row in csv.DictReader(file) if row["tie"] == "0"]
    net = pandapower.create_empty_network()
    buses = {name: pandapower.create_bus(net, KV) for name in loads}
    pandapower.create_ext_grid(net, buses[ROOT], vm_pu=operator.slack_voltage_pu)
    for row in branches:
        ends, ohm = (buses[row["from_bus"]], buses[row["to_bus"]]), (float(row["r_ohm"]), float(row["x_ohm"]))
        rating_ka = operator.current_limit_scale * float(row["I_max_A"]) / 1000
        pandapower.create_line_from_parameters(net, *ends, 1.0, *ohm, c_nf_per_km=0.0, max_i_ka=rating_ka)
    at = {name: pandapower.create_load(net, bus, 0.0, 0.0) for name, bus in buses.items()}
    found = []
    for period in range(len(loads[ROOT])):
        for name, drawn in loads.items():
            q_mvar = drawn[period].imag + (support_mvar[name][period] if name in support_mvar else 0.0)
            net.load.loc[at[name], ["p_mw", "q_mvar"]] = drawn[period].real, q_mvar
        pandapower.runpp(net, numba=False)
        found.append(net.res_line.loading_percent.to_numpy() / 100)
    return np.array(found)
