"""Says why pandapower does not convert a network: it raises errors without the element, the column and what to do."""

from __future__ import annotations

from typing import Any

import numpy as np

from admm import InputError
from networks.pandapower_columns import WHOSE, Elements, is_empty
from networks.pandapower_types import TABLES
from networks.radial import listed

MOST_LETTERS = 160
SET_POINTS = {"vm_pu": ("ext_grid", "gen"), "va_degree": ("ext_grid",)}
"""What holds a voltage or an angle; what does so at one bus must agree."""


def why_unconverted(net: Any, error: Exception, what: str = "pandapower cannot convert it") -> InputError:
    """Make the refusal of a network at which pandapower raised the error. what: failed, in words for other errors."""
    if isinstance(error, (KeyError, AttributeError)):
        found = _missing_column(net, str(error))
    else:
        found = _other_set_points(net) if isinstance(error, UserWarning) else None
    if found is None:
        words = " ".join(str(error).split()).rstrip(".")[:MOST_LETTERS]
        words = words if isinstance(error, UserWarning) else f"{type(error).__name__}: {words}"
        found = f"{what} ({words}); check it with pandapower.diagnostic"
    return InputError(f"{WHOSE}: {found}")


def _missing_column(net: Any, words: str) -> str | None:
    """Name the column that pandapower looked for, and the tables that have rows but not this column."""
    import pandapower

    made = pandapower.create_empty_network()
    for column in sorted({column for name in TABLES for column in made[name].columns}, key=len, reverse=True):
        if f"'{column}'" in words:
            tables = [name for name in TABLES if column in made[name] and len(net[name]) and column not in net[name]]
            if tables:
                return f"{listed(tables)} has no column {column}, which pandapower needs; add it"
    return None


def _other_set_points(net: Any) -> str | None:
    """Name two elements at one bus, or at buses that switches join, that hold it at different values."""
    lookup = net.get("_pd2ppc_lookups", {}).get("bus", ())
    for column, tables in SET_POINTS.items():
        held: dict[int, tuple[str, float]] = {}
        for elements in (Elements(net, name) for name in tables):
            values = elements.numbers(column, np.nan)
            for name, bus, value in zip(elements.named(), elements.cells("bus"), values, strict=True):
                at = int(lookup[int(bus)]) if int(bus) < len(lookup) else -1
                first, other = held.setdefault(at, (name, value))
                if at >= 0 and not is_empty(value) and value != other:
                    return (
                        f"{name}: {column} is {value:g}, but {first} at the same bus has {other:g}; expected one "
                        f"value, give both the same {column}"
                    )
    return None
