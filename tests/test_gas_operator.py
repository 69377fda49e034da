"""The gas operator, against an independent nonlinear program and its exact flow."""

from __future__ import annotations

from dataclasses import replace

import clarabel
import numpy as np
import pytest
import scipy.sparse as sp
from hypothesis import example, given, settings
from hypothesis import strategies as st
from scipy.optimize import minimize

from admm import AnswerStatus, InputError
from networks.gas import GasAgent, GasConnection, GasModel, GasProgram
from networks.gas_flow import GasFlow
from networks.gas_grid import GasCompressor, GasGate, GasGrid, GasNode, GasPipe
from tests.gas_tools import (
    AMBIENT_BAR,
    PRICE,
    ask,
    boundary_of,
    gas65,
    gas65_model,
    hub_nodes,
    settled,
    square,
    square_model,
)
from tests.tolerances import PRESSURE_BAR, SOLVER, VIOLATION_PU

OPTIMUM = 2e-6
"""Relative difference from the nonlinear optimum, when pressures may be off by CORRECT_ABOVE_BAR."""
DRAW_MW = 2e-3
"""A hub's draw at the optimum, which is flat there."""
MASS_MWH = 1e-4
HELD = np.inf


def nonlinear_optimum(model, price, reference, penalty):
    """One period by SLSQP with SI formulas: pressures, flows, gates, and the hub's draw; (cost, draw)."""
    grid, gas, n = model.grid, model.grid.gas, len(model.grid.nodes)
    ends = [(grid.node(pipe.from_node), grid.node(pipe.to_node)) for pipe in grid.pipes]
    gates, hub = [grid.node(gate.node) for gate in grid.gates], grid.node(model.connections[0].node)
    e, g = len(ends), len(gates)
    rt = 101325 / (gas.normal_density_kg_per_m3 * 273.15) * gas.temperature_k

    def falls(x):
        found = []
        for i, (pipe, (a, b)) in enumerate(zip(grid.pipes, ends, strict=True)):
            p, q, kgps = x[a], x[b], x[n + i] / (3.6 * gas.heating_value_kwh_per_kg)
            z = 1 - 0.0022 * 2 / 3 * (p + q - p * q / (p + q))
            d = pipe.inner_diameter_mm / 1e3
            area, length = np.pi * d**2 / 4, 1e3 * pipe.length_km
            rough = 1 / (1.14 + 2 * np.log10(pipe.inner_diameter_mm / pipe.roughness_mm)) ** 2
            drop = rough * length / d * kgps * abs(kgps) + 64 * area * gas.viscosity_pa_s / d * length / d * kgps
            found.append(p**2 - q**2 - z * rt / area**2 * drop / 1e10)
        return np.array(found)

    def balances(x):
        net = -model.demand_mw[0].copy()
        net[hub] -= x[-1]
        for i, (a, b) in enumerate(ends):
            net[a] -= x[n + i]
            net[b] += x[n + i]
        net[gates] += x[n + e : n + e + g]
        return net

    def cost(x):
        away = (x[gates] ** 2 - (grid.column(grid.gates, "p_set_bar_g") + AMBIENT_BAR) ** 2) ** 2
        bought = model.price_eur_per_mwh[0] @ x[n + e : n + e + g]
        paid = price * x[-1] + penalty / 2 * (x[-1] - reference) ** 2
        return model.hours * (bought + model.set_point_eur_per_bar4h * away.sum()) + paid

    limits = [(node.p_min_bar_g + AMBIENT_BAR, node.p_max_bar_g + AMBIENT_BAR) for node in grid.nodes]
    for gate, node in zip(grid.gates, gates, strict=True):
        limits[node] = (gate.p_min_bar_g + AMBIENT_BAR, gate.p_max_bar_g + AMBIENT_BAR)
    limits += (
        [(None, None)] * e + [(0, gate.max_flow_mw) for gate in grid.gates] + [(0, model.connections[0].capacity_mw)]
    )
    start = np.concatenate([np.full(n, 4.5), np.ones(e), np.full(g, model.demand_mw[0].sum() / g), [1.0]])
    rules = [{"type": "eq", "fun": falls}, {"type": "eq", "fun": balances}]
    options = {"maxiter": 300, "ftol": 1e-12}
    best = minimize(cost, start, method="SLSQP", bounds=limits, constraints=rules, options=options)
    assert best.success, best.message
    return best.fun, best.x[-1]


