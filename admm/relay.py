"""The agent that stands on a coupling between two agents of one side: it owns one common value."""

from __future__ import annotations

import numpy as np

from admm.errors import InputError
from admm.interfaces import Agent, AgentBoundary, Answer, Question


class RelayAgent:
    """Costs nothing and wants nothing but the same value on both of its couplings.

    Its problem has the closed form  v = sum(penalty * reference - price) / sum(penalty)  over its two
    couplings, entry by entry (prices signed as for any agent).
    """

    def prepare(self, boundary: AgentBoundary) -> None:
        self._half = boundary.size // 2

    def answer(self, question: Question) -> Answer:
        weight = question.penalty.reshape(2, self._half)
        if np.any(weight.sum(axis=0) <= 0):
            raise InputError("a relay agent has no answer to a price without a penalty: its cost is zero everywhere")
        pull = weight * question.reference.reshape(2, -1) - question.price.reshape(2, -1)
        self._value = pull.sum(axis=0) / weight.sum(axis=0)
        return Answer(values=np.tile(self._value, 2), cost_eur=0.0, bound_eur=0.0)

    def solution(self) -> dict[str, np.ndarray]:
        return {"value": self._value}


def check_is_agent(name: str, agent: object) -> None:
    """Raise InputError unless the object has the Agent protocol."""
    if isinstance(agent, type):
        raise InputError(f"agent '{name}': is the class {agent.__name__}, expected an object of it")
    if not isinstance(agent, Agent):
        raise InputError(f"agent '{name}': {type(agent).__name__} lacks prepare, answer or solution")
