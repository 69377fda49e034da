"""The distribution operator, against the exact AC flow, pandapower, and optima found in another way."""

from __future__ import annotations

from dataclasses import replace

import clarabel
import numpy as np
import pytest
import scipy.sparse as sp
from scipy.optimize import minimize_scalar

from admm import AgentBoundary, AnswerStatus, InputError, Question
from networks.ac_check import ac_flow, check_ac
from networks.distribution import (
    Connection,
    DistributionAgent,
    DistributionModel,
    DistributionProgram,
    ReactiveSupport,
    Supply,
)
from networks.feeder import read_feeder_csv
from networks.grids import grid_folder
from networks.sweep import Sweep
from tests.tolerances import FLOW_PU, SOLVER

LOSS_SHARE = 1e-3
"""Relative error of losses that a run may end with."""
BINDING = 1e-3
"""How close to 1 a current over its rating must be where it binds."""
SET_POINT = 2e-3
"""Mvar: a reactive set point against the minimum of the exact costs, which is flat there."""
PRICE, FLEX_PRICE = 50.0, -8.0
SCALES = {"p_mw": 0.3, "flex_up_mw": 0.1, "flex_down_mw": 0.1}


def operator(periods=3, nodes=("10", "18", "24", "33"), slack=1.03, rating_scale=1.0, grid="ieee33", **options):
    feeder = read_feeder_csv(grid_folder(grid), slack)
    feeder = replace(feeder, i_max_pu=feeder.i_max_pu * rating_scale)
    profile = np.linspace(0.5, 1.0, periods)[:, None]
    connections = tuple(Connection(f"c{node}", node, 0.95) for node in nodes)
    return DistributionModel(
        "dso", feeder, 1.0, profile * feeder.load_p_mw, profile * feeder.load_q_mvar, connections, "up", **options
    )


def boundary_of(model):
    keys, scale, price, sign = [], [], [], []
    above = [] if isinstance(model.upstream, Supply) else ["up"]
    for name in [*(one.coupling for one in model.connections), *above]:
        for quantity in model.quantities:
            keys.append((name, quantity, model.periods))
            scale.append(SCALES[quantity] * (10 if name == "up" else 1))
            price.append(PRICE if quantity == "p_mw" else abs(FLEX_PRICE))
            sign.append(1.0 if name == "up" else -1.0)
    spread = [np.repeat(np.array(values, dtype=float), model.periods) for values in (scale, price, sign)]
    return AgentBoundary(tuple(keys), *spread)


def ask(model, boundary, fixed, price=None, iteration=1, settle=False, penalty=np.inf):
    """fixed: {quantity: MW a community}, held with the penalty; the grid above is asked at a price only."""
    reference, weight, paid = (np.zeros(boundary.size) for _ in range(3))
    for (name, quantity), at in boundary.slices().items():
        if name == "up":
            paid[at] = PRICE if quantity == "p_mw" else FLEX_PRICE
        elif quantity in fixed:
            reference[at], weight[at] = fixed[quantity], penalty
            paid[at] = 0.0 if price is None else price[quantity]
    return Question(iteration, paid, reference, weight, 1e-7, settle)


def settled(model, fixed, solver="piqp", **options):
    """An agent whose flow is exact at its answer, the answer, and where each value stands."""
    agent, boundary = DistributionAgent(model, solver=solver), boundary_of(model)
    agent.prepare(boundary)
    for iteration in range(1, 7):
        answer = agent.answer(ask(model, boundary, fixed, iteration=iteration, settle=iteration > 1, **options))
        assert answer.status is AnswerStatus.SOLVED, answer.reason
    return agent, answer, boundary.slices()


def community_consumption(model, p_mw):
    """What the nodes consume when every community draws p_mw, (T, n) both."""
    p, q = model.load_p_mw.copy(), model.load_q_mvar.copy()
    for one in model.connections:
        p[:, model.feeder.node(one.node)] += p_mw
        q[:, model.feeder.node(one.node)] += p_mw * np.tan(np.arccos(one.power_factor))
    return p, q


MARKET = {"p_mw": -52.0, "flex_up_mw": 8.0, "flex_down_mw": 8.0}
"""What communities pay (negative: to the operator) for an entry; near what the grid above is paid."""
FIXED = {"p_mw": 0.15, "flex_up_mw": 0.1, "flex_down_mw": 0.05}


