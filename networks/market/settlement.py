"""Who pays whom for what at the end of a day: a ledger of double entry, settled in two stages and an imbalance.

At a coupling, a gate's price (EUR/MWh) is what the lower agent pays the upper one. With positions p and flex (MW, mean
of both sides), h the hours of a period, and the day-ahead market as number -1, period by period:

    day-ahead       energy                 h p[-1]                         at price[-1]
                    capacity_up, _down     h flex[-1]                      at price[-1] (below 0: lower gets it)
    gate g, t >= g  activation             h (inside p[g] - inside p[g-1]) at price[g]
                    intraday_energy        the rest of h (p[g] - p[g-1])   at price[g]
                    intraday_capacity_*    h (flex[g] - flex[g-1])         at price[g]
    imbalance       imbalance              h (realised[t] - p[t][t])       at price[t][t] + spread[t] sign(system[t])
                    balancing              what the transmission operator takes from outside, as paid

`inside` clips to the band contracted day-ahead, [p[-1] - flex_up[-1], p[-1] + flex_down[-1]]. `system` adds
up realised - planned over the couplings that lead to the top, a feeder each; it is short where that is positive. So a
coupling has one imbalance price for both directions.

Amounts are whole cents. Within an account (coupling and product), in the order of time, what rounding left over goes
into the next amount: any part of an account from its beginning on is within half a cent of its exact value. Payer
and payee book the same cents, so all agents and the outside add up to exactly nothing.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from admm import InputError
from networks.market.record import OUTSIDE, DayRecord
from networks.market.tariffs import DOWN, ENERGY, UP

DAY_AHEAD, INTRADAY, IMBALANCE = STAGES = ("day-ahead", "intra-day", "imbalance")
PRODUCTS = (
    "energy",
    "capacity_up",
    "capacity_down",
    "activation",
    "intraday_energy",
    "intraday_capacity_up",
    "intraday_capacity_down",
    "imbalance",
    "balancing",
)
DAY_AHEAD_GATE = -1
CENTS_PER_EUR = 100
BALANCED_MW = 1e-9
"""A system that deviates by no more is neither short nor long."""

ENTRY = np.dtype(
    [
        ("stage", "i1"),
        ("gate", "i4"),
        ("period", "i4"),
        ("account", "i4"),
        ("product", "i1"),
        ("quantity_mwh", "f8"),
        ("price_eur_per_mwh", "f8"),
        ("exact_eur", "f8"),
        ("cents", "i8"),
    ]
)
"""One transfer. stage, product: places in STAGES and PRODUCTS. account: place of the coupling, or behind them all for
the outside. Quantities and amounts are positive where the lower agent takes and pays."""


@dataclass(frozen=True)
class Settlement:
    """entries: (rows,) of type ENTRY, in the order of time. record: what was settled.
    imbalance_eur_per_mwh: (couplings, T), the price of realised less last plan."""

    record: DayRecord
    entries: np.ndarray
    imbalance_eur_per_mwh: np.ndarray

    @cached_property
    def accounts(self) -> dict[str, tuple[str, str]]:
        """{coupling: (lower agent, upper agent)}; the last one is with the outside, if there was any balancing."""
        found = {name: (lower, upper) for name, (lower, upper, _) in self.record.couplings.items()}
        balancing = self.record.balancing_agent()
        return found if balancing is None else {**found, OUTSIDE: (balancing, OUTSIDE)}

    @cached_property
    def rows(self) -> dict[str, np.ndarray]:
        """One row a transfer, columns (rows,).

        quantity_mwh: positive, the lower agent takes it (of capacity: MW held for an hour). price_eur_per_mwh:
        positive, the lower agent pays; NaN where balancing costs without a quantity. amount_eur: in whole cents, never
        negative, from payer to payee.
        """
        ends, cents = np.array(list(self.accounts.values()), dtype=object), self.entries["cents"]
        account, forward = self.entries["account"], (cents >= 0).astype(int)
        return {
            "stage": np.array(STAGES, dtype=object)[self.entries["stage"]],
            "gate": self.entries["gate"],
            "period": self.entries["period"],
            "coupling": np.array(list(self.accounts), dtype=object)[account],
            "payer": ends[account, 1 - forward],
            "payee": ends[account, forward],
            "product": np.array(PRODUCTS, dtype=object)[self.entries["product"]],
            "quantity_mwh": self.entries["quantity_mwh"],
            "price_eur_per_mwh": self.entries["price_eur_per_mwh"],
            "amount_eur": np.abs(cents) / CENTS_PER_EUR,
        }

    @cached_property
    def received_cents(self) -> dict[str, np.ndarray]:
        """{agent or outside: received minus paid, (products,) whole numbers}."""
        names = dict.fromkeys([*self.record.agents, *(name for ends in self.accounts.values() for name in ends)])
        found = {name: np.zeros(len(PRODUCTS), dtype=np.int64) for name in names}
        booked = np.zeros((len(self.accounts), len(PRODUCTS)), dtype=np.int64)
        np.add.at(booked, (self.entries["account"], self.entries["product"]), self.entries["cents"])
        for (lower, upper), cents in zip(self.accounts.values(), booked, strict=True):
            found[lower] -= cents
            found[upper] += cents
        return found

    def by_agent(self) -> dict[str, dict[str, float]]:
        """{agent or outside: {product: EUR received minus paid}}; products that left nothing are not in it."""
        return {
            name: {product: int(value) / CENTS_PER_EUR for product, value in zip(PRODUCTS, cents, strict=True) if value}
            for name, cents in self.received_cents.items()
        }

    def total_cents(self) -> int:
        """Received minus paid by all agents and the outside: 0."""
        return int(sum(cents.sum() for cents in self.received_cents.values()))

    def net_eur(self) -> dict[str, float | None]:
        """What the day cost each agent: own cost + limits that gave way + paid - received; None, own cost unknown."""
        record, found = self.record, {}
        for name in record.agents:
            own, received = record.costs_eur[name], int(self.received_cents[name].sum()) / CENTS_PER_EUR
            found[name] = None if own is None else float(own) + float(record.relief_eur.get(name, 0.0)) - received
        return found

    def activated_mwh(self) -> dict[str, dict[str, float]]:
        """{coupling: {what: MWh of the day, not negative}}.

        contracted: flexibility held day-ahead. inside, beyond: how far the last plan is from the day-ahead position,
        within the contracted band and outside of it; up is less consumption. short, long: realised against last plan.
        """
        held = {key: np.maximum(self.record.positions_mw(key)[0], 0.0) for key in (UP, DOWN)}
        positions = self.record.positions_mw(ENERGY)
        inside = _inside(self.record, positions)[-1] - positions[0]
        beyond = positions[-1] - positions[0] - inside
        deviation = self.record.realised_mw() - positions[-1]
        each = {
            "contracted_up": held[UP],
            "contracted_down": held[DOWN],
            "inside_up": np.maximum(-inside, 0.0),
            "inside_down": np.maximum(inside, 0.0),
            "beyond_up": np.maximum(-beyond, 0.0),
            "beyond_down": np.maximum(beyond, 0.0),
            "short": np.maximum(deviation, 0.0),
            "long": np.maximum(-deviation, 0.0),
        }
        sums = {what: self.record.hours * mw.sum(axis=1) for what, mw in each.items()}
        return {name: {what: float(of[k]) for what, of in sums.items()} for k, name in enumerate(self.record.couplings)}


def settle(record: DayRecord, spread_eur_per_mwh: float | np.ndarray = 0.0) -> Settlement:
    """The ledger of a day, per feeder.

    spread_eur_per_mwh: one number or (T,), not negative, by which imbalance is dearer than at the last gate while the
    system is short, and cheaper while it is long. Raises InputError.
    """
    spread = _checked_spread(record, spread_eur_per_mwh)
    price = _imbalance_price(record, spread)
    parts = [*_day_ahead(record), *_intraday(record), _imbalance(record, price), _balancing(record)]
    entries = np.concatenate(parts)
    keys = ("product", "account", "period", "gate", "stage")  # the last one counts first
    entries = entries[np.lexsort([entries[key] for key in keys])]
    entries["cents"] = _cents(entries)
    return Settlement(record, entries, price)


def worse_off(
    net_eur: Mapping[str, float | None], standalone_eur: Mapping[str, float], tolerance_eur: float
) -> list[tuple[str, float]]:
    """Agents that the market costs more than staying out of it, by more than the tolerance: (agent, EUR), worst first.

    net_eur: {agent: cost of the day}, as `Settlement.net_eur` gives it. standalone_eur: the same without the market,
    for those that are to be compared. Raises InputError, also where one of their costs is not known.
    """
    if not (np.isfinite(tolerance_eur) and tolerance_eur >= 0):
        raise InputError(f"worse_off: tolerance_eur is {tolerance_eur!r}, expected a finite number, 0 or above")
    for name, alone in standalone_eur.items():
        for what, value in (("net_eur", net_eur.get(name)), ("standalone_eur", alone)):
            if value is None or not np.isfinite(value):
                raise InputError(f"worse_off: {what} of '{name}' is {value!r}, expected a finite number to compare")
    losses = [(name, float(net_eur[name] - alone)) for name, alone in standalone_eur.items()]
    return sorted(((name, eur) for name, eur in losses if eur > tolerance_eur), key=lambda loss: -loss[1])


# -------------------------------------------------------------------- the parts of the ledger


def _day_ahead(record: DayRecord) -> list[np.ndarray]:
    products = {ENERGY: "energy", UP: "capacity_up", DOWN: "capacity_down"}
    return [
        _entries(
            record,
            (DAY_AHEAD, product),
            np.array(DAY_AHEAD_GATE),
            record.positions_mw(quantity)[:1],
            record.prices_eur_per_mwh(quantity)[:1],
        )
        for quantity, product in products.items()
    ]


def _intraday(record: DayRecord) -> list[np.ndarray]:
    """Changes of positions at each gate's prices; (T, couplings, T) each."""
    p_mw = record.positions_mw(ENERGY)
    activation = np.diff(_inside(record, p_mw), axis=0)
    changes = {
        "activation": (ENERGY, activation),
        "intraday_energy": (ENERGY, np.diff(p_mw, axis=0) - activation),
        "intraday_capacity_up": (UP, np.diff(record.positions_mw(UP), axis=0)),
        "intraday_capacity_down": (DOWN, np.diff(record.positions_mw(DOWN), axis=0)),
    }
    gate = np.arange(record.periods)[:, None, None]
    return [
        _entries(record, (INTRADAY, product), gate, change, record.prices_eur_per_mwh(quantity)[1:])
        for product, (quantity, change) in changes.items()
    ]


