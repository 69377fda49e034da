"""A schedule is solved in the user's own pandapower network, too; an import that differs from it is an error."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandapower as pp
import pytest

from networks import flow_checks, grid_sources
from networks.case_file import CASE_FILE
from networks.pandapower_import import feeder_from_pandapower
from networks.user_net_check import NetSchedule, NoFlowError, limit_excess, user_net_flow
from tests.case_tools import edit, tieline
from tests.test_cases import BATTERY, LIMITS, LOAD, PV
from tests.test_matpower import script

PERIODS = 3
CASE_TOML = """
name = "made"
profiles = ["public.csv"]
[horizon]
start = 2024-05-01T00:00:00Z
periods = 3
step_minutes = 60
[[network]]
name = "dso"
kind = "distribution"
source = "feeder.json"
supply_price_eur_per_mwh = 40
load_profile = "load_pu"
load_scale = 0.9
sgen_profile = "sun_pu"
pv_profile = "sun_pu"
pv_scale = 0.1
slack_voltage_pu = 1.01
reactive_support = [{ bus = 3, q_max_mvar = 0.2 }]
[[agent]]
name = "shop"
kind = "community"
network = "dso"
bus = 2
file = "shop.toml"
connection_kw = 400.0
power_factor = 0.95
"""


def made_net():
    """A transformer with a tap, cables in a row, an open line, loads and static generators, one out of service."""
    net = pp.create_empty_network(name="made")
    buses = [pp.create_bus(net, kv, min_vm_pu=0.93, max_vm_pu=1.07) for kv in (110.0, 20.0, 20.0, 20.0, 20.0)]
    pp.create_ext_grid(net, buses[0], vm_pu=1.03)
    pp.create_transformer_from_parameters(
        net, 0, 1, sn_mva=10, vn_hv_kv=110, vn_lv_kv=20, vkr_percent=0.5, vk_percent=11, pfe_kw=0, i0_percent=0,
        tap_side="hv", tap_pos=2, tap_neutral=0, tap_min=-9, tap_max=9, tap_step_percent=1.0, tap_changer_type="Ratio",
    )  # fmt: skip
    for start, end in ((1, 2), (2, 3), (1, 4), (3, 4)):
        pp.create_line_from_parameters(net, start, end, 6.0, 0.25, 0.12, 0.0, 0.25)
    pp.create_switch(net, 3, 3, "l", closed=False)
    for bus, p_mw in ((2, 1.2), (3, 0.8), (4, 1.5)):
        pp.create_load(net, bus, p_mw, 0.3 * p_mw, scaling=1.1)
    pp.create_sgen(net, 3, 1.0, 0.1)
    pp.create_load(net, 3, 50.0, in_service=False)
    return net


@pytest.fixture
def case(tmp_path: Path) -> Path:
    folder = tmp_path / "case"
    folder.mkdir()
    pp.to_json(made_net(), str(folder / "feeder.json"))
    rows = ["time_utc,load_pu,sun_pu"] + [f"2024-05-01T0{h}:00Z,{0.5 + 0.2 * h},{0.3 * h}" for h in range(PERIODS)]
    (folder / "public.csv").write_text("\n".join(rows) + "\n")
    (folder / "shop.toml").write_text(LIMITS + LOAD.format(150) + PV.replace('"sun_pu"', '"sun_pu"') + BATTERY)
    (folder / CASE_FILE).write_text(CASE_TOML)
    return folder


def run(case: Path, capsys, command: str = "run"):
    out = case.parent / command
    ended = tieline(capsys, command, case, "--out", out)
    return ended, json.loads((out / "summary.json").read_text()), out


@pytest.mark.parametrize("command", ["run", "centralised"])
def test_the_schedule_passes_in_the_users_network(case, command, capsys) -> None:
    ended, summary, _ = run(case, capsys, command)
    assert ended.code == 0, ended.out + ended.errors
    assert summary["ac_passed"] is True and summary["failed_checks"] == "" and summary["gas_passed"] is None
    assert summary["user_net_max_voltage_error_pu"] < 5e-5
    assert summary["user_net_max_loss_error"] < 1e-3 and summary["user_net_max_loading_error"] < 1e-3
    assert summary["user_net_max_voltage_violation_pu"] <= 5e-5


def test_its_flow_is_that_of_a_network_written_by_hand(case) -> None:
    """One period: loads, customers' generation, static generators, an agent and the slack voltage."""
    drawn = {"2": np.array([0.3 + 0.1j]), "3": np.array([0.2j])}
    schedule = NetSchedule(np.array([0.7]), np.array([0.4]), np.array([0.05]), drawn, 1.01)
    found = user_net_flow(case / "feeder.json", schedule)
    net = made_net()
    net.ext_grid["vm_pu"] = 1.01
    net.load.loc[:2, "p_mw"] = np.array([1.2, 0.8, 1.5]) * (0.7 - 0.05) + np.array([0.3, 0, 0]) / 1.1
    net.load.loc[:2, "q_mvar"] = 0.3 * np.array([1.2, 0.8, 1.5]) * 0.7 + np.array([0.1, 0.2, 0]) / 1.1
    net.sgen["scaling"] = 0.4
    pp.runpp(net, numba=False)
    for bus in range(5):
        assert found.voltage_pu[str(bus)][0] == pytest.approx(net.res_bus.vm_pu.at[bus], abs=1e-9)
    assert found.losses_mw[0] == pytest.approx(net.res_line.pl_mw.sum() + net.res_trafo.pl_mw.sum(), abs=1e-9)
    assert found.loading["trafo 0"][0] == pytest.approx(net.res_trafo.loading_percent.at[0] / 100, abs=1e-9)


