"""The exact gas flow, against pandapipes, single pipes solved in SI units, and what mass and gravity demand."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.integrate import solve_ivp
from scipy.optimize import brentq

from admm import SolverError
from networks.gas_flow import GasFlow, Linepack, content_mwh
from networks.gas_grid import GasCompressor, GasGate, GasGrid, GasNode, GasPipe
from networks.period_systems import LARGEST_DENSE, solve_periods
from tests.gas_tools import AMBIENT_BAR, gas65, hub_nodes, table
from tests.tolerances import EXACT, PRESSURE_BAR, SOLVER

FLOW_KGPS = 1e-5
"""Flow of a pipe against pandapipes, whose results are rounded to 1e-6."""
LEAST_PRESSURE = 5e-4
"""bar: lowest pressures in the data's description are rounded to 1e-3."""
MASS_MWH = 1e-7
"""Balance of a day's heat: what Newton's method leaves in every node and period."""
ALONG = 1e-4
"""bar: two forms of one pipe's law, which take the compressibility at its mean pressure and along it."""
CASES = ("peak_base", "peak_base_plus_hubs", "10pct_base")


def load_cases(grid):
    base = grid.column(grid.nodes, "demand_mw")
    hubs = np.array([hub_nodes().get(node.name, 0.0) for node in grid.nodes])
    return np.stack([base, base + hubs, 0.1 * base])


def test_gas65_flows_equal_pandapipes():
    grid = gas65()
    state = GasFlow(grid).run(load_cases(grid), np.full((3, 2), 4.0 + AMBIENT_BAR))
    assert state.converged.all()
    for i, case in enumerate(CASES):
        pressure = [float(row[f"p_bar_g_{case}"]) for row in table("reference_node.csv")]
        flow = [float(row[f"mdot_kg_per_s_{case}"]) for row in table("reference_pipe.csv")]
        assert state.p_bar[i] - AMBIENT_BAR == pytest.approx(pressure, abs=PRESSURE_BAR)
        assert state.flow_mw[i] / grid.gas.mw_per_kgps == pytest.approx(flow, abs=FLOW_KGPS)


@pytest.mark.parametrize(("lost", "lowest"), [("city gate East", 2.072), ("city gate West", 1.550)])
def test_a_lost_gate_leaves_the_published_pressure(lost, lowest):
    grid = gas65().without_gate(lost)
    state = GasFlow(grid).run(load_cases(grid)[:1], np.full((1, 1), 4.0 + AMBIENT_BAR))
    assert state.p_bar.min() - AMBIENT_BAR == pytest.approx(lowest, abs=LEAST_PRESSURE)


def single_pipe(**changes):
    pipe = replace(GasPipe("p", "a", "b", 2.0, 80.0, 0.05), **changes)
    nodes = (GasNode("a", 1.0, 5.0), GasNode("b", 1.0, 5.0))
    return GasGrid("one pipe", nodes, (pipe,), (GasGate("g", "a", 4.0, 4.0, 4.0),))


@pytest.mark.parametrize("flow_mw", [0.01, 1.0, 8.0, 13.0])
def test_a_single_pipe_is_the_integral_of_darcys_law(flow_mw):
    """dp/dx = -lambda rho v^2 / (2 d) with lambda = rough + 64 / Re, stepped along the pipe in SI units."""
    grid = single_pipe()
    gas, pipe = grid.gas, grid.pipes[0]
    d, area = 0.08, np.pi / 4 * 0.08**2
    mass = flow_mw / (3.6 * gas.heating_value_kwh_per_kg)
    friction = 1 / (2 * np.log10(d / (pipe.roughness_mm / 1e3)) + 1.14) ** 2 + 64 / (
        mass * d / (area * gas.viscosity_pa_s)
    )

    def fall(_, p):
        normal = 273.15 / 101325 * p / (gas.temperature_k * (1 - 0.0022 * p / 1e5))
        density = gas.normal_density_kg_per_m3 * normal
        return -friction * density * (mass / (density * area)) ** 2 / (2 * d)

    end = solve_ivp(fall, (0, 2000), [(4.0 + AMBIENT_BAR) * 1e5], rtol=1e-10, atol=1e-3).y[0, -1] / 1e5
    state = GasFlow(grid).run(np.array([[0.0, flow_mw]]), np.full((1, 1), 4.0 + AMBIENT_BAR))
    assert state.p_bar[0, 1] == pytest.approx(end, abs=ALONG)
    assert 4.0 + AMBIENT_BAR - end > {0.01: 1e-6, 1.0: 0.01, 8.0: 0.5, 13.0: 1.3}[flow_mw]


def test_fittings_and_length_add_up():
    """zeta = lambda l / d of the missing length is that length of pipe, but for the laminar term."""
    friction = (1.14 + 2 * np.log10(80 / 0.05)) ** -2
    demand, gate = np.array([[0.0, 8.0]]), np.full((1, 1), 4.0 + AMBIENT_BAR)
    long = GasFlow(single_pipe()).run(demand, gate)
    short = GasFlow(single_pipe(length_km=1.0, loss_coefficient=friction * 1000 / 0.08)).run(demand, gate)
    assert short.p_bar[0, 1] == pytest.approx(long.p_bar[0, 1], abs=0.02)
    assert short.p_bar[0, 1] > long.p_bar[0, 1]


