"""What a day on the market leaves behind: all that its settlement needs, checked, and nothing of any agent's inside."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import NamedTuple

import numpy as np

from admm import InputError
from admm.state import BoundaryResult
from networks.market.tariffs import ENERGY, QUANTITIES

OUTSIDE = "outside"
"""Other areas, with which the transmission operator balances."""

Boundary = Mapping[str, Mapping[str, BoundaryResult]]
"""{coupling: {quantity: values}}, as `Result.boundary` has it."""


class Ends(NamedTuple):
    """Of a coupling. feeders: how many equal ones stand behind the upper agent; all values are those of one of them."""

    lower: str
    upper: str
    feeders: int = 1


@dataclass(frozen=True)
class DayRecord:
    """One day of T periods of `hours` hours each, the first from `start` (UTC).

    couplings: {name: ends}. day_ahead: the first market's result. gates: those of gate g = 0 ... T - 1, which agreed
    anew on periods g ... T - 1; what they hold of earlier periods is not looked at. closing: of the step after the
    last period; its p_mw is what was really exchanged.
    balancing_mw, balancing_eur: (T,) per feeder, power that the transmission operator took from other areas (negative:
    gave) and what it paid for it.
    costs_eur: {agent: own cost of what happened, without anything that is settled, such as balancing power; None where
    it does not share it}, all agents. relief_eur: {agent: cost of limits that gave way}, none where not given.
    Raises InputError.
    """

    start: datetime
    hours: float
    couplings: Mapping[str, Ends]
    day_ahead: Boundary
    gates: tuple[Boundary, ...]
    closing: Boundary
    balancing_mw: np.ndarray
    balancing_eur: np.ndarray
    costs_eur: Mapping[str, float | None]
    relief_eur: Mapping[str, float]

    def __post_init__(self) -> None:
        self._check_time()
        self._check_couplings()
        self._check_gates()
        self._check_boundary("day-ahead", self.day_ahead, QUANTITIES)
        for gate, boundary in enumerate(self.gates):
            self._check_boundary(f"gate {gate}", boundary, QUANTITIES)
        self._check_boundary("closing step", self.closing, (ENERGY,))
        self._check_array("balancing_eur", self.balancing_eur)
        self._check_agents()
        self.balancing_agent()

    # ---------------------------------------------------------------- who and when

    @property
    def periods(self) -> int:
        return int(np.size(self.balancing_mw))

    @property
    def agents(self) -> tuple[str, ...]:
        """In the order in which couplings name them."""
        return tuple(dict.fromkeys(name for lower, upper, _ in self.couplings.values() for name in (lower, upper)))

    def top(self) -> np.ndarray:
        """Which couplings lead to the top, (couplings,): their upper agent is no lower one. All, if no agent is."""
        below = {lower for lower, _, _ in self.couplings.values()}
        found = np.array([upper not in below for _, upper, _ in self.couplings.values()])
        return found if found.any() else np.ones_like(found)

    def feeders(self) -> np.ndarray:
        """(couplings,)"""
        return np.array([feeders for _, _, feeders in self.couplings.values()])

    def balancing_agent(self) -> str | None:
        """Who balances with the outside: the one agent at the top; None if nothing was balanced."""
        if not np.any(self.balancing_mw) and not np.any(self.balancing_eur):
            return None
        tops = {upper for (_, upper, _), top in zip(self.couplings.values(), self.top(), strict=True) if top}
        if len(tops) != 1:
            raise InputError(
                f"record: balancing power is taken by one agent at the top, found {', '.join(sorted(tops))}"
            )
        return tops.pop()

    def time_utc(self, period: int) -> str:
        """The start of a period; the one of number T is the end of the day."""
        return f"{self.start.astimezone(UTC) + timedelta(hours=self.hours) * int(period):%Y-%m-%dT%H:%MZ}"

    # ---------------------------------------------------------------- what was agreed on

    def positions_mw(self, quantity: str) -> np.ndarray:
        """What stands after the day-ahead market and after each gate, (T + 1, couplings, T)."""
        standing = [_settled_mw(self.day_ahead, self.couplings, quantity)]
        for gate, boundary in enumerate(self.gates):
            now = _settled_mw(boundary, self.couplings, quantity)
            standing.append(np.concatenate([standing[-1][:, :gate], now[:, gate:]], axis=1))
        return np.stack(standing)

    def prices_eur_per_mwh(self, quantity: str) -> np.ndarray:
        """What the lower agent pays the upper one, day-ahead and at each gate, (T + 1, couplings, T)."""
        found = [[step[name][quantity].price for name in self.couplings] for step in (self.day_ahead, *self.gates)]
        return np.array(found, dtype=float) / self.hours

    def last_prices_eur_per_mwh(self, quantity: str) -> np.ndarray:
        """Of each period at its own gate, (couplings, T)."""
        period = np.arange(self.periods)
        return self.prices_eur_per_mwh(quantity)[1 + period, :, period].T

    def realised_mw(self) -> np.ndarray:
        """(couplings, T)"""
        return _settled_mw(self.closing, self.couplings, ENERGY)

    # ---------------------------------------------------------------- checks

    def _check_time(self) -> None:
        if not isinstance(self.start, datetime) or self.start.tzinfo is None:
            raise InputError(f"record: start is {self.start!r}, expected a time with its time zone, such as UTC")
        if not (_is_number(self.hours) and np.isfinite(self.hours) and self.hours > 0):
            raise InputError(f"record: hours is {self.hours!r}, expected the length of a period, above 0")
        if np.ndim(self.balancing_mw) != 1 or self.periods == 0:
            shape = np.shape(self.balancing_mw)
            raise InputError(f"record: balancing_mw has shape {shape}, expected one number a period")
        self._check_array("balancing_mw", self.balancing_mw)

    def _check_couplings(self) -> None:
        if not self.couplings:
            raise InputError("record: there are no couplings, expected at least one")
        for name, ends in self.couplings.items():
            if len(ends) != 3 or ends[0] == ends[1]:
                raise InputError(f"record: coupling '{name}' is {ends!r}, expected (lower agent, other agent, feeders)")
            if OUTSIDE in (name, *ends[:2]):
                raise InputError(f"record: '{OUTSIDE}' at coupling '{name}' stands for other areas; use another name")
            feeders = ends[2]
            if isinstance(feeders, bool) or not isinstance(feeders, (int, np.integer)) or feeders < 1:
                raise InputError(f"record: coupling '{name}': feeders is {feeders!r}, expected a whole number above 0")

    def _check_gates(self) -> None:
        count = len(self.gates)
        if count > self.periods:
            raise InputError(
                f"record: gate {self.periods} of {count} comes after the last period, number {self.periods - 1}; "
                f"what was delivered is not traded: give {self.periods} gates"
            )
        if count < self.periods:
            raise InputError(f"record: there are {count} gates, expected {self.periods}: one before each period")

    def _check_boundary(self, step: str, boundary: Boundary, quantities: tuple[str, ...]) -> None:
        unknown = boundary.keys() - self.couplings.keys()
        if unknown:
            raise InputError(f"record: {step}: coupling '{min(unknown)}' is none of {', '.join(self.couplings)}")
        for name in self.couplings:
            if name not in boundary:
                raise InputError(f"record: {step}: coupling '{name}' is missing; it has {', '.join(boundary)}")
            found, where = boundary[name], f"{step}: coupling '{name}'"
            other = found.keys() - set(QUANTITIES)
            if other:
                raise InputError(f"record: {where}: {min(other)} cannot be settled, expected {', '.join(QUANTITIES)}")
            for quantity in quantities:
                if quantity not in found:
                    raise InputError(f"record: {where}: {quantity} is missing; it has {', '.join(found)}")
                self._check_values(f"{where}: {quantity}", found[quantity])

    def _check_values(self, where: str, values: BoundaryResult) -> None:
        if values.unit != "MW":
            raise InputError(f"record: {where} is in {values.unit!r}, expected MW")
        for key in ("lower", "upper", "price"):
            self._check_array(f"{where}: {key}", getattr(values, key))

    def _check_array(self, where: str, values: np.ndarray) -> None:
        array = np.asarray(values)
        if array.shape != (self.periods,) or array.dtype.kind not in "fiu":
            what = f"shape {array.shape} of type {array.dtype}"
            raise InputError(f"record: {where} has {what}, expected {self.periods} numbers, one a period")
        if not np.isfinite(array).all():
            at = int(np.argmin(np.isfinite(array)))
            raise InputError(f"record: {where} is {array[at]} in period {at}, expected finite numbers")

    def _check_agents(self) -> None:
        for key, of in (("costs_eur", self.costs_eur), ("relief_eur", self.relief_eur)):
            unknown = of.keys() - set(self.agents)
            if unknown:
                raise InputError(f"record: {key}: '{min(unknown)}' is at no coupling; agents: {', '.join(self.agents)}")
            for name, value in of.items():
                if not (value is None and key == "costs_eur") and not (_is_number(value) and np.isfinite(value)):
                    raise InputError(f"record: {key} of '{name}' is {value!r}, expected a finite number")
        missing = [name for name in self.agents if name not in self.costs_eur]
        if missing:
            raise InputError(f"record: costs_eur has no '{missing[0]}'; give None where a cost is not shared")


def _is_number(value: object) -> bool:
    return isinstance(value, (int, float, np.number)) and not isinstance(value, bool)


def _settled_mw(boundary: Boundary, couplings: Mapping[str, Ends], quantity: str) -> np.ndarray:
    """One value for both sides, (couplings, T): the mean of theirs, which agree to the run's tolerance."""
    found = [boundary[name][quantity] for name in couplings]
    return np.array([0.5 * (values.lower + values.upper) for values in found], dtype=float)
