"""Limits of one scenario's flow as rows: voltages, currents, substation; and the curvature of its losses."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from networks.assembly import Assembly
from networks.distflow import Affine, AffineFlow, OperatingPoint
from networks.feeder import Feeder


@dataclass(frozen=True)
class FlowLimits:
    """Writes the rows of one scenario. columns: (T, K) positions of the flow's variables. scale_mw: nominal flow."""

    assembly: Assembly
    feeder: Feeder
    scenario: str
    flow: AffineFlow
    columns: np.ndarray
    point: OperatingPoint
    scale_mw: float

    def add(self, substation_limit_mva: float) -> None:
        """All limits of the scenario."""
        self._voltages()
        self._currents()
        if np.isfinite(substation_limit_mva):
            self._substation(substation_limit_mva)

    def _rows(
        self, what: str, names: Sequence[str], value: Affine, lower: np.ndarray | float, upper: np.ndarray | float, scale: float
    ) -> None:
        """lower <= value <= upper, bounds broadcast to (T, E)."""
        labels = [f"{self.scenario}: {what} {name}".rstrip() for name in names]
        rows = self.assembly.rows(labels, lower - value.constant, upper - value.constant, scale)
        self.assembly.put(rows[:, :, None], self.columns[:, None, :], value.slope)

    def _voltages(self) -> None:
        feeder = self.feeder
        lower, upper = (100 * (limit[1:] ** 2 - 1) for limit in (feeder.v_min_pu, feeder.v_max_pu))
        self._rows("voltage limits of node", feeder.nodes[1:], self.flow.w, lower, upper, 1.0)

    def _currents(self) -> None:
        """l / (2 I) <= I / 2, exact at the operating point, and |P| <= I V_max for points far from it."""
        feeder = self.feeder
        rated = np.flatnonzero(np.isfinite(feeder.i_max_pu))
        if rated.size == 0:
            return
        names, limit = [feeder.branches[b] for b in rated], feeder.i_max_pu[rated]
        half = _scaled(_only(self.flow.current_sq_pu, rated), 1 / (2 * limit))
        self._rows("current limit of", names, half, -np.inf, limit / 2, self.scale_mw)
        v_max = np.where(feeder.parent == 0, feeder.slack_voltage_pu, feeder.v_max_pu[feeder.parent])[rated]
        self._rows("current limit of", names, _only(self.flow.p_mw, rated), -limit * v_max, limit * v_max, self.scale_mw)

    def _substation(self, limit_mva: float) -> None:
        """P^2 + Q^2 <= S^2 by its tangent at the operating point, divided by 2 S, and |P| <= S."""
        p, q = self.flow.root_p_mw, self.flow.root_q_mvar
        p0, q0 = self.point.root_p_mw[:, None], self.point.root_q_mvar[:, None]
        tangent = Affine(
            (p0 * p.constant + q0 * q.constant) / limit_mva,
            (p0[:, :, None] * p.slope + q0[:, :, None] * q.slope) / limit_mva,
        )
        upper = (limit_mva**2 + p0**2 + q0**2) / (2 * limit_mva)
        self._rows("substation limit", [""], tangent, -np.inf, upper, self.scale_mw)
        self._rows("substation limit", [""], p, -limit_mva, limit_mva, self.scale_mw)

    def add_loss_curvature(self, price_eur_per_mw: float) -> None:
        """1/2 H |(P, Q) - (P0, Q0)|^2 with H = 2 price r / V_slack^2: the second derivative of what losses cost.

        It vanishes at the operating point, so it is no cost; without it a linear price of losses would
        throw set points from one limit to the other between corrections.
        """
        weight = 2 * price_eur_per_mw * self.feeder.r_pu / self.feeder.slack_voltage_pu**2
        for flow, center in ((self.flow.p_mw, self.point.branch_p_mw), (self.flow.q_mvar, self.point.branch_q_mvar)):
            away = flow.constant - center
            weighted = weight[:, None] * flow.slope
            self.assembly.curvature(
                self.columns,
                np.swapaxes(weighted, 1, 2) @ flow.slope,
                np.einsum("tek,te->tk", weighted, away),
                0.5 * float((weight * away**2).sum()),
            )


def _only(value: Affine, at: np.ndarray) -> Affine:
    return Affine(value.constant[:, at], value.slope[:, at])


def _scaled(value: Affine, factor: np.ndarray) -> Affine:
    return Affine(value.constant * factor, value.slope * factor[:, None])
