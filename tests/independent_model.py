"""The electric case a second time: written in cvxpy from the documents, to be compared with the packages.

Nothing of the packages is used: the files are read here, the devices follow `subproblems/README.md`, the
transmission grid is a PTDF model (no angles), and the feeder keeps P, Q, v and l of every branch as variables.
Networks are in MW and per unit on 1 MVA. Arrays and expressions are (periods,) or (elements, periods).
"""

from __future__ import annotations

import csv
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import cvxpy as cp
import numpy as np

from tests.independent_community import CommunityModel

KW_PER_MW = 1000.0
BASE_MVA = 100.0
"""Power base of the transmission grid's impedances."""
QUANTITIES = ("p_mw", "flex_up_mw", "flex_down_mw")
SCENARIOS = {"base": 0.0, "up": -1.0, "down": 1.0}
"""By what factor the awarded flexibility is added to the communities' consumption."""
RESERVE_QUADRATIC_COST = 0.02
"""EUR/MW^2 an hour of a generator's reserve: a constant of the transmission grid's module."""
SUPPORT_COST = 0.1
"""EUR/Mvar^2 an hour of reactive support: a default of the distribution model."""
SWEEP_STEPS, SWEEP_PU = 200, 1e-13
GAP = 1e-9
"""Clarabel's gap and feasibility tolerances."""


@dataclass
class CaseData:
    """A case as read: tables as they stand, columns averaged to the horizon's step, each (periods,)."""

    table: dict[str, Any]
    periods: int
    hours: float
    local_hour: float
    public: dict[str, np.ndarray]
    communities: dict[str, dict[str, Any]]
    columns: dict[str, dict[str, np.ndarray]]
    grids: dict[str, dict[str, list[dict[str, str]]]]

    def networks(self, kind: str) -> list[dict[str, Any]]:
        return [network for network in self.table["network"] if network["kind"] == kind]


def read_case(folder: Path, grids: Path, variant: str | None = None) -> CaseData:
    """The case in a folder, with a variant's changes."""
    table = _toml(folder / "case.toml")
    for key, changes in table["variant"].get(variant, {}).items():
        table[key] = table[key] | changes
    horizon = table["horizon"]
    start, periods, step = horizon["start"], horizon["periods"], horizon["step_minutes"]
    local = start + timedelta(hours=horizon["utc_offset_hours"])
    public = {}
    for name in table["profiles"]:
        public |= _columns(folder / name, start, periods, step)
    files = {agent["name"]: folder / agent["file"] for agent in table["agent"]}
    return CaseData(
        table=table,
        periods=periods,
        hours=step / 60,
        local_hour=local.hour + local.minute / 60,
        public=public,
        communities={name: _toml(path) for name, path in files.items()},
        columns={name: _columns(path.with_suffix(".csv"), start, periods, step) for name, path in files.items()},
        grids={n["name"]: {p.stem: _rows(p) for p in (grids / n["source"]).glob("*.csv")} for n in table["network"]},
    )


def _toml(path: Path) -> dict[str, Any]:
    return tomllib.loads(path.read_text(encoding="utf-8"))


def _rows(path: Path) -> list[dict[str, str]]:
    with path.open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def _columns(path: Path, start: datetime, periods: int, step_minutes: int) -> dict[str, np.ndarray]:
    """Columns by name: means of the rows whose time stamp lies in each period."""
    end = start + timedelta(minutes=periods * step_minutes)
    rows = [row for row in _rows(path) if start <= datetime.fromisoformat(row["time_utc"]) < end]
    names = [name for name in rows[0] if name != "time_utc"]
    return {n: np.array([float(row[n]) for row in rows]).reshape(periods, -1).mean(axis=1) for n in names}


# ------------------------------------------------------------------------------------------- grids


@dataclass
class AgentModel:
    """An agent: its cost in EUR, its constraints, its side of every coupling, {(coupling, quantity): expression}."""

    cost: Any
    constraints: list[Any]
    boundary: dict[tuple[str, str], Any]
    inside: dict[str, Any] = field(default_factory=dict)


