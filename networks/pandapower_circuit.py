"""The circuit that pandapower's power flow solves, taken from pandapower's own conversion, and named again.

`pandapower.converter.pypower.to_ppc` makes per-unit tables of buses and branches: taps, no-load losses, three-winding
transformers, open ends and switches are as the installed version takes them. Empty cells and references to nothing are
refused before, because pandapower would pass them on. Elements out of service are left out before, too.
"""

from __future__ import annotations

import copy
from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import product
from typing import Any

import numpy as np

from admm import InputError
from networks.pandapower_columns import WHOSE, Elements, check_base, is_empty
from networks.pandapower_refusals import other_tables
from networks.pandapower_taps import PREFIXES, check_shunt_steps, check_taps, ignored_taps, refuse_phase_shift
from networks.pandapower_types import check_types
from networks.pandapower_unconverted import why_unconverted

NEEDED = {
    "line": ("r_ohm_per_km", "x_ohm_per_km", "length_km", "c_nf_per_km", "g_us_per_km"),
    "trafo": ("vk_percent", "vkr_percent", "pfe_kw", "i0_percent", "shift_degree"),
    "trafo3w": (
        *("vk_hv_percent", "vk_mv_percent", "vk_lv_percent", "vkr_hv_percent", "vkr_mv_percent", "vkr_lv_percent"),
        *("pfe_kw", "i0_percent", "shift_mv_degree", "shift_lv_degree"),
    ),
    "impedance": ("rft_pu", "xft_pu", "rtf_pu", "xtf_pu", "gf_pu", "bf_pu", "gt_pu", "bt_pu"),
    "shunt": ("p_mw", "q_mvar", "step"),
    "ward": ("ps_mw", "qs_mvar", "pz_mw", "qz_mvar"),
}
"""Columns that may hold any number but not be empty."""
ABOVE_0 = {
    "bus": ("vn_kv",),
    "line": ("parallel",),
    "trafo": ("sn_mva", "vn_hv_kv", "vn_lv_kv", "vk_percent", "parallel"),
    "trafo3w": (
        *("sn_hv_mva", "sn_mv_mva", "sn_lv_mva", "vn_hv_kv", "vn_mv_kv", "vn_lv_kv"),
        *("vk_hv_percent", "vk_mv_percent", "vk_lv_percent"),
    ),
    "impedance": ("sn_mva",),
}
AT_LEAST_0 = {
    "line": ("r_ohm_per_km", "x_ohm_per_km", "length_km"),
    "trafo": ("vkr_percent",),
    "trafo3w": ("vkr_hv_percent", "vkr_mv_percent", "vkr_lv_percent"),
}
MOST_PARALLEL = 1000
"""Equal lines or transformers in one element beyond which their number is a mistake."""
ENDS = {
    "line": ("from_bus", "to_bus"),
    "trafo": ("hv_bus", "lv_bus"),
    "trafo3w": ("hv_bus", "mv_bus", "lv_bus"),
    "impedance": ("from_bus", "to_bus"),
}
SWITCHED = {"l": "line", "t": "trafo", "t3": "trafo3w"}
AT_BUS = ("shunt", "ward", "ext_grid", "gen", "load", "sgen", "storage", "motor", "asymmetric_load", "asymmetric_sgen")
SWITCH_COLUMNS = ("bus", "et", "element", "closed", "z_ohm")
SIDES = ("hv", "mv", "lv")
OPTIONAL = ("df", "leakage_resistance_ratio_hv", "leakage_reactance_ratio_hv")
"""Columns that need not be there, but mean nothing where they are empty."""
FLAGS = (
    *("in_service", "slack", "tap_dependency_table", "tap_at_star_point", "step_dependency_table"),
    *("tap_phase_shifter", "tap2_phase_shifter"),
)
TEXTS = ("name", "std_type", "type", "geo", "zone", "tap_side", "tap2_side", "tap_changer_type", "tap2_changer_type")
SENSIBLE_RATIO = 5.0
"""Ratios over the nominal one beyond which, or below the inverse of which, a transformer's numbers are mistakes."""
# columns of pandapower's tables; its own modules that name them are not public
F_BUS, T_BUS, BR_R, BR_X, BR_B, TAP, SHIFT, BR_STATUS = 0, 1, 2, 3, 4, 8, 9, 10
GS, BS, BASE_KV = 4, 5, 9


