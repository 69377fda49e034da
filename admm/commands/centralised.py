"""`tieline centralised`: one QP of all agents, the reference."""

from __future__ import annotations

import argparse
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from admm.commands.checks import checks_passed, checks_summary, told
from admm.commands.common import (
    EXIT_NOT_CONVERGED,
    lock_for,
    one_process,
    plain_name,
)
from admm.commands.summary import case_digest, flow_findings, horizon_summary
from admm.folder_lock import FolderLock
from admm.history import write_boundary
from admm.output import BOUNDARY, OutputFolder, run_id_of, versions
from networks.case import SIGNS, Case, CaseAgent, load_case
from networks.flow_agent import FlowAgent

if TYPE_CHECKING:
    from networks.centralised import Centralised


def command(given: argparse.Namespace) -> int:
    """Run `tieline centralised`: the same problem as one QP, by Clarabel, with the same flow corrections."""
    one_process("centralised")
    out = OutputFolder(given.out or f"results/{plain_name(given.case)}-centralised")
    with lock_for(out.path) as lock:
        return _centralised(given, out, lock)


def _centralised(given: argparse.Namespace, out: OutputFolder, lock: FolderLock) -> int:
    from networks.centralised import solve_centralised

    case = load_case(given.case)
    out.check()
    lock.take()
    identity = {"case": case.name, "public files": case.public_digest().hex(), "scheme": "centralised"}
    out.run_id = run_id_of(identity, out.former_run_id())
    print(
        f"{case.name}: one QP of all {len(case.agents)} agents, solved by Clarabel, flows corrected until exact",
        *case.notes,
        sep="\n  ",
    )
    agents = {name: case.build_agent(name) for name in case.agents}
    found = solve_centralised(case, report=print, agents=agents)
    checks = checks_summary(_told(case, agents, found))
    summary = {
        "case": case.name,
        "case_sha256": case_digest(case, [{"digest": case.private_digest(case.agents)}]),
        **horizon_summary(case),
        "notes": " | ".join(case.notes),
        "scheme": "centralised",
        "converged": True,
        "objective_eur": found.solution.objective_eur,
        "turnover_eur": found.solution.turnover_eur,
        "corrections": found.corrections,
        "flow_error": found.flow_error,
        **checks,
        "wall_seconds": found.seconds,
        "versions": versions(),
    }
    out.prepare()
    write_boundary(out / BOUNDARY, found.solution.boundary(), SIGNS, case.horizon.time_utc(), run_id=out.run_id)
    out.complete(summary)
    if given.save_reference and checks_passed(checks):
        kept = ("case_sha256", "objective_eur", "turnover_eur")
        case.folder.save_reference(case.name, {key: summary[key] for key in kept})
    solution = found.solution
    print(f"  objective            {solution.objective_eur:.4f} EUR (turnover {solution.turnover_eur:.2f} EUR)")
    print(
        f"  flow corrections     {found.corrections}, flows exact within {found.flow_error:.1e} of what a run corrects"
    )
    print(f"  time                 {found.seconds:.2f} s\n  results              {out.path}/")
    print(f"  checks               {'passed' if checks_passed(checks) else 'NOT passed: ' + checks['failed_checks']}")
    return 0 if checks_passed(checks) else EXIT_NOT_CONVERGED


def _told(case: Case, agents: Mapping[str, CaseAgent], found: Centralised) -> list[dict[str, Any]]:
    """Check the flows of every operator at the optimum."""
    operators = {name: agent.program for name, agent in agents.items() if isinstance(agent, FlowAgent)}
    x = found.solution.x
    return [
        told(findings)
        for name, program in operators.items()
        for findings in flow_findings(case, name, program, x[name], x[name])
    ]
