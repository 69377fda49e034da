"""What a whole schedule costs, against hand-made costs: a kink makes it dearer than the estimate."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest

import admm
from admm.updates import LEAST_TURNOVER
from subproblems import Builder, QPAgent
from tests.case_tools import tieline
from tests.small_problems import Parabola, coupling, pair, star, triangle

SMALL = Path(__file__).parent / "data" / "failing" / "ext_grid_vm_ignored"
CHEAP, DEAR, KINK_MW = 2.0, 200.0, 1.0
WEIGHT, TARGET_MW = 2.0, 3.0
LOOSE = {
    "consensus_tolerance": 0.05,
    "optimality_tolerance": 0.5,
    "absolute_tolerance": 0.1,
    "relative_tolerance": 0.1,
    "penalty": "classical",
    "acceleration": "none",
}
EXACT_EUR = 1e-3
"""Answers are followed within 1e-5 of scale, which costs at most DEAR times that."""
FLEX_COST, FLEX_WORTH, MOST_MW, FIRM_MW = 0.2, 1.0, 2.5, 1.3
"""Of a MW of flexibility, to who offers and to who buys it; power and flexibility that the one above can carry; and an
offer that is too large for the optimum."""


def consumer(shares_cost: bool = True) -> QPAgent:
    builder = Builder("low")
    taken = builder.variable("load.p_mw", 1, lower=0.0, upper=9.0, unit="MW")
    builder.cost_of_deviation(taken, 0.5 * WEIGHT, TARGET_MW)
    builder.boundary("low-up", "p_mw", taken)
    return QPAgent(builder.build(), shares_cost=shares_cost)


def supplier_with_kink(most_mw: float = 9.0, shares_cost: bool = True) -> QPAgent:
    """Each MW costs CHEAP up to KINK_MW and DEAR beyond."""
    builder = Builder("up")
    given = builder.variable("given.p_mw", 1, lower=0.0, upper=most_mw, unit="MW")
    cheap = builder.variable("cheap.p_mw", 1, lower=0.0, upper=KINK_MW, unit="MW")
    dear = builder.variable("dear.p_mw", 1, lower=0.0, upper=9.0, unit="MW")
    builder.rows("balance", [(given, 1.0), (cheap, -1.0), (dear, -1.0)], 0.0, 0.0)
    builder.cost(cheap, linear=CHEAP)
    builder.cost(dear, linear=DEAR)
    builder.boundary("low-up", "p_mw", given)
    return QPAgent(builder.build(), shares_cost=shares_cost)


def offering(least_flex_mw: float, power_mw: tuple[float, float]) -> QPAgent:
    """The consumer, which offers flexibility, too."""
    builder = Builder("low")
    taken = builder.variable("load.p_mw", 1, lower=power_mw[0], upper=power_mw[1], unit="MW")
    offered = builder.variable("load.flex_mw", 1, lower=least_flex_mw, upper=9.0, unit="MW")
    builder.cost_of_deviation(taken, 0.5 * WEIGHT, TARGET_MW)
    builder.cost(offered, linear=FLEX_COST)
    builder.boundary("low-up", "p_mw", taken)
    builder.boundary("low-up", "flex_mw", offered)
    return QPAgent(builder.build())


def carrying() -> QPAgent:
    """Each MW of power costs CHEAP, each of flexibility is worth FLEX_WORTH; both together are limited."""
    builder = Builder("up")
    given = builder.variable("given.p_mw", 1, lower=0.0, upper=9.0, unit="MW")
    bought = builder.variable("bought.flex_mw", 1, lower=0.0, upper=9.0, unit="MW")
    builder.rows("carried", [(given, 1.0), (bought, 1.0)], -np.inf, MOST_MW)
    builder.cost(given, linear=CHEAP)
    builder.cost(bought, linear=-FLEX_WORTH)
    builder.boundary("low-up", "p_mw", given)
    builder.boundary("low-up", "flex_mw", bought)
    return QPAgent(builder.build())


def with_flexibility(
    least_flex_mw: float = 0.0, power_mw: tuple[float, float] = (0.0, 9.0), penalty: str = "classical"
) -> admm.Result:
    quantities = [admm.Quantity("p_mw", 1, price_scale=4.0), admm.Quantity("flex_mw", 1, price_scale=1.0)]
    agents = {"low": offering(least_flex_mw, power_mw), "up": carrying()}
    settings = admm.Settings(**LOOSE | {"penalty": penalty, "proof": False})
    return admm.solve(agents, [admm.Coupling("low-up", "low", "up", quantities)], settings)


def cost_with_flexibility(power_mw: float, flex_mw: float) -> float:
    """Of one schedule, both agents."""
    return 0.5 * WEIGHT * (power_mw - TARGET_MW) ** 2 + CHEAP * power_mw - (FLEX_WORTH - FLEX_COST) * flex_mw


def cost_by_hand(mw: float) -> float:
    """Of one schedule, both agents."""
    return 0.5 * WEIGHT * (mw - TARGET_MW) ** 2 + CHEAP * min(mw, KINK_MW) + DEAR * max(0.0, mw - KINK_MW)


def solved(up: admm.Agent | None = None, low: admm.Agent | None = None, **settings: object) -> admm.Result:
    agents = {"low": low or consumer(), "up": up or supplier_with_kink()}
    return admm.solve(agents, [coupling("low-up", "low", "up", price_scale=4.0)], admm.Settings(**settings))


def test_at_a_kink_the_schedule_is_dearer_than_the_estimate() -> None:
    result = solved(**LOOSE)
    values, (eur, gap, reason, change) = result.boundary["low-up"]["p_mw"], result.schedule_cost
    (taken,), (given,), (price,) = values.lower, values.upper, values.price
    assert result.converged and taken > KINK_MW + 1e-3 > given - 1e-3
    assert eur == pytest.approx(cost_by_hand(taken), abs=EXACT_EUR) and (reason, change) == ("", 0.0)
    assert eur > cost_by_hand(KINK_MW) + 0.1 > result.objective
    assert gap == pytest.approx((eur - result.objective) / max(abs(price * given), LEAST_TURNOVER * 4.0))


def test_the_run_and_the_agents_are_as_without_it() -> None:
    one, other = (solved(**LOOSE, schedule_cost=asked) for asked in (True, False))
    assert one.schedule_cost.eur is not None and other.schedule_cost == (None, None, "it was not asked for", 0.0)
    assert [(p.objective_eur, p.residuals, p.bytes) for p in one.history] == [
        (p.objective_eur, p.residuals, p.bytes) for p in other.history
    ]
    for name in one.solutions:
        for key, values in one.solutions[name].items():
            assert np.array_equal(values, other.solutions[name][key])


def test_a_chain_follows_from_the_bottom_up() -> None:
    """A trader takes what its customer takes, at 0.5 a MW; a mine above it has a slope of 0.5."""
    trader = Builder("mid")
    sold, bought = (trader.variable(f"{name}.p_mw", 1, unit="MW") for name in ("sold", "bought"))
    trader.rows("balance", [(sold, 1.0), (bought, -1.0)], 0.0, 0.0)
    trader.cost(sold, linear=0.5)
    trader.boundary("low-up", "p_mw", sold)
    trader.boundary("mid-mine", "p_mw", bought)
    mine = Builder("mine")
    dug = mine.variable("dug.p_mw", 1, unit="MW")
    mine.cost(dug, linear=1.0, quadratic=0.25)
    mine.boundary("mid-mine", "p_mw", dug)
    agents = {"low": consumer(), "mid": QPAgent(trader.build()), "mine": QPAgent(mine.build())}
    couplings = [
        coupling("low-up", "low", "mid", price_scale=4.0),
        coupling("mid-mine", "mid", "mine", price_scale=4.0),
    ]
    result = admm.solve(agents, couplings, admm.Settings(**LOOSE))
    (taken,), (given,) = result.boundary["low-up"]["p_mw"].lower, result.boundary["mid-mine"]["p_mw"].upper
    by_hand = 0.5 * WEIGHT * (taken - TARGET_MW) ** 2 + 0.5 * taken + taken + 0.25 * taken**2
    assert result.converged and abs(taken - given) > 1e-4
    assert result.schedule_cost.eur == pytest.approx(by_hand, abs=EXACT_EUR)


def test_beyond_a_limit_the_lower_agent_gives_way_to_it() -> None:
    result = solved(supplier_with_kink(most_mw=KINK_MW), **LOOSE)
    (taken,) = result.boundary["low-up"]["p_mw"].lower
    assert result.converged and taken > KINK_MW + 1e-3
    assert result.schedule_cost.eur == pytest.approx(cost_by_hand(KINK_MW), abs=EXACT_EUR)
    assert result.schedule_cost.change == pytest.approx(taken - KINK_MW, abs=1e-4)


def wanted(result: admm.Result) -> tuple[float, float]:
    """Power and flexibility that the lower agent wants, more than can be carried."""
    (power,), (flexible,) = (result.boundary["low-up"][key].lower for key in ("p_mw", "flex_mw"))
    assert result.converged and power + flexible > MOST_MW + 1e-3
    return power, flexible


def test_flexibility_gives_way_before_power_does() -> None:
    """At the optimum a MW that is carried is worth 0.8: 1.6 MW of power, and 0.9 MW of flexibility."""
    result = with_flexibility(penalty="classical:0.3")
    power, flexible = wanted(result)
    by_hand = cost_with_flexibility(power, MOST_MW - power)
    assert result.schedule_cost.eur == pytest.approx(by_hand, abs=EXACT_EUR)
    assert by_hand > cost_with_flexibility(1.6, 0.9)
    assert result.schedule_cost.change == pytest.approx(flexible - (MOST_MW - power), abs=1e-4)


def test_power_gives_way_where_flexibility_cannot() -> None:
    result = with_flexibility(FIRM_MW)
    power, flexible = wanted(result)
    assert flexible == pytest.approx(FIRM_MW, abs=1e-4)
    assert result.schedule_cost.eur == pytest.approx(cost_with_flexibility(MOST_MW - FIRM_MW, FIRM_MW), abs=EXACT_EUR)
    assert result.schedule_cost.change == pytest.approx(power - (MOST_MW - FIRM_MW), abs=1e-4)


def test_where_nobody_can_follow_it_says_who_and_why() -> None:
    """The lower agent has to take and to offer a little more than can be carried."""
    result = with_flexibility(FIRM_MW, (MOST_MW - FIRM_MW + 0.02,) * 2)
    wanted(result)
    eur, gap, reason, _ = result.schedule_cost
    assert eur is None and gap is None and reason.startswith("'up' cannot follow the agents below it exactly")


@pytest.mark.parametrize(
    ("result", "words"),
    [
        (lambda: solved(low=consumer(shares_cost=False)), "does not tell its cost"),
        (lambda: solved(supplier_with_kink(shares_cost=False)), "does not tell its cost"),
        (lambda: solved(max_iterations=1), "has not converged"),
        (lambda: pair().solve(), "agent 'up' cannot be asked beside its schedule"),
        (lambda: triangle().solve(), "relayed"),
        (lambda: solved(low=Parabola(WEIGHT, [TARGET_MW])), ""),
    ],
)
def test_where_there_is_none_it_says_why(result, words: str) -> None:
    eur, gap, reason, _ = result().schedule_cost
    assert (eur is None) == (gap is None) == bool(words) and words in reason


def test_of_a_proven_schedule_it_is_the_objective() -> None:
    result = star().solve(scheme="certified")
    assert result.status is admm.Status.CERTIFIED
    assert result.schedule_cost == (result.objective, 0.0, "", 0.0)


def test_a_case_says_it(tmp_path: Path, capsys) -> None:
    case = shutil.copytree(SMALL, tmp_path / "case")
    ended = tieline(capsys, "run", case, "--out", tmp_path / "out")
    summary = json.loads((tmp_path / "out" / "summary.json").read_text())
    assert ended.code == 0 and summary["schedule_cost_note"] == ""
    assert summary["schedule_cost_eur"] == pytest.approx(summary["objective_eur"], rel=1e-3)
    distance = summary["schedule_cost_eur"] - summary["objective_eur"]
    assert abs(summary["schedule_cost_gap"]) <= abs(distance) / summary["turnover_eur"] * (1 + 1e-9)
    assert f"{summary['schedule_cost_eur']:.4f} EUR if all follow the lower agents" in ended.out
