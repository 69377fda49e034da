"""The three stages of a day on the market: each is run, or taken up again, and written to a folder."""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any

from admm import Progress, Result, Settings, Status
from admm.commands.checks import checks_passed
from admm.commands.common import EXIT_INTERRUPTED, EXIT_NOT_CONVERGED, History
from admm.commands.market_summary import day_summary, realised_facts, realised_summary
from admm.commands.summary import finish_agents, run_summary
from admm.history import write_boundary, write_private
from admm.output import BOUNDARY, OutputFolder
from admm.progress import ProgressPrinter
from admm.words import market_words
from networks.case import SIGNS
from networks.market.checkpoints import GateCheckpoints, Reached
from networks.market.day import DayOutcome, MarketDay
from networks.market.intraday import ENDED_EARLY, shared_status
from networks.market.settlement import Settlement, settle
from networks.market.tables import HDF5_FILE, market_tables, write_tables

DAY_AHEAD, INTRADAY, SETTLEMENT = STAGES = ("day-ahead", "intra-day", "settlement")
TABLES = ("settlement.csv", "agents.csv", "activation.csv", "positions.csv", "gates.csv", HDF5_FILE)
CLOSING_WORDS = "closing" + " " * 19


@dataclass
class Stages:
    """Holds the output folders of one day. whole: the one above all days."""

    whole: OutputFolder
    day_ahead: OutputFolder
    intraday: OutputFolder
    settlement: OutputFolder

    @classmethod
    def of_day(cls, out: OutputFolder, day: str | None) -> Stages:
        """Name the folders of a day. day: name of its folder, if it has one."""
        folder = out.path if day is None else out / day
        first, second, third = (folder / name for name in STAGES)
        return cls(out, OutputFolder(first), OutputFolder(second), OutputFolder(third, TABLES))

    def __iter__(self) -> Iterator[OutputFolder]:
        return iter((self.day_ahead, self.intraday, self.settlement))

    def name_run(self, run_id: str) -> None:
        """Give all files from now on the id of the run."""
        for folder in (self.whole, *self):
            folder.run_id = run_id

    def unmark_older(self, fresh: bool) -> None:
        """Remove the marks of an older result above and behind the day-ahead market. fresh: no step is kept yet, so the
        older one's checkpoints go, too."""
        if fresh:
            self.whole.prepare(private=False)  # their older results go when they are written
        for folder in (self.whole, self.intraday, self.settlement):
            folder.unmark()


@dataclass
class Ended:
    """Says how a day ended on this rank. summary: on the driving rank. early: whether it has to be gone on with."""

    code: int
    early: bool = False
    summary: dict[str, Any] | None = None


