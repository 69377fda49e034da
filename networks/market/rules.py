"""The rules of the intra-day market: `[market]` in case.toml, and the prices that follow from them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
from pydantic import Field

from admm import InputError
from networks.market.ev_errors import EvErrorTable
from networks.market.forecast_errors import ErrorTable
from subproblems.devices.attributes import Attributes, number
from subproblems.horizon import Horizon


class MarketTable(Attributes):
    """`[market]`: when gates are, what moves within the notice, what deviations cost, and how forecasts fail."""

    label: ClassVar[str] = "market"
    seed: int = Field(default=1, ge=0, description="of all random draws")
    gate_minutes: int | None = number("time between gates, a multiple of the step; one step if not given", "min", None)
    lead_minutes: int = number("how long before its period a gate lies, a multiple of the step", "min", 0)
    notice_minutes: int | None = number(
        "within it only reserve moves, a multiple of the step; one step if not given", "min", None
    )
    spread_share: float = number("what balancing power and missing reserve are dearer than day-ahead", "", 0.05, ge=0)
    spread_eur_per_mwh: float = number("the same, at least", "EUR/MWh", 1.0, ge=0)
    balancing_rise_eur_per_mw2h: float = number("rise of the price by each MW of balancing power", "", 1.0, gt=0)
    reserve_rise_eur_per_mw2h: float = number("rise of the price by each MW of missing reserve", "", 1.0, gt=0)
    terminal_share: float = number("value of energy left at the end, of the lowest price", "", 0.5, ge=0, le=1)
    state_relief_eur_per_kwh: float = number("of a state beyond its limits, a period", "EUR/kWh", 1.0, gt=0)
    connection_relief_eur_per_mwh: float = number("of power beyond a connection", "EUR/MWh", 4000.0, gt=0)
    error: tuple[ErrorTable, ...] = Field(default=(), description="one table [[market.error]] each")
    ev_error: tuple[EvErrorTable, ...] = Field(default=(), description="one table [[market.ev_error]] each")

    def periods(self, key: str, horizon: Horizon, least: int) -> int:
        """A time as a number of periods. Raises InputError where it is none, or too small."""
        minutes = getattr(self, key)
        if minutes is None:
            return 1
        if minutes < least * horizon.step_minutes or minutes % horizon.step_minutes:
            after = "; a gate after delivery has nothing left to trade" if key == "lead_minutes" and minutes < 0 else ""
            raise InputError(
                f"market: {key} is {minutes}, expected a multiple of the step ({horizon.step_minutes} minutes) of at "
                f"least {least * horizon.step_minutes}{after}"
            )
        if minutes >= horizon.periods * horizon.step_minutes:
            raise InputError(
                f"market: {key} is {minutes}, expected less than the horizon's "
                f"{horizon.periods * horizon.step_minutes} minutes"
            )
        return minutes // horizon.step_minutes


@dataclass(frozen=True)
class Clock:
    """When gates are, in periods. every: from gate to gate. lead: how long before its period a gate lies, so that what
    happens in the last `lead` periods before it is not known yet. notice: within it only reserve moves."""

    periods: int
    every: int = 1
    lead: int = 0
    notice: int = 1

    @classmethod
    def of(cls, table: MarketTable, horizon: Horizon) -> Clock:
        """Raises InputError where a time does not fit the horizon."""
        periods = table.periods
        return cls(
            horizon.periods,
            every=periods("gate_minutes", horizon, 1),
            lead=periods("lead_minutes", horizon, 0),
            notice=periods("notice_minutes", horizon, 0),
        )

    def gates(self) -> range:
        return range(0, self.periods, self.every)

    def known(self, gate: int) -> int:
        """How many periods are known at a gate; all at the closing, after the last period."""
        return gate if gate >= self.periods else max(0, gate - self.lead)


@dataclass(frozen=True)
class DayAheadPrices:
    """At the transmission operator's substations, the mean of them, (T,) each: of energy, and paid for up and down
    flexibility, EUR/MWh (EUR per MW and hour)."""

    energy: np.ndarray
    up: np.ndarray
    down: np.ndarray

    @classmethod
    def of(cls, substations: list[Mapping[str, np.ndarray]], hours: float) -> DayAheadPrices:
        """From the day-ahead prices of their couplings, {quantity: (T,)} per period; `hours` of a period."""

        def mean(quantity: str) -> np.ndarray:
            return np.mean([one[quantity] for one in substations], axis=0) / hours

        return cls(mean("p_mw"), -mean("flex_up_mw"), -mean("flex_down_mw"))


def spread(table: MarketTable, price_eur_per_mwh: np.ndarray) -> np.ndarray:
    """By how much what deviates is dearer or cheaper than a price, EUR/MWh."""
    return np.maximum(table.spread_share * np.abs(price_eur_per_mwh), table.spread_eur_per_mwh)


def terminal_eur_per_kwh(table: MarketTable, prices: DayAheadPrices) -> float:
    """Value of stored energy that the day leaves over."""
    return table.terminal_share * max(0.0, float(prices.energy.min())) / 1000.0
