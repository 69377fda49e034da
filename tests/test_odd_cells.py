"""Odd cells of pandapower tables: one line names the element and the column, or the flow is pandapower's own."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pandapower as pp
import pandas as pd
import pytest

from admm import InputError
from networks.bus_hints import refuse_unknown_bus
from networks.case_file import CASE_FILE
from networks.pandapower_import import transmission_from_pandapower
from networks.user_net_check import NetSchedule, user_net_flow
from tests.case_tools import edit, tieline
from tests.feeder_nets import KINDS, changed, imported, own_flow, solved_by_pandapower
from tests.test_feeder_failing import SMALL
from tests.test_pandapower_feeder import assert_the_same, put

NETS = {name: KINDS[name] for name in ("plain", "shunts", "three windings", "closed switch", "tap from a table")}
NETS["others"] = KINDS["motor, phases, generator at the root"]
NETS["second tap"] = KINDS["second tap changer"]
REFUSED = [
    ("plain", "load", "in_service", "missing", "load has no column in_service"),
    ("plain", "ext_grid", "va_degree", "missing", "ext_grid has no column va_degree"),
    ("plain", "ext_grid", "slack_weight", "missing", "ext_grid has no column slack_weight, which pandapower needs"),
    ("plain", "ext_grid", "vm_pu", 99.0, "ext_grid 0: vm_pu is 99, expected about 1"),
    ("plain", "trafo", "df", "missing", "trafo has no column df, which pandapower needs"),
    ("plain", "trafo", "df", 0.0, "trafo 0: df is 0, expected a number above 0"),
    ("plain", "trafo", "tap_neutral", "missing", "trafo has no column tap_neutral"),
    ("plain", "trafo", "tap_min", "abc", "trafo 0: tap_min is 'abc', expected a number"),
    ("plain", "trafo", "parallel", 2e3, "trafo 0: parallel is 2000, expected 0 to 1000"),
    ("plain", "trafo", "lv_bus", True, "trafo 0: lv_bus is True, expected a number"),
    ("others", "gen", "controllable", "no", "gen 0: controllable is 'no', expected True or False"),
    ("plain", "load", "sn_mva", [1.0], r"load 0: sn_mva is \[1.0\], expected a number"),
    ("second tap", "trafo", "tap2_pos", "abc", "trafo 0: tap2_pos is 'abc', expected a number"),
    ("second tap", "trafo", "tap2_step_percent", [1.0], r"trafo 0: tap2_step_percent is \[1.0\], expected a number"),
    ("tap from a table", "trafo", "id_characteristic_table", np.nan, "trafo 0: id_characteristic_table is empty"),
    ("tap from a table", "trafo", "tap_pos", np.nan, "trafo 0: tap_pos is empty"),
    ("tap from a table", "trafo_characteristic_table", "vk_percent", "missing", "has no column vk_percent"),
    ("tap from a table", "trafo_characteristic_table", "step", "missing", "has no column step"),
    ("shunts", "shunt", "vn_kv", -1.0, "shunt 0: vn_kv is -1, expected a number above 0"),
    ("shunts", "shunt", "step_dependency_table", "yes", "step_dependency_table is 'yes', expected True or False"),
    ("shunts", "shunt", "step_dependency_table", True, "shunt 0: id_characteristic_table is empty"),
    ("three windings", "trafo3w", "vk_mv_percent", 0.0, "trafo3w 0: vk_mv_percent is 0, expected a number above 0"),
    ("three windings", "trafo3w", "vkr_lv_percent", 50.0, "vkr_lv_percent is 50, expected at most vk_lv_percent"),
    ("three windings", "trafo3w", "tap_side", "missing", "trafo3w has no column tap_side, which pandapower needs"),
    ("three windings", "trafo3w", "tap_at_star_point", None, "trafo3w 0: tap_at_star_point is empty, expected True"),
    ("three windings", "trafo3w", "tap_dependency_table", None, "tap_dependency_table is empty, expected True"),
    ("closed switch", "switch", "z_ohm", "abc", "switch 0: z_ohm is 'abc', expected a number"),
    ("closed switch", "switch", "z_ohm", "missing", "switch has no column z_ohm"),
    ("closed switch", "switch", "et", ["b"], r"switch 0: et is \['b'\], expected 'b', 'l', 't' or 't3'"),
    ("closed switch", "switch", "element", [4], r"switch 0: element is \[4\], expected a number"),
    ("others", "motor", "cos_phi", 1.2, "motor 0: cos_phi is 1.2, expected 0 to 1"),
    ("others", "gen", "vm_pu", 1.01, "gen 0: vm_pu is 1.01, but ext_grid 0 at the same bus has 1.02"),
    ("others", "gen", "slack", "no", "gen 0: slack is 'no', expected True or False"),
    ("others", "gen", "max_q_mvar", "abc", "gen 0: max_q_mvar is 'abc', expected a number"),
]  # fmt: skip
"""Network, table, column, what the first cell holds, and words of the refusal."""


@pytest.mark.parametrize(("kind", "table", "column", "cell", "words"), REFUSED)
def test_an_odd_cell_is_refused_by_element_and_column(kind, table, column, cell, words):
    net = NETS[kind]()
    if cell == "missing":
        net[table] = net[table].drop(columns=[column])
    elif isinstance(cell, list):
        net[table][column] = pd.Series([cell] + [None] * (len(net[table]) - 1), index=net[table].index, dtype=object)
    else:
        put(table, column, cell)(net) if not isinstance(cell, bool) else _put_flag(net, table, column, cell)
    with pytest.raises(InputError, match=words) as caught:
        imported(net)
    assert "\n" not in str(caught.value) and "Error" not in str(caught.value)


def _put_flag(net, table, column, cell):
    net[table][column] = net[table][column].astype(object)
    net[table].loc[0, column] = cell


def shunt_of_steps(net, step=2):
    pp.create_shunt(net, 3, q_mvar=0.0, p_mw=0.0, step=step)
    net.shunt["step_dependency_table"], net.shunt["id_characteristic_table"] = True, 7
    rows = {"id_characteristic": [7, 7], "step": [1, 2], "p_mw": [0.0, 0.02], "q_mvar": [-0.1, -0.3]}
    net["shunt_characteristic_table"] = pd.DataFrame(rows)


def test_a_shunt_that_follows_a_table_is_pandapowers():
    net = changed(shunt_of_steps)
    assert_the_same(solved_by_pandapower(net), imported(net), own_flow(imported(net)))


def without_its_table(net):
    shunt_of_steps(net)
    del net["shunt_characteristic_table"]


def without_its_step(net):
    shunt_of_steps(net, step=3)


def with_an_empty_row(net):
    shunt_of_steps(net)
    net.shunt_characteristic_table.loc[1, "q_mvar"] = np.nan


def of_an_old_version(net):
    net.trafo = net.trafo.drop(columns=["tap_changer_type"]).assign(tap_phase_shifter=False, tap_pos=2)


def with_both_steps(net):
    new = {"pos": 0.0, "neutral": 0.0, "side": "hv", "changer_type": "Ideal", "step_percent": 1.0, "step_degree": 2.0}
    net.trafo = net.trafo.assign(**{f"tap2_{key}": value for key, value in new.items()})


def two_voltages_behind_a_switch(net):
    beside = pp.create_bus(net, 110.0)
    pp.create_switch(net, 0, beside, "b")
    pp.create_ext_grid(net, beside, vm_pu=1.0)


def two_angles(net):
    pp.create_ext_grid(net, 0, vm_pu=1.02, va_degree=30)


def an_ideal_tap_without_steps(net):
    net.trafo = net.trafo.assign(tap_changer_type="Ideal", tap_step_percent=np.nan, tap_step_degree=np.nan, tap_pos=2)


def an_ideal_tap_at_the_star_point(net, step_percent=np.nan, step_degree=3.0):
    net["trafo3w"] = KINDS["three windings"]().trafo3w
    net.trafo3w["mv_bus"], net.trafo3w["lv_bus"], net.trafo["in_service"] = 1, pp.create_bus(net, 10.0), False
    steps = {"tap_changer_type": "Ideal", "tap_step_percent": step_percent, "tap_step_degree": step_degree}
    net.trafo3w = net.trafo3w.assign(**steps, tap_at_star_point=True)


ELSEWHERE = [
    (an_ideal_tap_without_steps, "trafo 0: tap_step_percent is empty, expected a number where tap_changer_type"),
    (an_ideal_tap_at_the_star_point, "trafo3w 0: tap_step_percent is empty, expected a number where tap_changer_ty"),
    (
        lambda net: an_ideal_tap_at_the_star_point(net, 1.2, np.nan),
        "trafo3w 0: tap_step_degree is empty, expected a number where tap_changer_type",
    ),
    (lambda net: net.__setitem__("f_hz", np.nan), "pandapower network: f_hz is nan, expected a number above 0"),
    (lambda net: net.__setitem__("sn_mva", 0.0), "pandapower network: sn_mva is 0.0, expected a number above 0"),
    (without_its_table, "shunt 0: step_dependency_table is set, but there is no shunt_characteristic_table; add one"),
    (without_its_step, "shunt_characteristic_table has 0 rows with id_characteristic 7 and step 3.0, expected one"),
    (with_an_empty_row, "shunt_characteristic_table 1: q_mvar is empty, expected a number, as shunt 0 uses it"),
    (of_an_old_version, "trafo has no column tap_changer_type, which replaced tap_phase_shifter in pandapower 3"),
    (with_both_steps, "trafo 0: tap2_step_percent is 1.0 and tap2_step_degree 2.0, expected only one of them"),
    (two_voltages_behind_a_switch, "ext_grid 1: vm_pu is 1, but ext_grid 0 at the same bus has 1.02; expected one"),
    (two_angles, "ext_grid 1: va_degree is 30, but ext_grid 0 at the same bus has 0; expected one"),
]


@pytest.mark.parametrize(("change", "words"), ELSEWHERE)
def test_what_pandapower_refuses_without_an_element_is_named(change, words):
    with pytest.raises(InputError, match=words):
        imported(changed(change))


@pytest.mark.parametrize("change", [without_its_table, of_an_old_version, with_both_steps])
def test_a_transmission_grid_names_it_too(change):
    net = changed(change)
    net.ext_grid["min_p_mw"], net.ext_grid["max_p_mw"] = 0.0, 50.0
    with pytest.raises(InputError, match=next(words for one, words in ELSEWHERE if one is change)):
        transmission_from_pandapower(net)


@pytest.mark.parametrize("column", ["tap_neutral", "tap_step_percent", "tap_changer_type"])
def test_a_tap_that_pandapower_ignores_for_an_empty_cell_is_noted(column):
    net = KINDS["tap on the high side"]()
    net.trafo[column] = None if column == "tap_changer_type" else np.nan
    feeder = imported(net)
    assert any(f"trafo 0 (tap_pos -3): {column} is empty" in note for note in feeder.notes)
    assert_the_same(solved_by_pandapower(net), feeder, own_flow(feeder))


def test_a_transformer_that_is_open_at_its_source_supplies_nothing():
    net = KINDS["open transformers"]()
    net.switch.loc[2, "bus"] = 0  # its high-voltage side
    feeder = imported(net)
    assert any("buses 4, 5, 6 are not connected with the ext_grid" in note for note in feeder.notes)
    assert_the_same(solved_by_pandapower(net), feeder, own_flow(feeder))


def test_numbers_of_buses_may_be_written_as_floats_where_a_switch_joins_them():
    net, ones = KINDS["closed switch"](), np.ones(1)
    expected = np.abs(own_flow(imported(net)).voltage_pu[0])
    for column in ("bus", "element"):
        net.switch[column] = net.switch[column].astype(float).astype(object)
    feeder = imported(net)
    found = user_net_flow(net, NetSchedule(ones, ones, 0 * ones))
    assert np.abs(own_flow(feeder).voltage_pu[0]) == pytest.approx(expected, abs=1e-12)
    assert found.voltage_pu["4"][0] == pytest.approx(expected[feeder.node("4")], abs=1e-8)


@pytest.mark.parametrize("given", ['"Mill Street"', '"mill street"', '"Mill Sreet"'])
def test_the_name_of_a_bus_gets_a_hint_to_its_index(given, tmp_path, capsys):
    case = Path(shutil.copytree(SMALL / "cable_charging", tmp_path / "case"))
    edit(CASE_FILE, "bus = 2", f"bus = {given}")(case)
    net = KINDS["plain"]()
    net.bus["name"] = ["Grid", None, "Mill Street", "Mill"]
    pp.to_json(net, str(case / "feeder.json"))
    ended = tieline(capsys, "check", case)
    assert ended.code == 2 and ended.errors.count("\n") == 1
    assert f"bus = {given}".replace('"', "'") in ended.errors
    assert "names a bus by its index: did you mean bus 2 ('Mill Street')?" in ended.errors


def test_several_buses_of_one_name_are_all_named_and_other_names_get_no_hint():
    titles = {"0": "Grid", "4": "Node", "5": "node", "9": "Node"}
    with pytest.raises(InputError, match=r"did you mean bus 4 \('Node'\) or bus 5 \('node'\)\? its buses are 0 to 5"):
        refuse_unknown_bus("case.toml: bus", "node", "dso", ["0", "4", "5"], titles=titles)
    with pytest.raises(InputError, match="bus = 'x' is no bus of network 'dso'; its buses are 0 to 5"):
        refuse_unknown_bus("case.toml: bus", "x", "dso", ["0", "4", "5"], titles=titles)
