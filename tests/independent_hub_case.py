"""The case with hubs and gas a second time, in cvxpy from the documents: hubs, feeder with a supply, gas network.

Electric devices are those of `independent_community`, those of gas and heat those of `independent_hub`, the
feeder's flows those of `independent_model`. The gas network keeps squared pressures and flows as variables, with the
pipe law linearised at the flows of the last solution, again and again. Flows are MW (HHV), pressures bar absolute.
"""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

import cvxpy as cp
import numpy as np

from tests.independent_community import DEFAULTS, KW_PER_MW, CommunityModel, Leg, Part, Reservoir
from tests.independent_hub import HubModel
from tests.independent_model import (
    GAP,
    QUANTITIES,
    SCENARIOS,
    AgentModel,
    CaseData,
    FeederData,
    FlowPoint,
    _curvature,
    _exact,
    _scenario,
    _tie,
)

AMBIENT_BAR = 1.01325
MW_PER_KGPS = 3.6 * 14.62197
SPECIFIC_J_PER_KG = 1.01325e5 / (0.732940 * 273.15) * 283.15
"""p / density at 10 degC, from the density at 0 degC and 1.01325 bar."""
VISCOSITY_PA_S, COMPRESSIBILITY_PER_BAR = 1.07094e-5, -0.0022
SET_POINT_COST = 0.01
FIRST_FLOW_MW, LEAST_FLOW_MW = 0.02, 0.01
"""Flows where the pipe law is linearised first, and the least for its slope."""
STEP_SHARES, EQUILIBRATIONS = (0.9, 0.8, 0.7), 50
"""Of Clarabel, which otherwise breaks down on some hours: flows near zero have tiny slopes. With which share of a step
it does depends on the last bits of the data, so on the machine: they are tried in turn, to the same accuracy."""
NETWORK_DEFAULTS = {"current_limit_scale": 1.0, "load_scale": 1.0, "reactive_support": []}
HUB_DEFAULTS = {
    "electricity_emission_kg_per_kwh": 0.0,
    "gas_emission_kg_per_kwh": 0.182,
    "emission_price_eur_per_t": 0.0,
}
DEVICE_DEFAULTS = {
    "load": {"carrier": "electricity", "scale_factor": 1.0},
    "shiftable_load": {"carrier": "electricity"},
    "chp": {"run_cost_eur_per_kwh": 0.0, "ramp_kw_per_h": None},
    "gas_boiler": {"efficiency": 0.9},
    "hub_heat_pump": {"cop_at_7c": 3.5, "cop_slope_per_k": 0.07},
    "heat_storage": {"loss_per_h": 0.01, "initial_share": 0.5},
    "electrolyser": {"efficiency": 0.7, "tank_kwh": 0.0, "initial_share": 0.5, "flexible": True},
    "dual_fuel_load": {"gas_kwh_per_kwh": 1.0},
}


