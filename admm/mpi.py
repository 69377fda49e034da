"""Agents on other MPI ranks: the same questions and answers as messages.

Rank 0 drives and may own agents too. In an exchange one message carries all questions to an agent and
one all its answers, each a nonblocking point-to-point transfer of bytes (`admm.wire`), so ranks answer
in parallel and nothing is pickled. How they travel: `admm.messenger`.

    rank 0:   HELLO ->   <- HELLO (owned agents) or TEXT (error)   HELLO or TEXT ->      start
              QUESTION ->   <- ANSWER or TEXT                                            ask, post / serve
              CALL ->   <- CALL or TEXT                                                  call / serve
              STOP ->   <- STOP                                                          finish
"""

from __future__ import annotations

import logging
import secrets
import sys
import time
from collections.abc import Callable, Collection, Mapping, Sequence
from contextlib import nullcontext, suppress
from dataclasses import replace

import numpy as np

from admm import wire
from admm.abort import abort, abort_on_exception
from admm.errors import AgentError, InfeasibleError, InputError, TielineError, TransportError, noted_as
from admm.interfaces import Agent, AgentBoundary, Answer, Question, Traffic, check_answer_fits, no_calls
from admm.interrupts import Interrupts
from admm.messenger import DEADLINE_SECONDS, PAUSE_SECONDS, Communicator, Messenger, world
from admm.shared_memory import unlink_mapped
from admm.transcript import Transcript
from admm.transport import answers_or_lost, answers_to, lost_answers
from admm.under_way import UnderWay
from admm.wire import Kind, Message

__all__ = ["MpiTransport", "abort_on_exception", "world"]

HAS_RESULT, GIVEN_UP = 1, 2
"""Flags of a STOP: the run has a result; it goes on without the rank that is told so."""
TOLD_TO_STOP = 1
"""Flag of an ANSWER: somebody wants the run to end, and has told only the rank that answers."""


