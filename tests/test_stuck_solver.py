"""A solver that is stuck gives way to the other one, a run says so, and goes on from a checkpoint to the same bits."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

import admm
from admm import AnswerStatus, Settings, Status
from admm.couplings import Layout
from admm.progress import HEADER, line
from admm.resume import Checkpoints
from admm.state import Residuals
from benchmarks.random_problems import random_problem
from networks.case import load_case
from subproblems import QPAgent
from subproblems.qp_agent import FLAT_SOLVERS, SOLVERS, STUCK_AFTER
from tests.case_tools import tieline
from tests.market_tools import small_case
from tests.small_problems import Parabola, coupling, star
from tests.test_qp_agent import PENALTIES, boundary, program, question
from tests.test_resume import ALWAYS, NEVER, bits, run

Plant = Callable[..., None]
TWO_SOLVERS_MW = 1e-5


@pytest.fixture
def plant(monkeypatch: pytest.MonkeyPatch) -> Plant:
    """plant("osqp", "AtItsLimit"): what stands in for a solver from now on."""

    def put(solver: str, kind: str, flat: bool = False) -> None:
        for solvers in (SOLVERS, FLAT_SOLVERS)[: 1 + flat]:
            monkeypatch.setitem(solvers, solver, ("tests.stuck_solvers", kind))

    return put


def prepared(solver: str = "osqp") -> QPAgent:
    agent = QPAgent(program(), solver=solver)
    agent.prepare(boundary())
    return agent


ASKED = question(np.array([3.0, 1.0, -2.0, 4.0]), 1.0, PENALTIES)


@pytest.mark.parametrize(("solver", "kind"), [("osqp", "AtItsLimit"), ("osqp", "LateAtItsLimit"), ("piqp", "Failing")])
def test_the_other_solver_takes_over_after_some_answers_in_a_row(solver: str, kind: str, plant: Plant) -> None:
    right = prepared(solver).answer(ASKED).values
    plant(solver, kind)
    agent = prepared(solver)
    for _ in range(STUCK_AFTER - 1):
        agent.answer(ASKED)
        assert agent.replaced_solver() == ""
    for _ in range(3):
        answer = agent.answer(ASKED)
        assert answer.status is AnswerStatus.SOLVED and answer.values == pytest.approx(right, abs=TWO_SOLVERS_MW)
        assert answer.inner_iterations < 1000
    other = {"osqp": "piqp", "piqp": "osqp"}[solver]
    assert agent.replaced_solver() == f"{other} in place of {solver}"
    agent.prepare(boundary())
    assert agent.replaced_solver() == ""  # another run begins with the one that was chosen


def test_where_no_other_has_an_answer_the_other_solver_is_asked_at_once(plant: Plant) -> None:
    plant("piqp", "Failing", flat=True)
    agent = prepared("piqp")
    assert agent.answer(ASKED).status is AnswerStatus.SOLVED
    assert agent.replaced_solver() == "osqp in place of piqp"


def test_a_good_answer_ends_the_count(monkeypatch: pytest.MonkeyPatch, plant: Plant) -> None:
    agent = prepared()
    for _ in range(3):
        plant("osqp", "AtItsLimit")
        agent._solver = None
        for _ in range(STUCK_AFTER - 1):
            agent.answer(ASKED)
        monkeypatch.undo()
        agent._solver = None
        agent.answer(ASKED)
    assert agent.replaced_solver() == ""


def test_a_solver_stays_where_the_other_one_does_no_better(plant: Plant, monkeypatch: pytest.MonkeyPatch) -> None:
    plant("osqp", "AtItsLimit")
    plant("piqp", "Inaccurate")
    agent = prepared()
    for _ in range(STUCK_AFTER + 1):
        assert agent.answer(ASKED).status is AnswerStatus.INACCURATE
    assert agent.replaced_solver() == ""
    monkeypatch.undo()
    for _ in range(STUCK_AFTER - 1):  # it is asked again when as many more have come
        agent.answer(ASKED)
    assert agent.replaced_solver() == "piqp in place of osqp"


@pytest.mark.parametrize(("kind", "seed", "exchanges"), [("plain", 43, 54), ("zero", 46, 32)])
def test_a_run_that_a_solver_held_up_ends_sooner(kind: str, seed: int, exchanges: int) -> None:
    """exchanges: without a replacement."""
    problem = random_problem(kind, seed)
    agents = problem.agents("osqp")
    result = admm.solve(agents, problem.couplings)
    assert result.converged and result.iterations < 0.7 * exchanges
    assert "piqp in place of osqp" in {agent.replaced_solver() for agent in agents.values()}


def test_a_resumed_run_ends_with_the_same_bits(plant: Plant, tmp_path: Path) -> None:
    """Before, at and after the replacement; of operators with rows on demand, too."""
    plant("osqp", "AtItsLimit")
    case, settings = load_case(str(small_case(tmp_path / "case"))), Settings(max_iterations=9)
    whole = run(case, settings, "osqp", Checkpoints(tmp_path / "whole", every_seconds=ALWAYS))
    for stop in (2, STUCK_AFTER - 1, STUCK_AFTER, 7):
        folder = tmp_path / f"stopped{stop}"
        run(case, settings, "osqp", Checkpoints(folder, every_seconds=NEVER), stop)
        resumed = run(case, settings, "osqp", Checkpoints(folder, resume=True, say=lambda words: None))
        assert bits(resumed) == bits(whole)


def test_an_operator_with_other_rows_goes_on_with_the_solver_in_use(tmp_path: Path) -> None:
    case = load_case(str(small_case(tmp_path)))
    operator = case.build_agent("dso", "osqp")
    operator.prepare(Layout(case.couplings).boundary("dso"))
    operator._rows.agent.solver_in_use = "piqp"
    operator._rows.agent = operator._rows._start(None)
    assert operator.replaced_solver() == "piqp in place of osqp"
    operator._rows = operator._new_rows()
    assert operator.replaced_solver() == "piqp in place of osqp"
    operator.prepare(Layout(case.couplings).boundary("dso"))
    assert operator.replaced_solver() == ""


@pytest.mark.parametrize("change", [{"solver_in_use": "simplex"}, {"stuck": -1}, {"stuck": 1.5}])
def test_what_a_snapshot_cannot_say_is_refused(change: dict) -> None:
    agent = prepared()
    with pytest.raises(ValueError, match="solver_in_use is no solver, or stuck is no count"):
        agent.restore({**agent.snapshot(), **change})


def test_a_run_says_whose_solver_was_replaced(plant: Plant, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    plant("osqp", "AtItsLimit")
    ended = tieline(capsys, "run", small_case(tmp_path / "case"), "--out", tmp_path / "out")
    assert ended.code == 0, ended.errors
    summary = json.loads((tmp_path / "out" / "summary.json").read_text())
    assert summary["replaced_solvers"].startswith("dso: piqp in place of osqp, ec01-homes: piqp in place of osqp")
    assert f"solver replaced      {summary['replaced_solvers']}, which was stuck\n" in ended.out


# ------------------------------------------------------------- what a run waits for


def test_the_test_that_is_furthest_off_is_named() -> None:
    seen = Residuals(0.5, 0.5, 1.0, 1.0, 1e-4, 1e-5)
    settings = Settings()
    assert seen.furthest(settings) == "" and seen.passed(settings)
    assert replace(seen, mismatch=2e-3, primal=1.5).furthest(settings) == "mismatch"
    assert replace(seen, mismatch=2e-3, primal=2.5).furthest(settings) == "primal"
    assert replace(seen, dual=1.1).furthest(settings) == "dual"
    assert replace(seen, objective_error=np.nan).furthest(settings) == "objective"


def test_what_a_stop_needs_beside_the_tests_is_named(plant: Plant) -> None:
    """Two solvers that are never exact: the tests pass, and the run waits for a solver."""
    plant("osqp", "AtItsLimit")
    plant("piqp", "Inaccurate")
    agents = {name: make() for name, make in star().agents.items()}
    result = admm.solve(agents, star().couplings, Settings(max_iterations=40))
    assert result.status is Status.MAX_ITERATIONS and result.history[-1].waits_for == "solver"


@pytest.mark.parametrize(
    ("scheme", "words"),
    [
        ("two-block", {"primal", "dual", "mismatch", "objective", "flows", "accuracy", ""}),
        ("certified", {"proof"}),
        ("memory", {"proof"}),
    ],
)
def test_every_iteration_of_a_case_says_what_it_waits_for(scheme: str, words: set[str], tmp_path: Path) -> None:
    case = load_case(str(small_case(tmp_path)))
    result = run(case, Settings(scheme=scheme), "piqp", None)
    assert result.converged and {row.waits_for for row in result.history} <= words
    assert result.history[-1].waits_for == ("" if scheme == "two-block" else "proof")


def test_the_last_field_of_a_line_says_what_a_run_waits_for() -> None:
    agents = {"low": Parabola(1.0, [1.0]), "up": Parabola(1.0, [3.0])}
    history = admm.solve(agents, [coupling("low-up", "low", "up", scale=2.0)]).history
    assert HEADER.endswith("waits for") and line(history[-1]).endswith(" -")
    assert line(history[0]).endswith(f" {history[0].waits_for}") and history[0].waits_for
