"""`tieline centralised`: one QP of all agents, the reference."""

from __future__ import annotations

import argparse

from admm.commands.common import (
    one_process,
    plain_name,
)
from admm.commands.summary import case_digest, horizon_summary
from admm.history import write_boundary
from admm.output import BOUNDARY, OutputFolder, versions
from networks.case import SIGNS, load_case


def command(given: argparse.Namespace) -> int:
    """`tieline centralised`: the same problem as one QP, by Clarabel, with the same flow corrections."""
    from networks.centralised import solve_centralised

    one_process("centralised")
    case = load_case(given.case)
    out = OutputFolder(given.out or f"results/{plain_name(given.case)}-centralised")
    out.check()
    print(
        f"{case.name}: one QP of all {len(case.agents)} agents, solved by Clarabel, flows corrected until exact",
        *case.notes,
        sep="\n  ",
    )
    found = solve_centralised(case, report=print)
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
        "wall_seconds": found.seconds,
        "versions": versions(),
    }
    out.prepare()
    write_boundary(out / BOUNDARY, found.solution.boundary(), SIGNS, case.horizon.time_utc())
    out.complete(summary)
    if given.save_reference:
        kept = ("case_sha256", "objective_eur", "turnover_eur")
        case.folder.save_reference(case.name, {key: summary[key] for key in kept})
    solution = found.solution
    print(f"  objective            {solution.objective_eur:.4f} EUR (turnover {solution.turnover_eur:.2f} EUR)")
    print(
        f"  flow corrections     {found.corrections}, flows exact within {found.flow_error:.1e} of what a run corrects"
    )
    print(f"  time                 {found.seconds:.2f} s\n  results              {out.path}/")
    return 0
