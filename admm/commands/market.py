"""`tieline market`: day by day the day-ahead market, the intra-day gates and the settlement, a folder each."""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from admm import InputError, Progress, Settings, Status, TielineError, Transport, TransportError
from admm.commands.common import (
    EXIT_INTERRUPTED,
    lock_for,
    on_every_rank,
    owned_agents,
    plain_name,
    settings_of,
)
from admm.commands.market_stages import STAGES, DayRun, Stages
from admm.errors import public_words, write_line
from admm.folder_lock import FolderLock
from admm.interrupts import ENDS, Interrupts
from admm.output import OutputFolder, file_digest, run_id_of, versions
from admm.ownership import AUDIT
from admm.resume import UNFIT
from admm.shared_memory import remove_left_by
from admm.transcript import Transcript
from networks.case import Case, load_case
from networks.market.checkpoints import GateCheckpoints, Reached
from networks.market.day import MarketDay, check_market_case
from networks.market.rules import Clock, MarketTable
from networks.market.scenarios import scenario_files
from networks.market.uncertainty import Uncertainty

SUMMED = ("day_ahead_cost_eur", "cost_eur", "balancing_eur", "relief_eur", "gates", "gates_not_converged")
SAME_OPTIONS = ("draw", "tolerance", "optimality_tolerance", "max_iterations", "qp_solver")
"""A market goes on with these as it began."""


@dataclass
class Market:
    """Holds what a rank knows before the first day."""

    given: argparse.Namespace
    out: OutputFolder
    settings: Settings
    whole: Case
    days: list[Case]
    uncertainty: Uncertainty

    def owned(self, transport: Transport) -> list[str]:
        return owned_agents(self.days[0], transport, self.settings)


def command(given: argparse.Namespace) -> int:
    """Run `tieline market`."""
    with lock_for(_folder(given), _option(given)) as lock:
        return on_every_rank(given, lambda given, transport: _market(given, transport, lock))


def _folder(given: argparse.Namespace) -> str:
    return given.resume or given.out or f"results/{plain_name(given.case)}-market"


def _option(given: argparse.Namespace) -> str:
    """Name the option that names the output folder."""
    return "--out" if given.resume is None else "--resume"


def _market(given: argparse.Namespace, transport: Transport, lock: FolderLock) -> int:
    """Run one rank's part: all days, each from where the last one left the stores."""
    with _refused(transport):
        market = _prepare(given, transport)
        if transport.rank == 0:
            lock.take()
            remove_left_by(lock.former)
            market.out.tidy()
            transport.run_id = market.out.run_id = _run_id(market)
        if given.audit:
            where = (transport.rank, transport.ranks, plain_name(given.case))
            transport.transcript = Transcript(market.out / AUDIT, *where, goes_on=given.resume is not None)
    ended = False
    try:
        with Interrupts(begun=False, quiet=transport.rank != 0) as interrupts:
            settings = market.settings
            if transport.rank == 0:
                settings = replace(settings, callback=_watch(interrupts, given.time_limit, transport))
            else:
                transport.interrupts = interrupts
            with _ending_all(transport):
                code = _all_days(market, settings, transport)
                ended = True  # without a coordination, too, where none was left to hold
                return code
    finally:
        if transport.transcript is not None:
            transport.transcript.close(transport.has_result or ended)


@contextmanager
def _ending_all(transport: Transport) -> Iterator[None]:
    """End all ranks where one fails after a coordination that ended well: the others wait for it in vain."""
    try:
        yield
    except TransportError:
        raise
    except TielineError as error:
        if transport.ranks == 1 or not transport.has_result:
            raise
        ended = TransportError(public_words(error))
        ended.exit_code = error.exit_code
        raise ended from error


def _watch(
    interrupts: Interrupts, limit_seconds: float | None, transport: Transport
) -> Callable[[Progress], Status | None]:
    """Return what ends a coordination after its iteration: a signal, or the time limit of the whole command."""
    ends = None if limit_seconds is None else time.monotonic() + limit_seconds

    def watch(progress: Progress) -> Status | None:
        interrupts.begun = True
        if transport.stopped_by is not None and not interrupts.asked:
            write_line(f"tieline: rank {transport.stopped_by} was told to stop: {ENDS}")
        if interrupts.asked or transport.stopped_by is not None:
            return Status.INTERRUPTED
        return Status.STOPPED if ends is not None and time.monotonic() >= ends else None

    return watch


def _all_days(market: Market, settings: Settings, transport: Transport) -> int:
    kept = _checkpoints(market)
    reached = kept.begin(market.owned(transport), transport)
    states = None if reached is None else {name: one["states"] for name, one in kept.private.items()}
    day, reached = _first_day(market, kept, reached, states or {}, transport)
    while True:
        stages = Stages.of_day(market.out, day.case.folder.day)
        ended = DayRun(market.given, day, stages, kept, reached).run(settings)
        reached.code = max(reached.code, ended.code)
        if ended.summary is not None:
            reached.told.append(ended.summary)
        if ended.early or reached.day + 1 == len(market.days):
            break
        reached = replace(reached, day=reached.day + 1, gate=None, results={})
        with _refused(transport):
            day = _day(market, reached.day, day.states(), transport)
    if transport.rank == 0:
        _conclude(market, reached)
    return reached.code


