"""What pandapower's own DC power flow makes of a network: nodes, branches and fixed consumption.

The network is solved once by `pandapower.rundcpp` in a copy, and its branch table is read. So taps, phase shifters,
three-winding transformers, switches, islands and everything else are as the installed pandapower takes them.
"""

from __future__ import annotations

import copy
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np

from admm import InputError
from networks.pandapower_columns import Elements, check_base
from networks.pandapower_tables import NO_RATING_KA, active, value
from networks.pandapower_taps import check_shunt_steps, check_taps
from networks.pandapower_types import check_types
from networks.pandapower_unconverted import why_unconverted
from networks.transmission_grid import BASE_MVA, TransmissionBranch

REFUSED = (
    *("dcline", "tcsc", "ssc", "vsc", "b2b_vsc", "line_dc", "bus_dc"),
    *("asymmetric_load", "asymmetric_sgen"),  # pandapower's DC power flow leaves them out
)
NEEDED = {
    "bus": ("vn_kv",),
    "line": ("from_bus", "to_bus", "length_km", "x_ohm_per_km", "parallel", "max_i_ka"),
    "trafo": (
        "hv_bus",
        "lv_bus",
        "sn_mva",
        "vn_hv_kv",
        "vn_lv_kv",
        "vk_percent",
        "vkr_percent",
        "parallel",
        "shift_degree",
    ),
    "trafo3w": (
        *(f"{key}_{side}_{unit}" for key, unit in (("sn", "mva"), ("vk", "percent")) for side in ("hv", "mv", "lv")),
        *(f"{key}_{unit}" for key, unit in (("vn_hv", "kv"), ("vn_mv", "kv"), ("vn_lv", "kv"))),
        *("vkr_hv_percent", "vkr_mv_percent", "vkr_lv_percent", "shift_mv_degree", "shift_lv_degree"),
    ),
    "impedance": ("from_bus", "to_bus", "xft_pu", "sn_mva"),
    "load": ("bus", "p_mw", "scaling"),
    "sgen": ("bus", "p_mw", "scaling"),
    "storage": ("bus", "p_mw", "scaling"),
    "motor": ("bus", "pn_mech_mw", "loading_percent", "efficiency_percent", "scaling"),
    "shunt": ("bus", "p_mw", "vn_kv", "step"),
    "ward": ("bus", "ps_mw", "pz_mw"),
    "xward": ("bus", "ps_mw", "pz_mw"),
    "ext_grid": ("bus",),
    "gen": ("bus",),
}
"""Cells without which an element in service means nothing to a DC power flow."""
RATINGS = ("max_i_ka",)
"""Columns that may be empty as a whole: the network has no ratings then."""
F_BUS, T_BUS, BR_X, TAP, SHIFT = 0, 1, 3, 8, 9
PD, GS, BUS_TYPE = 2, 4, 1
ISOLATED = 4
NO_RATING_MVA = 9e4
"""Transformers of this size stand for "no rating"; pandapower's converters write 99999 MVA."""
SIDES = ("hv", "mv", "lv")


@dataclass(frozen=True)
class DcNetwork:
    """names: of the nodes. node_of: {bus of the network: name of its node}, without buses that nothing supplies.

    fixed_mw: (nodes,) consumption of all elements but ext_grid and gen. isolated: buses in service without a supply.
    """

    names: tuple[str, ...]
    node_of: dict[int, str]
    branches: tuple[TransmissionBranch, ...]
    fixed_mw: np.ndarray
    isolated: tuple[int, ...]


def dc_network(net: Any) -> DcNetwork:
    """The network as pandapower's DC power flow has it. InputError names what it cannot take."""
    _refuse(net)
    solved = _solved(net)
    reader = _Reader(net, solved)
    table = solved._ppc["bus"][list(reader.names)].real
    return DcNetwork(
        tuple(reader.names.values()),
        reader.node_of,
        tuple(reader.branches()),
        table[:, PD] + table[:, GS],
        tuple(int(index) for index, _ in active(net, "bus") if int(index) not in reader.node_of),
    )


