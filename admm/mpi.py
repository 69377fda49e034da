"""Agents on other MPI ranks: the same questions and answers as messages. The only mpi4py import.

Rank 0 drives and may own agents too. In an exchange one message carries all questions to an agent and
one all its answers, each a nonblocking point-to-point transfer of bytes (`admm.wire`), so ranks answer
in parallel and nothing is pickled.
Every wait is a loop of tests with a deadline, because a stopped process is noticed in no other way.

    rank 0:   HELLO ->   <- HELLO (owned agents) or TEXT (error)   HELLO or TEXT ->      start
              QUESTION ->   <- ANSWER or TEXT                                            ask / serve
              CALL ->   <- CALL or TEXT                                                  call / serve
              STOP ->   <- STOP                                                          finish
"""

from __future__ import annotations

import os
import secrets
import signal
import sys
import time
import traceback
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext, suppress
from dataclasses import replace
from typing import TypeVar

import numpy as np
from mpi4py import MPI

from admm import wire
from admm.errors import InfeasibleError, InputError, TielineError, TransportError
from admm.interfaces import Agent, AgentBoundary, Answer, Question, Traffic, check_answer_fits, no_calls
from admm.shared_memory import unlink_mapped
from admm.transcript import Transcript
from admm.transport import answers_or_lost, answers_to, lost_answers
from admm.wire import Kind, Message

TAG = 7101
SPINS = 50
PAUSE_SECONDS = 20e-6
"""Longer sleeps between tests show up in every exchange; none at all takes a core from the solvers."""
DEADLINE_SECONDS = 600.0
LONGER_SECONDS = 5.0
"""What the other ranks wait for rank 0 beyond the deadline: it may be waiting for one that is lost."""
INTERRUPTED_EXIT_CODE = 130
FORWARDING_SECONDS = 0.2
"""Left to the launcher to pass on the last words: what it has not read when a rank aborts is lost."""

Found = TypeVar("Found")


def world() -> MPI.Intracomm:
    """All ranks of the job; for the command line only, everything else is passed a communicator."""
    return MPI.COMM_WORLD


