"""The transmission operator through the day: by hand, and against the same plan in cvxpy on distribution factors."""

from __future__ import annotations

from dataclasses import replace

import cvxpy as cp
import numpy as np
import pytest

from admm import AgentBoundary, AnswerStatus, Question
from networks.market.intraday_transmission import (
    AT_FEEDERS,
    BALANCING,
    OVER_SHARE,
    SHORT,
    BalancingPrices,
    Dispatch,
    IntradayTransmission,
    TransmissionDay,
    dispatch_of,
)
from networks.market.rules import DayAheadPrices, MarketTable
from networks.transmission import TransmissionModel, compile_tso
from networks.transmission_grid import Generator, TransmissionBranch, TransmissionGrid
from subproblems import QPAgent, QuadraticProgram
from tests.test_transmission import QUANTITIES, model_of, pair
from tests.tolerances import EXACT, SOLVER

T = 5
SOLVED_MW = 1e-3
"""Powers of a solved program, of some 100 MW; costs are flat around the optimum."""
COUPLING = "s"


def prices(up=60.0, down=5.0, reserve_up=9.0, reserve_down=7.0, rise=0.5, reserve_rise=0.25) -> BalancingPrices:
    """The first MW at that price in every hour."""
    both, reserve = (
        (np.full((2, T), price) for price in (up, down)),
        (np.full(T, p) for p in (reserve_up, reserve_down)),
    )
    return BalancingPrices(*both, *reserve, rise, reserve_rise)


def solve(qp: QuadraticProgram, drawn_mw=0.0, flex_up_mw=0.0, flex_down_mw=0.0) -> tuple[float, np.ndarray]:
    """Cost in EUR and schedule (n,) when the feeder's values are fixed."""
    periods = qp.boundary[COUPLING, "p_mw"].size
    agent = QPAgent(qp, solver="piqp")
    kind = tuple((COUPLING, quantity, periods) for quantity in QUANTITIES)
    agent.prepare(AgentBoundary(kind, np.ones(3 * periods), np.full(3 * periods, 50.0), -np.ones(3 * periods)))
    fixed = np.concatenate([np.broadcast_to(value, periods) for value in (drawn_mw, flex_up_mw, flex_down_mw)])
    answer = agent.answer(Question(1, 0.0 * fixed, fixed, np.full(fixed.size, np.inf), accuracy=1e-9))
    assert answer.status is AnswerStatus.SOLVED, answer.reason
    return answer.cost_eur, agent.x


def day_ahead(model: TransmissionModel, drawn_mw=0.0) -> tuple[np.ndarray, Dispatch]:
    qp = compile_tso(model)
    x = solve(qp, drawn_mw)[1]
    return x, dispatch_of(model, qp.values(x))


def latest(
    made: IntradayTransmission, model: TransmissionModel, load_mw: np.ndarray, gate: int, done: np.ndarray
) -> QuadraticProgram:
    return made.program(compile_tso(replace(model, load_mw=load_mw)), gate, done, load_mw)


# ---- by hand: cheap power at a (10), dear power at b (30), 50 MW of load at b, 20 MW of reserve up, held by the cheap


LOAD = np.tile([0.0, 50.0], (T, 1))


def hand_case(load_mw: np.ndarray, gate: int, notice: int = 2, **changes):
    model = model_of(pair(), LOAD, up=20.0, down=10.0, bus="b", **changes)
    x, dispatch = day_ahead(model)
    made = IntradayTransmission(model, dispatch, prices(), notice)
    qp = latest(made, model, load_mw, gate, x)
    cost_eur, found = solve(qp)
    return cost_eur, qp.values(found)


def test_the_day_ahead_case_is_as_said() -> None:
    dispatch = day_ahead(model_of(pair(), LOAD, up=20.0, down=10.0, bus="b"))[1]
    assert dispatch.p_mw == pytest.approx(np.tile([50.0, 0.0], (T, 1)), abs=SOLVED_MW)
    assert dispatch.reserve_up_mw == pytest.approx(np.tile([20.0, 0.0], (T, 1)), abs=SOLVED_MW)
    assert dispatch.reserve_down_mw == pytest.approx(np.tile([10.0, 0.0], (T, 1)), abs=SOLVED_MW)
    assert dispatch.load_mw == pytest.approx(50.0, abs=EXACT)


