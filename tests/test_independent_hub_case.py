"""The packages' optimum of the case with hubs and gas against the second model of it, on four morning hours."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest

from networks.case import Case, load_case
from networks.centralised import solve_centralised
from networks.grids import HERE as GRIDS
from subproblems.monolithic import MonolithicSolution
from tests.case_tools import copy_case, edit
from tests.independent_hub_case import HubSolution, solve
from tests.independent_model import read_case

PERIODS, CORRECTIONS = 4, 4
TURNOVER_SHARE = 1e-6
AGENT_COST_EUR = 0.02
SCHEDULE_MW = 5e-3
"""Largest difference of a boundary value; the optimum is flat in some of them."""
SETTLED_PU, SETTLED_BAR = 1e-4, 1e-3


@dataclass
class Both:
    ours: HubSolution
    case: Case
    theirs: MonolithicSolution


@pytest.fixture(scope="module")
def both(tmp_path_factory: pytest.TempPathFactory) -> Both:
    folder: Path = copy_case(tmp_path_factory.mktemp("hubs"), "feeder118-gas65")
    edit("case.toml", "start = 2016-01-05T23:00:00Z", "start = 2016-01-06T06:00:00Z")(folder)
    edit("case.toml", "periods = 24", f"periods = {PERIODS}")(folder)
    case = load_case(str(folder))
    return Both(solve(read_case(folder, GRIDS), CORRECTIONS), case, solve_centralised(case).solution)


def test_the_optimum_is_the_same(both: Both) -> None:
    off_eur = abs(both.ours.objective_eur - both.theirs.objective_eur)
    assert off_eur <= TURNOVER_SHARE * both.theirs.turnover_eur
    assert both.ours.flow_error_pu < SETTLED_PU and both.ours.moved_bar < SETTLED_BAR


def test_every_hub_pays_the_same(both: Both) -> None:
    for name in both.case.communities:
        expected_eur = both.case.build_agent(name).qp.cost_eur(both.theirs.x[name])
        assert both.ours.cost_eur[name] == pytest.approx(expected_eur, rel=0, abs=AGENT_COST_EUR), name


def test_the_schedule_is_the_same(both: Both) -> None:
    for coupling, quantities in both.theirs.boundary().items():
        for quantity, expected in quantities.items():
            off_mw = np.abs(both.ours.value[coupling, quantity] - expected.lower).max()
            assert off_mw < SCHEDULE_MW, f"{coupling} {quantity}: {off_mw} MW"