class MpiTransport(Messenger):
    """The Transport over a communicator; every rank makes one and passes the agents that it owns.

    Messages use one tag of `comm`: pass `comm.Dup()` if the program sends messages of its own meanwhile.
    deadline_seconds: how long a rank may be silent before TransportError. transcript: where to write down all that
    this rank sends, if anywhere, and on rank 0 what its own agents are told and tell.

    interrupts: on other ranks, what they have heard of; stopped_by: on rank 0, which of them was told to stop.
    """

    def __init__(
        self,
        comm: Communicator,
        deadline_seconds: float = DEADLINE_SECONDS,
        transcript: Transcript | None = None,
    ) -> None:
        super().__init__(comm, deadline_seconds, transcript)
        self.has_result = self._running = False
        self._sequence = 0
        self.interrupts: Interrupts | None = None
        self.stopped_by: int | None = None
        self.drop()

    # ------------------------------------------------------------------ start

    def start(self, agents: Mapping[str, Agent], boundaries: Mapping[str, AgentBoundary]) -> None:
        """Prepare this rank's agents; every rank raises if one of them cannot start."""
        self._agents, self._boundaries, self.traffic = dict(agents), dict(boundaries), Traffic()
        self._names, self._sequence = list(boundaries), 0
        self.drop()
        failure = _prepare_failure(self._agents, self._boundaries)
        error = self._agree(failure)
        if failure is not None:
            raise failure
        if error is not None:
            raise error
        self._running = self._together = True
        unlink_mapped()

    def refuse(self, error: Exception) -> None:
        """Take part in the start with an error instead of agents: every other rank's `start` raises it."""
        self._agents, self._boundaries, self._names = {}, {}, []
        self._agree(error)

    def _agree(self, failure: Exception | None) -> BaseException | None:
        """What stops the run, the same on all ranks; None if nothing does."""
        self._together = self.has_result = False
        error = self._gather(failure) if self.rank == 0 else self._introduce(failure)
        self._complete_sends()
        return error

    def _gather(self, failure: Exception | None) -> BaseException | None:
        self._run_id, self.launch_id = secrets.randbits(63), self.launch_id or secrets.token_hex(8)
        self._owner = dict.fromkeys(self._agents, 0)
        self._begin_transcript()
        hello = Message(Kind.HELLO, self._run_id, text=f"{self.run_id} {self.launch_id}" if self.run_id else "")
        for rank in self._others:
            self._post(rank, hello)
        errors = [failure, *(self._read_hello(rank) for rank in self._others), self._unowned()]
        error = next((error for error in errors if error is not None), None)
        for rank in self._others:
            self._post(rank, hello if error is None else wire.error_message(self._run_id, 0, wire.NO_AGENT, error))
        return error

    def _begin_transcript(self) -> None:
        if self.transcript is not None:
            self.transcript.begin(self.run_id, self.launch_id)

    @property
    def exchanges(self) -> int:
        """So many there were in this run."""
        return self._sequence

    def _read_hello(self, rank: int) -> BaseException | None:
        message = self._receive(rank)
        if message.kind is Kind.TEXT:
            return wire.read_error(message)
        wire.expect(message, Kind.HELLO, 0)
        if message.text != wire.layout_digest(self._boundaries):
            return InputError(f"rank {rank} has other couplings than rank 0: pass the same couplings on every rank")
        for index in message.numbers.astype(int):
            name = self._name(index)
            if name in self._owner:
                return InputError(f"agent '{name}' is on ranks {self._owner[name]} and {rank}: pass it on one only")
            self._owner[name] = rank
        return None

    def _name(self, index: int) -> str:
        if not 0 <= index < len(self._names):
            raise TransportError(f"a message is about agent number {index}, expected 0 to {len(self._names) - 1}")
        return self._names[index]

    def _unowned(self) -> InputError | None:
        missing = [name for name in self._names if name not in self._owner]
        if not missing:
            return None
        return InputError(f"agent '{missing[0]}' is on none of the {self.ranks} ranks: pass it on one of them")

    def _introduce(self, failure: Exception | None) -> BaseException | None:
        hello = wire.expect(self._receive(0, any_run=True), Kind.HELLO, 0)
        self._run_id = hello.run_id
        self.run_id, _, self.launch_id = hello.text.partition(" ")
        self._begin_transcript()
        if failure is None:
            owned = np.array([self._names.index(name) for name in self._agents], dtype=float)
            text = wire.layout_digest(self._boundaries)
            self._post(0, Message(Kind.HELLO, self._run_id, numbers=owned, text=text))
        else:
            self._post(0, wire.error_message(self._run_id, 0, wire.NO_AGENT, failure))
        verdict = self._receive(0)
        return wire.read_error(verdict) if verdict.kind is Kind.TEXT else None

    # -------------------------------------------------------------- rank 0

    def ask(self, questions: Mapping[str, Sequence[Question]]) -> dict[str, list[Answer]]:
        """Send to the other ranks, answer with the own agents meanwhile, then collect in the given order."""
        self._sequence += 1
        remote = [name for name in questions if self._owner[name] != 0]
        began = time.perf_counter()
        for name in remote:
            index = self._names.index(name)
            if self._owner[name] in self._others:
                words = wire.questions_message(self._run_id, self._sequence, index, questions[name])
                self._post(self._owner[name], words)
        sent = time.perf_counter()
        own = {n: self._own_answers(n, asked) for n, asked in questions.items() if self._owner[n] == 0}
        solved, self._waited = self._listen(), 0.0
        others = {name: self._collect(name, len(questions[name])) for name in remote}
        collected = time.perf_counter()
        beyond = max(0.0, self._slowest(others) - (solved - sent))
        self.traffic.communication_seconds += (sent - began) + (collected - solved - self._waited)
        self.traffic.waiting_seconds += max(0.0, self._waited - beyond)
        return {name: own[name] if name in own else others[name] for name in questions}

    def call(self, text: str, called: Callable[[str], str]) -> list[str]:
        self._sequence += 1
        for rank in self._others:
            self._post(rank, Message(Kind.CALL, self._run_id, self._sequence, text=text))
        replies, error = [called(text)], None
        self._listen()
        for rank in list(self._others):
            try:
                replies.append(self._collect_reply(rank))
            except TransportError as lost:
                if not self.keep_going:
                    raise
                error = lost  # once no reply is left to come between the answers that follow
        if error is not None:
            raise error
        return replies

    def _collect_reply(self, rank: int) -> str:
        message = self._awaited(rank, "with its reply to a call")
        if message.kind is Kind.TEXT:
            raise wire.read_error(message)
        try:
            return wire.expect(message, Kind.CALL, self._sequence).text
        except TransportError as error:
            raise self._out_of_turn(rank, error) from None

    def _own_answers(self, name: str, asked: Sequence[Question]) -> list[Answer]:
        """Of an agent on this rank."""
        key = (self._run_id, self._sequence, self._names.index(name))
        if self.transcript is not None:
            self.transcript.asked(key, name, asked)
        answers = (answers_or_lost if self.keep_going else answers_to)(name, self._agents[name], asked)
        if self.transcript is not None:
            self.transcript.answered(key, name, answers, self._boundaries[name].size)
        return answers

    def _collect(self, name: str, count: int) -> list[Answer]:
        """The answers of one agent to so many questions; of an agent that has failed, LOST ones if the run goes on."""
        if self._owner[name] not in self._others:
            return lost_answers(TransportError(f"rank {self._owner[name]} is lost"), count)
        try:
            return self._collect_answers(name, count)
        except (InputError, InfeasibleError):
            raise
        except TielineError as error:
            if not self.keep_going:
                raise
            return lost_answers(error, count)

    def _collect_answers(self, name: str, count: int) -> list[Answer]:
        """Late answers of others on its rank may come before."""
        rank, silent = self._owner[name], f"with the answer of agent '{name}'"
        while (message := self._awaited(rank, silent)).sequence < self._sequence and self._under_way:
            self._take_late(rank, message)
        return self._read_answers(message, name, self._sequence, count)

    def _read_answers(self, message: Message, name: str, sequence: int, count: int) -> list[Answer]:
        if message.kind is Kind.TEXT:
            raise self._failed(name, wire.read_error(message))
        try:
            wire.expect(message, Kind.ANSWER, sequence, self._names.index(name))
            answers = wire.read_answers(message, self._boundaries[name].size)
            if message.flags & TOLD_TO_STOP:
                self.stopped_by = self._owner[name]
            if len(answers) != count:
                raise TransportError(f"{len(answers)} answers came to {count} questions")
        except TransportError as error:
            raise self._out_of_turn(self._owner[name], TransportError(f"agent '{name}': {error}")) from None
        return answers

    def _failed(self, name: str, error: BaseException) -> BaseException:
        """The error that came in place of an answer; one that is not Tieline's own names the agent and its rank."""
        if type(error) not in (TielineError, AgentError):
            return error
        words = str(error) if f"'{name}'" in str(error) else f"agent '{name}': {error}"
        return AgentError(f"rank {self._owner[name]}: {words}")

    def _slowest(self, answers: Mapping[str, Sequence[Answer]]) -> float:
        """Seconds for which the slowest other rank computed in this exchange."""
        seconds = dict.fromkeys(range(self.ranks), 0.0)
        for name, given in answers.items():
            seconds[self._owner[name]] += sum(answer.solve_seconds for answer in given)
        return max(seconds.values(), default=0.0)

    # -------------------------------------------------------------- rank 0: answers that may be late

    def post(self, questions: Mapping[str, Question]) -> None:
        """Send to the other ranks; agents of this one answer in `collect`."""
        self._sequence += 1
        began = time.perf_counter()
        for name, question in questions.items():
            rank, index = self._owner[name], self._names.index(name)
            if rank == 0:
                self._posted_here[name] = question
                continue
            self._under_way.add(name, self._sequence, rank, began)
            self._post(rank, wire.questions_message(self._run_id, self._sequence, index, [question]))
        self.traffic.communication_seconds += time.perf_counter() - began

    def collect(self, enough: Callable[[Collection[str]], bool]) -> dict[str, Answer]:
        """Answer with the own agents, then take what comes from other ranks until there is enough."""
        began, waited = time.perf_counter(), 0.0
        here = {name: self._own_answers(name, [asked])[0] for name, asked in self._posted_here.items()}
        self._posted_here, solved = {}, time.perf_counter()
        self._take_what_came()
        while self._under_way and not enough([*here, *self._under_way.come()]):
            looked = time.perf_counter()
            if not self._take_what_came():
                time.sleep(PAUSE_SECONDS)
                waited += time.perf_counter() - looked
        come = self._under_way.handed_over()
        beyond = max(0.0, self._slowest({name: [answer] for name, answer in come.items()}) - (solved - began))
        self.traffic.communication_seconds += time.perf_counter() - solved - waited
        self.traffic.waiting_seconds += max(0.0, waited - beyond)
        return here | come

    def drop(self) -> None:
        """What is still under way comes before the last word of its rank, and `finish` waits for that."""
        self._under_way = UnderWay()
        self._posted_here: dict[str, Question] = {}

    def _take_what_came(self) -> bool:
        """Take the late answers that are there; TransportError if a rank that owes one has been silent for too long."""
        taken = False
        for rank, name in self._under_way.owing().items():
            while (message := self._arrived(rank, f"with the answer of agent '{name}'")) is not None:
                self._take_late(rank, message)
                taken = True
        silent = self._under_way.silent_since(time.perf_counter() - self._deadline)
        if silent is not None:
            name, rank = silent
            raise self._loss(rank, f"rank {rank} was not heard of with the answer of agent '{name}'")
        return taken

    def _take_late(self, rank: int, message: Message) -> None:
        """An answer to a question posted; an error of its agent is raised."""
        try:
            name = self._name(message.agent)
            sequence = self._under_way.sequence(name)
            if sequence is None:
                raise TransportError(f"agent '{name}': message {message.kind.name} came to no question: late or stray")
        except TransportError as error:
            raise self._out_of_turn(rank, error) from None
        (answer,) = self._read_answers(message, name, sequence, 1)
        self._under_way.take(name, answer, time.perf_counter())

    def finish(self, has_result: bool) -> None:
        """Stop the other ranks; unless one is lost, wait until each has confirmed and nothing is under way.

        Where one is lost, those that are silent are told nothing: they may be behind the same link, and MPICH crashes
        where it sends over a connection that has been dead for long.
        """
        if not self._running:
            return
        self._running, self.has_result = False, has_result
        for rank in self._others:
            if not (self._lost and self._is_silent(rank)):
                self._post(rank, Message(Kind.STOP, self._run_id, flags=HAS_RESULT if has_result else 0))
        if self._lost:
            return
        with nullcontext() if has_result else suppress(TransportError):  # what ended the run is what counts
            for rank in list(self._others):
                while self._receive(rank, "after the end of the run").kind is not Kind.STOP:
                    pass  # an answer that nobody waits for any more
            self._complete_sends()

    def _give_up(self, rank: int) -> None:
        """One that the run goes on without may live: it is told, so that it does not take rank 0 for lost."""
        if self.keep_going and self._running and rank in self._others:
            self._post(rank, Message(Kind.STOP, self._run_id, flags=GIVEN_UP))
        super()._give_up(rank)

    def end_all(self, code: int) -> None:
        """After a run that went on without a rank: end every process, as that one will not take part in MPI's end."""
        if self._dropped:
            sys.stdout.flush()
            abort(self._comm, f"rank {self._dropped[0]} was lost: all ranks are ended", code)

    # -------------------------------------------------------------- other ranks

    def serve(self, called: Callable[[str], str] = no_calls) -> None:
        """Answer until STOP; then raise what an agent of this rank raised, as rank 0 does too.

        An interrupt of a solve is passed on to rank 0, which ends the run with what it has.
        """
        failure: Exception | None = None
        while (message := self._receive(0)).kind is not Kind.STOP:
            kind = Kind.CALL if message.kind is Kind.CALL else Kind.QUESTION
            wire.expect(message, kind, max(message.sequence, self._sequence), message.agent)
            self._sequence = message.sequence
            try:
                reply = self._reply(message) if kind is Kind.QUESTION else replace(message, text=called(message.text))
            except TransportError:
                raise
            except (Exception, KeyboardInterrupt) as error:
                if failure is None and isinstance(error, Exception):
                    failure = error
                    if kind is Kind.CALL:
                        failure.add_note("call")
                reply = wire.error_message(self._run_id, self._sequence, message.agent, error)
            self._post(0, reply)
        self._running, self.has_result = False, message.flags == HAS_RESULT
        self._lost = message.flags == GIVEN_UP
        self._post(0, Message(Kind.STOP, self._run_id))
        self._complete_sends()
        if failure is not None and not self.has_result:
            raise failure
        if failure is not None:  # the run went on without; rank 0 was told no more than `errors.public_words`
            logging.getLogger(__name__).error("rank %d: an agent failed", self.rank, exc_info=failure)

    def _reply(self, message: Message) -> Message:
        name = self._name(message.agent)
        if name not in self._agents:
            raise TransportError(f"rank {self.rank} was asked for agent number {message.agent}, which it does not own")
        size = self._boundaries[name].size
        questions = wire.read_questions(message, size)
        if self.transcript is not None:
            self.transcript.note(message.agent, questions[0].iteration)
        answers = answers_to(name, self._agents[name], questions)
        for answer in answers:
            check_answer_fits(name, answer, size)
        reply = wire.answers_message(self._run_id, message.sequence, message.agent, answers, size)
        return replace(reply, flags=TOLD_TO_STOP) if self._is_told_to_stop() else reply

    def _is_told_to_stop(self) -> bool:
        """From its first answer on, this rank leaves the end of the run to rank 0."""
        if self.interrupts is None:
            return False
        self.interrupts.begun = True
        return self.interrupts.asked


def _prepare_failure(agents: Mapping[str, Agent], boundaries: Mapping[str, AgentBoundary]) -> Exception | None:
    """What an agent raised in `prepare`, None if all are ready; other ranks wait, so nothing may escape here."""
    try:
        for name, agent in agents.items():
            with noted_as(name):
                agent.prepare(boundaries[name])
    except Exception as error:
        return error
    return None
