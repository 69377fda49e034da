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
from subproblems.reservoir import Reservoir

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
        shown=("kW", KW_PER_MW),
    )
    tie(builder, "gas balance", gas, flow.terms, flow.constant_kw, size_kw)
    return GasConnection(gas, limit_kw, size_kw)


def tie(
    builder: Builder, words: str, block: Block, terms: tuple[Term, ...], constant_kw: np.ndarray | float, scale: float
) -> None:
    """1000 block = sum of the terms + constant_kw."""
    less = [(of, -coefficient) for of, coefficient in terms]
    builder.rows(f"{CONNECTION}: {words}", [(block, KW_PER_MW), *less], constant_kw, constant_kw, scale=scale)


@dataclass(frozen=True)
class Fence:
    """What the balances while flexibility is called need to know; gas: None without a gas connection."""

    builder: Builder
    port: Port
    product_periods: int
    periods: int
    gas: GasConnection | None = None


def add_heat_balance(fence: Fence) -> None:
    """What is taken is given: the sum of all flows of heat, where there are any, is 0 in every period."""
    flow = fence.port.flows.get(HEAT)
    if flow is not None:
        fence.builder.rows("heat balance", flow.terms, -flow.constant_kw, -flow.constant_kw, scale=heat_size_kw(flow))


def heat_size_kw(flow: Flow) -> float:
    """A typical size of the heat that changes hands; sources and uses both count in the flow's nominal size."""
    return flow.nominal_kw / 2 or 1.0


def add_call_balances(fence: Fence) -> None:
    """While a call of electric flexibility runs, heat stays in balance and gas within its connection.

    Responders leave their schedules for it: in the k-th period of a call that began in t, boilers and heat dumps
    by r_k[t], and the heat store takes what all others give beyond their schedules, so the balance holds.
    Without a store the others' sum must be 0.
    """
    for direction, awards in (("up", fence.port.up), ("down", fence.port.down)):
        answered = [award for award in awards if award.takes]
        needs_heat = any(HEAT in award.takes for award in answered)
        responders = fence.port.responders if needs_heat else ()
        store = next((each for each in responders if each.reservoir is not None), None)
        stored: list[list[Term]] = []
        for lag, words in lags(fence.periods, fence.product_periods):
            called = f"with {direction} flexibility called{words}"
            moves = [(r, _add_response(fence, called, direction, r, lag)) for r in responders if r is not store]
            gas, heat = (_extra(carrier, answered, moves, lag, fence.periods) for carrier in (GAS, HEAT))
            if gas:
                _add_gas_rows(fence, called, gas, lag)
            if store is not None:
                stored.append([(block, -coefficient) for block, coefficient in heat])
                _add_store_rows(fence, called, store, stored)
            elif heat:
                size_kw = heat_size_kw(fence.port.flows[HEAT])
                fence.builder.rows(f"heat balance {called}", heat, 0.0, 0.0, scale=size_kw)


def _extra(
    carrier: Carrier, awards: Sequence[Award], moves: Sequence[tuple[Responder, Block]], lag: int, periods: int
) -> list[Term]:
    """What is taken of a carrier beyond the schedule, `lag` periods after a call began; rows (periods - lag)."""
    terms: list[Term] = [
        (award.block, sp.diags_array(award.takes[carrier][lag:]) @ begin(periods, lag))
        for award in awards
        if carrier in award.takes
    ]
    rest = sp.eye_array(periods - lag)
    return terms + [(block, each.takes[carrier] * rest) for each, block in moves if carrier in each.takes]


def _add_response(fence: Fence, called: str, direction: str, each: Responder, lag: int) -> Block:
    """The responder's r_k, within its power."""
    size_kw = float(np.maximum(each.most_kw, -each.least_kw).max())
    name = f"{each.name}.{direction}_response{f'_{lag + 1}' if lag else ''}_kw"
    block = fence.builder.variable(name, fence.periods - lag, unit="kW", scale=size_kw)
    terms = [(each.power, later(fence.periods, lag)), (block, 1.0)]
    fence.builder.rows(f"{each.name}: power {called}", terms, each.least_kw[lag:], each.most_kw[lag:], scale=size_kw)
    return block


def _add_gas_rows(fence: Fence, called: str, extra: list[Term], lag: int) -> None:
    """Gas and extra gas are within the connection."""
    gas = fence.gas
    if gas is not None:
        terms = [(gas.block, KW_PER_MW * later(fence.periods, lag)), *extra]
        name = f"{CONNECTION}: gas limit {called}"
        fence.builder.rows(name, terms, -np.inf, gas.limit_kw, scale=gas.size_kw)


def _add_store_rows(fence: Fence, called: str, store: Responder, stored: Sequence[list[Term]]) -> None:
    """least <= power[t+k] + s_k[t] <= most, and with x the level that is scheduled

    floor[t+k] <= x[t+k] + sum over j = 0 ... k of keep^(k-j) change s_j[t] <= upper[t+k], k the last of j.

    stored: for each j the terms of s_j, what the store takes beyond its schedule. floor: the least level from which
    it can do all that it must later, with every heat source at full power and heat loads that can wait at rest.
    """
    builder, reservoir, lag = fence.builder, store.reservoir, len(stored) - 1
    leg, rest, shift = reservoir.legs[0], fence.periods - lag, later(fence.periods, lag)
    size_kw = leg.nominal_kw
    limits_kw = (store.least_kw[lag:], store.most_kw[lag:])
    builder.rows(f"{store.name}: power {called}", [(store.power, shift), *stored[-1]], *limits_kw, scale=size_kw)
    moved: list[Term] = []
    for j, terms in enumerate(stored):
        kept = np.prod([reservoir.keep[i : i + rest] for i in range(j + 1, lag + 1)], axis=0)
        change = sp.diags_array(kept * leg.change[j : j + rest])
        moved += [(block, change @ coefficient.tocsr()[:rest]) for block, coefficient in terms]
    floor = _floor_of_store(fence, reservoir)
    name, terms = f"{store.name}: {reservoir.state_words} {called}", [(store.state, shift), *moved]
    builder.rows(name, terms, floor[lag:], reservoir.upper[lag:], scale=reservoir.scale)


def _floor_of_store(fence: Fence, reservoir: Reservoir) -> np.ndarray:
    """See above; where the store cannot do what it must even so, the schedule says why, not the calls."""
    spare_kw = -fence.port.flows[HEAT].least_kw
    leg = replace(reservoir.legs[0], maximum_kw=np.minimum(reservoir.legs[0].maximum_kw, spare_kw))
    return np.minimum(replace(reservoir, legs=(leg,)).floor(), reservoir.upper)