class DayRun:
    """Run one day, its stages in turn, and keep the state after every step.

    Args:
        given: the command line.
        day: the agents of this rank, at the beginning or taken up after a step.
        stages: where results go.
        kept: the checkpoints.
        reached: the step that the day has come to; its gate is None before the first.
    """

    def __init__(
        self, given: argparse.Namespace, day: MarketDay, stages: Stages, kept: GateCheckpoints, reached: Reached
    ) -> None:
        self._given, self._day, self._stages, self._kept, self._reached = given, day, stages, kept, reached
        self._driving = day.transport.rank == 0

    def run(self, settings: Settings) -> Ended:
        """Run what is left of the day. Every rank takes part."""
        status = self._day_ahead(settings) if self._reached.gate is None else Status.CONVERGED
        if status not in ENDED_EARLY:
            status = self._intraday(settings)
        if status in ENDED_EARLY:
            return self._end_early(status)
        facts = self._write_what_happened()
        outcome = self._day.outcome()
        settlement = None if outcome is None else settle(outcome.record, outcome.spread_eur_per_mwh)
        alone_eur = self._day.alone(settlement)
        return Ended(0) if outcome is None else self._settle(settlement, outcome, alone_eur, facts)

    def _end_early(self, status: Status) -> Ended:
        if not self._day.transport.has_result:
            return Ended(0, early=True)
        if self._driving:
            why = "interrupted" if status is Status.INTERRUPTED else "the time limit is reached"
            print(f"{why}: the day is not settled; go on with --resume {self._stages.whole.path}")
        return Ended(EXIT_INTERRUPTED if status is Status.INTERRUPTED else EXIT_NOT_CONVERGED, early=True)

    # ---------------------------------------------------------------- day-ahead

    def _day_ahead(self, settings: Settings) -> Status:
        """Clear the first market, and write it like any coordination run."""
        case, out, result = self._day.case, self._stages.day_ahead, None
        if self._driving:
            print(case.headline(), *case.notes, sep="\n  ")
            print("day-ahead: energy and flexibility capacity")
            self._stages.name_run(self._day.transport.run_id)
            with History(out, agents=list(case.agents)) as history, ProgressPrinter() as show:
                result = self._day.day_ahead(replace(settings, callback=self._recorder(settings, history, show)))
            self._reached.bytes_exchanged += result.bytes_exchanged
        else:
            self._day.day_ahead(settings)
            if not self._day.transport.has_result:
                return Status.STOPPED  # the driving rank says why
        self._stages.name_run(self._day.transport.run_id)
        facts = finish_agents(case, self._day.agents, out)
        told = [json.loads(text) for text in self._day.transport.gather_text(json.dumps(facts))]
        if self._driving:
            write_boundary(out / BOUNDARY, result.boundary, SIGNS, case.horizon.time_utc(), run_id=out.run_id)
            summary = run_summary(case, self._given, result, told) | {"stage": DAY_AHEAD}
            out.complete(summary)
            if result.converged and not checks_passed(summary):
                self._reached.code = EXIT_NOT_CONVERGED
                print(f"  a check did not pass: {summary['failed_checks']}")
            print(f"  {_plain(result)} after {result.iterations} iterations, {result.objective:.2f} EUR")
        status = shared_status(self._day.transport, result)
        if status not in ENDED_EARLY:
            self._keep(-1, result)
        return status

    def _recorder(
        self, settings: Settings, history: History, show: ProgressPrinter
    ) -> Callable[[Progress], Status | None]:
        def record(progress: Progress) -> Status | None:
            if progress.iteration == 1:
                self._stages.unmark_older(fresh=self._reached.day == 0)
            history(progress)
            show(progress)
            return settings.callback(progress)

        return record

    def _keep(self, gate: int, result: Result | None) -> None:
        """Save the state after a step."""
        self._reached.gate = gate
        if result is not None:
            self._reached.results[gate] = replace(result, solutions={}, history=())
        self._kept.save(self._reached, self._day.snapshot(), self._day.transport)

    # --------------------------------------------------------------- intra-day

    def _intraday(self, settings: Settings) -> Status:
        """Hold the gates that are left, and the closing."""
        status = Status.CONVERGED
        if self._driving:
            print("intra-day:")
        for gate in self._day.gates(settings):
            status = gate.status
            if gate.result is not None:
                self._reached.bytes_exchanged += gate.result.bytes_exchanged
            if status not in ENDED_EARLY:
                self._keep(gate.number, gate.result)
            if gate.result is not None:
                self._say_gate(gate.number, gate.result)
        return status

    def _say_gate(self, number: int, result: Result) -> None:
        stamps = self._day.case.horizon.stamps()
        gate = number < len(stamps)
        when = f"gate {number:3d}  {stamps[number]:%Y-%m-%d %H:%MZ}" if gate else CLOSING_WORDS
        print(f"  {when}  {result.iterations:4d} iterations  {_plain(result)}", flush=True)

    def _write_what_happened(self) -> list[dict[str, Any]]:
        """Write each agent's private file, and on the driving rank what was exchanged; what ranks say of flows."""
        day, out = self._day, self._stages.intraday
        self._stages.name_run(day.transport.run_id)
        if self._driving:
            out.prepare(agents=list(day.case.agents))
        day.transport.share_text("")  # the folder is there
        out.prepare_private(list(day.agents))
        times = day.case.horizon.time_utc()
        for name, (values, units, cost_eur) in day.happened().items():
            names = {block: one for block, one in day.agents[name].names().items() if block in values}
            write_private(out.private(name), values, units, cost_eur, times, names, run_id=out.run_id)
        if self._driving:
            write_boundary(
                out / BOUNDARY,
                self._reached.results[day.case.horizon.periods].boundary,
                SIGNS,
                times,
                run_id=out.run_id,
            )
        return [json.loads(text) for text in day.transport.gather_text(json.dumps(realised_facts(day)))]

    # -------------------------------------------------------------- settlement

    def _settle(
        self, settlement: Settlement, outcome: DayOutcome, alone_eur: Mapping[str, float], facts: list[dict[str, Any]]
    ) -> Ended:
        """Write the settlement, on the driving rank."""
        results, stages = self._reached.results, self._stages
        stages.settlement.prepare(private=False)
        write_tables(stages.settlement.path, market_tables(settlement, results), stages.settlement.run_id)
        realised = realised_summary(self._day.case, facts)
        summary, settled = day_summary(self._day.case, settlement, outcome, alone_eur, results)
        stages.intraday.complete(summary | realised | {"stage": INTRADAY})
        summary |= realised | settled
        stages.settlement.complete(summary | {"stage": SETTLEMENT})
        print(market_words(summary, str(stages.settlement.path)))
        passed = summary["converged"] and checks_passed(summary)
        return Ended(0 if passed else EXIT_NOT_CONVERGED, summary=summary)


def _plain(result: Result) -> str:
    return result.status.name.lower().replace("_", " ")
