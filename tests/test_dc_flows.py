"""DC flows and ratings of imported transmission grids, against pandapower's own DC power flow of the same network."""

from __future__ import annotations

import logging
import warnings

import numpy as np
import pandapower as pp
import pandapower.networks as pn
import pytest

from admm import InputError
from networks.pandapower_import import transmission_from_pandapower

DC_MW = 1e-6
logging.getLogger("pandapower").setLevel(logging.ERROR)


def limited(net):
    """The network with a range of power for every source that has none."""
    for table in ("ext_grid", "gen", "sgen"):
        for column, limit in (("min_p_mw", -1e4), ("max_p_mw", 1e4)):
            net[table][column] = net[table][column].fillna(limit) if column in net[table] else limit
    return net


def flows_mw(grid, supplied_mw):
    """{branch: flow} of our model at a supply per bus: angles by least squares, as several islands may be there."""
    size, count = len(grid.buses), len(grid.branches)
    incidence = np.zeros((count, size))
    for k, one in enumerate(grid.branches):
        incidence[k, grid.bus(one.from_bus)] += 1
        incidence[k, grid.bus(one.to_bus)] -= 1
    weight = np.array([one.mw_per_rad for one in grid.branches])
    shift = np.radians([one.shift_degree for one in grid.branches])
    matrix = incidence.T @ (weight[:, None] * incidence)
    free = [i for i in range(size) if i != grid.bus(grid.slack)]
    angle = np.zeros(size)
    right = supplied_mw - grid.fixed_mw + incidence.T @ (weight * shift)
    angle[free] = np.linalg.solve(matrix[np.ix_(free, free)], right[free])
    return dict(zip((one.name for one in grid.branches), weight * (incidence @ angle - shift), strict=True))


def supplied(grid, net):
    """What pandapower's sources deliver at every bus of the grid."""
    total = np.zeros(len(grid.buses))
    for one in grid.generators:
        table, index = one.name.split()
        total[grid.bus(one.bus)] += net[f"res_{table}"].loc[int(index), "p_mw"]
    return total


def compared(net):
    """(grid, {branch: our flow}, {branch: pandapower's flow})."""
    grid = transmission_from_pandapower(limited(net))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        pp.rundcpp(net)
    expected = {}
    for table, column in (("line", "p_from_mw"), ("trafo", "p_hv_mw"), ("impedance", "p_from_mw")):
        expected |= {f"{table} {i}": p for i, p in net[f"res_{table}"][column].items() if not np.isnan(p)}
    for i, row in net.res_trafo3w.iterrows():
        expected |= {f"trafo3w {i} {side}": s * row[f"p_{side}_mw"] for side, s in (("hv", 1), ("mv", -1), ("lv", -1))}
    return grid, flows_mw(grid, supplied(grid, net)), expected


def check_flows(net):
    grid, found, expected = compared(net)
    assert found and found.keys() <= expected.keys() | {name for name in found if name.startswith("switch")}
    for name, flow in expected.items():
        assert found.get(name, 0.0) == pytest.approx(flow, abs=DC_MW), name
    return grid


NETS = [
    *(pn.case4gs, pn.case6ww, pn.case9, pn.case14, pn.case30, pn.case39, pn.case57, pn.case118, pn.case300),
    *(pn.GBreducednetwork, pn.iceland, pn.case24_ieee_rts, pn.case89pegase, pn.case145),
    *(pn.example_multivoltage, pn.create_cigre_network_hv, pn.example_simple),
]


@pytest.mark.parametrize("make", NETS, ids=lambda make: make.__name__)
def test_flows_are_those_of_pandapower(make):
    check_flows(make())


def kinds(sn_mva=1.0):
    """A network with one of each kind of branch and of tap changer, in a mesh."""
    net = pp.create_empty_network(name="kinds", sn_mva=sn_mva)
    a, b, c, d, e, f = (pp.create_bus(net, kv) for kv in (110.0, 110.0, 20.0, 20.0, 110.0, 10.0))
    lost, off = pp.create_bus(net, 20.0), pp.create_bus(net, 20.0, in_service=False)
    pp.create_ext_grid(net, a)
    pp.create_ext_grid(net, e, va_degree=1.0)
    for start, end, length in ((a, b, 12.0), (b, e, 7.0), (a, e, 9.0), (c, d, 3.0), (c, off, 2.0)):
        pp.create_line_from_parameters(net, start, end, length, 0.06, 0.4, 9.0, 0.6, parallel=2)
    pp.create_switch(net, d, 3, "l", closed=False)
    rated = {
        "vkr_percent": 0.4,
        "vk_percent": 11.0,
        "pfe_kw": 20.0,
        "i0_percent": 0.1,
        "vn_hv_kv": 112.0,
        "vn_lv_kv": 21.0,
    }
    for shift, side, kind, percent, degree in (
        (30.0, "hv", "Ratio", 1.5, np.nan),
        (30.0, "lv", "Symmetrical", 1.0, 60.0),
        (30.0, "hv", "Ideal", np.nan, 2.0),
        (30.0, "hv", None, 1.5, np.nan),
    ):
        pp.create_transformer_from_parameters(
            net, b, c, 25.0, shift_degree=shift, tap_side=side, tap_pos=2, tap_neutral=0, tap_step_percent=percent,
            tap_step_degree=degree, tap_changer_type=kind, **rated,
        )  # fmt: skip
    pp.create_transformer3w_from_parameters(
        net, e, d, f, 110.0, 20.5, 10.0, 40.0, 25.0, 15.0, 10.0, 11.0, 9.0, 0.3, 0.3, 0.3, 10.0, 0.1,
        shift_mv_degree=30.0, tap_side="hv", tap_pos=-3, tap_neutral=0, tap_step_percent=1.2, tap_changer_type="Ratio",
    )  # fmt: skip
    pp.create_impedance(net, c, d, 0.01, 0.08, 50.0)
    pp.create_bus(net, 110.0)
    pp.create_switch(net, b, 8, "b", z_ohm=0.3)
    pp.create_line_from_parameters(net, 8, e, 4.0, 0.06, 0.4, 9.0, 0.6)
    pp.create_load(net, d, 13.0, 2.0, scaling=0.8, const_z_p_percent=30.0)
    pp.create_load(net, lost, 1.0)
    pp.create_sgen(net, c, 3.0)
    pp.create_storage(net, b, 2.0, 10.0)
    pp.create_ward(net, c, 1.0, 0.1, 0.7, 0.1)
    pp.create_xward(net, d, 0.5, 0.1, 0.2, 0.1, 0.1, 0.5, 1.0)
    pp.create_shunt(net, f, 0.5, 0.3, vn_kv=9.5, step=2)
    pp.create_motor(net, f, 0.4, 0.9, loading_percent=80.0)
    return net


