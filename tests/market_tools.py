"""A small copy of the bundled case for the market: two communities and a few periods, and one day on it by hand."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import numpy as np

import admm
from networks.case import Case, load_case
from networks.case_file import CASE_FILE
from networks.market.day import DayOutcome, MarketDay
from networks.market.rules import MarketTable
from networks.market.uncertainty import Uncertainty
from tests.case_tools import Mutation, copy_case, edit

HOMES, CARS = "ec01-homes", "ec02-homes-cars"
KEPT = (HOMES, CARS)
PERIODS = 6
CLOSING = PERIODS


def small_case(to: Path, periods: int = PERIODS) -> Path:
    """A folder `case`: two communities for `periods` hours from 14:00 local on, in which the cars come home."""
    case = copy_case(to)
    keep_communities(case, KEPT)
    set_horizon(case, "2016-01-14T13:00:00Z", periods)
    return case


def set_horizon(case: Path, start: str, periods: int) -> None:
    old = "start = 2016-01-13T23:00:00Z\nperiods = 24"
    edit(CASE_FILE, old, f"start = {start}\nperiods = {periods}")(case)


def two_days(to: Path) -> Path:
    """The two communities on a Wednesday and a Thursday, with two gates a day."""
    case = copy_case(to)
    keep_communities(case, KEPT)
    set_horizon(case, "2016-01-12T23:00:00Z", 48)
    add_rule("gate_minutes = 720")(case)
    return case


def add_rule(text: str) -> Mutation:
    """One more key in `[market]`."""
    return edit(CASE_FILE, "[market]\n", f"[market]\n{text}\n")


def write_scenario(case: Path, name: str, values: Iterable[float], file: str = "scenario.csv") -> Path:
    """Beside the case folder, values of one column for the case's horizon."""
    stamps = [f"{stamp:%Y-%m-%dT%H:%MZ}" for stamp in load_case(str(case)).horizon.stamps()]
    lines = [f"time_utc,{name}", *(f"{stamp},{value!r}" for stamp, value in zip(stamps, values, strict=False))]
    path = case.parent / file
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return path


def forecasts(case: Case, community: str) -> dict[str, np.ndarray]:
    """Every series that a community's program asks for, (periods,) each."""
    found: dict[str, np.ndarray] = {}

    def see(name: str, values: np.ndarray) -> np.ndarray:
        found[name] = values.copy()
        return values

    case.community_program(community, see)
    return found


def keep_communities(case: Path, names: tuple[str, ...]) -> None:
    """Remove from case.toml all other communities, variants, and errors of heat, which none of these has."""
    text = (case / CASE_FILE).read_text(encoding="utf-8")
    parts = re.split(r"(?m)^(?=\[\[?[a-z])", text)
    kept = [p for p in parts if not p.startswith(("[[agent]]", "[variant")) or any(f'"{name}"' in p for name in names)]
    (case / CASE_FILE).write_text("".join(p for p in kept if "heat_kw" not in p), encoding="utf-8")


def remove_errors(case: Path) -> None:
    """Forecasts do not fail."""
    text = (case / CASE_FILE).read_text(encoding="utf-8")
    (case / CASE_FILE).write_text(text[: text.index("[[market.error]]")], encoding="utf-8")


@dataclass(frozen=True)
class Day:
    """A day that is over. results: by gate, -1 day-ahead, the number of periods for the closing."""

    market: MarketDay
    results: dict[int, admm.Result]
    outcome: DayOutcome

    @property
    def closing(self) -> admm.Result:
        return self.results[max(self.results)]


def run_day(
    case: Case | Path,
    settings: admm.Settings | None = None,
    table: MarketTable | None = None,
    scenario: Path | None = None,
    draw: int = 0,
) -> Day:
    """Both markets of a case's one day, in this process."""
    case = case if isinstance(case, Case) else load_case(str(case))
    table, settings = table or case.table.market, settings or admm.Settings()
    knowledge = Uncertainty(table, None if scenario is None else str(scenario)).knowledge(case, draw)
    day = MarketDay(case, list(case.agents), knowledge, admm.InProcessTransport(), table)
    results = {-1: day.day_ahead(settings)}
    results |= {gate.number: gate.result for gate in day.gates(settings)}
    return Day(day, results, day.outcome())


def perfect(table: MarketTable) -> MarketTable:
    return table.model_copy(update={"error": (), "ev_error": ()})
