"""The balances of gas and heat behind one fence, as scheduled and while flexibility is called."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import scipy.sparse as sp

from admm import InputError
from subproblems.builder import Builder, Term
from subproblems.calls import begin, lags, later
from subproblems.devices import Device
from subproblems.port import GAS, HEAT, Award, Carrier, Flow, Port, Responder
from subproblems.quadratic_program import Block

CONNECTION = "connection"
KW_PER_MW = 1000.0


def check_gas_and_heat(devices: Sequence[Device], ports: Sequence[Port], gas_connection_kw: float | None) -> None:
    """Raises InputError where gas has no connection, or heat no source or no use, or there are two heat stores."""
    pairs = list(zip(devices, ports, strict=True))
    for device, port in pairs:
        if GAS in port.flows and gas_connection_kw is None:
            raise device.error("takes gas, but there is no gas_connection_kw: only a hub that gives it can have gas")
    stores = [device.name for device, port in pairs if any(r.reservoir is not None for r in port.responders)]
    if len(stores) > 1:
        raise InputError(f"heat_storage '{stores[0]}' and '{stores[1]}' share one heat balance: add them up to one")
    heat = [(device, port.flows[HEAT]) for device, port in pairs if HEAT in port.flows and device.name not in stores]
    sources = [device for device, flow in heat if np.min(flow.least_kw) < 0]
    uses = [device for device, flow in heat if np.min(flow.least_kw) >= 0]
    if uses and not sources:
        raise uses[0].error("takes heat, but no device gives any: add a gas_boiler, a chp or a hub_heat_pump")
    if sources and not uses:
        raise sources[0].error("gives heat, but no device takes any: add a load with carrier = 'heat' or a heat_dump")
    if stores and not heat:
        raise InputError(f"heat_storage '{stores[0]}' stands alone: add what gives heat and what takes it")


@dataclass(frozen=True)
class GasConnection:
    """block: gas_mw, one value a period. size_kw: a typical size of it."""

    block: Block
    limit_kw: float
    size_kw: float


def add_gas_boundary(builder: Builder, flow: Flow, limit_kw: float, periods: int) -> GasConnection:
    """gas_mw, tied to what the devices take, from 0 to the connection's limit."""
    size_kw = min(limit_kw, flow.nominal_kw or limit_kw)
    gas = builder.variable(
        f"{CONNECTION}.gas_mw",
        periods,
        0.0,
        limit_kw / KW_PER_MW,
        unit="MW",
        scale=size_kw / KW_PER_MW,
        bound_name=f"{CONNECTION}: gas connection limit",
    )
    tie(builder, "gas balance", gas, flow.terms, flow.constant_kw, size_kw)
    return GasConnection(gas, limit_kw, size_kw)


def tie(
    builder: Builder, words: str, block: Block, terms: tuple[Term, ...], constant_kw: np.ndarray | float, scale: float
) -> None:
    """1000 block = sum of the terms + constant_kw."""
    less = [(of, -coefficient) for of, coefficient in terms]
    builder.rows(f"{CONNECTION}: {words}", [(block, KW_PER_MW), *less], constant_kw, constant_kw, scale=scale)


def add_heat_balance(builder: Builder, flow: Flow) -> None:
    """What is taken is given: the sum of all flows of heat is 0 in every period."""
    builder.rows("heat balance", flow.terms, -flow.constant_kw, -flow.constant_kw, scale=heat_size_kw(flow))


def heat_size_kw(flow: Flow) -> float:
    """A typical size of the heat that changes hands; sources and uses both count in the flow's nominal size."""
    return flow.nominal_kw / 2 or 1.0


@dataclass(frozen=True)
class Fence:
    """What the balances while flexibility is called need to know; gas: None without a gas connection."""

    builder: Builder
    port: Port
    product_periods: int
    periods: int
    gas: GasConnection | None = None


