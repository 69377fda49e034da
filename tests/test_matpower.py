"""MATPOWER cases: the tables, the conversions that a script makes, and what the converter gets wrong."""

from __future__ import annotations

import warnings

import numpy as np
import pandapower as pp
import pytest
from scipy.io import savemat
from scipy.optimize import fsolve

from admm import InputError
from networks.matpower_import import network_from_matpower
from networks.matpower_script import read_matpower_script
from networks.pandapower_import import feeder_from_pandapower, transmission_from_pandapower
from tests.tolerances import EXACT

CASE = """function mpc = {name}
%% MATPOWER Case Format : Version 2
mpc.version = '2';
mpc.baseMVA = 10;
%% bus data
mpc.bus = [  %% (kW here)
    1 3 0   0   0 0 1 1 0 12.66 1 1.1 0.9;
    2 1 100 60  0 0 1 1 0 12.66 1 1.1 0.9; 7 1 90 40 0 0 1 1 0 12.66 1 1.1 0.9
];
mpc.gen = [1 0 0 10 -10 1.02 100 1 10 0];
mpc.branch = [
    1, 2, 0.0922, 0.0470, 0, 0, 0, 0, 0, 0, 1, -360, 360;
    2, 7, 0.4930, 0.2511, 0, 5, 0, 0, 0, 0, 1, -360, 360;
];
mpc.gencost = [2 0 0 3 0.1 20 3];
mpc.bus_name = {{ 'a; b % c'; 'd'; 'e' }};
{code}
"""
CONVERSION = """
[PQ, PV, REF, NONE, BUS_I, BUS_TYPE, PD, QD, GS, BS, BUS_AREA, VM, ...
    VA, BASE_KV, ZONE, VMAX, VMIN, LAM_P, LAM_Q, MU_VMAX, MU_VMIN] = idx_bus;
[F_BUS, T_BUS, BR_R, BR_X, BR_B, RATE_A, RATE_B, RATE_C, ...
    TAP, SHIFT, BR_STATUS, PF, QF, PT, QT, MU_SF, MU_ST, ...
    ANGMIN, ANGMAX, MU_ANGMIN, MU_ANGMAX] = idx_brch;
Vbase = mpc.bus(1, BASE_KV) * 1e3;      %% in Volts
Sbase = mpc.baseMVA * 1e6;              %% in VA
mpc.branch(:, [BR_R BR_X]) = mpc.branch(:, [BR_R BR_X]) / (Vbase^2 / Sbase);
%% convert loads from kW to MW
mpc.bus(:, [PD, QD]) = mpc.bus(:, [PD, QD]) / 1e3;
"""
SAME = [
    "define_constants;\nmpc.bus(:, 3:4) = 1e-3 * mpc.bus(:, 3:4);\nz = 12.66 ^ 2 / 10;\n"
    "mpc.branch(:, 3:4) = mpc.branch(:, 3:4) ./ z;",
    "mpc.bus(:, PD) = mpc.bus(:, PD) / 1000; mpc.bus(:, QD) = mpc.bus(:, QD) / 1000;"
    "mpc.branch(:, [3, 4]) = mpc.branch(:, [3, 4]) * mpc.baseMVA / mpc.bus(1, 10)^2",
]
POWER_FACTOR = "pf = 0.85; mpc.bus(:, QD) = mpc.bus(:, PD) * sin(acos(pf));\nmpc.bus(:, PD) = mpc.bus(:, PD) * pf;"


def script(tmp_path, code=CONVERSION, name="small", change=lambda text: text):
    path = tmp_path / f"{name}.m"
    path.write_text(change(CASE.format(name=name, code=code)), encoding="utf-8")
    return path


@pytest.mark.parametrize("code", [CONVERSION, *SAME])
def test_loads_in_kw_and_impedances_in_ohm_are_converted_as_the_script_says(tmp_path, code):
    feeder = feeder_from_pandapower(script(tmp_path, code))
    assert feeder.nodes == ("1", "2", "7")
    assert feeder.load_p_mw == pytest.approx([0, 0.1, 0.09], abs=EXACT)
    assert feeder.load_q_mvar == pytest.approx([0, 0.06, 0.04], abs=EXACT)
    assert feeder.r_pu * 12.66**2 == pytest.approx([0.0922, 0.4930], rel=1e-9)
    assert feeder.x_pu * 12.66**2 == pytest.approx([0.0470, 0.2511], rel=1e-9)
    assert feeder.i_max_pu[1] == pytest.approx(5.0, rel=1e-9)


