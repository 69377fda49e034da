"""The transmission operator, against published optima, pandapower, HiGHS on another model, and by hand."""

from __future__ import annotations

import warnings
from dataclasses import replace

import highspy
import numpy as np
import pytest

from admm import AgentBoundary, AnswerStatus, InputError, Question
from networks.grids import grid_folder
from networks.transmission import Substation, TransmissionModel, compile_tso, read_transmission_csv
from networks.transmission_grid import Generator, TransmissionBranch, TransmissionGrid
from subproblems import QPAgent
from tests.tolerances import SOLVER

PUBLISHED_USD = {"pglib": 34_772.95, "matpower": 41_006.74}
"""DC OPF of the 57-bus system: PGLib-OPF v23.07 baseline 3.4773e4; MATPOWER case57."""
PUBLISHED_CENT = 5e-3
PRICE = 1e-3
"""EUR/MWh: a price read from a difference of two optimal costs."""
QUANTITIES = ("p_mw", "flex_up_mw", "flex_down_mw")


def grid57(cost_set="matpower", **options):
    return read_transmission_csv(grid_folder("ieee57"), cost_set, **options)


def model_of(grid, load_mw, feeders=1, up=0.0, down=0.0, bus="9", hours=1.0):
    need = np.ones(len(load_mw))
    return TransmissionModel("tso", grid, hours, load_mw, (Substation("s", bus, feeders),), up * need, down * need)


def solve(model, p_mw=0.0, flex_up_mw=0.0):
    """The answer when the feeder's values are fixed."""
    periods = model.periods
    boundary = AgentBoundary(
        tuple(("s", quantity, periods) for quantity in QUANTITIES),
        np.ones(3 * periods),
        np.full(3 * periods, 50.0),
        -np.ones(3 * periods),
    )
    agent = QPAgent(compile_tso(model), solver="piqp")
    agent.prepare(boundary)
    fixed = np.repeat([p_mw, flex_up_mw, 0.0], periods)
    return agent, agent.answer(Question(1, np.zeros(fixed.size), fixed, np.full(fixed.size, np.inf), accuracy=1e-9))


@pytest.mark.parametrize("cost_set", PUBLISHED_USD)
def test_published_dc_optimal_power_flow(cost_set):
    grid = grid57(cost_set)
    _, answer = solve(model_of(grid, grid.load_mw[None]))
    assert answer.status is AnswerStatus.SOLVED
    assert answer.cost_eur == pytest.approx(PUBLISHED_USD[cost_set], abs=PUBLISHED_CENT)


def test_dispatch_equals_pandapower():
    import pandapower
    import pandapower.networks

    net = pandapower.networks.case57()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        pandapower.rundcopp(net)
    grid = grid57()
    agent, answer = solve(model_of(grid, grid.load_mw[None]))
    assert answer.cost_eur == pytest.approx(net.res_cost, rel=SOLVER)
    expected = dict(zip(net.gen["bus"] + 1, net.res_gen["p_mw"], strict=True)) | {1: net.res_ext_grid["p_mw"].iloc[0]}
    for one in grid.generators:
        assert agent.solution()[f"{one.name}.p_mw"][0] == pytest.approx(expected[int(one.bus)], abs=1e-2)


def test_prices_of_buses_are_those_of_pandapower():
    """The cost of one more kW at a bus, against pandapower's multiplier there."""
    import pandapower
    import pandapower.networks

    grid = grid57()
    load = grid.load_mw[None]
    for bus in ("9", "31"):
        more, less = (solve(model_of(grid, load, bus=bus), p_mw=step)[1].cost_eur for step in (1e-3, -1e-3))
        net = pandapower.networks.case57()
        pandapower.create_load(net, int(bus) - 1, 0.0)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            pandapower.rundcopp(net)
        assert (more - less) / 2e-3 == pytest.approx(net.res_bus["lam_p"].loc[int(bus) - 1], abs=1e-2)