def _inside(record: DayRecord, p_mw: np.ndarray) -> np.ndarray:
    """Positions (..., couplings, T), clipped to the band contracted day-ahead."""
    planned = record.positions_mw(ENERGY)[0]
    up, down = (np.maximum(record.positions_mw(key)[0], 0.0) for key in (UP, DOWN))  # a solver stops just below 0
    return np.clip(p_mw, planned - up, planned + down)


def _imbalance_price(record: DayRecord, spread: np.ndarray) -> np.ndarray:
    """Find the price of imbalance, (couplings, T): the last price, and the spread (T,) by what the system is."""
    top = record.top()
    system = record.feeders()[top] @ _deviation_mw(record)[top]
    sign = np.where(np.abs(system) > BALANCED_MW, np.sign(system), 0.0)
    return record.last_prices_eur_per_mwh(ENERGY) + spread * sign


def _imbalance(record: DayRecord, price: np.ndarray) -> np.ndarray:
    """Settle realised against the last plan at a price (couplings, T)."""
    deviation = _deviation_mw(record)
    return _entries(record, (IMBALANCE, "imbalance"), np.arange(record.periods), deviation[None], price[None])


def _deviation_mw(record: DayRecord) -> np.ndarray:
    """Subtract the last plan from what was realised, (couplings, T)."""
    return record.realised_mw() - record.positions_mw(ENERGY)[-1]


