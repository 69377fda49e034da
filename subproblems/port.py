"""What a device shows to the fence that it stands behind: a flow of each carrier, and its flexibility."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal

import numpy as np

from subproblems.builder import Term
from subproblems.quadratic_program import Block

if TYPE_CHECKING:
    from subproblems.reservoir import Reservoir

Carrier = Literal["electricity", "gas", "heat"]
ELECTRICITY: Carrier = "electricity"
GAS: Carrier = "gas"
HEAT: Carrier = "heat"


@dataclass(frozen=True)
class Flow:
    """What is taken of one carrier, in kW (gas: by its higher heating value); negative: given.

    It is the sum of the terms (each a block of one variable a period and its coefficient) plus constant_kw,
    shape (periods,). nominal_kw: a typical size. least_kw: the least that can be taken, shape (periods,).
    """

    terms: tuple[Term, ...]
    constant_kw: np.ndarray
    nominal_kw: float
    least_kw: np.ndarray | float = 0.0


@dataclass(frozen=True)
class Award:
    """Flexibility on offer. block: kW of electricity, one value a period.

    takes: {carrier: shape (periods,)}: kW of other carriers that the device takes in a period (negative: gives)
    beyond its schedule for each kW of a call that runs there.
    """

    block: Block
    takes: Mapping[Carrier, np.ndarray] = field(default_factory=dict)


@dataclass(frozen=True)
class Responder:
    """A power that may leave its schedule while a call runs, so that the heat balance still holds.

    least_kw, most_kw: shape (periods,). takes: {carrier: kW taken per kW of the power}. state: where the power
    fills a store, the block of its state; `reservoir` has the store's numbers, its one leg being the power.
    """

    name: str
    power: Block
    least_kw: np.ndarray
    most_kw: np.ndarray
    takes: Mapping[Carrier, float]
    reservoir: Reservoir | None = None
    state: Block | None = None


@dataclass(frozen=True)
class Port:
    """All flows of a device. up, down: how much less and how much more electricity it can take on call.

    flexible_kw: a typical size of its flexibility.
    """

    flows: Mapping[Carrier, Flow]
    up: tuple[Award, ...] = ()
    down: tuple[Award, ...] = ()
    flexible_kw: float = 0.0
    responders: tuple[Responder, ...] = ()


def join(ports: Sequence[Port]) -> Port:
    """Several ports as one."""
    carriers = dict.fromkeys(carrier for port in ports for carrier in port.flows)
    return Port(
        flows={
            carrier: _join_flows([port.flows[carrier] for port in ports if carrier in port.flows])
            for carrier in carriers
        },
        up=tuple(award for port in ports for award in port.up),
        down=tuple(award for port in ports for award in port.down),
        flexible_kw=sum(port.flexible_kw for port in ports),
        responders=tuple(responder for port in ports for responder in port.responders),
    )


def _join_flows(flows: Sequence[Flow]) -> Flow:
    return Flow(
        terms=tuple(term for flow in flows for term in flow.terms),
        constant_kw=np.sum([flow.constant_kw for flow in flows], axis=0),
        nominal_kw=sum(flow.nominal_kw for flow in flows),
        least_kw=np.sum([flow.least_kw + np.zeros_like(flow.constant_kw) for flow in flows], axis=0),
    )


def terms_of(awards: Iterable[Award]) -> tuple[Term, ...]:
    """The awards' sum."""
    return tuple((award.block, 1.0) for award in awards)
