"""Questions on their way to other ranks, for a transport that does not wait for each answer."""

from __future__ import annotations

from admm.errors import TransportError
from admm.interfaces import Answer


class UnderWay:
    """One question an agent at most, its answer when it has come, and when each rank was last heard of."""

    def __init__(self) -> None:
        self._asked: dict[str, tuple[int, int]] = {}  # {agent: sequence of the question, rank}
        self._heard: dict[int, float] = {}
        self._come: dict[str, Answer] = {}

    def __bool__(self) -> bool:
        return bool(self._asked)

    def add(self, name: str, sequence: int, rank: int, now: float) -> None:
        """A question was sent. A rank that owed nothing is counted as heard of then."""
        if name in self._asked:
            raise TransportError(f"agent '{name}' was asked while a question to it is under way")
        if all(other != rank for _, other in self._asked.values()):
            self._heard[rank] = now
        self._asked[name] = (sequence, rank)

    def owing(self) -> dict[int, str]:
        """{rank that owes answers: an agent of it that does}."""
        return {rank: name for name, (_, rank) in self._asked.items()}

    def sequence(self, name: str) -> int | None:
        """Of the agent's question that is under way; None without one."""
        return self._asked[name][0] if name in self._asked else None

    def take(self, name: str, answer: Answer, now: float) -> None:
        """The agent has answered."""
        _, rank = self._asked.pop(name)
        self._heard[rank], self._come[name] = now, answer

    def come(self) -> list[str]:
        """Agents whose answers have come."""
        return list(self._come)

    def handed_over(self) -> dict[str, Answer]:
        """The answers that have come, which are then no longer kept."""
        come, self._come = self._come, {}
        return come

    def silent_since(self, past: float) -> tuple[str, int] | None:
        """An agent that owes an answer, and its rank, which was not heard of since then; None if there is none."""
        return next(((name, rank) for name, (_, rank) in self._asked.items() if self._heard[rank] < past), None)
