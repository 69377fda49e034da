"""The in-process transport: all agents in this process, answering on a few threads.

OSQP releases the GIL while it solves, so threads give real parallelism without copies.
"""

from __future__ import annotations

import math
import os
import signal
import threading
import time
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from contextlib import contextmanager, nullcontext, suppress
from dataclasses import dataclass, field, replace

import numpy as np

from admm.errors import InfeasibleError, InputError, SolverError, TielineError, TransportError, noted_as
from admm.interfaces import (
    Agent,
    AgentBoundary,
    Answer,
    AnswerStatus,
    Question,
    Traffic,
    answer_fault,
    no_calls,
    timed_answer,
)
from admm.transcript import Transcript
from admm.values import is_number, is_whole
from admm.wire import answers_bytes, questions_bytes

LOOK_SECONDS = 1e-3
"""How often is looked whether answers that are waited for are worth waiting for any longer."""


def available_cores() -> int:
    """Cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def answers_to(name: str, agent: Agent, questions: Sequence[Question]) -> list[Answer]:
    """An agent's answers in turn, the same whatever carries them.

    Each has values of its own, as an agent may use one array again and again; zeros where they mean nothing.
    """
    with noted_as(name):
        return [_kept(timed_answer(agent, question), question.price.size) for question in questions]


def answers_or_lost(name: str, agent: Agent, questions: Sequence[Question]) -> list[Answer]:
    """As `answers_to`; LOST where the agent raises, but for what is wrong with the problem itself."""
    try:
        return answers_to(name, agent, questions)
    except (InputError, InfeasibleError):
        raise
    except Exception as error:
        return lost_answers(error, len(questions))


def lost_answers(error: Exception, count: int) -> list[Answer]:
    return [Answer(np.zeros(0), AnswerStatus.LOST, f"{type(error).__name__}: {error}")] * count


def _kept(answer: Answer, entries: int) -> Answer:
    if answer_fault(answer) is not None:
        return answer  # whoever checks the answer says so
    return replace(answer, values=np.copy(answer.values) if answer.status.usable else np.zeros(entries))


def _reason(answer: Answer) -> str:
    return answer.reason if answer_fault(answer) is None else ""


@contextmanager
def _handler_kept() -> Iterator[None]:
    """Concurrent OSQP solves leave OSQP's own Ctrl-C handler behind: put back the one that was there."""
    handler = signal.getsignal(signal.SIGINT)
    try:
        yield
    finally:
        if threading.current_thread() is threading.main_thread() and handler is not None:
            signal.signal(signal.SIGINT, handler)


@dataclass
class _Posted:
    """One question under way. sequence: of the exchange that asked; began: when its agent has begun with it."""

    asked: list[Question]
    sequence: int
    future: Future = field(default_factory=Future)
    began: float = math.inf

    def at_work_since(self, past: float) -> bool:
        return self.began < past and not self.future.done()


