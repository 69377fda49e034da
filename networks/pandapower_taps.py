"""Tap changers of a pandapower network: what pandapower ignores is noted, what a feeder cannot carry is refused."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from admm import InputError
from networks.pandapower_columns import WHOSE, Elements, is_empty
from networks.radial import listed

CHANGERS = ("Ratio", "Symmetrical", "Ideal")
TABLE = ("voltage_ratio", "angle_deg")


def ignored_taps(trafos: Elements) -> Iterator[str]:
    """Name the taps that are not neutral and that pandapower does not apply, a sentence for each reason."""
    for prefix in ("tap", "tap2"):
        reasons: dict[str, list[str]] = {}
        columns = [trafos.cells(f"{prefix}_{key}") for key in ("pos", "neutral", "side", "changer_type")]
        tables = trafos.cells("tap_dependency_table")
        for name, position, neutral, side, changer, table in zip(trafos.named(), *columns, tables, strict=True):
            if is_empty(position) or is_empty(neutral) or float(position) == float(neutral) or _true(table):
                continue
            if trafos.has(f"{prefix}_changer_type") and changer not in CHANGERS:
                why = "changer_type is empty" if is_empty(changer) else f"changer_type is {changer!r}"
            elif is_empty(side):
                why = "side is empty"
            else:
                continue
            reasons.setdefault(why, []).append(f"{name} ({prefix}_pos {float(position):g})")
        for why, names in reasons.items():
            yield f"{listed(names)}: {prefix}_{why}, so {prefix}_pos has no effect, as in pandapower"


def check_taps(net: Any, trafos: Elements) -> None:
    """Raise InputError where a tap follows a table that lacks its position, or lies on no side of the transformer."""
    sides = ("hv", "mv", "lv") if trafos.name == "trafo3w" else ("hv", "lv")
    for prefix in ("tap", "tap2"):
        for name, side in zip(trafos.named(), trafos.cells(f"{prefix}_side"), strict=True):
            if not is_empty(side) and side not in sides:
                raise InputError(
                    f"{WHOSE}: {name}: {prefix}_side is {side!r}, expected {' or '.join(map(repr, sides))}"
                )
    columns = [trafos.cells(key) for key in ("tap_dependency_table", "id_characteristic_table", "tap_pos")]
    for name, follows, table, position in zip(trafos.named(), *columns, strict=True):
        if _true(follows):
            _check_row(net, name, table, position)


def _true(cell: Any) -> bool:
    return not is_empty(cell) and bool(cell)


def _check_row(net: Any, name: str, table: Any, position: Any) -> None:
    rows = net.get("trafo_characteristic_table")
    found = None if rows is None else rows[(rows["id_characteristic"] == table) & (rows["step"] == position)]
    if found is None or len(found) != 1:
        raise InputError(
            f"{WHOSE}: {name}: tap_dependency_table is set, but trafo_characteristic_table has "
            f"{0 if found is None else len(found)} rows with id {table} and step {position}, expected one"
        )
    for column in TABLE:
        if is_empty(found[column].iloc[0]):
            raise InputError(f"{WHOSE}: trafo_characteristic_table {found.index[0]}: {column} is empty, used by {name}")


def refuse_phase_shift(name: str, shift_degree: float, nominal_degree: float) -> None:
    """Raise InputError if a tap changer turns the angle; that of the vector group does no harm in a radial feeder."""
    turned = (shift_degree - nominal_degree + 180) % 360 - 180
    if abs(turned) > 1e-9:
        raise InputError(
            f"{WHOSE}: {name}: its tap changer shifts the phase by {turned:.3g} degrees, expected a plain ratio; "
            "set its tap_pos to tap_neutral, or replace it by a transformer with a fixed ratio"
        )