def test_within_the_notice_only_reserve_moves_and_the_rest_is_balanced() -> None:
    """30 MW more from hour 1 on. Hours 1 and 2: 20 MW of the reserve, 10 MW from other areas, 5 each way, at
    10 x 60 + 2 x 0.5 x 0.5 x 5^2 = 612.5 EUR; none of the requirement is left upwards. Later the cheap one is free.

    Downwards 10 + 30 MW are asked for; the cheap one has 30 within the notice, as it may go down to 40 from 70.
    10 are short: 10 x 7 + 0.5 x 0.25 x 10^2 = 82.5 EUR.
    """
    cost_eur, found = hand_case(LOAD + np.array([[0, 0], *[[0, 30.0]] * (T - 1)]), gate=1)
    assert found["cheap.p_mw"] == pytest.approx([50, 70, 70, 80, 80], abs=SOLVED_MW)
    assert found["dear.p_mw"] == pytest.approx([0.0] * T, abs=SOLVED_MW)
    for name in (BALANCING[0], AT_FEEDERS[0]):
        assert found[name][1:] == pytest.approx([5, 5, 0, 0], abs=SOLVED_MW)
    assert found[SHORT[0]][1:] == pytest.approx(0.0, abs=SOLVED_MW)
    assert found[SHORT[1]][1:] == pytest.approx([10, 10, 0, 0], abs=SOLVED_MW)
    generated = 10 * (50 + 70 + 70 + 80 + 80)
    reserve = 30 + 30 + 40 + 40
    assert cost_eur == pytest.approx(generated + reserve + 2 * 612.5 + 2 * 82.5, rel=SOLVER)


def test_power_to_other_areas_is_paid_less_and_less() -> None:
    """20 MW less but in the last hour: the cheap one may go down by 10; 5 MW each way bring 5 - 0.5 x 5 at the margin.

    Upwards 20 + 20 MW are asked for and 30 are there, from 40 to 70: 10 are short. Down 0 is left of the 10.
    """
    cost_eur, found = hand_case(LOAD - np.array([*[[0, 20.0]] * (T - 1), [0, 0]]), gate=0, notice=T)
    assert found["cheap.p_mw"] == pytest.approx([40.0] * (T - 1) + [50.0], abs=SOLVED_MW)
    for name in (BALANCING[1], AT_FEEDERS[1]):
        assert found[name] == pytest.approx([5.0] * (T - 1) + [0.0], abs=SOLVED_MW)
    assert found[SHORT[0]] == pytest.approx([10.0] * (T - 1) + [0.0], abs=SOLVED_MW)
    paid = 10 * 5 - 2 * 0.5 * 0.5 * 5**2
    hour = 10 * 40 - paid + 1 * 30 + 10 * 9 + 0.5 * 0.25 * 10**2
    assert cost_eur == pytest.approx((T - 1) * hour + 500 + 30, rel=SOLVER)


def test_requirement_falls_by_what_the_load_has_used_up() -> None:
    model = model_of(pair(), LOAD, up=20.0, down=10.0, bus="b")
    made = IntradayTransmission(model, day_ahead(model)[1], prices(), 1)
    load = LOAD.copy()
    load[:, 0], load[1, 1], load[2, 1], load[3, 1] = [0, 5, 5, 0, -4], 60.0, 80.0, 35.0
    need = made.requirement(load)
    assert need["up"] == pytest.approx([20, 5, 0, 35, 24], abs=SOLVED_MW)
    assert need["down"] == pytest.approx([10, 25, 45, 0, 6], abs=SOLVED_MW)


