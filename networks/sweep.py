"""The exact AC power flow of a radial feeder, for all periods at once.

With constant power at every node, V = V0 - Z conj(S / V) is iterated from a flat start, where
Z = M' diag(r + jx) M and M are the feeder's paths: Gauss's method on the current-injection form
(Teng, IEEE Trans. Power Delivery 18 (2003) 882: BIBC and BCBV matrices). The step contracts as long as
the feeder is not near its point of collapse.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from admm import InputError
from networks.feeder import Feeder

TOLERANCE_PU = 1e-12
MOST_STEPS = 200


@dataclass(frozen=True)
class FlowState:
    """voltage_pu: (T, n) complex. branch_p_mw, branch_q_mvar: (T, n - 1) at the sending end.

    current_sq_pu: (T, n - 1) squared current. root_p_mw, root_q_mvar: (T,) drawn from upstream.
    losses_mw: (T,). converged: (T,) bool.
    """

    voltage_pu: np.ndarray
    branch_p_mw: np.ndarray
    branch_q_mvar: np.ndarray
    current_sq_pu: np.ndarray
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

    def run(self, p_mw: np.ndarray, q_mvar: np.ndarray) -> FlowState:
        """The flow for consumption p_mw, q_mvar, both (T, n), in the feeder's order of nodes."""
        shape = (np.shape(p_mw)[0] if np.ndim(p_mw) == 2 else -1, len(self.feeder.nodes))
        if np.shape(p_mw) != shape or np.shape(q_mvar) != shape:
            raise InputError(
                f"feeder '{self.feeder.name}': consumption has shapes {np.shape(p_mw)} and {np.shape(q_mvar)}, "
                f"expected (periods, {len(self.feeder.nodes)}) both"
            )
        power = np.asarray(p_mw) + 1j * np.asarray(q_mvar)
        voltage, converged = self._voltages(power[:, 1:])
        return self._state(power, voltage, converged)

    def _voltages(self, power: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        voltage = np.full(power.shape, self.feeder.slack_voltage_pu, dtype=complex)
        change = np.full(power.shape[0], np.inf)
        with np.errstate(all="ignore"):  # a period beyond collapse may run to zero or overflow; it is flagged
            for _ in range(MOST_STEPS):
                following = self.feeder.slack_voltage_pu - np.conj(power / voltage) @ self._z
                change = np.abs(following - voltage).max(axis=1)
                voltage = following
                if (change <= TOLERANCE_PU).all():
                    break
        return voltage, change <= TOLERANCE_PU

    def _state(self, power: np.ndarray, voltage: np.ndarray, converged: np.ndarray) -> FlowState:
        feeder = self.feeder
        with np.errstate(all="ignore"):
            current = np.conj(power[:, 1:] / voltage) @ self._paths.T
        root = np.full((power.shape[0], 1), feeder.slack_voltage_pu, dtype=complex)
        everywhere = np.hstack([root, voltage])
        flow = everywhere[:, feeder.parent] * np.conj(current)
        squared = np.abs(current) ** 2
        total = flow[:, feeder.parent == 0].sum(axis=1) + power[:, 0]
        return FlowState(
            everywhere, flow.real, flow.imag, squared, total.real, total.imag, squared @ feeder.r_pu, converged
        )
