"""A feeder from pandapower has pandapower's own flow, says what it left out, and names what it cannot carry."""

from __future__ import annotations

import numpy as np
import pandapower as pp
import pandapower.networks as pn
import pytest

from admm import InputError
from networks.ac_check import ac_flow
from tests.feeder_nets import KINDS, changed, coupler, imported, own_flow, plain, solved_by_pandapower
from tests.tolerances import EXACT

NEWTON_PU = 1e-8
"""What pandapower's own tolerance leaves in a voltage."""
BRANCHES = ("line", "trafo", "trafo3w", "impedance")


def loading(net, name):
    """pandapower's loading of a branch over its limit."""
    table, index, *_ = name.split()
    if table not in ("line", "trafo"):
        return None
    return net[f"res_{table}"].at[int(index), "loading_percent"] / 100


def assert_the_same(net, feeder, flow):
    voltage = np.abs(flow.voltage_pu[0])
    for bus, expected in net.res_bus["vm_pu"].items():
        if np.isfinite(expected):
            assert voltage[feeder.node(str(bus))] == pytest.approx(expected, abs=NEWTON_PU)
    losses_mw = sum(net[f"res_{table}"]["pl_mw"].sum() for table in BRANCHES if len(net[table]))
    if "p_from_mw" in net.res_switch:  # of switches that are branches
        losses_mw += net.res_switch[["p_from_mw", "p_to_mw"]].sum().sum()
    assert flow.losses_mw[0] == pytest.approx(losses_mw, abs=NEWTON_PU)
    drawn = net.res_ext_grid["p_mw"].sum() + (net.res_gen["p_mw"].sum() if len(net.gen) else 0)
    generated = net.gen["p_mw"].sum() if len(net.gen) else 0
    assert flow.root_p_mw[0] == pytest.approx(drawn - generated, abs=1e-7)


@pytest.mark.parametrize("kind", KINDS)
def test_base_flow_is_that_of_pandapower(kind):
    net = solved_by_pandapower(KINDS[kind]())
    feeder = imported(net)
    flow = own_flow(feeder)
    assert_the_same(net, feeder, flow)
    for name, current, limit in zip(feeder.branches, flow.current_pu[0], feeder.i_max_pu, strict=True):
        expected = [loading(net, one) for one in name.split(" + ")]
        if None not in expected:  # of parallel branches the one that is loaded most
            assert current / limit == pytest.approx(max(expected), rel=1e-6)


@pytest.mark.parametrize("kind", ["charging", "constant impedance", "three windings", "parallel lines", "shunts"])
def test_the_ac_check_of_the_model_finds_the_same(kind):
    """The second solver, on the feeder's own tables."""
    feeder = imported(KINDS[kind]())
    flow, fixed = own_flow(feeder), feeder.fixed_load(np.ones(1))
    shunt = feeder.shunt_mva + (fixed["z_load_p_mw"] + 1j * fixed["z_load_q_mvar"]) * feeder.base_per_nominal**2
    found = ac_flow(feeder, fixed["load_p_mw"], fixed["load_q_mvar"], shunt)
    assert found.voltage_pu == pytest.approx(np.abs(flow.voltage_pu), abs=NEWTON_PU)
    for key in ("losses_mw", "current_pu", "root_p_mw", "root_q_mvar"):
        assert getattr(found, key) == pytest.approx(getattr(flow, key), abs=1e-7)


def test_a_coupler_is_a_branch_without_impedance_that_keeps_its_rating():
    net, feeder = coupler(), imported(coupler())
    at = feeder.branches.index("line 2")
    assert feeder.r_pu[at] == feeder.x_pu[at] == 0
    net.line.loc[2, "in_service"] = False
    pp.create_switch(net, 1, 4, "b", closed=True)
    solved_by_pandapower(net)
    flow = own_flow(feeder)
    assert_the_same(net, feeder, flow)
    assert flow.current_pu[0, at] / feeder.i_max_pu[at] == pytest.approx(net.res_line["i_ka"][0] / 0.15, rel=1e-6)
    check = ac_flow(feeder, feeder.load_p_mw[None], feeder.load_q_mvar[None])
    assert check.current_pu == pytest.approx(flow.current_pu, abs=1e-7)


def test_couplers_that_close_a_loop_join_their_nodes():
    net = coupler()
    pp.create_line_from_parameters(net, 1, 2, 6.0, r_ohm_per_km=0.3, x_ohm_per_km=0.2, c_nf_per_km=100, max_i_ka=0.1)
    feeder = imported(net)
    assert feeder.node("4") == feeder.node("1") and "line 0 + line 3" in feeder.branches
    assert any("line 2: its ends are one node, so its rating is not watched" in note for note in feeder.notes)
    net.line.loc[2, "in_service"] = False
    pp.create_switch(net, 1, 4, "b", closed=True)
    assert_the_same(solved_by_pandapower(net), feeder, own_flow(feeder))