def highs_cost(grid, load_mw, up, down, hours):
    """The same plan by injections and a matrix of distribution factors, p and reserves as the only variables.

    Linear costs only. Rows are built in the order: balance, ratings, ramps, headroom, reserves.
    """
    buses, periods, units = len(grid.buses), len(load_mw), len(grid.generators)
    incidence = np.zeros((len(grid.branches), buses))
    for k, one in enumerate(grid.branches):
        incidence[k, grid.bus(one.from_bus)], incidence[k, grid.bus(one.to_bus)] = 1, -1
    weighted = np.diag([100 / (one.x_pu * one.tap) for one in grid.branches]) @ incidence
    factors = weighted @ np.linalg.pinv(incidence.T @ weighted)
    at = [grid.bus(one.bus) for one in grid.generators]
    solver = highspy.Highs()
    solver.silent()
    p = [
        [solver.addVariable(g.p_min_mw, g.p_max_mw, hours * g.linear_cost_eur_per_mwh) for g in grid.generators]
        for _ in range(periods)
    ]
    held = [
        [
            [
                solver.addVariable(0, g.ramp_mw_per_hour * hours, hours * g.reserve_cost_eur_per_mwh)
                for g in grid.generators
            ]
            for _ in range(periods)
        ]
        for _ in range(2)
    ]
    for t in range(periods):
        solver.addConstr(sum(p[t]) == float(load_mw[t].sum()))
        for k, one in enumerate(grid.branches):
            flow = sum(float(factors[k, at[g]]) * p[t][g] for g in range(units))
            drawn = float(factors[k] @ load_mw[t])
            solver.addConstr(flow <= one.rating_mw + drawn)
            solver.addConstr(flow >= drawn - one.rating_mw)
        for g, one in enumerate(grid.generators):
            solver.addConstr(p[t][g] + held[0][t][g] <= one.p_max_mw)
            solver.addConstr(p[t][g] - held[1][t][g] >= one.p_min_mw)
            if t:
                solver.addConstr(p[t][g] - p[t - 1][g] <= hours * one.ramp_mw_per_hour)
                solver.addConstr(p[t - 1][g] - p[t][g] <= hours * one.ramp_mw_per_hour)
        solver.addConstr(sum(held[0][t]) >= up)
        solver.addConstr(sum(held[1][t]) >= down)
    solver.run()
    assert solver.getModelStatus() == highspy.HighsModelStatus.kOptimal
    return solver.getObjectiveValue()


def test_periods_with_ramps_ratings_and_reserves_equal_highs():
    grid = grid57("pglib", rating_scale=0.6, ramp_share_per_hour=0.1)
    generators = [
        replace(one, reserve_quadratic_cost_eur_per_mw2h=0.0, reserve_cost_eur_per_mwh=2.0 + i)
        for i, one in enumerate(grid.generators)
    ]
    grid = replace(grid, generators=generators)
    load = np.array([0.7, 0.76, 0.82])[:, None] * grid.load_mw
    expected = highs_cost(grid, load, up=20.0, down=15.0, hours=0.5)
    _, answer = solve(model_of(grid, load, up=20.0, down=15.0, hours=0.5))
    assert answer.cost_eur == pytest.approx(expected, rel=SOLVER)
    loose = highs_cost(
        replace(grid, generators=[replace(one, ramp_mw_per_hour=1e4) for one in generators]), load, 0.0, 0.0, 0.5
    )
    assert expected > loose * (1 + 1e-3)  # what is tested here does bind


def pair(ramp=np.inf, cheap_max=100.0, rating=np.inf):
    """Cheap power at a, dear power at b, one line between them."""
    generators = [
        Generator("cheap", "a", 0.0, cheap_max, 10.0, 0.0, ramp, 1.0, 0.0),
        Generator("dear", "b", 0.0, 100.0, 30.0, 0.0, np.inf, 4.0, 0.0),
    ]
    return TransmissionGrid(
        "pair", ("a", "b"), "a", np.array([0.0, 50.0]), (TransmissionBranch("ab", "a", "b", 0.1, rating),), generators
    )


def test_a_line_limit_and_its_price_by_hand():
    """30 MW pass the line at 10, 20 MW come from b at 30; another MW at b costs 30."""
    model = model_of(pair(rating=30.0), np.array([[0.0, 50.0]]), bus="b")
    assert solve(model)[1].cost_eur == pytest.approx(30 * 10 + 20 * 30, rel=SOLVER)
    assert solve(model, p_mw=1.0)[1].cost_eur - solve(model)[1].cost_eur == pytest.approx(30.0, abs=PRICE)


def test_ramp_by_hand():
    """From 20 to 50 MW with 10 MW an hour: the cheap unit starts at 20 and reaches 30, 20 MW are dear."""
    model = model_of(pair(ramp=10.0), np.array([[0.0, 20.0], [0.0, 50.0]]), bus="b")
    assert solve(model)[1].cost_eur == pytest.approx(20 * 10 + 30 * 10 + 20 * 30, rel=SOLVER)


