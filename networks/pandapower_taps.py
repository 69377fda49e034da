"""Tap changers and steps of shunts: what pandapower ignores is noted, what a feeder cannot carry is refused."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from admm import InputError
from admm.values import is_finite
from networks.pandapower_columns import WHOSE, Elements, is_empty
from networks.radial import listed

CHANGERS = ("Ratio", "Symmetrical", "Ideal")
IDEAL = "Ideal"
PREFIXES = ("tap", "tap2")
FLAGS = ("tap_dependency_table", "tap_at_star_point")
TAP_TABLE, SHUNT_TABLE = "trafo_characteristic_table", "shunt_characteristic_table"
VALUES = {
    ("trafo", TAP_TABLE): ("voltage_ratio", "angle_deg", "vk_percent", "vkr_percent"),
    ("trafo3w", TAP_TABLE): (
        *("voltage_ratio", "angle_deg"),
        *(f"{key}_{side}_percent" for key in ("vk", "vkr") for side in ("hv", "mv", "lv")),
    ),
    ("shunt", SHUNT_TABLE): ("p_mw", "q_mvar"),
}
"""Columns that a power flow takes from a table of steps."""


@dataclass(frozen=True)
class _Tap:
    """A tap changer's cells as they are. prefix: "tap" or "tap2", which its columns begin with."""

    name: str
    prefix: str
    pos: Any
    neutral: Any
    side: Any
    changer_type: Any
    step_percent: Any
    step_degree: Any
    follows_table: bool
    at_star: bool

    def why_ignored(self) -> str | None:
        """Say why pandapower does not apply a tap that is not neutral; None where it does, or where there is no tap."""
        if self.follows_table:
            return "side is empty" if is_empty(self.side) else None
        if is_empty(self.pos) or (not is_empty(self.neutral) and float(self.pos) == float(self.neutral)):
            return None
        steps = [key for key in ("step_percent", "step_degree") if not _is_nothing(getattr(self, key))]
        if is_empty(self.neutral) and not steps:
            return None
        if self.changer_type not in CHANGERS:
            found = "empty" if is_empty(self.changer_type) else repr(self.changer_type)
            return f"changer_type is {found}"
        needed = ("side", "neutral") if self.changer_type == IDEAL and steps else ("side", "neutral", "step_percent")
        missing = [key for key in needed if is_empty(getattr(self, key))]
        return f"{missing[0]} is empty" if missing else None


def _taps(trafos: Elements) -> Iterator[_Tap]:
    keys = ("pos", "neutral", "side", "changer_type", "step_percent", "step_degree")
    flags = [[_true(cell) for cell in trafos.cells(key)] for key in FLAGS]
    for prefix in PREFIXES:
        if trafos.has(f"{prefix}_pos"):
            rows = zip(trafos.named(), *(trafos.cells(f"{prefix}_{key}") for key in keys), *flags, strict=True)
            yield from (_Tap(name, prefix, *cells) for name, *cells in rows)


def ignored_taps(trafos: Elements) -> Iterator[str]:
    """Name the taps that are not neutral and that pandapower does not apply, a sentence for each reason."""
    reasons: dict[tuple[str, str], list[str]] = {}
    for tap in _taps(trafos):
        why = tap.why_ignored()
        if why is not None:
            reasons.setdefault((tap.prefix, why), []).append(f"{tap.name} ({tap.prefix}_pos {float(tap.pos):g})")
    for (prefix, why), names in reasons.items():
        yield f"{listed(names)}: {prefix}_{why}, so {prefix}_pos has no effect, as in pandapower"


def check_taps(net: Any, trafos: Elements) -> None:
    """Raise InputError for a tap on no side of the transformer, or with cells at which pandapower stops."""
    sides = ("hv", "mv", "lv") if trafos.name == "trafo3w" else ("hv", "lv")
    for prefix in PREFIXES:
        type_, old = f"{prefix}_changer_type", f"{prefix}_phase_shifter"
        if trafos.has(f"{prefix}_pos") and trafos.has(old) and not trafos.has(type_):
            raise InputError(
                f"{WHOSE}: {trafos.name} has no column {type_}, which replaced {old} in pandapower 3; add it: "
                f"'{IDEAL}' where {old} is set, else 'Ratio'"
            )
    _refuse_empty(trafos, FLAGS)
    for tap in _taps(trafos):
        where = f"{WHOSE}: {tap.name}: {tap.prefix}"
        if not is_empty(tap.side) and tap.side not in sides:
            raise InputError(f"{where}_side is {tap.side!r}, expected {' or '.join(map(repr, sides))}")
        if not tap.follows_table and tap.changer_type in CHANGERS and not is_empty(tap.side):
            trafos.require(f"{tap.prefix}_neutral", "numbers")
            if tap.changer_type == IDEAL:
                _check_ideal(where, tap)
    columns = [trafos.cells(key) for key in ("tap_dependency_table", "id_characteristic_table", "tap_pos")]
    for name, follows, table, position in zip(trafos.named(), *columns, strict=True):
        if _true(follows):
            _check_step(net, TAP_TABLE, name, "tap_dependency_table", table, position)


