"""What a gas network operator wants, as one program that is exact at its operating points.

It buys gas at its gates, at prices and within their capacity, and sets the pressures there and behind compressors,
close to the gates' set points, such that every node keeps its pressure limits, whatever the hubs may draw.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from admm.interfaces import Names
from networks.assembly import Assembly, Columns
from networks.distflow import Affine
from networks.flow_limits import Limit
from networks.flow_program import LARGEST_ERROR, FlowProgram
from networks.gas_flow import LOWEST_BAR2, GasFlow, GasState, Linepack, content_mwh
from networks.gas_model import GasModel
from networks.gas_rows import AffineGas, GasRows
from subproblems import QuadraticProgram

CORRECT_ABOVE_BAR = 1e-4
"""Error at the operator's own answer above which the rows are moved."""
FINAL_BAR = 1e-3
"""Error at the hubs' schedule at which `model_error` is 1."""
DEFAULT_SCALE_MW = 1.0
FIRST_DAMPING, LARGEST_DAMPING = 0.1, 1e3
DAMPING_GROWTH, DAMPING_DECAY = 4.0, 0.9
"""EUR/bar^4: curvature that holds set pressures near the operating point where corrections do not settle."""
SETTLES = 0.5
"""Share of its last error to which a correction must bring a period, or it is damped more."""
MOVED_BAR, SWINGS = 1e-2, 2
"""Change of a set pressure from which a correction counts as moving it, and how many in a row must lead away where it
is less."""


@dataclass(frozen=True)
class PressureError:
    """bar: largest difference of pressures from the exact ones; infinite where there is no flow."""

    bar: float