@pytest.mark.parametrize("solver", ["osqp", "piqp"])
def test_flows_with_fixed_communities_equal_pandapower(solver):
    model = operator()
    agent, answer, at = settled(model, FIXED, solver)
    consumption = community_consumption(model, FIXED["p_mw"])
    solution = agent.solution()
    check = check_ac(model.feeder, *consumption, solution["base.voltage_pu"], solution["base.losses_mw"])
    assert check.max_voltage_error_pu < FLOW_PU and check.max_loss_error < LOSS_SHARE
    drawn = consumption[0].sum(axis=1) + ac_flow(model.feeder, *consumption).losses_mw
    assert answer.values[at["up", "p_mw"]] == pytest.approx(drawn, abs=FLOW_PU)
    assert answer.model_error <= 1.0 and agent.corrections >= 1


def test_flexibility_passed_on_is_what_the_substation_changes_by_in_ac():
    model = operator()
    _, answer, at = settled(model, FIXED)

    def root(p_mw):
        p, q = community_consumption(model, p_mw)
        return p.sum(axis=1) + ac_flow(model.feeder, p, q).losses_mw

    base, up, down = (root(p) for p in (0.15, 0.15 - 0.1, 0.15 + 0.05))
    assert answer.values[at["up", "flex_up_mw"]] == pytest.approx(base - up, abs=FLOW_PU)
    assert answer.values[at["up", "flex_down_mw"]] == pytest.approx(down - base, abs=FLOW_PU)
    assert (base - up > 0.4).all()  # four times 0.1 MW and the losses that they save


def test_model_error_is_measured_at_the_communities_schedule():
    """Held softly to a schedule that it does not follow, the operator's own flow is exact but not that schedule's."""
    model = operator()
    agent, boundary = DistributionAgent(model, solver="piqp"), boundary_of(model)
    agent.prepare(boundary)
    for iteration in range(1, 5):
        question = ask(model, boundary, {"p_mw": 0.15}, {"p_mw": -200.0}, iteration, iteration > 1, penalty=1e3)
        answer = agent.answer(question)
    assert agent._errors["base"].voltage_pu < FLOW_PU
    assert answer.model_error > 10


@pytest.mark.parametrize("node", ["18", "33"])
def test_reactive_set_point_is_the_minimum_of_the_exact_cost(node):
    support = ReactiveSupport(node, 2.0, quadratic_cost_eur_per_mvar2h=3.0)
    model = operator(periods=2, supports=(support,))
    agent, answer, _ = settled(model, {"p_mw": 0.1, "flex_up_mw": 0.0, "flex_down_mw": 0.0})
    found = agent.solution()[f"reactive support {node}.q_mvar"]
    p, q = community_consumption(model, 0.1)
    sweep = Sweep(model.feeder)
    for t in range(2):

        def exact_cost(set_point, t=t):
            shifted = q[[t]].copy()
            shifted[0, model.feeder.node(node)] += set_point
            return PRICE * sweep.run(p[[t]], shifted).losses_mw[0] + 3.0 * set_point**2

        best = minimize_scalar(exact_cost, bounds=(-2, 2), method="bounded", options={"xatol": 1e-6}).x
        assert -1.9 < best < -0.1
        assert found[t] == pytest.approx(best, abs=SET_POINT)
    assert answer.cost_eur == pytest.approx(3.0 * float(found @ found), rel=SOLVER)


def test_a_current_limit_binds_exactly():
    model = operator(rating_scale=0.62)
    wanted = {"p_mw": 0.6, "flex_up_mw": 0.0, "flex_down_mw": 0.0}
    agent, answer, at = settled(model, wanted, price=MARKET, penalty=60.0)
    p, q = agent.program.consumption(agent._rows.x)
    exact = np.sqrt(Sweep(model.feeder).run(p, q).current_sq_pu) / model.feeder.i_max_pu
    assert exact.max() == pytest.approx(1.0, abs=BINDING)
    assert min(answer.values[at[f"c{n}", "p_mw"]].min() for n in ("10", "18", "24", "33")) < 0.6 - BINDING


def test_a_voltage_limit_holds_in_ac_when_flexibility_is_activated():
    model = operator(slack=1.0)
    model = replace(model, feeder=replace(model.feeder, v_min_pu=np.full(33, 0.92)))
    agent, _, _ = settled(model, {"p_mw": 0.0, "flex_up_mw": 0.0, "flex_down_mw": 0.2}, price=MARKET, penalty=60.0)
    p, q = agent.program.consumption(agent._rows.x, "down")
    lowest = ac_flow(model.feeder, p, q).voltage_pu.min()
    assert lowest == pytest.approx(0.92, abs=FLOW_PU)
    assert agent.solution()["base.voltage_pu"].min() > 0.92 + FLOW_PU


