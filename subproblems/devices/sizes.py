"""How large a number of each unit can sensibly be: beyond it the number or its unit is a mistake."""

from __future__ import annotations

import math
from typing import Any

LARGEST = 1e12
"""Of a number whose unit is not known."""
LEAST = 1e-9
"""Smaller sizes other than 0 are mistakes, too: programs divide by them."""
LARGEST_OF = {
    "kw": 1e7,
    "kva": 1e7,
    "kvar": 1e7,
    "kwh": 1e9,
    "mw": 1e6,
    "mva": 1e6,
    "mvar": 1e6,
    "mwh": 1e8,
    "ohm": 1e4,
    "siemens": 1e3,
    "a": 1e6,
    "kv": 2e3,
    "pu": 1e6,
    "m": 1e6,
    "km": 1e5,
    "mm": 1e9,
    "bar": 1e4,
    "k": 1e3,
    "degc": 1e3,
    "h": 1e5,
    "min": 1e5,
    "ms": 1e9,
    "kw/h": 1e9,
    "eur/kwh": 1e4,
    "eur/mwh": 1e6,
    "eur/t": 1e6,
    "eur/(mw^2": 1e9,
    "eur/(mvar^2": 1e9,
    "eur/(k^2": 1e6,
    "eur/bar^4": 1e9,
    "kg/kwh": 1e3,
}
"""By unit, in lower case and without what follows a space."""
UNITS = {"_pu": "pu", "_mva": "MVA", "_mvar": "Mvar", "_kw": "kW", "_ms": "ms", "_minutes": "min", "_hours": "h"}
UNITS |= {"_mw": "MW", "_kwh": "kWh", "_mwh": "MWh", "_ohm": "ohm", "_a": "A", "_kv": "kV", "_km": "km", "_mm": "mm"}
UNITS |= {"_kva": "kVA", "_kvar": "kvar", "_siemens": "siemens", "_bar_g": "bar", "_m": "m", "_degc": "degC"}
UNITS |= {"_eur_per_mwh": "EUR/MWh", "_eur_per_mvar2h": "EUR/(Mvar^2 h)", "_eur_per_mw2h": "EUR/(MW^2 h)"}
UNITS |= {"_usd_per_mwh": "EUR/MWh", "_usd_per_mw2h": "EUR/(MW^2 h)", "_eur_per_kwh": "EUR/kWh", "_eur_per_t": "EUR/t"}
"""Units by the end of a name."""


def unit_by_name(name: str) -> str:
    """The unit that a name ends with, such as kW of load_kw; empty if it ends with none."""
    ends = [end for end in UNITS if name.lower().endswith(end)]
    return UNITS[max(ends, key=len)] if ends else ""


def largest(unit: str) -> float:
    """The largest sensible size of a number of this unit."""
    return LARGEST_OF.get(unit.split(" ")[0].lower(), LARGEST)


def is_sensible(value: Any, unit: str = "") -> bool:
    """Whether a value of a file is no number so large that it must be a mistake.

    True for what is no number at all, and for those that are not finite: they have messages of their own.
    """
    if isinstance(value, bool) or not isinstance(value, int | float):
        return True
    return abs(value) <= largest(unit) or value != value or abs(value) == math.inf


def is_tiny(value: Any) -> bool:
    """Whether a number is so small that it must be a mistake, but not 0."""
    return isinstance(value, int | float) and 0 < abs(value) < LEAST


def expected(unit: str = "") -> str:
    """What a number of this unit is expected to be, in words."""
    return f"a number of at most {largest(unit):g}{f' {unit}' if unit else ''} in size; check its unit"


SENSIBLE = expected()
NOT_TINY = f"0, or a number of at least {LEAST:g} in size; check its unit"