def _refuse(net: Any) -> None:
    for table in REFUSED:
        for index, _ in active(net, table):
            raise InputError(
                f"pandapower network: {table} {index} cannot be represented in a DC grid; put it out of service, "
                "or replace it by a load"
            )
    for table, columns in NEEDED.items():
        elements = getattr(net, table, None)
        if elements is None or len(elements) == 0:
            continue
        none_given = {key for key in RATINGS if key in elements.columns and elements[key].isna().all()}
        for index, row in active(net, table):
            for column in columns:
                if column in elements.columns and column not in none_given:
                    _check_cell(table, index, column, row[column])
        if "in_service" in elements.columns and elements["in_service"].isna().any():
            index = elements.index[elements["in_service"].isna()][0]
            raise InputError(f"pandapower network: {table} {index}: in_service is empty, expected True or False")
    check_types(net)
    check_base(net, "sn_mva")
    for table in ("trafo", "trafo3w"):
        check_taps(net, Elements(net, table))
    check_shunt_steps(net, Elements(net, "shunt"))
    for index, row in active(net, "line"):
        if value(row, "x_ohm_per_km", 1.0) * value(row, "length_km", 1.0) == 0:
            raise InputError(
                f"pandapower network: line {index} has no reactance, expected x_ohm_per_km and length_km other than 0; "
                "replace it by a closed bus-bus switch"
            )
    for index, row in active(net, "impedance"):
        if value(row, "xft_pu", 1.0) == 0:
            raise InputError(f"pandapower network: impedance {index} has xft_pu 0, expected another number")


def _check_cell(table: str, index: int, column: str, cell: Any) -> None:
    try:
        empty = cell is None or bool(np.isnan(float(cell)))
    except (TypeError, ValueError):
        raise InputError(f"pandapower network: {table} {index}: {column} is {cell!r}, expected a number") from None
    if empty:
        raise InputError(
            f"pandapower network: {table} {index}: {column} is empty, expected a number; fill it in, or put the "
            f"{table} out of service"
        )


def _solved(net: Any) -> Any:
    import pandapower

    work = copy.deepcopy(net)
    for table, columns in NEEDED.items():  # a column that also held text or nothing is a column of objects
        for column in set(columns) & set(work[table].columns):
            if work[table][column].dtype == object:
                work[table][column] = work[table][column].astype(float)
    for table in ("gen", "ext_grid"):  # set points are not used, and an empty one would spread
        for column in set(work[table].columns) & {"p_mw", "vm_pu", "va_degree"}:
            work[table][column] = work[table][column].fillna(1.0 if column == "vm_pu" else 0.0)
    try:
        pandapower.rundcpp(work)
    except Exception as error:
        raise why_unconverted(work, error, "pandapower's own DC power flow fails") from None
    return work