def test_every_bus_of_a_node_names_it_and_its_limits_are_the_tightest():
    net = KINDS["closed switch"]()
    net.bus.loc[4, ["min_vm_pu", "max_vm_pu"]] = 0.93, 1.2
    feeder = imported(net)
    at = feeder.node("4")
    assert at == feeder.node("3") and feeder.nodes[at] == "3"
    assert (feeder.v_min_pu[at], feeder.v_max_pu[at]) == (0.93, 1.1)


def test_limits_are_per_unit_of_each_bus_whatever_the_ratios_are():
    """A limit given in kV holds in kV."""
    for kind in ("tap on the low side", "ratio other than nominal"):
        feeder = imported(KINDS[kind]())
        assert feeder.nominal_kv == pytest.approx([110, 20, 20, 20], abs=EXACT)
        assert abs(feeder.base_kv[1] - 20) > 0.1 and feeder.v_min_pu[1:] == pytest.approx(0.9)


def isolated(net):
    bus = pp.create_bus(net, 20.0)
    pp.create_load(net, bus, 5.0)
    beyond = pp.create_bus(net, 20.0)
    pp.create_line_from_parameters(net, bus, beyond, 1.0, r_ohm_per_km=0.3, x_ohm_per_km=0.2, c_nf_per_km=0, max_i_ka=1)


def out_of_service(net):
    bus = pp.create_bus(net, 20.0, in_service=False)
    pp.create_load(net, bus, 5.0)
    pp.create_line_from_parameters(net, 3, bus, 5.0, r_ohm_per_km=0.3, x_ohm_per_km=0.2, c_nf_per_km=400, max_i_ka=1)


NOTED = {
    "buses 4, 5 are not connected with the ext_grid: left out, with load 2": isolated,
    "line 2 ends at bus 4, which is out of service: it is open there": out_of_service,
    "load 2 at bus 4: the bus is out of service": out_of_service,
    "trafo 0 (tap_pos 3): tap_changer_type is empty, so tap_pos has no effect": lambda net: (
        net.trafo.__setitem__("tap_pos", 3),
        net.trafo.__setitem__("tap_changer_type", None),
    ),
    "line 1, line 2 are parallel: they are one branch": lambda net: pp.create_line_from_parameters(
        net, 2, 3, 5.0, r_ohm_per_km=0.3, x_ohm_per_km=0.2, c_nf_per_km=0, max_i_ka=0.2
    ),
}


@pytest.mark.parametrize("words", NOTED)
def test_what_is_left_out_is_noted_and_the_rest_is_as_in_pandapower(words):
    net = changed(NOTED[words])
    feeder = imported(net)
    assert any(words in note for note in feeder.notes), feeder.notes
    assert_the_same(solved_by_pandapower(net), feeder, own_flow(feeder))


def test_the_rating_of_a_switch_is_not_watched_only_where_it_joins_buses():
    rated = {"z_ohm": 0.3, "in_ka": 0.1}
    joined, branch = (changed(lambda net, keys=keys: _busbar(net, **keys)) for keys in ({**rated, "z_ohm": 0.0}, rated))
    assert any("switch 0: closed between buses, so in_ka is not watched" in note for note in imported(joined).notes)
    assert not any("in_ka" in note for note in imported(branch).notes)


def _busbar(net, **keys):
    bus = pp.create_bus(net, 20.0)
    net.line.loc[0, "from_bus"] = bus
    pp.create_switch(net, 1, bus, "b", **keys)


def put(table, column, cell, at=0):
    def change(net):
        if column not in net[table].columns or net[table][column].dtype != float or isinstance(cell, str):
            net[table][column] = net[table][column].astype(object)
        net[table].loc[at, column] = cell

    return change


def with_element(make, table, column):
    def change(net):
        make(net)
        put(table, column, np.nan, net[table].index[0])(net)

    return change


EMPTY = [
    *(("line", column) for column in ("r_ohm_per_km", "x_ohm_per_km", "length_km", "c_nf_per_km", "g_us_per_km")),
    *(("line", column) for column in ("parallel", "max_i_ka", "in_service", "df")),
    *(("trafo", column) for column in ("sn_mva", "vn_hv_kv", "vn_lv_kv", "vk_percent", "vkr_percent", "pfe_kw")),
    *(("trafo", column) for column in ("i0_percent", "shift_degree", "parallel", "df")),
    *(("load", column) for column in ("p_mw", "q_mvar", "scaling", "bus", "in_service", "const_z_p_percent")),
    ("bus", "vn_kv"),
    ("ext_grid", "vm_pu"),
]