def test_without_a_conversion_the_numbers_are_mw_and_per_unit(tmp_path):
    tables = read_matpower_script(script(tmp_path, "")).tables
    assert tables["bus"][:, 2].tolist() == [0, 100, 90]
    assert tables["branch"][:, 2].tolist() == [0.0922, 0.4930]


def test_a_power_factor_is_applied_in_the_order_of_the_script(tmp_path):
    bus = read_matpower_script(script(tmp_path, CONVERSION + POWER_FACTOR)).tables["bus"]
    assert bus[1, 2] == pytest.approx(0.1 * 0.85, rel=1e-12)
    assert bus[1, 3] == pytest.approx(0.1 * np.sqrt(1 - 0.85**2), rel=1e-12)


@pytest.mark.parametrize(
    ("code", "words"),
    [
        ("for k = 1:3\n mpc.bus(k, 3) = 0;\nend", ("line 17", "'for k = 1:3'", "savecase")),
        ("mpc = scale_load(2, mpc);", ("'mpc = scale_load(2, mpc)'", "program code")),
        ("mpc.bus(:, PD) = mpc.bus(:, PD) * rand(3, 1);", ("program code",)),
        ("mpc.bus(:, PD) = mpc.bus(:, PD) * mpc.bus(:, QD);", ("program code",)),
        ("mpc.bus(:, 99) = 0;", ("program code",)),
        ("mpc.bus(:, PD) = 1 / 0;", ("program code",)),
        ("if x\nend", ("'if x'",)),
        ("mpc.bus(2, :) = [];", ("program code",)),
        ("system('touch /tmp/x');", ("program code",)),
        ("mpc.bus(2, 3) = 2 ^ 3 ^ 2;", ("program code",)),
        ("mpc.bus(2, 3) = 0x64;", ("program code",)),
        ("mpc.bus(2, 3) = 1_000;", ("program code",)),
        ("mpc.bus(2, 3) = True;", ("program code",)),
        ("[PQ, PV, REF, NONE, BUS_I, BUS_TYPE, QD, PD] = idx_bus;", ("'QD' stands for the column PD", "savecase")),
        ("[a, b] = idx_brch;", ("'a' stands for the column F_BUS",)),
        ("mpc.note = x'; mpc.bus(2, 3) = 7; for k = y'", ("'for k = y''",)),
    ],
)  # fmt: skip
def test_code_that_may_change_the_tables_is_refused_by_its_line(tmp_path, code, words):
    with pytest.raises(InputError) as caught:
        read_matpower_script(script(tmp_path, code))
    assert all(word in str(caught.value) for word in words) and "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("code", "expected"),
    [
        ("mpc.bus(:, 3) /= 1e3;", 0.1),
        ("mpc.bus(:, [3 4]) *= 1e-3;", 0.1),
        ("k = 2; k += 3; mpc.bus(2, 3) = k;", 5),
        ("mpc.bus(2, 3) = -2 ^ 2;", -4),
        ("mpc.bus(2, 3) = 3 .^ 2;", 9),
        ("mpc.bus(2, 3) = 2 ^ -1;", 0.5),
        ("return;\nmpc.bus(2, 3) = 7;", 100),
        ("mpc.bus(2, 3) = 7;\nendfunction\n", 7),
        ("mpc.bus(2, 3) = 7;\nend\nfunction y = twice(x)\n y = 2 * x;\nend", 7),
        ("mpc.note = x'; mpc.bus(2, 3) = 7; mpc.other = y';", 7),
        ("mpc.note = 'a''; mpc.bus(2, 3) = 7; ''';", 100),
        ("printf('%d;', 3); mpc.bus(2, 3) = 7;", 7),
        ("PD = 4; mpc.bus(:, PD) = 1;", 100),
        ("[PQ, PV, ~, NONE, BUS_I, BUS_TYPE, PD] = idx_bus; mpc.bus(2, PD) = 7;", 7),
    ],
)
def test_code_without_a_conversion_is_carried_out_as_octave_does(tmp_path, code, expected):
    """expected: the second bus's load after Octave has run the same code."""
    assert read_matpower_script(script(tmp_path, code)).tables["bus"][1, 2] == pytest.approx(expected, rel=1e-12)


