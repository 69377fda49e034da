"""Answers with noise: an agent that clips and perturbs what it tells, with a stated (epsilon, delta).

The mechanism, of each answer's boundary values y (n,), r the question's reference, which the asker knows:

    told = round(clip(clip(y) + N(0, sigma^2))),     clip: to r +- clip * scale,     sigma_i = multiplier * change_i

Two sets of private data are neighbours if their answers to the same question differ, in the root mean square over
entries, by no more than `change`. With multiplier^2 = n * answers / (2 rho), all `answers` answers together keep
rho-zCDP between neighbours, so (epsilon, delta); questions may depend on earlier answers. What follows the noise
- clipping, rounding, the whole run - costs nothing. Values are rounded to a grid of sigma / 1024, because the last
digits of floating-point noise can give a value away (Mironov, CCS 2012).

What makes neighbours: let a household take b, (n,), of its community's values. Where all that it shares with the others
is the meter, the community's answer with it is b + prox(v - b), and without it prox(v), v from the question. As
v -> v - prox(v) is nonexpansive (Moreau 1965), they differ by at most |b| in the norm weighted by the penalty. So
`change`, what one household takes in the root mean square, is right where no common limit binds and the penalty of
entries goes with 1 / change^2; elsewhere it is a claim of whoever states it. Without any claim two answers differ
by at most 2 clip * scale: `Noisy.epsilon_of_anything`.

Nothing else is told: no cost, no bound, no reason, no steps, times of next to nothing, not that an answer is inexact.
An agent that is infeasible ends the run, which tells that much, and whoever waits sees how long an answer takes. The
owner executes its own schedule, not what was told. A budget is spent once: after `answers` answers over all runs of
the object none is given, and a new object on the next day spends as much again for the same household.
"""

from __future__ import annotations

import math
import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from admm.errors import InputError, SolverError
from admm.interfaces import Agent, AgentBoundary, Answer, Question
from admm.privacy import accountant
from admm.whole_file import write_whole

NO_SECONDS = 1e-9
"""Told as the time of an answer: 0 would ask the transport to measure it."""
GRID_STEPS = 1024
LEDGER = "tieline noise 1, answers given: "
WORD = 8
"""Bytes of randomness for a uniform number."""


@dataclass(frozen=True)
class Noise:
    """What an agent may give away. change: {quantity: what neighbours differ by, in its unit}.

    epsilon, delta: of all `answers` answers together. clip: most that a told value differs from the
    question's reference, as a share of the entry's scale.
    """

    change: Mapping[str, float]
    epsilon: float
    answers: int
    delta: float = 1e-5
    clip: float = 2.0

    def __post_init__(self) -> None:
        accountant.rho_for(self.epsilon, self.delta)
        if isinstance(self.answers, bool) or not isinstance(self.answers, int) or self.answers < 1:
            raise InputError(f"noise: answers is {self.answers!r}, expected a whole number of at least 1")
        for key, value in (*self.change.items(), ("clip", self.clip)):
            if not (math.isfinite(value) and value > 0):
                raise InputError(f"noise: {key} is {value!r}, expected a finite number above 0")

    def multiplier(self, entries: int) -> float:
        """Standard deviation of the noise as a multiple of `change`, on a boundary of so many entries."""
        return math.sqrt(entries * self.answers / (2.0 * accountant.rho_for(self.epsilon, self.delta)))


