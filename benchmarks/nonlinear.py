"""The nonlinear optimum of a case with hubs by IPOPT, beside ours: `python -m benchmarks nonlinear`.

All agents at once: hubs as the programs that they compile to, the feeder by exact DistFlow in all scenarios, the gas
network by its exact pipe law. Nothing of the operators' linearised programs is used. Needs casadi.

    P_b = p + r l + sum of P of the branches behind,   v_j = v_i - 2 (r P + x Q) + (r^2 + x^2) l,   l v_i = P^2 + Q^2
    pi_i - pi_j = Z(p_m) (K m |m| + L m),   inflow of a node = its demand

The same with l v_i >= P^2 + Q^2 instead, the usual cone relaxation, shows where that one is not tight: its optimum is
lower, its losses are not those of any flow. Writes results/nonlinear.csv and .md: our centralised optimum and our run
against IPOPT's local optimum, and the relaxation's bound.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np

import admm
from admm.output import versions
from benchmarks.flexibility import stand_alone
from benchmarks.measure import machine
from benchmarks.options import Options
from benchmarks.registry import chosen
from benchmarks.tables import markdown_table, write_csv
from networks.case import Case, load_case
from networks.centralised import solve_centralised
from networks.distribution_model import DistributionModel, Supply
from networks.feeder import Feeder
from networks.gas_grid import GasGrid
from networks.gas_program import GasModel
from subproblems import QuadraticProgram

FILE = "nonlinear"
CASES = ("feeder118-gas65", "feeder118-gas65:summer", "feeder118-gas65:pv-150")
IPOPT = {"ipopt.print_level": 0, "ipopt.sb": "yes", "print_time": False, "ipopt.tol": 1e-7, "ipopt.max_iter": 1000}
SMOOTH_MW2 = 1e-8
"""m |m| is m sqrt(m^2 + this)."""


@dataclass
class NonlinearRow:
    """Costs in EUR; gaps as shares of IPOPT's optimum, positive where ours costs more.

    cone_excess_mw: most loss in any branch, period and scenario that the relaxation counts and no flow has.
    """

    case: str
    nonlinear_eur: float
    centralised_eur: float
    run_eur: float
    cone_bound_eur: float
    centralised_gap: float
    run_gap: float
    cone_gap: float
    cone_excess_mw: float
    iterations: int
    ipopt_status: str
    ipopt_seconds: float
    versions: str = field(default_factory=versions)
    machine: str = field(default_factory=machine)


def run_nonlinear(options: Options) -> list[dict[str, Any]]:
    rows = []
    for name in chosen(CASES, options.subjects, "case"):
        rows.append(asdict(compare(load_case(name), options.solver)))
        print(rows[-1], flush=True)
        write_csv(options.out / f"{FILE}.csv", rows)
    note = "Gaps as shares of IPOPT's optimum, positive where ours costs more."
    (options.out / f"{FILE}.md").write_text(markdown_table(rows, note), encoding="utf-8")
    return rows


def compare(case: Case, solver: str) -> NonlinearRow:
    began = time.perf_counter()
    found = nonlinear_optimum(case)
    seconds = time.perf_counter() - began
    ours = solve_centralised(case).solution.objective_eur
    agents = {name: case.build_agent(name, solver) for name in case.agents}
    run = admm.solve(agents, case.couplings, admm.Settings(max_iterations=500))
    cone = nonlinear_optimum(case, relaxed=True)
    costs = (ours, run.objective, cone.cost_eur)
    return NonlinearRow(
        case.name,
        found.cost_eur,
        *costs,
        *((value - found.cost_eur) / abs(found.cost_eur) for value in costs),
        cone.excess_mw,
        run.iterations,
        found.status,
        round(seconds, 1),
    )


@dataclass(frozen=True)
class Found:
    """IPOPT's optimum; excess_mw: the largest r (l - (P^2 + Q^2) / v)."""

    cost_eur: float
    excess_mw: float
    status: str


def nonlinear_optimum(case: Case, relaxed: bool = False) -> Found:
    """By IPOPT; relaxed: with the cone in place of the exact currents. Raises SolverError where it finds none."""
    import casadi

    whole, boundary = Nonlinear(relaxed), {}
    for name in case.communities:
        boundary |= whole.add_program(case.build_agent(name).qp, stand_alone(case, name))
    for network in case.folder.distribution:
        whole.add_feeder(case.distribution_model(network), boundary)
    for network in case.folder.gas:
        whole.add_gas(case.gas_model(network), boundary)
    return whole.solve(casadi)


