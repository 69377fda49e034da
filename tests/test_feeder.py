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


@pytest.mark.parametrize("quantity", ["p_mw", "q_mvar", "current_sq_pu", "w", "root_p_mw", "root_q_mvar"])
def test_affine_flow_is_the_exact_flow_and_its_derivative(quantity):
    feeder = bundled("ieee33", 1.02)
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
        return Sweep(feeder).run(*total)

    def read(flow):
        point = OperatingPoint.of_flow(flow)
        of = {"p_mw": point.branch_p_mw, "q_mvar": point.branch_q_mvar, "current_sq_pu": flow.current_sq_pu}
        of |= {"w": 100 * (point.v_sq_pu[:, 1:] - 1), "root_p_mw": point.root_p_mw[:, None]}
        return of.get(quantity, point.root_q_mvar[:, None])

    affine = getattr(DistFlow(feeder, taken, p, q).at(OperatingPoint.of_flow(exact(u))), quantity)
    assert np.abs(affine.at(u) - read(exact(u))).max() < EXACT
    step = 1e-5
    for k in range(3):
        moved = np.zeros(3)
        moved[k] = step
        slope = (read(exact(u + moved)) - read(exact(u - moved))) / (2 * step)
        assert np.abs(affine.slope[:, :, k] - slope).max() < SLOPE * max(1.0, np.abs(slope).max())


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
