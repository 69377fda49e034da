"""Whether a feeder carries the flexibility that was bought on it: AC power flows with all of it called at once.

Three flows a period by pandapower, with the reactive set points of the base schedule, which calls do not move:

    base   every community draws p          up   p - up          down   p + down

Nothing of the operator's program is used but its schedule, so this finds what a wrong row would let through.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np

from admm import InputError
from networks.ac_check import AcFlow, ac_flow
from networks.distribution import DistributionAgent, DistributionModel, DistributionProgram
from networks.feeder import Feeder

KW_PER_MW = 1000.0
NOTHING = -np.inf
"""Distance beyond a limit that is not there."""
SCENARIOS = ("base", "up", "down")
TOLERANCES = {
    "voltage_pu": 5e-5,
    "current_share": 1e-3,
    "substation_share": 1e-3,
    "connection_share": 1e-3,
    "passed_on_mw": 1e-3,
}
"""By how much a run that has converged may break each kind of limit: its flows are as exact as this, and what
communities and operator agreed on differs by up to the consensus tolerance."""


@dataclass(frozen=True)
class Contract:
    """What a community at a node is held to, MW, (T,) each: it draws p, on call p - up or p + down.

    power_factor: of what it draws, also on call. limit_kw: of its connection.
    """

    node: str
    p_mw: np.ndarray
    up_mw: np.ndarray
    down_mw: np.ndarray
    power_factor: float = 1.0
    limit_kw: float = np.inf


@dataclass(frozen=True)
class ContractedDay:
    """A feeder's schedule and the flexibility bought on it.

    load_p_mw, load_q_mvar: (T, n) fixed consumption. contracts: by name. support_mvar: {node: (T,)}, consumption
    positive. sold_mw: {"up": (T,), "down": (T,)} of what was sold to the grid above, where anything was.
    periods_over: so many of the first periods are not looked at. shunt_mva: (T, n) or (1, n) complex, see `Sweep.run`.
    """

    feeder: Feeder
    load_p_mw: np.ndarray
    load_q_mvar: np.ndarray
    contracts: Mapping[str, Contract]
    support_mvar: Mapping[str, np.ndarray] = field(default_factory=dict)
    substation_limit_mva: float = np.inf
    sold_mw: Mapping[str, np.ndarray] = field(default_factory=dict)
    periods_over: int = 0
    shunt_mva: np.ndarray | None = None

    def __post_init__(self) -> None:
        periods = np.shape(self.load_p_mw)[0]
        for name, one in self.contracts.items():
            for key in ("p_mw", "up_mw", "down_mw"):
                self._check(f"contract '{name}': {key}", getattr(one, key), periods)
        for node, q_mvar in self.support_mvar.items():
            self._check(f"reactive support at node '{node}'", q_mvar, periods)
        for direction, sold_mw in self.sold_mw.items():
            self._check(f"{direction} flexibility sold", sold_mw, periods)

    def _check(self, what: str, values: np.ndarray, periods: int) -> None:
        if np.shape(values) != (periods,) or not np.isfinite(values).all():
            raise InputError(f"feeder '{self.feeder.name}': {what} is {values!r}, expected {periods} finite numbers")

    def drawn_mw(self, one: Contract, scenario: str) -> np.ndarray:
        """By a community in a scenario, (T,)."""
        return one.p_mw + {"base": 0.0 * one.p_mw, "up": -one.up_mw, "down": one.down_mw}[scenario]

    def consumption(self, scenario: str) -> tuple[np.ndarray, np.ndarray]:
        """Active and reactive consumption of every node, both (T, n); q = p tan(acos(power_factor))."""
        p, q = np.array(self.load_p_mw, dtype=float), np.array(self.load_q_mvar, dtype=float)
        for one in self.contracts.values():
            node, drawn = self.feeder.node(one.node), self.drawn_mw(one, scenario)
            p[:, node] += drawn
            q[:, node] += drawn * np.sqrt(1 - one.power_factor**2) / one.power_factor
        for name, q_mvar in self.support_mvar.items():
            q[:, self.feeder.node(name)] += q_mvar
        return p, q


@dataclass(frozen=True)
class Worst:
    """The value that is furthest beyond its limit, or else nearest to it. beyond: positive where it is broken."""

    beyond: float
    where: str = ""
    period: int = -1


@dataclass(frozen=True)
class Margins:
    """How far one scenario is beyond each kind of limit.

    voltage_pu: of a node. current_share: of a branch, over its rating. substation_share: apparent power, over its
    limit. connection_share: of a community, over its limit. passed_on_mw: flexibility sold to the grid above that the
    substation's flow does not change by.
    """

    voltage_pu: Worst
    current_share: Worst
    substation_share: Worst
    connection_share: Worst
    passed_on_mw: Worst

    def broken(self) -> dict[str, Worst]:
        """What is beyond its limit by more than the tolerance, by kind."""
        return {kind: one for kind, one in vars(self).items() if one.beyond > TOLERANCES[kind]}


@dataclass(frozen=True)
class Activation:
    """Margins of the schedule, and of all up and all down flexibility called at once."""

    base: Margins
    up: Margins
    down: Margins

    def worst(self, kind: str) -> Worst:
        """Of all three."""
        return max((getattr(getattr(self, name), kind) for name in SCENARIOS), key=lambda one: one.beyond)

    @property
    def holds(self) -> bool:
        return not any(getattr(self, name).broken() for name in SCENARIOS)


def activation_check(day: ContractedDay) -> Activation:
    """Hold the AC flows of all scenarios against all limits. Raises InputError where a flow does not exist."""
    return activation_of(day, scenario_flows(day))


def activation_of(day: ContractedDay, flows: Mapping[str, AcFlow]) -> Activation:
    """Hold the flows of all scenarios against all limits."""
    return Activation(**{name: _margins(day, name, flows) for name in SCENARIOS})


def scenario_flows(day: ContractedDay) -> dict[str, AcFlow]:
    """Solve all scenarios by pandapower. Raises InputError where a flow does not exist."""
    p, q = (np.concatenate(parts) for parts in zip(*(day.consumption(name) for name in SCENARIOS), strict=True))
    periods = np.shape(day.load_p_mw)[0]
    flow = ac_flow(day.feeder, p, q, None if day.shunt_mva is None else _repeated(day.shunt_mva, periods))
    return {name: _part(flow, slice(i * periods, (i + 1) * periods)) for i, name in enumerate(SCENARIOS)}


def _repeated(shunt_mva: np.ndarray, periods: int) -> np.ndarray:
    """The admittances of all periods, once for every scenario."""
    return np.tile(np.broadcast_to(shunt_mva, (periods, shunt_mva.shape[1])), (len(SCENARIOS), 1))


def _part(flow: AcFlow, periods: slice) -> AcFlow:
    return AcFlow(**{key: value[periods] for key, value in vars(flow).items()})


class Beyond(NamedTuple):
    """How far each element is beyond its limit in each period, (T, elements); -inf where it has none."""

    beyond: np.ndarray
    names: Sequence[str]


def beyond_limits(day: ContractedDay, flow: AcFlow, scenario: str = "base") -> dict[str, Beyond]:
    """Compare a flow with all limits of the feeder, by kind."""
    feeder, voltage = day.feeder, flow.voltage_pu[:, 1:]
    apparent = np.hypot(flow.root_p_mw, flow.root_q_mvar)[:, None]
    drawn = [np.abs(day.drawn_mw(one, scenario)) * KW_PER_MW / one.limit_kw - 1 for one in day.contracts.values()]
    limits_kw = np.array([one.limit_kw for one in day.contracts.values()])
    over_rating = flow.current_pu / feeder.i_max_pu - 1
    over_limit = apparent / day.substation_limit_mva - 1
    return {
        "voltage_pu": _limited(
            np.maximum(feeder.v_min_pu[1:] - voltage, voltage - feeder.v_max_pu[1:]), feeder.nodes[1:]
        ),
        "current_share": _limited(over_rating, feeder.branches, np.isfinite(feeder.i_max_pu)),
        "substation_share": _limited(over_limit, ["substation"], np.isfinite([day.substation_limit_mva])),
        "connection_share": _limited(
            np.reshape(drawn, (len(drawn), len(voltage))).T, list(day.contracts), np.isfinite(limits_kw)
        ),
    }


def _limited(beyond: np.ndarray, names: Sequence[str], limited: np.ndarray | bool = True) -> Beyond:
    """limited: (elements,), which of them have a limit at all."""
    return Beyond(np.where(limited, beyond, NOTHING), names)


def _margins(day: ContractedDay, scenario: str, flows: Mapping[str, AcFlow]) -> Margins:
    each = beyond_limits(day, flows[scenario], scenario)
    worst = {kind: _worst(*one, day.periods_over) for kind, one in each.items()}
    return Margins(**worst, passed_on_mw=_not_passed_on(day, scenario, flows))


def _not_passed_on(day: ContractedDay, scenario: str, flows: Mapping[str, AcFlow]) -> Worst:
    """sold up <= P_root(base) - P_root(up), sold down <= P_root(down) - P_root(base)."""
    if scenario not in day.sold_mw:
        return Worst(NOTHING)
    changed = np.abs(flows[scenario].root_p_mw - flows["base"].root_p_mw)
    return _worst((day.sold_mw[scenario] - changed)[:, None], ["substation"], day.periods_over)


def _worst(beyond: np.ndarray, names: Sequence[str], over: int) -> Worst:
    """Find the worst of (T, E). over: periods that do not count."""
    counted = beyond[over:]
    if counted.size == 0 or counted.max() == NOTHING:
        return Worst(NOTHING)
    period, at = np.unravel_index(counted.argmax(), counted.shape)
    return Worst(float(counted[period, at]), names[at], int(period) + over)


def contracted_day(agent: DistributionAgent, connection_kw: Mapping[str, float]) -> ContractedDay | None:
    """What an operator knows after a run, None before one. connection_kw: public limits by coupling, where known."""
    latest = agent.latest()
    return None if latest is None else day_of(agent.model, agent.program, *latest, connection_kw)


def day_of(
    model: DistributionModel,
    program: DistributionProgram,
    x: np.ndarray,
    scheduled: np.ndarray,
    connection_kw: Mapping[str, float],
) -> ContractedDay:
    """Read the day from a program's answer.

    Args:
        model: the operator's.
        program: the one that has answered.
        x: its own answer, (n,).
        scheduled: x with what the other side schedules, (n,).
        connection_kw: public limits by coupling, where known.
    """
    agreed = {key: scheduled[at] for key, at in program.boundary.items()}
    return ContractedDay(
        feeder=model.feeder,
        load_p_mw=model.load_p_mw,
        load_q_mvar=model.load_q_mvar,
        contracts=_contracts(model, agreed, connection_kw),
        support_mvar=program.support_mvar(x),
        substation_limit_mva=model.substation_limit_mva,
        sold_mw={way: x[program.exchange[f"flex_{way}_mw"]] for way in ("up", "down") if model.flexibility},
        periods_over=model.periods_over,
        shunt_mva=model.shunt_mva,
    )


def _contracts(
    model: DistributionModel, agreed: Mapping[tuple[str, str], np.ndarray], connection_kw: Mapping[str, float]
) -> dict[str, Contract]:
    found = {}
    for one in model.connections:
        p, up, down = (
            agreed.get((one.coupling, key), np.zeros(model.periods)) for key in ("p_mw", "flex_up_mw", "flex_down_mw")
        )
        limit_kw = min(connection_kw.get(one.coupling, np.inf), KW_PER_MW * one.capacity_mw)
        found[one.coupling] = Contract(one.node, p, up, down, one.power_factor, limit_kw)
    return found