@dataclass(frozen=True)
class Circuit:
    """Nodes and branches per unit of each bus's own nominal voltage, on the network's sn_mva.

    node: {bus: node}, buses that are supplied. vn_kv, shunt_mva: (N,). names: (M,) of branches. table, element: (M,)
    where each comes from. ends: (M, 2) nodes. impedance: (M,). shunts: (M, 2) admittances at both ends, behind the
    ratio at the from end. ratio: (M,) of the voltages from / to. shift_degree: (M,). inner: {node: its name}, nodes
    that are no bus. notes: what a user should know, a sentence each.
    """

    sn_mva: float
    node: dict[int, int]
    vn_kv: np.ndarray
    shunt_mva: np.ndarray
    names: list[str]
    table: list[str]
    element: list[Any]
    ends: np.ndarray
    impedance: np.ndarray
    shunts: np.ndarray
    ratio: np.ndarray
    shift_degree: np.ndarray
    inner: dict[int, str]
    notes: list[str] = field(default_factory=list)


def checked_tables(net: Any) -> dict[str, Elements]:
    """The elements in service of every table. Raise InputError for cells that are empty or refer to nothing."""
    check_types(net)
    check_base(net, "sn_mva", "f_hz")
    tables = {name: Elements(net, name) for name in ("bus", *ENDS, *AT_BUS)}
    for elements in tables.values():
        elements.require("in_service", "True and False")
    _check_numbers(tables)
    known = {int(index) for index in net.bus.index}
    for name, columns in {**ENDS, **dict.fromkeys(AT_BUS, ("bus",))}.items():
        for column in columns:
            tables[name].buses(column, known)
    _check_switches(net, known)
    for name in ("trafo", "trafo3w"):
        check_taps(net, tables[name])
    check_shunt_steps(net, tables["shunt"])
    return tables


def circuit(net: Any, tables: dict[str, Elements]) -> Circuit:
    """Convert a network whose elements a feeder can represent. tables: see `checked_tables`."""
    notes = [*ignored_taps(tables["trafo"]), *ignored_taps(tables["trafo3w"]), *_open_at_buses(tables)]
    return _converted(_in_service(net, tables), notes)


def _check_numbers(tables: dict[str, Elements]) -> None:
    for name, columns in NEEDED.items():
        for column in columns:
            tables[name].numbers(column)
    for name, columns in ABOVE_0.items():
        for column in columns:
            tables[name].above_0(column)
    tables["shunt"].above_0("vn_kv", default=1.0)
    tables["ext_grid"].numbers("va_degree")
    for name in ("line", "trafo", "trafo3w"):
        for column in filter(tables[name].has, OPTIONAL):
            tables[name].numbers(column)
    tables["trafo"].above_0("df", 1.0)
    for name in ("trafo", "trafo3w"):
        for column in product(PREFIXES, ("pos", "neutral", "step_percent", "step_degree")):
            tables[name].numbers("_".join(column), default=np.nan)
    for name, columns in AT_LEAST_0.items():
        for column in columns:
            _check_range(tables[name], column, 0.0, np.inf)
    for name in ("line", "trafo"):
        _check_range(tables[name], "parallel", 0.0, MOST_PARALLEL)
    _check_range(tables["motor"], "cos_phi", 0.0, 1.0)
    for name, sides in (("trafo", ("",)), ("trafo3w", ("hv_", "mv_", "lv_"))):
        for side in sides:
            _check_short_circuit(tables[name], f"vk_{side}percent", f"vkr_{side}percent")


def _check_range(elements: Elements, column: str, least: float, most: float) -> None:
    for index, number in zip(elements.index, elements.numbers(column), strict=True):
        if not least <= number <= most:
            expected = f"at least {least:g}" if most == np.inf else f"{least:g} to {most:g}"
            raise InputError(f"{WHOSE}: {elements.name} {index}: {column} is {number:g}, expected {expected}")


def _check_short_circuit(trafos: Elements, whole: str, real: str) -> None:
    """Refuse a resistance above the impedance, which leaves no reactance."""
    rows = zip(trafos.index, trafos.numbers(whole), trafos.numbers(real), strict=True)
    for index, vk, vkr in rows:
        if vkr > vk:
            raise InputError(f"{WHOSE}: {trafos.name} {index}: {real} is {vkr:g}, expected at most {whole} {vk:g}")