@pytest.mark.parametrize("shares", [{}, {"const_z_p_percent": 40.0, "const_z_q_percent": 40.0}])
def test_matrices_that_are_used_again_do_not_change_a_flow(shares) -> None:
    net = made_net()
    for key, percent in shares.items():
        net.load[key] = percent
    load, sgen = np.array([0.2, 1.0, 0.6]), np.array([0.0, 1.0, 0.5])
    drawn = {"4": np.array([0.1, -0.5, 0.3]) + 0.05j}
    found = user_net_flow(net, NetSchedule(load, sgen, np.zeros(3), drawn))
    for t in range(3):
        one = NetSchedule(load[[t]], sgen[[t]], np.zeros(1), {"4": drawn["4"][[t]]})
        fresh = made_net()
        for key, percent in shares.items():
            fresh.load[key] = percent
        alone = user_net_flow(fresh, one)
        for bus, voltage in alone.voltage_pu.items():
            assert found.voltage_pu[bus][t] == pytest.approx(voltage[0], abs=1e-8)
        assert found.losses_mw[t] == pytest.approx(alone.losses_mw[0], abs=1e-7)


def numbers_as_text(net) -> None:
    """What a spreadsheet makes of numbers and flags."""
    for table, columns in {
        "trafo": ("sn_mva", "tap_pos"),
        "line": ("length_km", "max_i_ka"),
        "bus": ("vn_kv",),
    }.items():
        for column in columns:
            net[table][column] = net[table][column].astype(str)
    net.load["in_service"] = net.load["in_service"].astype(object)
    net.line["from_bus"] = net.line["from_bus"].astype(float)


def old_shares(net) -> None:
    """One column for both shares, as before pandapower 3."""
    net.load = net.load.drop(columns=[one for one in net.load if str(one).startswith("const_")])
    net.load["const_z_percent"] = 30.0
    net.load = net.load.drop(index=net.load.index[net.load["bus"].isin(net.sgen["bus"]) | (net.load["bus"] == 2)])


def rubbish_out_of_service(net) -> None:
    pp.create_load(net, 3, np.nan, np.nan, in_service=False)
    pp.create_sgen(net, 3, np.nan, in_service=False)
    pp.create_line_from_parameters(net, 3, 4, np.nan, 0.3, 0.2, 0.0, np.nan, in_service=False)