class Nonlinear:
    """Variables, equations and costs, collected; every variable and row by its nominal size."""

    def __init__(self, relaxed: bool) -> None:
        self.relaxed, self.excess = relaxed, []
        self.x, self.start, self.lower, self.upper = [], [], [], []
        self.rows, self.least, self.most = [], [], []
        self.cost = 0.0

    def variables(
        self, name: str, rows: int, columns: int, lower: Any, upper: Any, start: Any, scale: float = 1.0
    ) -> Any:
        """Expressions (rows, columns) of new variables, in their unit."""
        import casadi

        symbol = casadi.SX.sym(name, rows, columns)
        self.x.append(casadi.vec(symbol))
        for kept, value in ((self.lower, lower), (self.upper, upper), (self.start, start)):
            full = np.broadcast_to(np.asarray(value, dtype=float), (rows, columns))
            kept.append(full.ravel(order="F") / scale)
        return symbol * scale

    def at_start(self, expression: Any) -> np.ndarray:
        """Its value where IPOPT starts."""
        import casadi

        return np.array(casadi.Function("value", [casadi.vertcat(*self.x)], [expression])(np.concatenate(self.start)))

    def hold(self, expression: Any, least: Any = 0.0, most: Any = 0.0) -> None:
        """least <= expression <= most, element by element."""
        import casadi

        self.rows.append(casadi.vec(expression))
        for kept, value in ((self.least, least), (self.most, most)):
            kept.append(np.broadcast_to(np.asarray(value, dtype=float), expression.shape).ravel(order="F"))

    def add_program(self, program: QuadraticProgram, start: np.ndarray) -> dict[tuple[str, str], Any]:
        """A linear agent as it is. Its boundary values, {(coupling, quantity): (T, 1)}."""
        import casadi

        scale = program.variable_scale
        z = self.variables(program.name, program.size, 1, -np.inf, np.inf, (start / scale)[:, None])
        x = casadi.DM(scale) * z
        by = 1.0 / program.row_scale
        self.hold(casadi.DM(by) * (casadi.DM(program.A) @ x), (by * program.l)[:, None], (by * program.u)[:, None])
        self.cost += 0.5 * casadi.dot(x, casadi.DM(program.P) @ x) + casadi.dot(casadi.DM(program.q), x)
        self.cost += program.constant
        return {key: x[at.tolist()] for key, at in program.boundary.items()}

    # ------------------------------------------------------------------------- electricity

    def add_feeder(self, model: DistributionModel, boundary: Mapping[tuple[str, str], Any]) -> None:
        """Exact DistFlow of every scenario, and what is exchanged with the supply above."""
        supply, periods = model.upstream, model.periods
        if not isinstance(supply, Supply):
            raise admm.InputError(f"'{model.name}': this model knows feeders with a supply of their own only")
        limits = np.array([one.q_max_mvar for one in model.supports])[:, None]
        support = self.variables("support", len(model.supports), periods, -limits, limits, 0.0)
        roots = {
            name: self._add_scenario(model, name, sign, support, boundary) for name, sign in model.scenarios.items()
        }
        paid = {"flex_up_mw": ("base", "up"), "flex_down_mw": ("down", "base")}
        for more, less in paid.values() if model.flexibility else ():
            sold = self.variables("sold", 1, periods, 0.0, np.inf, 0.0)
            self.hold(roots[more] - roots[less] - sold, 0.0, np.inf)
            self.cost -= model.hours * supply.flexibility_price_eur_per_mwh * _total(sold)
        self.cost += model.hours * _total(roots["base"] * np.asarray(supply.price_eur_per_mwh)[None, :])
        for i, one in enumerate(model.supports):
            self.cost += model.hours * one.quadratic_cost_eur_per_mvar2h * _total(support[i, :] ** 2)

    def _add_scenario(
        self, model: DistributionModel, name: str, sign: float, support: Any, boundary: Mapping[tuple[str, str], Any]
    ) -> Any:
        """The equations of one scenario; what it draws at the root, (1, T)."""
        import casadi

        feeder, periods = model.feeder, model.periods
        drawn_p, drawn_q = _drawn(model, sign, support, boundary)
        nodes, branches = len(feeder.nodes), len(feeder.branches)
        r, x = feeder.r_pu[:, None], feeder.x_pu[:, None]
        behind, upstream = np.zeros((branches, branches)), np.zeros((branches, branches))
        for b, parent in enumerate(feeder.parent):
            if parent > 0:
                behind[parent - 1, b] = upstream[b, parent - 1] = 1.0
        at_root = (feeder.parent == 0).astype(float)
        root_v = feeder.root_base_pu**2
        admittance = np.broadcast_to(model.shunt_mva + feeder.branch_shunt_mva, model.load_p_mw.shape).T
        lossless = np.linalg.inv(np.eye(branches) - behind)
        first_p, first_q = (lossless @ self.at_start(drawn)[1:] for drawn in (drawn_p, drawn_q))
        first_v = root_v - 2 * lossless.T @ (r * first_p + x * first_q)
        p = self.variables(f"{name}.p", branches, periods, -np.inf, np.inf, first_p)
        q = self.variables(f"{name}.q", branches, periods, -np.inf, np.inf, first_q)
        plain = ~feeder.currents.receiving & (feeder.currents.shunt_mva == 0)
        most = np.full((branches, 1), np.inf)
        limit = feeder.currents.factor * feeder.i_max_pu[feeder.currents.branch]
        np.minimum.at(most[:, 0], feeder.currents.branch[plain], limit[plain] ** 2)
        current = self.variables(f"{name}.l", branches, periods, 0.0, most, (first_p**2 + first_q**2) / first_v)
        limits = (limit / feeder.base_per_nominal for limit in (feeder.v_min_pu, feeder.v_max_pu))
        low, high = ((limit[1:, None]) ** 2 for limit in limits)
        v = self.variables(f"{name}.v", branches, periods, low, high, first_v)
        sending = _sparse(upstream) @ v + root_v * at_root[:, None] @ np.ones((1, periods))
        self.hold(p - _sparse(behind) @ p - r * current - drawn_p[1:, :] - admittance.real[1:] * v)
        self.hold(q - _sparse(behind) @ q - x * current - drawn_q[1:, :] - admittance.imag[1:] * v)
        self.hold(v - sending + 2 * (r * p + x * q) - (r**2 + x**2) * current)
        self.hold(current * sending - p**2 - q**2, 0.0, np.inf if self.relaxed else 0.0)
        for at in np.flatnonzero(~plain & np.isfinite(limit)):
            self._hold_current(feeder, int(at), float(limit[at]), (p, q, current), (sending, v))
        self.excess.append(casadi.mmax(r * (current - (p**2 + q**2) / sending)))
        root_p, root_q = (
            _sparse(at_root[None, :]) @ flow + drawn[0, :] + own[[0]] * root_v
            for flow, drawn, own in ((p, drawn_p, admittance.real), (q, drawn_q, admittance.imag))
        )
        if np.isfinite(model.substation_limit_mva):
            self.hold(root_p**2 + root_q**2, -np.inf, model.substation_limit_mva**2)
        if nodes != branches + 1:
            raise admm.InputError(f"feeder '{feeder.name}' is not radial")
        return root_p

    def _hold_current(
        self, feeder: Feeder, at: int, limit: float, flows: tuple[Any, ...], voltages: tuple[Any, ...]
    ) -> None:
        """|S + A v|^2 <= I^2 v at the sending end, |S - z l - A v|^2 <= I^2 v at the receiving end of a branch."""
        b, receiving = int(feeder.currents.branch[at]), bool(feeder.currents.receiving[at])
        shunt = complex(feeder.currents.shunt_mva[at]) * (-1 if receiving else 1)
        p, q, current = (flow[b, :] for flow in flows)
        v = voltages[receiving][b, :]
        p = p - (feeder.r_pu[b] * current if receiving else 0) + shunt.real * v
        q = q - (feeder.x_pu[b] * current if receiving else 0) + shunt.imag * v
        self.hold(p**2 + q**2 - limit**2 * v, -np.inf, 0.0)

    # --------------------------------------------------------------------------------- gas

    def add_gas(self, model: GasModel, boundary: Mapping[tuple[str, str], Any]) -> None:
        """Balances and pipe laws of every period; steady flow, no compressors."""
        import casadi

        grid, periods = model.grid, model.periods
        if grid.compressors or model.linepack:
            raise admm.InputError(f"'{model.name}': this model knows no compressors and no linepack")
        demand = casadi.SX(model.demand_mw.T)
        for one in model.connections:
            demand[grid.node(one.node), :] += boundary[one.coupling, "gas_mw"].T
        limits = [
            ((grid.column(grid.nodes, key) + grid.ambient_bar) ** 2)[:, None] for key in ("p_min_bar_g", "p_max_bar_g")
        ]
        set_pi = (grid.column(grid.gates, "p_set_bar_g") + grid.ambient_bar[grid.gate_nodes]) ** 2
        start, end = grid.pipe_ends
        joins = np.zeros((len(grid.nodes), len(grid.pipes)))
        joins[start, np.arange(start.size)] -= 1.0
        joins[end, np.arange(end.size)] += 1.0
        gates = np.zeros((len(grid.nodes), len(grid.gates)))
        gates[grid.gate_nodes, np.arange(len(grid.gates))] = 1.0
        first = np.linalg.pinv(np.hstack([joins, gates])) @ self.at_start(demand)
        pi = self.variables("pi", len(grid.nodes), periods, *limits, set_pi.mean(), scale=10.0)
        flow = self.variables("m", len(grid.pipes), periods, -np.inf, np.inf, first[: start.size])
        most = np.minimum(grid.column(grid.gates, "max_flow_mw"), 1e6)[:, None]
        gate = self.variables("gate", len(grid.gates), periods, 0.0, most, first[start.size :])
        self.hold(_sparse(joins) @ flow + _sparse(gates) @ gate - demand)
        square, linear = pipe_constants(grid)
        one, other = casadi.sqrt(pi[start.tolist(), :]), casadi.sqrt(pi[end.tolist(), :])
        mean = 2 / 3 * (one + other - one * other / (one + other))
        z = 1 + grid.gas.compressibility_per_bar * mean
        drop = square[:, None] * flow * casadi.sqrt(flow**2 + SMOOTH_MW2) + linear[:, None] * flow
        self.hold(one**2 - other**2 - z * drop)
        if np.isfinite(model.import_limit_mw):
            self.hold(casadi.sum1(gate), -np.inf, model.import_limit_mw)
        away = pi[grid.gate_nodes.tolist(), :] - set_pi[:, None]
        self.cost += model.hours * _total(gate * model.price_eur_per_mwh.T)
        self.cost += model.hours * model.set_point_eur_per_bar4h * _total(away**2)
        for gate_row, node in zip(grid.gates, grid.gate_nodes, strict=True):
            low, high = ((bar + grid.ambient_bar[node]) ** 2 for bar in (gate_row.p_min_bar_g, gate_row.p_max_bar_g))
            self.hold(pi[int(node), :], low, high)

    # ------------------------------------------------------------------------------ solving

    def solve(self, casadi: Any) -> Found:
        x = casadi.vertcat(*self.x)
        problem = {"x": x, "f": self.cost, "g": casadi.vertcat(*self.rows)}
        solver = casadi.nlpsol("whole", "ipopt", problem, IPOPT)
        bounds = {
            "x0": self.start, "lbx": self.lower, "ubx": self.upper, "lbg": self.least, "ubg": self.most,
        }  # fmt: skip
        found = solver(**{key: np.concatenate(values) for key, values in bounds.items()})
        status = solver.stats()["return_status"]
        if not solver.stats()["success"]:
            raise admm.SolverError(f"IPOPT found no optimum: {status}")
        excess = casadi.Function("excess", [x], [casadi.mmax(casadi.vertcat(*self.excess))])(found["x"])
        return Found(float(found["f"]), float(excess), status)


