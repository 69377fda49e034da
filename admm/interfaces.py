"""What an agent is asked and what it answers: the only contract between the engine and the models.

An agent sees its own boundary entries as flat arrays of shape ``(n,)``, in the order that its
:class:`AgentBoundary` gives. Whether it is the lower or the upper side of a coupling is already
in the sign of the price, so every agent solves the same kind of problem::

    argmin  cost(x) + price . b + 1/2 sum(penalty * (b - reference)^2)      b: its boundary values
"""

from __future__ import annotations

import time
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from enum import IntEnum
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol, runtime_checkable

import numpy as np

from admm.errors import AgentError, InputError, TielineError
from admm.values import is_number

if TYPE_CHECKING:
    from admm.transcript import Transcript


class AnswerStatus(IntEnum):
    """How an agent's own solve ended. LOST: there is no answer, for the agent or its rank has failed."""

    SOLVED = 0
    INACCURATE = 1
    INFEASIBLE = 2
    UNBOUNDED = 3
    FAILED = 4
    LOST = 5

    @property
    def usable(self) -> bool:
        """Whether the answer's values mean anything."""
        return self <= AnswerStatus.INACCURATE


@dataclass(frozen=True)
class AgentBoundary:
    """The boundary entries of one agent, in the order of its flat arrays.

    keys: (coupling, quantity, periods) of each block of entries.
    scale: shape (n,), in the quantity's unit: a nominal size of each entry.
    price_scale: shape (n,), in EUR per unit and period: a nominal price of each entry.
    sign: shape (n,), +1 where the agent is the lower side of the coupling, -1 where the upper.
    """

    keys: tuple[tuple[str, str, int], ...]
    scale: np.ndarray
    price_scale: np.ndarray
    sign: np.ndarray

    @property
    def size(self) -> int:
        return self.scale.size

    def same_as(self, other: AgentBoundary | None) -> bool:
        """Whether the other is equal in everything."""
        if other is None or self.keys != other.keys:
            return False
        pairs = ((self.scale, other.scale), (self.price_scale, other.price_scale), (self.sign, other.sign))
        return all(np.array_equal(one, two) for one, two in pairs)

    def slices(self) -> dict[tuple[str, str], slice]:
        """Where each (coupling, quantity) lies in the flat arrays."""
        found, start = {}, 0
        for coupling, quantity, periods in self.keys:
            found[coupling, quantity] = slice(start, start + periods)
            start += periods
        return found


@dataclass(frozen=True)
class Question:
    """What the engine asks an agent.

    price, reference, penalty: shape (n,), signed for the asked agent; in EUR per unit and
    period, in the unit, and in EUR per unit squared and period. A penalty of zero asks for the
    answer to the price alone; an infinite one for the reference to be followed exactly, or where no point does
    that, as nearly as the accuracy asks.
    accuracy: how exact the answer should be, as a share of each entry's scale.
    settle: the residuals have passed, so a model with an operating point should bring it up to date. Of a question
        without own cost: its answer should say which limits hold it.
    own_cost: without it the agent's own cost counts as 0, and so do costs in its answer: what is the least that its
    limits alone leave of price . b? Asked with a penalty of zero, and only of agents whose answers say `proves`.
    beside: the answer is no schedule to keep: nothing that the agent remembers moves. Asked of the same agents only.
    """

    iteration: int
    price: np.ndarray
    reference: np.ndarray
    penalty: np.ndarray
    accuracy: float = 1e-6
    settle: bool = False
    own_cost: bool = True
    beside: bool = False


@dataclass(frozen=True)
class Answer:
    """What leaves an agent, and nothing else does.

    values: shape (n,), the boundary values. model_error: how far the model is from the physics
    that it stands for, as a multiple of the agent's own tolerance (0 where the model is exact).
    cost_eur and bound_eur are None where the agent does not share them. bound_eur: in answers to a price alone, a
    number that cost + price . b of no feasible point undercuts, however inexact the answer is. proves: the agent
    answers questions without its own cost, too, to a price alone with a bound, and questions beside its schedule.
    """

    values: np.ndarray
    status: AnswerStatus = AnswerStatus.SOLVED
    reason: str = ""
    cost_eur: float | None = None
    bound_eur: float | None = None
    model_error: float = 0.0
    solve_seconds: float = 0.0
    inner_iterations: int = 0
    proves: bool = False


OPTIONAL_SCALARS = ("cost_eur", "bound_eur")
SCALARS = (*OPTIONAL_SCALARS, "model_error", "solve_seconds", "inner_iterations")
"""Of an answer; the optional ones may be None."""


class Names(NamedTuple):
    """What the columns of an array of a schedule are. kind: such as "node" or "generator". each: a name a column."""

    kind: str
    each: tuple[str, ...]


@runtime_checkable
class Agent(Protocol):
    """Anything that can be asked. `subproblems.QPAgent` is the one that most users need."""

    def prepare(self, boundary: AgentBoundary) -> None:
        """Learn the boundary entries; raise InputError if they do not fit the agent's own model."""

    def answer(self, question: Question) -> Answer:
        """Solve the agent's own problem for one question."""

    def solution(self) -> Any:
        """The agent's private schedule behind its latest answer, for whoever owns the agent."""


def no_calls(text: str) -> str:
    """Of a rank that expects no calls."""
    raise TielineError(f"this rank was called with '{text[:80]}', but keeps no checkpoints: pass them on every rank")