class InProcessTransport:
    """Every agent is an object here. threads: how many answer at once (default: the cores).

    deadline_seconds: how long an answer may take before TransportError; its thread is left to itself. None: any time.
    transcript: where to write down what agents are told and tell, if anywhere. run_id: as results name it.
    """

    rank, ranks, stopped_by = 0, 1, None

    def __init__(
        self,
        threads: int | None = None,
        deadline_seconds: float | None = None,
        transcript: Transcript | None = None,
    ) -> None:
        if threads is not None and (not is_whole(threads) or threads < 1):
            raise InputError(f"in-process transport: threads is {threads!r}, expected a whole number of at least 1")
        if deadline_seconds is not None and not (is_number(deadline_seconds) and deadline_seconds > 0):
            raise InputError(
                f"in-process transport: deadline_seconds is {deadline_seconds!r}, expected a number above 0, or None"
            )
        self._threads = available_cores() if threads is None else int(threads)
        self._deadline = None if deadline_seconds is None else min(float(deadline_seconds), threading.TIMEOUT_MAX)
        self.transcript = transcript
        self._pool: ThreadPoolExecutor | None = None
        self._late_pool: ThreadPoolExecutor | None = None
        self._under_way: dict[str, _Posted] = {}
        self.traffic, self.run_id = Traffic(), ""
        self.has_result = self.keep_going = False

    def start(self, agents: Mapping[str, Agent], boundaries: Mapping[str, AgentBoundary]) -> None:
        self._agents, self.has_result, self.traffic = agents, False, Traffic()
        self._names, self._sequence, self._under_way = list(boundaries), 0, {}
        if self.transcript is not None:
            self.transcript.begin(self.run_id)
        for name, boundary in boundaries.items():
            with noted_as(name):
                agents[name].prepare(boundary)
        if self._threads > 1 or self._deadline is not None:
            self._pool = ThreadPoolExecutor(self._threads, thread_name_prefix="agent")

    def refuse(self, error: Exception) -> None:
        """Nothing to do: there is no other rank."""

    def ask(self, questions: Mapping[str, Sequence[Question]]) -> dict[str, list[Answer]]:
        self._sequence += 1
        for name, asked in questions.items():
            self._told(name, asked)
        if self._pool is None or (len(questions) == 1 and self._deadline is None):
            answers = {name: self._answers_of(name, asked) for name, asked in questions.items()}
        else:
            answers = self._ask_threads(questions)
        for name, asked in questions.items():
            self._heard(name, answers[name], asked[0].price.size, self._sequence)
        return answers

    @property
    def exchanges(self) -> int:
        """So many there were in this run."""
        return self._sequence

    def _told(self, name: str, asked: Sequence[Question]) -> None:
        """Write the questions down, and count them."""
        if self.transcript is not None:
            self.transcript.asked((0, self._sequence, self._names.index(name)), name, asked)
        self.traffic.bytes += questions_bytes(asked[0].price.size, len(asked))

    def _heard(self, name: str, answers: Sequence[Answer], entries: int, sequence: int) -> None:
        """Write the answers down, and count them; sequence: of the exchange that asked for them."""
        reasons = [_reason(answer) for answer in answers]
        if self.transcript is not None:
            self.transcript.answered((0, sequence, self._names.index(name)), name, answers, entries)
        self.traffic.bytes += answers_bytes(entries, reasons)

    def _answers_of(self, name: str, asked: Sequence[Question]) -> list[Answer]:
        return (answers_or_lost if self.keep_going else answers_to)(name, self._agents[name], asked)

    def _ask_threads(self, questions: Mapping[str, Sequence[Question]]) -> dict[str, list[Answer]]:
        late: set[Future] = set()
        with _handler_kept():
            futures = {n: self._pool.submit(self._answers_of, n, asked) for n, asked in questions.items()}
            try:
                late = wait(futures.values(), self._deadline).not_done
                for name, future in futures.items():
                    if future in late:
                        raise self._stuck(name)
                return {name: future.result() for name, future in futures.items()}
            finally:
                wait(set(futures.values()) - late)  # nothing may go on in an agent after an error or an interrupt

    def _stuck(self, name: str) -> TransportError:
        return TransportError(
            f"agent '{name}' was not heard of for {self._deadline:g} s: it is stuck; resume the run from "
            "its checkpoint, or raise the deadline if it may take that long"
        )

    # ---------------------------------------------------------------- answers that may be late

    def post(self, questions: Mapping[str, Question]) -> None:
        """On one thread there is no meanwhile: agents answer here and now. Others have threads of their own, so that
        `ask` does not wait behind them."""
        self._sequence += 1
        if self._pool is not None and self._late_pool is None:
            self._late_pool = ThreadPoolExecutor(self._threads, thread_name_prefix="late agent")
        for name, question in questions.items():
            self._told(name, [question])
            posted = self._under_way[name] = _Posted([question], self._sequence)
            if self._late_pool is None:
                posted.future.set_result(self._answers_of(name, posted.asked))
            else:
                posted.future = self._late_pool.submit(self._answers_now, name, posted)

    def _answers_now(self, name: str, posted: _Posted) -> list[Answer]:
        posted.began = time.perf_counter()
        return self._answers_of(name, posted.asked)

    def collect(self, enough: Callable[[Collection[str]], bool]) -> dict[str, Answer]:
        with _handler_kept():
            self._raise_if_stuck()
            while not enough(done := [n for n, posted in self._under_way.items() if posted.future.done()]):
                waiting = [posted.future for posted in self._under_way.values() if not posted.future.done()]
                if not waiting and len(done) == len(self._under_way):
                    break
                wait(waiting, LOOK_SECONDS, FIRST_COMPLETED)
                self._raise_if_stuck()
            return {name: self._answer_of(name, self._under_way.pop(name)) for name in done}

    def _answer_of(self, name: str, posted: _Posted) -> Answer:
        answers = posted.future.result()
        self._heard(name, answers, posted.asked[0].price.size, posted.sequence)
        return answers[0]

    def _raise_if_stuck(self) -> None:
        stuck = self._leave_stuck()
        if stuck:
            raise self._stuck(stuck[0])

    def _leave_stuck(self) -> list[str]:
        """Agents that are at their answers beyond the deadline; their threads are left to themselves from now on."""
        if self._deadline is None:
            return []
        past = time.perf_counter() - self._deadline
        stuck = [name for name, posted in self._under_way.items() if posted.at_work_since(past)]
        for name in stuck:
            del self._under_way[name]
        return stuck

    def drop(self) -> None:
        """What nobody has begun with is not begun. Raises TransportError where an agent does not come back in time."""
        stuck: list[str] = []
        with _handler_kept():
            while busy := [p.future for p in self._under_way.values() if not p.future.cancel() and not p.future.done()]:
                wait(busy, LOOK_SECONDS)
                stuck += self._leave_stuck()
        come, self._under_way = self._under_way, {}
        for name, posted in come.items():
            if not posted.future.cancelled() and posted.future.exception() is None:
                with suppress(InputError, SolverError):  # an answer that is none
                    self._answer_of(name, posted)
        if stuck:
            raise self._stuck(stuck[0])

    # ---------------------------------------------------------------- everything else

    def call(self, text: str, called: Callable[[str], str]) -> list[str]:
        return [called(text)]

    def serve(self, called: Callable[[str], str] = no_calls) -> None:
        raise TielineError("the in-process transport has no other ranks to serve")

    def finish(self, has_result: bool) -> None:
        self.has_result = has_result
        with nullcontext() if has_result else suppress(TransportError):  # what ended the run is what counts
            self.drop()
        for pool in (self._pool, self._late_pool):
            if pool is not None:
                pool.shutdown(wait=False, cancel_futures=True)
        self._pool = self._late_pool = None

    def end_all(self, code: int) -> None:
        """Nothing to do: there is no other rank."""

    def gather_text(self, text: str) -> list[str]:
        return [text]

    def share_text(self, text: str) -> str:
        return text
