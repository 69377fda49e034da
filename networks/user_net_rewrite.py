"""Writes a user's network so that pandapower can solve it with agents in it, without changing what it says.

*Couplers*, lines of almost no impedance, become closed switches: with them pandapower does not converge. *Loads of
constant impedance* become loads of constant power and shunts: pandapower applies the mean of the loads' shares at a bus
to all power there, that of an agent included. *Types*: the import reads numbers that are text, pandapower does not.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from networks.feeder_model import LEAST_IMPEDANCE_PU
from networks.pandapower_circuit import AT_BUS, ENDS, FLAGS, TEXTS
from networks.pandapower_columns import is_empty
from networks.pandapower_powers import loads_depend_on_voltage
from networks.pandapower_refusals import other_tables

BUS_COLUMNS = {"bus", "element", *(column for columns in ENDS.values() for column in columns)}


SHARES = tuple(f"const_{law}_{of}_percent" for law in "zi" for of in "pq")
OLD_SHARES = ("const_z_percent", "const_i_percent")
"""Columns before pandapower 3, without which it does not solve new loads."""


OPTIONS = ("trafo_model", "switch_rx_ratio", "voltage_depend_loads", "algorithm", "max_iteration")
"""Stored options of a power flow that hold in the check, too."""


def without_idle_rows(net: Any) -> None:
    """Leave out what is out of service at a bus, or is not of a feeder: pandapower calculates with it all the same."""
    for name in (*AT_BUS, *other_tables(net)):
        if len(net[name]):
            net[name] = net[name][net[name]["in_service"].astype(bool)]


def with_types(net: Any) -> None:
    """Give columns of numbers and of flags that hold text or objects the types that pandapower calculates with."""
    import pandas

    for name, table in net.items():
        if not isinstance(table, pandas.DataFrame) or name.startswith(("_", "res_")) or not len(table):
            continue
        for column in [one for one in table.columns if table[one].dtype == object and one not in TEXTS]:
            numbers = pandas.to_numeric(table[column], errors="coerce")
            text = [not is_empty(cell) for cell in table[column]] & numbers.isna()
            if column in FLAGS or column == "closed":
                table[column] = [not is_empty(cell) and bool(cell) for cell in table[column]]
            elif not text.any():
                table[column] = numbers
        for column in [one for one in BUS_COLUMNS if one in table and table[one].dtype.kind == "f"]:
            if table[column].notna().all():
                table[column] = table[column].astype(np.int64)


def without_other_options(net: Any) -> None:
    """Leave out stored options that set how exact results are, or which there are."""
    options = net.get("user_pf_options") or {}
    net["user_pf_options"] = {key: options[key] for key in OPTIONS if key in options}


def couplers_as_switches(net: Any) -> None:
    """Replace lines and switches whose impedance is below LEAST_IMPEDANCE_PU by switches without any."""
    import pandapower

    kv = net.bus["vn_kv"]
    for index, line in net.line[net.line["in_service"].astype(bool)].iterrows():
        ohm = np.hypot(line["r_ohm_per_km"], line["x_ohm_per_km"]) * line["length_km"] / line["parallel"]
        at_line = net.switch[(net.switch["et"] == "l") & (net.switch["element"] == index)]
        if ohm < LEAST_IMPEDANCE_PU * kv[line["from_bus"]] ** 2 and at_line["closed"].all():
            net.switch = net.switch.drop(at_line.index)
            net.line = net.line.drop(index)
            pandapower.create_switch(net, line["from_bus"], line["to_bus"], "b", closed=True)
    small = (net.switch["et"] == "b") & (net.switch["z_ohm"] < LEAST_IMPEDANCE_PU * net.switch["bus"].map(kv) ** 2)
    net.switch.loc[small, "z_ohm"] = 0.0


def shares_as_shunts(net: Any) -> tuple[Any, np.ndarray]:
    """Move the loads' shares of constant impedance into shunts.

    Returns:
        The index of those shunts, and what they consume at 1 pu and full load, complex, MVA.
    """
    import pandapower

    load = net.load
    shares = [load.get(f"const_z_{key}_percent", load.get("const_z_percent", 0.0)) for key in "pq"]
    p_share, q_share = (np.broadcast_to(np.asarray(one, dtype=float), len(load)) / 100 for one in shares)
    full = load["scaling"].to_numpy(dtype=float) * load["in_service"].to_numpy(dtype=bool)
    p, q = load["p_mw"].to_numpy(dtype=float), load["q_mvar"].to_numpy(dtype=float)
    moved = full * (p * p_share + 1j * q * q_share)
    some = (moved != 0) & loads_depend_on_voltage(net)
    net.load = load.drop(columns=[one for one in OLD_SHARES if one in load]).assign(**dict.fromkeys(SHARES, 0.0))
    if not some.any():
        return [], moved[some]
    net.load["p_mw"], net.load["q_mvar"] = p * (1 - p_share), q * (1 - q_share)
    kept = moved[some]
    buses = load["bus"].to_numpy()[some]
    return pandapower.create_shunts(net, buses, q_mvar=kept.imag, p_mw=kept.real), kept