def _first_day(
    market: Market, kept: GateCheckpoints, reached: Reached | None, states: dict[str, Any], transport: Transport
) -> tuple[MarketDay, Reached]:
    """Make the day to begin with, or to go on with after the step that was reached."""
    if reached is None:
        with _refused(transport):
            return _day(market, 0, states, transport), Reached(0, None)
    day, error = None, None
    try:
        day = _day(market, reached.day, states, transport)
        day.restore(kept.private, reached.gate, reached.boundaries())
    except (*UNFIT, TielineError) as failed:
        error = failed
    kept.agree(transport, error)
    if transport.rank == 0:
        Stages.of_day(market.out, day.case.folder.day).unmark_older(fresh=False)
    return day, reached


def _day(market: Market, number: int, states: dict[str, Any], transport: Transport) -> MarketDay:
    given, case = market.given, market.days[number]
    knowledge = market.uncertainty.knowledge(case, given.draw, number)
    owned = owned_agents(case, transport, market.settings)
    return MarketDay(case, owned, knowledge, transport, market.uncertainty.table, states, given.qp_solver)


@contextmanager
def _refused(transport: Transport) -> Iterator[None]:
    """Tell all other ranks an error of this one before a run."""
    try:
        yield
    except TielineError as error:
        transport.refuse(error)
        raise


def _prepare(given: argparse.Namespace, transport: Transport) -> Market:
    """Find everything that can be wrong with the input."""
    settings, whole = replace(settings_of(given), time_limit_seconds=None, schedule_cost=False), load_case(given.case)
    check_market_case(whole)
    days = [Case(folder) for folder in whole.folder.days()]
    uncertainty = Uncertainty(_table(given, whole), given.scenario)
    Clock.of(uncertainty.table, days[0].horizon)
    if transport.ranks == 1:  # elsewhere nobody may read all private files
        uncertainty.check(whole, given.draw)
    if given.resume is not None and given.out not in (None, given.resume):
        raise InputError(f"--resume {given.resume}: a market goes on in its own folder; leave out --out {given.out}")
    names = [case.folder.day for case in days] if len(days) > 1 else list(STAGES)
    out = OutputFolder(_folder(given), folders=names, audited=given.audit, option=_option(given))
    if transport.rank == 0:
        out.check()
        for case in days:
            for stage in Stages.of_day(out, case.folder.day):
                stage.check()
                stage.check_files()
    return Market(given, out, settings, whole, days, uncertainty)


def _table(given: argparse.Namespace, case: Case) -> MarketTable:
    """Return the case's rules with what the command line changes of them."""
    changes: dict[str, Any] = {} if given.seed is None else {"seed": given.seed}
    if given.perfect:
        if given.scenario is not None or given.seed is not None:
            raise InputError("--perfect: there is nothing to draw or to read; leave out --seed and --scenario")
        changes |= {"error": (), "ev_error": ()}
    return case.table.market.model_copy(update=changes)


def _run_id(market: Market) -> str:
    """Return the id of this market; one that goes on keeps its id."""
    former = market.out.former_run_id()
    kept = (market.out.run_id_to_go_on_with() or former) if market.given.resume is not None else ""
    return kept or run_id_of(_identity(market), former)


def _identity(market: Market) -> dict[str, str]:
    """Say what two launches of one market have in common."""
    given, table, whole = market.given, market.uncertainty.table, market.whole
    identity = {"command": "market", "case": whole.name, "public files": whole.public_digest().hex()}
    scenario = "" if given.scenario is None else " ".join(map(file_digest, scenario_files(Path(given.scenario))))
    identity |= {"rules of the market": table.model_dump_json(), "--scenario": scenario}
    return identity | {f"--{name.replace('_', '-')}": str(getattr(given, name)) for name in SAME_OPTIONS}


def _checkpoints(market: Market) -> GateCheckpoints:
    """Say where this rank keeps the state."""
    clock = Clock.of(market.uncertainty.table, market.days[0].horizon)
    return GateCheckpoints(
        market.days,
        (*clock.gates(), clock.periods),
        market.out.path,
        _identity(market),
        resume=market.given.resume is not None,
        versions=versions(),
        agent_identity=lambda name: f"{market.whole.private_digest([name]):x}",
        say=print,
    )


def _conclude(market: Market, reached: Reached) -> None:
    """Write summary.json above all days and stages, last of all."""
    out, told = market.out, reached.told
    out.complete(
        {
            "case": market.whole.name,
            "days": len(told),
            "draw": market.given.draw,
            "converged": reached.code == 0,
            "interrupted": reached.code == EXIT_INTERRUPTED,
            **{key: sum(one[key] for one in told) for key in SUMMED},
            "bytes_exchanged": reached.bytes_exchanged,
            "versions": versions(),
        }
    )
    print(f"  results              {out.path}/")
