"""What a distribution system operator wants, as one program that is exact at its operating points.

Three scenarios share the boundary and the reactive set points, each with its own flows and limits:
*base* (communities consume p), *up* (p - flex_up, all up flexibility activated at once) and *down*
(p + flex_down). What the operator can pass on to the grid above contains the change in losses:

    flex_up <= P_root(base) - P_root(up),   flex_down <= P_root(down) - P_root(base)

Losses stand in the power balances, so they are paid for at the substation and have no cost of their own.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from admm import InputError
from admm.interfaces import Names
from networks.ac_check import AcCheck, check_ac
from networks.assembly import Assembly, Columns
from networks.distflow import AffineFlow, DistFlow, OperatingPoint, Withdrawal
from networks.distribution_model import SUPPLY, DistributionModel, ReactiveSupport, Supply
from networks.flow_limits import Limit, ScenarioFlow
from networks.flow_program import LARGEST_ERROR, FlowProgram
from networks.loss_damping import LossDamping
from networks.sweep import FlowState, Sweep
from subproblems import QuadraticProgram

ACTIVATED_LOSS_PRICE = 5.0
"""EUR/MWh: curvature of the activated scenarios' losses, which cost no energy, only flexibility passed on."""
LOSS_FLOOR = 0.01
"""Loss errors are relative to the period's losses, but at least to this share of the largest period's."""
CORRECT_ABOVE_PU, CORRECT_ABOVE_LOSS_SHARE = 1e-5, 1e-4
"""Errors at the operator's own answer above which the rows are moved."""
FINAL_PU, FINAL_LOSS_SHARE = 4e-5, 8e-4
"""Errors at the communities' schedule at which `model_error` is 1: inside 5e-5 pu and 0.1 % of losses."""
LEAST_V_SQ_PU = 1e-4
"""Squared voltages that rows far from their operating point may give are at least this."""
ACTIVATED_FACTOR = 5.0
"""How much wider the tolerances of the activated scenarios are."""


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


@dataclass(frozen=True)
class Scenario:
    """One scenario: what its flow depends on, columns (T, K), and the flow at the latest operating point."""

    sign: float
    withdrawals: tuple[Withdrawal, ...]
    columns: np.ndarray
    distflow: DistFlow