def _balancing(record: DayRecord) -> np.ndarray:
    """What was paid stands; the price follows from it."""
    power, paid = (np.asarray(x, dtype=float)[None, None] for x in (record.balancing_mw, record.balancing_eur))
    with np.errstate(divide="ignore", invalid="ignore"):
        price = np.where(power != 0, paid / (record.hours * power), np.nan)
    found = _entries(record, (IMBALANCE, "balancing"), np.arange(record.periods), power, price, paid)
    found["account"] = len(record.couplings)
    return found


def _entries(
    record: DayRecord,
    what: tuple[str, str],
    gate: np.ndarray,
    quantity_mw: np.ndarray,
    price: np.ndarray,
    amount_eur: np.ndarray | None = None,
) -> np.ndarray:
    """Of what moves anything. what: (stage, product). quantity_mw, price in EUR/MWh, amount_eur (quantity x price where
    not given): (gates, couplings, T); gate broadcasts to that."""
    quantity = record.hours * quantity_mw
    amount = quantity * price if amount_eur is None else amount_eur
    at = np.nonzero((quantity != 0) | (amount != 0))
    found = np.zeros(at[0].size, dtype=ENTRY)
    found["stage"], found["product"] = STAGES.index(what[0]), PRODUCTS.index(what[1])
    found["gate"], found["account"], found["period"] = np.broadcast_to(gate, quantity.shape)[at], at[1], at[2]
    found["quantity_mwh"], found["price_eur_per_mwh"], found["exact_eur"] = quantity[at], price[at], amount[at]
    return found


def _cents(entries: np.ndarray) -> np.ndarray:
    """Whole cents of each entry, (rows,): the increments of each account's rounded running sum."""
    cents = np.zeros(entries.size, dtype=np.int64)
    account = entries["account"].astype(np.int64) * len(PRODUCTS) + entries["product"]
    for one in np.unique(account):
        at = np.flatnonzero(account == one)
        cents[at] = np.diff(np.rint(CENTS_PER_EUR * np.cumsum(entries["exact_eur"][at])), prepend=0.0)
    return cents


def _checked_spread(record: DayRecord, spread: float | np.ndarray) -> np.ndarray:
    """(T,)"""
    array = np.asarray(spread, dtype=float)
    if array.shape not in ((), (record.periods,)):
        raise InputError(
            f"settlement: spread_eur_per_mwh has shape {array.shape}, expected one number or {record.periods}"
        )
    if not np.isfinite(array).all() or (array < 0).any():
        raise InputError(f"settlement: spread_eur_per_mwh is {spread!r}, expected finite numbers, 0 or above")
    return np.broadcast_to(array, (record.periods,))
