"""A limit binds at the megawatt at which it binds in pandapower's power flow of the user's own network."""

from __future__ import annotations

import copy
from dataclasses import replace

import numpy as np
import pandapower as pp
import pytest
import scipy.optimize

from networks.distribution import Connection, DistributionModel, DistributionProgram, Supply
from tests.feeder_nets import KINDS, coupler, imported, solved_by_pandapower

SHARE = 1e-4
"""Of the megawatts at the limit: what the issue of a limit may be off."""
POWER_FACTOR = 0.95
BUS = 3
MOST_MW = 30.0
VOLTAGE = {"consumption": (0.97, 1.5), "generation": (0.5, 1.03)}
KINDS_HERE = (
    *("tap on the high side", "tap on the low side", "ratio other than nominal", "ratio and tap", "charging", "shunts"),
    *("parallel lines", "parallel transformers", "static generators", "constant impedance", "switch with an impedance"),
    *("three windings", "several lines in one", "several transformers in one", "another base power"),
)


def network(kind):
    return coupler() if kind == "coupler" else KINDS[kind]()


def limited(net, band, rated):
    """The network with a voltage band at every bus, and with or without its ratings."""
    net = copy.deepcopy(net)
    net.bus["min_vm_pu"], net.bus["max_vm_pu"] = band
    if not rated:
        net.line["max_i_ka"] = 1e5
        for table in ("trafo", "trafo3w"):
            net[table]["max_loading_percent"] = 1e9
    return net


def found_by_the_program(net, sign):
    """The most that a community at the bus can draw (sign 1) or feed in (-1), by the operator's own rows, in MW.

    The rows are exact at their operating point, so the answer is found by moving the point to it.
    """
    feeder = imported(net)
    model = DistributionModel(
        "dso",
        feeder,
        1.0,
        connections=(Connection("c", str(BUS), POWER_FACTOR, MOST_MW),),
        upstream=Supply(np.zeros(1)),
        flexibility=False,
        **feeder.fixed_load(np.ones(1)),
    )
    program = DistributionProgram(model)
    at, points, latest = program.boundary["c", "p_mw"], program.first_points(), np.inf
    for _ in range(30):
        qp = program.linearised(points)
        rows = scipy.optimize.LinearConstraint(qp.A, qp.l, qp.u)
        cost = np.zeros(program.size)
        cost[at] = -sign
        answer = scipy.optimize.milp(cost, constraints=[rows], bounds=scipy.optimize.Bounds(-np.inf, np.inf))
        assert answer.success, answer.message
        points = program.points(answer.x)
        if abs(answer.x[at][0] - latest) < 1e-7:
            return latest, program, answer.x
        latest = answer.x[at][0]
    raise AssertionError(f"no limit found: {latest} MW")


def found_by_pandapower(net, sign, near_mw):
    """The same by power flows of the network itself, with the community as one more load."""
    if len(net.line) and net.line["r_ohm_per_km"].min() < 0.01:  # the coupler: pandapower cannot solve it as a line
        net.line.loc[2, "in_service"] = False
        pp.create_switch(net, 1, 4, "b", closed=True)
    tangent = np.tan(np.arccos(POWER_FACTOR))
    load = pp.create_load(net, BUS, 0.0, 0.0)

    def margin(p_mw):
        net.load.loc[load, ["p_mw", "q_mvar"]] = p_mw, tangent * p_mw
        solved_by_pandapower(net)
        voltage, buses = net.res_bus["vm_pu"].to_numpy()[1:], net.bus.iloc[1:]
        found = [(voltage - buses["min_vm_pu"]).min(), (buses["max_vm_pu"] - voltage).min()]
        for table in ("line", "trafo", "trafo3w"):
            if len(net[table]):
                most = net[table].get("max_loading_percent", 100.0)
                found.append((1 - net[f"res_{table}"]["loading_percent"] / most).min())
        if net.get("coupler_ka"):
            found.append(1 - net.res_trafo["i_lv_ka"].iloc[0] / net["coupler_ka"])
        return min(found)

    return scipy.optimize.brentq(margin, 0.8 * near_mw, 1.2 * near_mw, xtol=1e-6)