class DistributionProgram(FlowProgram):
    """The operator's variables and rows; `linearised` makes the program for any operating points.

    scales: nominal size of each boundary quantity, {(coupling, quantity): MW}, where it is known.
    """

    def __init__(self, model: DistributionModel, scales: Mapping[tuple[str, str], float] | None = None) -> None:
        self.model, self.scales = model, dict(scales or {})
        self.sweep = Sweep(model.feeder)
        self.columns = Columns(model.periods)
        self._copies = copies = self._add_copies()
        self.exchange = {q: copies[model.exchange_name, q] for q in model.quantities}
        own = isinstance(model.upstream, Supply)
        self.boundary = {key: at for key, at in copies.items() if not (own and key[0] == SUPPLY)}
        self.held = [(one.coupling, quantity) for one in model.connections for quantity in model.quantities]
        self._support_columns = [self._add_support(one) for one in model.supports]
        self.flow_scale_mw = max(self._scale(one.coupling, "p_mw", one.capacity_mw) for one in model.connections)
        self.scenarios = {name: self._scenario(sign) for name, sign in model.scenarios.items()}
        self.flows: dict[str, AffineFlow] = {}
        self.loss_damping = LossDamping(self.scenarios, model.periods)
        self._flows_here: dict[str, ScenarioFlow] = {}

    @property
    def size(self) -> int:
        return self.columns.size

    def _scale(self, coupling: str, quantity: str, capacity_mw: float = np.inf) -> float:
        if coupling == SUPPLY and isinstance(self.model.upstream, Supply):
            capacity_mw = max(0.1, float(self.model.load_p_mw.sum(axis=1).max()))
        return float(self.scales.get((coupling, quantity), capacity_mw if np.isfinite(capacity_mw) else 0.1))

    def _add_copies(self) -> dict[tuple[str, str], np.ndarray]:
        """Copies of the communities' values, and what is exchanged with the grid above."""
        found = {}
        for coupling, capacity_mw in self._couplings():
            for quantity in self.model.quantities:
                scale = self._scale(coupling, quantity, capacity_mw)
                found[coupling, quantity] = self.columns.add(f"{coupling}.{quantity}", "MW", scale)
        return found

    def _couplings(self) -> list[tuple[str, float]]:
        model = self.model
        return [*((one.coupling, one.capacity_mw) for one in model.connections), (model.exchange_name, np.inf)]

    def _add_support(self, one: ReactiveSupport) -> np.ndarray:
        return self.columns.add(f"reactive support {one.node}.q_mvar", "Mvar", max(one.q_max_mvar, 1e-3))

    def _scenario(self, sign: float) -> Scenario:
        withdrawals = tuple(self._withdrawals(sign))
        columns = np.stack([taken.columns for taken in withdrawals], axis=1)
        model = self.model
        distflow = DistFlow(model.feeder, withdrawals, model.load_p_mw, model.load_q_mvar, model.shunt_mva)
        return Scenario(sign, withdrawals, columns, distflow)

    def _withdrawals(self, sign: float) -> Iterator[Withdrawal]:
        """What the variables consume in a scenario: p + sign * flex at every community, and the support."""
        model = self.model
        for one in model.connections:
            node, tangent = model.feeder.node(one.node), float(np.tan(np.arccos(one.power_factor)))
            yield Withdrawal(node, self.boundary[one.coupling, "p_mw"], 1.0, tangent)
            if sign:
                flex = self.boundary[one.coupling, "flex_up_mw" if sign < 0 else "flex_down_mw"]
                yield Withdrawal(node, flex, sign, sign * tangent)
        for one, columns in zip(model.supports, self._support_columns, strict=True):
            yield Withdrawal(model.feeder.node(one.node), columns, 0.0, 1.0)

    def first_points(self) -> dict[str, OperatingPoint]:
        """The flow of the fixed load alone, by scenario; the empty feeder where that does not converge."""
        model = self.model
        empty = self.sweep.run(np.zeros_like(model.load_p_mw), np.zeros_like(model.load_q_mvar), model.shunt_mva)
        loaded = self.sweep.run(model.load_p_mw, model.load_q_mvar, model.shunt_mva)
        point = OperatingPoint.of_flow(loaded, OperatingPoint.of_flow(empty))
        return dict.fromkeys(self.scenarios, point)

    def linearised(
        self, points: Mapping[str, OperatingPoint] | None = None, masks: Sequence[np.ndarray] | None = None
    ) -> QuadraticProgram:
        """The program with flows that are exact at the points, and all their limits.

        masks: for each of `limits` which of its rows to take, (T, E); for given masks the pattern of the
        program does not depend on the points.
        """
        points = self.first_points() if points is None else points
        assembly = Assembly(f"distribution operator '{self.model.name}'", self.columns)
        self.flows = {name: scenario.distflow.at(points[name]) for name, scenario in self.scenarios.items()}
        self.limits: list[Limit] = []
        self._add_connection_rows(assembly)
        self._add_support_rows(assembly)
        for name in self.scenarios:
            self._add_scenario(assembly, name, points[name])
        for i, limit in enumerate(self.limits):
            limit.add(assembly, None if masks is None else masks[i])
        self._add_exchange_rows(assembly)
        for quantity, price in self._supply_prices().items():
            assembly.linear_cost(self.exchange[quantity], price)
        return assembly.build(self.boundary)

    def _add_connection_rows(self, assembly: Assembly) -> None:
        for coupling, limit in self._couplings():
            mine = self.copies(coupling)
            p, scale = mine["p_mw"], self._scale(coupling, "p_mw", limit)
            if np.isfinite(limit):
                assembly.combine(f"{coupling}: connection capacity", [(p, 1.0)], -limit, limit, scale)
            for quantity, sign in zip(self.model.quantities[1:], (-1.0, 1.0), strict=False):
                flex = mine[quantity]
                label = f"{coupling}: {quantity} is not negative"
                assembly.combine(
                    label, [(flex, 1.0)], self._least_flexibility(), np.inf, self._scale(coupling, quantity, limit)
                )
                if np.isfinite(limit):
                    label = f"{coupling}: connection capacity with {quantity}"
                    assembly.combine(label, [(p, 1.0), (flex, sign)], -limit, limit, scale)

    def _least_flexibility(self) -> np.ndarray:
        """shape (T, 1): 0, but open in periods that are over, where communities offer none: errors of the linearised
        losses between the scenarios must not move what was really drawn."""
        over = np.arange(self.model.periods) < self.model.periods_over
        return np.where(over, -np.inf, 0.0)[:, None]

    def copies(self, coupling: str) -> dict[str, np.ndarray]:
        """{quantity: positions (T,)} of what is exchanged with a community, or with the grid above."""
        if coupling == self.model.exchange_name:
            return self.exchange
        return {quantity: self.boundary[coupling, quantity] for quantity in self.model.quantities}

    def _add_support_rows(self, assembly: Assembly) -> None:
        for one, columns in zip(self.model.supports, self._support_columns, strict=True):
            label, limit = f"reactive support at node {one.node}: limits", one.q_max_mvar
            assembly.combine(label, [(columns, 1.0)], *self._support_limits(one), max(limit, 1e-3))
            assembly.quadratic_cost(columns, one.quadratic_cost_eur_per_mvar2h * self.model.hours)

    def _support_limits(self, one: ReactiveSupport) -> tuple[np.ndarray, np.ndarray]:
        """Mvar, (T, 1) each; what it was in periods that are over."""
        lower, upper = np.full(self.model.periods, -one.q_max_mvar), np.full(self.model.periods, one.q_max_mvar)
        over = slice(0, self.model.periods_over)
        if one.node in self.model.support_was_mvar:
            lower[over] = upper[over] = self.model.support_was_mvar[one.node][over]
        return lower[:, None], upper[:, None]

    def _add_scenario(self, assembly: Assembly, name: str, point: OperatingPoint) -> None:
        model, scenario = self.model, self.scenarios[name]
        here = ScenarioFlow(model.feeder, name, self.flows[name], scenario.columns, point, self.flow_scale_mw)
        limits = here.limits(model.substation_limit_mva)
        self.limits += [limit.open_before(model.periods_over) for limit in limits] if model.periods_over else limits
        self._flows_here[name] = here
        here.add_loss_curvature(assembly, self._loss_price(name))

    def _loss_price(self, name: str) -> np.ndarray:
        """EUR per MW of losses in each period, (T,), for the curvature of a scenario, with its damping.

        What the supply asks counts where it is more than the nominal price: with less curvature than losses have, set
        points jump to and fro between corrections.
        """
        model, called = self.model, self.scenarios[name].sign != 0
        price = ACTIVATED_LOSS_PRICE if called else model.loss_price_eur_per_mwh
        if isinstance(model.upstream, Supply):
            asked = model.upstream.flexibility_price_eur_per_mwh if called else model.upstream.price_eur_per_mwh
            price = np.maximum(price, asked)
        return price * model.hours * self.loss_damping.factors[name]

    def _add_exchange_rows(self, assembly: Assembly) -> None:
        """p_mw = P_root(base), flex_up <= P_root(base) - P_root(up), flex_down <= P_root(down) - P_root(base)."""
        upstream = self.model.exchange_name
        for quantity, plus, minus, is_limit in (
            ("p_mw", "base", None, False),
            ("flex_up_mw", "base", "up", True),
            ("flex_down_mw", "down", "base", True),
        ):
            if quantity not in self.model.quantities:
                continue
            constant = self.flows[plus].root_p_mw.constant - (self.flows[minus].root_p_mw.constant if minus else 0.0)
            label = f"{upstream}: {quantity} is what the substation flow " + ("changes by" if is_limit else "is")
            scale = self._scale(upstream, quantity)
            rows = assembly.rows([label], -np.inf if is_limit else constant, constant, scale)
            assembly.put(rows[:, 0], self.exchange[quantity], 1.0)
            for name, sign in ((plus, -1.0), (minus, 1.0)):
                if name:
                    slope = self.flows[name].root_p_mw.slope[:, 0]
                    assembly.put(rows, self.scenarios[name].columns, sign * slope)

    def _supply_prices(self) -> dict[str, np.ndarray | float]:
        """What one MW in a period costs with a grid above that is no agent, EUR, by quantity."""
        supply, hours = self.model.upstream, self.model.hours
        if not isinstance(supply, Supply):
            return {}
        paid = -supply.flexibility_price_eur_per_mwh * hours
        prices = {"p_mw": np.asarray(supply.price_eur_per_mwh) * hours, "flex_up_mw": paid, "flex_down_mw": paid}
        return {quantity: prices[quantity] for quantity in self.model.quantities}

    def ac_check(self, x: np.ndarray, scheduled: np.ndarray) -> AcCheck | None:
        """The base flow at x against pandapower's of what is scheduled; None where there is none."""
        p, q = self.consumption(scheduled)
        try:
            return check_ac(
                self.model.feeder, p, q, self.voltage_pu(x), self.losses_mw(x), shunt_mva=self.model.shunt_mva
            )
        except InputError:
            return None

    def checks(self, x: np.ndarray, scheduled: np.ndarray) -> dict[str, float | None]:
        found = self.ac_check(x, scheduled)
        return {
            "ac_max_voltage_error_pu": None if found is None else found.max_voltage_error_pu,
            "ac_max_loss_error": None if found is None else found.max_loss_error,
        }

    def support_mvar(self, x: np.ndarray) -> dict[str, np.ndarray]:
        """Reactive set points at x, {node: (T,)}."""
        pairs = zip(self.model.supports, self._support_columns, strict=True)
        return {one.node: x[columns] for one, columns in pairs}

    def cost_eur(self, x: np.ndarray) -> float:
        """The operator's own cost at x: of reactive support and of its supply, without the curvature around the
        operating point."""
        pairs = zip(self.model.supports, self._support_columns, strict=True)
        costs = (one.quadratic_cost_eur_per_mvar2h * float(x[at] @ x[at]) for one, at in pairs)
        supplied = (float(np.sum(price * x[self.exchange[q]])) for q, price in self._supply_prices().items())
        return self.model.hours * sum(costs) + sum(supplied)

    def consumption(self, x: np.ndarray, scenario: str = "base") -> tuple[np.ndarray, np.ndarray]:
        """Active and reactive consumption of every node at x, both (T, n), MW and Mvar, without the admittances."""
        p, q = self.model.load_p_mw.copy(), self.model.load_q_mvar.copy()
        for taken in self.scenarios[scenario].withdrawals:
            p[:, taken.node] += taken.p_share * x[taken.columns]
            q[:, taken.node] += taken.q_share * x[taken.columns]
        return p, q

    def exact_flow(self, x: np.ndarray, scenario: str = "base") -> FlowState:
        """The AC power flow of what x consumes in a scenario."""
        return self.sweep.run(*self.consumption(x, scenario), self.model.shunt_mva)

    def own_point(self, x: np.ndarray, scenario: str = "base") -> OperatingPoint:
        """The program's own flow at x."""
        flow, u = self.flows[scenario], x[self.scenarios[scenario].columns]
        root = np.full((self.model.periods, 1), self.model.feeder.root_base_pu**2)
        v_sq = np.hstack([root, np.maximum(1 + flow.w.at(u) / 100, LEAST_V_SQ_PU)])
        root_p, root_q = flow.root_p_mw.at(u)[:, 0], flow.root_q_mvar.at(u)[:, 0]
        return OperatingPoint(flow.p_mw.at(u), flow.q_mvar.at(u), v_sq, root_p, root_q)

    def voltage_pu(self, x: np.ndarray, scenario: str = "base") -> np.ndarray:
        """The program's own voltages at x, (T, n), per unit of nominal_kv."""
        return np.sqrt(self.own_point(x, scenario).v_sq_pu) * self.model.feeder.base_per_nominal

    def losses_mw(self, x: np.ndarray, scenario: str = "base") -> np.ndarray:
        """The program's own losses at x, (T,): what the substation draws beyond loads, generators and shunts. So these
        are the losses of branches, no-load losses included."""
        u = x[self.scenarios[scenario].columns]
        drawn = self.flows[scenario].root_p_mw.at(u)[:, 0] - self.consumption(x, scenario)[0].sum(axis=1)
        shunt_mw = self.model.shunt_mva.real
        return drawn - (shunt_mw * self.own_point(x, scenario).v_sq_pu).sum(axis=1) if shunt_mw.any() else drawn

    def errors(self, x: np.ndarray, flow: FlowState, scenario: str = "base") -> FlowErrors:
        """The program's flows at x against an exact flow."""
        if not flow.converged.all():
            return FlowErrors(np.inf, np.inf)
        voltage, losses = self._period_errors(x, flow, scenario)
        return FlowErrors(float(voltage.max()), float(losses.max()))

    def _period_errors(self, x: np.ndarray, flow: FlowState, scenario: str) -> tuple[np.ndarray, np.ndarray]:
        """Largest difference of voltages, pu, and difference of losses as a share, both (T,)."""
        voltage = np.abs(self.voltage_pu(x, scenario) - np.abs(flow.voltage_pu)).max(axis=1)
        floor = max(LOSS_FLOOR * flow.losses_mw.max(), np.finfo(float).tiny)
        losses = np.abs(self.losses_mw(x, scenario) - flow.losses_mw) / np.maximum(flow.losses_mw, floor)
        return voltage, losses

    def damp(self, x: np.ndarray, exact: float) -> None:
        """See `FlowProgram`."""
        self.loss_damping.raise_where_stuck({name: self._period_multiples(x, name) for name in self.scenarios}, exact)

    def _period_multiples(self, x: np.ndarray, scenario: str) -> np.ndarray:
        """The flow's error of every period, (T,), in multiples of what is corrected."""
        flow = self.exact_flow(x, scenario)
        voltage, losses = self._period_errors(x, flow, scenario)
        found = np.maximum(voltage / CORRECT_ABOVE_PU, losses / CORRECT_ABOVE_LOSS_SHARE)
        return np.where(flow.converged, found, LARGEST_ERROR)

    def hidden_eur(self, x: np.ndarray) -> float:
        """See `FlowProgram`."""
        if self.loss_damping.idle:
            return 0.0
        return sum(
            here.curvature_slope_eur(x[here.columns], self._loss_price(name)) for name, here in self._flows_here.items()
        )

    def points(self, x: np.ndarray) -> dict[str, OperatingPoint]:
        """The exact flows at x by scenario; the program's own where a flow does not converge."""
        return {
            name: OperatingPoint.of_flow(self.exact_flow(x, name), self.own_point(x, name)) for name in self.scenarios
        }

    def all_errors(self, x: np.ndarray) -> dict[str, FlowErrors]:
        """How far x is from the exact flow of its own consumption, by scenario."""
        return {name: self.errors(x, self.exact_flow(x, name), name) for name in self.scenarios}

    def correction_multiple(self, errors: Mapping[str, FlowErrors]) -> float:
        """See `FlowProgram`."""
        return max((e.multiple(CORRECT_ABOVE_PU, CORRECT_ABOVE_LOSS_SHARE) for e in errors.values()), default=0.0)

    def schedule_multiple(self, x: np.ndarray, scheduled: np.ndarray, errors: Mapping[str, FlowErrors]) -> float:
        """The base flows against the exact flow of the communities' own schedule, the activated ones against
        that of the operator's copies, as a multiple of the tolerance."""
        flow = self.exact_flow(scheduled)
        error = self.errors(x, flow).multiple(FINAL_PU, FINAL_LOSS_SHARE)
        activated = (e for name, e in errors.items() if name != "base")
        wide = (e.multiple(ACTIVATED_FACTOR * FINAL_PU, ACTIVATED_FACTOR * FINAL_LOSS_SHARE) for e in activated)
        return min(max([error, *wide]), LARGEST_ERROR)

    def solution(self, x: np.ndarray) -> dict[str, np.ndarray]:
        """Flows, voltages, currents and losses by scenario: {"base.voltage_pu": (T, n), ...}."""
        found = {}
        for name in self.scenarios:
            point = self.own_point(x, name)
            found[f"{name}.branch_p_mw"], found[f"{name}.branch_q_mvar"] = point.branch_p_mw, point.branch_q_mvar
            found[f"{name}.voltage_pu"] = self.voltage_pu(x, name)
            found[f"{name}.current_pu"] = self._current_pu(point)
            found[f"{name}.losses_mw"] = self.losses_mw(x, name)
        return found

    def _current_pu(self, point: OperatingPoint) -> np.ndarray:
        """The largest rated current of every branch, (T, n - 1), see `RatedCurrents.largest_pu`."""
        feeder = self.model.feeder
        v_above = point.v_sq_pu[:, feeder.parent]
        sent = point.branch_p_mw + 1j * point.branch_q_mvar
        received = sent - (feeder.r_pu + 1j * feeder.x_pu) * np.abs(sent) ** 2 / v_above
        return feeder.currents.largest_pu(sent, received, v_above, point.v_sq_pu[:, 1:])

    def names(self) -> dict[str, Names]:
        found = {f"{coupling}.{quantity}": Names("coupling", (coupling,)) for coupling, quantity in self._copies}
        for one in self.model.supports:
            found[f"reactive support {one.node}.q_mvar"] = Names("node", (one.node,))
        nodes, branches = Names("node", self.model.feeder.nodes), Names("branch", self.model.feeder.branches)
        for name in self.scenarios:
            found[f"{name}.voltage_pu"], found[f"{name}.losses_mw"] = nodes, Names("scenario", (name,))
            found |= dict.fromkeys((f"{name}.{of}" for of in ("branch_p_mw", "branch_q_mvar", "current_pu")), branches)
        return found
