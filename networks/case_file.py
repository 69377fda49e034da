"""The public part of a case as checked data: `case.toml`, its variants, and where its files are.

Every attribute's unit, bounds and description stand here once.
"""

from __future__ import annotations

import difflib
import json
import os
from contextlib import AbstractContextManager
from copy import copy
from dataclasses import replace
from datetime import datetime, timedelta
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal

from pydantic import BeforeValidator, Field, model_validator

from admm import InputError
from networks.market.rules import MarketTable
from networks.validation import located, parse, read_text, read_toml
from subproblems.devices.attributes import Attributes, Series
from subproblems.horizon import Horizon

BUNDLED = Path(__file__).parent / "cases"
CASE_FILE, REFERENCE_FILE = "case.toml", "reference.json"


def _check_bus(value: Any) -> int | str:
    if isinstance(value, bool) or not isinstance(value, (int, str)):
        raise ValueError("expected the number or name of a bus")
    return value


Name = Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9_.-]*$")]
Bus = Annotated[int | str, BeforeValidator(_check_bus)]
Positive = Annotated[float, Field(gt=0, strict=True)]
Nominal = Annotated[float, Field(gt=0, le=1e9, strict=True)]
"""A size or price that scales the algorithm: numbers beyond are mistakes, of which squares would overflow."""
NotNegative = Annotated[float, Field(ge=0, strict=True)]
Whole = Annotated[int, Field(ge=1, strict=True)]
Voltage = Annotated[float, Field(gt=0.5, lt=1.5, strict=True)]


class HorizonTable(Attributes):
    """`[horizon]`: when the first period starts (UTC), how many periods, and how long one is."""

    label: ClassVar[str] = "[horizon]"
    start: datetime = Field(strict=True, description="start of the first period, UTC")
    periods: Whole = Field(le=2688, description="number of periods")
    step_minutes: Whole = Field(description="length of a period, a divisor of 60 minutes")
    utc_offset_hours: Annotated[float, Field(ge=-14, le=14, strict=True)] = Field(
        default=0.0, description="local time minus UTC: hours of the day in agents' files are local"
    )


class PriceTable(Attributes):
    """`[prices]`: nominal prices that scale the algorithm; they do not change the optimum."""

    label: ClassVar[str] = "[prices]"
    energy_eur_per_mwh: Nominal = Field(default=50.0, description="nominal price of energy")
    flexibility_eur_per_mwh: Nominal = Field(default=5.0, description="nominal price of flexibility, per MW and hour")
    gas_eur_per_mwh: Nominal = Field(default=30.0, description="nominal price of gas, by its higher heating value")


class ReactiveSupport(Attributes):
    """A controllable reactive source of the operator at a bus."""

    label: ClassVar[str] = "reactive_support"
    bus: Bus = Field(description="its bus")
    q_max_mvar: Positive = Field(description="largest supply or absorption")
    quadratic_cost_eur_per_mvar2h: NotNegative = Field(
        default=0.1, description="cost of its squared set point, an hour"
    )