def test_substation_limit_binds_in_the_activated_scenario():
    model = operator(substation_limit_mva=4.6)
    agent, _, _ = settled(model, {"p_mw": 0.0, "flex_up_mw": 0.0, "flex_down_mw": 0.3}, price=MARKET, penalty=60.0)
    p, q = agent.program.consumption(agent._rows.x, "down")
    flow = Sweep(model.feeder).run(p, q)
    assert np.hypot(flow.root_p_mw, flow.root_q_mvar).max() == pytest.approx(4.6, abs=BINDING)


def test_rows_on_demand_find_the_optimum_of_all_rows():
    """The first answer, against Clarabel on the program with all its rows at that flow and the question written out."""
    model = operator(rating_scale=0.62, supports=(ReactiveSupport("30", 0.3),))
    boundary = boundary_of(model)
    agent = DistributionAgent(model, solver="piqp")
    agent.prepare(boundary)
    question = ask(model, boundary, {"p_mw": 0.6, "flex_up_mw": 0.1, "flex_down_mw": 0.1}, penalty=60.0)
    answer = agent.answer(question)
    assert 0 < sum(mask.sum() for mask in agent._rows.masks) < 0.5 * sum(mask.size for mask in agent._rows.masks)
    qp = DistributionProgram(model, {key: 0.3 for key in boundary.slices()}).linearised(agent._points)
    expected = clarabel_answer(qp, np.concatenate([qp.boundary[c, q] for c, q, _ in boundary.keys]), question)
    held = question.penalty > 0
    assert answer.values[held] == pytest.approx(expected[held], abs=1e-5)
    assert agent.violation() < SOLVER


def clarabel_answer(qp, at, question):
    P, q = sp.lil_matrix(qp.P), qp.q.copy()
    P[at, at] = P[at, at].toarray().ravel() + question.penalty
    q[at] += question.price - question.penalty * question.reference
    equal = qp.l == qp.u
    upper, lower = ~equal & np.isfinite(qp.u), ~equal & np.isfinite(qp.l)
    A = sp.vstack([qp.A[equal], qp.A[upper], -qp.A[lower]]).tocsc()
    b = np.concatenate([qp.u[equal], qp.u[upper], -qp.l[lower]])
    cones = [clarabel.ZeroConeT(int(equal.sum())), clarabel.NonnegativeConeT(int(upper.sum() + lower.sum()))]
    settings = clarabel.DefaultSettings()
    settings.verbose = False
    return np.array(clarabel.DefaultSolver(sp.triu(P).tocsc(), q, A, b, cones, settings).solve().x)[at]


def test_corrected_program_is_exact_at_the_schedule():
    model = operator()
    agent, _, _ = settled(model, FIXED)
    x = agent._rows.x
    program = DistributionProgram(model)
    program.linearised()
    rough = program.errors(x, program.exact_flow(x))
    program.linearised(program.points(x))
    for scenario in ("base", "up", "down"):
        exact = program.errors(x, program.exact_flow(x, scenario), scenario)
        assert exact.voltage_pu < SOLVER < rough.voltage_pu


def test_infeasible_communities_are_explained_by_the_voltage_limit():
    model = operator(slack=1.0)
    model = replace(model, feeder=replace(model.feeder, v_min_pu=np.full(33, 0.95)))
    agent, boundary = DistributionAgent(model, solver="osqp"), boundary_of(model)
    agent.prepare(boundary)
    answer = agent.answer(ask(model, boundary, {"p_mw": 0.3, "flex_up_mw": 0.0, "flex_down_mw": 0.0}))
    assert answer.status is AnswerStatus.INFEASIBLE
    assert "voltage limits of node" in answer.reason


def test_a_price_only_question_is_bounded_by_the_limits():
    model = operator()
    model = replace(model, connections=[replace(one, capacity_mw=0.5) for one in model.connections])
    agent, boundary = DistributionAgent(model, solver="piqp"), boundary_of(model)
    agent.prepare(boundary)
    paid = {"p_mw": -200.0, "flex_up_mw": 1.0, "flex_down_mw": 1.0}
    answer = agent.answer(ask(model, boundary, dict.fromkeys(paid, 0.0), paid, penalty=0.0))
    assert answer.status is AnswerStatus.SOLVED
    values = {key: answer.values[at] for key, at in boundary.slices().items()}
    assert max(values[f"c{node}", "p_mw"].max() for node in ("10", "18", "24", "33")) == pytest.approx(0.5, abs=SOLVER)