def _check_switches(net: Any, known: set[int]) -> None:
    switches = Elements(net, "switch")
    switches.buses("bus", known)
    for key in SWITCH_COLUMNS:
        switches.require(key, "those of pandapower")
    columns = [switches.cells(key) for key in SWITCH_COLUMNS]
    for index, bus, kind, element, closed, impedance in zip(switches.index, *columns, strict=True):
        where = f"{WHOSE}: switch {index}"
        if is_empty(closed) or closed not in (True, False):
            raise InputError(f"{where}: closed is {closed!r}, expected True or False")
        if kind == "b":
            if element not in known:
                raise InputError(f"{where}: element is {element!r}, which is no bus")
            if is_empty(impedance) or not float(impedance) >= 0:
                raise InputError(f"{where}: z_ohm is {impedance!r}, expected a number of at least 0")
        elif kind not in list(SWITCHED):  # whatever it is, hashable or not
            raise InputError(f"{where}: et is {kind!r}, expected 'b', 'l', 't' or 't3'")
        elif element not in net[SWITCHED[kind]].index:
            raise InputError(f"{where}: element is {element!r}, which is no {SWITCHED[kind]}")
        elif not closed and bus not in [net[SWITCHED[kind]].at[element, end] for end in ENDS[SWITCHED[kind]]]:
            raise InputError(f"{where}: bus {bus} is no end of {SWITCHED[kind]} {element}")


def _open_at_buses(tables: dict[str, Elements]) -> Iterator[str]:
    """Name branches at buses out of service: lines charge on from their other end, all others carry nothing."""
    alive = {int(index) for index in tables["bus"].index}
    for name, columns in ENDS.items():
        rows = zip(tables[name].named(), *(tables[name].cells(column) for column in columns), strict=True)
        for words, *buses in rows:
            out = [str(bus) for bus in buses if int(bus) not in alive]
            if out:
                what = "it is open there" if name == "line" and len(out) == 1 else "it is left out"
                yield f"{words} ends at bus {', '.join(out)}, which is out of service: {what}"


def _in_service(net: Any, tables: dict[str, Elements]) -> Any:
    """A copy without elements out of service, results, and switches of what is left out; its columns have types."""
    import pandas

    kept = copy.copy(net)
    kept["_pd2ppc_lookups"] = copy.deepcopy(net.get("_pd2ppc_lookups", {}))  # pandapower writes there
    for name in list(kept.keys()):
        if name.startswith("res_"):
            kept[name] = kept[name].iloc[:0].copy() if isinstance(kept[name], pandas.DataFrame) else kept[name]
    for name in other_tables(net):  # all out of service; pandapower makes rows of them nevertheless
        kept[name] = net[name].iloc[:0]
    for name, elements in tables.items():
        if name != "bus" and elements.frame is not None:
            kept[name] = _typed(elements.frame, ENDS.get(name, ("bus",)))
    alive = set(tables["bus"].index)
    kept["bus"] = net.bus.assign(in_service=np.array([bus in alive for bus in net.bus.index], dtype=bool))
    kept["bus"]["vn_kv"] = pandas.to_numeric(kept["bus"]["vn_kv"], errors="coerce")
    of_branch = net.switch["et"].map(SWITCHED)
    rows = zip(of_branch, net.switch["element"], strict=True)
    mine = [name not in ENDS or at in tables[name].frame.index for name, at in rows]
    switches = net.switch[np.array(mine, dtype=bool)]
    types = {"bus": np.int64, "element": np.int64, "closed": bool, "z_ohm": float}
    kept["switch"] = switches.assign(**{key: switches[key].astype(kind) for key, kind in types.items()})
    return kept


def _typed(frame: Any, bus_columns: tuple[str, ...]) -> Any:
    """The rows, which are checked, with columns of the types that pandapower makes."""
    import pandas

    found = frame.copy()
    for column in found.columns:
        if column in bus_columns:
            found[column] = found[column].astype(np.int64)
        elif column in FLAGS:
            found[column] = [not is_empty(cell) and bool(cell) for cell in found[column]]
            found[column] = found[column].astype(bool)
        elif column == "slack_weight":
            found[column] = 1.0  # of no use where there is one source
        elif found[column].dtype == object and column not in TEXTS:
            found[column] = pandas.to_numeric(found[column], errors="coerce")
    return found