def test_what_is_over_costs_no_balancing_and_stays_as_generated() -> None:
    """A load of 500 MW in the past, which no generator met: other areas did, and it has been paid for."""
    load = LOAD.copy()
    load[:2] = [0.0, 500.0]
    cost_eur, found = hand_case(load, gate=2)
    assert found["cheap.p_mw"] == pytest.approx([50.0] * T, abs=SOLVED_MW)
    for name in (BALANCING, AT_FEEDERS):
        assert (found[name[0]] - found[name[1]])[:2] == pytest.approx(225.0, rel=1e-3)
    trace = OVER_SHARE * 4 * 0.5 * 0.5 * 225**2  # so that the pattern stays
    assert cost_eur == pytest.approx(T * 10 * 50 + 3 * 30 + trace, rel=SOLVER)  # nor is reserve held in the past


def test_feeders_count_as_often_as_there_are() -> None:
    """Two feeders of 5 MW each: 10 MW more; the whole cost is that of one of them."""
    model = model_of(pair(), LOAD, up=20.0, down=10.0, bus="b", feeders=2)
    x, dispatch = day_ahead(model)
    made = IntradayTransmission(model, dispatch, prices(), T)
    cost_eur, found = solve(latest(made, model, LOAD, 0, x), drawn_mw=15.0)
    assert compile_tso(model).size + 6 * T == found.size
    hour = 10 * 70 + 10 * 60 + 2 * 0.5 * 0.5 * 5**2 + 20 * 9 + 0.5 * 0.25 * 20**2 + 10
    assert cost_eur == pytest.approx(T * hour / 2, rel=SOLVER)


# ---- against another model

RATING_MW = 7.0
GRID = TransmissionGrid(
    "ring", ("a", "b", "c"), "a", np.array([20.0, 60.0, 40.0]),
    (TransmissionBranch("ab", "a", "b", 0.1), TransmissionBranch("bc", "b", "c", 0.2, RATING_MW),
     TransmissionBranch("ca", "c", "a", 0.1)),
    [Generator("base", "a", 10.0, 90.0, 12.0, 0.02, 15.0, 2.0, 0.01),
     Generator("mid", "b", 0.0, 60.0, 25.0, 0.05, 20.0, 3.0, 0.02),
     Generator("peak", "c", 0.0, 50.0, 45.0, 0.0, 40.0, 5.0, 0.0)],
)  # fmt: skip
"""The line bc is not next to the slack bus, as limits of lines there are bounds of an angle."""
SHAPE = np.array([0.7, 0.8, 1.0, 1.1, 0.9])
UP, DOWN, FEEDERS = 18.0, 12.0, 3
DRAWN = np.array([2.0, 2.5, 3.0, 2.0, 1.0])


def ring() -> TransmissionModel:
    return model_of(GRID, np.outer(SHAPE, GRID.load_mw), FEEDERS, UP, DOWN, "c")


