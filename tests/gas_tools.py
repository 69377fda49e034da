"""Gas networks and questions for the tests."""

from __future__ import annotations

import csv
from dataclasses import replace

import numpy as np

from admm import AgentBoundary, Question
from networks.gas import GasConnection, GasModel
from networks.gas_grid import GasGate, GasGrid, GasNode, GasPipe
from networks.gas_tables import read_gas_csv
from networks.grids import GAS, grid_folder

AMBIENT_BAR = 1.01325
PRICE = 35.0
MOST_CORRECTIONS = 16


def gas65(**changes):
    return replace(read_gas_csv(grid_folder("gas65", GAS)), **changes)


def table(name):
    with (grid_folder("gas65", GAS) / name).open(encoding="utf-8") as file:
        return list(csv.DictReader(file))


def hub_nodes():
    """{node: peak draw in MW} of the bundled network's hubs."""
    return {row["node"]: float(row["hub_peak_demand_kw"]) / 1e3 for row in table("node.csv") if row["hub"]}


def gas65_model(periods=4, grid=None, peak=1.0, **options):
    grid = grid or gas65()
    share = peak * (0.6 + 0.4 * np.sin(2 * np.pi * np.arange(periods) / periods))
    demand = share[:, None] * grid.column(grid.nodes, "demand_mw")
    hubs = tuple(GasConnection(f"h{node}", node, 2 * draw) for node, draw in hub_nodes().items())
    return GasModel("gas", grid, 1.0, demand, hubs, **options)


def square(first_cost=30.0, second_cost=30.0, least_bar_g=2.0, **gate):
    """Two gates at opposite corners a and c, demand at b and d, and a pipe across from b to d."""
    nodes = [GasNode(name, least_bar_g, 4.0, profile="all") for name in "abcd"]
    ends = ("ab", "bc", "cd", "da", "bd")
    pipes = [GasPipe(two, two[0], two[1], 1.0 + 0.2 * i, 80.0, 0.05) for i, two in enumerate(ends)]
    limits = {"p_set_bar_g": 3.5, "p_min_bar_g": 3.0, "p_max_bar_g": 4.0} | gate
    gates = [
        GasGate("west", "a", cost_eur_per_mwh=first_cost, **limits),
        GasGate("east", "c", cost_eur_per_mwh=second_cost, **limits),
    ]
    return GasGrid("square", tuple(nodes), tuple(pipes), tuple(gates))


def square_model(demand_mw, grid=None, **options):
    """demand_mw: (T, 2) at b and d; a hub at d."""
    demand = np.zeros((len(demand_mw), 4))
    demand[:, [1, 3]] = demand_mw
    return GasModel("gas", grid or square(), 1.0, demand, (GasConnection("hub", "d", 8.0),), **options)


def boundary_of(model, scale=2.0):
    keys = tuple((one.coupling, "gas_mw", model.periods) for one in model.connections)
    n = model.periods * len(keys)
    return AgentBoundary(keys, np.full(n, scale), np.full(n, PRICE), -np.ones(n))


def ask(model, reference, penalty, price=0.0, iteration=1, settle=False, accuracy=1e-8):
    """Every entry at the same price (EUR/MWh) and penalty; reference: MW, by period and hub or one for all."""
    n = model.periods * len(model.connections)
    spread = [np.broadcast_to(np.asarray(one, dtype=float), n).copy() for one in (price, reference, penalty)]
    return Question(iteration, *spread, accuracy, settle)


def settled(agent, model, reference, penalty, price=0.0):
    """The agent's answer after its corrections to one question; the agent was not prepared before."""
    agent.prepare(boundary_of(model))
    for iteration in range(1, MOST_CORRECTIONS):
        answer = agent.answer(ask(model, reference, penalty, price, iteration, iteration > 1))
        if iteration > 2 and agent.program.correction_multiple(agent._errors) <= 1.0:
            break
    return answer
