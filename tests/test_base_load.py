"""A feeder's own load alone: its flow is said, and limits that no agent can keep end a run before it begins."""

from __future__ import annotations

import json
import warnings
from dataclasses import replace

import numpy as np
import pandapower as pp
import pytest

from admm import InfeasibleError
from networks.base_load import BaseLoad, check_base_load
from networks.case_file import CASE_FILE
from networks.distribution import Connection, DistributionModel, ReactiveSupport
from networks.pandapower_import import feeder_from_pandapower
from tests.case_tools import edit, tieline
from tests.test_feeder_settings import small_case

NEAR = 2e-3
"""How close to the least size of a connection that keeps a limit the check must decide."""


def test_check_says_what_the_own_load_does_to_the_feeder(tmp_path, capsys) -> None:
    case = small_case("own_load_beyond_limits", tmp_path)
    ended = tieline(capsys, "check", case)
    voltage = json.loads((case / "expected.json").read_text())["pandapower_runpp_vm_pu_with_5_kW_at_bus"]["2"]
    assert f"voltages from {voltage:.4f} pu at bus 2" in ended.out  # 5 kW do not show
    assert "the most loaded branch is line 0, 132" in ended.out and "losses up to" in ended.out
    assert (
        "WARNING: its own load breaks limits: 0.9143 pu at bus 2 in period 0 (voltage limit 0.95 pu); 132" in ended.out
    )
    assert ended.code == 4 and ended.errors.count("\n") == 1


@pytest.mark.parametrize("command", ["run", "centralised"])
@pytest.mark.parametrize("name", ["own_load_beyond_limits", "bus_limits_ignored"])
def test_a_run_that_no_agent_can_save_ends_at_once_and_names_the_limit(command, name, tmp_path, capsys) -> None:
    ended = tieline(capsys, command, small_case(name, tmp_path), "--out", tmp_path / "out")
    assert ended.code == 4 and ended.errors.count("\n") == 1
    for words in (
        "network 'dso' cannot keep its limits",
        "in period 0",
        "its own load of",
        "pu at bus 2 (voltage limit 0.9",
    ):
        assert words in ended.errors
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("name", "lines", "words"),
    [
        ("ext_grid_vm_ignored", ["substation_limit_mva = 2.0"], "MVA at the substation (substation limit 2 MVA)"),
        ("ext_grid_vm_ignored", ["current_limit_scale = 0.1"], "of the rating of "),
        ("sgen_follows_load_profile", ["load_scale = 0.01", "sgen_profile = 8"], "(voltage limit 1.01 pu)"),
    ],
    ids=["substation", "current", "high voltage"],
)
def test_every_kind_of_limit_is_named(name, lines, words, tmp_path, capsys) -> None:
    case = small_case(name, tmp_path, *lines)
    if "1.01" in words:
        edit(CASE_FILE, "voltage_max_pu = 1.15", "voltage_max_pu = 1.01")(case)
    assert tieline(capsys, "check", case).out.count("WARNING") == 1
    ended = tieline(capsys, "run", case, "--out", tmp_path / "out")
    assert ended.code == 4 and ended.errors.count("\n") == 1 and words in ended.errors


@pytest.mark.parametrize("command", ["check", "run", "centralised"])
def test_a_load_without_a_flow_asks_for_its_units(command, tmp_path, capsys) -> None:
    options = () if command == "check" else ("--out", tmp_path / "out")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        ended = tieline(capsys, command, small_case("units_kw_as_mw", tmp_path), *options)
    assert ended.code == 2 and ended.errors.count("\n") == 1
    words = "network 'dso': the base load of 5000 MW has no power flow in this feeder; are its units right?"
    assert words in ended.errors


@pytest.mark.parametrize("scale", ["4e3", "1e9", "1e12"])
def test_loads_beyond_all_measure_are_told_as_such_without_a_warning(scale, tmp_path, capsys) -> None:
    case = small_case("ext_grid_vm_ignored", tmp_path, f"load_scale = {scale}")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        ended = tieline(capsys, "check", case)
    assert ended.code == 2 and "has no power flow in this feeder; are its units right?" in ended.errors


def test_a_load_that_agents_can_carry_only_warns(tmp_path, capsys) -> None:
    case = small_case("bus_limits_ignored", tmp_path)
    edit(CASE_FILE, "connection_kw = 50.0", "connection_kw = 6000.0")(case)
    ended = tieline(capsys, "check", case)
    assert ended.code == 0 and "WARNING: its own load breaks limits: 0.9763 pu at bus 2" in ended.out


