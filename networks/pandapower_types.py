"""Refuses cells that are no numbers or flags where pandapower holds such, whether a flow needs them or not.

pandapower calculates with whole columns, so that a text in one of them stops it, and takes any text for a set flag.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from admm import InputError
from networks.pandapower_columns import WHOSE, Elements, is_empty

TABLES = (
    *("bus", "line", "trafo", "trafo3w", "impedance", "switch", "ext_grid", "gen", "load", "sgen", "storage", "motor"),
    *("asymmetric_load", "asymmetric_sgen", "shunt", "ward", "xward"),
)
FLAG, NUMBER = "b", "fiu"
"""Kinds of columns by numpy's letters."""


def check_types(net: Any) -> None:
    """Raise InputError for the first such cell of an element in service."""
    from pandapower.network_structure import get_structure_dict

    structure = get_structure_dict()
    for name in TABLES:
        elements = Elements(net, name)
        for column, dtype in structure[name].items() if len(elements) else ():
            kind = _kind(dtype)
            plain = FLAG if kind == FLAG else NUMBER  # in columns of these kinds no cell needs a look
            if elements.has(column) and kind in FLAG + NUMBER and _kind(elements.frame[column].dtype) not in plain:
                for index, cell in zip(elements.index, elements.cells(column), strict=True):
                    if not is_empty(cell) and not (_is_flag(cell) if kind == FLAG else _is_number(cell)):
                        expected = "True or False" if kind == FLAG else "a number"
                        raise InputError(f"{WHOSE}: {name} {index}: {column} is {cell!r}, expected {expected}")


def _kind(dtype: Any) -> str:
    """numpy's letter of a type, that of pandas' own types included."""
    return getattr(dtype, "kind", "") or np.dtype(dtype).kind


def _is_flag(cell: Any) -> bool:
    return isinstance(cell, (bool, np.bool_, int, float, np.number)) and cell in (0, 1)


def _is_number(cell: Any) -> bool:
    """Whether it is a number, or a text that reads as one."""
    if isinstance(cell, (bool, np.bool_)):
        return False
    try:
        float(cell)
    except (TypeError, ValueError):
        return False
    return True
