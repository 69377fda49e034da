"""One rank of `stragglers`: `mpirun -n 3 python -m benchmarks.straggler_rank JOB.json`; started by stragglers.py.

The agents are those of `tieline run` on so many ranks; some of them are made slow.
"""

from __future__ import annotations

import json
import sys
import time
from dataclasses import replace
from pathlib import Path

import admm
from admm.commands.common import owned_agents
from admm.mpi import MpiTransport, abort_on_exception, world
from benchmarks.stragglers import made_late
from benchmarks.subjects import CaseSubject
from networks.case import load_case

DEADLINE_SECONDS = 120.0


def main(path: Path) -> None:
    job, comm = json.loads(path.read_text(encoding="utf-8")), world()
    case, transport = load_case(job["case"]), MpiTransport(comm, DEADLINE_SECONDS)
    settings = admm.Settings(staleness=job["staleness"], max_iterations=job["cap"])
    mine = owned_agents(case, transport, replace(settings, staleness=1))  # one placement, whatever the staleness
    numbers = {name: i for i, name in enumerate(case.agents)}
    late = {}
    for name in mine:
        agent = case.build_agent(name, job["solver"])
        late[name] = made_late(agent, job["trouble"], comm.rank, comm.size, job["seed"] + numbers[name])
    comm.Barrier()
    began = time.perf_counter()
    result = admm.solve(late, case.couplings, settings, transport)
    seconds = time.perf_counter() - began
    given = [int(text) for text in transport.gather_text(str(max(agent.given for agent in late.values())))]
    if result is not None:
        path.with_suffix(".done").write_text(json.dumps(row_of(result, seconds, given, job["case"])), encoding="utf-8")


def row_of(result: admm.Result, seconds: float, given: list[int], case: str) -> dict[str, object]:
    """given: most answers of an agent, by rank."""
    subject = CaseSubject(case, case)
    return {
        "seconds": round(seconds, 3),
        "iterations": result.iterations,
        "slowest_rank_answers": min(given),
        "gap": (result.objective - subject.optimum_eur) / subject.turnover_eur,
        "mismatch": result.residuals.mismatch,
        "status": result.status.name.lower(),
    }


if __name__ == "__main__":
    with abort_on_exception(world()):
        main(Path(sys.argv[1]))