@pytest.mark.parametrize("solver", ["osqp", "piqp"])
@pytest.mark.parametrize(
    ("grid", "demand", "price"),
    [
        (square(30.0, 30.0), (6.0, 4.0), -36.0),
        (square(30.0, 33.0), (6.0, 4.0), -36.0),  # pressures spread to buy at the cheaper gate
        (square(30.0, 33.0, max_flow_mw=8.0), (6.0, 4.0), -36.0),  # whose capacity binds
        (
            square(30.0, 30.0, 3.1, p_max_bar_g=3.5, p_min_bar_g=3.1),
            (12.0, 12.0),
            -90.0,
        ),  # lower pressure limit at d binds
    ],
    ids=["equal", "dear east", "capacity", "pressure"],
)
def test_the_optimum_is_that_of_the_nonlinear_program(grid, demand, price, solver):
    model = square_model([demand], grid)
    expected, drawn = nonlinear_optimum(model, price, 2.0, 4.0)
    answer = settled(agent := GasAgent(model, solver), model, 2.0, 4.0, price)
    value = answer.cost_eur + price * answer.values[0] + 2.0 * (answer.values[0] - 2.0) ** 2
    assert value == pytest.approx(expected, rel=OPTIMUM)
    assert answer.values[0] == pytest.approx(drawn, abs=DRAW_MW)
    assert agent.violation() < VIOLATION_PU


def test_what_binds_in_the_cases_above_does_bind():
    pressed = square_model([(12.0, 12.0)], square(least_bar_g=3.1, p_max_bar_g=3.5, p_min_bar_g=3.1))
    settled(agent := GasAgent(pressed), pressed, 2.0, 4.0, -90.0)
    assert agent.solution()["gas.pressure_bar_g"].min() == pytest.approx(3.1, abs=PRESSURE_BAR)
    limited = square_model([(6.0, 4.0)], square(30.0, 33.0, max_flow_mw=8.0))
    settled(agent := GasAgent(limited), limited, 2.0, 4.0, -36.0)
    assert agent.solution()["gas.gate_flow_mw"][0, 0] == pytest.approx(8.0, abs=PRESSURE_BAR)


@pytest.mark.parametrize("solver", ["osqp", "piqp"])
def test_flow_turns_around_in_a_loop(solver):
    """Demand moves from b to d and back: the pipe between them carries gas one way, then the other."""
    model = square_model([(8.0, 0.5), (0.5, 8.0), (4.0, 4.0), (0.5, 8.0)])
    answer = settled(agent := GasAgent(model, solver), model, 0.1, HELD)
    across = agent.solution()["gas.pipe_flow_mw"][:, 4]
    assert across[0] < -1 and across[1] > 1 and across[3] > 1
    exact = exact_flow(model, agent, 0.1)
    assert agent.solution()["gas.pressure_bar_g"] == pytest.approx(exact.p_bar - AMBIENT_BAR, abs=PRESSURE_BAR)
    assert across == pytest.approx(exact.flow_mw[:, 4], abs=0.01)
    assert answer.model_error <= 1.0


def exact_flow(model, agent, drawn_mw):
    """The flow of a schedule at the pressures that the agent has set."""
    demand = model.demand_mw.copy()
    for one in model.connections:
        demand[:, model.grid.node(one.node)] += drawn_mw
    gate = agent.solution()["gas.pressure_bar_g"][:, model.grid.gate_nodes] + AMBIENT_BAR
    return GasFlow(model.grid).run(demand, gate)


def test_few_corrections_follow_a_day_of_the_bundled_network():
    model = gas65_model(24)
    agent = GasAgent(model)
    agent.prepare(boundary_of(model))
    draws = np.repeat(list(hub_nodes().values()), 24)
    for iteration in range(1, 9):
        answer = agent.answer(ask(model, draws * (1 - 0.5**iteration), HELD, 0.0, iteration, iteration > 5))
        assert answer.status is AnswerStatus.SOLVED
    assert answer.model_error <= 1.0 and 1 <= agent.corrections <= 5
    assert answer.cost_eur == pytest.approx(PRICE * (model.demand_mw.sum() + answer.values.sum()), rel=1e-4)


def test_a_first_reference_far_beyond_the_grid_does_no_harm():
    model = gas65_model(2)
    agent = GasAgent(model)
    agent.prepare(boundary_of(model))
    for iteration, reference in enumerate((1000.0, 50.0, 1.0, 1.0, 1.0), 1):
        answer = agent.answer(ask(model, reference, 20.0, -36.0, iteration, iteration > 2))
        assert answer.status is AnswerStatus.SOLVED, answer.reason
    assert answer.values == pytest.approx(1.05, abs=0.01) and agent._errors["gas"].bar < PRESSURE_BAR


