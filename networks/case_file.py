"""The public part of a case as checked data: `case.toml`, its variants, and where its files are.

Every attribute's unit, bounds and description stand here once.
"""

from __future__ import annotations

import difflib
import json
from datetime import datetime
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, field_validator

from admm import InputError
from networks.validation import parse, read_toml
from subproblems.horizon import Horizon

BUNDLED = Path(__file__).parent / "cases"
CASE_FILE, REFERENCE_FILE = "case.toml", "reference.json"
Name = Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9_.-]*$")]
Number = Annotated[float, Field(allow_inf_nan=False)]
Positive = Annotated[float, Field(gt=0, allow_inf_nan=False)]
NotNegative = Annotated[float, Field(ge=0, allow_inf_nan=False)]


class Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class HorizonTable(Strict):
    """`[horizon]`: when the first period starts (UTC), how many periods, and how long one is."""

    start: datetime = Field(description="start of the first period, UTC")
    periods: int = Field(ge=1, le=2688, description="number of periods")
    step_minutes: int = Field(description="length of a period, a divisor of 60 minutes")
    utc_offset_hours: Annotated[float, Field(ge=-14, le=14)] = Field(
        default=0.0, description="local time minus UTC: hours of the day in agents' files are local"
    )


class PriceTable(Strict):
    """`[prices]`: nominal prices that scale the algorithm; they do not change the optimum."""

    energy_eur_per_mwh: Positive = Field(default=50.0, description="nominal price of energy")
    flexibility_eur_per_mwh: Positive = Field(default=5.0, description="nominal price of flexibility, per MW and hour")


class ReactiveSupport(Strict):
    """A controllable reactive source of the operator at a bus."""

    bus: int | str
    q_max_mvar: Positive = Field(description="largest supply or absorption")


class DistributionTable(Strict):
    """A `[[network]]` of kind "distribution": a radial feeder and its operator."""

    kind: Literal["distribution"]
    name: Name
    source: str = Field(description="a bundled grid, a folder with bus.csv and branch.csv, or a pandapower JSON file")
    upstream: Name = Field(description="name of the transmission network")
    upstream_bus: int | str = Field(description="its bus at the substation")
    feeders: int = Field(default=1, ge=1, description="number of identical feeders behind that bus")
    replaces_bus_load: bool = Field(default=True, description="whether the feeders stand for the upstream bus's own load")
    slack_voltage_pu: Annotated[float, Field(gt=0.5, lt=1.5)] = Field(default=1.0, description="voltage at the feeder's head")
    voltage_min_pu: Annotated[float, Field(gt=0.5, lt=1.5)] = Field(default=0.95, description="at every node")
    voltage_max_pu: Annotated[float, Field(gt=0.5, lt=1.5)] = Field(default=1.05, description="at every node")
    substation_limit_mva: Positive | None = Field(default=None, description="apparent power at the feeder's head; none if absent")
    current_limit_scale: Positive = Field(default=1.0, description="factor on the source's current limits")
    load_profile: str | float = Field(default=1.0, description="column of the public profiles, or a number")
    load_scale: NotNegative = Field(default=1.0, description="factor on the source's loads")
    reactive_support: tuple[ReactiveSupport, ...] = ()
    solve_ms: Positive | None = Field(default=None, description="measured time of one answer, to balance ranks")


class TransmissionTable(Strict):
    """A `[[network]]` of kind "transmission": a meshed grid, its generators and its operator."""

    kind: Literal["transmission"]
    name: Name
    source: str = Field(description="a bundled grid or a pandapower JSON file")
    cost_set: Literal["pglib", "matpower"] = Field(default="matpower", description="generator costs and limits (bundled grid only)")
    rating_scale: Positive = Field(default=1.0, description="factor on the source's line ratings")
    load_profile: str | float = Field(default=1.0, description="column of the public profiles, or a number")
    load_scale: NotNegative = Field(default=1.0, description="factor on the source's loads")
    ramp_share_per_hour: Positive = Field(default=0.5, description="largest change of a generator an hour, as a share of its capacity")
    reserve_up_share: NotNegative = Field(default=0.0, description="up reserve required, as a share of the load of the period")
    reserve_down_share: NotNegative = Field(default=0.0, description="down reserve required, as a share of the load of the period")
    reserve_cost_eur_per_mwh: NotNegative = Field(default=5.0, description="a generator's price of reserve, per MW and hour")
    solve_ms: Positive | None = Field(default=None, description="measured time of one answer, to balance ranks")


