"""What both imports read from a pandapower network: buses, switches, transformers, constant power.

pandapower takes 2 to 3 seconds to import, so it is imported where a JSON file is read and nowhere else.
"""

from __future__ import annotations

import json
import logging
import os
import re
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from admm import InputError
from networks.matpower_import import network_from_matpower
from networks.pandapower_columns import is_empty
from networks.source_files import ELECTRIC, is_matpower, read_json, refuse_content, refuse_foreign
from subproblems.devices.sizes import SENSIBLE, is_sensible

REFUSED = (
    "trafo3w",
    "impedance",
    "ward",
    "xward",
    "dcline",
    "svc",
    "tcsc",
    "ssc",
    "vsc",
    "motor",
    "asymmetric_load",
    "asymmetric_sgen",
    "line_dc",
    "bus_dc",
    "b2b_vsc",
)
"""Element tables that neither import can represent."""
NO_RATING_KA = 1000.0
"""Currents from here on stand for "no rating": no line carries a thousand kiloampere."""


def open_network(source: Any, costs: bool = False) -> Any:
    """Returns a pandapower network as it is, or reads it from a file.

    Args:
        source: a pandapower network, or the path of its JSON file or of a MATPOWER case.
        costs: whether a MATPOWER case's costs are converted, too.
    """
    if hasattr(source, "bus") and hasattr(source, "ext_grid"):
        return source
    path = Path(source)
    if not os.path.isfile(path):
        raise InputError(f"{path}: no such file, expected {ELECTRIC}")
    if is_matpower(path):
        refuse_foreign(path, ELECTRIC)
        with quiet():
            return network_from_matpower(path, costs)
    content = read_json(path, ELECTRIC)
    if not _is_electric(content):
        refuse_content(path, content, ELECTRIC)
    import pandapower

    try:
        with quiet():
            net = pandapower.from_json_string(json.dumps(data_only(content)), convert=True)
    except Exception as error:
        raise InputError(f"{path}: pandapower cannot read it ({type(error).__name__}: {error})") from None
    if not hasattr(net, "ext_grid"):
        raise InputError(f"{path}: holds no pandapower network, expected {ELECTRIC}")
    return net


def _is_electric(content: Any) -> bool:
    """Whether JSON may be a pandapower network; those of old versions say so by their tables only."""
    if not isinstance(content, dict):
        return False
    return content["_class"] == "pandapowerNet" if "_class" in content else {"bus", "ext_grid"} <= content.keys()


DATA_CLASSES = {
    ("pandapower.auxiliary", "pandapowerNet"),
    ("pandas.core.frame", "DataFrame"),
    ("pandas", "DataFrame"),
    ("pandas.core.series", "Series"),
    ("pandas", "Series"),
    *(("numpy", kind) for kind in ("array", "bool", "bool_", "int32", "int64", "float32", "float64")),
    *(("builtins", kind) for kind in ("complex", "tuple", "set", "frozenset")),
}
"""What may be made from a file: tables of numbers and text."""


UNUSED = ("profiles", "loadcases")
"""Entries of SimBench's networks that no power flow needs; a year of profiles takes ten seconds to read."""
CLASS_WORDS = re.compile(r"_class|_module|\\")
"""What a text must hold to name a class; a backslash, as it may spell the words otherwise."""


def data_only(content: Any) -> Any:
    """What a JSON file holds without what is no data: left out of tables by name, null in a list.

    pandapower makes an object of any class that a file names, and imports its module for that; controllers and
    the like are of no use here, and a file from elsewhere shall run nothing.
    """
    if isinstance(content, list):
        return [data_only(value) if isinstance(value, (dict, list)) else value for value in content]
    if not isinstance(content, dict):
        return content
    if ("_class" in content or "_module" in content) and (
        (content.get("_module"), content.get("_class")) not in DATA_CLASSES
    ):
        return None
    kept = {key: data_only(value) for key, value in content.items() if key not in UNUSED}
    found = {key: value for key, value in kept.items() if value is not None or content[key] is None}
    text = found.get("_object")
    if isinstance(text, str):  # a table is text that is JSON again; a path there would be read
        table = json.loads(text)
        found["_object"] = json.dumps(data_only(table)) if CLASS_WORDS.search(text) else text
    return found


