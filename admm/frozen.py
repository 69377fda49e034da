"""Agents that are lost while the run goes on: their last boundary values stand in for them.

The other side of their couplings then agrees on values that no longer move, so its own problem stays as feasible as
it was. Operators cannot be frozen: nobody would keep their networks' limits.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import replace

from admm.errors import TielineError
from admm.interfaces import Answer, AnswerStatus


class Frozen:
    """may: agents that may be frozen. latest: {agent: its last usable answer}. why: {lost agent: what happened}."""

    def __init__(self, may: Collection[str]) -> None:
        self._may = frozenset(may)
        self.latest: dict[str, Answer] = {}
        self.why: dict[str, str] = {}

    def freeze(self, name: str, error: TielineError) -> None:
        """From now on the agent's last answer stands; raises the error where there is none, or it may not."""
        if name not in self._may or name not in self.latest:
            raise error
        self.why[name] = str(error)

    def stand_in(self, name: str, given: Sequence[Answer] | None) -> Sequence[Answer]:
        """What the agent has given, or the last that it gave before it was lost."""
        if name not in self.why:
            return given
        return [replace(self.latest[name], status=AnswerStatus.SOLVED, solve_seconds=0.0, inner_iterations=0)]
