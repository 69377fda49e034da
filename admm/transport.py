"""The in-process transport: all agents in this process, answering on a few threads.

OSQP releases the GIL while it solves, so threads give real parallelism without copies.
"""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor, wait
from dataclasses import replace

import numpy as np

from admm.errors import InfeasibleError, InputError, TielineError, TransportError
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
from admm.wire import answers_bytes, questions_bytes


def available_cores() -> int:
    """Cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def answers_to(agent: Agent, questions: Sequence[Question]) -> list[Answer]:
    """An agent's answers in turn, the same whatever carries them.

    Each has values of its own, as an agent may use one array again and again; zeros where they mean nothing.
    """
    return [_kept(timed_answer(agent, question), question.price.size) for question in questions]


def answers_or_lost(agent: Agent, questions: Sequence[Question]) -> list[Answer]:
    """As `answers_to`; LOST where the agent raises, but for what is wrong with the problem itself."""
    try:
        return answers_to(agent, questions)
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


class InProcessTransport:
    """Every agent is an object here. threads: how many answer at once (default: the cores).

    deadline_seconds: how long an answer may take before TransportError; its thread is left to itself. None: any time.
    transcript: where to write down what agents are told and tell, if anywhere.
    """

    rank, ranks = 0, 1

    def __init__(
        self,
        threads: int | None = None,
        deadline_seconds: float | None = None,
        transcript: Transcript | None = None,
    ) -> None:
        self._threads, self._deadline = threads or available_cores(), deadline_seconds
        self.transcript = transcript
        self._pool: ThreadPoolExecutor | None = None
        self.traffic = Traffic()
        self.has_result = self.keep_going = False

    def start(self, agents: Mapping[str, Agent], boundaries: Mapping[str, AgentBoundary]) -> None:
        self._agents, self.has_result, self.traffic = agents, False, Traffic()
        self._names, self._sequence = list(boundaries), 0
        for name, boundary in boundaries.items():
            agents[name].prepare(boundary)
        if self._threads > 1 or self._deadline is not None:
            self._pool = ThreadPoolExecutor(self._threads, thread_name_prefix="agent")

    def refuse(self, error: Exception) -> None:
        """Nothing to do: there is no other rank."""

    def ask(self, questions: Mapping[str, Sequence[Question]]) -> dict[str, list[Answer]]:
        self._sequence += 1
        if self.transcript is not None:
            for name, asked in questions.items():
                self.transcript.asked((0, self._sequence, self._names.index(name)), name, asked)
        if self._pool is None or (len(questions) == 1 and self._deadline is None):
            answers = {name: self._answers_of(name, asked) for name, asked in questions.items()}
        else:
            answers = self._ask_threads(questions)
        for name, asked in questions.items():
            entries, reasons = asked[0].price.size, [_reason(answer) for answer in answers[name]]
            if self.transcript is not None:
                key = (0, self._sequence, self._names.index(name))
                self.transcript.answered(key, name, answers[name], entries)
            self.traffic.bytes += questions_bytes(entries, len(asked)) + answers_bytes(entries, reasons)
        return answers

    def _answers_of(self, name: str, asked: Sequence[Question]) -> list[Answer]:
        return (answers_or_lost if self.keep_going else answers_to)(self._agents[name], asked)

    def _ask_threads(self, questions: Mapping[str, Sequence[Question]]) -> dict[str, list[Answer]]:
        handler = signal.getsignal(signal.SIGINT)
        futures = {n: self._pool.submit(self._answers_of, n, asked) for n, asked in questions.items()}
        late: set[Future] = set()
        try:
            late = wait(futures.values(), self._deadline).not_done
            for name, future in futures.items():
                if future in late:
                    raise TransportError(
                        f"agent '{name}' was not heard of for {self._deadline:g} s: it is stuck; resume the run from "
                        "its checkpoint, or raise the deadline if it may take that long"
                    )
            return {name: future.result() for name, future in futures.items()}
        finally:
            wait(set(futures.values()) - late)  # nothing may go on in an agent after an error or an interrupt
            # Concurrent OSQP solves leave OSQP's own Ctrl-C handler behind.
            if threading.current_thread() is threading.main_thread() and handler is not None:
                signal.signal(signal.SIGINT, handler)

    def call(self, text: str, called: Callable[[str], str]) -> list[str]:
        return [called(text)]

    def serve(self, called: Callable[[str], str] = no_calls) -> None:
        raise TielineError("the in-process transport has no other ranks to serve")

    def finish(self, has_result: bool) -> None:
        self.has_result = has_result
        if self._pool is not None:
            self._pool.shutdown(wait=False, cancel_futures=True)
            self._pool = None

    def end_all(self, code: int) -> None:
        """Nothing to do: there is no other rank."""

    def gather_text(self, text: str) -> list[str]:
        return [text]

    def share_text(self, text: str) -> str:
        return text
