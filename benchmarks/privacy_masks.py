"""Ten communities cut into members: each member by itself, and in groups that tell masked sums."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from statistics import median

import numpy as np

import admm
from admm.output import versions
from admm.privacy import MaskedTransport, Members
from admm.privacy.masks import Masks
from benchmarks.generate import DSO, case_operator, generate
from benchmarks.measure import Row, cold_start, machine, measure
from benchmarks.subjects import Problem, solved_problem
from networks.case import load_case
from networks.cases.build_ieee33_10ec import COMMUNITIES
from subproblems import QPAgent, QuadraticProgram

CASE = "ieee33-10ec"
MEMBERS = (3, 10, 30)
CAP = 300
SEED = 0
VARIANTS = {
    "default": {},
    "classical, 1 per unit": {"penalty": "classical:1", "acceleration": "none"},
}
BY_ITSELF, IN_GROUPS = "by itself", "in masked groups"
MASKED_ANSWERS = 50
"""Over which the median time of one mask is taken."""


@dataclass
class MaskRow:
    """members: of each of the ten groups. gap, mismatch: at the stop, of turnover and of scale."""

    members: int
    members_tell: str
    variant: str
    yardstick_exchanges: int | None
    stop_exchanges: int | None
    gap: float | None
    mismatch: float | None
    mb: float
    seconds: float
    mask_ms: float | None
    status: str
    versions: str = field(default_factory=versions)
    machine: str = field(default_factory=machine)


@dataclass(frozen=True)
class Grouped:
    """A Subject whose agents are groups: the same members, and one coupling for all of a kind."""

    problem: Problem
    groups: Mapping[str, tuple[str, ...]]
    programs: Mapping[str, QuadraticProgram]
    couplings: tuple[admm.Coupling, ...]

    name = family = "masked-groups"

    @property
    def optimum_eur(self) -> float:
        return self.problem.optimum_eur

    @property
    def turnover_eur(self) -> float:
        return self.problem.turnover_eur

    @property
    def seed(self) -> int | None:
        return self.problem.seed

    def agents(self, solver: str) -> dict[str, admm.Agent]:
        made = {name: QPAgent(program, solver=solver) for name, program in self.programs.items()}
        members = {name for names in self.groups.values() for name in names}
        found = {group: Members({name: made[name] for name in names}) for group, names in self.groups.items()}
        return found | {name: agent for name, agent in made.items() if name not in members}


def subjects(members: int) -> tuple[Problem, Grouped]:
    """The same members, each by itself and in groups of a kind; members of a kind are at one node."""
    kinds, case = list(COMMUNITIES), load_case(CASE)
    programs, couplings = generate(members * len(kinds), seed=SEED)
    problem = solved_problem(f"members-{members}", programs, couplings, seed=SEED)
    hubs = [name for name in programs if name.startswith("hub")]
    groups = {kind: tuple(hubs[i :: len(kinds)]) for i, kind in enumerate(kinds)}
    own = {c.lower: c.name for c in case.couplings}
    shared = {name: _under(programs[name], own[kind]) for kind, names in groups.items() for name in names}
    operators = {name: program for name, program in programs.items() if name not in (*hubs, DSO)}
    all_of = shared | operators | {DSO: case_operator(case.name)}
    return problem, Grouped(problem, groups, all_of, case.couplings)


def _under(program: QuadraticProgram, coupling: str) -> QuadraticProgram:
    """The program with its boundary under another coupling's name."""
    return replace(program, boundary={(coupling, quantity): at for (_, quantity), at in program.boundary.items()})


def mask_rows(sizes: Sequence[int], solver: str, cap: int | None = None) -> Iterator[MaskRow]:
    for members in sizes:
        alone, grouped = subjects(members)
        for variant, keywords in VARIANTS.items():
            for words, subject in ((BY_ITSELF, alone), (IN_GROUPS, grouped)):
                transport: admm.Transport = admm.InProcessTransport(threads=1)
                if words == IN_GROUPS:
                    transport = MaskedTransport(transport, grouped.groups)
                row = Row(subject.name, subject.family, variant, "", "", "", "flat", solver, cap or CAP, SEED)
                measure(row, subject, {**keywords, **cold_start(subject, "flat")}, transport=transport)
                yield MaskRow(
                    members,
                    words,
                    variant,
                    row.yardstick_exchanges,
                    row.stop_exchanges,
                    row.end_gap,
                    row.end_mismatch,
                    round(row.bytes / 1e6, 2),
                    round(row.seconds, 2),
                    mask_ms(members) if words == IN_GROUPS else None,
                    row.status,
                )


def mask_ms(members: int, numbers: int = 76) -> float:
    """Milliseconds for one member to mask an answer of so many numbers, in the median, keys agreed on before."""
    masks = {f"m{i}": Masks(f"m{i}") for i in range(members)}
    one, zeros = masks["m0"], np.zeros(numbers, dtype=np.uint64)
    one.meet({name: each.public for name, each in masks.items()})
    one.mask(zeros, 1)  # agrees on keys
    found = []
    for exchange in range(2, MASKED_ANSWERS + 2):
        began = time.perf_counter()
        one.mask(zeros, exchange)
        found.append(time.perf_counter() - began)
    return round(1e3 * median(found), 3)