class MpiTransport:
    """The Transport over a communicator; every rank makes one and passes the agents that it owns.

    Messages use one tag of `comm`: pass `comm.Dup()` if the program sends messages of its own meanwhile.
    deadline_seconds: how long a rank may be silent before TransportError. transcript: where to write down all that
    this rank sends, if anywhere, and on rank 0 what its own agents are told and tell.
    """

    def __init__(
        self,
        comm: MPI.Intracomm,
        deadline_seconds: float = DEADLINE_SECONDS,
        transcript: Transcript | None = None,
    ) -> None:
        if not deadline_seconds > 0:
            raise InputError(f"MPI transport: deadline_seconds is {deadline_seconds!r}, expected a number above 0")
        self.rank, self.ranks = comm.Get_rank(), comm.Get_size()
        self.traffic = Traffic()
        self.has_result = self.keep_going = False
        self._comm, self._deadline = comm, deadline_seconds
        if self.rank:
            self._deadline += min(LONGER_SECONDS, deadline_seconds)
        self.transcript = transcript
        self._others, self._dropped = list(range(1, self.ranks)), []
        self._sends: list[tuple[MPI.Request, bytes, int]] = []
        self._abandoned: list[tuple[MPI.Request, bytes, int]] = []  # MPI may still read these buffers
        self._run_id = self._sequence = 0
        self._running = self._together = self._lost = False
        self._waited = 0.0

    # ------------------------------------------------------------------ start

    def start(self, agents: Mapping[str, Agent], boundaries: Mapping[str, AgentBoundary]) -> None:
        """Prepare this rank's agents; every rank raises if one of them cannot start."""
        self._agents, self._boundaries, self.traffic = dict(agents), dict(boundaries), Traffic()
        self._names, self._sequence = list(boundaries), 0
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
        self._run_id = secrets.randbits(63)
        self._owner = dict.fromkeys(self._agents, 0)
        for rank in self._others:
            self._post(rank, Message(Kind.HELLO, self._run_id))
        errors = [failure, *(self._read_hello(rank) for rank in self._others), self._unowned()]
        error = next((error for error in errors if error is not None), None)
        for rank in self._others:
            hello = Message(Kind.HELLO, self._run_id)
            self._post(rank, hello if error is None else wire.error_message(self._run_id, 0, wire.NO_AGENT, error))
        return error

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
        self._run_id = wire.expect(self._receive(0, any_run=True), Kind.HELLO, 0).run_id
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
        solved, self._waited = time.perf_counter(), 0.0
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
        return [called(text), *(self._collect_reply(rank) for rank in self._others)]

    def _collect_reply(self, rank: int) -> str:
        message = self._receive(rank, "with its reply to a call")
        if message.kind is Kind.TEXT:
            raise wire.read_error(message)
        return wire.expect(message, Kind.CALL, self._sequence).text

    def _own_answers(self, name: str, asked: Sequence[Question]) -> list[Answer]:
        """Of an agent on this rank."""
        key = (self._run_id, self._sequence, self._names.index(name))
        if self.transcript is not None:
            self.transcript.asked(key, name, asked)
        answers = (answers_or_lost if self.keep_going else answers_to)(self._agents[name], asked)
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
        message = self._receive(self._owner[name], f"with the answer of agent '{name}'")
        if message.kind is Kind.TEXT:
            error = wire.read_error(message)
            raise TielineError(f"agent '{name}': {error}") if type(error) is TielineError else error
        wire.expect(message, Kind.ANSWER, self._sequence, self._names.index(name))
        answers = wire.read_answers(message, self._boundaries[name].size)
        if len(answers) != count:
            raise TransportError(f"agent '{name}': {len(answers)} answers came to {count} questions")
        return answers

    def _slowest(self, answers: Mapping[str, Sequence[Answer]]) -> float:
        """Seconds for which the slowest other rank computed in this exchange."""
        seconds = dict.fromkeys(range(self.ranks), 0.0)
        for name, given in answers.items():
            seconds[self._owner[name]] += sum(answer.solve_seconds for answer in given)
        return max(seconds.values(), default=0.0)

    def finish(self, has_result: bool) -> None:
        """Stop the other ranks; unless one is lost, wait until each has confirmed and nothing is under way."""
        if not self._running:
            return
        self._running, self.has_result = False, has_result
        for rank in [*self._others, *self._dropped]:  # one that was given up may live, and has to end
            self._post(rank, Message(Kind.STOP, self._run_id, flags=int(has_result)))
        self._abandoned += [sent for sent in self._sends if sent[2] in self._dropped]
        self._sends = [sent for sent in self._sends if sent[2] not in self._dropped]
        if self._lost:
            return
        with nullcontext() if has_result else suppress(TransportError):  # what ended the run is what counts
            for rank in list(self._others):
                while self._receive(rank, "after the end of the run").kind is not Kind.STOP:
                    pass  # an answer that nobody waits for any more
            self._complete_sends()

    def end_all(self, code: int) -> None:
        """After a run that went on without a rank: end every process, as that one will not take part in MPI's end."""
        if self._dropped:
            sys.stdout.flush()
            _abort(self._comm, f"rank {self._dropped[0]} was lost: all ranks are ended", code)

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
                failure = failure or (error if isinstance(error, Exception) else None)
                reply = wire.error_message(self._run_id, self._sequence, message.agent, error)
            self._post(0, reply)
        self._running, self.has_result = False, bool(message.flags)
        self._post(0, Message(Kind.STOP, self._run_id))
        self._complete_sends()
        if failure is not None and not self.has_result:
            raise failure

    def _reply(self, message: Message) -> Message:
        name = self._name(message.agent)
        if name not in self._agents:
            raise TransportError(f"rank {self.rank} was asked for agent number {message.agent}, which it does not own")
        size = self._boundaries[name].size
        questions = wire.read_questions(message, size)
        if self.transcript is not None:
            self.transcript.note(message.agent, questions[0].iteration)
        answers = answers_to(self._agents[name], questions)
        for answer in answers:
            check_answer_fits(name, answer, size)
        return wire.answers_message(self._run_id, message.sequence, message.agent, answers, size)

    # -------------------------------------------------------------- after a run

    def gather_text(self, text: str) -> list[str]:
        """All ranks' texts on rank 0, [] on the others; only the own one if no run started, or a rank is lost."""
        if not self._together or self._lost:
            return [text]
        if self.rank != 0:
            self._post(0, Message(Kind.TEXT, self._run_id, text=text))
            self._complete_sends()
            return []
        return [text, *(wire.expect(self._receive(rank), Kind.TEXT, 0).text for rank in self._others)]

    def share_text(self, text: str) -> str:
        """Rank 0's text on all ranks; the own one if no run started, or a rank is lost."""
        if not self._together or self._lost:
            return text
        if self.rank != 0:
            return wire.expect(self._receive(0), Kind.TEXT, 0).text
        for rank in self._others:
            self._post(rank, Message(Kind.TEXT, self._run_id, text=text))
        self._complete_sends()
        return text

    # -------------------------------------------------------------- messages

    def _post(self, rank: int, message: Message) -> None:
        """Start a send, written down before it; its buffer is kept until the transfer is over."""
        data = wire.pack(message)
        if self.transcript is not None:
            known = 0 <= message.agent < len(self._names)
            self.transcript.record(message, data, rank, self._names[message.agent] if known else None)
        try:
            self._sends = [sent for sent in self._sends if not sent[0].Test()]
            self._sends.append((self._comm.Isend([data, MPI.BYTE], dest=rank, tag=TAG), data, rank))
        except MPI.Exception as error:  # whoever waits for the reply finds out which rank is gone
            if not self.keep_going:
                self._lost = True
                raise TransportError(f"rank {self.rank}: rank {rank} cannot be reached: {error}") from None
        self.traffic.bytes += len(data)

    def _complete_sends(self) -> None:
        while self._sends:
            request, _, rank = self._sends[-1]
            self._wait(lambda request=request: request.Test() or None, "a message was not taken", rank)
            self._sends.pop()

    def _receive(self, rank: int, what: str = "", any_run: bool = False) -> Message:
        silent = f"rank {rank} was not heard of {what}".rstrip()
        began, status = time.perf_counter(), MPI.Status()
        arrived = self._wait(lambda: self._comm.Improbe(source=rank, tag=TAG, status=status), silent, rank)
        data = bytearray(status.Get_count(MPI.BYTE))
        request = arrived.Irecv([data, MPI.BYTE])
        self._wait(lambda: request.Test() or None, silent, rank)
        self._waited += time.perf_counter() - began
        self.traffic.bytes += len(data)
        return wire.unpack(bytes(data), None if any_run else self._run_id)

    def _wait(self, poll: Callable[[], Found | None], silent: str, rank: int) -> Found:
        """What `poll` gives as soon as it gives something; TransportError after the deadline, or where MPI says that
        the other rank's process is gone."""
        try:
            for _ in range(SPINS):
                if (found := poll()) is not None:
                    return found
            deadline = time.perf_counter() + self._deadline
            while time.perf_counter() < deadline:
                if (found := poll()) is not None:
                    return found
                time.sleep(PAUSE_SECONDS)
        except MPI.Exception as error:
            self._drop(rank)
            raise TransportError(f"rank {self.rank}: {silent}: {error}") from None
        self._drop(rank)
        raise TransportError(
            f"rank {self.rank}: {silent} for {self._deadline:g} s: it is lost or stuck; "
            "resume the run from its checkpoint, or raise the deadline if an agent may take that long"
        )

    def _drop(self, rank: int) -> None:
        """Go on without a rank, or, where the run does not, know at the end that one is missing."""
        self._lost = not self.keep_going
        if self.keep_going and rank in self._others:
            self._others.remove(rank)
            self._dropped.append(rank)
            self._abandoned += [sent for sent in self._sends if sent[2] == rank]
            self._sends = [sent for sent in self._sends if sent[2] != rank]