@contextmanager
def quiet() -> Iterator[None]:
    """Without what pandapower logs and pandas warns of: what matters is checked afterwards."""
    logger, nowhere = logging.getLogger("pandapower"), logging.NullHandler()  # its modules set levels of their own
    handlers, propagate = logger.handlers, logger.propagate
    logger.handlers, logger.propagate = [nowhere], False
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logger.handlers, logger.propagate = handlers, propagate


@contextmanager
def explained() -> Iterator[None]:
    """Tables whose columns, types or references are not those of pandapower end in an InputError."""
    try:
        with quiet():
            yield
    except InputError:
        raise
    except (AttributeError, LookupError, TypeError, ValueError, ArithmeticError) as error:
        raise InputError(
            f"pandapower network: a table is not as pandapower makes it ({type(error).__name__}: {error}); "
            "check it with pandapower.diagnostic"
        ) from None


def active(net: Any, table: str) -> Iterator[tuple[int, Any]]:
    """(index, row) of the elements of a table that are in service."""
    elements = getattr(net, table, None)
    if elements is None:
        return
    for index, row in elements.iterrows():
        if bool(row.get("in_service", True)):
            yield index, row


def bus_titles(net: Any) -> dict[str, str]:
    """{index of a bus: its name}, without buses that have none."""
    names = net.bus["name"].items() if "name" in net.bus else ()
    return {str(index): str(name) for index, name in names if not is_empty(name)}


def refuse_unknown(net: Any) -> None:
    """InputError if an element in service cannot be represented."""
    for table in REFUSED:
        for index, _ in active(net, table):
            raise InputError(
                f"pandapower network: {table} {index} cannot be represented; put it out of service, or replace it"
            )


def value(row: Any, key: str, default: float) -> float:
    """A cell as a number; the default where it is missing or empty."""
    cell = row.get(key, default)
    try:
        number = float(default if cell is None else cell)
    except (TypeError, ValueError):
        raise InputError(f"pandapower network: {key} of '{row.name}' is {cell!r}, expected a number") from None
    if not is_sensible(number):
        raise InputError(f"pandapower network: {key} of '{row.name}' is {number:g}, expected {SENSIBLE}")
    return default if np.isnan(number) else number


def fused_buses(net: Any) -> dict[int, int]:
    """{bus: bus that stands for it}: buses in service, those joined by closed switches under the smallest index."""
    stands_for = {int(index): int(index) for index, _ in active(net, "bus")}

    def root(bus: int) -> int:
        while stands_for[bus] != bus:
            bus = stands_for[bus]
        return bus

    for index, switch in net.switch.iterrows():
        if switch["et"] != "b" or not switch["closed"]:
            continue
        if value(switch, "z_ohm", 0.0) > 0:
            raise InputError(f"pandapower network: switch {index} has an impedance; replace it by a line")
        ends = [int(switch["bus"]), int(switch["element"])]
        if all(bus in stands_for for bus in ends):
            low, high = sorted(map(root, ends))
            stands_for[high] = low
    return {bus: root(bus) for bus in stands_for}


def open_ends(net: Any, kind: str, index: int) -> set[int]:
    """Buses at which a switch opens the line ("l") or transformer ("t")."""
    mine = net.switch[(net.switch["et"] == kind) & (net.switch["element"] == index)]
    return {int(bus) for bus, closed in zip(mine["bus"], mine["closed"], strict=True) if not closed}


@dataclass(frozen=True)
class Power:
    """Constant consumption of one element of a table at a bus, MW and Mvar."""

    bus: int
    p_mw: float
    q_mvar: float
    table: str


