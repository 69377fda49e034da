"""`tieline market`: day by day the day-ahead market, the intra-day gates and the settlement, a folder each."""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any

from admm import InputError, Progress, Result, Settings, Status, TielineError, Transport
from admm.commands.common import (
    EXIT_INTERRUPTED,
    EXIT_NOT_CONVERGED,
    History,
    on_every_rank,
    owned_agents,
    plain_name,
    settings_of,
)
from admm.commands.summary import finish_agents, horizon_summary, run_summary
from admm.history import write_boundary, write_private
from admm.output import BOUNDARY, OutputFolder, versions
from admm.progress import ProgressPrinter
from admm.words import market_words
from networks.case import SIGNS, Case, coupling_name, load_case
from networks.market.activation import activation_summary
from networks.market.day import DayOutcome, MarketDay, check_market_case
from networks.market.intraday import shared_status
from networks.market.rules import Clock, MarketTable
from networks.market.settlement import Settlement, settle, worse_off
from networks.market.tables import HDF5_FILE, market_tables, write_tables
from networks.market.uncertainty import Uncertainty

DAY_AHEAD, INTRADAY, SETTLEMENT = STAGES = ("day-ahead", "intra-day", "settlement")
TABLES = ("settlement.csv", "agents.csv", "activation.csv", "positions.csv", "gates.csv", HDF5_FILE)
WORSE_OFF_EUR = 0.05
"""By more than this an agent counts as worse off: a run's prices are agreed on to a tolerance."""


@dataclass
class Stages:
    """The output folders of one day. whole: the one above all days."""

    whole: OutputFolder
    day_ahead: OutputFolder
    intraday: OutputFolder
    settlement: OutputFolder

    @classmethod
    def of_day(cls, out: OutputFolder, day: str | None) -> Stages:
        """day: name of its folder, if it has one."""
        folder = out.path if day is None else out / day
        first, second, third = (folder / name for name in STAGES)
        return cls(out, OutputFolder(first), OutputFolder(second), OutputFolder(third, TABLES))

    def __iter__(self) -> Iterator[OutputFolder]:
        return iter((self.day_ahead, self.intraday, self.settlement))

    def unmark_older(self) -> None:
        """What a former run left above and behind the day-ahead market is not of this one."""
        for folder in (self.whole, self.intraday, self.settlement):
            folder.unmark()


def command(given: argparse.Namespace) -> int:
    """`tieline market`."""
    return on_every_rank(given, _market)


def _market(given: argparse.Namespace, transport: Transport) -> int:
    """One rank's part: all days, each from where the last one left the stores."""
    driving = transport.rank == 0
    out = OutputFolder(given.out or f"results/{plain_name(given.case)}-market")
    with _refused(transport):
        settings, days, uncertainty = _prepare(given, out, transport)
    states: Mapping[str, Mapping[str, float]] = {}
    worst, told = 0, []
    for number, case in enumerate(days):
        stages = Stages.of_day(out, case.folder.day)
        with _refused(transport):
            owned = owned_agents(case, transport, settings)
            knowledge = uncertainty.knowledge(case, given.draw, number)
            day = MarketDay(case, owned, knowledge, transport, uncertainty.table, states, given.qp_solver)
        code, summary = _run_day(given, day, settings, stages)
        worst, told = max(worst, code), [*told, summary]
        if code == EXIT_INTERRUPTED:
            break
        states = day.states()
    if driving:
        _conclude(out, given, days, told, worst)
    return worst


@contextmanager
def _refused(transport: Transport) -> Iterator[None]:
    """An error of one rank before a run reaches all others."""
    try:
        yield
    except TielineError as error:
        transport.refuse(error)
        raise


def _prepare(
    given: argparse.Namespace, out: OutputFolder, transport: Transport
) -> tuple[Settings, list[Case], Uncertainty]:
    """Everything that can be wrong with the input."""
    settings, whole = settings_of(given), load_case(given.case)
    check_market_case(whole)
    days = [Case(folder) for folder in whole.folder.days()]
    uncertainty = Uncertainty(_table(given, whole), given.scenario)
    Clock.of(uncertainty.table, days[0].horizon)
    if transport.ranks == 1:  # elsewhere nobody may read all private files
        uncertainty.check(whole, given.draw)
    if transport.rank == 0:
        names = [case.folder.day for case in days] if len(days) > 1 else list(STAGES)
        OutputFolder(out.path, folders=names).check()
        for case in days:
            for stage in Stages.of_day(out, case.folder.day):
                stage.check()
    return settings, days, uncertainty


