"""The independent check: pandapower's AC power flow of every period, in one call.

The feeder is copied once a period, each copy an island of one network with its own external grid, so the
Newton-Raphson solver runs once instead of T times.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from admm import InputError
from networks.feeder_model import BASE_MVA, Feeder

NOMINAL_KV = 10.0
"""Any voltage serves: the network is made from per-unit values and read back in per unit."""
ROUNDING = 2e-15
"""Some steps of double precision at 1 pu."""


@dataclass(frozen=True)
class AcFlow:
    """voltage_pu: (T, n) magnitudes per unit of nominal_kv. losses_mw: (T,) of branches, no-load losses included.

    current_pu: (T, n - 1), the largest rated current on the 1 MVA base. root_p_mw, root_q_mvar: (T,) drawn from
    upstream.
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


def ac_flow(feeder: Feeder, p_mw: np.ndarray, q_mvar: np.ndarray, shunt_mva: np.ndarray | None = None) -> AcFlow:
    """The AC power flow of consumption p_mw, q_mvar, both (T, n), by pandapower. shunt_mva: as in `Sweep.run`."""
    import pandapower

    periods, nodes = np.shape(p_mw)
    if nodes != len(feeder.nodes) or np.shape(q_mvar) != (periods, nodes):
        raise InputError(
            f"feeder '{feeder.name}': consumption has shape {np.shape(p_mw)}, expected (periods, {len(feeder.nodes)})"
        )
    power = np.asarray(p_mw, dtype=float) + 1j * np.asarray(q_mvar, dtype=float)
    shunt = np.broadcast_to(feeder.shunt_mva if shunt_mva is None else shunt_mva, power.shape)
    admittance = shunt + feeder.branch_shunt_mva
    net = _islands(feeder, power, admittance)
    try:
        pandapower.runpp(net, numba=False, init="flat", tolerance_mva=_tolerance_mva(feeder), max_iteration=50)
    except pandapower.LoadflowNotConverged:
        raise InputError(
            f"feeder '{feeder.name}': there is no AC power flow for this consumption "
            f"(peak {np.sum(p_mw, axis=1).max():.3g} MW): the load is beyond what the feeder can carry"
        ) from None
    v_sq = net.res_bus["vm_pu"].to_numpy().reshape(periods, nodes) ** 2
    drawn = power + admittance * v_sq
    sent, received = _branch_flows(feeder, net, drawn)
    root = sent[:, feeder.parent == 0].sum(axis=1) + drawn[:, 0]
    return AcFlow(
        voltage_pu=np.sqrt(v_sq) * feeder.base_per_nominal,
        losses_mw=(sent - received).real.sum(axis=1) + v_sq @ feeder.branch_shunt_mva.real,
        current_pu=feeder.currents.largest_pu(sent, received, v_sq[:, feeder.parent], v_sq[:, 1:]),
        root_p_mw=root.real,
        root_q_mvar=root.imag,
    )


def _tolerance_mva(feeder: Feeder) -> float:
    """1e-9 MVA, or what rounding leaves of powers across the smallest impedance."""
    impedance = np.hypot(feeder.r_pu, feeder.x_pu)
    smallest = float(impedance[impedance > 0].min(initial=1.0))
    return max(1e-9, ROUNDING / smallest)


def _branch_flows(feeder: Feeder, net: Any, drawn: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Flows into and out of every branch's impedance, (T, n - 1) complex: pandapower's, and sums across couplers.

    drawn: (T, n) complex, by all that is connected to a node but branches.
    """
    solid, lines = _solid(feeder), net.res_line
    sent = np.zeros((drawn.shape[0], solid.size), dtype=complex)
    received = np.zeros_like(sent)
    for found, end, sign in ((sent, "from", 1.0), (received, "to", -1.0)):
        flow = lines[f"p_{end}_mw"].to_numpy() + 1j * lines[f"q_{end}_mvar"].to_numpy()
        found[:, solid] = sign * flow.reshape(drawn.shape[0], -1)
    for b in np.flatnonzero(~solid)[::-1]:  # children come after their parents
        sent[:, b] = received[:, b] = drawn[:, b + 1] + sent[:, feeder.parent == b + 1].sum(axis=1)
    return sent, received


def _solid(feeder: Feeder) -> np.ndarray:
    """(n - 1,) bool: branches that have an impedance; the others are couplers."""
    return (feeder.r_pu != 0) | (feeder.x_pu != 0)


def _islands(feeder: Feeder, power: np.ndarray, admittance: np.ndarray) -> Any:
    """One network of all periods. power: (T, n) complex consumption. admittance: (T, n) the same at 1 pu."""
    import pandapower

    periods, nodes = power.shape
    ohm, solid = NOMINAL_KV**2, _solid(feeder)
    first = np.arange(periods)[:, None] * nodes
    net = pandapower.create_empty_network(sn_mva=BASE_MVA)
    buses = pandapower.create_buses(net, periods * nodes, vn_kv=NOMINAL_KV)
    for period in range(periods):
        pandapower.create_ext_grid(net, buses[period * nodes], vm_pu=feeder.root_base_pu)
    pandapower.create_loads(net, buses, p_mw=power.real.ravel(), q_mvar=power.imag.ravel())
    some = admittance.ravel() != 0
    if some.any():
        at = admittance.ravel()[some]
        pandapower.create_shunts(net, buses[some], q_mvar=at.imag, p_mw=at.real, vn_kv=NOMINAL_KV)
    from_buses = first + feeder.parent[None, :]
    to_buses = first + np.arange(1, nodes)[None, :]
    if solid.any():
        pandapower.create_lines_from_parameters(
            net,
            from_buses[:, solid].ravel(),
            to_buses[:, solid].ravel(),
            length_km=1.0,
            r_ohm_per_km=np.tile(feeder.r_pu[solid] * ohm, periods),
            x_ohm_per_km=np.tile(feeder.x_pu[solid] * ohm, periods),
            c_nf_per_km=0.0,
            max_i_ka=1.0,
        )
    if not solid.all():
        pandapower.create_switches(net, from_buses[:, ~solid].ravel(), to_buses[:, ~solid].ravel(), et="b", closed=True)
    return net


def check_ac(
    feeder: Feeder,
    p_mw: np.ndarray,
    q_mvar: np.ndarray,
    voltage_pu: np.ndarray,
    losses_mw: np.ndarray,
    shunt_mva: np.ndarray | None = None,
) -> AcCheck:
    """The operator's own voltages (T, n) and losses (T,) against pandapower's for consumption (T, n)."""
    flow = ac_flow(feeder, p_mw, q_mvar, shunt_mva)
    off = np.abs(np.asarray(losses_mw) - flow.losses_mw)
    tiny = np.finfo(float).tiny
    floor = max(0.01 * float(flow.losses_mw.max()), tiny)
    return AcCheck(
        max_voltage_error_pu=float(np.abs(np.asarray(voltage_pu) - flow.voltage_pu).max()),
        max_loss_error=float((off / np.maximum(flow.losses_mw, floor)).max()),
        total_loss_error=float(abs(np.sum(losses_mw) - flow.losses_mw.sum()) / max(flow.losses_mw.sum(), tiny)),
    )