def pipe_constants(grid: GasGrid) -> tuple[np.ndarray, np.ndarray]:
    """K in bar^2/MW^2 and L in bar^2/MW of every pipe: Darcy and Weisbach, Nikuradse's rough friction, 64 / Re.

    pi_i - pi_j = Z 16 R T / pi^2 / d^5 (lambda l m |m| + 16 pi mu d l m), heights and fittings left out.
    """
    gas, pipes = grid.gas, grid.pipes
    length, diameter = grid.column(pipes, "length_km") * 1e3, grid.column(pipes, "inner_diameter_mm") / 1e3
    friction = (1.14 - 2 * np.log10(grid.column(pipes, "roughness_mm") / 1e3 / diameter)) ** -2
    common = 16 * gas.specific_j_per_kg / np.pi**2 * length / diameter**5 / 1e10
    return (
        common * friction / gas.mw_per_kgps**2,
        common * 16 * np.pi * gas.viscosity_pa_s * diameter / gas.mw_per_kgps,
    )


def _drawn(
    model: DistributionModel, sign: float, support: Any, boundary: Mapping[tuple[str, str], Any]
) -> tuple[Any, Any]:
    """Active and reactive consumption of every node in a scenario, (n, T) each."""
    import casadi

    feeder = model.feeder
    p, q = casadi.SX(model.load_p_mw.T), casadi.SX(model.load_q_mvar.T)
    for one in model.connections:
        taken = boundary[one.coupling, "p_mw"].T
        if sign:
            taken = taken + sign * boundary[one.coupling, "flex_up_mw" if sign < 0 else "flex_down_mw"].T
        node = feeder.node(one.node)
        p[node, :] += taken
        q[node, :] += np.tan(np.arccos(one.power_factor)) * taken
    for i, one in enumerate(model.supports):
        q[feeder.node(one.node), :] += support[i, :]
    return p, q


def _sparse(matrix: np.ndarray) -> Any:
    import casadi

    return casadi.sparsify(casadi.DM(matrix))


def _total(expression: Any) -> Any:
    import casadi

    return casadi.sum1(casadi.sum2(expression))