def test_gas_at_rest_follows_the_barometric_law():
    grid = single_pipe()
    grid = replace(grid, nodes=(grid.nodes[0], replace(grid.nodes[1], height_m=300.0)))
    state = GasFlow(grid).run(np.zeros((1, 2)), np.full((1, 1), 5.0))
    z = 1 - 0.0022 * 4.95
    assert state.p_bar[0, 1] == pytest.approx(
        5.0 * np.exp(-9.80665 * 300 / (z * grid.gas.specific_j_per_kg)), abs=ALONG
    )


def test_more_than_a_pipe_can_carry_is_not_called_a_flow():
    state = GasFlow(single_pipe()).run(np.array([[0.0, 60.0], [0.0, 5.0]]), np.full((2, 1), 5.0))
    assert state.converged.tolist() == [False, True]


def test_a_compressor_feeds_what_lies_behind_it():
    nodes = [GasNode(name, 1.0, 8.0) for name in "abcd"]
    pipes = [GasPipe("ab", "a", "b", 1.0, 80.0, 0.05), GasPipe("cd", "c", "d", 1.0, 80.0, 0.05)]
    gates = [GasGate("g", "a", 3.0, 3.0, 3.0)]
    grid = GasGrid("lifted", tuple(nodes), tuple(pipes), tuple(gates), (GasCompressor("k", "b", "c", 3.0),))
    state = GasFlow(grid).run(np.array([[0.0, 1.0, 0.0, 4.0]]), np.array([[4.0]]), np.array([[7.0]]))
    assert state.compressor_mw[0, 0] == pytest.approx(4.0, abs=SOLVER)
    assert state.gate_mw[0, 0] == pytest.approx(5.0, abs=SOLVER)
    ends = [GasFlow(replace(single_pipe(), pipes=(replace(single_pipe().pipes[0], length_km=1.0),)))] * 2
    inlet = ends[0].run(np.array([[0.0, 5.0]]), np.array([[4.0]])).p_bar[0, 1]
    outlet = ends[1].run(np.array([[0.0, 4.0]]), np.array([[7.0]])).p_bar[0, 1]
    assert state.p_bar[0, [1, 3]] == pytest.approx([inlet, outlet], abs=SOLVER)


# ------------------------------------------------------------------------------- linepack


def test_linepack_of_one_pipe_is_solved_by_bisection():
    """Node b holds half the pipe's gas: inflow(p) - demand = (content(p) - content before) / hours."""
    grid, hours, flow = single_pipe(length_km=6.0), 0.1, GasFlow(single_pipe(length_km=6.0))
    gate = np.full((3, 1), 4.0 + AMBIENT_BAR)
    before = content_mwh(grid, np.array([[4.0 + AMBIENT_BAR, 4.5]]))[0]
    demand = np.array([[0.0, 2.0], [0.0, 5.0], [0.0, 1.0]])
    state = flow.run(demand, gate, linepack=Linepack(hours, before))
    volume, held = np.pi / 4 * 0.08**2 * 6000 / 2, before[1]
    gas = grid.gas

    def content(p):
        density = p * 1e5 / (gas.specific_j_per_kg * (1 - 0.0022 * p))
        return volume * density * gas.heating_value_kwh_per_kg / 1e3

    for t in range(3):

        def surplus(inflow, t=t, held=held):
            p = flow.run(np.array([[0.0, inflow]]), gate[:1]).p_bar[0, 1]
            return inflow - demand[t, 1] - (content(p) - held) / hours

        inflow = brentq(surplus, -5.0, 6.0, xtol=1e-12)
        assert state.flow_mw[t, 0] == pytest.approx(inflow, abs=SOLVER)
        held = content(state.p_bar[t, 1])


@settings(max_examples=15, deadline=None)
@given(st.lists(st.floats(0.0, 1.0), min_size=2, max_size=6), st.floats(0.1, 2.0))
def test_what_enters_less_what_is_drawn_stays_in_the_pipes(shares, hours):
    grid = gas65()
    demand = np.array(shares)[:, None] * grid.column(grid.nodes, "demand_mw")
    before = content_mwh(grid, np.full(65, 4.5))
    state = GasFlow(grid).run(demand, np.full((len(shares), 2), 5.0), linepack=Linepack(hours, before))
    assert state.converged.all()
    entered = hours * (state.gate_mw.sum() - demand.sum())
    assert entered == pytest.approx(content_mwh(grid, state.p_bar)[-1].sum() - before.sum(), abs=MASS_MWH)


def test_without_a_change_nothing_is_stored():
    grid = gas65()
    demand, gate = load_cases(grid)[[0, 0]], np.full((2, 2), 5.0)
    steady = GasFlow(grid).run(demand, gate)
    packed = GasFlow(grid).run(demand, gate, linepack=Linepack(1.0, content_mwh(grid, steady.p_bar)[0]))
    assert packed.p_bar == pytest.approx(steady.p_bar, abs=EXACT * 100)


@pytest.mark.parametrize("size", [2, LARGEST_DENSE + 1])
def test_a_system_without_a_unique_solution_is_an_error_of_ours(size):
    at = np.arange(size - 1)
    with pytest.raises(SolverError, match="the equations of a flow have no unique solution"):
        solve_periods(at, at, np.ones((1, size - 1)), np.ones((1, size, 1)), size)
