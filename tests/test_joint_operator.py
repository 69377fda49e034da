"""A gas and an electric operator, apart and as one agent, in whole runs of every scheme."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

import admm
from admm import InputError
from networks.distribution import Connection, DistributionAgent, DistributionModel
from networks.feeder import read_feeder_csv
from networks.gas import GasAgent, GasConnection, GasModel
from networks.grids import grid_folder
from networks.joint_operator import JointOperatorAgent
from subproblems import QPAgent
from subproblems.builder import Builder
from tests.gas_tools import square
from tests.tolerances import FLOW_PU, LOSS_SHARE, OF_TURNOVER, PRESSURE_BAR, VIOLATION_PU


def hub_agent(name, heat_mw, joint=True):
    """Heat by gas or by electricity."""
    periods, builder = heat_mw.size, Builder(name)
    p = builder.variable("p_mw", periods, 0.0, 1.0, unit="MW", scale=0.3)
    gas = builder.variable("gas_mw", periods, 0.0, 2.0, unit="MW", scale=1.0)
    builder.rows("heat", [(p, 3.0), (gas, 0.9)], heat_mw, heat_mw)
    builder.cost(p, 0.0, 1.0)
    builder.boundary(name, "p_mw", p)
    builder.boundary(name if joint else f"{name}-gas", "gas_mw", gas)
    return QPAgent(builder.build())


def two_networks(joint, periods=3):
    """Agents and couplings of two hubs, a feeder, a gas network and a supplier of electricity."""
    feeder = read_feeder_csv(grid_folder("ieee33"), 1.03)
    share = np.linspace(0.4, 0.8, periods)[:, None]
    electric = DistributionModel(
        "dso", feeder, 1.0, share * feeder.load_p_mw, share * feeder.load_q_mvar,
        (Connection("h1", "18"), Connection("h2", "30")), "up", flexibility=False,
    )  # fmt: skip
    demand = share * np.array([0.0, 8.0, 0.0, 8.0])
    names = ("h1", "h2") if joint else ("h1-gas", "h2-gas")
    gas = GasModel("gas", square(), 1.0, demand, tuple(map(GasConnection, names, "bd", (3.0, 3.0))))
    supplier = Builder("supplier")
    p = supplier.variable("p_mw", periods, -20.0, 20.0, unit="MW", scale=3.0)
    supplier.cost(p, np.linspace(80.0, 120.0, periods), 2.0)
    supplier.boundary("up", "p_mw", p)
    agents = {name: hub_agent(name, np.linspace(1.0, 1.6, periods), joint) for name in ("h1", "h2")}
    agents["supplier"] = QPAgent(supplier.build())
    p_mw, gas_mw = (admm.Quantity(n, periods, "MW", s, c) for n, s, c in (("p_mw", 0.3, 90.0), ("gas_mw", 1.0, 35.0)))
    if joint:
        agents["operator"] = JointOperatorAgent(electric, gas)
        couplings = [admm.Coupling(n, lower=n, upper="operator", quantities=[p_mw, gas_mw]) for n in names]
    else:
        agents |= {"dso": DistributionAgent(electric), "gas": GasAgent(gas)}
        couplings = [admm.Coupling(n, lower=n, upper="dso", quantities=[p_mw]) for n in ("h1", "h2")]
        couplings += [admm.Coupling(n, lower=n[:2], upper="gas", quantities=[gas_mw]) for n in names]
    up = admm.Quantity("p_mw", periods, "MW", 3.0, 90.0)
    couplings.append(admm.Coupling("up", lower="operator" if joint else "dso", upper="supplier", quantities=[up]))
    return agents, couplings


def run(joint, scheme):
    agents, couplings = two_networks(joint)
    result = admm.solve(agents, couplings, settings=admm.Settings(scheme=scheme, max_iterations=300))
    assert result.converged, result.status
    turnover = sum(
        float(np.abs(one.price * one.lower).sum()) for each in result.boundary.values() for one in each.values()
    )
    return agents, result, turnover


@pytest.mark.parametrize("scheme", ["two-block", "memory", "certified"])
def test_one_operator_or_two_agree_on_the_optimum(scheme):
    together, one, turnover = run(True, scheme)
    apart, two, _ = run(False, scheme)
    assert one.objective == pytest.approx(two.objective, abs=2 * OF_TURNOVER * turnover)
    if scheme != "two-block":
        assert max(one.certified_gap, two.certified_gap) <= OF_TURNOVER
    for agent in (together["operator"], apart["gas"], apart["dso"]):
        assert agent.model_error() <= 1.0 and agent.violation() < VIOLATION_PU
    found, parts = together["operator"].solution(), apart["dso"].solution() | apart["gas"].solution()
    assert {"base.voltage_pu", "gas.pressure_bar_g", "up.p_mw"} <= found.keys()
    assert found["gas.pressure_bar_g"] == pytest.approx(parts["gas.pressure_bar_g"], abs=0.05)
    assert set(together["operator"].units().values()) == {"pu", "MW", "Mvar", "bar", "bar^2"}
    check = together["operator"].checks()
    assert check["ac_max_voltage_error_pu"] < FLOW_PU and check["ac_max_loss_error"] < LOSS_SHARE
    assert check["gas_max_pressure_error_bar"] < PRESSURE_BAR


def test_two_networks_side_by_side_are_the_sum_of_both():
    agents, couplings = two_networks(True)
    admm.solve(agents, couplings, settings=admm.Settings(max_iterations=5))
    agent = agents["operator"]
    x, program = agent._rows.x, agent.program
    parts = {key: program.part(key, x) for key in program.programs}
    assert program.cost_eur(x) == pytest.approx(sum(program.programs[k].cost_eur(v) for k, v in parts.items()))
    whole = program.linearised(agent._points)
    each = [program.programs[k].linearised(agent._points[k]) for k in parts]
    assert whole.cost_eur(x) == pytest.approx(sum(qp.cost_eur(v) for qp, v in zip(each, parts.values(), strict=True)))
    assert whole.l.size == sum(qp.l.size for qp in each)
    labels = [whole.row_label(row) for row in (0, whole.l.size - 1)]
    assert labels == [each[0].row_label(0), each[1].row_label(each[1].l.size - 1)]


def test_networks_of_different_horizons_are_refused():
    agents, _ = two_networks(True)
    operator = agents["operator"]
    with pytest.raises(
        InputError, match="the electric network has 3 periods of 1 h, the gas network 3 periods of 0.5 h"
    ):
        JointOperatorAgent(operator.electric, replace(operator.gas, hours=0.5))