def _table(given: argparse.Namespace, case: Case) -> MarketTable:
    """The case's rules with what the command line changes of them."""
    changes: dict[str, Any] = {} if given.seed is None else {"seed": given.seed}
    if given.perfect:
        if given.scenario is not None or given.seed is not None:
            raise InputError("--perfect: there is nothing to draw or to read; leave out --seed and --scenario")
        changes |= {"error": (), "ev_error": ()}
    return case.table.market.model_copy(update=changes)


def _run_day(
    given: argparse.Namespace, day: MarketDay, settings: Settings, stages: Stages
) -> tuple[int, dict[str, Any]]:
    """Exit code and, on the driving rank, what the day's summary says."""
    result = _day_ahead(given, day, settings, stages)
    interrupted = shared_status(day.transport, result) is Status.INTERRUPTED
    results = {} if interrupted else _intraday(day, settings, stages.intraday)
    if interrupted or not day.intraday.closed:
        if day.transport.rank == 0:
            print("interrupted: the day is not settled")
        return EXIT_INTERRUPTED, {}
    outcome = day.outcome()
    if outcome is None:
        return 0, {}
    return _settle(day, stages, {-1: result, **results}, outcome)


def _day_ahead(given: argparse.Namespace, day: MarketDay, settings: Settings, stages: Stages) -> Result | None:
    """The first stage; written like any coordination run."""
    case, driving, out = day.case, day.transport.rank == 0, stages.day_ahead
    result = None
    if driving:
        print(case.headline(), *case.notes, sep="\n  ")
        print("day-ahead: energy and flexibility capacity")
        with History(out) as history, ProgressPrinter() as show:

            def record(progress: Progress) -> None:
                if progress.iteration == 1:
                    stages.unmark_older()
                history(progress)
                show(progress)

            result = day.day_ahead(replace(settings, callback=record))
    else:
        day.day_ahead(settings)
    facts = finish_agents(case, day.agents, out)
    facts["activation"] = _activation(day)
    told = [json.loads(text) for text in day.transport.gather_text(json.dumps(facts))]
    if driving:
        write_boundary(out / BOUNDARY, result.boundary, SIGNS, case.horizon.time_utc())
        activation = {key: value for fact in told for key, value in fact["activation"].items()}
        out.complete(run_summary(case, given, result, told) | {"stage": DAY_AHEAD} | activation)
        print(f"  {_plain(result)} after {result.iterations} iterations, {result.objective:.2f} EUR")
    return result


def _activation(day: MarketDay) -> dict[str, float | None]:
    """Limits of the feeders here if all flexibility were called at once, by AC power flow; the worst of them."""
    case, found = day.case, {}
    limits_kw = {coupling_name(a.name, a.network): a.connection_kw for a in case.table.agent}
    for network in case.folder.distribution:
        if network.name in day.agents:
            for key, value in activation_summary(day.agents[network.name], limits_kw).items():
                found[key] = value if found.get(key) is None else max(found[key], value)
    return found


def _intraday(day: MarketDay, settings: Settings, out: OutputFolder) -> dict[int, Result | None]:
    """The second stage: gate by gate, and what happened; nothing is written if it was interrupted."""
    driving, results = day.transport.rank == 0, {}
    if driving:
        print("intra-day:")
    for gate in day.gates(settings):
        results[gate.number] = gate.result
        if driving:
            _say_gate(day, gate.number, gate.result)
    if not day.intraday.closed:
        return results
    if driving:
        out.prepare()
    day.transport.share_text("")  # the folder is there
    out.prepare_private()
    for name, community in day.intraday.communities.items():
        values = community.happened()
        write_private(out.private(name), *values, community.cost_eur(), day.case.horizon.time_utc())
    if driving:
        write_boundary(out / BOUNDARY, results[day.case.horizon.periods].boundary, SIGNS, day.case.horizon.time_utc())
    return results


