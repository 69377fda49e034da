"""The tables of a radial feeder, as rows or as CSV files; the feeder itself is in `networks.feeder_model`."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from admm import InputError
from networks.branch_currents import EndRating, RatedCurrents
from networks.feeder_merging import merged_tables
from networks.feeder_model import BASE_MVA, OPTIONAL_POWERS, V_MAX_PU, V_MIN_PU, Feeder
from networks.feeder_rows import FeederBranch, FeederNode
from networks.radial import check_ends, check_no_loop, listed, outwards
from networks.tables import TableRow, read_table
from subproblems.devices.sizes import LEAST

__all__ = [
    "BASE_MVA",
    "V_MAX_PU",
    "V_MIN_PU",
    "Feeder",
    "FeederBranch",
    "FeederNode",
    "feeder_from_tables",
    "read_feeder_csv",
]


def feeder_from_tables(
    name: str,
    root: str,
    nodes: Sequence[FeederNode],
    branches: Sequence[FeederBranch],
    slack_voltage_pu: float = 1.0,
    aliases: Mapping[str, str] | None = None,
    notes: Sequence[str] = (),
) -> Feeder:
    """Make a feeder from its tables, in any order. InputError names the loop, the island or the double name.

    Parallel branches are merged, see `networks.feeder_merging`. aliases, notes: go before those of the merging.
    """
    by_name = _by_name(name, nodes)
    if root not in by_name:
        raise InputError(
            f"feeder '{name}': the root is '{root}', which is no node; its nodes are {listed(list(by_name))}"
        )
    check_ends(name, by_name, branches)
    _check_impedances(name, branches)
    merged = merged_tables(root, nodes, branches)
    branches, by_name = merged.branches, {node.name: node for node in merged.nodes}
    root = merged.aliases.get(root, root)
    check_no_loop(name, by_name, branches)
    order, feeding = outwards(root, list(by_name), branches)
    lost = [node for node in by_name if node not in feeding and node != root]
    if lost:
        raise InputError(f"feeder '{name}': no closed branch connects {listed(lost)} with the root '{root}'")
    at = {node: position for position, node in enumerate(order)}
    mine = [feeding[node] for node in order[1:]]
    table = [by_name[node] for node in order]
    ends = [_ends(above, branch) for above, branch in mine]
    return Feeder(
        name=name,
        nodes=tuple(order),
        branches=tuple(branch.name for _, branch in mine),
        parent=np.array([at[above] for above, _ in mine], dtype=int),
        r_pu=np.array([branch.r_pu for _, branch in mine]),
        x_pu=np.array([branch.x_pu for _, branch in mine]),
        i_max_pu=np.array([branch.i_max_pu for _, branch in mine]),
        load_p_mw=np.array([node.p_mw for node in table]),
        load_q_mvar=np.array([node.q_mvar for node in table]),
        v_min_pu=np.array([node.v_min_pu for node in table]),
        v_max_pu=np.array([node.v_max_pu for node in table]),
        base_kv=np.array([node.base_kv for node in table]),
        slack_voltage_pu=slack_voltage_pu,
        nominal_kv=np.array([node.base_kv if node.nominal_kv is None else node.nominal_kv for node in table]),
        **{key: np.array([getattr(node, key) for node in table]) for key in OPTIONAL_POWERS},
        sending_shunt_mva=np.array([sending for sending, _ in ends]),
        receiving_shunt_mva=np.array([receiving for _, receiving in ends]),
        currents=_rated(mine),
        aliases={**{key: merged.aliases.get(node, node) for key, node in (aliases or {}).items()}, **merged.aliases},
        notes=(*notes, *merged.notes),
    )


def _by_name(feeder: str, nodes: Sequence[FeederNode]) -> dict[str, FeederNode]:
    found: dict[str, FeederNode] = {}
    for node in nodes:
        if node.name in found:
            raise InputError(f"feeder '{feeder}': two nodes are called '{node.name}': give each its own name")
        found[node.name] = node
    return found


def _check_impedances(feeder: str, branches: Sequence[FeederBranch]) -> None:
    for branch in branches:
        for key in ("r_pu", "x_pu"):
            number = getattr(branch, key)
            if not (np.isfinite(number) and (number >= 0 or branch.equivalent)):
                raise InputError(
                    f"feeder '{feeder}', '{branch.name}': {key} is {number:g}, expected a number of at least 0"
                )


def _ends(above: str, branch: FeederBranch) -> tuple[complex, complex]:
    """Admittances at the sending and at the receiving end of a branch that is fed from `above`."""
    pair = branch.from_shunt_mva, branch.to_shunt_mva
    return pair if branch.from_node == above else pair[::-1]


def _rated(feeding: Sequence[tuple[str, FeederBranch]]) -> RatedCurrents:
    """The rated currents of branches in the feeder's order; both ends of those that name none."""
    rows = []
    for b, (above, branch) in enumerate(feeding):
        ratings = branch.ratings or (EndRating(True, branch.from_shunt_mva), EndRating(False, branch.to_shunt_mva))
        if not branch.ratings and not branch.from_shunt_mva and not branch.to_shunt_mva:
            ratings = (EndRating(branch.from_node == above),)  # without admittances both ends carry the same
        rows += [(b, one.at_from != (branch.from_node == above), one.shunt_mva, one.factor) for one in ratings]
    return RatedCurrents(*map(np.array, zip(*rows, strict=True))) if rows else None