class Transport(Protocol):
    """Carries questions to agents and answers back; knows where each agent lives.

    rank 0 drives the loop. On every other rank `serve` answers questions until `finish` is called
    on rank 0. has_result: on every rank after a run, whether it ended with a result. keep_going: whether an agent
    that fails, or whose rank is lost, has the answer LOST in place of an error that ends the run. transcript: where
    what is sent is written down, if anywhere.
    """

    rank: int
    ranks: int
    has_result: bool
    keep_going: bool
    transcript: Transcript | None

    def start(self, agents: Mapping[str, Agent], boundaries: Mapping[str, AgentBoundary]) -> None:
        """Prepare every agent where it lives; raise if an agent is missing or does not fit."""

    def refuse(self, error: Exception) -> None:
        """Instead of `start`: tell the other ranks that this one cannot. Their `start` raises."""

    def ask(self, questions: Mapping[str, Sequence[Question]]) -> dict[str, list[Answer]]:
        """Ask several agents at once, each at least one question, and wait for all answers.

        An agent answers its questions in turn; the answers stand in their order, unusable ones among them.
        """

    def post(self, questions: Mapping[str, Question]) -> None:
        """Ask several agents a question each and do not wait. None of them may have one under way already."""

    def collect(self, enough: Callable[[Collection[str]], bool]) -> dict[str, Answer]:
        """The answers that have come to questions posted, as soon as there are enough; at the latest, all.

        enough: called with the names of agents that have answered, again and again while there is more to come.
        """

    def drop(self) -> None:
        """Make sure that no question posted is under way; what comes, an error too, is dropped."""

    def call(self, text: str, called: Callable[[str], str]) -> list[str]:
        """What `called` replies to a text on every rank, in rank order; `called` is that of the driving rank."""

    def serve(self, called: Callable[[str], str] = no_calls) -> None:
        """Answer questions and calls until the driving rank says that the run is over."""

    def finish(self, has_result: bool) -> None:
        """Tell every other rank that the run is over, and whether it has a result."""

    def end_all(self, code: int) -> None:
        """On the driving rank, when everything is written: if a rank is lost, end all others, with this exit code."""

    def gather_text(self, text: str) -> list[str]:
        """After a run, called on every rank: all ranks' texts in rank order on rank 0, [] on the others.

        Where the run did not start on all ranks, or a rank is lost, each rank gets its own text only.
        """

    def share_text(self, text: str) -> str:
        """After a run, called on every rank: rank 0's text; the own one where `gather_text` gives that only."""

    @property
    def traffic(self) -> Traffic: ...


@dataclass
class Traffic:
    """Where the time of the exchanges went, as seen from the driving rank.

    bytes: payload and headers in both directions, as they cross (in-process: would cross) between ranks.
    communication_seconds: packing, sending, unpacking. waiting_seconds: waiting for answers beyond
    the time for which the slowest rank computes.
    """

    bytes: int = 0
    communication_seconds: float = 0.0
    waiting_seconds: float = 0.0


def check_question_fits(name: str, boundary: AgentBoundary, question: Question) -> None:
    """Raise InputError unless every array of the question has the agent's shape and is finite."""
    for label in ("price", "reference", "penalty"):
        array = np.asarray(getattr(question, label))
        if array.shape != (boundary.size,):
            raise InputError(f"agent '{name}': question.{label} has shape {array.shape}, expected {(boundary.size,)}")
        if label == "penalty" and (array < 0).any():
            raise InputError(f"agent '{name}': question.penalty has a value below 0")
        if np.isnan(array).any() or (label != "penalty" and np.isinf(array).any()):
            raise InputError(f"agent '{name}': question.{label} has a value that is not a finite number")


def check_answer_fits(name: str, answer: Answer, size: int) -> None:
    """Raise unless an answer has the agent's shape, finite numbers and finite scalars where it has any.

    Raises InputError (not an answer, wrong shape), AgentError (a number that is not finite).
    """
    fault = answer_fault(answer)
    if fault is not None:
        raise InputError(f"agent '{name}': {fault}")
    if not answer.status.usable:
        return
    if np.shape(answer.values) != (size,):
        raise InputError(f"agent '{name}': answer has shape {np.shape(answer.values)}, expected {(size,)}")
    for label in ("values", *SCALARS):
        value = getattr(answer, label)
        if value is not None and not np.isfinite(value).all():
            raise AgentError(f"agent '{name}': answer.{label} has a value that is not a finite number")


def answer_fault(answer: object) -> str | None:
    """What is of the wrong type in an answer, whoever gave it and whatever its size; None if nothing is."""
    if not isinstance(answer, Answer):
        return f"answer is {type(answer).__name__}, expected an admm.Answer"
    if not isinstance(answer.status, AnswerStatus):
        return f"answer.status is {answer.status!r}, expected an admm.AnswerStatus"
    if not isinstance(answer.reason, str):
        return f"answer.reason is {type(answer.reason).__name__}, expected text"
    for label in SCALARS:
        value = getattr(answer, label)
        if not is_number(value) and not (value is None and label in OPTIONAL_SCALARS):
            return f"answer.{label} is {type(value).__name__}, expected a number"
    for label in ("model_error", "solve_seconds", "inner_iterations"):
        if getattr(answer, label) < 0:
            return f"answer.{label} is {getattr(answer, label)!r}, expected a number of at least 0"
    if answer.status.usable and not _is_array_of_numbers(answer.values):
        return f"answer.values is {type(answer.values).__name__}, expected an array of numbers"
    return None


def _is_array_of_numbers(values: object) -> bool:
    try:
        return np.asarray(values).dtype.kind in "fiu"
    except (TypeError, ValueError, OverflowError):  # rows of different lengths, say
        return False


def timed_answer(agent: Agent, question: Question) -> Answer:
    """The agent's answer, with the time that it took where the agent does not say."""
    began = time.perf_counter()
    answer = agent.answer(question)
    if answer_fault(answer) is None and answer.solve_seconds == 0.0:
        return replace(answer, solve_seconds=time.perf_counter() - began)
    return answer