def feeder_net(load_mw=5.0, sgen_mw=0.0):
    """110 kV - transformer - 20 kV - cable, with load, a static generator and room for an agent at its end."""
    net = pp.create_empty_network()
    high, low, end = pp.create_bus(net, 110.0), pp.create_bus(net, 20.0), pp.create_bus(net, 20.0)
    pp.create_ext_grid(net, high, vm_pu=1.0)
    pp.create_transformer_from_parameters(
        net, high, low, sn_mva=25, vn_hv_kv=110, vn_lv_kv=20, vkr_percent=0.4, vk_percent=12, pfe_kw=14, i0_percent=0.1
    )
    pp.create_line_from_parameters(net, low, end, 8, r_ohm_per_km=0.2, x_ohm_per_km=0.12, c_nf_per_km=250, max_i_ka=0.2)
    pp.create_load(net, end, load_mw, 0.3 * load_mw)
    pp.create_sgen(net, end, sgen_mw)
    pp.create_load(net, end, 0.0)
    return net


def model_of(net, **limits):
    feeder = feeder_from_pandapower(net)
    feeder = replace(feeder, **({"v_min_pu": np.full(3, 0.9), "v_max_pu": np.full(3, 1.1)} | limits))
    return DistributionModel(
        "dso", feeder, 1.0, **feeder.fixed_load(np.ones(1)), connections=(Connection("c", "2", 0.95),), upstream="up"
    )


def found_by_pandapower(net, holds):
    """The least power within which an agent at the end keeps a limit, drawing or feeding in, by bisection."""
    low, high = 0.0, 20.0
    for _ in range(24):
        size = (low + high) / 2
        kept = False
        for sign in (-1, 1):
            net.load.loc[1, ["p_mw", "q_mvar"]] = sign * size * np.array([1, np.tan(np.arccos(0.95))])
            pp.runpp(net, numba=False, tolerance_mva=1e-9)
            kept |= bool(holds(net))
        low, high = (low, size) if kept else (size, high)
    return high


@pytest.mark.parametrize(
    ("powers", "limits", "holds"),
    [
        ((8.0, 0.0), {"v_min_pu": np.full(3, 0.97)}, lambda net: net.res_bus.vm_pu.at[2] >= 0.97),
        ((0.5, 6.0), {"v_max_pu": np.full(3, 1.01)}, lambda net: net.res_bus.vm_pu.at[2] <= 1.01),
        ((8.0, 0.0), {}, lambda net: net.res_line.loading_percent.at[0] <= 100),
        ((0.5, 9.0), {}, lambda net: net.res_line.loading_percent.at[0] <= 100),
    ],
    ids=["low voltage", "high voltage", "current of a load", "current of a generator"],
)
def test_the_least_help_that_keeps_a_limit_is_that_of_pandapower(powers, limits, holds) -> None:
    net = feeder_net(*powers)
    model = model_of(net, **limits)
    assert BaseLoad.of_model(model).exceeded
    least = found_by_pandapower(net, holds)
    assert 0.1 < least < 10
    with pytest.raises(InfeasibleError, match="cannot keep its limits"):
        check_base_load(model, {"c": (1 - NEAR) * least})
    check_base_load(model, {"c": (1 + NEAR) * least})


def test_reactive_support_counts_as_help() -> None:
    model = model_of(feeder_net(8.0), v_min_pu=np.full(3, 0.97))
    with pytest.raises(InfeasibleError):
        check_base_load(model, {"c": 0.01})
    check_base_load(replace(model, supports=(ReactiveSupport("2", 6.0),)), {"c": 0.01})


def test_a_load_without_a_flow_that_an_agent_beside_it_carries_is_no_error() -> None:
    model = model_of(feeder_net(150.0))
    assert not BaseLoad.of_model(model).flow.converged.all()
    check_base_load(model, {"c": 160.0})


@pytest.mark.parametrize(
    ("lines", "limit"),
    [
        (["voltage_min_pu = 0.97"], "voltage limits of node 2"),
        (["voltage_min_pu = 0.9", "substation_limit_mva = 6.0"], "substation limit"),
        (["voltage_min_pu = 0.9", "current_limit_scale = 0.5"], "current limit of line 0"),
    ],
)
def test_centralised_names_the_limit_that_an_agent_cannot_keep(lines, limit, tmp_path, capsys) -> None:
    """The feeder's own load keeps its limits, 4 MW that an agent must draw on top do not."""
    case = small_case("bus_limits_ignored", tmp_path, *lines)
    edit(CASE_FILE, "connection_kw = 50.0", "connection_kw = 6000.0")(case)
    for old, new in (("import_limit_kw = 50.0", "import_limit_kw = 6000.0"), ("power_kw = 5", "power_kw = 4000")):
        edit("agents/a1.toml", old, new)(case)
    assert tieline(capsys, "check", case).code == 0
    ended = tieline(capsys, "centralised", case, "--out", tmp_path / "out")
    assert ended.code == 4 and ended.errors.count("\n") == 1
    assert f"dso: base: {limit}" in ended.errors and "a1: connection: power balance" in ended.errors
    assert ended.errors.count(";") == 1, "an irreducible conflict is of these two"