def add_call_balances(fence: Fence) -> None:
    """While a call of electric flexibility runs, heat stays in balance and gas within its connection.

    Responders (boilers, the heat store, a heat dump) leave their schedules for it by r_k[t] in the k-th period of
    a call that began in t: sum over awards of takes award[t] + sum over responders of takes r_k[t] = 0 for heat.
    """
    for direction, awards in (("up", fence.port.up), ("down", fence.port.down)):
        answered = [award for award in awards if award.takes]
        needs_heat = any(HEAT in award.takes for award in answered)
        responders = fence.port.responders if needs_heat else ()
        responses = [_add_responses(fence, direction, each) for each in responders]
        for lag, words in lags(fence.periods, fence.product_periods):
            moves = [(each, blocks[lag]) for each, blocks in zip(responders, responses, strict=True)]
            for carrier, name in ((HEAT, "heat balance"), (GAS, f"{CONNECTION}: gas limit")):
                extra = _extra(carrier, answered, moves, lag, fence.periods)
                if extra:
                    _add_call_rows(fence, f"{name} with {direction} flexibility called{words}", carrier, extra, lag)


def _add_call_rows(fence: Fence, name: str, carrier: Carrier, extra: list[Term], lag: int) -> None:
    """Extra heat is 0; gas and extra gas are within the connection."""
    if carrier == HEAT:
        fence.builder.rows(name, extra, 0.0, 0.0, scale=heat_size_kw(fence.port.flows[HEAT]))
    elif fence.gas is not None:
        terms = [(fence.gas.block, KW_PER_MW * later(fence.periods, lag)), *extra]
        fence.builder.rows(name, terms, -np.inf, fence.gas.limit_kw, scale=fence.gas.size_kw)


def _extra(
    carrier: Carrier, awards: Sequence[Award], responses: Sequence[tuple[Responder, Block]], lag: int, periods: int
) -> list[Term]:
    """What is taken of a carrier beyond the schedule, `lag` periods after a call began; rows (periods - lag)."""
    terms: list[Term] = [
        (award.block, sp.diags_array(award.takes[carrier][lag:]) @ begin(periods, lag))
        for award in awards
        if carrier in award.takes
    ]
    return terms + [(block, each.takes[carrier]) for each, block in responses if carrier in each.takes]


def _add_responses(fence: Fence, direction: str, each: Responder) -> list[Block]:
    """The responder's deviations r_k, by k, within its power and, for a store, within its levels."""
    builder, periods = fence.builder, fence.periods
    size_kw, blocks = float(np.maximum(each.most_kw, -each.least_kw).max()), []
    for lag, words in lags(periods, fence.product_periods):
        name = f"{each.name}.{direction}_response{f'_{lag + 1}' if lag else ''}_kw"
        block = builder.variable(name, periods - lag, unit="kW", scale=size_kw)
        rows = f"{each.name}: power with {direction} flexibility called{words}"
        terms = [(each.power, later(periods, lag)), (block, 1.0)]
        builder.rows(rows, terms, each.least_kw[lag:], each.most_kw[lag:], scale=size_kw)
        blocks.append(block)
        if each.reservoir is not None and each.state is not None:
            _add_level_rows(fence, direction, each, blocks, words)
    return blocks


def _add_level_rows(fence: Fence, direction: str, each: Responder, blocks: Sequence[Block], words: str) -> None:
    """floor[t+k] <= state[t+k] + sum over j of keep^(k-j) change r_j[t] <= upper[t+k], with k the last of j.

    floor is the least level from which the store can do all that it must later, with every heat source of the
    hub at full power and heat loads that can wait at rest.
    """
    reservoir, leg, lag = each.reservoir, each.reservoir.legs[0], len(blocks) - 1
    spare_kw = -fence.port.flows[HEAT].least_kw
    filled = replace(reservoir, legs=(replace(leg, maximum_kw=np.minimum(leg.maximum_kw, spare_kw)),))
    floor = np.minimum(filled.floor(), reservoir.upper)
    rest = fence.periods - lag
    terms: list[Term] = [(each.state, later(fence.periods, lag))]
    for j, block in enumerate(blocks):
        kept = np.prod([reservoir.keep[i : i + rest] for i in range(j + 1, lag + 1)], axis=0)
        moved = sp.diags_array(kept * leg.change[j : j + rest]) @ sp.eye_array(rest, block.length)
        terms.append((block, moved))
    rows = f"{each.name}: {reservoir.state_words} with {direction} flexibility called{words}"
    fence.builder.rows(rows, terms, floor[lag:], reservoir.upper[lag:], scale=reservoir.scale)
