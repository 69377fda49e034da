"""The independent check: pandapower's AC power flow of every period, in one call.

The feeder is copied once a period, each copy an island of one network with its own external grid, so the
Newton-Raphson solver runs once instead of T times.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from admm import InputError
from networks.feeder import BASE_MVA, Feeder

NOMINAL_KV = 10.0
"""Any voltage serves: the network is made from per-unit values and read back in per unit."""


@dataclass(frozen=True)
class AcFlow:
    """voltage_pu: (T, n) magnitudes. losses_mw: (T,). current_pu: (T, n - 1) on the 1 MVA base.

    root_p_mw, root_q_mvar: (T,) drawn from upstream.
    """

    voltage_pu: np.ndarray
    losses_mw: np.ndarray
    current_pu: np.ndarray
    root_p_mw: np.ndarray
    root_q_mvar: np.ndarray


@dataclass(frozen=True)
class AcCheck:
    """How far a schedule's own flows are from the AC power flow of what it consumes.

    max_voltage_error_pu: over nodes and periods. max_loss_error: share of the period's losses, but at
    least of a hundredth of the largest period's. total_loss_error: share of the horizon's losses.
    """

    max_voltage_error_pu: float
    max_loss_error: float
    total_loss_error: float


def ac_flow(feeder: Feeder, p_mw: np.ndarray, q_mvar: np.ndarray) -> AcFlow:
    """The AC power flow of consumption p_mw, q_mvar, both (T, n), by pandapower."""
    import pandapower

    periods, nodes = np.shape(p_mw)
    if nodes != len(feeder.nodes) or np.shape(q_mvar) != (periods, nodes):
        raise InputError(
            f"feeder '{feeder.name}': consumption has shape {np.shape(p_mw)}, expected (periods, {len(feeder.nodes)})"
        )
    net = _islands(feeder, np.asarray(p_mw, dtype=float), np.asarray(q_mvar, dtype=float))
    try:
        pandapower.runpp(net, numba=False, init="flat", tolerance_mva=1e-9, max_iteration=50)
    except pandapower.LoadflowNotConverged:
        raise InputError(
            f"feeder '{feeder.name}': there is no AC power flow for this consumption "
            f"(peak {np.sum(p_mw, axis=1).max():.3g} MW): the load is beyond what the feeder can carry"
        ) from None
    lines, root = net.res_line, net.res_ext_grid
    return AcFlow(
        voltage_pu=net.res_bus["vm_pu"].to_numpy().reshape(periods, nodes),
        losses_mw=lines["pl_mw"].to_numpy().reshape(periods, nodes - 1).sum(axis=1),
        current_pu=np.sqrt(3.0) * NOMINAL_KV * lines["i_ka"].to_numpy().reshape(periods, nodes - 1) / BASE_MVA,
        root_p_mw=root["p_mw"].to_numpy(),
        root_q_mvar=root["q_mvar"].to_numpy(),
    )


def _islands(feeder: Feeder, p_mw: np.ndarray, q_mvar: np.ndarray) -> Any:
    import pandapower

    periods, nodes = p_mw.shape
    ohm = NOMINAL_KV**2
    first = np.arange(periods)[:, None] * nodes
    net = pandapower.create_empty_network(sn_mva=BASE_MVA)
    buses = pandapower.create_buses(net, periods * nodes, vn_kv=NOMINAL_KV)
    for period in range(periods):
        pandapower.create_ext_grid(net, buses[period * nodes], vm_pu=feeder.slack_voltage_pu)
    pandapower.create_loads(net, buses, p_mw=p_mw.ravel(), q_mvar=q_mvar.ravel())
    pandapower.create_lines_from_parameters(
        net,
        (first + feeder.parent[None, :]).ravel(),
        (first + np.arange(1, nodes)[None, :]).ravel(),
        length_km=1.0,
        r_ohm_per_km=np.tile(feeder.r_pu * ohm, periods),
        x_ohm_per_km=np.tile(feeder.x_pu * ohm, periods),
        c_nf_per_km=0.0,
        max_i_ka=1.0,
    )
    return net


def check_ac(
    feeder: Feeder, p_mw: np.ndarray, q_mvar: np.ndarray, voltage_pu: np.ndarray, losses_mw: np.ndarray
) -> AcCheck:
    """The operator's own voltages (T, n) and losses (T,) against pandapower's for consumption (T, n)."""
    flow = ac_flow(feeder, p_mw, q_mvar)
    off = np.abs(np.asarray(losses_mw) - flow.losses_mw)
    tiny = np.finfo(float).tiny
    floor = max(0.01 * float(flow.losses_mw.max()), tiny)
    return AcCheck(
        max_voltage_error_pu=float(np.abs(np.asarray(voltage_pu) - flow.voltage_pu).max()),
        max_loss_error=float((off / np.maximum(flow.losses_mw, floor)).max()),
        total_loss_error=float(abs(np.sum(losses_mw) - flow.losses_mw.sum()) / max(flow.losses_mw.sum(), tiny)),
    )
