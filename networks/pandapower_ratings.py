"""The current limits of a pandapower network's branches, at the ends that pandapower's loading_percent looks at.

Lines: max_i_ka x df x parallel x max_loading_percent at both ends. Transformers, as by default (trafo_loading =
"current"): the rated current of each winding at its own terminal, times df x parallel x max_loading_percent.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from networks.pandapower_circuit import Circuit
from networks.pandapower_columns import Elements

NO_RATING_KA = 1000.0
"""Currents from here on stand for "no rating": no line carries a thousand kiloampere."""
FROM, TO = 0, 1


def end_limits_ka(net: Any, found: Circuit) -> list[dict[int, float]]:
    """{FROM or TO: limit in kA} of every branch of the circuit; empty where it has no rating."""
    limits = {
        "line": _by_element(Elements(net, "line"), _line),
        "trafo": _by_element(Elements(net, "trafo"), _trafo),
        "trafo3w": _by_element(Elements(net, "trafo3w"), _trafo3w),
        "switch": _by_element(Elements(net, "switch"), _switch),
    }
    words = [(kind.partition(" "), element) for kind, element in zip(found.table, found.element, strict=True)]
    return [limits.get(table, {}).get((element, side), {}) for (table, _, side), element in words]


def _by_element(elements: Elements, read: Callable[[Elements], Any]) -> dict[tuple[Any, str], dict[int, float]]:
    """{(element, winding): {end: kA}}, without limits that stand for none."""
    if not len(elements):
        return {}
    return {
        (element, side): {end: float(row[i]) for end, row in ends.items() if row[i] < NO_RATING_KA}
        for side, ends in read(elements).items()
        for i, element in enumerate(elements.index)
    }


def _loading(elements: Elements) -> np.ndarray:
    """The share of the rating that may be used; all of it where max_loading_percent is not given."""
    return elements.above_0("max_loading_percent", 100.0) / 100


def _line(lines: Elements) -> dict[str, dict[int, np.ndarray]]:
    limit = lines.above_0("max_i_ka") * lines.above_0("df", 1.0) * lines.numbers("parallel") * _loading(lines)
    return {"": {FROM: limit, TO: limit}}


def _trafo(trafos: Elements) -> dict[str, dict[int, np.ndarray]]:
    mva = trafos.numbers("sn_mva") * trafos.above_0("df", 1.0) * trafos.numbers("parallel") * _loading(trafos)
    return {"": {end: mva / np.sqrt(3) / trafos.numbers(f"vn_{side}_kv") for end, side in ((FROM, "hv"), (TO, "lv"))}}


def _trafo3w(trafos: Elements) -> dict[str, dict[int, np.ndarray]]:
    """The windings' terminals: the star point lies at the other end."""
    share = _loading(trafos)
    return {
        side: {end: trafos.numbers(f"sn_{side}_mva") * share / np.sqrt(3) / trafos.numbers(f"vn_{side}_kv")}
        for side, end in (("hv", FROM), ("mv", TO), ("lv", TO))
    }


def _switch(switches: Elements) -> dict[str, dict[int, np.ndarray]]:
    """Closed switches with an impedance are branches; they may have a rating."""
    limit = switches.numbers("in_ka", np.inf)
    return {"": {FROM: np.where(limit > 0, limit, np.inf)}}
