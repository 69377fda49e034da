"""A transport without threads whose answers are late by as many exchanges as a seeded generator says."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping

import numpy as np

import admm


class Delayed(admm.InProcessTransport):
    """Answers are given when they are asked for and come up to `most` exchanges later; `who`: only these are late.

    A loop that asks for more gets what would come next, as if it had waited.
    """

    def __init__(self, seed: int, most: int, who: Collection[str] | None = None, always: bool = False) -> None:
        super().__init__(threads=1)
        self._rng, self._most, self._who, self._always = np.random.default_rng(seed), most, who, always
        self._exchange, self._due = 0, {}
        self.ages: list[int] = []

    def post(self, questions: Mapping[str, admm.Question]) -> None:
        self._exchange += 1
        super().post(questions)
        for name in questions:
            late = self._who is None or name in self._who
            delay = self._most if self._always else int(self._rng.integers(0, self._most + 1))
            self._due[name] = (self._exchange + (delay if late else 0), self._exchange)

    def collect(self, enough: Callable[[Collection[str]], bool]) -> dict[str, admm.Answer]:
        order = sorted(self._under_way, key=lambda name: self._due[name][0])
        come = [name for name in order if self._due[name][0] <= self._exchange]
        while len(come) < len(order) and not enough(come):
            come.append(order[len(come)])
        self.ages += [self._exchange - self._due[name][1] for name in come]
        return {name: self._answer_of(name, self._under_way.pop(name)) for name in come}
