"""The scaling benchmark: parts of the communities, solvers of the whole, ranks, and which rows count."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest
import scipy.sparse as sp

import admm
from admm.state import Timing
from benchmarks import monolithic_solvers, scaling
from benchmarks.__main__ import main
from benchmarks.example_entry import two_shops
from benchmarks.generate import shrink
from benchmarks.monolithic_solvers import solve_whole, stack
from benchmarks.scaling_rank import rank_of
from benchmarks.tables import read_csv
from subproblems import QuadraticProgram
from tests.tolerances import EXACT, OF_TURNOVER

TIME_LIMIT_SECONDS = 20.0


def test_a_shrunk_agent_costs_its_share_and_wants_its_share():
    eye = sp.eye_array(2, format="csc")
    whole = QuadraticProgram(
        2 * eye, np.array([-4.0, -6.0]), eye, np.zeros(2), np.array([1.0, 9.0]), {("c", "p_mw"): np.arange(2)},
        constant=7.0, variable_scale=np.ones(2), row_scale=np.ones(2),
    )  # fmt: skip
    best = np.array([1.0, 3.0])  # of (x - 2)^2 + (x - 3)^2 with x_0 <= 1
    part = shrink(whole, 0.1)
    assert part.cost_eur(0.1 * best) == pytest.approx(0.1 * whole.cost_eur(best), rel=EXACT)
    assert part.violation(0.1 * best).max() == 0 and part.violation(0.1 * best + 0.01)[0] > 0


@pytest.mark.parametrize("solver", ["PIQP", "Clarabel", "OSQP", "HiGHS"])
def test_every_monolithic_solver_finds_the_known_optimum(solver):
    problem = two_shops()
    whole = stack(problem.programs, problem.couplings)
    found = solve_whole(whole, solver, 1e-7, TIME_LIMIT_SECONDS)
    assert found.status == "solved" and whole.violation(found.x) < OF_TURNOVER
    assert abs(whole.objective_eur(found.x) - problem.optimum_eur) <= OF_TURNOVER * problem.turnover_eur
    if solver == "PIQP":
        assert whole.turnover_eur(found.x, found.multiplier) == pytest.approx(problem.turnover_eur, rel=OF_TURNOVER)


def test_a_solver_that_takes_too_long_is_ended_and_recorded(monkeypatch):
    """Less time than the solver's process needs to start."""
    monkeypatch.setattr(monolithic_solvers, "GRACE_SECONDS", 0.0)
    problem = two_shops()
    found = solve_whole(stack(problem.programs, problem.couplings), "PIQP", 1e-5, 1e-3)
    assert found.status == "time limit" and found.x is None


def test_every_agent_has_a_rank():
    problem = two_shops()
    ranks = rank_of(problem, 2)
    assert ranks.keys() == problem.programs.keys() and set(ranks.values()) == {0, 1}


def test_scaling_runs_the_chosen_rows_again_and_keeps_the_others(tmp_path, monkeypatch):
    seconds = iter((1.0, 2.0, 3.0))

    def measured(hubs, periods, seed, limit, wanted, cap):
        for method in wanted:
            row = scaling.ScalingRow(hubs, periods, method, seed, exchanges=7)
            row.reached(next(seconds))
            yield row

    monkeypatch.setattr(scaling, "measure_size", measured)
    common = ["scaling", "--out", str(tmp_path), "--hubs", "10", "--periods", "24", "--methods"]
    first, second = "PIQP", "ADMM, PIQP agents, 2 ranks"
    main([*common, first, second])
    main([*common, second, "--again"])
    main([*common, first, second, "--resume"])
    rows = read_csv(tmp_path / "scaling.csv")
    assert [(row["method"], row["seconds"]) for row in rows] == [(first, 1), (second, 3)]


@pytest.mark.parametrize(("seconds", "counted"), [(9.9, 9.9), (10.1, None)])
def test_what_is_reached_after_the_time_limit_does_not_count(monkeypatch, seconds, counted):
    def measured(run, problem, settings, **_):
        run.yardstick_exchanges, run.end_mismatch, run.seconds, run.status = 7, 0.0, seconds, "stopped"
        agent = SimpleNamespace(violation=lambda: 0.0)
        return SimpleNamespace(result=SimpleNamespace(timing=Timing()), agents={"a": agent})

    monkeypatch.setattr(scaling, "measure", measured)
    row = scaling.ScalingRow(10, 24, "ADMM", 0, time_limit_seconds=10.0)
    scaling.run_admm(row, two_shops(), "osqp", 5, admm.InProcessTransport())
    assert row.seconds == counted and row.status == ("stopped" if counted else "time limit")