def _prepare_failure(agents: Mapping[str, Agent], boundaries: Mapping[str, AgentBoundary]) -> Exception | None:
    """What an agent raised in `prepare`, None if all are ready; other ranks wait, so nothing may escape here."""
    try:
        for name, agent in agents.items():
            agent.prepare(boundaries[name])
    except Exception as error:
        return error
    return None


@contextmanager
def abort_on_exception(comm: MPI.Intracomm) -> Iterator[None]:
    """End all ranks when this one fails in a way that the others cannot know of, so that nothing hangs.

    TransportError aborts with its exit code, an interrupt with 130, an unexpected exception with 1
    and its traceback. Tieline's other errors have reached every rank already and pass through.
    Ranks other than 0 do not listen to Ctrl-C and SIGTERM meanwhile: rank 0 hears them too and tells them to stop.
    """
    try:
        with _deaf_to_interrupts(comm.Get_rank() != 0):
            yield
    except TransportError as error:
        words = str(error)
        _abort(comm, words if words.startswith("rank ") else f"rank {comm.Get_rank()}: {words}", error.exit_code)
        raise
    except (TielineError, SystemExit):
        raise
    except KeyboardInterrupt:
        _abort(comm, f"rank {comm.Get_rank()}: interrupted", INTERRUPTED_EXIT_CODE)
        raise
    except BaseException:
        _abort(comm, f"rank {comm.Get_rank()}:\n{traceback.format_exc()}", 1)
        raise


@contextmanager
def _deaf_to_interrupts(deaf: bool) -> Iterator[None]:
    if not deaf:
        yield
        return
    before = {number: signal.signal(number, signal.SIG_IGN) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _abort(comm: MPI.Intracomm, words: str, code: int) -> None:
    if comm.Get_size() > 1:
        print(words, file=sys.stderr, flush=True)
        time.sleep(FORWARDING_SECONDS)
        comm.Abort(code)
        os._exit(code)  # Abort may come back before the launcher ends this process