class AgentTable(Strict):
    """An `[[agent]]`: a community behind one meter; its devices are in its own private file."""

    name: Name
    kind: Literal["community"]
    network: Name
    bus: int | str
    file: str = Field(description="the private file, relative to the case folder")
    connection_kw: Positive = Field(description="public size of the connection: scales its boundary values")
    power_factor: Annotated[float, Field(gt=0, le=1)] = Field(default=1.0, description="at the meter: reactive power is p tan(acos(power_factor))")
    solve_ms: Positive | None = Field(default=None, description="measured time of one answer, to balance ranks")


Network = Annotated[DistributionTable | TransmissionTable, Field(discriminator="kind")]


class CaseTable(Strict):
    """`case.toml` as a whole."""

    name: Name
    title: str = ""
    horizon: HorizonTable
    prices: PriceTable = PriceTable()
    profiles: tuple[str, ...] = ()
    network: tuple[Network, ...] = Field(min_length=1)
    agent: tuple[AgentTable, ...] = Field(min_length=1)
    variant: dict[str, dict[str, Any]] = Field(default_factory=dict, description="named changes to the tables above")

    @field_validator("profiles")
    @classmethod
    def _no_duplicates(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        if len(set(value)) != len(value):
            raise ValueError("a file is listed twice")
        return value


class CaseFolder:
    """A case: its folder, its public table with the variant applied, and its horizon."""

    def __init__(self, folder: Path, variant: str | None = None) -> None:
        self.folder, self.variant = folder, variant
        self.path = folder / CASE_FILE
        data = read_toml(self.path)
        self.table = parse(CaseTable, _with_variant(self.path, data, variant), self.path)
        self._check_names()
        self.horizon = self._horizon()

    @property
    def name(self) -> str:
        return self.table.name + (f":{self.variant}" if self.variant else "")

    def _horizon(self) -> Horizon:
        given = self.table.horizon
        try:
            return Horizon(given.start, given.periods, given.step_minutes, given.utc_offset_hours)
        except InputError as error:
            raise InputError(f"{self.path}: [horizon] {error}") from None

    def _check_names(self) -> None:
        names = [n.name for n in self.table.network] + [a.name for a in self.table.agent]
        for name in names:
            if names.count(name) > 1:
                raise InputError(f"{self.path}: two networks or agents are called '{name}'; give each its own name")
        grids = {n.name: n for n in self.table.network}
        for agent in self.table.agent:
            self._check_reference(f"agent '{agent.name}': network", agent.network, grids, "distribution")
        for network in self.distribution:
            self._check_reference(f"network '{network.name}': upstream", network.upstream, grids, "transmission")

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
    def transmission(self) -> list[TransmissionTable]:
        return [n for n in self.table.network if isinstance(n, TransmissionTable)]

    def file(self, name: str) -> Path:
        """A file of the case; InputError if it lies outside the folder."""
        path = (self.folder / name).resolve()
        if not path.is_relative_to(self.folder.resolve()):
            raise InputError(f"{self.path}: file '{name}' lies outside the case folder; move it inside")
        return path

    def reference(self) -> dict[str, dict[str, Any]]:
        """Centralised optima that were saved for this case, by case name: {name: {case_sha256, objective_eur, turnover_eur}}."""
        path = self.folder / REFERENCE_FILE
        if not path.exists():
            return {}
        try:
            return json.loads(path.read_text(encoding="utf-8"))
        except (OSError, ValueError):
            raise InputError(f"{path}: is no JSON; remove it, or save the reference again") from None

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
    plain, _, variant = case.partition(":") if not Path(case).exists() else (case, "", "")
    folder = Path(plain) if Path(plain).is_dir() else BUNDLED / plain
    if not folder.is_dir():
        names = bundled_names()
        close = difflib.get_close_matches(plain, names, n=1)
        hint = f"did you mean '{close[0]}'?" if close else f"bundled cases: {', '.join(names)}"
        raise InputError(f"case '{case}': there is no such folder and no such bundled case; {hint}")
    return CaseFolder(folder, variant or None)


def bundled_names() -> list[str]:
    """Names of the bundled cases, without variants."""
    return sorted(p.parent.name for p in BUNDLED.glob(f"*/{CASE_FILE}"))


def _with_variant(path: Path, data: dict[str, Any], variant: str | None) -> dict[str, Any]:
    if variant is None:
        return data
    variants = data.get("variant", {})
    if variant not in variants:
        raise InputError(f"{path}: there is no variant '{variant}'; variants: {', '.join(variants) or 'none'}")
    merged = dict(data)
    for table, changes in variants[variant].items():
        if not (isinstance(changes, dict) and isinstance(merged.get(table, {}), dict)):
            raise InputError(f"{path}: variant '{variant}' may change tables such as [horizon] only, not '{table}'")
        merged[table] = {**merged.get(table, {}), **changes}
    return merged