def transmission(case: CaseData, grid: Mapping[str, Any]) -> AgentModel:
    """DC power flow by distribution factors: f = H (injections), with costs divided by the number of feeders."""
    tables, periods = case.grids[grid["name"]], case.periods
    (below,) = case.networks("distribution")
    order = {row["bus"]: i for i, row in enumerate(tables["bus"])}
    scale = grid["load_scale"] * case.public[grid["load_profile"]]
    load = np.outer([float(row["Pd_MW"]) for row in tables["bus"]], scale)
    at_feeders = order[str(below["upstream_bus"])]
    load[at_feeders] = 0.0
    units = [row for row in tables["gen"] if float(row[f"Pmax_MW_{grid['cost_set']}"]) > 0]
    p, up, down = (cp.Variable((len(units), periods), nonneg=True) for _ in range(3))
    z = {(f"{below['name']}-{grid['name']}", quantity): cp.Variable(periods) for quantity in QUANTITIES}
    feeders_mw, feeders_up, feeders_down = (below["feeders"] * value for value in z.values())
    at_units, at_bus = np.eye(len(order))[:, [order[row["bus"]] for row in units]], np.eye(len(order))[at_feeders]
    injection = at_units @ p - load - cp.outer(at_bus, feeders_mw)
    factors, rating = _distribution_factors(tables, order)
    limit = np.outer(grid["rating_scale"] * rating, np.ones(periods))
    constraints = [cp.sum(injection, axis=0) == 0, factors @ injection <= limit, factors @ injection >= -limit]
    for way, own, bought in (("up", up, feeders_up), ("down", down, feeders_down)):
        need = grid[f"reserve_{way}_share"] * load.sum(axis=0)
        constraints += [cp.sum(own, axis=0) + bought >= need, bought >= 0, bought <= need]
    cost, limits = _generators(case, grid, units, p, up, down)
    return AgentModel(cost / below["feeders"], constraints + limits, z, {"generation_mw": cp.sum(p, axis=0)})


def _generators(
    case: CaseData, grid: Mapping[str, Any], units: list[dict[str, str]], p: Any, up: Any, down: Any
) -> tuple[Any, list[Any]]:
    """Costs in EUR and limits of the generators' powers and reserves, (units, periods) in MW."""
    keys = ("Pmin_MW", "Pmax_MW", "cost_c1_USD_per_MWh", "cost_c2_USD_per_MW2h")
    least, most, c1, c2 = (np.array([float(row[f"{key}_{grid['cost_set']}"]) for row in units]) for key in keys)
    ramp = (grid["ramp_share_per_hour"] * case.hours * most)[:, None] * np.ones(case.periods)
    step = p[:, 1:] - p[:, :-1]
    limits = [p + up <= most[:, None] * np.ones(case.periods), p - down >= least[:, None] * np.ones(case.periods)]
    limits += [up <= ramp, down <= ramp, step <= ramp[:, 1:], step >= -ramp[:, 1:]]
    energy = cp.sum(c1 @ p) + cp.sum(c2 @ cp.square(p))
    held = cp.vstack([up, down])
    reserve = grid["reserve_cost_eur_per_mwh"] * cp.sum(held) + RESERVE_QUADRATIC_COST * cp.sum_squares(held)
    return case.hours * (energy + reserve), limits


def _distribution_factors(tables: Mapping[str, Any], order: Mapping[str, int]) -> tuple[np.ndarray, np.ndarray]:
    """H (branches, buses), whose reference bus cancels in balanced injections, and ratings (branches,) in MW."""
    branches = tables["branch"]
    ends = np.zeros((len(branches), len(order)))
    for b, row in enumerate(branches):
        ends[b, order[row["from_bus"]]], ends[b, order[row["to_bus"]]] = 1.0, -1.0
    series = np.diag([BASE_MVA / (float(r["x_pu"]) * float(r["tap_ratio_at_from_bus"])) for r in branches])
    factors = series @ ends @ np.linalg.pinv(ends.T @ series @ ends)
    return factors, np.array([float(r["rate_A_MVA"]) for r in branches])