def test_model_error_is_measured_at_the_hubs_schedule():
    model = square_model([(6.0, 4.0)])
    agent = GasAgent(model, "piqp")
    answer = settled(agent, model, 4.0, 0.5, 20.0)
    assert agent.solution()["hub.gas_mw"][0] < 3.0  # held softly, it does not follow
    assert agent._errors["gas"].bar < PRESSURE_BAR
    exact = exact_flow(model, agent, 4.0).p_bar - AMBIENT_BAR
    off = np.abs(exact - agent.solution()["gas.pressure_bar_g"]).max()
    assert answer.model_error == pytest.approx(off / PRESSURE_BAR, rel=1e-3) and off > 10 * PRESSURE_BAR


# --------------------------------------------------------------------------- infeasible


@pytest.mark.parametrize("solver", ["osqp", "piqp"])
def test_a_lost_gate_is_explained_by_the_node_whose_pressure_falls(solver):
    grid = gas65().without_gate("city gate East")
    grid = replace(grid, gates=(replace(grid.gates[0], max_flow_mw=np.inf),))
    model = gas65_model(4, grid)
    agent = GasAgent(model, solver)
    agent.prepare(boundary_of(model))
    draws = np.repeat(list(hub_nodes().values()), 4)
    answer = agent.answer(ask(model, draws, HELD))
    assert answer.status is AnswerStatus.INFEASIBLE
    assert "pressure limits of node" in answer.reason and "period" in answer.reason


def test_demand_beyond_the_gates_is_explained_by_their_capacity():
    model = gas65_model(2, gas65().without_gate("city gate East"), peak=1.8)
    agent = GasAgent(model)
    agent.prepare(boundary_of(model))
    answer = agent.answer(ask(model, 0.0, 1.0))
    assert answer.status is AnswerStatus.INFEASIBLE
    assert "flow of gate city gate West from 0 to its capacity" in answer.reason


def test_the_import_limit_binds():
    model = square_model([(6.0, 4.0), (3.0, 3.0)], import_limit_mw=12.0)
    answer = settled(GasAgent(model, "piqp"), model, 4.0, 1.0, -40.0)
    assert answer.values[0] == pytest.approx(2.0, abs=SOLVER)
    assert answer.values[1] > 5.0


# --------------------------------------------------------- compressors, linepack


def lifted():
    nodes = [GasNode("a", 1.0, 4.0), GasNode("b", 1.0, 4.0), GasNode("c", 1.0, 6.0), GasNode("d", 3.8, 6.0)]
    pipes = [GasPipe("ab", "a", "b", 2.0, 100.0, 0.05), GasPipe("cd", "c", "d", 3.0, 90.0, 0.05)]
    gates = [GasGate("g", "a", 3.0, 3.0, 3.0, 50.0, 30.0)]
    return GasGrid("lifted", tuple(nodes), tuple(pipes), tuple(gates), (GasCompressor("k", "b", "c", 1.6, 20.0, 1.0),))


def test_a_compressor_lifts_until_its_ratio_binds():
    """What d can draw: its pressure limit and the ratio leave one flow, found on the two pipes' own laws."""
    model = GasModel("gas", lifted(), 1.0, np.zeros((1, 4)), (GasConnection("hub", "d", 40.0),))
    answer = settled(agent := GasAgent(model, "piqp"), model, 20.0, 10.0, -200.0)
    solution = agent.solution()
    inlet, outlet, end = solution["gas.pressure_bar_g"][0, 1:] + AMBIENT_BAR
    assert outlet / inlet == pytest.approx(1.6, abs=PRESSURE_BAR)
    assert end == pytest.approx(3.8 + AMBIENT_BAR, abs=PRESSURE_BAR)
    drawn = answer.values[0]
    assert solution["gas.compressor_flow_mw"][0, 0] == pytest.approx(drawn, rel=SOLVER) and drawn > 5
    flow = GasFlow(model.grid).run(np.array([[0, 0, 0, drawn]]), np.array([[3.0 + AMBIENT_BAR]]), np.array([[outlet]]))
    assert flow.p_bar[0, [1, 3]] == pytest.approx([inlet, end], abs=PRESSURE_BAR)
    away = (solution["gas.pressure_bar_g"][0, 0] - 3.0) ** 2
    assert answer.cost_eur == pytest.approx(31.0 * drawn + away, rel=SOLVER)


