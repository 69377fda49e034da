"""Forecast errors of profiles: what turns out, and what is forecast at each gate of the intra-day market.

Every uncertain series follows a latent stationary Gaussian process of unit variance,

    z[t] = r z[t-1] + sqrt(1 - r^2) e[t],   r = exp(-period / correlation_hours),

and its distribution turns z[t] into what happens in period t (a Gaussian copula). The profile of the case is the
mean, so it is the day-ahead forecast. Gate g lies before period g: what happened in earlier periods is known, and the
forecast of the others is the conditional mean given z[g-1], which is all that counts of the past (Markov). Updated
forecasts are therefore martingales, and their errors grow with the time ahead.

A series is named by its column; a column of an agent's private file by agent/column, since the files of agents
may use the same names.
"""

from __future__ import annotations

import difflib
import math
import re
from collections.abc import Iterable, Sequence
from numbers import Integral
from typing import ClassVar, Literal, Protocol, TypeVar

import numpy as np
from pydantic import Field, model_validator

from admm import InputError
from networks.market.distributions import (
    autoregression,
    beta_value,
    gaussian_share_mean,
    mean_over,
    standard_normals,
    weibull_value,
)
from subproblems.devices.attributes import Attributes, Name, number
from subproblems.horizon import Horizon

STAMP = "%Y-%m-%dT%H:%MZ"


class Forecasts(Protocol):
    """Where the market has its forecasts from: ForecastErrors or ScenarioFile."""

    def actual(self, name: str, forecast: np.ndarray) -> np.ndarray:
        """What turns out for the series, given its day-ahead forecast; both (periods,) in its unit."""

    def at_gate(self, name: str, forecast: np.ndarray, gate: int) -> np.ndarray:
        """shape (periods,): actual values before period `gate`, updated forecasts from there on."""

    def check_names(self, names: Iterable[str]) -> None:
        """InputError if there is an entry or column for a series that is none of the case's."""


def pattern_matches(pattern: str, name: str) -> bool:
    """Whether the name is the pattern, in which "*" stands for any characters and all else for itself."""
    return re.fullmatch(".*".join(map(re.escape, pattern.split("*"))), name) is not None


class PatternTable(Attributes):
    """An entry that holds for whatever its patterns match; of several such entries the first holds."""

    name: Name = Field(description="name of the entry")
    applies_to: tuple[str, ...] = Field(min_length=1, description='names; "*" stands for any characters')

    def matches(self, name: str) -> bool:
        return any(pattern_matches(pattern, name) for pattern in self.applies_to)


class ErrorTable(PatternTable):
    """A `[[market.error]]`: how the actual values of some series differ from their day-ahead forecasts.

    gaussian: actual = forecast (1 + std z) with std_share, z limited to +-1/std so that it lies from 0 to twice the
              forecast and its mean is the forecast; or actual = forecast + std z with std_abs;
    beta:     of a share of capacity: Beta with mean m = forecast and variance std^2 m (1 - m);
    weibull:  actual = forecast W, W Weibull with mean 1 and standard deviation std.

    The standard deviation at lead h hours after the horizon's start, the day-ahead gate, is that of a
    mean-reverting process: std(h) = std sqrt(1 - (1 - floor_share^2) exp(-2 h / growth_hours)).
    """

    label: ClassVar[str] = "market.error"
    distribution: Literal["gaussian", "beta", "weibull"] = Field(description='"gaussian", "beta" or "weibull"')
    std_share: float | None = number("standard deviation at long lead, relative to the forecast", "", None, ge=0, le=2)
    std_abs: float | None = number("the same in the unit of the series (gaussian only)", "", None, ge=0)
    correlation_hours: float = number("time in which the correlation of errors falls to 1/e", "h", gt=0)
    floor_share: float = number("share of the standard deviation that is there at lead 0", "", 1.0, ge=0, le=1)
    growth_hours: float = number("time in which the standard deviation grows from there", "h", 12.0, gt=0)
    group: Name | None = Field(default=None, description="series of one group have a common part, such as weather")
    common: float = number("share of the variance of z that is common to the group", "", 0.0, ge=0, le=1)

    @model_validator(mode="after")
    def _one_deviation(self) -> ErrorTable:
        if (self.std_share is None) == (self.std_abs is None):
            found = "neither" if self.std_share is None else "both"
            raise ValueError(f"{found} of std_share and std_abs are given, expected one of them")
        if self.std_abs is not None and self.distribution != "gaussian":
            raise ValueError(
                f"std_abs is {self.std_abs:g} with distribution '{self.distribution}', expected std_share; "
                "only distribution = 'gaussian' takes std_abs"
            )
        if self.distribution == "beta" and self.std_share >= 1:
            raise ValueError(
                f"std_share is {self.std_share:g}, expected below 1 with distribution 'beta': "
                "a share between 0 and 1 cannot vary more"
            )
        return self

    @model_validator(mode="after")
    def _group_in_full(self) -> ErrorTable:
        if (self.group is None) != (self.common == 0):
            raise ValueError(
                f"group is {self.group!r} and common is {self.common:g}, which belong together: "
                "give group and common above 0, or neither"
            )
        return self

    def std(self, horizon: Horizon) -> np.ndarray:
        """shape (periods,): std(h) of the class at the start of each period."""
        lead_hours = horizon.hours * np.arange(horizon.periods)
        missing = (1 - self.floor_share**2) * np.exp(-2 * lead_hours / self.growth_hours)
        return (self.std_abs if self.std_share is None else self.std_share) * np.sqrt(1 - missing)


