"""Limits of one scenario's flow: voltages, currents, substation; and the curvature of what its losses cost."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np

from networks.assembly import Assembly
from networks.distflow import Affine, AffineFlow, OperatingPoint
from networks.feeder_model import Feeder

OCTAGON = ((1.0, 0.0), (0.0, 1.0), (0.5**0.5, 0.5**0.5), (0.5**0.5, -(0.5**0.5)))
"""Normals of the regular octagon around a circle, one for each pair of opposite sides."""


@dataclass(frozen=True)
class Labels(Sequence[str]):
    """Labels of limits as "what name", made where one is asked for: of thousands of limits few are ever named."""

    what: str
    names: Sequence[str]

    def __len__(self) -> int:
        return len(self.names)

    def __getitem__(self, element: int) -> str:
        return f"{self.what} {self.names[element]}".rstrip()


@dataclass(frozen=True)
class Limit:
    """lower <= value <= upper for E elements, bounds (T, E); value depends on the variables at columns (T, K).

    scale: nominal size of the value, by which slack is measured.
    """

    labels: Sequence[str]
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
        labels = Labels(f"{self.scenario}: {what}", names)
        bounds = np.broadcast_to(lower, shape), np.broadcast_to(upper, shape)
        return Limit(labels, value, self.columns, *bounds, scale)

    def _voltages(self) -> Limit:
        """Limits are per unit of nominal_kv, w is of base_kv."""
        feeder = self.feeder
        per_nominal = feeder.base_per_nominal[1:]
        lower, upper = (100 * ((limit[1:] / per_nominal) ** 2 - 1) for limit in (feeder.v_min_pu, feeder.v_max_pu))
        return self._limit("voltage limits of node", feeder.nodes[1:], self.flow.w, lower, upper, 1.0)

    def _currents(self) -> Iterator[Limit]:
        """i^2 / (2 I) <= I / 2, exact at the operating point; and an octagon for points far from it."""
        feeder, currents = self.feeder, self.feeder.currents
        rated = np.flatnonzero(np.isfinite(feeder.i_max_pu[currents.branch]))
        if rated.size == 0:
            return
        branch = currents.branch[rated]
        names, limit = [feeder.branches[b] for b in branch], feeder.i_max_pu[branch] * currents.factor[rated]
        p, q, square = self._end_flows(rated)
        half = self._squared(rated, p, q, square).times(1 / (2 * limit))
        yield self._limit("current limit of", names, half, -np.inf, limit / 2, self.scale_mw)
        most = self._highest_pu()
        v_max = np.where(currents.receiving[rated], most[branch + 1], most[feeder.parent[branch]])
        yield from self._octagon("current limit of", names, p, q, limit * v_max)

    def _end_flows(self, rated: np.ndarray) -> tuple[Affine, Affine, Affine]:
        """P, Q and w at the ends whose currents are rated: |S + A v| or |S - z l - A v| over v, see `RatedCurrents`."""
        feeder, currents, flow = self.feeder, self.feeder.currents, self.flow
        branch, receiving = currents.branch[rated], currents.receiving[rated]
        shunt = np.where(receiving, -1.0, 1.0) * currents.shunt_mva[rated]
        w = flow.w_above.only(branch).where(~receiving, flow.w.only(branch))
        loss = flow.current_sq_pu.only(branch)
        found = []
        for series, ohmic, at_1_pu in (
            (flow.p_mw, feeder.r_pu, shunt.real),
            (flow.q_mvar, feeder.x_pu, shunt.imag),
        ):
            whole = series.only(branch)
            if receiving.any():
                whole = whole.plus(loss.times(np.where(receiving, -ohmic[branch], 0.0)))
            if at_1_pu.any():
                whole = whole.plus(w.times(at_1_pu / 100)).shifted(at_1_pu)
            found.append(whole)
        return found[0], found[1], w

    def _squared(self, rated: np.ndarray, p: Affine, q: Affine, w: Affine) -> Affine:
        """Squared currents at those ends: the flow's own l where there is no admittance, else a tangent like it."""
        currents = self.feeder.currents
        plain = (currents.shunt_mva[rated] == 0) & ~currents.receiving[rated]
        own = self.flow.current_sq_pu.only(currents.branch[rated])
        if plain.all():
            return own
        p0, q0, v0 = self._at_point(rated)
        i0 = (p0**2 + q0**2) / v0
        tangent = p.times(2 * p0 / v0).plus(q.times(2 * q0 / v0)).plus(w.times(-i0 / (100 * v0)))
        return own.where(plain, tangent.shifted(-i0 / v0))

    def _at_point(self, rated: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """P, Q and v of those ends at the operating point, (T, L) each."""
        feeder, currents, point = self.feeder, self.feeder.currents, self.point
        branch, receiving = currents.branch[rated], currents.receiving[rated]
        v_above = point.v_sq_pu[:, feeder.parent[branch]]
        sent = point.branch_p_mw[:, branch] + 1j * point.branch_q_mvar[:, branch]
        lost = (feeder.r_pu + 1j * feeder.x_pu)[branch] * np.abs(sent) ** 2 / v_above
        v = np.where(receiving, point.v_sq_pu[:, branch + 1], v_above)
        shunt = currents.shunt_mva[rated] * v
        whole = np.where(receiving, sent - lost - shunt, sent + shunt)
        return whole.real, whole.imag, v

    def _highest_pu(self) -> np.ndarray:
        """(n,) upper limit of the voltage per unit of base_kv; twice the nominal voltage where there is none."""
        feeder = self.feeder
        most = np.minimum(feeder.v_max_pu, 2.0) / feeder.base_per_nominal
        most[0] = feeder.root_base_pu
        return most

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

    def add_loss_curvature(self, assembly: Assembly, price_eur_per_mw: np.ndarray) -> None:
        """1/2 H |(P, Q) - (P0, Q0)|^2 with H = 2 price r / V_slack^2: the second derivative of what losses cost.

        price_eur_per_mw: (T,) of a MW of losses in each period.

        It vanishes at the operating point, so it is no cost; without it a linear price of losses would
        throw set points from one limit to the other between corrections.
        """
        weight = self._loss_weight(price_eur_per_mw)
        for flow, center in ((self.flow.p_mw, self.point.branch_p_mw), (self.flow.q_mvar, self.point.branch_q_mvar)):
            away = flow.constant - center
            weighted = weight[:, :, None] * flow.slope
            assembly.curvature(
                self.columns,
                np.swapaxes(weighted, 1, 2) @ flow.slope,
                np.einsum("tek,te->tk", weighted, away),
                0.5 * float((weight * away**2).sum()),
            )

    def _loss_weight(self, price_eur_per_mw: np.ndarray) -> np.ndarray:
        """H of every branch, (T, n - 1)."""
        return 2 * price_eur_per_mw[:, None] * np.maximum(self.feeder.r_pu, 0.0) / self.feeder.root_base_pu**2

    def curvature_slope_eur(self, u: np.ndarray, price_eur_per_mw: np.ndarray) -> float:
        """Bound what the curvature hides at u, (T, K): its slope there times the whole flow, EUR."""
        weight, hidden = self._loss_weight(price_eur_per_mw), 0.0
        for flow, center in ((self.flow.p_mw, self.point.branch_p_mw), (self.flow.q_mvar, self.point.branch_q_mvar)):
            value = flow.at(u)
            away = np.abs(value - center)
            hidden += float((weight * away * (np.abs(value) + away)).sum())
        return hidden