@pytest.mark.parametrize(
    ("old", "new", "words"),
    [
        ("function mpc = small", "x = 3", "is no MATPOWER case"),
        ("function mpc = small", "function [baseMVA, bus] = small", "version 1"),
        ("mpc.version = '2'", "mpc.version = '1'", "mpc.version is '1'"),
        ("mpc.baseMVA = 10", "mpc.baseMVA = 0", "line 4: mpc.baseMVA is 0"),
        ("mpc.gen = [1 0", "mpc.gen = [3 0", "row 1 of mpc.gen names bus 3"),
        ("2, 7, 0.4930", "2, 9, 0.4930", "row 2 of mpc.branch names bus 9"),
        ("7 1 90 40 0 0", "7 1 90 40 0", "row 3 of mpc.bus has 12 cells"),
        ("7 1 90 40", "7 1 x 40", "row 3 of mpc.bus holds 'x'"),
        ("7 1 90 40", "7 1 NaN 40", "row 3 of mpc.bus holds 'NaN'"),
        ("7 1 90 40", "7 1 9_0 40", "row 3 of mpc.bus holds '9_0'"),
        ("7 1 90 40", "7 1 0x5A 40", "row 3 of mpc.bus holds '0x5A'"),
        ("7 1 90 40", "2 1 90 40", "mpc.bus are not whole and different"),
        ("1 0 12.66 1 1.1 0.9\n]", "1 0 0 1 1.1 0.9\n]", "baseKV is not above 0 in row 3"),
        ("mpc.gen = ", "mpc.other = ", "mpc.gen is missing"),
        ("mpc.gencost", "mpc.dcline = [1 2 1];\nmpc.gencost", "mpc.dcline has DC lines in service"),
    ],
)
def test_mistakes_in_a_script_are_named(tmp_path, old, new, words):
    path = script(tmp_path, change=lambda text: text.replace(old, new, 1))
    with pytest.raises(InputError) as caught:
        network_from_matpower(path)
    assert words in str(caught.value) and "small.m" in str(caught.value) and "\n" not in str(caught.value)


def test_a_workspace_is_the_same_case(tmp_path):
    case = read_matpower_script(script(tmp_path))
    path = tmp_path / "other.mat"
    savemat(path, {"mpc": {"version": "2", "baseMVA": case.base_mva, **case.tables}})
    one, other = feeder_from_pandapower(path), feeder_from_pandapower(script(tmp_path))
    assert one.nodes == other.nodes and one.r_pu.tolist() == other.r_pu.tolist()
    assert one.load_p_mw.tolist() == other.load_p_mw.tolist()
    savemat(path, {"x": 3.0})
    with pytest.raises(InputError, match="holds x, expected a struct mpc"):
        feeder_from_pandapower(path)
    path.write_text("no workspace at all, but long enough to be looked at as one" * 9)
    with pytest.raises(InputError, match=r"other\.mat: is no MATLAB workspace"):
        feeder_from_pandapower(path)


MESHED = """function mpc = meshed
mpc.version = '2';
mpc.baseMVA = 100;
mpc.bus = [
    1 3 0  0  0 0   1 1 0 110 1 1.1 0.9;
    2 1 20 8  0 3   1 1 0 110 1 1.1 0.9;
    5 1 9  4  1 0   1 1 0 20  1 1.1 0.9;
    6 1 4  1  0 0   1 1 0 20  1 1.1 0.9;
];
mpc.gen = [1 0 0 99 -99 1.03 100 1 90 -5; 6 5 2 99 -99 1 100 1 30 0; 6 5 2 99 -99 1 100 0 30 0];
mpc.branch = [
    1 2 0.01 0.1  0.02 80 0 0 0    0 1 -360 360;
    5 2 0.02 0.3  0.04 70 0 0 0.95 0 1 -360 360;
    1 5 0.01 0.2 -0.03 0  0 0 1.04 2 1 -360 360;
    5 6 0.05 0.06 0    0  0 0 0    0 1 -360 360;
    2 6 0.01 0.4  0    0  0 0 0    0 0 -360 360;
];
mpc.gencost = [2 0 0 3 0.01 20 3; 1 0 0 2 0 0 10 300; 2 0 0 2 7 0];
"""
"""A tap at the end with the lower voltage, charging of both signs beside taps, a branch out of service."""


def meshed(tmp_path, change=lambda text: text):
    path = tmp_path / "meshed.m"
    path.write_text(change(MESHED), encoding="utf-8")
    return path


def admittance(tables):
    """MATPOWER's own bus admittance matrix, per unit (its manual, equations 3.2 and 3.12)."""
    bus, number = tables["bus"], {one: i for i, one in enumerate(tables["bus"][:, 0])}
    matrix = np.diag((bus[:, 4] + 1j * bus[:, 5]) / 100)
    for row in tables["branch"][tables["branch"][:, 10] == 1]:
        i, j = number[row[0]], number[row[1]]
        y, tap = 1 / complex(row[2], row[3]), (row[8] or 1) * np.exp(1j * np.radians(row[9]))
        own = y + 0.5j * row[4]
        matrix[i, i] += own / abs(tap) ** 2
        matrix[i, j] -= y / np.conj(tap)
        matrix[j, i] -= y / tap
        matrix[j, j] += own
    return matrix