class _Reader:
    """Reads nodes and branches from a solved network. names: {row of pandapower's bus table: name of the node}."""

    def __init__(self, net: Any, solved: Any) -> None:
        self.net, self.solved = net, solved
        lookup, types = solved._pd2ppc_lookups["bus"], solved._ppc["bus"][:, BUS_TYPE]
        rows: dict[int, list[int]] = {}
        for index, _ in active(net, "bus"):
            row = int(lookup[index])
            if row >= 0 and types[row] != ISOLATED:
                rows.setdefault(row, []).append(int(index))
        self.names = {row: str(min(buses)) for row, buses in sorted(rows.items(), key=lambda one: min(one[1]))}
        self.node_of = {bus: self.names[row] for row, buses in rows.items() for bus in buses}
        self.kv = {name: value(net.bus.loc[int(name)], "vn_kv", 1.0) for name in self.names.values()}
        self._name_stars(types)

    def _name_stars(self, types: np.ndarray) -> None:
        """Star points of three-winding transformers are nodes, too."""
        stars = self.solved._pd2ppc_lookups.get("aux", {}).get("trafo3w", ())
        for index, star in zip(self.net.trafo3w.index, stars, strict=False):
            row = int(self.solved._pd2ppc_lookups["bus"][star])
            if self.net.trafo3w.loc[index, "in_service"] and types[row] != ISOLATED:
                self.names[row] = f"trafo3w {index}"

    def branches(self) -> Iterator[TransmissionBranch]:
        """Branches between two nodes; what hangs at an open switch carries nothing and is left out."""
        table, working = self.solved._ppc["branch"].real, self.solved._ppc["internal"]["branch_is"]
        for at, (name, rating_mw) in self._labels():
            row = table[at]
            start, end = (self.names.get(int(row[key])) for key in (F_BUS, T_BUS))
            if not working[at] or start is None or end is None or start == end:
                continue
            x_pu = row[BR_X] * BASE_MVA / self.net.sn_mva
            yield TransmissionBranch(name, start, end, x_pu, rating_mw, row[TAP] or 1.0, row[SHIFT])

    def _labels(self) -> Iterator[tuple[int, tuple[str, float]]]:
        """(row of the branch table, (name, rating in MW)) in pandapower's order."""
        for table, (begin, end) in self.solved._pd2ppc_lookups["branch"].items():
            if table == "xward":  # its inner branch carries no active power
                continue
            yield from zip(range(begin, end), self._labels_of(table), strict=True)

    def _labels_of(self, table: str) -> Iterator[tuple[str, float]]:
        if table == "switch":
            closed = self.net.switch[self.solved._impedance_bb_switches]
            yield from ((f"switch {index}", np.inf) for index in closed.index)
        elif table == "trafo3w":
            for side in SIDES:
                for index, row in self.net.trafo3w.iterrows():
                    yield f"trafo3w {index} {side}", self._trafo3w_rating(row, side)
        else:
            rating = {"line": self._line_rating, "trafo": self._trafo_rating, "impedance": _impedance_rating}[table]
            yield from ((f"{table} {index}", rating(row)) for index, row in self.net[table].iterrows())

    # --------------------------------------------- ratings: the power at which loading_percent reaches its limit

    def _line_rating(self, row: Any) -> float:
        current_ka = value(row, "max_i_ka", np.inf)
        if current_ka >= NO_RATING_KA:
            return np.inf
        limit = _limit(row) * current_ka * value(row, "df", 1.0) * value(row, "parallel", 1.0)
        return float(np.sqrt(3.0) * min(self._kv(row["from_bus"]), self._kv(row["to_bus"])) * limit)

    def _trafo_rating(self, row: Any) -> float:
        if value(row, "sn_mva", np.inf) >= NO_RATING_MVA:
            return np.inf
        size = value(row, "sn_mva", np.inf) * value(row, "df", 1.0) * value(row, "parallel", 1.0)
        ends = (("vn_hv_kv", "hv_bus"), ("vn_lv_kv", "lv_bus"))
        return _limit(row) * size / max(value(row, kv, 1.0) / self._kv(row[bus]) for kv, bus in ends)

    def _trafo3w_rating(self, row: Any, side: str) -> float:
        size = value(row, f"sn_{side}_mva", np.inf)
        return _limit(row) * size * self._kv(row[f"{side}_bus"]) / value(row, f"vn_{side}_kv", 1.0)

    def _kv(self, bus: Any) -> float:
        node = self.node_of.get(int(bus))
        return self.kv[node] if node else 1.0


def _limit(row: Any) -> float:
    return value(row, "max_loading_percent", 100.0) / 100


def _impedance_rating(row: Any) -> float:
    """pandapower has none; a MATPOWER case may have one."""
    cell = row.get("rating_mw", np.inf)
    return np.inf if np.isinf(cell) else value(row, "rating_mw", np.inf)
