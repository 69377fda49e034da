"""The public part of a case: its folder, `case.toml` with a variant applied, and where its files are."""

from __future__ import annotations

import difflib
import json
import os
from contextlib import AbstractContextManager
from copy import copy
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any

from admm import InputError
from networks.case_tables import (
    CaseTable,
    DistributionTable,
    GasTable,
    HubTable,
    Reference,
    TransmissionTable,
)
from networks.validation import located, parse, read_text, read_toml
from subproblems.horizon import Horizon

BUNDLED = Path(__file__).parent / "cases"
CHECKPOINT_MARK = ".checkpoint-"
CASE_FILE, REFERENCE_FILE = "case.toml", "reference.json"


class CaseFolder:
    """A case: its folder, its public table with the variant applied, and its horizon; day: if it is one day of it."""

    day: str | None = None

    def __init__(self, folder: Path, variant: str | None = None) -> None:
        self.folder, self.variant = folder, variant
        self.path = folder / CASE_FILE
        data = read_toml(self.path)
        self.table = parse(CaseTable, data, self.path)
        if variant is not None:
            self.table = parse(CaseTable, _with_variant(self.path, data, variant), f"{self.path}: variant '{variant}'")
        self._check_names()
        self.horizon = self._horizon()

    @property
    def name(self) -> str:
        return self.table.name + (f":{self.variant}" if self.variant else "") + (f"@{self.day}" if self.day else "")

    def days(self) -> list[CaseFolder]:
        """One for each day of the horizon. Raises InputError if that is no whole number of days."""
        horizon, a_day = self.horizon, self.horizon.periods_per_day
        if horizon.periods <= a_day:
            return [self]
        if horizon.periods % a_day:
            raise InputError(
                f"{self.path}: periods is {horizon.periods}, expected a multiple of a day's {a_day} for the market"
            )
        return [self._day(number) for number in range(horizon.periods // a_day)]

    def _day(self, number: int) -> CaseFolder:
        one, horizon = copy(self), self.horizon
        start = horizon.start + timedelta(days=number)
        one.horizon = replace(horizon, start=start, periods=horizon.periods_per_day)
        one.day = f"{start + timedelta(hours=horizon.utc_offset_hours):%Y-%m-%d}"
        return one

    def _horizon(self) -> Horizon:
        given = self.table.horizon
        try:
            return Horizon(given.start, given.periods, given.step_minutes, given.utc_offset_hours)
        except InputError as error:
            raise InputError(f"{self.path}: {error}") from None

    def _check_names(self) -> None:
        names = [n.name for n in self.table.network] + [a.name for a in self.table.agent]
        for name in names:
            if names.count(name) > 1:
                raise InputError(f"{self.path}: two networks or agents are called '{name}'; give each its own name")
            alike = next((other for other in names if other != name and other.casefold() == name.casefold()), None)
            if alike is not None:
                raise InputError(
                    f"{self.path}: '{name}' and '{alike}' differ in case only, and some systems take files of these "
                    "names for one; give one of them another name"
                )
            if CHECKPOINT_MARK in name:
                where = f"{self.path}: the name '{name}'"
                raise InputError(f"{where} contains '{CHECKPOINT_MARK}', as files of checkpoints do; rename it")
        grids = {n.name: n for n in self.table.network}
        for agent in self.table.agent:
            self._check_reference(f"agent '{agent.name}': network", agent.network, grids, "distribution")
        for network in self.supplied:
            self._check_reference(f"network '{network.name}': upstream", network.upstream, grids, "transmission")
        for network in self.gas:
            if network.operator is not None:
                self._check_reference(f"network '{network.name}': operator", network.operator, grids, "distribution")
        for hub in self.gas_hubs:
            self._check_reference(f"agent '{hub.name}': gas_network", hub.gas_network, grids, "gas")

    def _check_reference(self, what: str, name: str, grids: dict[str, Any], kind: str) -> None:
        of_kind = [n for n, grid in grids.items() if grid.kind == kind]
        if name not in of_kind:
            close = difflib.get_close_matches(name, of_kind, n=1)
            hint = f"did you mean '{close[0]}'?" if close else f"{kind} networks: {', '.join(of_kind) or 'none'}"
            raise InputError(f"{self.path}: {what} = '{name}' is no {kind} network of this case; {hint}")

    @property
    def distribution(self) -> list[DistributionTable]:
        return [n for n in self.table.network if isinstance(n, DistributionTable)]

    @property
    def supplied(self) -> list[DistributionTable]:
        """Distribution networks below a transmission network."""
        return [n for n in self.distribution if n.upstream is not None]

    @property
    def transmission(self) -> list[TransmissionTable]:
        return [n for n in self.table.network if isinstance(n, TransmissionTable)]

    @property
    def gas(self) -> list[GasTable]:
        return [n for n in self.table.network if isinstance(n, GasTable)]

    @property
    def gas_hubs(self) -> list[HubTable]:
        """Hubs with a gas connection."""
        return [a for a in self.table.agent if isinstance(a, HubTable) and a.gas_network is not None]

    def located(self, network: str) -> AbstractContextManager[None]:
        """Says of an InputError to which network of the case file it belongs."""
        return located(f"{self.path}: network '{network}'")

    def file(self, name: str) -> Path:
        """A file of the case; InputError if it lies outside the folder, or has a name that no file can have."""
        try:
            path = (self.folder / name).resolve()
            path.exists()
        except (OSError, RuntimeError, ValueError) as error:  # too long, a link to itself, a zero byte
            raise InputError(f"{self.path}: file '{name}' cannot be looked for ({error}); check the name") from None
        if not path.is_relative_to(self.folder.resolve()):
            raise InputError(f"{self.path}: file '{name}' lies outside the case folder; move it inside")
        return path

    def reference(self) -> dict[str, dict[str, Any]]:
        """Optima that were saved for this case, by case name: {name: {case_sha256, objective_eur, turnover_eur}}."""
        path = self.folder / REFERENCE_FILE
        if not path.exists():
            return {}
        text = read_text(path)
        try:
            return {name: Reference(**optimum).model_dump() for name, optimum in json.loads(text).items()}
        except (ValueError, AttributeError, TypeError, RecursionError) as error:
            raise InputError(
                f"{path}: holds no saved optima ({error}); remove it, or save the reference again"
            ) from None

    def save_reference(self, name: str, optimum: dict[str, Any]) -> None:
        """Keep an optimum beside the case."""
        text = json.dumps({**self.reference(), name: optimum}, indent=2, sort_keys=True)
        try:
            (self.folder / REFERENCE_FILE).write_text(text + "\n", encoding="utf-8")
        except OSError as error:
            raise InputError(f"{self.folder / REFERENCE_FILE}: cannot be written ({error.strerror})") from None

    def public_files(self) -> list[Path]:
        return [self.path, *(self.file(name) for name in self.table.profiles)]


def open_case(case: str) -> CaseFolder:
    """A case by its folder or bundled name, with an optional variant: FOLDER, NAME, NAME:VARIANT."""
    plain, colon, variant = case.partition(":") if not os.path.exists(case) else (case, "", "")
    folder = Path(plain) if os.path.isdir(plain) else BUNDLED / plain
    if os.path.isfile(folder):
        raise InputError(f"case '{case}': is a file, expected the folder that holds {CASE_FILE}")
    if not os.path.isdir(folder):
        names = bundled_names()
        close = difflib.get_close_matches(plain, names, n=1)
        hint = f"did you mean '{close[0]}'?" if close else f"bundled cases: {', '.join(names)}"
        raise InputError(f"case '{case}': there is no such folder and no such bundled case; {hint}")
    return CaseFolder(folder, variant if colon else None)


def bundled_names() -> list[str]:
    """Names of the bundled cases, without variants."""
    return sorted(p.parent.name for p in BUNDLED.glob(f"*/{CASE_FILE}"))


def _with_variant(path: Path, data: dict[str, Any], variant: str) -> dict[str, Any]:
    """The tables with the variant's changes: its keys replace those of the same table, or of the [[network]] or
    [[agent]] of that name."""
    variants = data.get("variant", {})
    if variant not in variants:
        raise InputError(f"{path}: there is no variant '{variant}'; variants: {', '.join(variants) or 'none'}")
    merged = dict(data)
    for table, changes in variants[variant].items():
        given = merged.get(table, {})
        if isinstance(given, list) and all(isinstance(entry, dict) for entry in given):
            merged[table] = _with_changes(f"{path}: variant '{variant}'", table, given, changes)
        elif isinstance(given, dict):
            merged[table] = {**given, **changes}
        else:
            raise InputError(f"{path}: variant '{variant}' may change tables such as [horizon] only, not '{table}'")
    return merged


def _with_changes(
    where: str, table: str, entries: list[dict[str, Any]], changes: dict[str, Any]
) -> list[dict[str, Any]]:
    """Entries of a list of tables with changes by their names: {name: {key: value}}."""
    names = [entry.get("name") for entry in entries]
    for name, keys in changes.items():
        if name not in names or not isinstance(keys, dict):
            expected = f"[variant.X.{table}.NAME] with NAME one of {', '.join(map(str, names))}"
            raise InputError(f"{where}: {table}.{name} changes no [[{table}]] of the case; expected {expected}")
    return [{**entry, **changes.get(entry.get("name"), {})} for entry in entries]