@settings(max_examples=8, deadline=None)
@given(st.lists(st.floats(0.2, 1.0), min_size=4, max_size=4), st.lists(st.floats(-1.0, 1.0), min_size=4, max_size=4))
@example([0.28125, 1.0, 1.0, 1.0], [-0.421875, 0.125, 0.0, 0.0])  # corrections that swing out, a little more each time
def test_the_operators_linepack_conserves_mass(shares, dearer):
    prices = PRICE + 5 * np.array(dearer)[:, None] * np.ones((1, 2))
    model = square_model(np.outer(shares, (6.0, 4.0)), linepack=True, price_eur_per_mwh=prices)
    settled(agent := GasAgent(model, "piqp"), model, 1.0, 5.0, -PRICE)
    solution, before = agent.solution(), agent.program._linepack.before_mwh.sum()
    entered = solution["gas.gate_flow_mw"].sum(axis=1) - model.demand_mw.sum(axis=1) - solution["hub.gas_mw"]
    held = np.concatenate([[before], solution["gas.linepack_mwh"].sum(axis=1)])
    assert entered == pytest.approx(np.diff(held), abs=MASS_MWH)
    exact = agent.program.exact_flow(agent._rows.x)
    assert solution["gas.pressure_bar_g"] == pytest.approx(exact.p_bar - AMBIENT_BAR, abs=PRESSURE_BAR)


def test_linepack_is_filled_when_gas_is_cheap():
    prices = np.array([[30.0], [30.0], [40.0], [40.0]]) * np.ones((1, 2))
    model = square_model([(4.0, 4.0)] * 4, linepack=True, price_eur_per_mwh=prices)
    settled(agent := GasAgent(model, "piqp"), model, 1.0, HELD)
    held = agent.solution()["gas.linepack_mwh"].sum(axis=1)
    assert held[1] > held[3] + 0.01
    steady = replace(model, linepack=False)
    settled(plain := GasAgent(steady, "piqp"), steady, 1.0, HELD)
    assert agent.cost_eur() < plain.cost_eur() - 0.1


# ------------------------------------------------------------------ bounds, bad models


def test_the_bound_is_the_optimum_at_the_operating_point():
    model = square_model([(6.0, 4.0), (3.0, 5.0)], square(30.0, 33.0))
    agent = GasAgent(model, "piqp")
    settled(agent, model, 2.0, 4.0, -36.0)
    answer = agent.answer(ask(model, 0.0, 0.0, -33.2, 7))
    qp = agent.program.linearised(agent._points)
    q = qp.q.copy()
    q[qp.boundary["hub", "gas_mw"]] += -33.2
    A, b = sp.vstack([qp.A, -qp.A]).tocsc(), np.concatenate([qp.u, -qp.l])
    finite = np.isfinite(b)
    options = clarabel.DefaultSettings()
    options.verbose = False
    cones = [clarabel.NonnegativeConeT(int(finite.sum()))]
    solver = clarabel.DefaultSolver(sp.triu(qp.P).tocsc(), q, A[finite].tocsc(), b[finite], cones, options)
    best = solver.solve().obj_val + qp.constant
    assert answer.bound_eur == pytest.approx(best, rel=SOLVER) and answer.bound_eur <= best * (1 + 1e-9)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"demand_mw": np.zeros((2, 3))}, "demand_mw is array of shape (2, 3), expected (periods, 4)"),
        ({"demand_mw": np.full((2, 4), np.nan)}, "demand_mw is nan in period 0, column 0, expected finite numbers"),
        ({"price_eur_per_mwh": np.zeros((3, 2))}, "price_eur_per_mwh is for 3 periods, expected 1 as demand_mw"),
        ({"connections": ()}, "connections is empty, expected at least one hub"),
        ({"connections": (GasConnection("h", "z"),)}, "there is no node 'z', its nodes are a, b, c, d"),
        ({"connections": (GasConnection("h", "b"), GasConnection("h", "d"))}, "coupling is 'h' more than once"),
        ({"connections": (GasConnection("h", "b", 0.0),)}, "capacity_mw of 'h' is 0.0"),
        ({"connections": (GasConnection("h", "b", 1.0, -1.0),)}, "injection_mw of 'h' is -1.0"),
        ({"hours": 0.0}, "hours is 0.0, expected a number above 0"),
        ({"set_point_eur_per_bar4h": -1.0}, "set_point_eur_per_bar4h is -1.0"),
        ({"import_limit_mw": -2.0}, "import_limit_mw is -2.0"),
    ],
)
def test_a_model_says_what_is_wrong_with_it(change, words):
    with pytest.raises(InputError) as caught:
        replace(square_model([(6.0, 4.0)]), **change)
    assert words in str(caught.value)


def test_linepack_needs_a_flow_to_begin_with():
    model = square_model([(40.0, 40.0)], linepack=True)
    with pytest.raises(InputError, match="demand_mw is so large that no steady flow carries it in period 0"):
        GasProgram(model)


def test_a_coupling_without_gas_is_named():
    model = square_model([(6.0, 4.0)])
    agent = GasAgent(replace(model, connections=(GasConnection("other", "d"),)))
    with pytest.raises(InputError, match="gas operator 'gas': there is no coupling 'other' with gas_mw"):
        agent.prepare(boundary_of(model))