@pytest.mark.parametrize("sn_mva", [1.0, 100.0])
def test_every_kind_of_branch_and_of_tap_changer(sn_mva):
    grid = check_flows(kinds(sn_mva))
    assert {"switch 1", "impedance 0", "trafo3w 0 mv"} <= {one.name for one in grid.branches}
    assert "6" not in grid.buses and grid.notes[0] == "nothing supplies bus 6: left out, with 1 MW of load"


@pytest.mark.parametrize("make", [kinds, pn.case4gs, pn.case9])
def test_ratings_are_the_flows_at_which_pandapowers_loading_reaches_its_limit(make):
    net = make()
    for table in ("gen", "ext_grid", "xward"):
        net[table]["vm_pu"] = 1.0
    net.line["max_loading_percent"], net.line["df"] = 80.0, 0.9
    if len(net.trafo):
        net.trafo["max_loading_percent"], net.trafo["df"] = 70.0, 0.95
    grid, found, _ = compared(net)
    rating = {one.name: one.rating_mw for one in grid.branches}
    count = 0
    for table in ("line", "trafo"):
        for i, loading in net[f"res_{table}"]["loading_percent"].items():
            name, limit = f"{table} {i}", net[table]["max_loading_percent"].get(i)
            if np.isfinite(rating.get(name, np.inf)) and loading > 0:
                assert abs(found[name]) / rating[name] == pytest.approx(loading / limit, rel=1e-6), name
                count += 1
    assert count >= 4


def test_buses_that_switches_join_answer_to_each_of_their_numbers():
    net = pn.case9()
    pp.create_bus(net, 345.0)
    pp.create_switch(net, 4, 9, "b")
    pp.create_load(net, 9, 5.0)
    grid = check_flows(net)
    assert "9" not in grid.buses and grid.bus("9") == grid.bus("4")
    assert set(grid.bus_names) == {str(bus) for bus in range(10)}


def replace_cell(table, column, cell):
    def change(net):
        net[table][column] = net[table][column].astype(object)
        net[table].loc[net[table].index[0], column] = cell

    return change


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (replace_cell("line", "x_ohm_per_km", np.nan), "line 0: x_ohm_per_km is empty"),
        (replace_cell("line", "length_km", None), "line 0: length_km is empty"),
        (replace_cell("line", "parallel", np.nan), "line 0: parallel is empty"),
        (replace_cell("line", "x_ohm_per_km", 0.0), "line 0 has no reactance"),
        (replace_cell("line", "in_service", None), "line 0: in_service is empty"),
        (replace_cell("line", "length_km", "far"), "line 0: length_km is 'far'"),
        (replace_cell("load", "p_mw", np.nan), "load 0: p_mw is empty"),
        (replace_cell("sgen", "scaling", np.nan), "sgen 0: scaling is empty"),
        (replace_cell("trafo", "vk_percent", np.nan), "trafo 0: vk_percent is empty"),
        (replace_cell("trafo", "shift_degree", np.nan), "trafo 0: shift_degree is empty"),
        (replace_cell("trafo3w", "vk_mv_percent", np.nan), "trafo3w 0: vk_mv_percent is empty"),
        (replace_cell("impedance", "xft_pu", np.nan), "impedance 0: xft_pu is empty"),
        (replace_cell("bus", "vn_kv", np.nan), "bus 0: vn_kv is empty"),
        (replace_cell("line", "max_i_ka", np.nan), "line 0: max_i_ka is empty"),
        (lambda net: pp.create_dcline(net, 0, 1, 5.0, 1.0, 0.1, 1.0, 1.0), "dcline 0 cannot be represented"),
        (lambda net: pp.create_asymmetric_load(net, 1, 1.0), "asymmetric_load 0 cannot be represented"),
        (lambda net: net.bus.drop(index=2, inplace=True), "DC power flow fails"),
        (lambda net: net.ext_grid.__setitem__("in_service", False), "no ext_grid in service"),
        (replace_cell("bus", "in_service", False), "."),
    ],
)
def test_what_a_dc_grid_cannot_take_is_named(change, words):
    net = limited(kinds())
    change(net)
    if words == ".":
        net.ext_grid.drop(index=1, inplace=True)
        words = "the ext_grid's bus 0 is out of service"
    with pytest.raises(InputError) as caught:
        transmission_from_pandapower(net)
    assert words in str(caught.value) and "\n" not in str(caught.value)
