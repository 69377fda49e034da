"""Our optimum of the case with hubs and gas against IPOPT's on exact flows, at the hours with most PV."""

from __future__ import annotations

from pathlib import Path

import pytest

from benchmarks.nonlinear import nonlinear_optimum
from networks.case import Case, load_case
from networks.centralised import solve_centralised
from tests.case_tools import copy_case, edit
from tests.tolerances import NONLINEAR_SHARE

PERIODS = 3


@pytest.fixture(scope="module")
def sunny(tmp_path_factory: pytest.TempPathFactory) -> Case:
    folder: Path = copy_case(tmp_path_factory.mktemp("sunny"), "feeder118-gas65")
    edit("case.toml", "periods = 24", f"periods = {PERIODS}")(folder)
    sun = "[variant.pv-150.horizon]\nstart = 2016-07-0"
    edit("case.toml", f"{sun}3T22:00:00Z", f"{sun}4T11:00:00Z")(folder)
    return load_case(f"{folder}:pv-150")


def test_the_optimum_is_that_of_the_nonlinear_program_where_a_cone_relaxation_is_not_tight(sunny: Case) -> None:
    ours = solve_centralised(sunny).solution.objective_eur
    assert ours == pytest.approx(nonlinear_optimum(sunny).cost_eur, rel=NONLINEAR_SHARE)
    cone = nonlinear_optimum(sunny, relaxed=True)
    assert cone.cost_eur < ours * (1 - 100 * NONLINEAR_SHARE) and cone.excess_mw > 0.01
