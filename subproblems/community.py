"""An energy community or hub: devices behind one fence, as one program with a balance for each carrier."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import ClassVar

import numpy as np
from pydantic import Field, model_validator

from admm import InputError
from subproblems.balances import (
    CONNECTION,
    KW_PER_MW,
    Fence,
    add_call_balances,
    add_gas_boundary,
    add_heat_balance,
    check_gas_and_heat,
    tie,
)
from subproblems.builder import Builder
from subproblems.calls import begin, lags, later
from subproblems.devices import AnyDevice, Resolver
from subproblems.devices.attributes import Attributes, number
from subproblems.ev_error import Stays
from subproblems.horizon import Horizon
from subproblems.port import ELECTRICITY, GAS, HEAT, Flow, Port, join, terms_of
from subproblems.quadratic_program import Block, QuadraticProgram


class Community(Attributes):
    """Devices behind one connection, which also offers up flexibility (consume less) and down flexibility (more)."""

    label: ClassVar[str] = "community"
    import_limit_kw: float = number("greatest consumption at the connection", "kW", ge=0)
    export_limit_kw: float = number("greatest feed-in at the connection", "kW", ge=0)
    flexibility_duration_minutes: int | None = number(
        "for how long awarded flexibility must be deliverable, a multiple of the step; one period if not given",
        "min",
        None,
        gt=0,
    )
    flex_up_cost_eur_per_mwh: float = number("cost of a MW of up flexibility offered for an hour", "EUR/MWh", 0.0, ge=0)
    flex_down_cost_eur_per_mwh: float = number(
        "cost of a MW of down flexibility offered for an hour", "EUR/MWh", 0.0, ge=0
    )
    flex_quadratic_cost_eur_per_mw2h: float = number(
        "cost of squared flexibility offered, each direction", "EUR/(MW^2 h)", 1.0, ge=0
    )
    devices: list[AnyDevice] = Field(
        description="what stands behind the meter", min_length=1, json_schema_extra={"unit": ""}
    )

    @model_validator(mode="after")
    def _names_differ(self) -> Community:
        names = [device.name for device in self.devices]
        for name in names:
            if names.count(name) > 1:
                raise ValueError(f"two devices are called '{name}': give each its own name")
            if name in RESERVED:
                raise ValueError(f"a device is called '{name}', which stands for something else in results: rename it")
        return self

    def product_periods(self, horizon: Horizon) -> int:
        """For how many periods in a row awarded flexibility must be deliverable."""
        minutes = self.flexibility_duration_minutes
        if minutes is None:
            return 1
        if minutes % horizon.step_minutes:
            raise InputError(
                f"flexibility_duration_minutes is {minutes}, expected a multiple of step_minutes {horizon.step_minutes}"
            )
        return minutes // horizon.step_minutes

    def gas_limit_kw(self) -> float | None:
        """Greatest gas flow at its connection in kW (HHV); None where it has none, as a community of electricity."""
        return None

    def emission_factors(self, horizon: Horizon, series: Resolver) -> EmissionFactors | None:
        """What its emissions are made of; None where it does not count them."""
        return None


@dataclass(frozen=True)
class EmissionFactors:
    """kg/kWh of electricity taken, shape (periods,), and of gas (HHV); price of a tonne emitted."""

    electricity_kg_per_kwh: np.ndarray
    gas_kg_per_kwh: float
    price_eur_per_t: float


RESERVED = (CONNECTION, "objective_eur")
"""Names in result files that no device may have: the meter, and the community's cost."""
KG_PER_T = 1000.0
BALANCES = {ELECTRICITY: f"{CONNECTION}: power balance", GAS: f"{CONNECTION}: gas balance", HEAT: "heat balance"}
"""The rows of each carrier's balance."""


def compile_community(
    name: str,
    community: Community,
    horizon: Horizon,
    series: Resolver,
    coupling: str,
    gas_coupling: str | None = None,
    initial_states: Mapping[str, float] | None = None,
    stays: Stays | None = None,
) -> QuadraticProgram:
    """The community or hub as a program whose boundary is p_mw, flex_up_mw, flex_down_mw of the coupling, one value a
    period, and with a gas connection gas_mw of the gas coupling (of the same coupling where None).

    series: gives the values (periods,) of a column by its name, or of a number. Costs are in EUR.
    initial_states: {name of a state's block: its value before the first period}, such as the last values of the day
    before, in place of what the devices' attributes say. It is taken as it is, beyond the state's limits, too. Where a
    device has nothing at the horizon's start (no vehicles, no open window) its value has no effect.
    stays: how stays of electric vehicles differ from the file, asked for fleet/class; they change bounds only.
    Raises InputError, beginning with the community's name, where the data do not fit the horizon.
    """
    builder = Builder(name, initial_states, stays, horizon.time_utc())
    limit_kw = community.gas_limit_kw()
    try:
        product_periods = community.product_periods(horizon)
        ports = [device.add(builder, horizon, series, product_periods) for device in community.devices]
        builder.check_initial_states()
        check_gas_and_heat(community.devices, ports, limit_kw)
        factors = community.emission_factors(horizon, series)
    except InputError as error:
        raise InputError(f"{name}: {error}") from None
    port = join([_nothing(horizon, limit_kw), *ports])
    blocks = _add_boundary(builder, community, horizon, port)
    sizes_mw = {"p_mw": _sizes_kw(community, port)[0] / KW_PER_MW}
    _add_connection_rows(builder, community, blocks, sizes_mw["p_mw"], product_periods)
    for quantity, block in blocks.items():
        builder.boundary(coupling, quantity, block)
    fence = Fence(builder, port, product_periods, horizon.periods)
    if limit_kw is not None:
        gas = add_gas_boundary(builder, port.flows[GAS], limit_kw, horizon.periods)
        builder.boundary(gas_coupling or coupling, "gas_mw", gas.block)
        blocks["gas_mw"], sizes_mw["gas_mw"] = gas.block, gas.size_kw / KW_PER_MW
        fence = replace(fence, gas=gas)
    add_heat_balance(fence)
    add_call_balances(fence)
    _describe_balances(builder, community, ports)
    if factors is not None:
        _add_emissions(builder, blocks, sizes_mw, factors, horizon.hours)
    return builder.build()