def _converted(net: Any, notes: list[str]) -> Circuit:
    from pandapower.converter.pypower import to_ppc

    options = net.get("user_pf_options") or {}
    chosen = {key: options[key] for key in ("trafo_model", "switch_rx_ratio") if key in options}
    try:
        ppc = to_ppc(net, init="flat", mode="pf", **chosen)
    except InputError:
        raise
    except Exception as error:
        raise why_unconverted(net, error) from None
    rows, alive = ppc["branch"], ppc["bus"].shape[0]
    lookup = net["_pd2ppc_lookups"]["bus"]
    node = {int(bus): int(lookup[bus]) for bus in net.bus.index if net.bus.at[bus, "in_service"]}
    node = {bus: at for bus, at in node.items() if 0 <= at < alive}
    kept = np.asarray(ppc["internal"]["branch_is"], dtype=bool)
    sources = [one for one, mine in zip(_sources(net), kept, strict=True) if mine]
    extra = {key: np.real(np.broadcast_to(ppc.get(f"branch_{key}", 0.0), len(rows))) for key in EXTRA}
    if np.any(extra["r_asym"]) or np.any(extra["x_asym"]):
        at = int(np.argmax((extra["r_asym"] != 0) | (extra["x_asym"] != 0)))
        expected = "expected rft_pu = rtf_pu and xft_pu = xtf_pu"
        raise InputError(f"{WHOSE}: {sources[at][0]} has another impedance in each direction, {expected}")
    from_shunt = extra["g"] + 1j * np.real(rows[:, BR_B])
    ends = np.real(rows[:, [F_BUS, T_BUS]]).astype(int)
    tap = np.real(rows[:, TAP])
    found = Circuit(
        float(net.sn_mva),
        node,
        np.real(ppc["bus"][:, BASE_KV]),
        np.real(ppc["bus"][:, GS]) - 1j * np.real(ppc["bus"][:, BS]),
        *([one[i] for one in sources] for i in range(3)),
        ends,
        np.real(rows[:, BR_R]) + 1j * np.real(rows[:, BR_X]),
        np.stack([from_shunt, from_shunt + extra["g_asym"] + 1j * extra["b_asym"]], axis=1) / 2,
        np.where(tap == 0, 1.0, tap),
        np.real(rows[:, SHIFT]),
        {at: name for at, name in _inner(net, node, ends, sources).items() if 0 <= at < alive},
        notes,
    )
    _refuse_ratios(net, found)
    return found


EXTRA = ("g", "g_asym", "b_asym", "r_asym", "x_asym")


def _sources(net: Any) -> list[tuple[str, str, Any]]:
    """(name, table, element) of every row of pandapower's branch table, in its order."""
    found = [(f"line {i}", "line", i) for i in net.line.index]
    found += [(f"trafo {i}", "trafo", i) for i in net.trafo.index]
    found += [(f"trafo3w {i} {side}", f"trafo3w {side}", i) for side in SIDES for i in net.trafo3w.index]
    found += [(f"impedance {i}", "impedance", i) for i in net.impedance.index]
    bridged = np.asarray(net.get("_impedance_bb_switches", np.zeros(len(net.switch))), dtype=bool)
    return found + [(f"switch {i}", "switch", i) for i in net.switch.index[bridged]]


def _inner(net: Any, node: dict[int, int], ends: np.ndarray, sources: list[tuple[str, str, Any]]) -> dict[int, str]:
    """Names of nodes that are no bus: star points of transformers and open ends."""
    found, buses = {}, set(node.values())
    stars = net["_pd2ppc_lookups"].get("aux", {}).get("trafo3w", [])
    lookup = net["_pd2ppc_lookups"]["bus"]
    for index, star in zip(net.trafo3w.index, stars, strict=False):
        found[int(lookup[star])] = f"trafo3w {index} star"
    for pair, (name, _, _) in zip(ends, sources, strict=True):
        for at in map(int, pair):
            if at not in buses and at not in found:
                found[at] = f"{name} open end"
    return found


def _refuse_ratios(net: Any, found: Circuit) -> None:
    """Raise InputError for ratios that are no transformer's, and for taps that shift the phase."""
    for name, ratio in zip(found.names, found.ratio, strict=True):
        if not 1 / SENSIBLE_RATIO < ratio < SENSIBLE_RATIO:
            raise InputError(
                f"{WHOSE}: {name} has {ratio:.3g} times the ratio of its buses' vn_kv, expected about 1; "
                "check its rated voltages (vn_hv_kv, vn_lv_kv), tap_pos, tap_neutral and tap_step_percent"
            )
    nominal = {"trafo": "shift_degree", "trafo3w mv": "shift_mv_degree", "trafo3w lv": "shift_lv_degree"}
    for name, table, element, shift in zip(found.names, found.table, found.element, found.shift_degree, strict=True):
        group = float(net[table.split()[0]].at[element, nominal[table]]) if table in nominal else 0.0
        refuse_phase_shift(name, float(shift), group)
