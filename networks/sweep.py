"""The exact AC power flow of a radial feeder, for all periods at once.

With constant power at every node, V = V0 - Z (conj(S / V) + Y V) is iterated from a flat start, where
Z = M' diag(r + jx) M, M are the feeder's paths and Y constant admittances: Gauss's method on the current-injection
form (Teng, IEEE Trans. Power Delivery 18 (2003) 882: BIBC and BCBV matrices), solved for V with
K = (1 + Z Y)^-1: V = K (V0 - Z conj(S / V)). The step contracts as long as the feeder is not near its point of
collapse.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from admm import InputError
from networks.feeder_model import Feeder

TOLERANCE_PU = 1e-12
MOST_STEPS = 200


@dataclass(frozen=True)
class FlowState:
    """voltage_pu: (T, n) complex, per unit of nominal_kv. v_sq_pu: (T, n) squared magnitude per unit of base_kv.

    branch_p_mw, branch_q_mvar: (T, n - 1) into the series impedance at the sending end. current_sq_pu: (T, n - 1)
    squared current in it. current_pu: (T, n - 1) the largest rated current, see `RatedCurrents.largest_pu`.
    root_p_mw, root_q_mvar: (T,) drawn from upstream. losses_mw: (T,) of branches, no-load losses included.
    converged: (T,) bool.
    """

    voltage_pu: np.ndarray
    v_sq_pu: np.ndarray
    branch_p_mw: np.ndarray
    branch_q_mvar: np.ndarray
    current_sq_pu: np.ndarray
    current_pu: np.ndarray
    root_p_mw: np.ndarray
    root_q_mvar: np.ndarray
    losses_mw: np.ndarray
    converged: np.ndarray


class Sweep:
    """Power flows of one feeder; the impedance matrix is made once."""

    def __init__(self, feeder: Feeder) -> None:
        self.feeder = feeder
        self._paths = feeder.paths()
        self._z = self._paths.T @ ((feeder.r_pu + 1j * feeder.x_pu)[:, None] * self._paths)
        self._admittance: np.ndarray | None = None
        self._z_with_it, self._no_load = self._z, np.zeros(0, dtype=complex)

    def run(self, p_mw: np.ndarray, q_mvar: np.ndarray, shunt_mva: np.ndarray | None = None) -> FlowState:
        """The flow for constant power p_mw, q_mvar, both (T, n), in the feeder's order of nodes.

        shunt_mva: (T, n) or (1, n) complex, consumption at base_kv of the admittances at nodes; by default the
        feeder's shunts.
        """
        shape = (np.shape(p_mw)[0] if np.ndim(p_mw) == 2 else -1, len(self.feeder.nodes))
        if np.shape(p_mw) != shape or np.shape(q_mvar) != shape:
            raise InputError(
                f"feeder '{self.feeder.name}': consumption has shapes {np.shape(p_mw)} and {np.shape(q_mvar)}, "
                f"expected (periods, {len(self.feeder.nodes)}) both"
            )
        power = np.asarray(p_mw) + 1j * np.asarray(q_mvar)
        shunt = self.feeder.shunt_mva[None] if shunt_mva is None else shunt_mva
        voltage, converged = self._voltages(power[:, 1:], np.conj(shunt + self.feeder.branch_shunt_mva)[:, 1:])
        return self._state(power, voltage, converged, shunt)

    def _voltages(self, power: np.ndarray, admittance: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        z, no_load = self._with_admittance(admittance)
        no_load = voltage = np.broadcast_to(no_load, power.shape)
        change = np.full(power.shape[0], np.inf)
        with np.errstate(all="ignore"):  # a period beyond collapse may run to zero or overflow; it is flagged
            for _ in range(MOST_STEPS):
                following = no_load - _times(np.conj(power / voltage), z)
                change = np.abs(following - voltage).max(axis=1)
                voltage = following
                if (change <= TOLERANCE_PU).all():
                    break
        return voltage, change <= TOLERANCE_PU

    def _with_admittance(self, admittance: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """K Z, (k, k) or (T, k, k), and K V0, (1 or T, k); made again only for another admittance, (1 or T, k)."""
        if self._admittance is None or not np.array_equal(self._admittance, admittance):
            z, no_load = self._z, np.full(admittance.shape, self.feeder.root_base_pu, dtype=complex)
            if admittance.any():
                z = np.linalg.solve(np.eye(z.shape[0]) + z * admittance[:, None, :], z)  # symmetric
                z = z[0] if z.shape[0] == 1 else z
                no_load = no_load - _times(no_load * admittance, z)
            self._admittance, self._z_with_it, self._no_load = admittance, z, no_load
        return self._z_with_it, self._no_load

    def _state(self, power: np.ndarray, voltage: np.ndarray, converged: np.ndarray, shunt: np.ndarray) -> FlowState:
        feeder = self.feeder
        own = feeder.branch_shunt_mva
        root = np.full((power.shape[0], 1), feeder.root_base_pu, dtype=complex)
        everywhere = np.hstack([root, voltage])
        with np.errstate(all="ignore"):
            drawn = np.conj(power[:, 1:] / voltage) + np.conj(shunt + own)[:, 1:] * voltage
            current = drawn @ self._paths.T
            flow, received = everywhere[:, feeder.parent] * np.conj(current), voltage * np.conj(current)
            squared, v_sq = np.abs(current) ** 2, np.abs(everywhere) ** 2
            rated = feeder.currents.largest_pu(flow, received, v_sq[:, feeder.parent], v_sq[:, 1:])
            total = flow[:, feeder.parent == 0].sum(axis=1) + power[:, 0] + (shunt + own)[:, 0] * v_sq[:, 0]
            losses = squared @ feeder.r_pu + v_sq @ own.real
        per_nominal = everywhere * feeder.base_per_nominal
        return FlowState(
            per_nominal, v_sq, flow.real, flow.imag, squared, rated, total.real, total.imag, losses, converged
        )


def _times(rows: np.ndarray, matrix: np.ndarray) -> np.ndarray:
    """Each row, (T, k), times the matrix, (k, k) or one a row (T, k, k)."""
    return rows @ matrix if matrix.ndim == 2 else (rows[:, None, :] @ matrix)[:, 0, :]
