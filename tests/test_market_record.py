"""What a record of a market day refuses, in words that say where and what was expected."""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime

import numpy as np
import pytest

from admm import InputError
from admm.state import BoundaryResult
from networks.market.record import OUTSIDE, DayRecord, Ends
from networks.market.tariffs import ENERGY, UP
from tests.test_settlement import hand_day


def changed(day: DayRecord, coupling: str, quantity: str, **values) -> dict[str, dict[str, BoundaryResult]]:
    """The day-ahead boundary with one quantity changed."""
    one = {**day.day_ahead[coupling], quantity: replace(day.day_ahead[coupling][quantity], **values)}
    return {**day.day_ahead, coupling: one}


DAY = hand_day()
WITHOUT_UP = {name: {q: of for q, of in found.items() if q != UP} for name, found in DAY.day_ahead.items()}
WITH_GAS = {name: {**found, "gas_mw": found[ENERGY]} for name, found in DAY.day_ahead.items()}
REFUSED = {
    "a gate after delivery": (
        {"gates": (*DAY.gates, DAY.gates[1])},
        "gate 2 of 3 comes after the last period, number 1; what was delivered is not traded: give 2 gates",
    ),
    "a gate is missing": ({"gates": DAY.gates[:1]}, "there are 1 gates, expected 2"),
    "no time zone": ({"start": datetime(2026, 1, 15)}, "expected a time with its time zone"),
    "no hours": ({"hours": 0.0}, "hours is 0.0, expected the length of a period, above 0"),
    "hours in words": ({"hours": "1"}, "hours is '1', expected the length"),
    "too short": (
        {"day_ahead": changed(DAY, "ec", UP, lower=np.zeros(3))},
        "day-ahead: coupling 'ec': flex_up_mw: lower has shape (3,) of type float64, expected 2 numbers",
    ),
    "not a number": (
        {"day_ahead": changed(DAY, "dso", ENERGY, price=np.array([1.0, np.nan]))},
        "day-ahead: coupling 'dso': p_mw: price is nan in period 1, expected finite numbers",
    ),
    "kW": ({"day_ahead": changed(DAY, "ec", ENERGY, unit="kW")}, "p_mw is in 'kW', expected MW"),
    "no flexibility": ({"day_ahead": WITHOUT_UP}, "coupling 'ec': flex_up_mw is missing; it has p_mw, flex_down_mw"),
    "gas": ({"day_ahead": WITH_GAS}, "gas_mw cannot be settled, expected p_mw, flex_up_mw, flex_down_mw"),
    "no coupling": ({"closing": {"ec": DAY.closing["ec"]}}, "closing step: coupling 'dso' is missing; it has ec"),
    "other coupling": (
        {"closing": {**DAY.closing, "x": DAY.closing["ec"]}},
        "closing step: coupling 'x' is none of ec, dso",
    ),
    "no couplings": ({"couplings": {}}, "there are no couplings"),
    "an agent with itself": ({"couplings": {**DAY.couplings, "ec": Ends("ec", "ec")}}, "expected (lower agent, other"),
    "the outside as an agent": ({"couplings": {**DAY.couplings, "ec": Ends(OUTSIDE, "dso")}}, "use another name"),
    "no feeders": ({"couplings": {**DAY.couplings, "ec": Ends("ec", "dso", 0)}}, "feeders is 0, expected a whole"),
    "balancing of two periods": ({"balancing_eur": np.zeros(3)}, "balancing_eur has shape (3,)"),
    "balancing in one number": ({"balancing_mw": np.array(1.0)}, "balancing_mw has shape ()"),
    "infinite balancing": ({"balancing_mw": np.array([0.0, np.inf])}, "balancing_mw is inf in period 1"),
    "nobody's cost": ({"costs_eur": {**DAY.costs_eur, "x": 1.0}}, "costs_eur: 'x' is at no coupling; agents: ec, dso"),
    "a cost is missing": ({"costs_eur": {"ec": 1.0, "dso": 1.0}}, "costs_eur has no 'tso'; give None where"),
    "infinite cost": ({"costs_eur": {**DAY.costs_eur, "ec": np.inf}}, "costs_eur of 'ec' is inf, expected a finite"),
    "unknown relief": ({"relief_eur": {"ec": None}}, "relief_eur of 'ec' is None, expected a finite number"),
    "two at the top": (
        {
            "couplings": {"ec": Ends("ec", "tso"), "dso": Ends("dso", "other")},
            "costs_eur": dict.fromkeys(("ec", "tso", "dso", "other"), 0.0),
        },
        "balancing power is taken by one agent at the top, found other, tso",
    ),
}


@pytest.mark.parametrize("what", REFUSED)
def test_what_is_refused(what):
    changes, words = REFUSED[what]
    with pytest.raises(InputError) as caught:
        hand_day(**changes)
    assert words in str(caught.value)