def test_a_supply_is_paid_for_what_the_ac_flow_draws_and_pays_for_flexibility():
    """Cost by hand from pandapower: price x drawn power - price x what the substation changes by when activated."""
    prices = np.array([30.0, -10.0, 80.0])
    model = replace(operator(), upstream=Supply(prices, flexibility_price_eur_per_mwh=6.0), hours=0.5)
    agent, answer, at = settled(model, FIXED)
    assert not any(name == "up" for name, _ in at)

    def root(p_mw):
        p, q = community_consumption(model, p_mw)
        return p.sum(axis=1) + ac_flow(model.feeder, p, q).losses_mw

    base, up, down = (root(p) for p in (0.15, 0.15 - 0.1, 0.15 + 0.05))
    expected = 0.5 * (prices @ base - 6.0 * np.sum(base - up + down - base))
    assert answer.cost_eur == pytest.approx(expected, abs=0.5 * 80 * 3 * FLOW_PU)
    assert agent.solution()["supply.p_mw"] == pytest.approx(base, abs=FLOW_PU)


def test_a_supply_decides_as_a_grid_above_at_the_same_prices():
    """Both asked for the same: communities near a reference at a price; only who is paid for the rest differs."""
    asked = {"p_mw": 0.15, "flex_up_mw": 0.1, "flex_down_mw": 0.05}
    above = operator()
    supplied = replace(above, upstream=Supply(np.full(3, PRICE), flexibility_price_eur_per_mwh=-FLEX_PRICE))
    found = {}
    for name, model in {"above": above, "supply": supplied}.items():
        _, answer, at = settled(model, asked, price=MARKET, penalty=40.0)
        found[name] = {key: answer.values[entries] for key, entries in at.items() if key[0] != "up"}
    for key, values in found["supply"].items():
        assert values == pytest.approx(found["above"][key], abs=100 * SOLVER)


def test_without_flexibility_only_power_is_exchanged():
    model = operator(flexibility=False, grid="zhang118", nodes=("20", "60"), slack=1.05)
    agent, answer, at = settled(model, {"p_mw": 0.2})
    assert set(at) == {("c20", "p_mw"), ("c60", "p_mw"), ("up", "p_mw")}
    p, q = community_consumption(model, 0.2)
    check = check_ac(model.feeder, p, q, agent.solution()["base.voltage_pu"], agent.solution()["base.losses_mw"])
    assert check.max_voltage_error_pu < FLOW_PU and answer.model_error <= 1.0


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"connections": (Connection("a", "99"),)}, "there is no node '99'"),
        ({"connections": (Connection("a", "9", 1.2),)}, "power_factor of 'a' is 1.2"),
        ({"connections": (Connection("a", "9", 1.0, -1.0),)}, "capacity_mw of 'a' is -1.0"),
        ({"connections": (Connection("up", "9"),)}, "coupling is 'up' more than once"),
        ({"supports": (ReactiveSupport("9", -1.0),)}, "q_max_mvar at node '9' is -1.0"),
        ({"supports": (ReactiveSupport("9", 1.0), ReactiveSupport("9", 2.0))}, "given twice at node '9'"),
        ({"load_p_mw": np.zeros((3, 5))}, "load_p_mw is array of shape"),
        ({"load_q_mvar": np.zeros((2, 33))}, r"load_q_mvar is of shape \(2, 33\)"),
        ({"load_p_mw": np.full((3, 33), np.nan)}, "load_p_mw is not finite"),
        ({"substation_limit_mva": 0.0}, "substation_limit_mva is 0.0"),
        ({"upstream": Supply(np.ones(2))}, "price_eur_per_mwh of its supply is .*, expected 3 finite numbers"),
        ({"upstream": Supply(np.array([1.0, np.nan, 1.0]))}, "expected 3 finite numbers"),
        ({"upstream": Supply(np.ones(3), np.inf)}, "flexibility_price_eur_per_mwh of its supply is inf"),
        ({"upstream": Supply(np.ones(3)), "connections": (Connection("supply", "9"),)}, "'supply' more than once"),
    ],
)
def test_wrong_models_are_refused(change, words):
    with pytest.raises(InputError, match=words):
        replace(operator(), **change)


@pytest.mark.parametrize("scenario", ["up", "down"])
def test_an_activated_flow_that_is_off_keeps_a_run_from_ending(scenario):
    """The base flow is exact; an error of the activated one alone must show, at five times the base's tolerance."""
    model = operator()
    agent, answer, _ = settled(model, FIXED)
    assert answer.model_error < 1
    question = ask(model, boundary_of(model), FIXED, iteration=7)
    agent._errors[scenario] = replace(agent._errors[scenario], voltage_pu=10 * FLOW_PU)
    assert agent._model_error(question) > 2