class CaseHub(CommunityModel):
    """A hub of the case: its devices on three balances, and its boundary values in MW."""

    def __init__(self, case: CaseData, name: str) -> None:
        self.case, self.hours, self.periods = case, case.hours, case.periods
        self._columns = case.public | case.columns[name]
        table = DEFAULTS["community"] | HUB_DEFAULTS | case.communities[name]
        self.calls = round(table.get("flexibility_duration_minutes", 60 * self.hours) / (60 * self.hours))
        self.hub = HubModel(self.periods, self.hours, self.calls, table.get("gas_connection_kw", 0.0))
        for device in table["devices"]:
            kind = device["kind"]
            self._add(DEFAULTS.get(kind, {}) | DEVICE_DEFAULTS.get(kind, {}) | device)
        keys = (*QUANTITIES, *(["gas_mw"] if "gas_connection_kw" in table else []))
        self.boundary = dict(zip(keys, [cp.Variable(self.periods) for _ in keys], strict=True))
        p, up, down = (self.boundary[key] for key in QUANTITIES)
        gas = self.boundary.get("gas_mw", cp.Constant(np.zeros(self.periods)))
        taken = {key: cp.Constant(np.zeros(self.periods)) + value for key, value in self.hub.taken.items()}
        self.constraints = [*self.hub.limits, *self.hub.balances(), up >= 0, down >= 0, gas >= 0]
        self.constraints += [KW_PER_MW * p == taken["electricity"], KW_PER_MW * gas == taken["gas"]]
        self.constraints += [KW_PER_MW * up == self.hub.total("up"), KW_PER_MW * down == self.hub.total("down")]
        for k in range(self.calls):
            first = self.periods - k
            self.constraints += [KW_PER_MW * (p[k:] + down[:first]) <= table["import_limit_kw"]]
            self.constraints += [KW_PER_MW * (p[k:] - up[:first]) >= -table["export_limit_kw"]]
        linear = table["flex_up_cost_eur_per_mwh"] * cp.sum(up) + table["flex_down_cost_eur_per_mwh"] * cp.sum(down)
        square = table["flex_quadratic_cost_eur_per_mw2h"] * (cp.sum_squares(up) + cp.sum_squares(down))
        electric = self._series(table["electricity_emission_kg_per_kwh"])
        emitted_t = self.hours * (electric @ p + table["gas_emission_kg_per_kwh"] * cp.sum(gas))
        self.cost = self.hub.cost + self.hours * (linear + square) + table["emission_price_eur_per_t"] * emitted_t

    def _add(self, device: Mapping[str, Any]) -> None:
        hub, kind = self.hub, device["kind"]
        if kind == "load":
            hub.load(device["carrier"], device["scale_factor"] * self._series(device["power_kw"]))
        elif kind == "chp":
            keys = ("rated_kw", "electric_efficiency", "thermal_efficiency", "run_cost_eur_per_kwh", "ramp_kw_per_h")
            hub.chp(*(device[key] for key in keys))
        elif kind == "gas_boiler":
            hub.boiler(device["max_heat_kw"], device["efficiency"])
        elif kind == "hub_heat_pump":
            warmer = self._series(device["outdoor_temperature_degc"]) - 7.0
            cop = np.clip(device["cop_at_7c"] + device["cop_slope_per_k"] * warmer, 1.5, 6.0)
            hub.heat_pump(device["max_kw"], cop)
        elif kind == "heat_storage":
            size = device["capacity_kwh"]
            start = device["initial_share"] * size
            end = device.get("end_share", device["initial_share"]) * size
            hub.store(size, device["charge_kw"], device["discharge_kw"], device["loss_per_h"], start, end)
        elif kind == "dual_fuel_load":
            hub.dual_fuel(self._series(device["demand_kw"]), device["gas_share"], device["gas_kwh_per_kwh"])
        else:
            self._add_electric(getattr(self, f"_{kind}")(device))

    def _add_electric(self, part: Part) -> None:
        hub = self.hub
        hub.take("electricity", part.consumption)
        hub.cost, hub.limits = hub.cost + part.cost, hub.limits + part.constraints
        hub.own["up"].append(part.up)
        hub.own["down"].append(part.down)

    def _electrolyser(self, device: Mapping[str, Any]) -> Part:
        flat, start = np.ones(self.periods), device["initial_share"] * device["tank_kwh"]
        lower = np.append(np.zeros(self.periods - 1), start)
        drift = -self.hours * self._series(device["hydrogen_demand_kw"])
        leg = Leg(1.0, self.hours * device["efficiency"] * flat, device["max_kw"] * flat)
        tank = Reservoir(flat, drift, lower, device["tank_kwh"] * flat, start, [leg])
        return tank.part(device["flexible"], self.calls)[0]


def hub(case: CaseData, agent: Mapping[str, Any]) -> AgentModel:
    model, ends = CaseHub(case, agent["name"]), {"gas_mw": agent.get("gas_network")}
    boundary = {(f"{agent['name']}-{ends.get(key) or agent['network']}", key): v for key, v in model.boundary.items()}
    return AgentModel(model.cost, model.constraints, boundary)


