"""What a run leaves and says of itself at its end: private results, and the figures of summary.json."""

from __future__ import annotations

import argparse
import hashlib
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from admm import (
    Result,
)
from admm.commands.checks import add_told, checks_summary
from admm.couplings import Layout
from admm.history import write_private
from admm.output import START_FORMAT, OutputFolder, result_summary
from admm.updates import turnover_floor
from networks.case import DIGEST_SIZE, Case, CaseAgent
from networks.flow_agent import FlowAgent
from networks.flow_checks import Findings, check_flows
from networks.flow_program import FlowProgram
from networks.market.activation_findings import activation_findings


def finish_agents(case: Case, agents: Mapping[str, CaseAgent], out: OutputFolder) -> dict[str, Any]:
    """Write this rank's private results; what is told of them: a digest, the worst violation, checks of flows."""
    from subproblems.reservoir import simultaneous

    facts: dict[str, Any] = {"digest": case.private_digest(agents)}
    facts["violation_pu"] = max((agent.violation() for agent in agents.values()), default=0.0)
    facts["simultaneous_kw"] = facts["below_minimum_kw"] = 0.0
    facts["replaced_solvers"] = replaced_solvers(agents)
    out.prepare_private(list(agents))
    times, run_id = case.horizon.time_utc(), out.run_id
    for name, agent in agents.items():
        solution = agent.solution()
        write_private(out.private(name), solution, agent.units(), agent.cost_eur(), times, agent.names(), run_id=run_id)
        overlaps = simultaneous(solution).values()
        facts["simultaneous_kw"] = max([facts["simultaneous_kw"], *(float(kw.max()) for kw in overlaps)])
        facts["below_minimum_kw"] = max(facts["below_minimum_kw"], case.below_minimum_kw(name, solution))
        for findings in _findings(case, name, agent):
            add_told(facts, findings)
    return facts


def replaced_solvers(agents: Mapping[str, CaseAgent]) -> list[str]:
    """Agents whose solver was stuck, each with the one that took over."""
    words = {name: agent.replaced_solver() for name, agent in agents.items()}
    return [f"{name}: {which}" for name, which in words.items() if which]


def told_solvers(facts: Sequence[Mapping[str, Any]]) -> dict[str, str]:
    """The same of all ranks, as a summary says it."""
    return {"replaced_solvers": ", ".join(sorted(words for fact in facts for words in fact["replaced_solvers"]))}


def _findings(case: Case, name: str, agent: CaseAgent) -> Iterator[Findings]:
    """Check the flows of an operator's schedule; of others nothing flows."""
    latest = agent.latest() if isinstance(agent, FlowAgent) else None
    return iter(()) if latest is None else flow_findings(case, name, agent.program, *latest)


def flow_findings(
    case: Case, name: str, program: FlowProgram, x: np.ndarray, scheduled: np.ndarray
) -> Iterator[Findings]:
    """Check the flows of a schedule, and those with all its flexibility called. x, scheduled: see `check_flows`."""
    yield check_flows(case, name, program, x, scheduled)
    yield activation_findings(name, program, x, scheduled, case.connections_mw(name))


def run_summary(
    case: Case, given: argparse.Namespace, result: Result, facts: Sequence[dict], resumed_after: int = 0
) -> dict[str, Any]:
    """Return what summary.json says of a run. facts: those of `finish_agents`, of every rank. resumed_after: the
    iteration whose checkpoint it went on from, 0 for none."""
    summary = {
        "case": case.name,
        "case_sha256": case_digest(case, facts),
        **horizon_summary(case),
        "notes": " | ".join(case.notes),
        "scheme": given.scheme,
        "penalty": given.penalty,
        "acceleration": given.acceleration,
        "staleness": given.staleness,
        "warm_start": given.warm_start,
        "resumed_after": resumed_after,
        "lost_agents": ", ".join(result.lost_agents),
        **result_summary(result),
        "ranks": len(facts),
        "agents": len(case.agents),
        "qp_solver": given.qp_solver,
        **told_solvers(facts),
        "max_violation_pu": max(fact["violation_pu"] for fact in facts),
        **checks_summary(facts),
        "max_simultaneous_kw": max(fact["simultaneous_kw"] for fact in facts),
        "max_below_minimum_kw": max(fact["below_minimum_kw"] for fact in facts),
    }
    return summary | against_reference(case, summary)


def horizon_summary(case: Case) -> dict[str, Any]:
    return {
        "start_utc": f"{case.horizon.start:{START_FORMAT}}",
        "periods": case.horizon.periods,
        "step_minutes": case.horizon.step_minutes,
    }


def case_digest(case: Case, facts: Sequence[dict]) -> str:
    """Return the SHA-256 over the public files and what the owners tell of the private ones."""
    private = sum(fact["digest"] for fact in facts) % DIGEST_SIZE
    return hashlib.sha256(case.public_digest() + str(private).encode()).hexdigest()


def against_reference(case: Case, summary: dict[str, Any]) -> dict[str, Any]:
    """Look up the centralised optimum and the distance to it, where one was saved for exactly this case."""
    reference = case.folder.reference().get(case.name)
    if reference is None or reference["case_sha256"] != summary["case_sha256"] or summary["objective_eur"] is None:
        return {"reference_objective_eur": None, "gap_to_reference": None}
    turnover = max(reference["turnover_eur"], turnover_floor(Layout(case.couplings)))
    gap = (summary["objective_eur"] - reference["objective_eur"]) / turnover
    return {"reference_objective_eur": reference["objective_eur"], "gap_to_reference": gap}
