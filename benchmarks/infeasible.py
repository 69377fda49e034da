"""Wholes whose agents' limits cannot hold together: are they proved so, how soon, and is nothing else?
`python -m benchmarks infeasible`.

Every subject is run three times: without an agreement, hardly inside the edge, and far inside. Random wholes have a
planted edge (`wholes.py`), and are 1 % of their scale inside it. The others are bundled cases with one limit changed,
or with feeders moved to where lines are weak (`LIMITS`). How far apart the agents are, HiGHS says: it minimises the
weighted sum of mismatches in one linear program of all agents, at the flows of networks without agents, then at those
of its own answer, where an operator has a point there. The same program of the agents that the message names alone
says whether its names are right. Writes results/infeasible.csv (a row a subject) and .md.
"""

from __future__ import annotations

import re
import shutil
import tempfile
import time
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import scipy.sparse as sp
from scipy.optimize import linprog

import admm
from benchmarks.options import Options
from benchmarks.registry import chosen
from benchmarks.tables import markdown_table, write_csv
from benchmarks.wholes import NEED, random_whole
from networks.case import load_case
from networks.case_file import BUNDLED
from subproblems import QPAgent, QuadraticProgram

FILE = "infeasible"
SEEDS, APART, INSIDE, FAR_INSIDE = range(20), 0.1, -0.01, -0.3
"""Random wholes, and their margins in scales."""
CORRECTIONS = 2
ENDED = re.compile(r"iteration (\d+), (\d+) more exchanges")
MOST_ITERATIONS = 500
NOTHING_EUR = 1e-6
"""What HiGHS leaves of a mismatch that can be closed is less."""


class Limit(NamedTuple):
    """A text in a bundled case's file: as it is, as it is without an agreement, and as it is hardly inside the edge."""

    case: str
    line: str
    apart: str
    inside: str
    named: str


LIMITS = {
    "feeder, current limits": Limit(
        "ieee33-10ec",
        "current_limit_scale = 0.5",
        "current_limit_scale = 0.36",
        "current_limit_scale = 0.42",
        "current",
    ),
    "feeder, voltage limit": Limit(
        "ieee33-10ec", "voltage_min_pu = 0.95", "voltage_min_pu = 0.986", "voltage_min_pu = 0.98", "voltage"
    ),
    "feeder, substation": Limit(
        "ieee33-10ec",
        "substation_limit_mva = 4.5",
        "substation_limit_mva = 2.3",
        "substation_limit_mva = 2.65",
        "substation",
    ),
    "gas, import": Limit(
        "feeder118-gas65",
        "price_eur_per_mwh = 18.0",
        "price_eur_per_mwh = 18.0\nimport_limit_mw = 46.0",
        "price_eur_per_mwh = 18.0\nimport_limit_mw = 48.5",
        "import limit",
    ),
    "transmission, line ratings": Limit(
        "ieee33-10ec",
        "upstream_bus = 9\nfeeders = 25",
        "upstream_bus = 31\nfeeders = 5",
        "upstream_bus = 31\nfeeders = 4",
        "rating",
    ),
}
NOTE = (
    "exchanges: iterations and the exchanges of the proof; of normal: as a multiple of what the same whole takes far "
    "inside its edge. apart: the least sum of mismatches by HiGHS, in EUR at nominal prices. names right: the agents "
    "named cannot agree among themselves, by HiGHS, and the limit that was made too narrow is named. inside: exit code "
    "of the same whole hardly inside its edge (3: not converged after 500 iterations), its apart by HiGHS, its "
    "exchanges, and more: those of them that looked for a proof."
)


class Ended(NamedTuple):
    """How a run ended: its exit code, iterations, exchanges of proofs, words."""

    code: int
    iterations: int
    more: int
    words: str

    @property
    def exchanges(self) -> int:
        return self.iterations + self.more


def run_infeasible(options: Options) -> list[dict[str, Any]]:
    path = options.out / f"{FILE}.csv"
    rows = {row["subject"]: row for row in options.former_rows(path)}
    names = [*(f"random-{seed:02d}" for seed in SEEDS), *LIMITS]
    for name in chosen(names, options.subjects, "subject"):
        if name not in rows or options.again:
            rows[name] = _limit_row(name, options.solver) if name in LIMITS else _random_row(name)
            print(", ".join(f"{key} {value}" for key, value in rows[name].items()), flush=True)
            write_csv(path, [rows[key] for key in names if key in rows])
    table = [rows[key] for key in names if key in rows]
    (options.out / f"{FILE}.md").write_text(markdown_table(table, NOTE), encoding="utf-8")
    return table


def _random_row(name: str) -> dict[str, Any]:
    seed = int(name.rpartition("-")[2])
    runs, stacked, began = [], [], time.perf_counter()
    for margin in (APART, INSIDE, FAR_INSIDE):
        whole = random_whole(seed, margin)
        agents = {agent: QPAgent(program) for agent, program in whole.programs.items()}
        runs.append(_ended(agents, whole.couplings))
        stacked.append(Stacked(whole.programs, whole.couplings))
    return _row(name, stacked, runs, NEED, time.perf_counter() - began)


def _limit_row(name: str, solver: str) -> dict[str, Any]:
    limit, runs, stacked, began = LIMITS[name], [], [], time.perf_counter()
    for line in (limit.apart, limit.inside, limit.line):
        with tempfile.TemporaryDirectory() as folder:
            case = load_case(str(_changed(limit, line, Path(folder))))
            agents = {agent: case.build_agent(agent, solver) for agent in case.agents}
        runs.append(_ended(agents, case.couplings))
        stacked.append(Stacked(agents, case.couplings))
    return _row(name, stacked, runs, limit.named, time.perf_counter() - began)