class GasProgram(FlowProgram):
    """The operator's variables and rows; `linearised` makes the program for any operating point.

    scales: nominal size of each boundary quantity, {(coupling, "gas_mw"): MW}, where it is known.
    """

    def __init__(self, model: GasModel, scales: Mapping[tuple[str, str], float] | None = None) -> None:
        self.model, self._scales, self._flow = model, dict(scales or {}), GasFlow(model.grid)
        self.columns, grid = Columns(model.periods), model.grid
        self.boundary = {self._key(one.coupling): self._add_hub(one.coupling) for one in model.connections}
        self.held = list(self.boundary)
        self._gate_pi = [self._add_pressure(f"gate {one.name}", one.node) for one in grid.gates]
        self._outlet_pi = [self._add_pressure(f"compressor {one.name}", one.to_node) for one in grid.compressors]
        self._hub_nodes = np.array([grid.node(one.node) for one in model.connections])
        self._set_bar = grid.absolute_bar(grid.column(grid.gates, "p_set_bar_g"), grid.gate_nodes)
        self._linepack = self._first_content() if model.linepack else None
        rows = GasRows(grid, self._hub_nodes, model.demand_mw, self._linepack)
        self._gas_rows = rows
        drawn = np.stack([*self.boundary.values(), *self._gate_pi, *self._outlet_pi], axis=1)
        self._draws = drawn if self._linepack is None else np.tile(drawn.reshape(1, -1), (model.periods, 1))
        self._state: GasState | None = None
        self._damping, self._last_error_bar = np.zeros(model.periods), np.full(model.periods, np.inf)
        self._swings = np.zeros(model.periods, dtype=int)
        self.affine: AffineGas | None = None

    @property
    def size(self) -> int:
        return self.columns.size

    @staticmethod
    def _key(coupling: str) -> tuple[str, str]:
        return coupling, "gas_mw"

    def _scale(self, coupling: str) -> float:
        return self._scales.get(self._key(coupling), DEFAULT_SCALE_MW)

    def _add_hub(self, coupling: str) -> np.ndarray:
        return self.columns.add(f"{coupling}.gas_mw", "MW", self._scale(coupling))

    def _add_pressure(self, what: str, node: str) -> np.ndarray:
        lower, upper = self._pi_limits(self.model.grid.node(node))
        return self.columns.add(f"{what}.pressure_sq_bar2", "bar^2", max(upper - lower, 1.0))

    def _pi_limits(self, node: int) -> tuple[float, float]:
        """Squared absolute pressure that a node may have."""
        row, ambient = self.model.grid.nodes[node], self.model.grid.ambient_bar[node]
        return (row.p_min_bar_g + ambient) ** 2, (row.p_max_bar_g + ambient) ** 2

    def _first_content(self) -> Linepack:
        """What steady flow of the first period's fixed demand leaves in the pipes."""
        gate, outlet = self._first_pressures()
        state = self._flow.run(self.model.demand_mw[:1], gate[:1], outlet[:1])
        if not state.converged.all():
            found = "so large that no steady flow carries it in period 0"
            raise self.model._error("demand_mw", found, "one to begin with: check units, gates and diameters")
        return Linepack(self.model.hours, content_mwh(self.model.grid, state.p_bar)[0])

    def _first_pressures(self) -> tuple[np.ndarray, np.ndarray]:
        """Gates at their set points, compressors at their outlets' upper limits; (T, G) and (T, C), bar."""
        grid, periods = self.model.grid, self.model.periods
        upper = [grid.nodes[i].p_max_bar_g for i in grid.outlet_nodes]
        outlet = grid.absolute_bar(np.array(upper, dtype=float), grid.outlet_nodes)
        return np.tile(self._set_bar, (periods, 1)), np.tile(outlet, (periods, 1))

    # ------------------------------------------------------------- operating points

    def first_x(self) -> np.ndarray:
        x = np.zeros(self.size)
        for columns, bar in zip((self._gate_pi, self._outlet_pi), self._first_pressures(), strict=True):
            for at, one in zip(columns, bar.T, strict=True):
                x[at] = one**2
        return x

    def snapshot(self) -> dict[str, Any]:
        """See `FlowProgram`: what the damping depends on."""
        return {name: getattr(self, name) for name in ("_state", "_damping", "_last_error_bar", "_swings")}

    def restore(self, kept: Mapping[str, Any]) -> None:
        vars(self).update(kept)

    def first_points(self) -> GasState:
        """The flow of the fixed demand alone, at the set points."""
        return self.points(self.first_x())

    def points(self, x: np.ndarray) -> GasState:
        before, self._state = self._state, self.exact_flow(x)
        if before is not None:
            controlled = np.concatenate([self.model.grid.gate_nodes, self.model.grid.outlet_nodes])
            moved = np.abs(self._state.p_bar - before.p_bar)[:, controlled].max(axis=1) > MOVED_BAR
            self._damp(np.abs(self.pressure_bar(x) - self._state.p_bar).max(axis=1), moved)
        return self._state

    def _damp(self, error_bar: np.ndarray, moved: np.ndarray) -> None:
        """More damping for the periods that the last correction has not brought nearer though it moved what is set, or
        that swing away.

        With prices that differ between gates, or with linepack between periods, set pressures may go from one end
        of their range to the other with every tangent. Damping vanishes at the operating point: it costs nothing.
        """
        nearer = error_bar <= SETTLES * self._last_error_bar
        self._swings = np.where(error_bar > self._last_error_bar, self._swings + 1, 0)
        stuck = (error_bar > CORRECT_ABOVE_BAR) & ~nearer & (moved | (self._swings >= SWINGS))
        grown = np.clip(DAMPING_GROWTH * self._damping, FIRST_DAMPING * self.model.hours, LARGEST_DAMPING)
        self._damping = np.where(stuck, grown, np.where(nearer, DAMPING_DECAY, 1.0) * self._damping)
        self._last_error_bar = error_bar

    def consumption(self, x: np.ndarray) -> np.ndarray:
        """Of every node at x, (T, n), MW."""
        demand = self.model.demand_mw.copy()
        for node, at in zip(self._hub_nodes, self.boundary.values(), strict=True):
            demand[:, node] += x[at]
        return demand

    def exact_flow(self, x: np.ndarray) -> GasState:
        """The flow of what x consumes at the pressures that it sets."""
        gate, outlet = (
            np.sqrt(np.maximum(np.stack([x[at] for at in columns], axis=1), LOWEST_BAR2))
            if columns
            else np.empty((self.model.periods, 0))
            for columns in (self._gate_pi, self._outlet_pi)
        )
        return self._flow.run(self.consumption(x), gate, outlet, self._linepack, self._state)

    def pressure_bar(self, x: np.ndarray) -> np.ndarray:
        """The program's own absolute pressures at x, (T, n)."""
        return np.sqrt(np.maximum(self.affine.pi.at(x[self._draws]), 0.0))

    def error(self, x: np.ndarray, state: GasState) -> PressureError:
        """The program's pressures at x against an exact flow."""
        if not state.converged.all():
            return PressureError(np.inf)
        return PressureError(float(np.abs(self.pressure_bar(x) - state.p_bar).max()))

    def all_errors(self, x: np.ndarray) -> dict[str, PressureError]:
        return {"gas": self.error(x, self.exact_flow(x))}

    def correction_multiple(self, errors: Mapping[str, PressureError]) -> float:
        return max((error.bar / CORRECT_ABOVE_BAR for error in errors.values()), default=0.0)

    def schedule_multiple(self, x: np.ndarray, scheduled: np.ndarray, errors: Mapping[str, PressureError]) -> float:
        return min(self.error(x, self.exact_flow(scheduled)).bar / FINAL_BAR, LARGEST_ERROR)

    def checks(self, x: np.ndarray, scheduled: np.ndarray) -> dict[str, float | None]:
        bar = self.error(x, self.exact_flow(scheduled)).bar
        return {"gas_max_pressure_error_bar": bar if np.isfinite(bar) else None}

    # ----------------------------------------------------------------------- rows

    def linearised(self, points: GasState | None = None, masks: Sequence[np.ndarray] | None = None) -> QuadraticProgram:
        points = self.first_points() if points is None else points
        self.affine = self._gas_rows.at(points)
        assembly = Assembly(f"gas operator '{self.model.name}'", self.columns)
        self._add_hub_rows(assembly)
        self._add_gates(assembly)
        self._add_compressors(assembly)
        self._add_damping(assembly, points)
        self.limits = list(self._limits())
        for i, limit in enumerate(self.limits):
            limit.add(assembly, None if masks is None else masks[i])
        return assembly.build(self.boundary)

    def _add_hub_rows(self, assembly: Assembly) -> None:
        for one in self.model.connections:
            at, scale = self.boundary[self._key(one.coupling)], self._scale(one.coupling)
            label = f"{one.coupling}: connection capacity"
            assembly.combine(label, [(at, 1.0)], -one.injection_mw, one.capacity_mw, scale)

    def _add_gates(self, assembly: Assembly) -> None:
        """Their range of pressures, the pull to their set points, and what their gas costs."""
        grid, hours = self.model.grid, self.model.hours
        weight = self.model.set_point_eur_per_bar4h * hours
        for gate, at, set_bar in zip(grid.gates, self._gate_pi, self._set_bar, strict=True):
            node = grid.node(gate.node)
            lower, upper = ((p + grid.ambient_bar[node]) ** 2 for p in (gate.p_min_bar_g, gate.p_max_bar_g))
            least, most = self._pi_limits(node)
            label = f"pressure range of gate {gate.name}"
            assembly.combine(label, [(at, 1.0)], max(lower, least), min(upper, most), max(most - least, 1.0))
            assembly.quadratic_cost(at, weight)
            assembly.linear_cost(at, -2 * weight * set_bar**2, self.model.periods * weight * set_bar**4)
        self._add_cost(assembly, self.affine.gate, hours * self.model.price_eur_per_mwh)
        if self._linepack is not None:
            assembly.linear_cost(np.empty(0, dtype=int), 0.0, self._worth * self._linepack.before_mwh.sum())
            self._add_cost(assembly, self.affine.content, -self._worth * self._is_last)

    def _add_compressors(self, assembly: Assembly) -> None:
        for one, at in zip(self.model.grid.compressors, self._outlet_pi, strict=True):
            lower, upper = self._pi_limits(self.model.grid.node(one.to_node))
            label = f"outlet pressure of compressor {one.name}"
            assembly.combine(label, [(at, 1.0)], lower, upper, max(upper - lower, 1.0))
        cost = self.model.grid.column(self.model.grid.compressors, "cost_eur_per_mwh")
        self._add_cost(assembly, self.affine.compressor, np.tile(self.model.hours * cost, (self.model.periods, 1)))

    def _add_damping(self, assembly: Assembly, point: GasState) -> None:
        """1/2 damping (pi - pi0)^2 for the pressures that the operator sets."""
        controlled = [*self.model.grid.gate_nodes, *self.model.grid.outlet_nodes]
        for node, at in zip(controlled, (*self._gate_pi, *self._outlet_pi), strict=True):
            pi0, weight = point.p_bar[:, node] ** 2, self._damping
            assembly.quadratic_cost(at, weight / 2)
            assembly.linear_cost(at, -weight * pi0, float(weight @ pi0**2) / 2)

    def _add_cost(self, assembly: Assembly, flow: Affine, eur_per_mw: np.ndarray) -> None:
        slope = np.einsum("te,tek->tk", eur_per_mw, flow.slope)
        assembly.linear_cost(self._draws, slope, float((eur_per_mw * flow.constant).sum()))

    def _limits(self) -> Iterator[Limit]:
        """All limits of the flow, always in the same order."""
        grid, affine = self.model.grid, self.affine
        ruled = np.concatenate([grid.gate_nodes, grid.outlet_nodes])
        nodes = np.setdiff1d(np.arange(len(grid.nodes)), ruled)
        lower, upper = np.array([self._pi_limits(node) for node in nodes]).reshape(-1, 2).T
        names = [f"pressure limits of node {grid.nodes[node].name}" for node in nodes]
        yield self._limit(names, affine.pi.only(nodes), lower, upper, float(max(upper.max(initial=1.0) / 10, 1.0)))
        yield from self._flow_limits("gate", grid.gates, affine.gate)
        if np.isfinite(self.model.import_limit_mw):
            yield self._limit(
                ["import limit"], _total(affine.gate), -np.inf, self.model.import_limit_mw, self._nominal_mw
            )
        if grid.compressors:
            yield from self._flow_limits("compressor", grid.compressors, affine.compressor)
            yield from self._ratios()

    @property
    def _worth(self) -> float:
        """Of gas in the pipes at the end, EUR/MWh."""
        return float(self.model.price_eur_per_mwh.mean())

    @property
    def _is_last(self) -> np.ndarray:
        """1 in the last period, of every node, (T, n)."""
        last = np.zeros((self.model.periods, len(self.model.grid.nodes)))
        last[-1] = 1.0
        return last

    @property
    def _nominal_mw(self) -> float:
        return max(float(self.model.demand_mw.sum(axis=1).max()) / len(self.model.grid.gates), DEFAULT_SCALE_MW)

    def _flow_limits(self, what: str, rows: Sequence, flow: Affine) -> Iterator[Limit]:
        most = self.model.grid.column(rows, "max_flow_mw")
        names = [f"flow of {what} {one.name} from 0 to its capacity" for one in rows]
        yield self._limit(names, flow, 0.0, most, self._nominal_mw)

    def _ratios(self) -> Iterator[Limit]:
        """pi_in <= pi_out <= ratio^2 pi_in."""
        grid, pi = self.model.grid, self.affine.pi
        inlet, outlet = pi.only(grid.inlet_nodes), pi.only(grid.outlet_nodes)
        square = grid.column(grid.compressors, "max_ratio") ** 2
        scale = float(max(max(self._pi_limits(node)[1] for node in grid.outlet_nodes) / 10, 1.0))
        names = [one.name for one in grid.compressors]
        lifts = outlet.plus(inlet.times(np.array([-1.0])))
        yield self._limit([f"compressor {name} does not throttle" for name in names], lifts, 0.0, np.inf, scale)
        room = inlet.times(square).plus(outlet.times(np.array([-1.0])))
        yield self._limit([f"pressure ratio of compressor {name}" for name in names], room, 0.0, np.inf, scale)

    def _limit(
        self, names: Sequence[str], value: Affine, lower: np.ndarray | float, upper: np.ndarray | float, scale: float
    ) -> Limit:
        shape = value.constant.shape
        return Limit(
            tuple(names), value, self._draws, np.broadcast_to(lower, shape), np.broadcast_to(upper, shape), scale
        )

    # -------------------------------------------------------------------- answers

    def cost_eur(self, x: np.ndarray) -> float:
        """Of gas at the gates and left in the pipes, of compressing it, and of leaving the set points."""
        model, u = self.model, x[self._draws]
        cost = float((model.price_eur_per_mwh * self.affine.gate.at(u)).sum())
        cost += float(
            (self.affine.compressor.at(u) @ model.grid.column(model.grid.compressors, "cost_eur_per_mwh")).sum()
        )
        if self._linepack is not None:
            gained = self.affine.content.at(u)[-1].sum() - self._linepack.before_mwh.sum()
            cost -= self._worth * gained / model.hours
        away = sum(float(((x[at] - bar**2) ** 2).sum()) for at, bar in zip(self._gate_pi, self._set_bar, strict=True))
        return model.hours * (cost + model.set_point_eur_per_bar4h * away)

    def solution(self, x: np.ndarray) -> dict[str, np.ndarray]:
        """Pressures, flows and what pipes store: {"gas.pressure_bar_g": (T, n), "gas.pipe_flow_mw": (T, E), ...}."""
        affine, u = self.affine, x[self._draws]
        found = {
            "gas.pressure_bar_g": self.pressure_bar(x) - self.model.grid.ambient_bar,
            "gas.pipe_flow_mw": affine.flow.at(u),
            "gas.gate_flow_mw": affine.gate.at(u),
        }
        if self.model.grid.compressors:
            found["gas.compressor_flow_mw"] = affine.compressor.at(u)
        if self._linepack is not None:
            found["gas.linepack_mwh"] = affine.content.at(u)
        return found

    def names(self) -> dict[str, Names]:
        grid, found = self.model.grid, {".".join(key): Names("coupling", (key[0],)) for key in self.boundary}
        pipes, gates = (tuple(one.name for one in table) for table in (grid.pipes, grid.gates))
        compressors = tuple(one.name for one in grid.compressors)
        for kind, names in (("gate", gates), ("compressor", compressors)):
            found |= {f"{kind} {name}.pressure_sq_bar2": Names(kind, (name,)) for name in names}
        found["gas.pressure_bar_g"] = Names("node", tuple(node.name for node in grid.nodes))
        found["gas.pipe_flow_mw"] = found["gas.linepack_mwh"] = Names("pipe", pipes)
        found["gas.gate_flow_mw"] = Names("gate", gates)
        found["gas.compressor_flow_mw"] = Names("compressor", compressors)
        return found


def _total(value: Affine) -> Affine:
    """The sum over all elements, as one."""
    return Affine(value.constant.sum(axis=1, keepdims=True), value.slope.sum(axis=1, keepdims=True))
