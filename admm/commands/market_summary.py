"""What the summaries of a day on the market say: flat figures, every MWh and EUR of one feeder."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from admm import Result
from admm.commands.summary import horizon_summary
from admm.output import versions
from networks.case import Case, coupling_name
from networks.flow_checks import AC_LOSS_SHARE, AC_VOLTAGE_PU
from networks.market.activation import activation_summary
from networks.market.day import DayOutcome, MarketDay
from networks.market.realised import KINDS, realised_check
from networks.market.settlement import Settlement, worse_off

WORSE_OFF_EUR = 0.05
"""By more than this an agent counts as worse off: a run's prices are agreed on to a tolerance."""
AC_KEYS = ("ac_max_voltage_error_pu", "ac_max_loss_error")
MOST_OVERLOADS = 20
"""So many are listed by name in a summary, the worst first."""
KIND_WORDS = {"voltage_pu": "voltage of node", "current_share": "branch", "substation_share": "the"}


def activation_facts(day: MarketDay) -> dict[str, float | None]:
    """Hold feeders here against their limits if all flexibility were called at once, by AC power flow; the worst."""
    case, found = day.case, {}
    limits_kw = connections_kw(case)
    for network in case.folder.distribution:
        if network.name in day.agents:
            for key, value in activation_summary(day.agents[network.name], limits_kw).items():
                found[key] = value if found.get(key) is None else max(found[key], value)
    return found


def connections_kw(case: Case) -> dict[str, float]:
    return {coupling_name(a.name, a.network): a.connection_kw for a in case.table.agent}


def realised_facts(day: MarketDay) -> dict[str, dict[str, Any]]:
    """Check what happened on the feeders of this rank, {network: facts}: own flows and limits against AC flows."""
    limits_kw, found = connections_kw(day.case), {}
    for name, feeder in day.intraday.feeders.items():
        checked = realised_check(feeder, limits_kw)
        found[name] = {"checks": feeder.checks(), "limits": None if checked is None else checked.facts()}
    return found


def realised_summary(case: Case, facts: Sequence[Mapping[str, dict[str, Any]]]) -> dict[str, Any]:
    """Say how far what happened is from AC flows and beyond limits, over all feeders; `ac_passed` is the verdict."""
    every = [one for fact in facts for one in fact.values()]
    errors = {key: _worst([one["checks"].get(key) for one in every]) for key in AC_KEYS}
    missing = any(one["limits"] is None for one in every)
    limits = [] if missing else [one["limits"]["worst"] for one in every]
    found = {kind: [worst[kind] for worst in limits if worst[kind] is not None] for kind in KINDS}
    worst = {f"realised_max_{kind.replace('_', '_violation_')}": max(found[kind], default=None) for kind in KINDS}
    overloads = [over for one in every if one["limits"] is not None for over in one["limits"]["overloads"]]
    overloads.sort(key=lambda over: -over["beyond"])
    exact = None not in errors.values() and errors[AC_KEYS[0]] <= AC_VOLTAGE_PU and errors[AC_KEYS[1]] <= AC_LOSS_SHARE
    return {
        **errors,
        **worst,
        "realised_overloads": None if missing else len(overloads),
        "realised_overload_words": "; ".join(overload_words(case, over) for over in overloads[:MOST_OVERLOADS]),
        "ac_passed": exact and not missing and not overloads,
    }


def _worst(values: Sequence[float | None]) -> float | None:
    return None if None in values else max(values, default=None)


def overload_words(case: Case, over: Mapping[str, Any]) -> str:
    """Name an overload: what, by how much, when."""
    when = f"{case.horizon.stamps()[over['period']]:%Y-%m-%d %H:%MZ}"
    where = f"{KIND_WORDS[over['kind']]} {over['where']} of '{over['network']}'"
    if over["kind"] == "voltage_pu":
        return f"{where} {over['beyond']:.4f} pu outside its band at {when}"
    return f"{where} {over['beyond']:.1%} above its limit at {when}"


def day_summary(
    case: Case, settlement: Settlement, outcome: DayOutcome, results: Mapping[int, Result]
) -> tuple[dict[str, Any], dict[str, Any]]:
    """Say how the coordinations of a day went, and what its settlement came to. results: by gate, -1 day-ahead."""
    periods = case.horizon.periods
    gates = [result for number, result in sorted(results.items()) if 0 <= number < periods]
    every = [results[-1], *gates, results[periods]]
    went = {
        "case": case.name,
        **horizon_summary(case),
        "gates": len(gates),
        "gates_not_converged": sum(not result.converged for result in gates),
        "converged": all(result.converged for result in every),
        "day_ahead_iterations": results[-1].iterations,
        "median_gate_iterations": sorted(result.iterations for result in gates)[len(gates) // 2],
        "gate_seconds": sum(result.timing.wall for result in gates),
        "versions": versions(),
    }
    return went, settlement_summary(settlement, outcome)


def settlement_summary(settlement: Settlement, outcome: DayOutcome) -> dict[str, Any]:
    """Sum up the settlement of one feeder: costs, activation of communities, what gave way, and who is worse off
    day-ahead than alone at the same prices."""
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
        "day_ahead_worse_off_agents": len(worse),
        "day_ahead_worse_off": ", ".join(f"{name} by {eur:.2f} EUR" for name, eur in worse),
    }


def _day_ahead_net_eur(settlement: Settlement, outcome: DayOutcome) -> dict[str, float]:
    """Own cost and day-ahead payments of those agents that have an alternative."""
    found = {}
    for name in outcome.standalone_eur:
        received = settlement.by_agent()[name]
        paid = -sum(received.get(product, 0.0) for product in ("energy", "capacity_up", "capacity_down"))
        found[name] = outcome.day_ahead_eur[name] + paid
    return found