@dataclass
class FlowPoint:
    """An AC state: branch flows p, q, squared current and squared voltage v of the sending end, (branches, periods)."""

    p: np.ndarray
    q: np.ndarray
    current: np.ndarray
    v: np.ndarray


class FeederData:
    """The radial feeder in per unit on 1 MVA; branch b feeds node b, the root being no node of its own.

    children: (branches, branches), 1 where the column's branch starts at the node that the row's branch feeds.
    path: 1 where the row's branch lies between the root and the column's node.
    """

    def __init__(self, case: CaseData, network: Mapping[str, Any]) -> None:
        tables = case.grids[network["name"]]
        (root,) = (row["bus"] for row in tables["bus"] if row["type"] == "slack")
        loads = {row["bus"]: (float(row["Pd_kW"]), float(row["Qd_kvar"])) for row in tables["bus"]}
        kv = {row["bus"]: float(row["base_kV"]) for row in tables["bus"]}
        branches = [row for row in tables["branch"] if row["tie"] == "0"]
        self.node = {row["to_bus"]: b for b, row in enumerate(branches)}
        if loads[root] != (0.0, 0.0) or len(self.node) != len(loads) - 1:
            raise ValueError("this model wants a root without load and branches that point outwards")
        ohm = np.array([kv[row["to_bus"]] ** 2 for row in branches])
        self.r, self.x = (np.array([float(row[key]) for row in branches]) / ohm for key in ("r_ohm", "x_ohm"))
        amperes = network["current_limit_scale"] * np.array([float(row["I_max_A"]) for row in branches])
        self.most_current = np.sqrt(3) * amperes * np.sqrt(ohm) / KW_PER_MW
        self.root_branches = np.array([float(row["from_bus"] == root) for row in branches])
        self.children = np.array([[float(c["from_bus"] == b["to_bus"]) for c in branches] for b in branches])
        self.path = np.linalg.inv(np.eye(len(branches)) - self.children)
        scale = network["load_scale"] * case.public[network["load_profile"]] / KW_PER_MW
        self.p_mw, self.q_mvar = (np.outer([loads[row["to_bus"]][i] for row in branches], scale) for i in (0, 1))
        if "pv_profile" in network:
            pv = network["pv_scale"] * case.public[network["pv_profile"]] / KW_PER_MW
            self.p_mw = self.p_mw - np.outer([loads[row["to_bus"]][0] for row in branches], pv)
        self.root_v = network["slack_voltage_pu"] ** 2

    def sending(self, v: Any) -> Any:
        """Squared voltage of each branch's sending end, from that of the nodes."""
        return self.children.T @ v + self.root_v * np.outer(self.root_branches, np.ones(v.shape[1]))

    def sweep(self, p_mw: np.ndarray, q_mvar: np.ndarray) -> FlowPoint:
        """The AC flow: exact DistFlow (Baran and Wu 1989) by repeated sums along the paths."""
        r, x = self.r[:, None], self.x[:, None]
        current = np.zeros_like(p_mw)
        for _ in range(SWEEP_STEPS):
            p, q = self.path @ (p_mw + r * current), self.path @ (q_mvar + x * current)
            v = self.root_v + self.path.T @ ((r**2 + x**2) * current - 2 * (r * p + x * q))
            latest, current = current, (p**2 + q**2) / self.sending(v)
            if np.abs(current - latest).max() < SWEEP_PU:
                return FlowPoint(p, q, current, self.sending(v))
        raise ValueError("the sweep did not converge")