def coupler_with_impedance(net) -> str:
    """A closed switch with an impedance is a branch: its losses and its rating count."""
    bus = pp.create_bus(net, 20.0, min_vm_pu=0.93, max_vm_pu=1.07)
    net.line.loc[0, "from_bus"] = bus
    return f"switch {pp.create_switch(net, 1, bus, 'b', z_ohm=0.3, in_ka=0.5)}"


def lines_without_reactance(net) -> None:
    """Low-voltage cables are often given so; the start of pandapower's power flow divides by it."""
    net.line["x_ohm_per_km"] = 0.0


@pytest.mark.parametrize(
    "change", [numbers_as_text, old_shares, rubbish_out_of_service, coupler_with_impedance, lines_without_reactance]
)
def test_a_run_on_what_the_import_takes_passes_in_the_users_network(case, change, capsys) -> None:
    net = made_net()
    change(net)
    pp.to_json(net, str(case / "feeder.json"))
    ended = tieline(capsys, "run", case, "--out", case / "out")
    assert ended.code == 0, ended.out + ended.errors
    summary = json.loads((case / "out" / "summary.json").read_text())
    assert summary["ac_passed"] is True and summary["user_net_max_loss_error"] < 1e-3


def test_loading_and_losses_of_a_switch_with_an_impedance_are_those_by_hand() -> None:
    """I^2 R of the one current through it, at 0.3 ohm whose angle pandapower sets by r/x = 2."""
    net = made_net()
    name = coupler_with_impedance(net)
    found = user_net_flow(net, NetSchedule(np.ones(1), np.zeros(1), np.zeros(1)))
    current_ka = found.loading[name][0] * 0.5
    own_mw = 3 * current_ka**2 * 0.3 * 2 / 5**0.5
    others_mw = net.res_line.pl_mw.sum() + net.res_trafo.pl_mw.sum()
    assert own_mw > 1e-5 and found.losses_mw[0] - others_mw == pytest.approx(own_mw, rel=1e-6)


@pytest.mark.parametrize(
    "options",
    [{"voltage_depend_loads": False}, {"tolerance_mva": 1.0}, {"only_v_results": True}, {"lightsim2grid": True}],
)
def test_of_the_options_in_the_network_those_hold_that_belong_to_it(options) -> None:
    net, same = made_net(), made_net()
    pp.set_user_pf_options(net, **options)
    if "voltage_depend_loads" in options:
        net.load["const_z_p_percent"] = 50.0
    schedule = NetSchedule(np.ones(1), np.ones(1), np.zeros(1))
    found, expected = user_net_flow(net, schedule), user_net_flow(same, schedule)
    assert found.voltage_pu["3"][0] == pytest.approx(expected.voltage_pu["3"][0], abs=1e-9)
    assert found.loading["trafo 0"][0] == pytest.approx(expected.loading["trafo 0"][0], abs=1e-9)


OUT = {"in_service": False}
OUT_OF_SERVICE = {
    "xward": lambda net: pp.create_xward(net, 3, 1, 1, 1, 1, 0.1, 0.1, 1.0, **OUT),
    "dcline": lambda net: pp.create_dcline(net, 2, 3, 10, 1, 0.1, 1.0, 1.0, **OUT),
    "svc": lambda net: pp.create_svc(net, 3, 1, -1, 1.0, 120, **OUT),
    "ssc": lambda net: pp.create_ssc(net, 3, 1, -1, 1.0, **OUT),
    "tcsc": lambda net: pp.create_tcsc(net, 2, 3, 1, -1, 120, 1, **OUT),
    "gen": lambda net: pp.create_gen(net, 3, 1.0, **OUT),
    "ward": lambda net: pp.create_ward(net, 3, 1, 1, 1, 1, **OUT),
    "motor": lambda net: pp.create_motor(net, 3, 1.0, 0.9, **OUT),
    "impedance": lambda net: pp.create_impedance(net, 2, 3, 0.1, 0.1, 10, **OUT),
    "line": lambda net: pp.create_line_from_parameters(net, 1, 3, 6.0, 0.25, 0.12, 0.0, 0.25, **OUT),
    "trafo3w": lambda net: pp.create_transformer3w_from_parameters(
        net, 0, 1, 2, 110, 20, 20, 10, 5, 5, 8, 8, 8, 0.4, 0.4, 0.4, 1, 0.1, **OUT
    ),
}


