"""What is known when: forecasts by drawn errors as `[market]` says, or by scenario files; and errors of stays."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from networks.case import Case
from networks.market.ev_errors import EvErrors
from networks.market.forecast_errors import ForecastErrors, Forecasts
from networks.market.rules import MarketTable
from networks.market.scenarios import ScenarioFile, scenario_file
from subproblems.ev_error import EvError, Stays

DRAWS_A_DAY = 1_000_000
"""Draws of further days are numbered from here on, a day each: days are drawn independently."""


@dataclass(frozen=True)
class Knowledge:
    """Of one day: its series, and the stays of electric vehicles."""

    series: Forecasts
    vehicles: EvErrors

    def stays(self, gate: int) -> Stays:
        """As they are known at a gate."""

        def error(name: str, arrival_hour: float, day: int) -> EvError:
            return self.vehicles.at_gate(name, arrival_hour, gate, day)

        return error


@dataclass(frozen=True)
class Uncertainty:
    """scenario: a CSV file, or a folder with one for each draw, in place of drawn errors of series."""

    table: MarketTable
    scenario: str | None = None

    def knowledge(self, case: Case, draw: int, day: int = 0) -> Knowledge:
        """Of one day of a case. Raises InputError."""
        number, seed = draw + DRAWS_A_DAY * day, self.table.seed
        vehicles = EvErrors(self.table.ev_error, seed, number, case.horizon)
        if self.scenario is not None:
            return Knowledge(ScenarioFile(scenario_file(Path(self.scenario), draw), case.horizon), vehicles)
        return Knowledge(ForecastErrors(self.table.error, seed, number, case.horizon), vehicles)

    def check(self, case: Case, draw: int) -> None:
        """Raises InputError where an entry or a column stands for nothing in the case; reads private files."""
        names, stays, found = set(case.profiles.names), set(), self.knowledge(case, draw)
        for agent in case.communities.values():
            names |= case.private.series_names(agent)
            stays |= set(case.private.stay_names(agent))
        found.series.check_names(names)
        found.vehicles.check_names(stays)
