"""Feeders, the exact AC sweep and the affine flow, against published numbers, pandapower and hand solutions."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from admm import InputError
from networks.ac_check import ac_flow, check_ac
from networks.distflow import DistFlow, OperatingPoint, Withdrawal
from networks.feeder import FeederBranch, FeederNode, feeder_from_tables, read_feeder_csv
from networks.grids import grid_folder
from networks.sweep import Sweep
from tests.tolerances import EXACT

PUBLISHED = {"ieee33": (202.677, 0.91309, "18"), "zhang118": (1298.09, 0.8688, "77")}
"""Losses kW, lowest voltage pu and where: Baran and Wu 1989; Zhang, Fu and Zhang 2007."""
PUBLISHED_KW, PUBLISHED_PU = 5e-3, 5e-5
"""Half a unit of the last digit that was printed."""
SLOPE = 1e-6
"""Relative error of a central difference."""


def bundled(name, slack_voltage_pu=1.0):
    return read_feeder_csv(grid_folder(name), slack_voltage_pu)


def line(name, start, end, r=0.01, x=0.01):
    return FeederBranch(name, start, end, r, x)


def small(branches, nodes=("a", "b", "c", "d")):
    return feeder_from_tables("small", "a", [FeederNode(name) for name in nodes], branches)


@pytest.mark.parametrize("name", PUBLISHED)
@pytest.mark.parametrize("method", ["sweep", "pandapower"])
def test_published_losses_and_lowest_voltage(name, method):
    feeder = bundled(name)
    p, q = feeder.load_p_mw[None], feeder.load_q_mvar[None]
    flow = Sweep(feeder).run(p, q) if method == "sweep" else ac_flow(feeder, p, q)
    losses_kw, lowest_pu, where = PUBLISHED[name]
    voltage = np.abs(flow.voltage_pu[0])
    assert flow.losses_mw[0] * 1e3 == pytest.approx(losses_kw, abs=PUBLISHED_KW)
    assert voltage.min() == pytest.approx(lowest_pu, abs=PUBLISHED_PU)
    assert feeder.nodes[voltage.argmin()] == where


def test_sweep_of_many_periods_equals_pandapower_period_by_period():
    feeder = bundled("ieee33", 1.03)
    p, q = random_consumption(feeder, periods=4)
    flow = Sweep(feeder).run(p, q)
    together = ac_flow(feeder, p, q)
    for t in range(4):
        single = ac_flow(feeder, p[[t]], q[[t]])
        assert np.abs(together.voltage_pu[t] - single.voltage_pu[0]).max() < EXACT
        assert np.abs(np.abs(flow.voltage_pu[t]) - single.voltage_pu[0]).max() < EXACT
        assert flow.losses_mw[t] == pytest.approx(single.losses_mw[0], abs=EXACT)
    assert np.allclose(flow.root_p_mw, p.sum(axis=1) + flow.losses_mw, atol=EXACT)


def random_consumption(feeder, periods):
    """Loads between generation and one and a half times the base load."""
    factor = np.random.default_rng(5).uniform(-1.0, 1.5, (periods, len(feeder.nodes)))
    return factor * feeder.load_p_mw, np.abs(factor) * feeder.load_q_mvar


def test_sweep_of_one_line_solved_by_hand():
    """V = V0 - r P / V on a pure resistance: V = (V0 + sqrt(V0^2 - 4 r P)) / 2."""
    feeder = feeder_from_tables("pair", "a", [FeederNode("a"), FeederNode("b")], [line("ab", "a", "b", 0.1, 0.0)])
    flow = Sweep(feeder).run(np.array([[0.0, 1.0]]), np.zeros((1, 2)))
    expected = (1 + np.sqrt(1 - 0.4)) / 2
    assert flow.voltage_pu[0, 1] == pytest.approx(expected, abs=EXACT)
    assert flow.losses_mw[0] == pytest.approx(0.1 / expected**2, abs=EXACT)


def test_sweep_says_where_there_is_no_flow():
    feeder = feeder_from_tables("pair", "a", [FeederNode("a"), FeederNode("b")], [line("ab", "a", "b", 0.1, 0.0)])
    flow = Sweep(feeder).run(np.array([[0.0, 2.0], [0.0, 3.0]]), np.zeros((2, 2)))
    assert flow.converged.tolist() == [True, False]  # the most that the line carries is V0^2 / 4r = 2.5 MW
    with pytest.raises(InputError, match="no AC power flow"):
        ac_flow(feeder, np.array([[0.0, 3.0]]), np.zeros((1, 2)))


def test_ac_check_measures_an_error_that_was_put_in():
    feeder = bundled("ieee33")
    p, q = feeder.load_p_mw[None], feeder.load_q_mvar[None]
    flow = Sweep(feeder).run(p, q)
    found = check_ac(feeder, p, q, np.abs(flow.voltage_pu) + 1e-3, 1.01 * flow.losses_mw)
    assert found.max_voltage_error_pu == pytest.approx(1e-3, abs=EXACT)
    assert (found.max_loss_error, found.total_loss_error) == pytest.approx((0.01, 0.01), abs=EXACT)


def with_admittances(feeder):
    """Shunts at nodes, the root among them, charging of branches, and another nominal voltage than the base."""
    nodes, branches = np.arange(33), np.arange(32)
    return replace(
        feeder,
        shunt_p_mw=np.where(nodes % 5 == 0, 0.02, 0.0),
        shunt_q_mvar=np.where(nodes % 4 == 0, -0.1, 0.0),
        sending_shunt_mva=np.where(branches % 3 == 0, 0.004 - 0.05j, 0),
        receiving_shunt_mva=np.where(branches % 3 == 0, 0.001 - 0.04j, 0),
        nominal_kv=feeder.base_kv / 1.03,
    )


@pytest.mark.parametrize("loads", ["none", "constant", "in time"])
@pytest.mark.parametrize("quantity", ["p_mw", "q_mvar", "current_sq_pu", "w", "w_above", "root_p_mw", "root_q_mvar"])
def test_affine_flow_is_the_exact_flow_and_its_derivative(quantity, loads):
    """loads: admittances that the feeder has, and loads of constant impedance that follow a profile."""
    feeder = bundled("ieee33", 1.02)
    feeder = feeder if loads == "none" else with_admittances(feeder)
    shunt = feeder.shunt_mva * np.array([[1.0], [1.4]]) if loads == "in time" else None
    p, q = random_consumption(feeder, periods=2)
    taken = [
        Withdrawal(7, np.arange(2), 1.0, 0.3),
        Withdrawal(0, 2 + np.arange(2), 1.0, 0.2),
        Withdrawal(30, 4 + np.arange(2), 0, 1),
    ]
    u = np.array([[0.2, 0.1, -0.1], [-0.3, 0.0, 0.2]])

    def exact(u):
        total = p.copy(), q.copy()
        for k, one in enumerate(taken):
            total[0][:, one.node] += one.p_share * u[:, k]
            total[1][:, one.node] += one.q_share * u[:, k]
        return Sweep(feeder).run(*total, shunt)

    def read(flow):
        point = OperatingPoint.of_flow(flow)
        of = {"p_mw": point.branch_p_mw, "q_mvar": point.branch_q_mvar, "current_sq_pu": flow.current_sq_pu}
        of |= {"w": 100 * (point.v_sq_pu[:, 1:] - 1), "root_p_mw": point.root_p_mw[:, None]}
        of |= {"w_above": 100 * (point.v_sq_pu[:, feeder.parent] - 1)}
        return of.get(quantity, point.root_q_mvar[:, None])

    affine = getattr(DistFlow(feeder, taken, p, q, shunt).at(OperatingPoint.of_flow(exact(u))), quantity)
    assert np.abs(affine.at(u) - read(exact(u))).max() < EXACT
    step = 1e-5
    for k in range(3):
        moved = np.zeros(3)
        moved[k] = step
        slope = (read(exact(u + moved)) - read(exact(u - moved))) / (2 * step)
        assert np.abs(affine.slope[:, :, k] - slope).max() < SLOPE * max(1.0, np.abs(slope).max())


def test_sweep_and_pandapower_agree_with_admittances():
    feeder = with_admittances(bundled("ieee33", 1.02))
    p, q = random_consumption(feeder, periods=2)
    shunt = feeder.shunt_mva * np.array([[1.0], [1.4]])
    flow, check = Sweep(feeder).run(p, q, shunt), ac_flow(feeder, p, q, shunt)
    assert np.abs(flow.voltage_pu) == pytest.approx(check.voltage_pu, abs=EXACT)
    for key in ("losses_mw", "current_pu", "root_p_mw", "root_q_mvar"):
        assert getattr(flow, key) == pytest.approx(getattr(check, key), abs=1e-8)
    consumed = p.sum(axis=1) + (shunt.real * np.abs(flow.v_sq_pu)).sum(axis=1)
    assert flow.root_p_mw == pytest.approx(consumed + flow.losses_mw, abs=EXACT)


def test_a_sweep_follows_admittances_that_change_from_flow_to_flow():
    feeder = with_admittances(bundled("ieee33", 1.02))
    p, q = random_consumption(feeder, periods=2)
    sweep, own = Sweep(feeder), feeder.shunt_mva
    for factor in (np.array([[1.0]]), np.array([[1.0], [1.4]]), np.array([[1.2], [1.4]]), np.array([[1.0]])):
        found, fresh = sweep.run(p, q, own * factor), Sweep(feeder).run(p, q, own * factor)
        assert found.voltage_pu.tolist() == fresh.voltage_pu.tolist()


def test_a_line_with_charging_is_solved_by_hand():
    """Nothing behind it: V = 1 / (1 + z y / 2), and the sending end carries y / 2 (1 + V)."""
    branch = FeederBranch("ab", "a", "b", 0.01, 0.02, 1.0, -0.5j, -0.5j)
    feeder = feeder_from_tables("two", "a", [FeederNode("a"), FeederNode("b")], [branch])
    flow = Sweep(feeder).run(np.zeros((1, 2)), np.zeros((1, 2)))
    expected = 1 / (1 + (0.01 + 0.02j) * 0.5j)
    assert flow.voltage_pu[0, 1] == pytest.approx(expected, abs=EXACT)
    assert flow.losses_mw[0] == pytest.approx(0.01 * abs(0.5 * expected) ** 2, abs=EXACT)
    assert flow.current_pu[0, 0] == pytest.approx(0.5 * abs(1 + expected), abs=EXACT)


def parallel(*rows):
    nodes = [FeederNode("a"), FeederNode("b", 2.0, 1.0)]
    return feeder_from_tables("f", "a", nodes, [FeederBranch(name, *ends, *rest) for name, ends, *rest in rows])


def test_parallel_branches_share_the_current_by_their_impedances():
    """Two of 0.02 and 0.04 carry 2/3 and 1/3: the first reaches its limit of 1 at 1.5, the other its 0.6 at 1.8."""
    feeder = parallel(("x", "ab", 0.0, 0.02, 1.0), ("y", "ba", 0.0, 0.04, 0.6))
    assert feeder.branches == ("x + y",) and feeder.x_pu[0] == pytest.approx(0.04 / 3)
    assert feeder.i_max_pu[0] == pytest.approx(1.5)
    flow = Sweep(feeder).run(feeder.load_p_mw[None], feeder.load_q_mvar[None])
    assert flow.current_pu[0, 0] == pytest.approx(np.sqrt(flow.current_sq_pu[0, 0]), abs=EXACT)
    assert feeder.notes == ("x, y are parallel: they are one branch",)


def test_rows_of_branches_may_be_parallel_three_times_and_have_no_impedance():
    three = parallel(("x", "ab", 0.01, 0.03), ("y", "ab", 0.01, 0.03), ("z", "ab", 0.01, 0.03, 0.5))
    assert three.r_pu[0] == pytest.approx(0.01 / 3) and three.i_max_pu[0] == pytest.approx(1.5)
    none = parallel(("x", "ab", 0.0, 0.0, 0.7), ("y", "ab", 0.01, 0.03, 0.1))
    assert none.r_pu[0] == none.x_pu[0] == 0 and none.i_max_pu[0] == pytest.approx(0.7)


def test_order_of_the_tables_does_not_matter():
    one = small([line("ab", "a", "b", 0.01), line("bc", "b", "c", 0.02), line("bd", "d", "b", 0.03)])
    assert one.nodes[0] == "a" and [one.nodes[i] for i in one.parent] == ["a", "b", "b"]
    other = small(
        [line("bd", "d", "b", 0.03), line("bc", "c", "b", 0.02), line("ab", "b", "a", 0.01)], ("d", "c", "b", "a")
    )
    impedance = dict(zip(other.nodes[1:], other.r_pu, strict=True))
    assert impedance == pytest.approx({"b": 0.01, "c": 0.02, "d": 0.03})


@pytest.mark.parametrize(
    ("branches", "words"),
    [
        (
            [line("ab", "a", "b"), line("bc", "b", "c"), line("ca", "c", "a"), line("cd", "c", "d")],
            "'ca' closes a loop: a - b - c - a|closes a loop",
        ),
        ([line("ab", "a", "b"), line("cd", "c", "d")], "no closed branch connects c, d with the root 'a'"),
        ([line("ab", "a", "b"), line("bc", "b", "c"), line("cd", "c", "x")], "'cd' ends at 'x', which is no node"),
        ([line("ab", "a", "b"), line("bc", "b", "c", -0.1), line("cd", "c", "d")], "'bc': r_pu is -0.1, expected"),
    ],
)
def test_what_is_not_a_feeder_is_named(branches, words):
    with pytest.raises(InputError, match=words):
        small(branches)


def test_loop_names_its_nodes():
    with pytest.raises(InputError) as error:
        small([line("ab", "a", "b"), line("bc", "b", "c"), line("bd", "b", "d"), line("dc", "d", "c")])
    around = str(error.value).split("loop: ")[1].split(";")[0].split(" - ")
    assert set(around) == {"b", "c", "d"} and around[0] == around[-1]


def test_other_input_errors():
    with pytest.raises(InputError, match="two nodes are called 'a'"):
        feeder_from_tables("f", "a", [FeederNode("a"), FeederNode("a")], [])
    with pytest.raises(InputError, match="the root is 'z', which is no node"):
        feeder_from_tables("f", "z", [FeederNode("a")], [])
    feeder = bundled("ieee33")
    with pytest.raises(InputError, match="there is no node '99'"):
        feeder.node("99")
    with pytest.raises(InputError, match="v_max_pu is 0.5, expected at least v_min_pu"):
        replace(feeder, v_max_pu=np.full(33, 0.5))
    with pytest.raises(InputError, match="consumption has shapes"):
        Sweep(feeder).run(np.zeros((2, 5)), np.zeros((2, 5)))
    with pytest.raises(InputError, match="bundled grid 'x' does not exist: expected one of ieee33"):
        grid_folder("x")


@pytest.mark.parametrize(
    ("old", "new", "words"),
    [
        ("r_ohm", "r", "column 'r_ohm' is missing"),
        ("0.4930", "abc", None),
        ("0.2511,0.0,", "0.2511,,", "line 3: b_siemens is empty, expected a value"),
        ("0.493,", "abc,", "branch.csv: line 3: r_ohm is 'abc', expected a finite number"),
        (",0,0,210.36", ",2,0,210.36", "line 2: tie is '2', expected 0 or 1"),
    ],
)
def test_csv_errors_name_file_line_and_column(tmp_path, old, new, words):
    for name in ("bus.csv", "branch.csv"):
        text = (grid_folder("ieee33") / name).read_text()
        (tmp_path / name).write_text(text.replace(old, new) if name == "branch.csv" else text)
    if words is None:
        assert len(read_feeder_csv(tmp_path).nodes) == 33
        return
    with pytest.raises(InputError, match=words):
        read_feeder_csv(tmp_path)


def ieee33_with(folder, edits):
    for name in ("bus.csv", "branch.csv"):
        text = (grid_folder("ieee33") / name).read_text()
        for old, new in edits.get(name, ()):
            assert old in text
            text = text.replace(old, new)
        (folder / name).write_text(text)
    return folder


def test_the_charging_of_a_branch_in_a_csv_file_counts(tmp_path):
    """Half of b at each end: b V^2 / 2 = 0.002 x 12.66^2 / 2 Mvar."""
    feeder = read_feeder_csv(ieee33_with(tmp_path, {"branch.csv": [("0.493,0.2511,0.0,", "0.493,0.2511,0.002,")]}))
    expected = -0.5j * 0.002 * 12.66**2
    assert feeder.sending_shunt_mva[1] == feeder.receiving_shunt_mva[1] == pytest.approx(expected)
    assert np.count_nonzero(feeder.sending_shunt_mva) == 1


@pytest.mark.parametrize(
    ("edits", "words"),
    [
        ({"branch.csv": [("b_siemens", "g_siemens"), ("0.2511,0.0,", "0.2511,0.002,")]}, "line 3: column 'g_siemens'"),
        ({"bus.csv": [("V_base_case_pu", "Bs_Mvar")]}, "line 2: column 'Bs_Mvar' is not known, but looks as if it"),
        ({"bus.csv": [("2,PQ", "2,PV")]}, "line 3: type is 'PV', expected 'slack' or 'PQ'"),
        ({"branch.csv": [("0.0922,0.047", "-0.0922,0.047")]}, "line 2: r_ohm is -0.0922, expected at least 0"),
    ],
)
def test_a_csv_column_that_changes_physics_is_not_ignored(tmp_path, edits, words):
    with pytest.raises(InputError, match=words):
        read_feeder_csv(ieee33_with(tmp_path, edits))


def test_other_unknown_csv_columns_are_noted(tmp_path):
    edits = {"bus.csv": [("Va_base_case_deg", "owner")], "branch.csv": [("b_siemens", "g_siemens")]}
    feeder = read_feeder_csv(ieee33_with(tmp_path, edits))
    assert len(feeder.notes) == 2 and feeder.notes[0].endswith("bus.csv: columns that are not used: owner")


def test_nodes_of_nearly_no_impedance_between_are_one_in_voltage(tmp_path):
    feeder = read_feeder_csv(ieee33_with(tmp_path, {"branch.csv": [("0.0922,0.047", "0.0,1e-7")]}))
    assert feeder.r_pu[0] == feeder.x_pu[0] == 0
    voltage = Sweep(feeder).run(feeder.load_p_mw[None], feeder.load_q_mvar[None]).voltage_pu[0]
    assert voltage[0] == pytest.approx(voltage[1], abs=EXACT)
    found = ac_flow(feeder, feeder.load_p_mw[None], feeder.load_q_mvar[None])
    assert found.voltage_pu[0] == pytest.approx(np.abs(voltage), abs=EXACT)


@pytest.mark.parametrize(
    ("file", "column", "cell", "words"),
    [
        ("bus.csv", "bus", "3", "line 6: bus 3 is there twice"),
        ("bus.csv", "base_kV", "11", "line 6: base_kV is 11, expected the root's 12.66"),
        ("bus.csv", "Vmin_pu", "-1", "line 6: Vmin_pu is -1, expected at least 0"),
        ("bus.csv", "Vmax_pu", "0.5", "line 6: Vmax_pu is 0.5, expected above 0 and at least Vmin_pu, 0.9"),
        ("branch.csv", "to_bus", "99", "line 6: to_bus is '99', expected a bus of bus.csv"),
        ("branch.csv", "x_ohm", "-1", "line 6: x_ohm is -1, expected at least 0"),
        ("branch.csv", "I_max_A", "0", "line 6: I_max_A is 0, expected at least 1e-09"),
        ("branch.csv", "I_max_A", "1e-320", "line 6: I_max_A is .*e-321, expected at least 1e-09"),
    ],
)
def test_a_number_that_no_feeder_has_is_refused_by_line_and_column(tmp_path, file, column, cell, words):
    changed_cell(tmp_path, file, column, cell)
    with pytest.raises(InputError, match=rf"{file}: {words}"):
        read_feeder_csv(tmp_path)


def test_the_least_rating_of_the_tables_is_one_of_a_feeder(tmp_path):
    changed_cell(tmp_path, "branch.csv", "I_max_A", "1e-9")
    feeder = read_feeder_csv(tmp_path)
    assert 0 < feeder.i_max_pu[feeder.branches.index("branch 5")] < 1e-9


def test_a_resistance_that_no_digit_shows_counts_as_none(tmp_path):
    """pandapower's start divides by impedances, where it underflowed."""
    changed_cell(tmp_path, "branch.csv", "r_ohm", "1e-300")
    feeder = read_feeder_csv(tmp_path)
    assert feeder.r_pu[feeder.branches.index("branch 5")] == 0
    p, q = feeder.load_p_mw[None], feeder.load_q_mvar[None]
    expected = np.abs(Sweep(feeder).run(p, q).voltage_pu)
    assert ac_flow(feeder, p, q).voltage_pu == pytest.approx(expected, abs=1e-9)


def changed_cell(folder, file, column, cell):
    """The bundled feeder with another cell in the fifth row."""
    for name in ("bus.csv", "branch.csv"):
        rows = [line.split(",") for line in (grid_folder("ieee33") / name).read_text(encoding="utf-8").split()]
        if name == file:
            rows[5][rows[0].index(column)] = cell
        (folder / name).write_text("\n".join(map(",".join, rows)), encoding="utf-8")