@pytest.mark.parametrize("what", VOLTAGE)
@pytest.mark.parametrize("kind", KINDS_HERE)
def test_a_voltage_limit_binds_where_pandapower_sees_it(kind, what):
    sign = 1 if what == "consumption" else -1
    net = limited(network(kind), VOLTAGE[what], rated=False)
    split_shares(net)
    mine, program, x = found_by_the_program(net, sign)
    assert abs(mine) < 0.999 * MOST_MW and found_by_pandapower(net, sign, mine) == pytest.approx(mine, rel=SHARE)
    limit = VOLTAGE[what][0 if sign > 0 else 1]
    voltage = program.voltage_pu(x)[0, 1:][program.model.feeder.limited[1:]]
    assert (voltage.min() if sign > 0 else voltage.max()) == pytest.approx(limit, abs=1e-6)


@pytest.mark.parametrize("what", ["consumption", "generation"])
@pytest.mark.parametrize("kind", [*KINDS_HERE, "coupler"])
def test_a_current_limit_binds_where_pandapower_sees_it(kind, what):
    sign = 1 if what == "consumption" else -1
    net = limited(network(kind), (0.5, 1.5), rated=True)
    split_shares(net)
    if kind == "coupler":
        net["coupler_ka"] = 0.15  # of the line that stands for it, at the lower terminal of the transformer
    mine, program, x = found_by_the_program(net, sign)
    assert abs(mine) < 0.999 * MOST_MW and found_by_pandapower(net, sign, mine) == pytest.approx(mine, rel=SHARE)
    loading = program.solution(x)["base.current_pu"] / program.model.feeder.i_max_pu
    assert loading.max() == pytest.approx(1.0, abs=1e-6)


@pytest.mark.parametrize("kind", ["three windings", "parallel transformers", "several transformers in one"])
def test_a_transformer_is_limited_by_the_winding_that_pandapower_sees(kind):
    """Its lines have no ratings here, and its rating is small, so the transformer binds."""
    net = limited(network(kind), (0.5, 1.5), rated=True)
    net.line["max_i_ka"], net.trafo["max_loading_percent"] = 1e5, 20.0
    mine, _, _ = found_by_the_program(net, 1)
    assert found_by_pandapower(net, 1, mine) == pytest.approx(mine, rel=SHARE)


def split_shares(net):
    """pandapower applies the mean share of a bus to all loads there, that of the community included: the share of
    constant impedance becomes a shunt, which is the same by definition."""
    shares = {key: net.load[f"const_z_{key}_percent"].to_numpy() / 100 for key in "pq"}
    scaling = net.load["scaling"].to_numpy()
    for i, row in enumerate(net.load.itertuples()):
        p, q = scaling[i] * row.p_mw * shares["p"][i], scaling[i] * row.q_mvar * shares["q"][i]
        if p or q:
            pp.create_shunt(net, row.bus, q_mvar=q, p_mw=p)
    net.load["p_mw"], net.load["q_mvar"] = net.load["p_mw"] * (1 - shares["p"]), net.load["q_mvar"] * (1 - shares["q"])
    net.load[["const_z_p_percent", "const_z_q_percent"]] = 0.0


def test_a_load_of_constant_impedance_is_as_a_shunt():
    net = network("constant impedance")
    shunts = copy.deepcopy(net)
    split_shares(shunts)
    mine, program, x = found_by_the_program(limited(net, (0.97, 1.5), rated=False), 1)
    other, twin, y = found_by_the_program(limited(shunts, (0.97, 1.5), rated=False), 1)
    assert mine == pytest.approx(other, rel=1e-7)
    assert program.losses_mw(x) == pytest.approx(twin.losses_mw(y), abs=1e-8)
    half = replace(program.model, **program.model.feeder.fixed_load(np.full(1, 0.5)))
    assert half.shunt_mva == pytest.approx(0.5 * twin.model.shunt_mva, abs=1e-9)
