"""Tariffs on a bundled case: ten communities at their true prices, and what networks are given of their schedules."""

from __future__ import annotations

import numpy as np
import pytest

from benchmarks.reward_tariffs import NODAL, TariffStudy, held_program
from networks.market.tariffs import ENERGY, UP, Response, at_coupling, captured_share
from tests.tolerances import SOLVER

RUN_SHARE = 5e-3
"""Of a gain, at the prices of a run with the default tolerances: 1e-4 of a turnover of 3000 EUR, of a gain of 88."""


def test_a_held_schedule_draws_what_was_said_and_offers_up_to_the_promise():
    told = Response(0.0, at_coupling("c", {ENERGY: np.array([-0.2, 0.1]), UP: np.array([0.3, -1e-9])}))
    program = held_program("ec", told)
    p, up = program.boundary["c", ENERGY], program.boundary["c", UP]
    for at, value, allowed in ((p, -0.2, True), (p, -0.1, False), (up, 0.0, True), (up, 0.3, True), (up, 0.31, False)):
        x = np.zeros(program.size)
        x[p] = [-0.2, 0.1]
        x[at[0]] = value
        assert (program.violation(x).max() < SOLVER) == allowed


def test_ten_communities_at_their_true_prices_do_what_the_run_agreed_on():
    study = TariffStudy("ieee33-10ec", "piqp")
    told = study.responses(study.published(NODAL, study.rules(24, 24)))
    best, reached = study.value_eur(study.coordinated), study.value_eur(told)
    without = study.value_eur(study.responses(study.baseline(flat=True)))
    assert captured_share(reached, without, best) == pytest.approx(1.0, abs=RUN_SHARE)
    few = study.value_eur(study.responses(study.published(NODAL, study.rules(4, 4))))
    assert without < few < reached