KNOWN_BUS = ("bus", "type", "base_kV", "Pd_kW", "Qd_kvar", "Vmin_pu", "Vmax_pu")
KNOWN_BRANCH = ("branch", "from_bus", "to_bus", "r_ohm", "x_ohm", "tie", "I_max_A")
CHARGING = "b_siemens"
INFORMATION = ("name", "open_in_best_known_reconfig")
"""Columns that say nothing about physics, beside results, whose names contain `RESULT`."""
RESULT = "_base_case_"
PHYSICS = re.compile(r"(_(ohm|siemens|us|s|pu|ka|a|kv|v|mva|kva|mw|kw|mvar|kvar|km|deg|percent)|status|service|ratio)$")
"""Ends of names, in small letters, of columns that change a power flow."""


def read_feeder_csv(folder: Path | str, slack_voltage_pu: float = 1.0) -> Feeder:
    """Read the feeder in folder/bus.csv and folder/branch.csv; branches with tie = 1 are open and left out.

    Ohm become per unit by r / kV^2 and amperes MVA at 1 pu by sqrt(3) kV A / 1000 (base 1 MVA). b_siemens, which may
    be missing, is the charging of the whole branch, half of it at each end.
    """
    folder = Path(folder)
    buses, lines = read_table(folder / "bus.csv", KNOWN_BUS), read_table(folder / "branch.csv", KNOWN_BRANCH)
    notes = [*_unused(buses, KNOWN_BUS), *_unused(lines, (*KNOWN_BRANCH, CHARGING))]
    roots = [row for row in buses if _type(row) == "slack"]
    if len(roots) != 1:
        names = ", ".join(row.text("bus") for row in roots) or "none"
        raise InputError(f"{folder / 'bus.csv'}: buses of type slack: {names}; expected exactly one root")
    kv = roots[0].number("base_kV")
    _check_buses(buses, kv)
    closed = [row for row in lines if not row.flag("tie")]
    _check_branches(closed, {row.text("bus") for row in buses})
    nodes, branches = [_node(row) for row in buses], [_branch(row, kv) for row in closed]
    return feeder_from_tables(folder.name, roots[0].text("bus"), nodes, branches, slack_voltage_pu, notes=notes)


def _type(row: TableRow) -> str:
    found = row.text("type")
    if found not in ("slack", "PQ"):
        raise InputError(f"{row.where}: type is '{found}', expected 'slack' or 'PQ': a feeder has no other buses")
    return found


def _check_buses(rows: Sequence[TableRow], kv: float) -> None:
    """Raise InputError for numbers of buses that no feeder has. kv: the root's base_kV."""
    seen: set[str] = set()
    for row in rows:
        if row.text("bus") in seen:
            raise InputError(f"{row.where}: bus {row.text('bus')} is there twice, expected one row a bus")
        seen.add(row.text("bus"))
        if row.number("base_kV") != kv or kv < LEAST:
            expected = (
                f"expected the root's {kv:g}, as a feeder has one voltage level"
                if kv >= LEAST
                else f"expected at least {LEAST:g}"
            )
            raise InputError(f"{row.where}: base_kV is {row.number('base_kV'):g}, {expected}")
        lowest, highest = row.number("Vmin_pu"), row.number("Vmax_pu")
        if lowest < 0:
            raise InputError(f"{row.where}: Vmin_pu is {lowest:g}, expected at least 0")
        if highest <= 0 or highest < lowest:
            raise InputError(f"{row.where}: Vmax_pu is {highest:g}, expected above 0 and at least Vmin_pu, {lowest:g}")


def _check_branches(rows: Sequence[TableRow], buses: set[str]) -> None:
    """Raise InputError for ends that are no bus, and for numbers that no branch has."""
    for row in rows:
        for key in ("from_bus", "to_bus"):
            if row.text(key) not in buses:
                raise InputError(f"{row.where}: {key} is '{row.text(key)}', expected a bus of bus.csv")
        for key in ("r_ohm", "x_ohm"):
            if row.number(key) < 0:
                raise InputError(f"{row.where}: {key} is {row.number(key):g}, expected at least 0")
        if row.number("I_max_A") < LEAST:
            raise InputError(f"{row.where}: I_max_A is {row.number('I_max_A'):g}, expected at least {LEAST:g}")


def _node(row: TableRow) -> FeederNode:
    return FeederNode(
        row.text("bus"),
        row.number("Pd_kW") / 1e3,
        row.number("Qd_kvar") / 1e3,
        row.number("Vmin_pu"),
        row.number("Vmax_pu"),
        row.number("base_kV"),
    )


def _branch(row: TableRow, kv: float) -> FeederBranch:
    half = -0.5j * row.number(CHARGING) * kv**2 if CHARGING in row.cells else 0j
    return FeederBranch(
        f"branch {row.text('branch')}",
        row.text("from_bus"),
        row.text("to_bus"),
        row.number("r_ohm") / kv**2,
        row.number("x_ohm") / kv**2,
        np.sqrt(3.0) * kv * row.number("I_max_A") / 1e3,
        half,
        half,
    )


def _unused(rows: Sequence[TableRow], known: Sequence[str]) -> list[str]:
    """Refuse columns that would change the power flow; name the other unknown ones."""
    others = [key for key in rows[0].cells if key not in (*known, *INFORMATION) and RESULT not in key]
    for key in others:
        filled = next((row for row in rows if not _is_nothing(row.cells[key])), None)
        if filled is not None and PHYSICS.search(key.lower()):
            raise InputError(
                f"{filled.where}: column '{key}' is not known, but looks as if it changed the power flow; "
                f"expected {', '.join(known)}; remove it, or put 0 into it"
            )
    file = rows[0].where.split(": line")[0]
    return [f"{file}: columns that are not used: {', '.join(others)}"] if others else []


def _is_nothing(cell: str) -> bool:
    try:
        return not cell.strip() or float(cell) == 0.0
    except ValueError:
        return False