def supplied(case: CaseData, network: Mapping[str, Any], points: Mapping[str, FlowPoint]) -> AgentModel:
    """The distribution operator that buys at the head of its feeder and sells flexibility there."""
    feeder, periods = FeederData(case, network), case.periods
    agents = [a for a in case.table["agent"] if a["network"] == network["name"]]
    z = {(f"{a['name']}-{network['name']}", q): cp.Variable(periods) for a in agents for q in QUANTITIES}
    at = np.eye(len(feeder.node))[:, [feeder.node[str(a["bus"])] for a in agents]]
    tangent = np.array([np.tan(np.arccos(a.get("power_factor", 1.0))) for a in agents])
    p, up, down = (cp.vstack([z[f"{a['name']}-{network['name']}", q] for a in agents]) for q in QUANTITIES)
    constraints, inside, roots, steer = [up >= 0, down >= 0], {}, {}, 0.0
    for name, moved in (("base", p), ("up", p - up), ("down", p + down)):
        drawn = feeder.p_mw + at @ moved, feeder.q_mvar + at @ cp.multiply(tangent[:, None], moved)
        flows, rows = _scenario(feeder, network, points[name], *drawn)
        constraints += rows
        inside[name], roots[name] = (*drawn, *flows), feeder.root_branches @ flows[0]
        if name == "base":
            steer = _curvature(case, feeder, points[name], *flows[:2])
    sold = cp.Variable((2, periods), nonneg=True)
    constraints += [sold[0] <= roots["base"] - roots["up"], sold[1] <= roots["down"] - roots["base"]]
    price = case.public[network["supply_price_eur_per_mwh"]]
    paid = price @ roots["base"] - network["supply_flexibility_price_eur_per_mwh"] * cp.sum(sold)
    return AgentModel(case.hours * paid, constraints, z, inside | {"steer": steer})


@dataclass
class GasPoint:
    """flow_mw: (pipes, periods). p_bar: (nodes, periods)."""

    flow_mw: np.ndarray
    p_bar: np.ndarray


class GasData:
    """The gas network's tables as arrays."""

    def __init__(self, case: CaseData, network: Mapping[str, Any]) -> None:
        tables = case.grids[network["name"]]
        nodes, pipes = tables["node"], tables["pipe"]
        self.gates = [row for row in tables["gate"] if row["gate"] not in network.get("lost_gates", [])]
        self.node = {row["node"]: i for i, row in enumerate(nodes)}
        share = {kind: case.public[name] for kind, name in network["demand_profiles"].items()}
        nothing = np.zeros(case.periods)
        size = network.get("load_scale", 1.0) / KW_PER_MW
        peaks = [(float(row["peak_demand_kw"]) * size, share.get(row["profile"], nothing)) for row in nodes]
        self.demand_mw = np.array([peak * profile for peak, profile in peaks])
        self.least, self.most = (
            np.array([(float(row[key]) + AMBIENT_BAR) ** 2 for row in nodes]) for key in ("p_min_bar_g", "p_max_bar_g")
        )
        self.start, self.end = (np.array([self.node[row[key]] for row in pipes]) for key in ("from_node", "to_node"))
        length, diameter, rough = (
            np.array([float(row[key]) * factor for row in pipes])
            for key, factor in (("length_km", 1e3), ("inner_diameter_mm", 1e-3), ("roughness_mm", 1e-3))
        )
        friction = 1 / (1.14 + 2 * np.log10(diameter / rough)) ** 2
        common = 16 * SPECIFIC_J_PER_KG * length / (np.pi**2 * diameter**5) / 1e10
        self.square = common * friction / MW_PER_KGPS**2
        self.linear = common * 16 * np.pi * VISCOSITY_PA_S * diameter / MW_PER_KGPS

    def first(self) -> GasPoint:
        periods = self.demand_mw.shape[1]
        return GasPoint(np.full((self.start.size, periods), FIRST_FLOW_MW), np.full((len(self.node), periods), 5.0))

    def z(self, point: GasPoint) -> np.ndarray:
        one, other = point.p_bar[self.start], point.p_bar[self.end]
        return 1 + COMPRESSIBILITY_PER_BAR * 2 / 3 * (one + other - one * other / (one + other))


