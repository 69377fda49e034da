"""The limits of a feeder against an exact flow: what is beyond them, where, when and by how much."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from networks.distribution_model import DistributionModel
from networks.feeder_model import at_bus
from networks.sweep import FlowState

VOLTAGE_PU, CURRENT_SHARE = 5e-5, 1e-3
"""By how much the schedule of a converged run may exceed a limit: its flows are as exact as this."""
AGREED_SHARE = 1e-3
"""Agents and operator agree on powers up to this share of the connections; currents may exceed a limit by as much."""


@dataclass(frozen=True)
class Margin:
    """The element of one kind that is furthest beyond its limit, or else nearest to it.

    what: "voltage", "current" or "substation". beyond: pu of voltage, else a share of the limit; positive where it is
    exceeded. value, limit: pu of voltage, share of the rating, MVA.
    """

    what: str
    where: str
    period: int
    value: float
    limit: float
    beyond: float
    allowed: float

    @property
    def exceeded(self) -> bool:
        """Whether it is beyond its limit by more than is allowed."""
        return self.beyond > self.allowed

    def words(self) -> str:
        """Say what is where, and its limit."""
        return f"{self.found()} in period {self.period} ({self.limit_words()})"

    def found(self) -> str:
        """Say the value with its element."""
        if self.what == "voltage":
            return f"{self.value:.4f} pu {at_bus(self.where)}"
        if self.what == "current":
            return f"{self.value:.1%} of the rating of {self.where}"
        return f"{self.value:.4g} MVA at the substation"

    def limit_words(self) -> str:
        """Say the limit."""
        if self.what == "current":
            return "current limit 100%"
        return f"{self.what} limit {self.limit:g} {'pu' if self.what == 'voltage' else 'MVA'}"


def margins(model: DistributionModel, flow: FlowState, sizes_mw: Mapping[str, float] | None = None) -> list[Margin]:
    """Find the worst period of every limited element, those furthest beyond what is allowed first.

    Args:
        model: the operator's limits; periods that are over do not count.
        flow: of a schedule, in all periods.
        sizes_mw: sizes of the connections by coupling, where the powers are what agents want.
    """
    found = [*_voltages(model, flow), *_currents(model, flow, _agreed_mw(model, sizes_mw or {}))]
    return sorted(found, key=lambda one: -one.beyond / one.allowed)


def exceeded(model: DistributionModel, flow: FlowState, sizes_mw: Mapping[str, float]) -> list[Margin]:
    """Find the limits that the flow of a schedule exceeds by more than is allowed, the worst first."""
    return [one for one in margins(model, flow, sizes_mw) if one.exceeded]


def _agreed_mw(model: DistributionModel, sizes_mw: Mapping[str, float]) -> np.ndarray:
    """By how much the agents at each node may differ from what the operator grants, (n,)."""
    agreed = np.zeros(len(model.feeder.nodes))
    for one in model.connections:
        agreed[model.feeder.node(one.node)] += AGREED_SHARE * sizes_mw.get(one.coupling, 0.0) / one.power_factor
    return agreed


def _voltages(model: DistributionModel, flow: FlowState) -> list[Margin]:
    feeder, voltage = model.feeder, np.abs(flow.voltage_pu)[:, 1:]
    low, high = feeder.v_min_pu[1:], feeder.v_max_pu[1:]
    beyond = np.fmax(low - voltage, voltage - high)
    limit = np.where(low - voltage > voltage - high, low, high)
    allowed = np.full(low.size, VOLTAGE_PU)
    return _worst("voltage", feeder.nodes[1:], voltage, limit, beyond, allowed, model.periods_over)


def _currents(model: DistributionModel, flow: FlowState, agreed_mw: np.ndarray) -> list[Margin]:
    """Of branches, and of the substation."""
    feeder, over = model.feeder, model.periods_over
    rated = np.flatnonzero(np.isfinite(feeder.i_max_pu))
    loading = flow.current_pu[:, rated] / feeder.i_max_pu[rated]
    behind = (feeder.paths() @ agreed_mw[1:])[rated] / feeder.i_max_pu[rated]
    names, allowed = [feeder.branches[b] for b in rated], np.maximum(CURRENT_SHARE, behind)
    found = _worst("current", names, loading, np.ones_like(loading), loading - 1, allowed, over)
    if not np.isfinite(model.substation_limit_mva):
        return found
    apparent = np.hypot(flow.root_p_mw, flow.root_q_mvar)[:, None]
    limit = np.full_like(apparent, model.substation_limit_mva)
    allowed = np.array([max(CURRENT_SHARE, agreed_mw.sum() / model.substation_limit_mva)])
    return found + _worst("substation", ["substation"], apparent, limit, apparent / limit - 1, allowed, over)


def _worst(
    what: str,
    names: Sequence[str],
    value: np.ndarray,
    limit: np.ndarray,
    beyond: np.ndarray,
    allowed: np.ndarray,
    over: int,
) -> list[Margin]:
    """Arrays (T, E), allowed (E,). over: so many of the first periods do not count."""
    if not names or over >= len(beyond):
        return []
    limit = np.broadcast_to(limit, beyond.shape)
    at = np.nan_to_num(beyond[over:], nan=-np.inf).argmax(axis=0) + over
    return [
        Margin(what, name, int(t), float(value[t, e]), float(limit[t, e]), float(beyond[t, e]), float(allowed[e]))
        for e, (name, t) in enumerate(zip(names, at, strict=True))
        if np.isfinite(beyond[t, e])
    ]