def other_model(gate, notice, load, drawn, flex_up, done, dispatch: Dispatch, asked: BalancingPrices) -> float:
    """The plan in EUR of a feeder's share: injections and distribution factors instead of angles."""
    units, h = GRID.generators, 1.0
    incidence = np.array([[1.0, -1, 0], [0, 1, -1], [-1, 0, 1]])
    weighted = np.diag([1000.0, 500.0, 1000.0]) @ incidence
    factors = weighted @ np.linalg.pinv(incidence.T @ weighted)
    p, up, down = (cp.Variable((T, 3), nonneg=True) for _ in range(3))
    areas, at_c = (cp.Variable((T, 2), nonneg=True) for _ in range(2))
    short = cp.Variable((T, 2), nonneg=True)
    net, local = areas[:, 0] - areas[:, 1], at_c[:, 0] - at_c[:, 1]
    share = GRID.load_mw / GRID.load_mw.sum()
    lowest, highest = np.array([g.p_min_mw for g in units]), np.array([g.p_max_mw for g in units])
    ramp = np.array([g.ramp_mw_per_hour for g in units])
    rows, extra = [up <= np.minimum(ramp, highest - lowest), down <= np.minimum(ramp, highest - lowest)], 0.0
    used = load.sum(axis=1) - dispatch.load_mw
    for t in range(T):
        rows.append(cp.sum(p[t]) + net[t] + local[t] == load[t].sum() + FEEDERS * drawn[t])
        if t < gate:
            rows.append(p[t] == done[t])
            continue
        injected = p[t] + share * net[t] + np.eye(3)[2] * (local[t] - FEEDERS * drawn[t]) - load[t]
        rows.append(cp.abs(factors[1] @ injected) <= RATING_MW)
        least, most = lowest, highest
        if t < gate + notice:
            least, most = (
                dispatch.p_mw[t] - dispatch.reserve_down_mw[t],
                dispatch.p_mw[t] + dispatch.reserve_up_mw[t],
            )
        rows += [p[t] >= least, p[t] <= most, p[t] + up[t] <= most, p[t] - down[t] >= least]
        if t:
            rows.append(cp.abs(p[t] - p[t - 1]) <= ramp)
        rows.append(cp.sum(up[t]) + FEEDERS * flex_up + short[t, 0] >= max(UP * 1.0 - used[t], 0.0))
        rows.append(cp.sum(down[t]) + short[t, 1] >= max(DOWN + used[t], 0.0))
        for way, each in enumerate((areas, at_c)):
            extra += asked.up_eur_per_mwh[way, t] * each[t, 0] - asked.down_eur_per_mwh[way, t] * each[t, 1]
            extra += 0.5 * asked.rise_eur_per_mw2h * cp.sum_squares(each[t])
        extra += asked.reserve_up_eur_per_mwh[t] * short[t, 0] + asked.reserve_down_eur_per_mwh[t] * short[t, 1]
        extra += 0.5 * asked.reserve_rise_eur_per_mw2h * cp.sum_squares(short[t])
    for g, one in enumerate(units):
        extra += one.linear_cost_eur_per_mwh * cp.sum(p[:, g])
        extra += one.quadratic_cost_eur_per_mw2h * cp.sum_squares(p[:, g])
        held = cp.hstack([up[:, g], down[:, g]])
        extra += one.reserve_cost_eur_per_mwh * cp.sum(held)
        extra += one.reserve_quadratic_cost_eur_per_mw2h * cp.sum_squares(held)
    problem = cp.Problem(cp.Minimize(h * extra / FEEDERS), rows)
    problem.solve(solver=cp.CLARABEL)
    assert problem.status == cp.OPTIMAL
    return float(problem.value)


@pytest.mark.parametrize("notice", [0, 1, 3])
@pytest.mark.parametrize("gate", [0, 2, T - 1])
def test_cost_is_that_of_another_model(gate: int, notice: int) -> None:
    model, random = ring(), np.random.default_rng(3)
    x, dispatch = day_ahead(model, DRAWN)
    load, drawn = model.load_mw * random.uniform(0.9, 1.25, model.load_mw.shape), DRAWN + 1.0
    made = IntradayTransmission(model, dispatch, prices(up=40.0, down=10.0), notice)
    cost_eur, _ = solve(latest(made, model, load, gate, x), drawn, flex_up_mw=1.0)
    expected = other_model(gate, notice, load, drawn, 1.0, dispatch.p_mw, dispatch, prices(up=40.0, down=10.0))
    assert cost_eur == pytest.approx(expected, rel=1e-5)  # a millionth of the rise is left in the past


def test_the_line_of_the_other_model_does_bind() -> None:
    model = ring()
    x, dispatch = day_ahead(model, DRAWN)
    found = compile_tso(model).values(x)
    flow_mw = 500 * (found["bus b.angle_rad"] - found["bus c.angle_rad"])
    assert np.abs(flow_mw).max() == pytest.approx(RATING_MW, abs=SOLVED_MW)
    assert (dispatch.reserve_up_mw.sum(axis=1) > 1.0).all()


# ---- numbers only


def test_the_pattern_is_the_same_at_all_gates() -> None:
    model = ring()
    x, dispatch = day_ahead(model, DRAWN)
    made, random = IntradayTransmission(model, dispatch, prices(), 2), np.random.default_rng(1)
    first = latest(made, model, model.load_mw, 0, x)
    for gate in range(T + 1):
        load = model.load_mw * random.uniform(0.8, 1.2, model.load_mw.shape)
        now = latest(made, model, load, gate, x)
        for part in ("indptr", "indices"):
            assert np.array_equal(getattr(now.P, part), getattr(first.P, part))
            assert np.array_equal(getattr(now.A, part), getattr(first.A, part))
        assert np.array_equal(now.A.data, first.A.data)
        assert (now.variable_scale == first.variable_scale).all() and (now.row_scale == first.row_scale).all()
        assert now.boundary.keys() == first.boundary.keys()