def _refuse_empty(elements: Elements, flags: Sequence[str]) -> None:
    """Refuse flags that are empty, at which pandapower stops."""
    for flag in filter(elements.has, flags):
        for name, cell in zip(elements.named(), elements.cells(flag), strict=True):
            if is_empty(cell):
                raise InputError(f"{WHOSE}: {name}: {flag} is empty, expected True or False")


def _check_ideal(where: str, tap: _Tap) -> None:
    if not _is_nothing(tap.step_percent) and not _is_nothing(tap.step_degree):
        raise InputError(
            f"{where}_step_percent is {tap.step_percent} and {tap.prefix}_step_degree {tap.step_degree}, expected only "
            f"one of them where {tap.prefix}_changer_type is '{IDEAL}'; set the other to 0"
        )
    needed = ["neutral", "pos"]
    needed += ["step_percent"] if tap.at_star or _is_nothing(tap.step_degree) else []
    needed += ["step_degree"] if tap.at_star else []  # there pandapower calculates with both
    empty = next((key for key in needed if is_empty(getattr(tap, key))), None)
    if empty is not None:
        raise InputError(f"{where}_{empty} is empty, expected a number where {tap.prefix}_changer_type is '{IDEAL}'")


def check_shunt_steps(net: Any, shunts: Elements) -> None:
    """Raise InputError where the steps of a shunt follow a table that lacks its step."""
    columns = [shunts.cells(key) for key in ("step_dependency_table", "id_characteristic_table", "step")]
    for name, follows, table, step in zip(shunts.named(), *columns, strict=True):
        if _true(follows):
            _check_step(net, SHUNT_TABLE, name, "step_dependency_table", table, step)


def _is_nothing(cell: Any) -> bool:
    return is_empty(cell) or float(cell) == 0


def _true(cell: Any) -> bool:
    return not is_empty(cell) and bool(cell)


def _check_step(net: Any, key: str, name: str, flag: str, table: Any, step: Any) -> None:
    """Raise InputError unless the table of steps has one whole row for the element's step."""
    rows, values = net.get(key), VALUES[name.split()[0], key]
    if is_empty(step):
        column = "tap_pos" if key == TAP_TABLE else "step"
        raise InputError(f"{WHOSE}: {name}: {column} is empty, but {flag} is set; expected a step of {key}")
    if is_empty(table):
        raise InputError(
            f"{WHOSE}: {name}: id_characteristic_table is empty, but {flag} is set; expected the id of rows of {key}"
        )
    if rows is None or not len(rows):
        raise InputError(f"{WHOSE}: {name}: {flag} is set, but there is no {key}; add one, or set {flag} to False")
    missing = next((one for one in ("id_characteristic", "step", *values) if one not in rows), None)
    if missing is not None:
        raise InputError(f"{WHOSE}: {key} has no column {missing}, which {name} needs; add it")
    found = rows[(rows["id_characteristic"] == table) & (rows["step"] == step)]
    if len(found) != 1:
        raise InputError(
            f"{WHOSE}: {name}: {flag} is set, but {key} has {len(found)} rows with id_characteristic {table} and "
            f"step {step}, expected one; check {'tap_pos' if key == TAP_TABLE else 'step'} and id_characteristic_table"
        )
    for column in values:
        cell = found[column].iloc[0]
        if is_empty(cell) or not is_finite(cell):
            what = "is empty" if is_empty(cell) else f"is {cell!r}"
            raise InputError(f"{WHOSE}: {key} {found.index[0]}: {column} {what}, expected a number, as {name} uses it")


def refuse_phase_shift(name: str, shift_degree: float, nominal_degree: float) -> None:
    """Raise InputError if a tap changer turns the angle; that of the vector group does no harm in a radial feeder."""
    turned = (shift_degree - nominal_degree + 180) % 360 - 180
    if not abs(turned) <= 1e-9:
        raise InputError(
            f"{WHOSE}: {name}: its tap changer shifts the phase by {turned:.3g} degrees, expected a plain ratio; "
            "set its tap_pos to tap_neutral, or replace it by a transformer with a fixed ratio"
        )