def distribution(case: CaseData, network: Mapping[str, Any], points: Mapping[str, FlowPoint]) -> AgentModel:
    """The operator, with DistFlow linearised at the points; `inside` has each scenario's consumption and flows."""
    feeder, periods = FeederData(case, network), case.periods
    agents = [a for a in case.table["agent"] if a["network"] == network["name"]]
    up_name = f"{network['name']}-{network['upstream']}"
    z = {(f"{a['name']}-{network['name']}", q): cp.Variable(periods) for a in agents for q in QUANTITIES}
    z |= {(up_name, q): cp.Variable(periods) for q in QUANTITIES}
    at = np.eye(len(feeder.node))[:, [feeder.node[str(a["bus"])] for a in agents]]
    tangent = np.array([np.tan(np.arccos(a["power_factor"])) for a in agents])
    p, up, down = (cp.vstack([z[f"{a['name']}-{network['name']}", q] for a in agents]) for q in QUANTITIES)
    supports = network["reactive_support"]
    support = cp.Variable((len(supports), periods))
    at_support = np.eye(len(feeder.node))[:, [feeder.node[str(s["bus"])] for s in supports]]
    most = np.outer([s["q_max_mvar"] for s in supports], np.ones(periods))
    constraints = [support <= most, support >= -most, up >= 0, down >= 0]
    steer, inside, roots = 0.0, {}, {}
    for name, moved in (("base", p), ("up", p - up), ("down", p + down)):
        reactive = at @ cp.multiply(tangent[:, None], moved) + at_support @ support
        drawn = feeder.p_mw + at @ moved, feeder.q_mvar + reactive
        flows, rows = _scenario(feeder, network, points[name], *drawn)
        constraints += rows
        inside[name], roots[name] = (*drawn, *flows), feeder.root_branches @ flows[0]
        if name == "base":
            steer = _curvature(case, feeder, points[name], *flows[:2])
    constraints += [z[up_name, "p_mw"] == roots["base"], z[up_name, "flex_up_mw"] >= 0, z[up_name, "flex_down_mw"] >= 0]
    constraints += [z[up_name, "flex_up_mw"] <= roots["base"] - roots["up"]]
    constraints += [z[up_name, "flex_down_mw"] <= roots["down"] - roots["base"]]
    cost = case.hours * SUPPORT_COST * cp.sum_squares(support)
    return AgentModel(cost, constraints, z, inside | {"steer": steer})


def _scenario(
    feeder: FeederData, network: Mapping[str, Any], point: FlowPoint, drawn_p: Any, drawn_q: Any
) -> tuple[tuple[Any, Any, Any, Any], list[Any]]:
    """(P, Q, v of the nodes, l) of one scenario, and its equations and limits."""
    r, x = feeder.r[:, None], feeder.x[:, None]
    p, q, v, current = (cp.Variable(point.p.shape) for _ in range(4))
    sending, tangent = feeder.sending(v), [2 * point.p / point.v, 2 * point.q / point.v, -point.current / point.v]
    moves = zip(tangent, (p - point.p, q - point.q, sending - point.v), strict=True)
    limit = np.outer(feeder.most_current**2, np.ones(point.p.shape[1]))
    rows = [
        p - feeder.children @ p - cp.multiply(r, current) == drawn_p,
        q - feeder.children @ q - cp.multiply(x, current) == drawn_q,
        v == sending - 2 * (cp.multiply(r, p) + cp.multiply(x, q)) + cp.multiply(r**2 + x**2, current),
        current == point.current + sum(cp.multiply(slope, move) for slope, move in moves),
        current <= limit,
        v >= network["voltage_min_pu"] ** 2,
        v <= network["voltage_max_pu"] ** 2,
    ]
    if "substation_limit_mva" in network:
        head = cp.vstack([feeder.root_branches @ p, feeder.root_branches @ q])
        rows.append(cp.norm(head, axis=0) <= network["substation_limit_mva"])
    return (p, q, v, current), rows


def _curvature(case: CaseData, feeder: FeederData, point: FlowPoint, p: Any, q: Any) -> Any:
    """1/2 H |(P, Q) - (P0, Q0)|^2 with H = 2 price r / V_slack^2: keeps set points near the point; no cost."""
    price = case.hours * case.table["prices"]["energy_eur_per_mwh"]
    weight = np.sqrt(price * feeder.r / feeder.root_v)[:, None]
    return sum(cp.sum_squares(cp.multiply(weight, move)) for move in (p - point.p, q - point.q))


