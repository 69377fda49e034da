"""What a distribution system operator wants, as one program that is exact at its operating points.

Three scenarios share the boundary and the reactive set points, each with its own flows and limits:
*base* (communities consume p), *up* (p - flex_up, all up flexibility activated at once) and *down*
(p + flex_down). What the operator can pass on to the grid above contains the change in losses:

    flex_up <= P_root(base) - P_root(up),   flex_down <= P_root(down) - P_root(base)

Losses stand in the power balances, so they are paid for at the substation and have no cost of their own.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np

from admm import InputError
from networks.assembly import Assembly
from networks.distflow import FlowRows, FlowVariables, OperatingPoint, Withdrawal, add_flow_variables
from networks.feeder import Feeder
from networks.sweep import FlowState, Sweep
from subproblems import QuadraticProgram

SCENARIOS = {"base": 0.0, "up": -1.0, "down": 1.0}
"""Name of a scenario and the sign with which its flexibility changes a community's consumption."""
ACTIVATED_LOSS_PRICE = 5.0
"""EUR/MWh: proximal curvature of the activated scenarios, whose losses cost nothing (measured: enough)."""
LOSS_FLOOR = 0.01
"""Loss errors are relative to the period's losses, but at least to this share of the largest period's."""


@dataclass(frozen=True)
class Connection:
    """A community at a node. It draws reactive power p tan(acos(power_factor)), also when activated.

    capacity_mw: limit on |p|, |p - flex_up| and |p + flex_down|; infinite for none.
    """

    coupling: str
    node: str
    power_factor: float = 1.0
    capacity_mw: float = np.inf


@dataclass(frozen=True)
class ReactiveSupport:
    """A set point q of the operator's own, consumption positive, |q| <= q_max_mvar, at quadratic_cost q^2 an hour."""

    node: str
    q_max_mvar: float
    quadratic_cost_eur_per_mvar2h: float = 0.1


@dataclass(frozen=True)
class DistributionModel:
    """The private model of one operator.

    hours: length of a period. load_p_mw, load_q_mvar: (T, n) fixed consumption, in the feeder's order
    of nodes. upstream: name of the coupling to the grid above. flexibility: whether couplings carry
    flex_up_mw and flex_down_mw beside p_mw. loss_price_eur_per_mwh: sets the proximal curvature
    2 price hours r / V_slack^2 on the base flows; it steers the solve and costs nothing.
    """

    name: str
    feeder: Feeder
    hours: float
    load_p_mw: np.ndarray
    load_q_mvar: np.ndarray
    connections: tuple[Connection, ...]
    upstream: str
    supports: tuple[ReactiveSupport, ...] = ()
    substation_limit_mva: float = np.inf
    flexibility: bool = True
    loss_price_eur_per_mwh: float = field(default=50.0)

    def __post_init__(self) -> None:
        object.__setattr__(self, "connections", tuple(self.connections))
        object.__setattr__(self, "supports", tuple(self.supports))
        for key in ("load_p_mw", "load_q_mvar"):
            array = np.array(getattr(self, key), dtype=float)
            if array.ndim != 2 or array.shape[0] == 0 or array.shape[1] != len(self.feeder.nodes):
                raise self._error(key, f"array of shape {array.shape}", f"(periods, {len(self.feeder.nodes)})")
            if not np.isfinite(array).all():
                raise self._error(key, "not finite everywhere", "finite numbers")
            object.__setattr__(self, key, array)
        if self.load_p_mw.shape != self.load_q_mvar.shape:
            raise self._error("load_q_mvar", f"of shape {self.load_q_mvar.shape}", f"{self.load_p_mw.shape}")
        for key in ("hours", "substation_limit_mva", "loss_price_eur_per_mwh"):
            if not getattr(self, key) > 0:
                raise self._error(key, repr(getattr(self, key)), "a number above 0")
        self._check_connections()
        self._check_supports()

    def _error(self, key: str, found: str, expected: str) -> InputError:
        return InputError(f"distribution operator '{self.name}': {key} is {found}, expected {expected}")

    def _check_connections(self) -> None:
        names = [self.upstream, *(connection.coupling for connection in self.connections)]
        for name in names:
            if names.count(name) > 1:
                raise self._error("coupling", f"'{name}' more than once", "a name of its own for each")
        for one in self.connections:
            self.feeder.node(one.node)
            if not 0 < one.power_factor <= 1:
                raise self._error(f"power_factor of '{one.coupling}'", repr(one.power_factor), "above 0 and at most 1")
            if not one.capacity_mw > 0:
                raise self._error(f"capacity_mw of '{one.coupling}'", repr(one.capacity_mw), "a number above 0")

    def _check_supports(self) -> None:
        nodes = [support.node for support in self.supports]
        for one in self.supports:
            self.feeder.node(one.node)
            if nodes.count(one.node) > 1:
                raise self._error("reactive support", f"given twice at node '{one.node}'", "one a node")
            for key in ("q_max_mvar", "quadratic_cost_eur_per_mvar2h"):
                value = getattr(one, key)
                if not (np.isfinite(value) and value >= 0):
                    raise self._error(f"{key} at node '{one.node}'", repr(value), "a finite number of at least 0")

    @property
    def periods(self) -> int:
        return self.load_p_mw.shape[0]

    @property
    def scenarios(self) -> dict[str, float]:
        return SCENARIOS if self.flexibility else {"base": 0.0}

    @property
    def quantities(self) -> tuple[str, ...]:
        return ("p_mw", "flex_up_mw", "flex_down_mw") if self.flexibility else ("p_mw",)