def constant_power(net: Any) -> Iterator[Power]:
    """Loads, static generators (negative), storages and shunts (at 1 pu), with their scaling."""
    for table, sign in (("load", 1.0), ("sgen", -1.0), ("storage", 1.0)):
        for index, row in active(net, table):
            shares = [key for key in row.index if str(key).startswith("const_") and value(row, key, 0.0) != 0]
            if shares:
                raise InputError(
                    f"pandapower network: {table} {index} has {shares[0]} = {row[shares[0]]}, "
                    "expected constant power only"
                )
            factor = sign * value(row, "scaling", 1.0)
            yield Power(int(row["bus"]), factor * value(row, "p_mw", 0.0), factor * value(row, "q_mvar", 0.0), table)
    for _, row in active(net, "shunt"):
        step = value(row, "step", 1.0)
        yield Power(int(row["bus"]), step * value(row, "p_mw", 0.0), step * value(row, "q_mvar", 0.0), "shunt")


@dataclass(frozen=True)
class Transformer:
    """hv_kv, lv_kv: rated voltages with the tap. r_ohm, x_ohm: seen from the low-voltage side.

    p_mw, q_mvar: no-load consumption at rated voltage.
    """

    name: str
    hv_bus: int
    lv_bus: int
    hv_kv: float
    lv_kv: float
    r_ohm: float
    x_ohm: float
    rating_mva: float
    shift_degree: float
    p_mw: float
    q_mvar: float


def transformers(net: Any) -> Iterator[Transformer]:
    """Transformers in service that no switch opens."""
    for index, row in active(net, "trafo"):
        if not open_ends(net, "t", index):
            yield _transformer(index, row)


def _transformer(index: int, row: Any) -> Transformer:
    name, parallel = f"trafo {index}", value(row, "parallel", 1.0)
    rated_mva = value(row, "sn_mva", 0.0) * parallel
    vk, vkr = value(row, "vk_percent", 0.0) / 100, value(row, "vkr_percent", 0.0) / 100
    if rated_mva <= 0 or vk <= 0 or vkr > vk:
        raise InputError(
            f"pandapower network: {name} has sn_mva {rated_mva:g}, vk_percent {100 * vk:g}, vkr_percent {100 * vkr:g}"
        )
    hv_kv, lv_kv = _tapped(name, row)
    ohm = lv_kv**2 / rated_mva
    iron, no_load = value(row, "pfe_kw", 0.0) * parallel / 1e3, value(row, "i0_percent", 0.0) / 100 * rated_mva
    loading = value(row, "max_loading_percent", 100.0) / 100
    return Transformer(
        name,
        int(row["hv_bus"]),
        int(row["lv_bus"]),
        hv_kv,
        lv_kv,
        vkr * ohm,
        np.sqrt(vk**2 - vkr**2) * ohm,
        rated_mva * value(row, "df", 1.0) * loading,
        value(row, "shift_degree", 0.0),
        iron,
        np.sqrt(max(no_load**2 - iron**2, 0.0)),
    )


def _tapped(name: str, row: Any) -> tuple[float, float]:
    """Rated voltages in kV with the tap changer's ratio; changers of the angle are refused."""
    voltages = {"hv": value(row, "vn_hv_kv", 0.0), "lv": value(row, "vn_lv_kv", 0.0)}
    for prefix in ("tap", "tap2"):
        steps = value(row, f"{prefix}_pos", 0.0) - value(row, f"{prefix}_neutral", value(row, f"{prefix}_pos", 0.0))
        if steps == 0:
            continue
        if value(row, f"{prefix}_step_degree", 0.0) != 0 or bool(row.get("tap_dependency_table", False)):
            raise InputError(
                f"pandapower network: {name}: its tap changer shifts the angle or follows a table, "
                "expected a plain ratio"
            )
        side = row.get(f"{prefix}_side")
        if side not in voltages:
            raise InputError(f"pandapower network: {name}: {prefix}_side is {side!r}, expected 'hv' or 'lv'")
        voltages[side] *= 1 + steps * value(row, f"{prefix}_step_percent", 0.0) / 100
    return voltages["hv"], voltages["lv"]


def line_rating_mva(row: Any, base_kv: float) -> float:
    """MVA at 1 pu; infinite where the table has no real rating."""
    current_ka = value(row, "max_i_ka", np.inf)
    if current_ka >= NO_RATING_KA:
        return np.inf
    factor = value(row, "df", 1.0) * value(row, "parallel", 1.0) * value(row, "max_loading_percent", 100.0) / 100
    return float(np.sqrt(3.0) * base_kv * current_ka * factor)