# ------------------------------------------------------------------------------------------- the whole


@dataclass
class Solution:
    """objective_eur: without the curvature. cost_eur: by agent. value, price: by (coupling, quantity), (periods,).

    flow_error_pu: largest difference of the linear rows' squared currents and voltages from the AC flow.
    """

    objective_eur: float
    cost_eur: dict[str, float]
    value: dict[tuple[str, str], np.ndarray]
    price: dict[tuple[str, str], np.ndarray]
    generation_mw: np.ndarray
    points: dict[str, FlowPoint]
    flow_error_pu: float


def solve(case: CaseData, corrections: int, points: Mapping[str, FlowPoint] | None = None) -> Solution:
    """Solve with the flows linearised at the points (none: the fixed load alone), correct them, and solve again."""
    if points is None:
        feeder = FeederData(case, *case.networks("distribution"))
        points = dict.fromkeys(SCENARIOS, feeder.sweep(feeder.p_mw, feeder.q_mvar))
    for _ in range(corrections + 1):
        solution = _solve_once(case, points)
        points = solution.points
    return solution


def _solve_once(case: CaseData, points: Mapping[str, FlowPoint]) -> Solution:
    (grid,), (network,) = case.networks("transmission"), case.networks("distribution")
    dso = distribution(case, network, points)
    agents = {network["name"]: dso, grid["name"]: transmission(case, grid)}
    agents |= {agent["name"]: _community(case, agent) for agent in case.table["agent"]}
    sides: dict[tuple[str, str], dict[str, Any]] = {}
    for name, agent in agents.items():
        for key, expression in agent.boundary.items():
            sides.setdefault(key, {})[name] = expression
    ties = {key: _tie(key[0], both) for key, both in sides.items()}
    cost = sum(agent.cost for agent in agents.values())
    constraints = [*ties.values(), *(row for agent in agents.values() for row in agent.constraints)]
    problem = cp.Problem(cp.Minimize(cost + dso.inside["steer"]), constraints)
    problem.solve(solver=cp.CLARABEL, tol_gap_abs=GAP, tol_gap_rel=GAP, tol_feas=GAP, ignore_dpp=True)
    moved, error = _exact(FeederData(case, network), dso.inside)
    return Solution(
        objective_eur=float(cost.value),
        cost_eur={name: float(agent.cost.value) for name, agent in agents.items()},
        value={key: next(iter(both.values())).value for key, both in sides.items()},
        price={key: tie.dual_value for key, tie in ties.items()},
        generation_mw=agents[grid["name"]].inside["generation_mw"].value,
        points=moved,
        flow_error_pu=error,
    )


def _community(case: CaseData, agent: Mapping[str, Any]) -> AgentModel:
    model, coupling = CommunityModel(case, agent["name"]), f"{agent['name']}-{agent['network']}"
    return AgentModel(model.cost, model.constraints, {(coupling, key): value for key, value in model.boundary.items()})


def _tie(coupling: str, sides: Mapping[str, Any]) -> Any:
    """lower value == upper value; a coupling is called LOWER-UPPER. The dual is the price that the lower one pays."""
    first, second = sides
    lower, upper = (first, second) if coupling == f"{first}-{second}" else (second, first)
    return sides[lower] == sides[upper]


def _exact(feeder: FeederData, inside: Mapping[str, Any]) -> tuple[dict[str, FlowPoint], float]:
    """The AC flows of what the scenarios consume, and how far the linear rows are from them."""
    points, errors = {}, []
    for name in SCENARIOS:
        drawn_p, drawn_q, _, _, v, current = (expression.value for expression in inside[name])
        points[name] = feeder.sweep(drawn_p, drawn_q)
        errors += [np.abs(points[name].current - current).max(), np.abs(points[name].v - feeder.sending(v)).max()]
    return points, float(max(errors))
