"""The exact DistFlow equations of a feeder, linearised at an operating point, as rows of a program.

Baran and Wu, IEEE Trans. Power Delivery 4 (1989) 725, for branch b = i -> j with sending-end flows P, Q,
squared current l and squared voltage v, in MW, Mvar and per unit on 1 MVA:

    P_b - sum(P of children) - p_j - r l = 0                          (Q likewise with x)
    w_j - w_i + 200 (r P + x Q) - 100 (r^2 + x^2) l = 0               w = 100 (v - 1)
    l = (P^2 + Q^2) / v_i

Only l is not linear. At the operating point z0 = (P0, Q0, w0_i) it is replaced by l0 + g . (z - z0) with
g = (2 P0 / v0, 2 Q0 / v0, -l0 / (100 v0)). The function is convex, so the replacement never exceeds it:
a limit l <= I_max^2 cuts off no point that the exact equations allow, and is exact at the operating point.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from networks.assembly import Assembly
from networks.feeder import Feeder
from networks.sweep import FlowState

OCTAGON = ((1.0, 0.0), (0.0, 1.0), (0.5**0.5, 0.5**0.5), (0.5**0.5, -(0.5**0.5)))
"""Normals of the regular octagon around a circle, one for each pair of opposite sides."""


@dataclass(frozen=True)
class OperatingPoint:
    """Where the rows are exact. branch_p_mw, branch_q_mvar: (T, n - 1). v_sq_pu: (T, n) squared voltage.

    root_p_mw, root_q_mvar: (T,) drawn from upstream.
    """

    branch_p_mw: np.ndarray
    branch_q_mvar: np.ndarray
    v_sq_pu: np.ndarray
    root_p_mw: np.ndarray
    root_q_mvar: np.ndarray

    @classmethod
    def of_flow(cls, flow: FlowState, otherwise: OperatingPoint | None = None) -> OperatingPoint:
        """The flow's own point; in periods in which the flow did not converge, that of `otherwise`."""
        mine = cls(flow.branch_p_mw, flow.branch_q_mvar, np.abs(flow.voltage_pu) ** 2, flow.root_p_mw, flow.root_q_mvar)
        if flow.converged.all() or otherwise is None:
            return mine
        good = flow.converged
        pairs = [(getattr(mine, key), getattr(otherwise, key)) for key in cls.__dataclass_fields__]
        return cls(*(np.where(good[:, None] if a.ndim == 2 else good, a, b) for a, b in pairs))


@dataclass(frozen=True)
class FlowVariables:
    """Positions of one scenario's variables. p, q, w: (T, n - 1), w of the node that the branch feeds.

    root_p, root_q: (T, 1).
    """

    p: np.ndarray
    q: np.ndarray
    w: np.ndarray
    root_p: np.ndarray
    root_q: np.ndarray


@dataclass(frozen=True)
class Withdrawal:
    """A variable, positions (T, 1), that consumes p_share MW and q_share Mvar per unit at a node."""

    node: int
    columns: np.ndarray
    p_share: float
    q_share: float


@dataclass(frozen=True)
class SquaredCurrent:
    """l = constant + g_p P + g_q Q + g_w w_i, all (T, n - 1); where the root feeds the branch, w_i is in the constant."""

    constant: np.ndarray
    g_p: np.ndarray
    g_q: np.ndarray
    g_w: np.ndarray


def squared_current(feeder: Feeder, point: OperatingPoint) -> SquaredCurrent:
    """The tangent of l at the operating point."""
    v0 = point.v_sq_pu[:, feeder.parent]
    p0, q0 = point.branch_p_mw, point.branch_q_mvar
    l0 = (p0**2 + q0**2) / v0
    g_p, g_q, g_w = 2 * p0 / v0, 2 * q0 / v0, -l0 / (100 * v0)
    at_root = feeder.parent == 0
    w0 = np.where(at_root, 0.0, 100 * (v0 - 1))  # the root's w does not move
    return SquaredCurrent(l0 - g_p * p0 - g_q * q0 - g_w * w0, g_p, g_q, g_w)


