"""Writes a user's network so that pandapower can solve it with agents in it, without changing what it says.

*Couplers*, lines of almost no impedance, become closed switches: with them pandapower does not converge. *Loads of
constant impedance* become loads of constant power and shunts: pandapower applies the mean of the loads' shares at a bus
to all power there, that of an agent included.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from networks.feeder_model import LEAST_IMPEDANCE_PU


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
    some = moved != 0
    if not some.any():
        return [], moved[some]
    net.load["p_mw"], net.load["q_mvar"] = p * (1 - p_share), q * (1 - q_share)
    for column in [one for one in load.columns if str(one).startswith("const_z")]:
        net.load[column] = 0.0
    kept = moved[some]
    buses = load["bus"].to_numpy()[some]
    return pandapower.create_shunts(net, buses, q_mvar=kept.imag, p_mw=kept.real), kept