class ForecastErrors:
    """One draw of all series. A series without an entry has an exact forecast.

    Each series and each group has a random stream of its own, from seed, draw and name: a draw depends neither on
    who asks, nor on the order, nor on which other series there are.
    """

    def __init__(self, tables: Sequence[ErrorTable], seed: int, draw: int, horizon: Horizon) -> None:
        check_whole("seed", seed)
        check_whole("draw", draw)
        check_entries(tables)
        _check_groups(tables)
        self._tables, self._horizon = tuple(tables), horizon
        self._stream = (int(seed), int(draw))
        self._latent: dict[str, np.ndarray] = {}

    def check_names(self, names: Iterable[str]) -> None:
        """InputError if a pattern matches none of the series of the case, or only those of earlier entries."""
        check_patterns(self._tables, names)

    def actual(self, name: str, forecast: np.ndarray) -> np.ndarray:
        """What turns out for the series, given its day-ahead forecast; both (periods,) in its unit."""
        return self.at_gate(name, forecast, self._horizon.periods)

    def at_gate(self, name: str, forecast: np.ndarray, gate: int) -> np.ndarray:
        """shape (periods,): actual values before period `gate`, E[actual | z of those periods] from there on.

        Series of a group have one correlation time, so knowing the other series as well would not change the mean.
        """
        check_gate(gate, self._horizon)
        values = check_forecast(name, forecast, self._horizon)
        table = first_match(self._tables, name)
        if table is None:
            return values
        if table.distribution == "beta":
            _check_share(name, table, values, self._horizon)
        if gate == 0:
            return values
        std, z = table.std(self._horizon), self._z(name, table)
        ahead = np.arange(1, values.size - gate + 1)
        correlation = _step_correlation(table, self._horizon) ** ahead
        later = (correlation * z[gate - 1], np.sqrt(1 - correlation**2))
        known = _expected(table, values[:gate], std[:gate], z[:gate], np.zeros(gate))
        return np.concatenate([known, _expected(table, values[gate:], std[gate:], *later)])

    def _z(self, name: str, table: ErrorTable) -> np.ndarray:
        """shape (periods,): the latent process of the series."""
        own = self._process(f"series {name}", table)
        if table.group is None:
            return own
        return np.sqrt(table.common) * self._process(f"group {table.group}", table) + np.sqrt(1 - table.common) * own

    def _process(self, key: str, table: ErrorTable) -> np.ndarray:
        if key not in self._latent:
            shocks = standard_normals(*self._stream, key, self._horizon.periods)
            self._latent[key] = autoregression(shocks, _step_correlation(table, self._horizon))
        return self._latent[key]


def _step_correlation(table: ErrorTable, horizon: Horizon) -> float:
    return math.exp(-horizon.hours / table.correlation_hours)


