"""What one rank sends to the others and hears of them. The only mpi4py import.

Every wait is a loop of tests with a deadline, because a stopped process is noticed in no other way.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from typing import TypeVar

from mpi4py import MPI

from admm import wire
from admm.errors import InputError, TransportError
from admm.interfaces import Traffic
from admm.transcript import Transcript
from admm.values import is_number
from admm.wire import Kind, Message

TAG = 7101
SPINS = 50
PAUSE_SECONDS = 20e-6
"""Longer sleeps between tests show up in every exchange; none at all takes a core from the solvers."""
DEADLINE_SECONDS = 600.0
LONGER_SECONDS = 5.0
"""What the other ranks wait for rank 0 beyond the deadline: it may be waiting for one that is lost."""

Communicator = MPI.Intracomm
Found = TypeVar("Found")


def world() -> Communicator:
    """All ranks of the job; for the command line only, everything else is passed a communicator."""
    return MPI.COMM_WORLD


class Messenger:
    """A rank among others, and who of them is lost; what is said to whom is up to who derives from it.

    run_id: as results and transcripts name the run, on rank 0 to be set before the start; others hear of it then.
    keep_going: whether the run does where a rank is lost, which then is one of the _dropped and none of the _others.
    _together: whether all ranks have agreed on a run.
    """

    def __init__(self, comm: Communicator, deadline_seconds: float, transcript: Transcript | None) -> None:
        if not (is_number(deadline_seconds) and deadline_seconds > 0):
            raise InputError(f"MPI transport: deadline_seconds is {deadline_seconds!r}, expected a number above 0")
        self.rank, self.ranks = comm.Get_rank(), comm.Get_size()
        self.traffic, self.transcript, self.keep_going = Traffic(), transcript, False
        self._comm, self._deadline = comm, deadline_seconds
        if self.rank:
            self._deadline += min(LONGER_SECONDS, deadline_seconds)
        self._others, self._dropped = list(range(1, self.ranks)), []
        self._sends: list[tuple[MPI.Request, bytes, int]] = []
        self._abandoned: list[tuple[MPI.Request, bytes, int]] = []  # MPI may still read these buffers
        self._names: list[str] = []
        self.run_id = self.launch_id = ""
        self._heard: dict[int, float] = {}
        self._run_id, self._waited, self._lost, self._together = 0, 0.0, False, False

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

    def _listen(self) -> float:
        """From now on several ranks are silent at the same time, so that all that are lost cost one deadline."""
        now = time.perf_counter()
        self._heard = dict.fromkeys(self._others, now)
        return now

    def _awaited(self, rank: int, what: str) -> Message:
        """The next message of a rank, silent since `_listen` or its last one."""
        return self._receive(rank, what, since=self._heard[rank])

    def _receive(self, rank: int, what: str = "", any_run: bool = False, since: float | None = None) -> Message:
        silent = f"rank {rank} was not heard of {what}".rstrip()
        began, status = time.perf_counter(), MPI.Status()
        arrived = self._wait(lambda: self._probe(rank, status), silent, rank, since)
        message = self._read(arrived, status, silent, rank, any_run)
        self._waited += time.perf_counter() - began
        return message

    def _arrived(self, rank: int, what: str) -> Message | None:
        """A message of the rank, if one is there already."""
        silent, status = f"rank {rank} was not heard of {what}", MPI.Status()
        try:
            arrived = self._probe(rank, status)
        except MPI.Exception as error:
            raise self._loss(rank, silent, error) from None
        return None if arrived is None else self._read(arrived, status, silent, rank)

    def _is_silent(self, rank: int) -> bool:
        """Whether nothing of the rank has been heard for as long as the deadline, and nothing of it is there now."""
        since = time.perf_counter() - self._heard.get(rank, -math.inf)
        return since >= self._deadline and not self._comm.Iprobe(source=rank, tag=TAG)

    def _probe(self, rank: int, status: MPI.Status) -> MPI.Message | None:
        return self._comm.Improbe(source=rank, tag=TAG, status=status)

    def _read(self, arrived: MPI.Message, status: MPI.Status, silent: str, rank: int, any_run: bool = False) -> Message:
        """A message that was matched."""
        data = bytearray(status.Get_count(MPI.BYTE))
        request = arrived.Irecv([data, MPI.BYTE])
        self._wait(lambda: request.Test() or None, silent, rank)
        self.traffic.bytes += len(data)
        self._heard[rank] = time.perf_counter()
        try:
            return wire.unpack(bytes(data), None if any_run else self._run_id)
        except TransportError as error:
            raise self._out_of_turn(rank, error) from None

    def _wait(self, poll: Callable[[], Found | None], silent: str, rank: int, since: float | None = None) -> Found:
        """What `poll` gives as soon as it gives something; TransportError after the deadline, or where MPI says that
        the other rank's process is gone."""
        try:
            for _ in range(SPINS):
                if (found := poll()) is not None:
                    return found
            deadline = (time.perf_counter() if since is None else since) + self._deadline
            while time.perf_counter() < deadline:
                if (found := poll()) is not None:
                    return found
                time.sleep(PAUSE_SECONDS)
        except MPI.Exception as error:
            raise self._loss(rank, silent, error) from None
        raise self._loss(rank, silent)

    def _loss(self, rank: int, silent: str, error: MPI.Exception | None = None) -> TransportError:
        """The error of a rank that MPI knows to be gone, or that says nothing; it is waited for no more."""
        self._give_up(rank)
        if error is not None:
            return TransportError(f"rank {self.rank}: {silent}: {error}")
        return TransportError(
            f"rank {self.rank}: {silent} for {self._deadline:g} s: it is lost or stuck; "
            "resume the run from its checkpoint, or raise the deadline if an agent may take that long"
        )

    def _out_of_turn(self, rank: int, error: TransportError) -> TransportError:
        """The error of a rank that says what it should not: whatever else it has sent is not taken for an answer."""
        self._give_up(rank)
        return TransportError(f"rank {rank}: {error}")

    def _give_up(self, rank: int) -> None:
        """Go on without a rank, or, where the run does not, know at the end that one is missing."""
        self._lost = not self.keep_going
        if self.keep_going and rank in self._others:
            self._others.remove(rank)
            self._dropped.append(rank)
            self._abandoned += [sent for sent in self._sends if sent[2] == rank]
            self._sends = [sent for sent in self._sends if sent[2] != rank]

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