@dataclass(frozen=True)
class FlowErrors:
    """How far the program's flows are from the exact ones. voltage_pu: largest difference of magnitudes.

    loss_share: largest difference of losses as a share of the period's; both infinite where there is no flow.
    """

    voltage_pu: float
    loss_share: float

    def multiple(self, voltage_pu: float, loss_share: float) -> float:
        """The larger of the two errors, as a multiple of its tolerance."""
        return max(self.voltage_pu / voltage_pu, self.loss_share / loss_share)


class DistributionProgram:
    """The operator's variables and rows; `linearised` makes the program for any operating points.

    scales: nominal size of each boundary quantity, {(coupling, quantity): MW}, where it is known.
    """

    def __init__(self, model: DistributionModel, scales: Mapping[tuple[str, str], float] | None = None) -> None:
        self.model, self.scales = model, dict(scales or {})
        self.sweep = Sweep(model.feeder)
        self.flow_scale_mw = self._flow_scale()
        self._assembly = Assembly("", model.periods)
        self._build(self.first_points())

    def _flow_scale(self) -> float:
        """Peak apparent load of the feeder, MVA, with what the communities may add."""
        load = np.hypot(self.model.load_p_mw.sum(axis=1), self.model.load_q_mvar.sum(axis=1)).max()
        added = sum(self._boundary_scale(one.coupling, "p_mw", one.capacity_mw) for one in self.model.connections)
        return max(float(load), added, 1e-3)

    def _boundary_scale(self, coupling: str, quantity: str, capacity_mw: float = np.inf) -> float:
        fallback = capacity_mw if np.isfinite(capacity_mw) else 0.1
        return float(self.scales.get((coupling, quantity), fallback))

    def first_points(self) -> tuple[OperatingPoint, ...]:
        """The flow of the fixed load alone, one point a scenario; the empty feeder where that does not converge."""
        model = self.model
        empty = self.sweep.run(np.zeros_like(model.load_p_mw), np.zeros_like(model.load_q_mvar))
        point = OperatingPoint.of_flow(self.sweep.run(model.load_p_mw, model.load_q_mvar), OperatingPoint.of_flow(empty))
        return (point,) * len(model.scenarios)

    def linearised(self, points: tuple[OperatingPoint, ...] | None = None) -> QuadraticProgram:
        """The program with rows that are exact at the points; its pattern does not depend on them."""
        return self._build(self.first_points() if points is None else points)

    def _build(self, points: tuple[OperatingPoint, ...]) -> QuadraticProgram:
        model = self.model
        self._assembly = Assembly(f"distribution operator '{model.name}'", model.periods)
        self._add_boundary()
        self._add_supports()
        self.flows: dict[str, FlowVariables] = {}
        self.withdrawals: dict[str, list[Withdrawal]] = {}
        for (scenario, sign), point in zip(model.scenarios.items(), points, strict=True):
            self._add_scenario(scenario, sign, point)
        if model.flexibility:
            self._add_passed_on()
        self.boundary = {key: columns[:, 0] for key, columns in self._copies.items()}
        self.boundary[model.upstream, "p_mw"] = self.flows["base"].root_p[:, 0]
        return self._assembly.build(self.boundary)

    def _add_boundary(self) -> None:
        """Copies of the communities' values and what is passed on; limits of the connections."""
        model, self._copies = self.model, {}
        for one in model.connections:
            for quantity in model.quantities:
                scale = self._boundary_scale(one.coupling, quantity, one.capacity_mw)
                self._copies[one.coupling, quantity] = self._assembly.variables(f"{one.coupling}.{quantity}", 1, "MW", scale)
            self._limit_connection(one)
        for quantity in model.quantities[1:]:
            scale = self._boundary_scale(model.upstream, quantity)
            columns = self._assembly.variables(f"{model.upstream}.{quantity}", 1, "MW", scale)
            self._copies[model.upstream, quantity] = columns
            self._assembly.limit(f"{model.upstream}: {quantity} is not negative", columns, 0.0, np.inf, scale)

    def _limit_connection(self, one: Connection) -> None:
        p = self._copies[one.coupling, "p_mw"]
        scale = self._boundary_scale(one.coupling, "p_mw", one.capacity_mw)
        label, limit = f"{one.coupling}: connection capacity", one.capacity_mw
        if np.isfinite(limit):
            self._assembly.limit(label, p, -limit, limit, scale)
        for quantity, sign in zip(self.model.quantities[1:], (-1.0, 1.0), strict=False):
            flex = self._copies[one.coupling, quantity]
            flex_scale = self._boundary_scale(one.coupling, quantity, limit)
            self._assembly.limit(f"{one.coupling}: {quantity} is not negative", flex, 0.0, np.inf, flex_scale)
            if np.isfinite(limit):
                rows = self._assembly.rows([f"{label} with {quantity}"], -limit, limit, scale)
                self._assembly.put(rows, p, 1.0)
                self._assembly.put(rows, flex, sign)

    def _add_supports(self) -> None:
        self._support_columns: list[np.ndarray] = []
        for one in self.model.supports:
            scale = max(one.q_max_mvar, 1e-3)
            columns = self._assembly.variables(f"reactive support {one.node}.q_mvar", 1, "Mvar", scale)
            label = f"reactive support at node {one.node}: limits"
            self._assembly.limit(label, columns, -one.q_max_mvar, one.q_max_mvar, scale)
            self._assembly.cost(columns, 0.0, one.quadratic_cost_eur_per_mvar2h * self.model.hours)
            self._support_columns.append(columns)

    def _withdrawals(self, sign: float) -> list[Withdrawal]:
        """What the variables consume in a scenario: p + sign * flex at every community, and the support."""
        model, found = self.model, []
        for one in model.connections:
            node, tangent = model.feeder.node(one.node), float(np.tan(np.arccos(one.power_factor)))
            found.append(Withdrawal(node, self._copies[one.coupling, "p_mw"], 1.0, tangent))
            if sign:
                flex = self._copies[one.coupling, "flex_up_mw" if sign < 0 else "flex_down_mw"]
                found.append(Withdrawal(node, flex, sign, sign * tangent))
        for one, columns in zip(model.supports, self._support_columns, strict=True):
            found.append(Withdrawal(model.feeder.node(one.node), columns, 0.0, 1.0))
        return found

    def _add_scenario(self, scenario: str, sign: float, point: OperatingPoint) -> None:
        model, assembly, feeder = self.model, self._assembly, self.model.feeder
        variables = add_flow_variables(assembly, feeder, scenario, self.flow_scale_mw)
        self.flows[scenario], self.withdrawals[scenario] = variables, self._withdrawals(sign)
        FlowRows(
            assembly, feeder, scenario, variables, self.withdrawals[scenario],
            model.load_p_mw, model.load_q_mvar, point, self.flow_scale_mw,
        ).add(model.substation_limit_mva)
        price = ACTIVATED_LOSS_PRICE if sign else model.loss_price_eur_per_mwh
        curvature = 2 * price * model.hours * feeder.r_pu / feeder.slack_voltage_pu**2
        assembly.proximal(variables.p, curvature, point.branch_p_mw)
        assembly.proximal(variables.q, curvature, point.branch_q_mvar)

    def _add_passed_on(self) -> None:
        """flex_up + P_root(up) - P_root(base) <= 0 and flex_down + P_root(base) - P_root(down) <= 0."""
        base = self.flows["base"].root_p
        for quantity, scenario, sign in (("flex_up_mw", "up", 1.0), ("flex_down_mw", "down", -1.0)):
            columns = self._copies[self.model.upstream, quantity]
            label = f"{self.model.upstream}: {quantity} is what the substation flow changes by"
            rows = self._assembly.rows([label], -np.inf, 0.0, self.flow_scale_mw)
            self._assembly.put(rows, columns, 1.0)
            self._assembly.put(rows, self.flows[scenario].root_p, sign)
            self._assembly.put(rows, base, -sign)

    def consumption(self, x: np.ndarray, scenario: str = "base") -> tuple[np.ndarray, np.ndarray]:
        """Active and reactive consumption of every node at x, both (T, n), MW and Mvar."""
        p, q = self.model.load_p_mw.copy(), self.model.load_q_mvar.copy()
        for taken in self.withdrawals[scenario]:
            value = x[taken.columns[:, 0]]
            p[:, taken.node] += taken.p_share * value
            q[:, taken.node] += taken.q_share * value
        return p, q

    def exact_flow(self, x: np.ndarray, scenario: str = "base") -> FlowState:
        """The AC power flow of what x consumes in a scenario."""
        return self.sweep.run(*self.consumption(x, scenario))

    def voltage_pu(self, x: np.ndarray, scenario: str = "base") -> np.ndarray:
        """The program's own voltages at x, (T, n)."""
        w = x[self.flows[scenario].w]
        root = np.full((self.model.periods, 1), self.model.feeder.slack_voltage_pu)
        return np.hstack([root, np.sqrt(np.maximum(1 + w / 100, 0.0))])

    def losses_mw(self, x: np.ndarray, scenario: str = "base") -> np.ndarray:
        """The program's own losses at x, (T,): what the substation draws beyond the consumption."""
        return x[self.flows[scenario].root_p[:, 0]] - self.consumption(x, scenario)[0].sum(axis=1)

    def errors(self, x: np.ndarray, flow: FlowState, scenario: str = "base") -> FlowErrors:
        """The program's flows at x against an exact flow."""
        if not flow.converged.all():
            return FlowErrors(np.inf, np.inf)
        voltage = np.abs(self.voltage_pu(x, scenario) - np.abs(flow.voltage_pu)).max()
        floor = max(LOSS_FLOOR * flow.losses_mw.max(), np.finfo(float).tiny)
        losses = np.abs(self.losses_mw(x, scenario) - flow.losses_mw) / np.maximum(flow.losses_mw, floor)
        return FlowErrors(float(voltage), float(losses.max()))

    def points(self, x: np.ndarray) -> tuple[OperatingPoint, ...]:
        """The exact flows at x, one point a scenario; the program's own state where a flow does not converge."""
        return tuple(OperatingPoint.of_flow(self.exact_flow(x, name), self._own_point(x, name)) for name in self.flows)

    def _own_point(self, x: np.ndarray, scenario: str) -> OperatingPoint:
        v = self.flows[scenario]
        v_sq = self.voltage_pu(x, scenario) ** 2
        return OperatingPoint(x[v.p], x[v.q], v_sq, x[v.root_p[:, 0]], x[v.root_q[:, 0]])

    def corrected(self, x: np.ndarray) -> tuple[QuadraticProgram, dict[str, FlowErrors]]:
        """The program made exact at x, and how wrong it was there, by scenario.

        For whoever solves the program in another way: solve, correct, and solve again until the errors are small.
        """
        errors = {name: self.errors(x, self.exact_flow(x, name), name) for name in self.flows}
        return self.linearised(self.points(x)), errors