class Noisy:
    """An agent that tells noisy values only.

    seed: for tests; without it noise comes from the operating system. ledger: a file, made if it is not there, in which
    answers are counted over all runs; without one a run keeps no checkpoints.
    """

    def __init__(self, agent: Agent, noise: Noise, seed: int | None = None, ledger: str | Path | None = None) -> None:
        self._agent, self.noise, self._seed = agent, noise, seed
        self._ledger = None if ledger is None else Path(ledger)
        self._bytes: Callable[[int], bytes] = os.urandom if seed is None else np.random.default_rng(seed).bytes
        self.answers_given = 0
        self._look_up()

    def prepare(self, boundary: AgentBoundary) -> None:
        self._clip = self.noise.clip * boundary.scale
        change = np.empty(boundary.size)
        for (coupling, quantity), at in boundary.slices().items():
            if quantity not in self.noise.change:
                raise InputError(f"noise: change has no '{quantity}', which coupling '{coupling}' has; give it")
            change[at] = self.noise.change[quantity]
        self.sigma = self.noise.multiplier(boundary.size) * change
        self._agent.prepare(boundary)

    def _look_up(self) -> None:
        if self._ledger is not None:
            self.answers_given = max(self.answers_given, _counted(self._ledger))

    def answer(self, question: Question) -> Answer:
        self._look_up()
        if self.answers_given >= self.noise.answers:
            raise SolverError(
                f"the privacy budget of {self.noise.answers} answers is spent: set max_iterations to it, or state more"
            )
        answer = self._agent.answer(question)
        if not answer.status.usable:
            return Answer(answer.values, answer.status, solve_seconds=NO_SECONDS)
        self.answers_given += 1
        if self._ledger is not None:
            write_whole(self._ledger, f"{LEDGER}{self.answers_given}\n".encode())
        told = self._clipped(self._clipped(answer.values, question) + self.sigma * self._normal(), question)
        grid = 2.0 ** np.floor(np.log2(self.sigma / GRID_STEPS))
        return Answer(np.round(told / grid) * grid, solve_seconds=NO_SECONDS)

    def _clipped(self, values: np.ndarray, question: Question) -> np.ndarray:
        return np.clip(values, question.reference - self._clip, question.reference + self._clip)

    def _normal(self) -> np.ndarray:
        """Standard normal numbers, (n,): Box and Muller (1958) on 53-bit uniform ones."""
        n = self.sigma.size
        words = np.frombuffer(self._bytes(2 * n * WORD), dtype="<u8").reshape(2, n)
        uniform = ((words >> np.uint64(11)) + 0.5) / 2.0**53
        return np.sqrt(-2.0 * np.log(uniform[0])) * np.cos(2.0 * np.pi * uniform[1])

    def epsilon_of(self, answers: int) -> float:
        """What so many answers have cost between neighbours, at the noise's delta."""
        entries = self.sigma.size
        spent = accountant.rho(math.sqrt(entries), self.noise.multiplier(entries), answers)
        return accountant.epsilon(spent, self.noise.delta)

    def epsilon_of_anything(self, answers: int) -> float:
        """The same between any two sets of private data, whatever they are: answers differ by 2 clip at most."""
        sensitivity = float(np.linalg.norm(2.0 * self._clip / self.sigma))
        return accountant.epsilon(accountant.rho(sensitivity, 1.0, answers), self.noise.delta)

    def snapshot(self) -> dict[str, Any]:
        """Raises InputError without a ledger."""
        if self._ledger is None:
            raise InputError(
                "noise: in a run with checkpoints answers are counted in a file, so that going on spends no budget "
                "twice; give Noisy a ledger, or leave the checkpoints out"
            )
        inner = self._agent.snapshot() if hasattr(self._agent, "snapshot") else None
        return {"agent": inner, "answers_given": self.answers_given}

    def restore(self, kept: Mapping[str, Any]) -> None:
        """After `prepare`. What was told since the snapshot stays told, so the count is the ledger's."""
        if self._ledger is None or self.answers_given < kept["answers_given"]:
            found = "no ledger" if self._ledger is None else f"{self._ledger}, which counts {self.answers_given}"
            raise InputError(
                f"noise: {kept['answers_given']} answers were given, but there is {found}; give it its own"
            )
        if hasattr(self._agent, "restore"):
            self._agent.restore(kept["agent"])
        if self._seed is not None:  # never the same noise on another answer
            self._bytes = np.random.default_rng([self._seed, self.answers_given]).bytes

    def solution(self) -> Any:
        """The agent's own schedule, without noise, for its owner."""
        return self._agent.solution()

    def units(self) -> dict[str, str]:
        return self._agent.units()

    def cost_eur(self) -> float | None:
        """For its owner."""
        return self._agent.cost_eur()

    def violation(self) -> float:
        return self._agent.violation()

    def checks(self) -> dict[str, float | None]:
        return self._agent.checks()


def _counted(ledger: Path) -> int:
    """Answers that a ledger counts; 0 where there is none yet."""
    if not os.path.lexists(ledger):
        return 0
    try:
        words = ledger.read_text(encoding="utf-8")
    except (OSError, ValueError):
        words = ""
    count = words.removeprefix(LEDGER).removesuffix("\n")
    if not (words.startswith(LEDGER) and count.isascii() and count.isdecimal() and len(count) < WORD * 2):
        raise InputError(f"{ledger}: is no count of answers given, so that nobody knows what is left; restore the file")
    return int(count)
