"""The main case from end to end: the right optimum, the right prices, and a schedule that holds in AC."""

from __future__ import annotations

import json

import numpy as np
import pytest

import admm
from admm.cli import main
from networks.case import Case, load_case
from networks.centralised import Centralised, solve_centralised
from subproblems.monolithic import solve_monolithic
from tests.tolerances import FLOW_PU, LOSS_SHARE, OF_TURNOVER, VIOLATION_PU

CASE = "ieee33-10ec"
EXTRA_MW = 2e-3
SCHEDULE_SHARE = 1e-6
"""A whole schedule costs the optimum or more, in boundary turnovers, but for how exactly agents follow it."""
PRICE_SHARE = 2e-3
"""How exact a slope over EXTRA_MW is, as a share of the price."""


@pytest.fixture(scope="module")
def case() -> Case:
    return load_case(CASE)


@pytest.fixture(scope="module")
def optimum(case) -> Centralised:
    return solve_centralised(case)


def run(case: Case, **settings) -> tuple[admm.Result, dict[str, admm.Agent]]:
    agents = {name: case.build_agent(name) for name in case.agents}
    return admm.solve(agents, case.couplings, admm.Settings(**settings)), agents


def check_schedule(result: admm.Result, agents: dict[str, admm.Agent], optimum_eur: float, turnover_eur: float) -> None:
    assert result.converged
    assert result.residuals.mismatch <= 1e-3
    assert result.objective == pytest.approx(optimum_eur, abs=OF_TURNOVER * turnover_eur)
    above = result.schedule_cost.eur - optimum_eur
    assert -SCHEDULE_SHARE * turnover_eur <= above <= OF_TURNOVER * turnover_eur, result.schedule_cost
    assert max(agent.violation() for agent in agents.values()) <= VIOLATION_PU
    check = agents["dso"].ac_check()
    assert check.max_voltage_error_pu <= FLOW_PU
    assert check.max_loss_error <= LOSS_SHARE


@pytest.mark.parametrize("penalty", ["adaptive", "classical:0.3"])
def test_the_run_reaches_the_centralised_optimum(case, optimum, penalty):
    result, agents = run(case, penalty=penalty, max_iterations=2000)
    check_schedule(result, agents, optimum.solution.objective_eur, optimum.solution.turnover_eur)


@pytest.mark.parametrize("variant", ["summer", "winter-15min", "summer-15min"])
def test_every_variant_reaches_its_saved_reference(variant):
    """The references were written by `tieline centralised CASE --save-reference`."""
    case = load_case(f"{CASE}:{variant}")
    reference = case.folder.reference()[case.name]
    result, agents = run(case)
    check_schedule(result, agents, reference["objective_eur"], reference["turnover_eur"])


def test_the_saved_reference_is_the_optimum(case, optimum):
    reference = case.folder.reference()[CASE]
    assert reference["objective_eur"] == pytest.approx(optimum.solution.objective_eur, rel=1e-7)


def test_congestion_makes_communities_prices_differ(optimum):
    prices = {c: q["p_mw"].price for c, q in optimum.solution.boundary().items() if c.endswith("-dso")}
    spread = np.ptp(np.array(list(prices.values())), axis=0)
    assert spread.max() > 1.0
    assert spread.argmax() in range(8, 20)


@pytest.mark.parametrize(("agent", "period"), [("ec04-shops", 11), ("ec01-homes", 3), ("ec07-village", 12)])
def test_a_price_is_what_a_little_more_load_costs(case, optimum, agent, period):
    """Put a constant load behind a community's meter: the cost rises by price times load.

    The cost is convex in the load, so the price lies between the slopes on both sides. (Where a community's
    own connection limit binds, as at ec10-solar in period 19, its load is worth the limit's multiplier less.)
    """
    price = optimum.solution.boundary()[f"{agent}-dso"]["p_mw"].price[period]
    less, same, more = (_cost_with_load(case, optimum, agent, period, extra) for extra in (-EXTRA_MW, 0.0, EXTRA_MW))
    slopes = np.array([same - less, more - same]) / EXTRA_MW
    assert slopes[0] - PRICE_SHARE * price <= price <= slopes[1] + PRICE_SHARE * price
    assert slopes == pytest.approx(price, rel=1e-2)


def _cost_with_load(case: Case, optimum: Centralised, agent: str, period: int, extra_mw: float) -> float:
    """The whole optimum when one agent consumes extra_mw more in a period, flows linearised at the optimum."""
    program = _with_load(optimum.programs[agent], period, extra_mw)
    return solve_monolithic(optimum.programs | {agent: program}, case.couplings).objective_eur


def _with_load(qp, period: int, extra_mw: float):
    block = next(rows for rows in qp.rows if rows.name == "connection: power balance")
    row = block.start + period
    at = next(v for v in qp.variables if v.name == "connection.p_mw").start + period
    shift = qp.A[row, at] * extra_mw  # the row ties the meter in MW to the devices
    lower, upper = qp.l.copy(), qp.u.copy()
    lower[row] += shift
    upper[row] += shift
    return qp.with_numbers(l=lower, u=upper)


def test_the_same_input_gives_the_same_bits(case):
    results = [run(case, max_iterations=12)[0] for _ in range(2)]
    first, second = ([q for qs in r.boundary.values() for q in qs.values()] for r in results)
    for a, b in zip(first, second, strict=True):
        assert np.array_equal(a.lower, b.lower)
        assert np.array_equal(a.price, b.price)


def test_a_run_that_stops_early_says_so_and_keeps_its_results(tmp_path, capsys):
    out = tmp_path / "out"
    assert main(["run", CASE, "--max-iterations", "3", "--out", str(out)]) == 3
    summary = json.loads((out / "summary.json").read_text())
    assert summary["converged"] is False
    assert summary["status"] == "max_iterations"
    assert summary["complete"] is True
    assert "raise max_iterations" in capsys.readouterr().out


def test_solvers_agree(case):
    """Runs with OSQP and with PIQP agents end at the same optimum."""
    values = []
    for solver in ("osqp", "piqp"):
        agents = {name: case.build_agent(name, solver) for name in case.agents}
        settings = admm.Settings(max_iterations=200)
        values.append(admm.solve(agents, case.couplings, settings).objective)
    assert values[0] == pytest.approx(values[1], rel=1e-5)