def test_the_pattern_stays_where_all_that_is_required_has_been_used_up() -> None:
    model = model_of(pair(), LOAD, up=20.0, down=10.0, bus="b")
    x, dispatch = day_ahead(model)
    made = IntradayTransmission(model, dispatch, prices(), 1)
    first, now = (latest(made, model, load, 0, x) for load in (LOAD, LOAD - np.array([0.0, 15.0])))
    assert np.array_equal(now.A.indices, first.A.indices)


def test_limits_of_lines_at_the_slack_bus_do_not_hold_in_the_past() -> None:
    rated = tuple(replace(one, rating_mw=40.0) if "a" in one.name else one for one in GRID.branches)
    model = replace(ring(), grid=replace(GRID, branches=rated))
    x, dispatch = day_ahead(model, DRAWN)
    load = model.load_mw.copy()
    load[:2, 0] += 200.0
    solve(latest(IntradayTransmission(model, dispatch, prices(), 1), model, load, 2, x), DRAWN)


def test_a_day_freezes_what_was_answered_at_each_gate() -> None:
    """Hour 0 runs day-ahead, hours 1 and 2 as answered at gate 1; the last answer does not change them."""
    model = ring()
    x, _ = day_ahead(model, DRAWN)
    agreed = DayAheadPrices(np.full(T, 30.0), np.full(T, 3.0), np.full(T, 3.0))
    before = dispatch_of(model, compile_tso(model).values(x)).p_mw
    day = TransmissionDay(model, compile_tso, x, MarketTable(), agreed, 1, "piqp")
    kind = tuple((COUPLING, quantity, T) for quantity in QUANTITIES)
    boundary = AgentBoundary(kind, np.ones(3 * T), np.full(3 * T, 50.0), -np.ones(3 * T))
    names = [f"{one.name}.p_mw" for one in GRID.generators]

    def answered(gate: int, factor: float) -> np.ndarray:
        day.open(gate, factor * model.load_mw)
        day.agent.prepare(boundary)
        fixed = np.concatenate([DRAWN, np.zeros(2 * T)])
        found = day.agent.answer(Question(1, 0.0 * fixed, fixed, np.full(3 * T, np.inf), accuracy=1e-9))
        assert found.status is AnswerStatus.SOLVED, found.reason
        return np.stack([day.agent.solution()[name] for name in names], axis=1)

    day.agent.prepare(boundary)
    first, second, third = answered(1, 1.05), answered(3, 0.95), answered(4, 1.1)
    assert first[:1] == pytest.approx(before[:1], abs=SOLVED_MW)
    assert second[:3] == pytest.approx(first[:3], abs=SOLVED_MW)
    assert third[:4] == pytest.approx(second[:4], abs=SOLVED_MW)
    assert np.abs(first[1:] - second[1:])[2:].max() > 1.0


@pytest.mark.parametrize("feeders", [1, 4])
def test_reserve_that_is_short_counts_per_feeder_as_costs_do(feeders: int) -> None:
    """3 MW up and 5 MW down are missing in hour 0: 8 MWh of the whole system."""
    model = model_of(pair(), LOAD, up=20.0, down=10.0, bus="b", feeders=feeders)
    agreed = DayAheadPrices(np.full(T, 30.0), np.full(T, 3.0), np.full(T, 3.0))
    day = TransmissionDay(model, compile_tso, day_ahead(model)[0], MarketTable(), agreed, 1, "piqp")
    day.agent.x = np.zeros(day.agent.qp.size)
    start = {block.name: block.start for block in day.agent.qp.variables}
    day.agent.x[start[SHORT[0]]], day.agent.x[start[SHORT[1]]] = 3.0, 5.0
    day.open(1, model.load_mw)
    assert day.short_mwh == pytest.approx(8.0 / feeders, rel=EXACT)