def gas_operator(case: CaseData, network: Mapping[str, Any], point: GasPoint) -> AgentModel:
    """Buys at its gates, holds every pressure, and tells its state in `inside`."""
    data, periods = GasData(case, network), case.periods
    agents = [a for a in case.table["agent"] if a.get("gas_network") == network["name"]]
    taken = {(f"{a['name']}-{network['name']}", "gas_mw"): cp.Variable(periods) for a in agents}
    at = np.eye(len(data.node))[:, [data.node[str(a["gas_node"])] for a in agents]]
    into = np.eye(len(data.node))[:, [data.node[row["node"]] for row in data.gates]]
    joins = np.eye(len(data.node))[:, data.end] - np.eye(len(data.node))[:, data.start]
    pi = cp.Variable((len(data.node), periods))
    flow, gate = cp.Variable(point.flow_mw.shape), cp.Variable((len(data.gates), periods), nonneg=True)
    most = np.outer([float(row["max_flow_kw"]) / KW_PER_MW for row in data.gates], np.ones(periods))
    ones = np.ones((1, periods))
    z, m0 = data.z(point), point.flow_mw
    square, linear = data.square[:, None], data.linear[:, None]
    drop, slope = (
        z * (square * m0 * np.abs(m0) + linear * m0),
        z * (2 * square * np.maximum(np.abs(m0), LEAST_FLOW_MW) + linear),
    )
    set_pi, low, high = (
        np.outer([(float(row[key]) + AMBIENT_BAR) ** 2 for row in data.gates], ones)
        for key in ("p_set_bar_g", "p_min_bar_g", "p_max_bar_g")
    )
    constraints = [
        joins @ flow + into @ gate == data.demand_mw + at @ cp.vstack(list(taken.values())),
        pi[data.start] - pi[data.end] == drop + cp.multiply(slope, flow - m0),
        pi >= data.least[:, None] @ ones,
        pi <= data.most[:, None] @ ones,
        gate <= most,
        into.T @ pi >= low,
        into.T @ pi <= high,
        *(value >= 0 for value in taken.values()),
    ]
    cost = network["price_eur_per_mwh"] * cp.sum(gate) + SET_POINT_COST * cp.sum_squares(into.T @ pi - set_pi)
    return AgentModel(case.hours * cost, constraints, taken, {"flow_mw": flow, "pi_bar2": pi})


@dataclass
class HubSolution:
    """objective_eur: without what only steers. value: (periods,) by (coupling, quantity). moved_bar: by the last
    step."""

    objective_eur: float
    cost_eur: dict[str, float]
    value: dict[tuple[str, str], np.ndarray]
    flow_error_pu: float
    moved_bar: float


def _solve_exactly(problem: cp.Problem) -> None:
    exact = {"tol_gap_abs": GAP, "tol_gap_rel": GAP, "tol_feas": GAP, "equilibrate_max_iter": EQUILIBRATIONS}
    for share in STEP_SHARES:
        with suppress(cp.SolverError):
            problem.solve(solver=cp.CLARABEL, ignore_dpp=True, max_step_fraction=share, **exact)
            if problem.status == cp.OPTIMAL:
                return
    raise AssertionError(f"Clarabel finds no optimum with any share of a step: {problem.status}")


def solve(case: CaseData, corrections: int) -> HubSolution:
    """Solve with flows linearised at those of the fixed load, correct them, and solve again."""
    (network,), (pipes,) = ([NETWORK_DEFAULTS | n for n in case.networks(kind)] for kind in ("distribution", "gas"))
    feeder = FeederData(case, network)
    points = dict.fromkeys(SCENARIOS, feeder.sweep(feeder.p_mw, feeder.q_mvar))
    gas_point = GasData(case, pipes).first()
    hubs = {agent["name"]: hub(case, agent) for agent in case.table["agent"]}
    for _ in range(corrections + 1):
        dso, gas = supplied(case, network, points), gas_operator(case, pipes, gas_point)
        agents = {**hubs, network["name"]: dso, pipes["name"]: gas}
        sides: dict[tuple[str, str], dict[str, Any]] = {}
        for name, agent in agents.items():
            for key, expression in agent.boundary.items():
                sides.setdefault(key, {})[name] = expression
        ties = [_tie(key[0], both) for key, both in sides.items()]
        cost = sum(agent.cost for agent in agents.values())
        constraints = [*ties, *(row for agent in agents.values() for row in agent.constraints)]
        problem = cp.Problem(cp.Minimize(cost + dso.inside["steer"]), constraints)
        _solve_exactly(problem)
        points, error = _exact(feeder, dso.inside)
        p_bar = np.sqrt(gas.inside["pi_bar2"].value)
        moved, gas_point = np.abs(p_bar - gas_point.p_bar).max(), GasPoint(gas.inside["flow_mw"].value, p_bar)
    return HubSolution(
        objective_eur=float(cost.value),
        cost_eur={name: float(agent.cost.value) for name, agent in agents.items()},
        value={key: next(iter(both.values())).value for key, both in sides.items()},
        flow_error_pu=error,
        moved_bar=float(moved),
    )