@pytest.mark.parametrize(("table", "column"), EMPTY)
def test_an_empty_cell_is_refused_by_element_and_column(table, column):
    with pytest.raises(InputError, match=rf"{table} 0: {column} is empty, expected"):
        imported(changed(put(table, column, np.nan)))


EMPTY_ELSEWHERE = [
    (lambda net: pp.create_sgen(net, 3, 1.0), "sgen", "p_mw"),
    (lambda net: pp.create_sgen(net, 3, 1.0), "sgen", "q_mvar"),
    (lambda net: pp.create_storage(net, 3, 1.0, 1.0), "storage", "p_mw"),
    (lambda net: pp.create_shunt(net, 3, 1.0), "shunt", "q_mvar"),
    (lambda net: pp.create_shunt(net, 3, 1.0), "shunt", "p_mw"),
    (lambda net: pp.create_ward(net, 3, 1, 1, 1, 1), "ward", "pz_mw"),
    (lambda net: pp.create_motor(net, 3, 0.4, 0.9), "motor", "pn_mech_mw"),
    (lambda net: pp.create_asymmetric_load(net, 3, 0.1), "asymmetric_load", "p_b_mw"),
    (lambda net: pp.create_impedance(net, 3, 2, 0.1, 0.1, 10), "impedance", "xft_pu"),
]


@pytest.mark.parametrize(("make", "table", "column"), EMPTY_ELSEWHERE)
def test_an_empty_cell_of_any_element_is_refused(make, table, column):
    with pytest.raises(InputError, match=rf"{table} 0: {column} is empty, expected"):
        imported(changed(with_element(make, table, column)))


def phase_shifter(net):
    net.trafo["tap_changer_type"], net.trafo["tap_step_degree"] = "Ideal", 3.0
    net.trafo["tap_step_percent"], net.trafo["tap_pos"] = np.nan, 2


def other_ratio(net):
    pp.create_transformer_from_parameters(net, 0, 1, **{**trafo_of(net), "vn_lv_kv": 20.4})


def other_vector_group(net):
    pp.create_transformer_from_parameters(net, 0, 1, **{**trafo_of(net), "shift_degree": 0})


def trafo_of(net):
    from tests.feeder_nets import TRAFO

    return TRAFO


def as_objects(net):
    """Columns as they come from files in which one cell was empty or text."""
    for table in ("bus", "line", "trafo", "load", "ext_grid", "switch"):
        for column in net[table].columns:
            net[table][column] = net[table][column].astype(object)


def test_columns_of_any_type_are_read():
    net = KINDS["closed switch"]()
    as_objects(net)
    feeder = imported(net)
    assert_the_same(solved_by_pandapower(KINDS["closed switch"]()), feeder, own_flow(feeder))


def test_the_users_network_is_left_as_it_is():
    net = solved_by_pandapower(KINDS["three windings"]())
    before, lookups = {key: net[key].copy() for key in ("bus", "trafo3w", "switch", "res_bus")}, net._pd2ppc_lookups
    bus = lookups["bus"].copy()
    imported(net)
    assert all(net[key].equals(table) for key, table in before.items())
    assert net._pd2ppc_lookups is lookups and (lookups["bus"] == bus).all()


