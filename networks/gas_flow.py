"""Isothermal gas flow in a network, by Newton's method, all periods at once.

Darcy and Weisbach's equation with the state equation p = density Z R T, along a pipe i -> j of length l and inner
diameter d (all SI; m in kg/s; pi = p^2, absolute; p_m the mean pressure along the pipe):

    (1 - h / Z) pi_i - (1 + h / Z) pi_j = Z (K m |m| + L m)
    Z = Z(p_m),   p_m = 2/3 (p_i + p_j - p_i p_j / (p_i + p_j))
    K = 16 R T / pi^2 (lambda l / d^5 + zeta / d^4),   1 / sqrt(lambda) = 1.14 + 2 lg(d / k)     (Nikuradse, rough)
    L = 16 R T / pi^2 (l / d^5) 16 pi mu d                                                       (64 / Re, laminar)
    h = g (height_j - height_i) / (R T)

and at every node inflow = demand + what its pipes store. Pressures are known at gates and behind compressors. A step
solves for the nodes' squared pressures alone: the pipes' equations give each flow from its two ends (Todini and
Pilati's global gradient method). Z follows from step to step; its derivative, a thousandth, is left out.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from networks.gas_grid import GasGrid
from networks.period_systems import solve_periods

GRAVITY = 9.80665
BAR2 = 1e-10
"""bar^2 in a Pa^2."""
LOWEST_BAR2 = 1e-4
"""Squared pressures below this stand for "no flow exists"."""
MOST_STEPS = 60
RESIDUAL_BAR2, RESIDUAL_MW = 1e-9, 1e-9
"""Of pipes and nodes, at which Newton's method stops."""
LEAST_FLOW_MW = 1e-4
"""A step takes the slope of pipes with less flow from here: m |m| has none at 0."""
FIRST_FLOW_SHARE = 0.2
"""Of the total demand: the flow at which the first step takes every pipe's slope."""


@dataclass(frozen=True)
class PipeLaw:
    """square, linear: K and L in bar^2 per MW^2 and per MW, (E,). lift: h, (E,)."""

    square: np.ndarray
    linear: np.ndarray
    lift: np.ndarray


def pipe_law(grid: GasGrid) -> PipeLaw:
    """The constants of every pipe."""
    gas, pipes = grid.gas, grid.pipes
    length_m, diameter_m = grid.column(pipes, "length_km") * 1e3, grid.column(pipes, "inner_diameter_mm") / 1e3
    relative = diameter_m / (grid.column(pipes, "roughness_mm") / 1e3)
    friction = (1.14 + 2 * np.log10(relative)) ** -2
    fittings = grid.column(pipes, "loss_coefficient")
    common = 16 / np.pi**2 * gas.specific_j_per_kg * BAR2
    square = common * (friction * length_m / diameter_m**5 + fittings / diameter_m**4)
    linear = common * length_m / diameter_m**4 * 16 * np.pi * gas.viscosity_pa_s
    start, end = grid.pipe_ends
    height_m = grid.column(grid.nodes, "height_m")
    lift = GRAVITY * (height_m[end] - height_m[start]) / gas.specific_j_per_kg
    return PipeLaw(square / gas.mw_per_kgps**2, linear / gas.mw_per_kgps, lift)


def mean_bar(p_bar: np.ndarray, q_bar: np.ndarray) -> np.ndarray:
    """Mean pressure of a pipe between two absolute pressures: p^2 falls linearly along it."""
    return 2 / 3 * (p_bar + q_bar - p_bar * q_bar / (p_bar + q_bar))


def content_mwh(grid: GasGrid, p_bar: np.ndarray) -> np.ndarray:
    """Heat stored in the pipes, each half at its ends' pressures: volume x density x heating value, (T, n)."""
    gas = grid.gas
    density = p_bar * 1e5 / (gas.specific_j_per_kg * gas.compressibility(p_bar))
    return grid.volume_m3 * density * gas.heating_value_kwh_per_kg / 1e3


def content_slope_mwh_per_bar2(grid: GasGrid, p_bar: np.ndarray) -> np.ndarray:
    """Derivative of `content_mwh` with respect to squared pressure, (T, n)."""
    gas = grid.gas
    per_bar = grid.volume_m3 * 1e5 / gas.specific_j_per_kg * gas.heating_value_kwh_per_kg / 1e3
    return per_bar / (2 * p_bar * gas.compressibility(p_bar) ** 2)