@pytest.mark.parametrize("kind", OUT_OF_SERVICE)
def test_what_is_out_of_service_changes_nothing(kind) -> None:
    """Over two periods: from the second on matrices are used again."""
    net, schedule = made_net(), NetSchedule(np.array([1.0, 0.5]), np.ones(2), np.zeros(2))
    expected, feeder = user_net_flow(made_net(), schedule), feeder_from_pandapower(made_net())
    OUT_OF_SERVICE[kind](net)
    assert feeder_from_pandapower(net).x_pu == pytest.approx(feeder.x_pu)
    assert feeder_from_pandapower(net).fixed_load(np.ones(1))["load_p_mw"].sum() == pytest.approx(
        feeder.fixed_load(np.ones(1))["load_p_mw"].sum()
    )
    found = user_net_flow(net, schedule)
    for bus, voltage in expected.voltage_pu.items():
        assert found.voltage_pu[bus] == pytest.approx(voltage, abs=1e-9)
    assert found.losses_mw == pytest.approx(expected.losses_mw, abs=1e-8)


def test_a_network_that_pandapower_cannot_calculate_is_no_traceback() -> None:
    net = made_net()
    net.trafo["vk_percent"] = "much"
    with pytest.raises(NoFlowError, match="in period 0 .*Error: "):
        user_net_flow(net, NetSchedule(np.ones(1), np.zeros(1), np.zeros(1)))


@pytest.mark.parametrize(
    ("in_service", "why"), [(True, "is not connected with the ext_grid"), (False, "is out of service")]
)
@pytest.mark.parametrize("key", ["bus = 2", "{ bus = 3"])
def test_an_agent_or_support_at_a_bus_that_is_left_out_is_told_why(case, in_service, why, key, capsys) -> None:
    net = made_net()
    bus = pp.create_bus(net, 20.0, in_service=in_service)
    pp.to_json(net, str(case / "feeder.json"))
    edit(CASE_FILE, key, f"{key.rstrip('0123456789')}{bus}")(case)
    ended = tieline(capsys, "check", case)
    assert ended.code == 2 and f"bus = {bus} of network 'dso' {why}, so it is left out" in ended.errors


def test_a_schedule_without_a_flow_in_the_users_network_is_an_error_of_its_own() -> None:
    with pytest.raises(NoFlowError) as error:
        user_net_flow(made_net(), NetSchedule(np.array([1.0, 900.0]), np.zeros(2), np.zeros(2)))
    assert error.value.period == 1


def test_motors_and_unbalanced_loads_follow_the_loads_and_customers_generate_a_share_of_all() -> None:
    net, same = made_net(), made_net()
    pp.create_motor(net, 2, pn_mech_mw=0.4, cos_phi=0.8, efficiency_percent=80, loading_percent=60)
    pp.create_asymmetric_load(net, 3, p_a_mw=0.1, p_b_mw=0.2, p_c_mw=0.3, q_a_mvar=0.1, scaling=0.5)
    pp.create_asymmetric_sgen(net, 4, p_a_mw=0.1, p_b_mw=0.2)
    pp.create_load(same, 2, 0.3, 0.3 * 0.75)
    pp.create_load(same, 3, 0.3, 0.05)
    pp.create_sgen(same, 4, 0.3)
    schedule = NetSchedule(np.array([0.3, 0.8]), np.array([0.6, 0.1]), np.array([0.2, 0.1]))
    first, second = user_net_flow(net, schedule), user_net_flow(same, schedule)
    for bus, voltage in second.voltage_pu.items():
        assert first.voltage_pu[bus] == pytest.approx(voltage, abs=1e-8)