def test_reserve_and_flexibility_by_hand():
    """60 MW up: the cheap unit holds the 50 MW that it has left at 1, the dear one 10 at 4. Two feeders of 3 MW
    replace 6 of the dear ones. The cost is half, that of one feeder."""
    model = model_of(pair(), np.array([[0.0, 50.0]]), feeders=2, up=60.0, bus="b")
    assert solve(model)[1].cost_eur == pytest.approx((500 + 50 * 1 + 10 * 4) / 2, rel=SOLVER)
    assert solve(model, flex_up_mw=3.0)[1].cost_eur == pytest.approx((500 + 50 * 1 + 4 * 4) / 2, rel=SOLVER)


def test_a_feeder_counts_as_many_times_as_there_are():
    grid = pair()
    one = solve(model_of(grid, np.array([[0.0, 50.0]]), feeders=4, bus="b"), p_mw=2.0)[1]
    assert one.cost_eur == pytest.approx((50 + 4 * 2) * 10 / 4, rel=SOLVER)


def test_a_constant_cost_is_shared_by_the_feeders():
    grid = replace(pair(), constant_cost_eur_per_hour=12.0)
    answer = solve(model_of(grid, np.array([[0.0, 50.0]] * 3), feeders=4, bus="b", hours=0.5))[1]
    assert answer.cost_eur == pytest.approx(3 * 0.5 * (500 + 12) / 4, rel=SOLVER)


def test_a_phase_shifter_by_hand():
    """Two equal lines of 1000 MW/rad, one with a shift of 1 degree.

    With 20 MW of rating on the line without shift: f1 = 1000 d, f2 = 1000 (d - pi / 180), so at f1 = 20 together they
    carry 40 - 17.453 = 22.547 MW, and the remaining 27.453 MW come from b at 30.
    """
    lines = (
        TransmissionBranch("plain", "a", "b", 0.1, rating_mw=20.0),
        TransmissionBranch("shifter", "a", "b", 0.1, shift_degree=1.0),
    )
    model = model_of(replace(pair(), branches=lines), np.array([[0.0, 50.0]]), bus="b")
    through = 40.0 - 1000 * np.pi / 180
    assert solve(model)[1].cost_eur == pytest.approx(through * 10 + (50 - through) * 30, rel=SOLVER)


def test_a_shortage_of_reserve_is_explained_in_words():
    _, answer = solve(model_of(pair(), np.array([[0.0, 50.0]] * 2), up=500.0, bus="b"))
    assert answer.status is AnswerStatus.INFEASIBLE
    assert "reserve up: requirement" in answer.reason


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"substations": (Substation("s", "a", 2), Substation("t", "b", 3))}, "2, 3 feeders, expected the same number"),
        ({"substations": (Substation("s", "x"),)}, "there is no bus 'x'"),
        ({"substations": (Substation("s", "a", 0),)}, "feeders of 's' is 0"),
        ({"substations": (Substation("s", "a"), Substation("s", "b"))}, "two substations have the same coupling"),
        ({"reserve_up_mw": np.array([-1.0])}, "reserve_up_mw"),
        ({"load_mw": np.ones((1, 3))}, r"load_mw has shape \(1, 3\)"),
        ({"hours": 0.0}, "hours is 0.0"),
    ],
)
def test_wrong_models_are_refused(change, words):
    with pytest.raises(InputError, match=words):
        replace(model_of(pair(), np.array([[0.0, 50.0]]), bus="b"), **change)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"slack": "z"}, "there is no bus 'z'"),
        ({"branches": ()}, "no branch connects b with the slack bus 'a'"),
        ({"branches": (TransmissionBranch("ab", "a", "b", 0.0),)}, "x_pu is 0.0"),
        ({"branches": (TransmissionBranch("ab", "a", "b", 1e-320),)}, "x_pu is 1e-320, expected .* at least 1e-12"),
        ({"branches": (TransmissionBranch("ab", "a", "b", 0.1, -5.0),)}, "rating_mw is -5.0"),
        ({"generators": (Generator("g", "a", 5.0, 1.0, 0.0),)}, "p_min_mw is 5.0 and p_max_mw 1.0"),
        ({"generators": ()}, "has no generators"),
        ({"buses": ("a", "a")}, "'a' is the name of two things"),
    ],
)
def test_wrong_grids_are_refused(change, words):
    with pytest.raises(InputError, match=words):
        replace(pair(), **change)


def test_wrong_choices_of_the_bundled_grid():
    with pytest.raises(InputError, match="cost_set is 'x', expected one of pglib, matpower"):
        grid57("x")
    with pytest.raises(InputError, match="rating_scale is -1"):
        grid57(rating_scale=-1)
