"""The tables of `case.toml` as checked data: every attribute's unit, bounds and description stand here once."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Any, ClassVar, Literal

from pydantic import BeforeValidator, Field, model_validator

from networks.market.rules import MarketTable
from subproblems.devices.attributes import Attributes, Series


def _check_bus(value: Any) -> int | str:
    if isinstance(value, bool) or not isinstance(value, (int, str)):
        raise ValueError("expected the number or name of a bus")
    return value


Name = Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9_.-]*$", max_length=100)]
"""Of networks and agents: files of results and checkpoints are named after them."""
Bus = Annotated[int | str, BeforeValidator(_check_bus)]
Positive = Annotated[float, Field(gt=0, strict=True)]
Nominal = Annotated[float, Field(gt=0, le=1e9, strict=True)]
"""A size or price that scales the algorithm: numbers beyond are mistakes, of which squares would overflow."""
NotNegative = Annotated[float, Field(ge=0, strict=True)]
Finite = Annotated[float, Field(ge=-1e9, le=1e9, strict=True)]
Whole = Annotated[int, Field(ge=1, strict=True)]
VOLTAGE: Any = {"gt": 0.5, "lt": 1.5, "strict": True}
"""Bounds of a voltage that may be absent."""


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
    source: str = Field(
        description="a bundled grid, a folder with bus.csv and branch.csv, a pandapower JSON file, or a MATPOWER case"
    )
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
    slack_voltage_pu: float | None = Field(
        default=None,
        **VOLTAGE,
        description="voltage at the feeder's head; the source's if absent, 1 where it has none",
    )
    voltage_min_pu: float | None = Field(
        default=None,
        **VOLTAGE,
        description="at every node; the source's limits if absent, 0.95 where it has none",
    )
    voltage_max_pu: float | None = Field(
        default=None,
        **VOLTAGE,
        description="at every node; the source's limits if absent, 1.05 where it has none",
    )
    substation_limit_mva: Positive | None = Field(
        default=None, description="apparent power at the feeder's head; none if absent"
    )
    current_limit_scale: float | None = Field(
        default=None, gt=0, strict=True, description="factor on the source's current limits; 1 if absent"
    )
    load_profile: Series = Field(default=1.0, description="factor on the source's loads: a public column, or a number")
    load_scale: NotNegative = Field(default=1.0, description="factor on the source's loads, beside load_profile")
    sgen_profile: Series | None = Field(
        default=None,
        description="factor on the source's static generators, p and q; required where one is in service",
    )
    pv_profile: Series = Field(default=0.0, description="output of other customers' PV per installed power")
    pv_scale: NotNegative = Field(
        default=0.0, description="other customers' installed PV at every node, as a multiple of the source's load there"
    )
    reactive_support: tuple[ReactiveSupport, ...] = Field(default=(), description="list of the entries below")
    solve_ms: Positive | None = Field(default=None, description="measured time of one answer, to balance ranks")

    @model_validator(mode="after")
    def _band_in_order(self) -> DistributionTable:
        if None not in (self.voltage_min_pu, self.voltage_max_pu) and self.voltage_min_pu >= self.voltage_max_pu:
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
    source: str = Field(
        description="a bundled grid, a folder with bus.csv, branch.csv and gen.csv, a pandapower JSON file, or a "
        "MATPOWER case"
    )
    cost_set: Literal["pglib", "matpower"] = Field(
        default="matpower", description="generator costs and limits (bundled grid only)"
    )
    rating_scale: Positive = Field(default=1.0, description="factor on the source's line ratings")
    load_profile: Series = Field(default=1.0, description="factor on the source's loads: a public column, or a number")
    load_scale: NotNegative = Field(default=1.0, description="factor on the source's loads, beside load_profile")
    sgen_profile: Series | None = Field(
        default=None,
        description="factor on the source's generators that nobody moves; required where a static one is in service",
    )
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
    heating_value_kwh_per_kg: Positive | None = Field(
        default=None, description="higher heating value of a pandapipes file's gas; the file's own if absent"
    )
    p_min_bar_g: Finite | None = Field(
        default=None, description="lowest pressure (gauge) at every node of a pandapipes file; 0 if absent"
    )
    p_max_bar_g: Finite | None = Field(
        default=None,
        description="highest pressure (gauge) at every node of a pandapipes file; the highest that it sets or "
        "names if absent",
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
    power_factor: Annotated[float, Field(ge=0.1, le=1, strict=True)] = Field(
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
    turnover_eur: Annotated[float, Field(ge=0, strict=True)]
