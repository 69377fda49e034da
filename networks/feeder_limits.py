"""The limits of a feeder against an exact flow: what is beyond them, where, when and by how much."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from networks.distribution_model import DistributionModel
from networks.sweep import FlowState

VOLTAGE_PU, CURRENT_SHARE, SUBSTATION_SHARE = 5e-5, 1e-3, 1e-3
"""By how much the schedule of a converged run may exceed a limit. Voltages are as exact as the stop asks for; agents
and operator agree on powers up to 1e-3 of the connections, which moves a current by that share."""


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
            return f"{self.value:.4f} pu at bus {self.where}"
        if self.what == "current":
            return f"{self.value:.1%} of the rating of {self.where}"
        return f"{self.value:.4g} MVA at the substation"

    def limit_words(self) -> str:
        """Say the limit."""
        return {"voltage": f"limit {self.limit:g} pu", "current": "limit 100%"}.get(
            self.what, f"limit {self.limit:g} MVA"
        )


def margins(model: DistributionModel, flow: FlowState) -> list[Margin]:
    """Find every limited element's worst period, the ones furthest beyond their limits first within a kind.

    Args:
        model: the operator's limits.
        flow: of a schedule, in all periods.
    """
    found = [*_voltages(model, flow), *_currents(model, flow), *_substation(model, flow)]
    return sorted(found, key=lambda one: -one.beyond / one.allowed)


def exceeded(model: DistributionModel, flow: FlowState) -> list[Margin]:
    """Find the limits that a flow exceeds by more than is allowed, the worst first."""
    return [one for one in margins(model, flow) if one.exceeded]


def _voltages(model: DistributionModel, flow: FlowState) -> list[Margin]:
    feeder, voltage = model.feeder, np.abs(flow.voltage_pu)[:, 1:]
    low, high = feeder.v_min_pu[1:], feeder.v_max_pu[1:]
    beyond = np.fmax(low - voltage, voltage - high)
    limit = np.where(low - voltage > voltage - high, low, high)
    return _worst("voltage", feeder.nodes[1:], voltage, limit, beyond, VOLTAGE_PU)


def _currents(model: DistributionModel, flow: FlowState) -> list[Margin]:
    feeder = model.feeder
    rated = np.flatnonzero(np.isfinite(feeder.i_max_pu))
    loading = flow.current_pu[:, rated] / feeder.i_max_pu[rated]
    names = [feeder.branches[b] for b in rated]
    return _worst("current", names, loading, np.ones_like(loading), loading - 1, CURRENT_SHARE)


def _substation(model: DistributionModel, flow: FlowState) -> list[Margin]:
    if not np.isfinite(model.substation_limit_mva):
        return []
    apparent = np.hypot(flow.root_p_mw, flow.root_q_mvar)[:, None]
    limit = np.full_like(apparent, model.substation_limit_mva)
    return _worst("substation", ["substation"], apparent, limit, apparent / limit - 1, SUBSTATION_SHARE)


def _worst(
    what: str, names: Sequence[str], value: np.ndarray, limit: np.ndarray, beyond: np.ndarray, allowed: float
) -> list[Margin]:
    """All arrays (T, E)."""
    if not names:
        return []
    at = beyond.argmax(axis=0)
    return [
        Margin(what, name, int(t), float(value[t, e]), float(limit[t, e]), float(beyond[t, e]), allowed)
        for e, (name, t) in enumerate(zip(names, at, strict=True))
        if np.isfinite(beyond[t, e])
    ]