REFUSED = {
    "bus 2: min_vm_pu is 18, expected per unit": put("bus", "min_vm_pu", 18.0, 2),
    "bus 2: max_vm_pu is 105, expected per unit": put("bus", "max_vm_pu", 105.0, 2),
    "bus 2: max_vm_pu is 0.8, expected at least min_vm_pu 0.9": put("bus", "max_vm_pu", 0.8, 2),
    "bus 2: min_vm_pu is 1.06, but max_vm_pu is empty": lambda net: (
        put("bus", "min_vm_pu", 1.06, 2)(net),
        put("bus", "max_vm_pu", np.nan, 2)(net),
    ),
    "no branch in service is connected with the ext_grid at bus 0": lambda net: pp.create_switch(
        net, 0, 0, "t", closed=False
    ),
    "trafo 0 has 0.1[0-9]* times the ratio of its buses' vn_kv": put("trafo", "vn_hv_kv", 11.0),
    "ext_grid 0: va_degree is empty": put("ext_grid", "va_degree", np.nan),
    "trafo 0: its tap changer shifts the phase by": phase_shifter,
    "a current circulates": other_ratio,
    "trafo 1 closes a loop in which the ratios": other_vector_group,
    "closes a loop: ": lambda net: pp.create_line_from_parameters(net, 1, 3, 5.0, r_ohm_per_km=0.3, x_ohm_per_km=0.2,
                                                                  c_nf_per_km=0, max_i_ka=0.2),
    "2 ext_grid in service, expected exactly one": lambda net: pp.create_ext_grid(net, 3),
    "0 ext_grid in service, expected exactly one": lambda net: net.ext_grid.__setitem__("in_service", False),
    "gen 0 controls a voltage at bus 3.*replace_gen_by_sgen": lambda net: pp.create_gen(net, 3, 1.0),
    "load 0: const_i_p_percent is 20; a constant current": put("load", "const_i_p_percent", 20.0),
    "load 0: const_z_p_percent is 120, expected 0 to 100": put("load", "const_z_p_percent", 120.0),
    "load 0 has a share of constant impedance that sgen 0 at the same bus has not": lambda net: (
        put("load", "const_z_p_percent", 20.0)(net),
        pp.create_sgen(net, 2, 1.0),
    ),
    "xward 0 cannot be represented: it holds a voltage": lambda net: pp.create_xward(net, 3, 1, 1, 1, 1, 0.1, 0.1, 1.0),
    "dcline 0 cannot be represented": lambda net: pp.create_dcline(net, 2, 3, 1, 1, 1, 1, 1),
    "svc 0 cannot be represented": lambda net: pp.create_svc(net, 3, 1, -1, 1.0, 90),
    "impedance 0 has another impedance in each direction": lambda net: pp.create_impedance(
        net, 3, pp.create_bus(net, 20.0), 0.1, 0.1, 10, rtf_pu=0.2, xtf_pu=0.1
    ),
    "load 0: bus is 77, which is no bus": put("load", "bus", 77),
    "line 0: to_bus is 77, which is no bus": put("line", "to_bus", 77),
    "load 0: p_mw is 'much', expected a number": put("load", "p_mw", "much"),
    "line 0: x_ohm_per_km is -1, expected at least 0": put("line", "x_ohm_per_km", -1.0),
    "trafo 0: vkr_percent is 20, expected at most vk_percent 12": put("trafo", "vkr_percent", 20.0),
    "trafo 0: sn_mva is 0, expected a number above 0": put("trafo", "sn_mva", 0.0),
    "trafo 0: tap_side is 'mv', expected 'hv' or 'lv'": put("trafo", "tap_side", "mv"),
    "closed switches join bus 3 of 20 kV and bus 4 of 10 kV": lambda net: pp.create_switch(
        net, 3, pp.create_bus(net, 10.0), "b"
    ),
    "user_pf_options has consider_line_temperature": lambda net: pp.set_user_pf_options(
        net, consider_line_temperature=True
    ),
    "user_pf_options has ac = False": lambda net: pp.set_user_pf_options(net, ac=False),
    "user_pf_options has mode = 'pf_3ph'": lambda net: pp.set_user_pf_options(net, mode="pf_3ph"),
}  # fmt: skip


@pytest.mark.parametrize("words", REFUSED)
def test_what_a_feeder_cannot_carry_is_named(words):
    with pytest.raises(InputError, match=words):
        imported(changed(REFUSED[words]))


@pytest.mark.parametrize(
    "make",
    [
        pn.create_cigre_network_lv,
        lambda: pn.create_cigre_network_mv(with_der="all"),
        pn.create_kerber_dorfnetz,
        pn.simple_mv_open_ring_net,
        lambda: pn.create_synthetic_voltage_control_lv_network("village_1"),
        pn.ieee_european_lv_asymmetric,
    ],
)
def test_published_networks_have_pandapowers_own_flow(make):
    net = solved_by_pandapower(make())
    feeder = imported(net)
    assert_the_same(net, feeder, own_flow(feeder))


def test_options_stored_in_the_network_hold():
    net = plain()
    pp.set_user_pf_options(net, trafo_model="pi")
    feeder = imported(net)
    assert_the_same(solved_by_pandapower(net), feeder, own_flow(feeder))
    assert feeder.sending_shunt_mva[0] != imported(plain()).sending_shunt_mva[0]


@pytest.mark.parametrize("law", ["z", "i"])
def test_shares_that_the_network_says_to_ignore_are_constant_power(law):
    net = plain()
    net.load[f"const_{law}_p_percent"] = 50.0
    pp.set_user_pf_options(net, voltage_depend_loads=False)
    feeder = imported(net)
    assert_the_same(solved_by_pandapower(net), feeder, own_flow(feeder))
    assert not feeder.fixed_load(np.ones(1))["z_load_p_mw"].any()