def _describe_balances(builder: Builder, community: Community, ports: Sequence[Port]) -> None:
    """Say for messages what each balance contains that has no choice."""
    for carrier, rows in BALANCES.items():
        pairs = zip(community.devices, ports, strict=True)
        fixed = {device.name: port.flows[carrier].constant_kw for device, port in pairs if carrier in port.flows}
        if fixed:
            builder.describe(rows, {name: kw for name, kw in fixed.items() if kw.any()}, unit="kW")


def _nothing(horizon: Horizon, gas_limit_kw: float | None) -> Port:
    """No flow of the carriers that have a connection, so that each has its balance even if no device takes it."""
    carriers = (ELECTRICITY,) if gas_limit_kw is None else (ELECTRICITY, GAS)
    return Port({carrier: Flow((), np.zeros(horizon.periods), 0.0) for carrier in carriers})


def _add_emissions(
    builder: Builder, blocks: dict[str, Block], sizes_mw: dict[str, float], factors: EmissionFactors, hours: float
) -> None:
    """emissions = hours x 1000 (electricity factor x p_mw + gas factor x gas_mw), in kg, and what they cost.

    sizes_mw: typical size of each flow at the connection.
    """
    kg_per_kwh = {"p_mw": factors.electricity_kg_per_kwh, "gas_mw": np.asarray(factors.gas_kg_per_kwh)}
    kg_per_mw = {quantity: hours * KW_PER_MW * kg_per_kwh[quantity] for quantity in sizes_mw}
    scale_kg = sum(float(kg_per_mw[quantity].max()) * size_mw for quantity, size_mw in sizes_mw.items()) or 1.0
    length = blocks["p_mw"].length
    emissions = builder.variable(f"{CONNECTION}.emissions_kg", length, unit="kg", scale=scale_kg)
    terms = [(emissions, 1.0), *((blocks[quantity], -kg) for quantity, kg in kg_per_mw.items())]
    builder.rows(f"{CONNECTION}: emissions", terms, 0.0, 0.0, scale=scale_kg)
    builder.cost(emissions, linear=factors.price_eur_per_t / KG_PER_T)


def _sizes_kw(community: Community, port: Port) -> tuple[float, float]:
    """Typical sizes of the power and of the flexibility at the meter: no more than the connection carries."""
    limit = max(community.import_limit_kw, community.export_limit_kw) or 1.0
    size = min(limit, port.flows[ELECTRICITY].nominal_kw or 1.0)
    return size, min(size, port.flexible_kw or size)


def _add_boundary(builder: Builder, community: Community, horizon: Horizon, port: Port) -> dict[str, Block]:
    """The variables in MW, tied to the devices in kW, and the cost of flexibility."""
    size_kw, flexible_kw = _sizes_kw(community, port)
    add: Callable[..., Block] = builder.variable
    p = add(f"{CONNECTION}.p_mw", horizon.periods, unit="MW", scale=size_kw / KW_PER_MW)
    flow = port.flows[ELECTRICITY]
    tie(builder, "power balance", p, flow.terms, flow.constant_kw, size_kw)
    blocks = {"p_mw": p}
    costs = {"up": community.flex_up_cost_eur_per_mwh, "down": community.flex_down_cost_eur_per_mwh}
    for direction, terms in (("up", terms_of(port.up)), ("down", terms_of(port.down))):
        block = add(
            f"{CONNECTION}.flex_{direction}_mw",
            horizon.periods,
            0.0,
            unit="MW",
            scale=flexible_kw / KW_PER_MW,
            bound_name=f"{CONNECTION}: {direction} flexibility is not negative",
        )
        tie(builder, f"{direction} flexibility of all devices", block, terms, 0.0, flexible_kw)
        quadratic = horizon.hours * community.flex_quadratic_cost_eur_per_mw2h
        builder.cost(block, linear=horizon.hours * costs[direction], quadratic=quadratic)
        blocks[f"flex_{direction}_mw"] = block
    return blocks


def _add_connection_rows(
    builder: Builder, community: Community, blocks: dict[str, Block], scale: float, product_periods: int
) -> None:
    """While calls run: p + down <= import limit and p - up >= -export limit.

    As flexibility is not negative, p itself is within the limits, too.
    """
    p, periods = blocks["p_mw"], blocks["p_mw"].length
    most, least = community.import_limit_kw / KW_PER_MW, -community.export_limit_kw / KW_PER_MW
    sides = (("import", "down", 1.0, -np.inf, most), ("export", "up", -1.0, least, np.inf))  # sign: what a limit counts
    for limit, direction, sign, lower, upper in sides:
        for lag, words in lags(periods, product_periods):
            terms = [(p, later(periods, lag)), (blocks[f"flex_{direction}_mw"], sign * begin(periods, lag))]
            rows = f"{CONNECTION}: {limit} limit with {direction} flexibility called{words}"
            builder.rows(rows, terms, lower, upper, scale=scale)
            builder.describe(rows, unit="MW", shown=("kW", sign * KW_PER_MW))
