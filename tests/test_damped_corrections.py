"""Central solves whose flow corrections jump to and fro without damping."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from networks.case import load_case
from networks.centralised import EXACT, MOST_CORRECTIONS, solve_centralised
from networks.distribution_program import DistributionProgram
from networks.loss_damping import LossDamping
from tests.tolerances import EXACT as ARITHMETIC

DATA = Path(__file__).parent / "data" / "failing"


OPTIMA = [("centralised_corrections", 3427.3225), ("swing_prices", -727.5212)]


@pytest.mark.parametrize(("name", "objective_eur"), OPTIMA)
def test_a_central_solve_ends_where_a_run_does(name: str, objective_eur: float) -> None:
    """Both objectives were found by other means: a run to tight tolerances, and a solve with a proof."""
    found = solve_centralised(load_case(str(DATA / name)))
    assert found.flow_error <= EXACT
    assert found.corrections < MOST_CORRECTIONS
    assert found.solution.objective_eur == pytest.approx(objective_eur, abs=1e-4 * found.solution.turnover_eur)


def test_only_periods_whose_error_does_not_fall_are_damped() -> None:
    damping = LossDamping(["base"], 3)
    damping.raise_where_stuck({"base": np.array([8.0, 8.0, 0.01])}, 0.02)
    assert damping.idle
    damping.raise_where_stuck({"base": np.array([7.0, 6.0, 0.01])}, 0.02)
    assert damping.factors["base"].tolist() == [4.0, 1.0, 1.0]


def test_losses_are_as_steep_as_the_supply_is_dear() -> None:
    """Prices of 3000 EUR/MWh are sixty times the nominal one; at negative prices there is the nominal curvature."""
    case = load_case(str(DATA / "swing_prices"))
    model = case.distribution_model(case.folder.distribution[0])
    program = DistributionProgram(model)
    supply = model.upstream
    assert supply.price_eur_per_mwh.max() == 3000.0
    nominal = np.maximum(supply.price_eur_per_mwh, model.loss_price_eur_per_mwh)
    assert program._loss_price("base").tolist() == (nominal * model.hours).tolist()
    assert (program._loss_price("up") == supply.flexibility_price_eur_per_mwh * model.hours).all()


def test_what_damping_hides_is_nothing_without_it() -> None:
    case = load_case(str(DATA / "centralised_corrections"))
    program = DistributionProgram(case.distribution_model(case.folder.distribution[0]))
    program.linearised()
    x = np.full(program.size, 0.01)
    assert program.hidden_eur(x) == 0.0
    program.loss_damping.factors["base"] *= 4.0
    program.linearised()
    by_hand = 0.0
    feeder, flow, point = program.model.feeder, program.flows["base"], program.first_points()["base"]
    for name in program.scenarios:
        u, price = x[program.scenarios[name].columns], program._loss_price(name)
        for value, centre in (
            (program.flows[name].p_mw.at(u), point.branch_p_mw),
            (program.flows[name].q_mvar.at(u), point.branch_q_mvar),
        ):
            weight = 2 * price[:, None] * feeder.r_pu / feeder.root_base_pu**2
            away = abs(value - centre)
            by_hand += float((weight * away * (abs(value) + away)).sum())
    assert flow.p_mw.constant.shape[1] == len(feeder.branches)
    assert program.hidden_eur(x) == pytest.approx(by_hand, rel=ARITHMETIC)
