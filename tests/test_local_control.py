"""What devices do by themselves between gates, by hand; the community is that of the tests of its program."""

from __future__ import annotations

import numpy as np
import pytest

from subproblems import QuadraticProgram
from tests.test_intraday_program import (
    HEAT_KW,
    SOLVED_KW,
    cleared,  # noqa: F401 - a fixture
    intraday,
    program,
    tank_kwh,
    warm_kw,
)
from tests.tolerances import EXACT

GATE = 6


def kept(qp: QuadraticProgram, x: np.ndarray, heat: np.ndarray, first: int = 0, end: int = GATE) -> dict:
    """The powers that come of a schedule when heat turns out so."""
    return qp.values(intraday(qp).local_control(qp).kept(program(heat=heat), x, first, end))


def test_a_schedule_that_keeps_its_limits_stays_as_it_is(cleared) -> None:  # noqa: F811
    qp, x = cleared
    assert (intraday(qp).local_control(qp).kept(program(), x, 0, GATE) == x).all()
    assert (intraday(qp).local_control(qp).kept(program(heat=2 * HEAT_KW), x, 3, 3) == x).all()


def test_a_heat_pump_keeps_its_tank_warm_and_nothing_else_moves(cleared) -> None:  # noqa: F811
    qp, x = cleared
    was, heat = qp.values(x), HEAT_KW + 1.5
    done = kept(qp, x, heat)
    assert tank_kwh(was["hp.power_kw"], heat)[:GATE].min() < -0.9
    assert done["hp.power_kw"][:GATE] == pytest.approx(warm_kw(was["hp.power_kw"], heat)[:GATE], abs=SOLVED_KW)
    assert (done["hp.power_kw"][GATE:] == was["hp.power_kw"][GATE:]).all()
    for name in ("bat.charge_kw", "bat.discharge_kw", "roof.production_kw"):
        assert done[name] == pytest.approx(was[name], abs=EXACT)


def test_power_that_is_not_there_leaves_the_tank_cold(cleared) -> None:  # noqa: F811
    """30 kW of heat for three hours, of which 5 kW of power make 15: the limit gives way by some 30 kWh."""
    qp, x = cleared
    heat = HEAT_KW.copy()
    heat[1:4] = 30.0
    done = kept(qp, x, heat, end=4)
    assert done["hp.power_kw"][1:4] == pytest.approx(5.0, abs=SOLVED_KW)
    assert tank_kwh(done["hp.power_kw"], heat)[3] < -25.0


def test_what_was_settled_before_stays(cleared) -> None:  # noqa: F811
    qp, x = cleared
    was, heat = qp.values(x), HEAT_KW + 1.5
    done = kept(qp, x, heat, first=3)
    assert (done["hp.power_kw"][:3] == was["hp.power_kw"][:3]).all()
    level = tank_kwh(done["hp.power_kw"], heat)
    assert level[3:GATE].min() > -SOLVED_KW or done["hp.power_kw"][3:GATE].max() > 5.0 - SOLVED_KW