def _say_gate(day: MarketDay, number: int, result: Result) -> None:
    stamps = day.case.horizon.stamps()
    when = f"gate {number:3d}  {stamps[number]:%Y-%m-%d %H:%MZ}" if number < len(stamps) else "closing" + " " * 19
    print(f"  {when}  {result.iterations:4d} iterations  {_plain(result)}", flush=True)


def _plain(result: Result) -> str:
    return result.status.name.lower().replace("_", " ")


def _settle(
    day: MarketDay, stages: Stages, results: Mapping[int, Result], outcome: DayOutcome
) -> tuple[int, dict[str, Any]]:
    """The third stage, on the driving rank."""
    settlement = settle(outcome.record, outcome.spread_eur_per_mwh)
    stages.settlement.prepare(private=False)
    write_tables(stages.settlement.path, market_tables(settlement, results))
    gates = [result for number, result in sorted(results.items()) if 0 <= number < day.case.horizon.periods]
    every = [results[-1], *gates, results[day.case.horizon.periods]]
    unfinished = sum(not result.converged for result in every)
    summary = {
        "case": day.case.name,
        **horizon_summary(day.case),
        "gates": len(gates),
        "gates_not_converged": sum(not result.converged for result in gates),
        "converged": not unfinished,
        "day_ahead_iterations": results[-1].iterations,
        "median_gate_iterations": sorted(result.iterations for result in gates)[len(gates) // 2],
        "gate_seconds": sum(result.timing.wall for result in gates),
        "versions": versions(),
    }
    stages.intraday.complete(summary | {"stage": INTRADAY})
    summary |= settlement_summary(settlement, outcome)
    stages.settlement.complete(summary | {"stage": SETTLEMENT})
    print(market_words(summary, str(stages.settlement.path)))
    return (EXIT_NOT_CONVERGED if unfinished else 0), summary


def settlement_summary(settlement: Settlement, outcome: DayOutcome) -> dict[str, Any]:
    """Flat: costs of the whole, activation of communities, what gave way, and who is worse off than alone at the same
    prices."""
    record = outcome.record
    costs = [cost for cost in record.costs_eur.values() if cost is not None]
    ends = record.couplings
    activated = [mwh for name, mwh in settlement.activated_mwh().items() if ends[name].lower in outcome.standalone_eur]
    net = _day_ahead_net_eur(settlement, outcome)
    worse = worse_off(net, outcome.standalone_eur, WORSE_OFF_EUR)
    return {
        "day_ahead_cost_eur": sum(cost for cost in outcome.day_ahead_eur.values() if cost is not None),
        "cost_eur": sum(costs) + float(record.balancing_eur.sum()) + sum(record.relief_eur.values()),
        "balancing_eur": float(record.balancing_eur.sum()),
        "balancing_mwh": record.hours * float(abs(record.balancing_mw).sum()),
        "relief_eur": sum(record.relief_eur.values()),
        "reserve_short_mwh": max(0.0, sum(outcome.reserve_short_mwh.values())),
        "settlement_sum_cents": settlement.total_cents(),
        **{f"{key}_mwh": sum(one[key] for one in activated) for key in next(iter(activated), {})},
        "worse_off_agents": len(worse),
        "worse_off": ", ".join(f"{name} by {eur:.2f} EUR" for name, eur in worse),
    }


def _day_ahead_net_eur(settlement: Settlement, outcome: DayOutcome) -> dict[str, float]:
    """Own cost and day-ahead payments of those agents that have an alternative."""
    found = {}
    for name in outcome.standalone_eur:
        received = settlement.by_agent()[name]
        paid = -sum(received.get(product, 0.0) for product in ("energy", "capacity_up", "capacity_down"))
        found[name] = outcome.day_ahead_eur[name] + paid
    return found


def _conclude(
    out: OutputFolder, given: argparse.Namespace, days: list[Case], told: list[dict[str, Any]], code: int
) -> None:
    """summary.json above all days and stages, written last."""
    summed = ("day_ahead_cost_eur", "cost_eur", "balancing_eur", "relief_eur", "gates", "gates_not_converged")
    out.complete(
        {
            "case": days[0].name.partition("@")[0],
            "days": sum(bool(one) for one in told),
            "draw": given.draw,
            "converged": code == 0,
            **{key: sum(one.get(key, 0) for one in told) for key in summed},
            "versions": versions(),
        }
    )
    print(f"  results              {out.path}/")
