"""Gas flow as rows, linear at an operating point, with pressures and flows eliminated.

With pi the squared absolute pressures and (pi0, m0) the operating point, the law of pipe i -> j (see `gas_flow`)
is replaced by its tangent in m, Z and so p_m staying at the point:

    near pi_i - far pi_j - S m = Z (K m0 |m0| + L m0) - S m0,      S = Z (2 K max(|m0|, 0.02 MW) + L)

It is exact at the point; the floor keeps pipes that stand still from being free of resistance. With the balances
of the nodes, and with linepack what they store (its tangent in pi), that is square: every pressure and flow is an
affine function of what hubs draw and of the squared pressures at gates and behind compressors. Kept as variables
and rows, they would make a program of thousands of variables of which a handful matter.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from networks.distflow import Affine
from networks.gas_flow import (
    GasState,
    Linepack,
    content_mwh,
    content_slope_mwh_per_bar2,
    mean_bar,
    pipe_law,
)
from networks.gas_grid import GasGrid
from networks.period_systems import solve_periods

SLOPE_FLOOR_MW = 0.02


@dataclass(frozen=True)
class AffineGas:
    """pi: (T, n) squared pressures. flow, gate, compressor: MW. content: MWh stored, of every node."""

    pi: Affine
    flow: Affine
    gate: Affine
    compressor: Affine
    content: Affine


class GasRows:
    """Makes the flow of one grid affine in u = (hubs' draw, gates' pi, compressors' outlet pi) of a period.

    hub_nodes: (H,). demand_mw: (T, n), fixed. With linepack u is that of all periods, one after another, as what
    is stored depends on all before.
    """

    def __init__(
        self, grid: GasGrid, hub_nodes: np.ndarray, demand_mw: np.ndarray, linepack: Linepack | None = None
    ) -> None:
        self._grid, self._law, self._linepack = grid, pipe_law(grid), linepack
        self._start, self._end = grid.pipe_ends
        periods, size = demand_mw.shape
        self.draws = len(hub_nodes) + len(grid.gates) + len(grid.compressors)
        drawn = np.zeros((periods, size, self.draws))
        drawn[:, hub_nodes, np.arange(len(hub_nodes))] = 1.0
        held = np.zeros((periods, size, self.draws))
        controlled = np.concatenate([grid.gate_nodes, grid.outlet_nodes])
        held[:, controlled, len(hub_nodes) + np.arange(controlled.size)] = 1.0
        self._demand = self._spread(demand_mw, drawn)
        self._held_pi = self._spread(np.zeros((periods, size)), held)
        self._is_pi = ~np.isin(np.arange(size), controlled)
        self._balanced = np.setdiff1d(np.arange(size), grid.gate_nodes)

    def _spread(self, constant: np.ndarray, slope: np.ndarray) -> np.ndarray:
        """Constant and slopes side by side; with linepack the slopes at their period's place among all."""
        if self._linepack is None:
            return np.concatenate([constant[:, :, None], slope], axis=2)
        periods, size, draws = slope.shape
        wide = np.zeros((periods, size, periods, draws))
        wide[np.arange(periods), :, np.arange(periods)] = slope
        return np.concatenate([constant[:, :, None], wide.reshape(periods, size, -1)], axis=2)

    def at(self, point: GasState) -> AffineGas:
        """The flow that is exact at the point."""
        near, far, shift = self._tangent(point)
        inflow = self._net(
            self._flows(near, far, shift, self._held_pi)
        )  # of what is known: held pressures, and m at pi = 0
        if self._linepack is None:
            unknown = self._solve(near, far, None, self._demand - inflow)
            content = stores = np.zeros_like(unknown)
        else:
            unknown, content, stores = self._in_turn(near, far, inflow, *self._stored_at(point))
        pi = np.where(self._is_pi[None, :, None], unknown, self._held_pi)
        flow = self._flows(near, far, shift, pi)
        compressor = unknown[:, self._grid.outlet_nodes]
        gate = (self._demand + stores - self._net(flow) + self._taken(compressor))[:, self._grid.gate_nodes]
        return AffineGas(*(_affine(part) for part in (pi, flow, gate, compressor, content)))

    def _tangent(self, point: GasState) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """m = near pi_i - far pi_j - shift for every pipe, (T, E) each."""
        law, m0 = self._law, point.flow_mw
        z = self._grid.gas.compressibility(mean_bar(point.p_bar[:, self._start], point.p_bar[:, self._end]))
        slope = z * (2 * law.square * np.maximum(np.abs(m0), SLOPE_FLOOR_MW) + law.linear)
        drop = z * (law.square * m0 * np.abs(m0) + law.linear * m0)
        return (1 - law.lift / z) / slope, (1 + law.lift / z) / slope, drop / slope - m0

    def _stored_at(self, point: GasState) -> tuple[np.ndarray, np.ndarray]:
        """content = constant + slope pi of every node, (T, n) each, MWh."""
        slope = content_slope_mwh_per_bar2(self._grid, point.p_bar)
        return content_mwh(self._grid, point.p_bar) - slope * point.p_bar**2, slope

    def _flows(self, near: np.ndarray, far: np.ndarray, shift: np.ndarray, pi: np.ndarray) -> np.ndarray:
        flow = near[:, :, None] * pi[:, self._start] - far[:, :, None] * pi[:, self._end]
        flow[:, :, 0] -= shift
        return flow

    def _net(self, flow: np.ndarray) -> np.ndarray:
        """What pipes bring to every node, less what they take away."""
        found = np.zeros((flow.shape[0], len(self._grid.nodes), flow.shape[2]))
        np.add.at(found, (slice(None), self._end), flow)
        np.subtract.at(found, (slice(None), self._start), flow)
        return found

    def _taken(self, compressor: np.ndarray) -> np.ndarray:
        """What compressors take from their inlets and bring to their outlets, as consumption of every node."""
        found = np.zeros((compressor.shape[0], len(self._grid.nodes), compressor.shape[2]))
        np.add.at(found, (slice(None), self._grid.inlet_nodes), compressor)
        np.subtract.at(found, (slice(None), self._grid.outlet_nodes), compressor)
        return found

    def _solve(self, near: np.ndarray, far: np.ndarray, storing: np.ndarray | None, right: np.ndarray) -> np.ndarray:
        """The balances' unknowns at every node, pi or the flow of the compressor that ends there; 0 at gates.

        storing: MW per bar^2 of every node, (T, n). right: consumption less known inflow, (T, n, columns).
        """
        grid, size = self._grid, len(self._grid.nodes)
        one = np.ones((near.shape[0], len(grid.compressors)))
        start, end, own = self._start, self._end, np.arange(size)
        parts = [(end, start, near), (end, end, -far), (start, start, -near), (start, end, far)]
        if storing is not None:
            parts.append((own, own, -storing))
        parts = [(r, c, np.where(self._is_pi[c], v, 0.0)) for r, c, v in parts]
        parts += [(grid.outlet_nodes, grid.outlet_nodes, one), (grid.inlet_nodes, grid.outlet_nodes, -one)]
        rows, columns = (np.concatenate([part[i] for part in parts]) for i in (0, 1))
        values = np.concatenate([part[2] for part in parts], axis=1)
        place = np.full(size, -1)
        place[self._balanced] = np.arange(self._balanced.size)
        used = (place[rows] >= 0) & (place[columns] >= 0)
        found = np.zeros_like(right)
        found[:, self._balanced] = solve_periods(
            place[rows[used]], place[columns[used]], values[:, used], right[:, self._balanced], self._balanced.size
        )
        return found

    def _in_turn(
        self, near: np.ndarray, far: np.ndarray, inflow: np.ndarray, constant: np.ndarray, slope: np.ndarray
    ) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Period after period, as each begins with what the one before has stored: unknowns, content, storing."""
        hours, before = self._linepack.hours, np.zeros(inflow.shape[1:])
        before[:, 0] = self._linepack.before_mwh
        unknown, content = np.zeros_like(inflow), np.zeros_like(inflow)
        stores = np.zeros_like(inflow)
        for t in range(inflow.shape[0]):
            known = slope[t][:, None] * self._held_pi[t]
            known[:, 0] += constant[t]
            right = self._demand[t] - inflow[t] + (known - before) / hours
            here = slice(t, t + 1)
            unknown[t] = self._solve(near[here], far[here], slope[here] / hours, right[None])[0]
            content[t] = known + np.where(self._is_pi[:, None], slope[t][:, None] * unknown[t], 0.0)
            stores[t], before = (content[t] - before) / hours, content[t]
        return unknown, content, stores


def _affine(columns: np.ndarray) -> Affine:
    return Affine(columns[:, :, 0], columns[:, :, 1:])