class DistributionTable(Attributes):
    """A `[[network]]` of kind "distribution": a radial feeder and its operator."""

    label: ClassVar[str] = "network"
    kind: Literal["distribution"]
    name: Name = Field(description="name of the operator as an agent")
    source: str = Field(description="a bundled grid, a folder with bus.csv and branch.csv, or a pandapower JSON file")
    upstream: Name | None = Field(default=None, description="name of the transmission network; or give a supply_price")
    upstream_bus: Bus | None = Field(default=None, description="its bus at the substation")
    supply_price_eur_per_mwh: Series | None = Field(
        default=None, description="price of energy at the feeder's head where there is no transmission network"
    )
    supply_flexibility_price_eur_per_mwh: NotNegative = Field(
        default=0.0, description="paid there for up and for down flexibility, per MW and hour"
    )
    feeders: Whole = Field(default=1, description="number of identical feeders behind that bus")
    replaces_bus_load: bool = Field(
        default=True, strict=True, description="whether the feeders stand for the upstream bus's own load"
    )
    slack_voltage_pu: Voltage = Field(default=1.0, description="voltage at the feeder's head")
    voltage_min_pu: Voltage = Field(default=0.95, description="at every node")
    voltage_max_pu: Voltage = Field(default=1.05, description="at every node")
    substation_limit_mva: Positive | None = Field(
        default=None, description="apparent power at the feeder's head; none if absent"
    )
    current_limit_scale: Positive = Field(default=1.0, description="factor on the source's current limits")
    load_profile: Series = Field(default=1.0, description="column of the public profiles, or a number")
    load_scale: NotNegative = Field(default=1.0, description="factor on the source's loads")
    pv_profile: Series = Field(default=0.0, description="output of other customers' PV per installed power")
    pv_scale: NotNegative = Field(
        default=0.0, description="other customers' installed PV at every node, as a multiple of the source's load there"
    )
    reactive_support: tuple[ReactiveSupport, ...] = Field(default=(), description="list of the entries below")
    solve_ms: Positive | None = Field(default=None, description="measured time of one answer, to balance ranks")

    @model_validator(mode="after")
    def _band_in_order(self) -> DistributionTable:
        if self.voltage_min_pu >= self.voltage_max_pu:
            raise ValueError(
                f"voltage_min_pu is {self.voltage_min_pu:g}, expected below voltage_max_pu {self.voltage_max_pu:g}"
            )
        return self

    @model_validator(mode="after")
    def _pv_in_full(self) -> DistributionTable:
        if (self.pv_scale == 0) != (self.pv_profile == 0):
            raise ValueError(
                f"pv_scale is {self.pv_scale:g} and pv_profile is {self.pv_profile!r}, which belong together: give both"
            )
        return self

    @model_validator(mode="after")
    def _one_source(self) -> DistributionTable:
        if (self.upstream is None) == (self.supply_price_eur_per_mwh is None):
            found = "neither" if self.upstream is None else "both"
            raise ValueError(f"{found} of upstream and supply_price_eur_per_mwh are given, expected one of them")
        if (self.upstream is None) != (self.upstream_bus is None):
            raise ValueError("upstream and upstream_bus belong together: give both, or supply_price_eur_per_mwh")
        return self


class TransmissionTable(Attributes):
    """A `[[network]]` of kind "transmission": a meshed grid, its generators and its operator."""

    label: ClassVar[str] = "network"
    kind: Literal["transmission"]
    name: Name = Field(description="name of the operator as an agent")
    source: str = Field(description="a bundled grid or a pandapower JSON file")
    cost_set: Literal["pglib", "matpower"] = Field(
        default="matpower", description="generator costs and limits (bundled grid only)"
    )
    rating_scale: Positive = Field(default=1.0, description="factor on the source's line ratings")
    load_profile: Series = Field(default=1.0, description="column of the public profiles, or a number")
    load_scale: NotNegative = Field(default=1.0, description="factor on the source's loads")
    ramp_share_per_hour: Positive = Field(
        default=0.5, description="largest change of a generator an hour, as a share of its capacity"
    )
    reserve_up_share: NotNegative = Field(
        default=0.0, description="up reserve required, as a share of the period's load without the feeders"
    )
    reserve_down_share: NotNegative = Field(
        default=0.0, description="down reserve required, as a share of the period's load without the feeders"
    )
    reserve_cost_eur_per_mwh: NotNegative = Field(
        default=5.0, description="a generator's price of reserve, per MW and hour"
    )
    reserve_quadratic_cost_eur_per_mw2h: NotNegative = Field(
        default=0.02, description="its rise: cost of the squared reserve of a generator, an hour"
    )
    solve_ms: Positive | None = Field(default=None, description="measured time of one answer, to balance ranks")


class GasTable(Attributes):
    """A `[[network]]` of kind "gas": pipes, gates and compressors, and their operator."""

    label: ClassVar[str] = "network"
    kind: Literal["gas"]
    name: Name = Field(description="name of the operator as an agent")
    source: str = Field(
        description="a bundled grid, a folder with node.csv, pipe.csv, gate.csv, or a pandapipes JSON file"
    )
    operator: Name | None = Field(
        default=None, description="distribution network whose operator runs this one, too; none: an operator of its own"
    )
    demand_profiles: dict[str, Series] = Field(
        default_factory=dict, description="for each profile that nodes of the source name: a public column, or a number"
    )
    load_scale: NotNegative = Field(default=1.0, description="factor on the source's demand")
    price_eur_per_mwh: Series | None = Field(default=None, description="of gas at all gates; the gates' own if absent")
    import_limit_mw: Positive | None = Field(default=None, description="all gates together; none if absent")
    lost_gates: tuple[str, ...] = Field(default=(), description="gates that are out of service")
    linepack: bool = Field(default=False, strict=True, description="whether pipes store gas from period to period")
    set_point_eur_per_bar4h: NotNegative = Field(
        default=0.01, description="what leaving a gate's set point costs, times the squared change of squared pressure"
    )
    solve_ms: Positive | None = Field(default=None, description="measured time of one answer, to balance ranks")