def test_a_matpower_case_is_solved_as_it_is_converted(case, tmp_path, capsys) -> None:
    script(case, name="small")
    edit(CASE_FILE, 'source = "feeder.json"', 'source = "small.m"')(case)
    edit(CASE_FILE, "slack_voltage_pu = 1.01", "")(case)
    edit(CASE_FILE, 'sgen_profile = "sun_pu"', "")(case)
    edit(CASE_FILE, "reactive_support = [{ bus = 3,", "reactive_support = [{ bus = 7,")(case)
    ended, summary, _ = run(case, capsys)
    assert ended.code == 0, ended.out + ended.errors
    assert summary["ac_passed"] is True and summary["user_net_max_voltage_error_pu"] < 5e-5


def wrong(**changes):
    """An import that makes another feeder than the file holds."""
    right = grid_sources._feeder_from_json

    def made(path):
        feeder = right(path)
        return replace(feeder, **{key: change(getattr(feeder, key)) for key, change in changes.items()})

    return made


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"x_pu": lambda x: 1.1 * x}, "voltages differ by"),
        ({"r_pu": lambda r: 1.01 * r}, "losses differ by"),
        ({"i_max_pu": lambda i: 1.05 * i}, "a loading differs by"),
        ({"nominal_kv": lambda kv: np.append(kv[:1], 1.001 * kv[1:])}, "voltages differ by"),
    ],
)
def test_an_import_that_differs_from_the_file_ends_with_exit_code_3(case, changes, words, capsys, monkeypatch) -> None:
    monkeypatch.setattr(grid_sources, "_feeder_from_json", wrong(**changes))
    ended, summary, _ = run(case, capsys)
    assert ended.code == 3
    assert summary["converged"] is True and summary["ac_passed"] is False
    assert summary["ac_max_voltage_error_pu"] <= 5e-5, "our own model agrees with itself"
    assert words in summary["failed_checks"] and "'feeder.json'" in summary["failed_checks"]
    assert "but a check did NOT pass" in ended.out and "AC check             NOT passed" in ended.out


def test_a_loading_that_is_no_number_fails_the_check_and_is_null_in_the_summary(case, capsys, monkeypatch) -> None:
    def found(*given):
        flow = user_net_flow(*given)
        return replace(flow, loading={**flow.loading, "trafo 0": np.full(PERIODS, np.nan)})

    monkeypatch.setattr(flow_checks, "user_net_flow", found)
    ended, summary, _ = run(case, capsys)
    assert ended.code == 3 and ended.errors == ""
    assert summary["user_net_max_loading_error"] is None and summary["ac_passed"] is False
    assert "a loading differs by nan% of the rating" in summary["failed_checks"]


def test_limits_of_the_users_buses_are_held_against_the_users_flow(case) -> None:
    """At 0.97 pu of 1.0 at bus 3 and with the root's own limits broken, which do not count."""
    net = made_net()
    net.bus["min_vm_pu"], net.bus["max_vm_pu"] = [1.2, 0.9, 0.9, 1.0, 0.9], [1.3, 1.1, 1.1, 1.1, 0.8]
    found = user_net_flow(net, NetSchedule(np.ones(2), np.zeros(2), np.zeros(2)))
    feeder = feeder_from_pandapower(made_net())
    below, above = 1.0 - found.voltage_pu["3"][0], found.voltage_pu["4"][0] - 0.8
    error = limit_excess(feeder, found, lower=True, upper=False)
    assert error.value == pytest.approx(below) and error.where == "bus 3 in period 0" and below > 0.01
    assert limit_excess(feeder, found, lower=True, upper=True).value == pytest.approx(above)
    assert limit_excess(feeder, found, lower=False, upper=False).value == 0
