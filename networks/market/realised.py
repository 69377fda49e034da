"""Check what really happened on a feeder by AC power flow: nothing of the operator's program but its set points.

After the closing the operator's model has the load that came, and its schedule is what communities really drew. The
feeder's limits do not hold in periods that are over, so a failed forecast may break them: this finds where and when.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace

import numpy as np

from admm import InputError
from networks.ac_check import ac_flow
from networks.distribution import DistributionAgent
from networks.market.activation import TOLERANCES, Beyond, beyond_limits, contracted_day

KINDS = ("voltage_pu", "current_share", "substation_share")
"""Limits of the feeder; those of connections give way by rule and are priced."""


@dataclass(frozen=True)
class Overload:
    """A limit of a feeder that was broken in a period. beyond: pu of voltage, or share of the limit."""

    network: str
    kind: str
    where: str
    period: int
    beyond: float


@dataclass(frozen=True)
class Realised:
    """How far a day came beyond the limits of a feeder. worst: by kind, negative inside, None where nothing is limited.
    overloads: every element and period beyond tolerance."""

    worst: Mapping[str, float | None]
    overloads: tuple[Overload, ...]

    def facts(self) -> dict:
        """Return the same as JSON takes it."""
        return {"worst": dict(self.worst), "overloads": [asdict(one) for one in self.overloads]}


def realised_check(agent: DistributionAgent, connection_kw: Mapping[str, float]) -> Realised | None:
    """Hold the AC flow of what happened against the feeder's limits; None where there is no such flow.

    Args:
        agent: the operator after the closing.
        connection_kw: public limits by coupling.
    """
    day = contracted_day(agent, connection_kw)
    if day is None:
        return None
    day = replace(day, periods_over=0, sold_mw={})
    try:
        flow = ac_flow(day.feeder, *day.consumption("base"), day.shunt_mva)
    except InputError:
        return None
    beyond = {kind: one for kind, one in beyond_limits(day, flow).items() if kind in KINDS}
    overloads = [over for kind, one in beyond.items() for over in _overloads(agent.model.name, kind, one)]
    return Realised({kind: _largest(one.beyond) for kind, one in beyond.items()}, tuple(overloads))


def _largest(beyond: np.ndarray) -> float | None:
    largest = float(beyond.max(initial=-np.inf))
    return largest if np.isfinite(largest) else None


def _overloads(network: str, kind: str, one: Beyond) -> list[Overload]:
    at = np.argwhere(one.beyond > TOLERANCES[kind])
    return [Overload(network, kind, one.names[e], int(t), float(one.beyond[t, e])) for t, e in at]