def _expected(
    table: ErrorTable, forecast: np.ndarray, std: np.ndarray, mean: np.ndarray, spread: np.ndarray
) -> np.ndarray:
    """shape (n,): E[actual] for z normal with that mean and standard deviation `spread`; spread 0 gives the actual."""
    if table.std_abs is not None:
        return forecast + std * mean
    if table.distribution == "gaussian":
        return gaussian_share_mean(forecast, std, mean, spread)
    value = beta_value if table.distribution == "beta" else weibull_value
    return mean_over(value, forecast, std, mean, spread) if spread.any() else value(mean, forecast, std)


Table = TypeVar("Table", bound=PatternTable)


def first_match(tables: Sequence[Table], name: str) -> Table | None:
    """The entry that holds for that name."""
    return next((table for table in tables if table.matches(name)), None)


def check_entries(tables: Sequence[PatternTable]) -> None:
    names = [table.name for table in tables]
    for table in tables:
        if names.count(table.name) > 1:
            raise InputError(f"{table.label}: two entries are called '{table.name}'; give each its own name")


def check_patterns(tables: Sequence[PatternTable], names: Iterable[str]) -> None:
    """InputError if a pattern matches none of the names, or an entry only names that earlier entries match."""
    known = sorted(set(names))
    for table in tables:
        where = f"{table.label} '{table.name}'"
        for pattern in table.applies_to:
            if not any(pattern_matches(pattern, name) for name in known):
                close = difflib.get_close_matches(pattern, known, n=1)
                hint = f"did you mean '{close[0]}'?" if close else f"there are {', '.join(known) or 'none'}"
                raise InputError(f"{where}: applies_to holds '{pattern}', expected what matches a name; {hint}")
        if not any(first_match(tables, name) is table for name in known):
            raise InputError(
                f"{where}: applies_to is {list(table.applies_to)}, but earlier entries hold for all that it matches; "
                "move this entry before them, or remove it"
            )


def check_whole(key: str, value: int) -> None:
    if isinstance(value, bool) or not isinstance(value, Integral) or value < 0:
        raise InputError(f"market: {key} is {value!r}, expected a whole number of at least 0")


def check_gate(gate: int, horizon: Horizon) -> None:
    check_whole("gate", gate)
    if gate > horizon.periods:
        raise InputError(
            f"market: gate is {gate}, expected at most {horizon.periods}, the end of the horizon: "
            "a gate counts periods from its start"
        )


def check_forecast(name: str, forecast: np.ndarray, horizon: Horizon) -> np.ndarray:
    """A copy of the forecast as numbers, shape (periods,); InputError if it is anything else."""
    try:
        values = np.array(forecast, dtype=float)
    except (TypeError, ValueError):
        raise InputError(f"series '{name}': the forecast is {forecast!r}, expected one number a period") from None
    if values.shape != (horizon.periods,):
        raise InputError(
            f"series '{name}': the forecast has shape {values.shape}, expected ({horizon.periods},), a value a period"
        )
    if not np.isfinite(values).all():
        at = int(np.argmin(np.isfinite(values)))
        raise InputError(
            f"series '{name}': the forecast is {values[at]:g} in {period_words(at, horizon)}, "
            "expected a finite number; fill it in"
        )
    return values


def period_words(period: int, horizon: Horizon) -> str:
    return f"period {period} ({horizon.stamps()[period]:{STAMP}})"


def _check_share(name: str, table: ErrorTable, values: np.ndarray, horizon: Horizon) -> None:
    outside = (values < 0) | (values > 1)
    if outside.any():
        at = int(np.argmax(outside))
        raise InputError(
            f"{table.label} '{table.name}': series '{name}' is {values[at]:g} in {period_words(at, horizon)}, expected "
            "a share of capacity from 0 to 1 with distribution 'beta'; give it per unit, or choose another distribution"
        )


def _check_groups(tables: Sequence[ErrorTable]) -> None:
    """A common process needs one correlation time, or the sum of it and a series' own would not be Markov."""
    first: dict[str, ErrorTable] = {}
    for table in tables:
        if table.group is None:
            continue
        other = first.setdefault(table.group, table)
        if other.correlation_hours != table.correlation_hours:
            raise InputError(
                f"{table.label} '{table.name}': correlation_hours is {table.correlation_hours:g}, expected "
                f"{other.correlation_hours:g} as in '{other.name}' of the same group '{table.group}'; "
                "make them equal, or give it a group of its own"
            )
