"""What the summaries of a day on the market say: flat figures, every MWh and EUR of one feeder."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from admm import Result
from admm.commands.checks import add_told, checks_summary
from admm.commands.summary import horizon_summary, replaced_solvers, told_solvers
from admm.output import versions
from networks.case import Case, coupling_name
from networks.flow_checks import LIMIT_KEYS, check_flows
from networks.market.day import DayOutcome, MarketDay
from networks.market.realised import KINDS, realised_check
from networks.market.settlement import Settlement, worse_off
from networks.user_net_check import UserNet

WORSE_OFF_EUR = 0.05
"""By more than this an agent counts as worse off: a run's prices are agreed on to a tolerance."""
WORST_KEYS = dict(zip(KINDS, LIMIT_KEYS.values(), strict=True))
"""Keys of a summary: how far the worst element is beyond its limit, negative inside."""
MOST_OVERLOADS = 20
"""So many are listed by name in a summary, the worst first."""
KIND_WORDS = {"voltage_pu": "voltage of node ", "current_share": "", "substation_share": "the "}


def connections_kw(case: Case) -> dict[str, float]:
    return {coupling_name(a.name, a.network): a.connection_kw for a in case.table.agent}


@dataclass(frozen=True)
class _RealisedCase:
    """Stands for the case as it turned out, for the checks of flows."""

    day: MarketDay

    def connections_mw(self, network: str) -> dict[str, float]:
        return self.day.case.connections_mw(network)

    def user_net(self, network: str) -> UserNet | None:
        return self.day.case.user_net(network, self.day.realised_series)


def realised_facts(day: MarketDay) -> dict[str, Any]:
    """Check what happened on the feeders of this rank: own flows against AC flows, limits, the user's own network."""
    limits_kw, facts = connections_kw(day.case), {"limits": [], "networks": len(day.intraday.feeders)}
    facts["replaced_solvers"] = replaced_solvers(day.intraday.agents)
    for name, feeder in day.intraday.feeders.items():
        add_told(facts, check_flows(_RealisedCase(day), name, feeder.program, *feeder.latest()))
        checked = realised_check(feeder, limits_kw)
        facts["limits"] += [] if checked is None else [checked.facts()]
    return facts


def realised_summary(case: Case, facts: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Say how far what happened is from AC flows and beyond limits, over all feeders: the keys of the day-ahead
    summary, and the overloads by name."""
    limits = [one for fact in facts for one in fact["limits"]]
    overloads = sorted((over for one in limits for over in one["overloads"]), key=lambda over: -over["beyond"])
    words = "; ".join(overload_words(case, over) for over in overloads[:MOST_OVERLOADS])
    found = {kind: [one["worst"][kind] for one in limits if one["worst"][kind] is not None] for kind in KINDS}
    told = checks_summary(facts) | {key: max(found[kind], default=None) for kind, key in WORST_KEYS.items()}
    if overloads:
        told["ac_passed"] = False
        told["failed_checks"] = "; ".join(filter(None, (f"realised overloads: {words}", told["failed_checks"])))
    told |= told_solvers(facts)
    return told | {"realised_overloads": len(overloads), "realised_overload_words": words}


def overload_words(case: Case, over: Mapping[str, Any]) -> str:
    """Name an overload: what, by how much, when."""
    when = f"{case.horizon.stamps()[over['period']]:%Y-%m-%d %H:%MZ}"
    where = f"{KIND_WORDS[over['kind']]}{over['where']} of '{over['network']}'"
    if over["kind"] == "voltage_pu":
        return f"{where} {over['beyond']:.4f} pu outside its band at {when}"
    return f"{where} {over['beyond']:.1%} above its limit at {when}"


def day_summary(
    case: Case,
    settlement: Settlement,
    outcome: DayOutcome,
    alone_eur: Mapping[str, float],
    results: Mapping[int, Result],
) -> tuple[dict[str, Any], dict[str, Any]]:
    """Say how the coordinations of a day went, and what its settlement came to.

    Args:
        case: of the day.
        settlement: of the day.
        outcome: of the day.
        alone_eur: what the settled day would have cost communities alone.
        results: by gate, -1 day-ahead.
    """
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
    return went, settlement_summary(settlement, outcome, alone_eur)


def settlement_summary(settlement: Settlement, outcome: DayOutcome, alone_eur: Mapping[str, float]) -> dict[str, Any]:
    """Sum up the settlement of one feeder: costs, activation of communities, what gave way, and who is worse off than
    alone at the same prices: day-ahead, and as settled under the same errors."""
    record = outcome.record
    costs = [cost for cost in record.costs_eur.values() if cost is not None]
    ends = record.couplings
    activated = [mwh for name, mwh in settlement.activated_mwh().items() if ends[name].lower in outcome.standalone_eur]
    net = _day_ahead_net_eur(settlement, outcome)
    worse = worse_off(net, outcome.standalone_eur, WORSE_OFF_EUR)
    settled = worse_off(settlement.net_eur(), alone_eur, WORSE_OFF_EUR)
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
        "settled_worse_off_agents": len(settled),
        "settled_worse_off": ", ".join(f"{name} by {eur:.2f} EUR" for name, eur in settled),
        "settled_better_off_eur": sum(alone - settlement.net_eur()[name] for name, alone in alone_eur.items()),
        "settled_not_compared": ", ".join(sorted(outcome.standalone_eur.keys() - alone_eur.keys())),
    }


def _day_ahead_net_eur(settlement: Settlement, outcome: DayOutcome) -> dict[str, float]:
    """Add up own cost and day-ahead payments of those agents that have an alternative."""
    found = {}
    for name in outcome.standalone_eur:
        received = settlement.by_agent()[name]
        paid = -sum(received.get(product, 0.0) for product in ("energy", "capacity_up", "capacity_down"))
        found[name] = outcome.day_ahead_eur[name] + paid
    return found
