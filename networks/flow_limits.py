"""Limits of one scenario's flow: voltages, currents, substation; and the curvature of what its losses cost."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np

from networks.assembly import Assembly
from networks.distflow import Affine, AffineFlow, OperatingPoint
from networks.feeder import Feeder

OCTAGON = ((1.0, 0.0), (0.0, 1.0), (0.5**0.5, 0.5**0.5), (0.5**0.5, -(0.5**0.5)))
"""Normals of the regular octagon around a circle, one for each pair of opposite sides."""


@dataclass(frozen=True)
class Limit:
    """lower <= value <= upper for E elements, bounds (T, E); value depends on the variables at columns (T, K).

    scale: nominal size of the value, by which slack is measured.
    """

    labels: tuple[str, ...]
    value: Affine
    columns: np.ndarray
    lower: np.ndarray
    upper: np.ndarray
    scale: float

    def open_before(self, period: int) -> Limit:
        """The same without bounds in the periods before."""
        past = np.arange(len(self.lower))[:, None] < period
        return replace(self, lower=np.where(past, -np.inf, self.lower), upper=np.where(past, np.inf, self.upper))

    def slack(self, x: np.ndarray) -> np.ndarray:
        """How far x is inside the limit, (T, E), per unit of scale; negative where it is broken."""
        value = self.value.at(x[self.columns])
        return np.minimum(value - self.lower, self.upper - value) / self.scale

    def add(self, assembly: Assembly, mask: np.ndarray | None) -> None:
        """Write the rows where mask, (T, E), is true; all of them without a mask."""
        lower, upper = self.lower - self.value.constant, self.upper - self.value.constant
        rows = assembly.rows(self.labels, lower, upper, self.scale, mask)
        t, e = np.nonzero(rows >= 0)
        assembly.put(rows[t, e, None], self.columns[t], self.value.slope[t, e])


@dataclass(frozen=True)
class ScenarioFlow:
    """One scenario's flow at its operating point.

    columns: (T, K) positions of its variables. scale_mw: nominal flow.
    """

    feeder: Feeder
    scenario: str
    flow: AffineFlow
    columns: np.ndarray
    point: OperatingPoint
    scale_mw: float

    def limits(self, substation_limit_mva: float) -> Iterator[Limit]:
        """All limits of the scenario, always in the same order."""
        yield self._voltages()
        yield from self._currents()
        if np.isfinite(substation_limit_mva):
            yield from self._substation(substation_limit_mva)

    def _limit(
        self,
        what: str,
        names: Sequence[str],
        value: Affine,
        lower: np.ndarray | float,
        upper: np.ndarray | float,
        scale: float,
    ) -> Limit:
        shape = value.constant.shape
        labels = tuple(f"{self.scenario}: {what} {name}".rstrip() for name in names)
        bounds = np.broadcast_to(lower, shape), np.broadcast_to(upper, shape)
        return Limit(labels, value, self.columns, *bounds, scale)

    def _voltages(self) -> Limit:
        feeder = self.feeder
        lower, upper = (100 * (limit[1:] ** 2 - 1) for limit in (feeder.v_min_pu, feeder.v_max_pu))
        return self._limit("voltage limits of node", feeder.nodes[1:], self.flow.w, lower, upper, 1.0)

    def _currents(self) -> Iterator[Limit]:
        """l / (2 I) <= I / 2, exact at the operating point; and an octagon for points far from it."""
        feeder = self.feeder
        rated = np.flatnonzero(np.isfinite(feeder.i_max_pu))
        if rated.size == 0:
            return
        names, limit = [feeder.branches[b] for b in rated], feeder.i_max_pu[rated]
        half = self.flow.current_sq_pu.only(rated).times(1 / (2 * limit))
        yield self._limit("current limit of", names, half, -np.inf, limit / 2, self.scale_mw)
        v_max = np.where(feeder.parent == 0, feeder.slack_voltage_pu, feeder.v_max_pu[feeder.parent])[rated]
        yield from self._octagon(
            "current limit of", names, self.flow.p_mw.only(rated), self.flow.q_mvar.only(rated), limit * v_max
        )

    def _octagon(self, what: str, names: Sequence[str], p: Affine, q: Affine, radius: np.ndarray) -> Iterator[Limit]:
        for p_share, q_share in OCTAGON:
            side = p.times(np.array([p_share])).plus(q.times(np.array([q_share])))
            yield self._limit(what, names, side, -radius, radius, self.scale_mw)

    def _substation(self, limit_mva: float) -> Iterator[Limit]:
        """P^2 + Q^2 <= S^2 by its tangent at the operating point, divided by 2 S; and an octagon."""
        p, q = self.flow.root_p_mw, self.flow.root_q_mvar
        p0, q0 = self.point.root_p_mw[:, None], self.point.root_q_mvar[:, None]
        tangent = p.times(p0 / limit_mva).plus(q.times(q0 / limit_mva))
        upper = (limit_mva**2 + p0**2 + q0**2) / (2 * limit_mva)
        yield self._limit("substation limit", [""], tangent, -np.inf, upper, self.scale_mw)
        yield from self._octagon("substation limit", [""], p, q, np.array([limit_mva]))

    def add_loss_curvature(self, assembly: Assembly, price_eur_per_mw: float) -> None:
        """1/2 H |(P, Q) - (P0, Q0)|^2 with H = 2 price r / V_slack^2: the second derivative of what losses cost.

        It vanishes at the operating point, so it is no cost; without it a linear price of losses would
        throw set points from one limit to the other between corrections.
        """
        weight = 2 * price_eur_per_mw * self.feeder.r_pu / self.feeder.slack_voltage_pu**2
        for flow, center in ((self.flow.p_mw, self.point.branch_p_mw), (self.flow.q_mvar, self.point.branch_q_mvar)):
            away = flow.constant - center
            weighted = weight[:, None] * flow.slope
            assembly.curvature(
                self.columns,
                np.swapaxes(weighted, 1, 2) @ flow.slope,
                np.einsum("tek,te->tk", weighted, away),
                0.5 * float((weight * away**2).sum()),
            )
