"""What the scheme keeps of answers: columns of agents, cuts of followers."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from admm.interfaces import Answer, Question
from admm.memory.joint import Columns, Cuts

IN_USE = 1e-6
"""Share of a mix above which an answer counts as used."""
IDLE_ROUNDS = 3
"""Rounds in a row without use after which an answer is forgotten."""
MOST_CUTS = 30
CURVATURE_START, CURVATURE_LEAST, CURVATURE_MOST, CURVATURE_DAMPED = 0.1, 0.02, 0.2, 0.3
"""A follower's curvature, as shares of the penalty: at first, its limits, and by what it shrinks once cuts exist."""


def slope_of(question: Question, values: np.ndarray) -> np.ndarray:
    """Slope of the agent's own cost at its answer, (n,), EUR per unit: what the question's price and pull balance."""
    pull = np.where(np.isinf(question.penalty), 0.0, question.penalty)
    return -(question.price + pull * (values - question.reference))


class Remembered:
    """The answers of one agent. Without costs, their differences are estimated from slopes (trapezoid rule)."""

    def __init__(self, entries: np.ndarray) -> None:
        self.entries = entries
        self.values: list[np.ndarray] = []
        self.cost_eur: list[float] = []
        self.slope: list[np.ndarray] = []
        self._idle: list[int] = []

    def add(self, question: Question, answer: Answer) -> None:
        values = np.asarray(answer.values, dtype=float)
        followed = np.isinf(question.penalty).any()
        if answer.cost_eur is None and followed:
            return  # an answer that was forced tells no slope
        slope = np.zeros_like(values) if followed else slope_of(question, values)
        cost = self._estimated_cost(values, slope) if answer.cost_eur is None else answer.cost_eur
        for kept, new in ((self.values, values), (self.cost_eur, cost), (self.slope, slope), (self._idle, 0)):
            kept.append(new)

    def _estimated_cost(self, values: np.ndarray, slope: np.ndarray) -> float:
        """Against the nearest answer: the mean of both slopes times the way between them."""
        if not self.values:
            return 0.0
        near = int(np.argmin([np.abs(values - other).sum() for other in self.values]))
        return self.cost_eur[near] + float(0.5 * (slope + self.slope[near]) @ (values - self.values[near]))

    def columns(self) -> Columns:
        return Columns(self.entries, np.array(self.values), np.array(self.cost_eur))

    def forget_idle(self, mixes: Sequence[np.ndarray]) -> None:
        """Drop the answers that no mix has used for some rounds."""
        used = np.max(mixes, axis=0) > IN_USE
        self._idle = [0 if use else rounds + 1 for use, rounds in zip(used, self._idle, strict=True)]
        keep = [rounds < IDLE_ROUNDS for rounds in self._idle]
        for name in ("values", "cost_eur", "slope", "_idle"):
            setattr(self, name, [one for one, kept in zip(getattr(self, name), keep, strict=True) if kept])


class Follower:
    """One follower: supporting planes of its cost, and how its price moves with its value."""

    def __init__(self, entries: np.ndarray, groups: Sequence[np.ndarray], penalty: np.ndarray) -> None:
        """groups: positions among its entries that have one curvature; penalty: (n_F,), at the start."""
        self.entries, self._groups, self._penalty = entries, groups, penalty
        self._cuts: list[tuple[np.ndarray, np.ndarray, float]] = []
        self.centre, self.curvature = np.zeros(entries.size), np.zeros(entries.size)
        self._latest: tuple[np.ndarray, np.ndarray] | None = None

    def add_cut(self, question: Question, answer: Answer) -> None:
        values = np.asarray(answer.values, dtype=float)
        slope = slope_of(question, values)
        cost = self._estimated_cost(values, slope) if answer.cost_eur is None else answer.cost_eur
        self._cuts = [*self._cuts, (values, slope, cost)][-MOST_CUTS:]

    def _estimated_cost(self, values: np.ndarray, slope: np.ndarray) -> float:
        if not self._cuts:
            return 0.0
        near = min(self._cuts, key=lambda cut: float(np.abs(values - cut[0]).sum()))
        return near[2] + float(0.5 * (slope + near[1]) @ (values - near[0]))

    def move_to(self, question: Question, answer: Answer) -> None:
        """A new centre; the curvature follows the secant slope from the last one, by group."""
        values = np.asarray(answer.values, dtype=float)
        slope = slope_of(question, values)
        if self._latest is None:
            self.curvature = CURVATURE_START * CURVATURE_DAMPED * self._penalty
        else:
            for at in self._groups:
                self._take_secant(at, values - self._latest[0], slope - self._latest[1])
        self.centre, self._latest = values, (values, slope)

    def _take_secant(self, at: np.ndarray, moved: np.ndarray, steeper: np.ndarray) -> None:
        way = np.linalg.norm(moved[at])
        if way > 1e-9:
            least, most = CURVATURE_LEAST * self._penalty[at], CURVATURE_MOST * self._penalty[at]
            secant = np.clip(np.linalg.norm(steeper[at]) / way, least, most)
            self.curvature[at] = np.sqrt(self.curvature[at] * secant)

    def cuts(self) -> Cuts:
        n = self.entries.size
        values, slope, cost = zip(*self._cuts, strict=True) if self._cuts else ((), (), ())
        shape = (len(cost), n)
        return Cuts(
            self.entries,
            np.reshape(values, shape),
            np.reshape(slope, shape),
            np.array(cost, dtype=float),
            self.centre,
            self.curvature,
        )