@dataclass(frozen=True)
class Linepack:
    """Pipes store gas from one period to the next. hours: of a period. before_mwh: (n,), before the first."""

    hours: float
    before_mwh: np.ndarray


@dataclass(frozen=True)
class GasState:
    """p_bar: (T, n) absolute. flow_mw: (T, E) along each pipe. gate_mw: (T, G) into the network.

    compressor_mw: (T, C). converged: (T,), whether a flow exists and was found.
    """

    p_bar: np.ndarray
    flow_mw: np.ndarray
    gate_mw: np.ndarray
    compressor_mw: np.ndarray
    converged: np.ndarray


class GasFlow:
    """Solves for one grid."""

    def __init__(self, grid: GasGrid) -> None:
        self.grid, self.law = grid, pipe_law(grid)
        size = len(grid.nodes)
        self._free = np.setdiff1d(np.arange(size), grid.gate_nodes)  # nodes with a balance, one unknown each
        self._unknown = np.full(size, -1)
        self._unknown[self._free] = np.arange(self._free.size)
        self._known = np.concatenate([grid.gate_nodes, grid.outlet_nodes])  # nodes with a given pressure
        self._place_entries()

    def _place_entries(self) -> None:
        """Where the derivatives of the balances stand. Behind a compressor the unknown is its flow."""
        grid, (start, end) = self.grid, self.grid.pipe_ends
        inlet, outlet = grid.inlet_nodes, grid.outlet_nodes
        own = np.arange(len(grid.nodes))
        rows = np.concatenate([start, start, end, end, own, inlet, outlet])
        columns = np.concatenate([start, end, start, end, own, outlet, outlet])
        is_pressure = ~np.isin(columns, self._known)
        is_pressure[rows.size - 2 * inlet.size :] = True  # the compressors' own entries
        self._used = is_pressure & (self._unknown[rows] >= 0)
        self._rows, self._columns = self._unknown[rows][self._used], self._unknown[columns][self._used]

    def run(
        self,
        demand_mw: np.ndarray,
        gate_bar: np.ndarray,
        outlet_bar: np.ndarray | None = None,
        linepack: Linepack | None = None,
        start: GasState | None = None,
    ) -> GasState:
        """The flow for demand (T, n) with absolute pressures at the gates, (T, G), and behind compressors, (T, C)."""
        periods = demand_mw.shape[0]
        outlet_bar = np.empty((periods, 0)) if outlet_bar is None else outlet_bar
        known = np.concatenate([gate_bar, outlet_bar], axis=1) ** 2
        begin = self._first_state(demand_mw, known) if start is None else self._copy(start, known)
        if linepack is None:
            return self._state(demand_mw, *self._newton(demand_mw, *begin, None))
        return self._in_turn(demand_mw, begin, linepack)

    def _in_turn(self, demand_mw: np.ndarray, begin: tuple[np.ndarray, ...], linepack: Linepack) -> GasState:
        """Period after period, each with what the one before has left in the pipes."""
        found = []
        for t in range(demand_mw.shape[0]):
            here = slice(t, t + 1)
            state = self._state(
                demand_mw[here], *self._newton(demand_mw[here], *(a[here] for a in begin), linepack), linepack
            )
            linepack = Linepack(linepack.hours, content_mwh(self.grid, state.p_bar)[0])
            found.append(state)
        return GasState(
            *(np.concatenate([getattr(one, key) for one in found]) for key in GasState.__dataclass_fields__)
        )

    def _first_state(self, demand_mw: np.ndarray, known: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Squared pressures, flows of pipes and compressors to begin with: no flow at all, at the highest pressure."""
        periods = demand_mw.shape[0]
        pi = np.repeat(known.max(axis=1, keepdims=True), len(self.grid.nodes), axis=1)
        pi[:, self._known] = known
        return pi, np.full((periods, len(self.grid.pipes)), np.nan), np.zeros((periods, len(self.grid.compressors)))

    def _copy(self, state: GasState, known: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        pi = state.p_bar**2
        pi[:, self._known] = known
        return pi, state.flow_mw.copy(), state.compressor_mw.copy()

    def _newton(
        self, demand: np.ndarray, pi: np.ndarray, flow: np.ndarray, lifted: np.ndarray, linepack: Linepack | None
    ) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
        """Squared pressures, flows, compressor flows, and which periods have converged."""
        typical = FIRST_FLOW_SHARE * np.abs(demand).sum(axis=1, keepdims=True) + LEAST_FLOW_MW
        sizes, flow = np.where(np.isnan(flow), typical, np.abs(flow)), np.nan_to_num(flow)
        for _ in range(MOST_STEPS):
            left, (near, far, z) = self._pipe_residual(pi, flow)
            balance = self._balance(demand, pi, flow, lifted, linepack)[:, self._free]
            done = (np.abs(left).max(axis=1, initial=0) < RESIDUAL_BAR2) & (
                np.abs(balance).max(axis=1, initial=0) < RESIDUAL_MW
            )
            if done.all():
                break
            slope = z * (2 * self.law.square * np.maximum(sizes, LEAST_FLOW_MW) + self.law.linear)
            step, lift_step = self._step(near / slope, far / slope, left / slope, balance, pi, linepack)
            start, end = self.grid.pipe_ends
            pi, lifted = pi + step, lifted + lift_step
            flow = flow + (left + near * step[:, start] - far * step[:, end]) / slope
            sizes = np.abs(flow)
        return pi, flow, lifted, done & (pi > LOWEST_BAR2).all(axis=1)

    def _pipe_residual(self, pi: np.ndarray, flow: np.ndarray) -> tuple[np.ndarray, tuple[np.ndarray, ...]]:
        """What is left of the pipes' equations, bar^2; and 1 - h/Z, 1 + h/Z and Z."""
        start, end = self.grid.pipe_ends
        p = np.sqrt(np.maximum(pi, LOWEST_BAR2))
        z = self.grid.gas.compressibility(mean_bar(p[:, start], p[:, end]))
        near, far = 1 - self.law.lift / z, 1 + self.law.lift / z
        drop = z * (self.law.square * flow * np.abs(flow) + self.law.linear * flow)
        return near * pi[:, start] - far * pi[:, end] - drop, (near, far, z)

    def _balance(
        self, demand: np.ndarray, pi: np.ndarray, flow: np.ndarray, lifted: np.ndarray, linepack: Linepack | None
    ) -> np.ndarray:
        """Inflow less demand and storage of every node, MW, without what gates supply, (T, n)."""
        grid, (start, end) = self.grid, self.grid.pipe_ends
        found = (-demand).T.copy()
        np.add.at(found, end, flow.T)
        np.subtract.at(found, start, flow.T)
        np.add.at(found, grid.outlet_nodes, lifted.T)
        np.subtract.at(found, grid.inlet_nodes, lifted.T)
        if linepack is not None:
            content = content_mwh(grid, np.sqrt(np.maximum(pi, LOWEST_BAR2)))
            found -= ((content - linepack.before_mwh) / linepack.hours).T
        return found.T

    def _step(
        self,
        near: np.ndarray,
        far: np.ndarray,
        left: np.ndarray,
        balance: np.ndarray,
        pi: np.ndarray,
        linepack: Linepack | None,
    ) -> tuple[np.ndarray, np.ndarray]:
        """Newton's change of the squared pressures, (T, n), and of the compressors' flows, (T, C).

        near, far, left: of the pipes' equations, divided by their slopes: what the flow changes by.
        """
        grid, (start, end) = self.grid, self.grid.pipe_ends
        periods, size = pi.shape
        stored = np.zeros((periods, size))
        if linepack is not None:
            stored = content_slope_mwh_per_bar2(grid, np.sqrt(np.maximum(pi, LOWEST_BAR2))) / linepack.hours
        one = np.ones((periods, len(grid.compressors)))
        values = np.concatenate([near, -far, -near, far, stored, one, -one], axis=1)[:, self._used]
        gained = np.zeros((size, periods))
        np.add.at(gained, end, left.T)
        np.subtract.at(gained, start, left.T)
        right = balance + gained.T[:, self._free]
        found = solve_periods(self._rows, self._columns, values, right[:, :, None], self._free.size)[:, :, 0]
        step = np.zeros((periods, size))
        step[:, self._free] = found
        lifted = step[:, grid.outlet_nodes]
        step[:, self._known] = 0.0
        return step, lifted

    def _state(
        self,
        demand: np.ndarray,
        pi: np.ndarray,
        flow: np.ndarray,
        lifted: np.ndarray,
        converged: np.ndarray,
        linepack: Linepack | None = None,
    ) -> GasState:
        gate = -self._balance(demand, pi, flow, lifted, linepack)[:, self.grid.gate_nodes]
        return GasState(np.sqrt(np.maximum(pi, LOWEST_BAR2)), flow, gate, lifted, converged)