def test_voltages_are_those_of_matpowers_own_equations(tmp_path):
    path = meshed(tmp_path)
    tables, net = read_matpower_script(path).tables, network_from_matpower(path)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        pp.runpp(net, numba=False, tolerance_mva=1e-10)
    matrix = admittance(tables)
    injected = -(tables["bus"][:, 2] + 1j * tables["bus"][:, 3]) / 100
    injected[3] += (5 + 2j) / 100

    def mismatch(x):
        v = np.concatenate(([1.03], x[:3] + 1j * x[3:]))
        wrong = (v * np.conj(matrix @ v) - injected)[1:]
        return np.concatenate((wrong.real, wrong.imag))

    found = fsolve(mismatch, [1.0, 1.0, 1.0, 0.0, 0.0, 0.0], xtol=1e-13)
    expected = np.abs(np.concatenate(([1.03], found[:3] + 1j * found[3:])))
    assert net.res_bus["vm_pu"].to_numpy() == pytest.approx(expected, abs=1e-9)


def test_dc_flows_are_those_of_matpowers_own_equations(tmp_path):
    path = meshed(tmp_path)
    tables, grid = read_matpower_script(path).tables, transmission_from_pandapower(path)
    branch = tables["branch"][tables["branch"][:, 10] == 1]
    number = {one: i for i, one in enumerate(tables["bus"][:, 0])}
    incidence = np.zeros((len(branch), 4))
    for k, row in enumerate(branch):
        incidence[k, number[row[0]]], incidence[k, number[row[1]]] = 1, -1
    weight = 1 / (branch[:, 3] * np.where(branch[:, 8] == 0, 1, branch[:, 8]))
    shift = np.radians(branch[:, 9])
    supplied = np.array([0, 0, 0, 5.0]) - tables["bus"][:, 2] - tables["bus"][:, 4]
    right = supplied / 100 + incidence.T @ (weight * shift)
    angle = np.concatenate(([0.0], np.linalg.solve((incidence.T @ (weight[:, None] * incidence))[1:, 1:], right[1:])))
    expected = 100 * weight * (incidence @ angle - shift)
    ours = {frozenset((one.from_bus, one.to_bus)): one for one in grid.branches}
    for row, flow in zip(branch, expected, strict=True):
        one = ours[frozenset((str(int(row[0])), str(int(row[1]))))]
        sign = 1 if one.from_bus == str(int(row[0])) else -1
        across = angle[number[float(one.from_bus)]] - angle[number[float(one.to_bus)]] - np.radians(one.shift_degree)
        assert one.mw_per_rad * across == pytest.approx(sign * flow, abs=1e-9)
        assert one.rating_mw == pytest.approx(row[5] or np.inf)
    assert grid.fixed_mw == pytest.approx(tables["bus"][:, 2] + tables["bus"][:, 4])


def test_a_branch_between_two_voltages_without_a_tap_keeps_its_rating_and_its_status(tmp_path):
    def without_a_tap(text):
        return text.replace("5 2 0.02 0.3  0.04 70 0 0 0.95 0 1", "5 2 0.02 0.3  0 70 0 0 0 0 1")

    grid = transmission_from_pandapower(meshed(tmp_path, without_a_tap))  # 2-6 is out of service
    ratings = {one.name: one.rating_mw for one in grid.branches if one.name.startswith("impedance")}
    assert ratings == {"impedance 0": 70.0}


def test_costs_are_read_for_a_transmission_grid_and_not_for_a_feeder(tmp_path):
    grid = transmission_from_pandapower(meshed(tmp_path))
    assert [(one.linear_cost_eur_per_mwh, one.quadratic_cost_eur_per_mw2h) for one in grid.generators] == [
        (20.0, 0.01),
        (30.0, 0.0),
    ]
    assert grid.constant_cost_eur_per_hour == pytest.approx(3.0)
    curved = meshed(tmp_path, lambda text: text.replace("1 0 0 2 0 0 10 300", "1 0 0 3 0 0 10 300 20 900"))
    with pytest.raises(InputError, match=r"row 2 of mpc\.gencost is piecewise linear with more than one piece"):
        transmission_from_pandapower(curved)
    cubic = script(tmp_path, change=lambda text: text.replace("[2 0 0 3 0.1 20 3]", "[2 0 0 4 1 0.1 20 3]"))
    with pytest.raises(InputError, match="of third order"):
        transmission_from_pandapower(cubic)
    assert feeder_from_pandapower(cubic).nodes == ("1", "2", "7")