def add_flow_variables(assembly: Assembly, feeder: Feeder, scenario: str, flow_scale_mw: float) -> FlowVariables:
    """One scenario's flows and voltages."""
    branches = len(feeder.branches)
    return FlowVariables(
        p=assembly.variables(f"{scenario}.branch_p_mw", branches, "MW", flow_scale_mw),
        q=assembly.variables(f"{scenario}.branch_q_mvar", branches, "Mvar", flow_scale_mw),
        w=assembly.variables(f"{scenario}.voltage_sq_percent", branches, "%", 1.0),
        root_p=assembly.variables(f"{scenario}.substation_p_mw", 1, "MW", flow_scale_mw),
        root_q=assembly.variables(f"{scenario}.substation_q_mvar", 1, "Mvar", flow_scale_mw),
    )


@dataclass(frozen=True)
class FlowRows:
    """Writes one scenario's rows. p_mw, q_mvar: (T, n) fixed consumption. scale_mw: nominal flow."""

    assembly: Assembly
    feeder: Feeder
    scenario: str
    variables: FlowVariables
    withdrawals: Sequence[Withdrawal]
    p_mw: np.ndarray
    q_mvar: np.ndarray
    point: OperatingPoint
    scale_mw: float

    def add(self, substation_limit_mva: float) -> None:
        """All rows of the scenario."""
        current = squared_current(self.feeder, self.point)
        self._balances(current)
        self._voltage_drops(current)
        self._voltage_limits()
        self._current_limits(current)
        self._substation()
        if np.isfinite(substation_limit_mva):
            self._substation_limit(substation_limit_mva)

    def _labels(self, what: str, names: Sequence[str]) -> list[str]:
        return [f"{self.scenario}: {what} {name}" for name in names]

    def _put_current(self, rows: np.ndarray, current: SquaredCurrent, factor: np.ndarray, at: np.ndarray) -> None:
        """Add factor * l of the branches `at` to rows (T, len(at)); factor: (len(at),)."""
        v = self.variables
        self.assembly.put(rows, v.p[:, at], factor * current.g_p[:, at])
        self.assembly.put(rows, v.q[:, at], factor * current.g_q[:, at])
        fed = self.feeder.parent[at] > 0
        above = self.feeder.parent[at][fed] - 1
        self.assembly.put(rows[:, fed], v.w[:, above], (factor * current.g_w[:, at])[:, fed])

    def _balances(self, current: SquaredCurrent) -> None:
        """P_b - sum(P of children) - p_j - r l = 0, and Q likewise with x."""
        feeder, every = self.feeder, np.arange(len(self.feeder.branches))
        for what, flow, fixed, impedance in (
            ("power balance of node", self.variables.p, self.p_mw, feeder.r_pu),
            ("reactive balance of node", self.variables.q, self.q_mvar, feeder.x_pu),
        ):
            known = fixed[:, 1:] + impedance * current.constant
            rows = self.assembly.rows(self._labels(what, feeder.nodes[1:]), known, known, self.scale_mw)
            self.assembly.put(rows, flow, 1.0)
            below = feeder.parent > 0
            self.assembly.put(rows[:, feeder.parent[below] - 1], flow[:, below], -1.0)
            self._put_current(rows, current, -impedance, every)
            self._put_withdrawals(rows, reactive=flow is self.variables.q)

    def _put_withdrawals(self, rows: np.ndarray, reactive: bool) -> None:
        for taken in self.withdrawals:
            share = taken.q_share if reactive else taken.p_share
            if taken.node > 0:
                self.assembly.put(rows[:, [taken.node - 1]], taken.columns, -share)

    def _voltage_drops(self, current: SquaredCurrent) -> None:
        """w_j - w_i + 200 (r P + x Q) - 100 (r^2 + x^2) l = 0."""
        feeder, v = self.feeder, self.variables
        squared = 100 * (feeder.r_pu**2 + feeder.x_pu**2)
        w_root = 100 * (feeder.slack_voltage_pu**2 - 1)
        known = squared * current.constant + np.where(feeder.parent == 0, w_root, 0.0)
        rows = self.assembly.rows(self._labels("voltage drop on", feeder.branches), known, known, 1.0)
        self.assembly.put(rows, v.w, 1.0)
        below = feeder.parent > 0
        self.assembly.put(rows[:, below], v.w[:, feeder.parent[below] - 1], -1.0)
        self.assembly.put(rows, v.p, 200 * feeder.r_pu)
        self.assembly.put(rows, v.q, 200 * feeder.x_pu)
        self._put_current(rows, current, -squared, np.arange(len(feeder.branches)))

    def _voltage_limits(self) -> None:
        feeder = self.feeder
        lower, upper = (100 * (limit[1:] ** 2 - 1) for limit in (feeder.v_min_pu, feeder.v_max_pu))
        rows = self.assembly.rows(self._labels("voltage limits of node", feeder.nodes[1:]), lower, upper, 1.0)
        self.assembly.put(rows, self.variables.w, 1.0)

    def _current_limits(self, current: SquaredCurrent) -> None:
        """l / (2 I) <= I / 2, and an octagon around the circle of I V_max for points far from the operating point."""
        feeder = self.feeder
        rated = np.flatnonzero(np.isfinite(feeder.i_max_pu))
        if rated.size == 0:
            return
        limit = feeder.i_max_pu[rated]
        labels = self._labels("current limit of", [feeder.branches[b] for b in rated])
        factor = 1 / (2 * limit)
        rows = self.assembly.rows(labels, -np.inf, limit / 2 - factor * current.constant[:, rated], self.scale_mw)
        self._put_current(rows, current, factor, rated)
        v_max = np.where(feeder.parent == 0, feeder.slack_voltage_pu, feeder.v_max_pu[feeder.parent])[rated]
        self._octagon(labels, self.variables.p[:, rated], self.variables.q[:, rated], limit * v_max)

    def _octagon(self, labels: Sequence[str], p: np.ndarray, q: np.ndarray, radius: np.ndarray) -> None:
        for p_share, q_share in OCTAGON:
            rows = self.assembly.rows(labels, -radius, radius, self.scale_mw)
            self.assembly.put(rows, p, p_share)
            self.assembly.put(rows, q, q_share)

    def _substation(self) -> None:
        """P_root - sum(P of the branches at the root) - p_root = 0, and Q likewise."""
        v, first = self.variables, self.feeder.parent == 0
        for what, root, flow, fixed in (
            ("power balance of the substation", v.root_p, v.p, self.p_mw),
            ("reactive balance of the substation", v.root_q, v.q, self.q_mvar),
        ):
            rows = self.assembly.rows([f"{self.scenario}: {what}"], fixed[:, [0]], fixed[:, [0]], self.scale_mw)
            self.assembly.put(rows, root, 1.0)
            self.assembly.put(rows, flow[:, first], -1.0)
            for taken in self.withdrawals:
                if taken.node == 0:
                    self.assembly.put(rows, taken.columns, -(taken.q_share if flow is v.q else taken.p_share))

    def _substation_limit(self, limit_mva: float) -> None:
        """P^2 + Q^2 <= S^2 at the operating point, divided by 2 S, and the octagon around that circle."""
        v, p0, q0 = self.variables, self.point.root_p_mw[:, None], self.point.root_q_mvar[:, None]
        label = [f"{self.scenario}: substation limit"]
        rows = self.assembly.rows(label, -np.inf, (limit_mva**2 + p0**2 + q0**2) / (2 * limit_mva), self.scale_mw)
        self.assembly.put(rows, v.root_p, p0 / limit_mva)
        self.assembly.put(rows, v.root_q, q0 / limit_mva)
        self._octagon(label, v.root_p, v.root_q, np.array([limit_mva]))