def _changed(limit: Limit, line: str, folder: Path) -> Path:
    copy = Path(shutil.copytree(BUNDLED / limit.case, folder / "case", ignore=shutil.ignore_patterns("reference.json")))
    text = (copy / "case.toml").read_text(encoding="utf-8")
    (copy / "case.toml").write_text(text.replace(limit.line, line, 1), encoding="utf-8")
    return copy


def _ended(agents: Mapping[str, admm.Agent], couplings: Sequence[admm.Coupling]) -> Ended:
    try:
        result = admm.solve(agents, couplings, admm.Settings(max_iterations=MOST_ITERATIONS))
    except admm.InfeasibleError as error:
        found = ENDED.search(str(error))
        return Ended(error.exit_code, *map(int, found.groups() if found else (0, 0)), str(error))
    return Ended(0 if result.converged else 3, result.iterations, result.proof_exchanges, result.status.value)


def _row(
    name: str, all_stacked: Sequence[Stacked], runs: Sequence[Ended], limit: str, seconds: float
) -> dict[str, Any]:
    (apart, inside, normal), stacked = runs, all_stacked[0]
    named = [agent for agent in stacked.names if f"'{agent}'" in apart.words.partition("What holds them")[0]]
    right = apart.code == 4 and stacked.apart_eur(named) > NOTHING_EUR and limit in apart.words
    return {
        "subject": name,
        "agents": len(stacked.names),
        "apart": round(stacked.apart_eur(stacked.names), 3),
        "exit code": apart.code,
        "iterations": apart.iterations,
        "exchanges": apart.exchanges,
        "normal": normal.exchanges,
        "of normal": round(apart.exchanges / normal.exchanges, 2),
        "named": len(named),
        "names right": right,
        "inside": inside.code,
        "inside apart": round(all_stacked[1].apart_eur(stacked.names), 3),
        "inside exchanges": inside.exchanges,
        "more": inside.more,
        "seconds": round(seconds, 1),
    }


class Stacked:
    """All agents in one linear program, whose couplings may be missed at their nominal prices."""

    def __init__(self, agents: Mapping[str, Any], couplings: Sequence[admm.Coupling]) -> None:
        self.agents, self.couplings, self.names = agents, couplings, tuple(agents)

    def apart_eur(self, names: Iterable[str]) -> float:
        """The least that mismatches among these agents cost; of operators at the exact flows of the answer itself."""
        programs = {name: _program(self.agents[name]) for name in names}
        found = None
        for _ in range(CORRECTIONS):
            found, former = self._least(programs), found
            if found is None and former is not None:
                return former[0]  # at these flows an operator has no point at all
            if found is None:
                raise admm.SolverError("HiGHS finds an agent without any point")
            value, x = found
            moving = [name for name in programs if hasattr(self.agents[name], "program")]
            if not moving:
                break
            for name in moving:
                own = self.agents[name].program
                programs[name] = own.linearised(own.points(x[name]))
        return value

    def _least(self, programs: Mapping[str, QuadraticProgram]) -> tuple[float, dict[str, np.ndarray]] | None:
        start = np.cumsum([0, *(program.size for program in programs.values())])
        offset = dict(zip(programs, start, strict=False))
        entries, weights = [], []
        for coupling in self.couplings:
            if coupling.lower in programs and coupling.upper in programs:
                for quantity in coupling.quantities:
                    key = (coupling.name, quantity.name)
                    ends = [offset[n] + programs[n].boundary[key] for n in (coupling.lower, coupling.upper)]
                    entries.append(np.stack(ends, axis=1))
                    weights.append(np.full(quantity.periods, quantity.price_scale))
        if not entries:
            return 0.0, {}
        pairs, weight = np.concatenate(entries), np.concatenate(weights)
        m, rows = weight.size, np.arange(weight.size)
        ties = sp.csr_matrix((np.repeat([1.0, -1.0], m), (np.tile(rows, 2), pairs.T.ravel())), (m, start[-1]))
        A = sp.block_diag([program.A for program in programs.values()], format="csr")
        lower, upper = (np.concatenate([getattr(program, key) for program in programs.values()]) for key in "lu")
        above, below = upper < 1e20, lower > -1e20
        found = linprog(
            np.concatenate([np.zeros(start[-1]), weight, weight]),
            A_ub=_padded(sp.vstack([A[above], -A[below]]), 2 * m),
            b_ub=np.concatenate([upper[above], -lower[below]]),
            A_eq=sp.hstack([ties, -sp.identity(m), sp.identity(m)], format="csc"),
            b_eq=np.zeros(m),
            bounds=[(None, None)] * int(start[-1]) + [(0, None)] * (2 * m),
            method="highs-ipm",
        )
        if not found.success:
            return None
        return found.fun, {
            name: found.x[at : at + programs[name].size] for name, at in offset.items() if name in programs
        }


def _padded(matrix: sp.sparray, columns: int) -> sp.sparray:
    return sp.hstack([matrix, sp.csr_matrix((matrix.shape[0], columns))], format="csc")


def _program(agent: Any) -> QuadraticProgram:
    """The program of an agent, or the agent where it is one; an operator's at its first flows, with all limits."""
    if isinstance(agent, QuadraticProgram):
        return agent
    own = getattr(agent, "program", None)
    return agent.qp if own is None else own.linearised(own.first_points())