class AgentTable(Attributes):
    """An `[[agent]]`: a community behind one meter; its devices are in its own private file."""

    label: ClassVar[str] = "agent"
    name: Name = Field(description="name of the agent")
    kind: Literal["community"] = Field(description='"community"')
    network: Name = Field(description="name of the distribution network that it is connected to")
    bus: Bus = Field(description="its bus there")
    file: str = Field(description="the private file, relative to the case folder")
    connection_kw: Nominal = Field(description="size of the connection, public: scales its boundary values")
    power_factor: Annotated[float, Field(gt=0, le=1, strict=True)] = Field(
        default=1.0, description="at the meter: reactive power is p tan(acos(power_factor))"
    )
    solve_ms: Positive | None = Field(default=None, description="measured time of one answer, to balance ranks")


class HubTable(AgentTable):
    """An `[[agent]]` of kind "hub": as a community, and connected to a gas network where it gives one."""

    kind: Literal["hub"] = Field(description='"hub"')
    gas_network: Name | None = Field(default=None, description="name of the gas network that it is connected to")
    gas_node: Bus | None = Field(default=None, description="its node there")
    gas_connection_kw: Nominal | None = Field(
        default=None, description="size of that connection (HHV), public: scales its boundary values"
    )

    @model_validator(mode="after")
    def _gas_in_full(self) -> HubTable:
        given = {key: getattr(self, key) for key in ("gas_network", "gas_node", "gas_connection_kw")}
        missing = [key for key, value in given.items() if value is None]
        if missing and len(missing) < len(given):
            raise ValueError(f"{missing[0]} is missing: give gas_network, gas_node and gas_connection_kw, or none")
        return self


Network = Annotated[DistributionTable | TransmissionTable | GasTable, Field(discriminator="kind")]
Participant = Annotated[AgentTable | HubTable, Field(discriminator="kind")]


class CaseTable(Attributes):
    """`case.toml` as a whole."""

    label: ClassVar[str] = "case"
    name: Name = Field(description="name of the case")
    title: str = ""
    horizon: HorizonTable = Field(description="the table [horizon]")
    prices: PriceTable = PriceTable()
    profiles: tuple[str, ...] = ()
    network: tuple[Network, ...] = Field(min_length=1, description="one table [[network]] each")
    agent: tuple[Participant, ...] = Field(min_length=1, description="one table [[agent]] each")
    market: MarketTable = Field(default=MarketTable(), description="the table [market]")
    variant: dict[str, dict[str, dict[str, Any]]] = Field(
        default_factory=dict, description="named changes to the tables above"
    )

    @model_validator(mode="after")
    def _no_duplicates(self) -> CaseTable:
        for file in self.profiles:
            if self.profiles.count(file) > 1:
                raise ValueError(f"profiles lists '{file}' twice; once is enough")
        return self


class Reference(Attributes):
    """A centralised optimum in `reference.json`."""

    label: ClassVar[str] = "reference"
    case_sha256: str
    objective_eur: Annotated[float, Field(strict=True)]
    turnover_eur: Positive


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
    plain, _, variant = case.partition(":") if not os.path.exists(case) else (case, "", "")
    folder = Path(plain) if os.path.isdir(plain) else BUNDLED / plain
    if os.path.isfile(folder):
        raise InputError(f"case '{case}': is a file, expected the folder that holds {CASE_FILE}")
    if not os.path.isdir(folder):
        names = bundled_names()
        close = difflib.get_close_matches(plain, names, n=1)
        hint = f"did you mean '{close[0]}'?" if close else f"bundled cases: {', '.join(names)}"
        raise InputError(f"case '{case}': there is no such folder and no such bundled case; {hint}")
    return CaseFolder(folder, variant or None)


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
