"""How messages look between ranks: a fixed header, float64 numbers and a bounded text. No pickle.

    header   magic, version, kind, run id, sequence, agent, status, flags, count of numbers, bytes of text
    numbers  count x float64, little endian
    text     UTF-8, at most TEXT_LIMIT_BYTES

Every reader checks what it gets and raises TransportError: a late or damaged message is never taken
for an answer. `sequence` numbers the exchanges of a run, so a late answer does not match.
"""

from __future__ import annotations

import hashlib
import struct
from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import IntEnum

import numpy as np

from admm.errors import InfeasibleError, InputError, SolverError, TielineError, TransportError
from admm.interfaces import AgentBoundary, Answer, AnswerStatus, Question

MAGIC, VERSION = b"TIEL", 1
HEADER = struct.Struct("<4sHHQQiHHII")
NUMBER = np.dtype("<f8")
TEXT_LIMIT_BYTES = 1 << 20
REASON_LIMIT_BYTES = 4096
"""Reasons and errors are cut here, other texts are refused above TEXT_LIMIT_BYTES."""
NO_AGENT = -1
QUESTION_SCALARS, ANSWER_SCALARS = 2, 5
QUESTION_ARRAYS = 3
SETTLE = 1
HAS_COST, HAS_BOUND = 1, 2
ERRORS = (TielineError, InputError, InfeasibleError, SolverError, TransportError, KeyboardInterrupt)
"""Errors that cross ranks as themselves: the status of a TEXT is the position here, 0 for any other."""


class Kind(IntEnum):
    """HELLO: the agents that a rank owns. TEXT: an error, or what a rank reports. STOP: the run is over."""

    HELLO = 1
    QUESTION = 2
    ANSWER = 3
    TEXT = 4
    STOP = 5


@dataclass(frozen=True)
class Message:
    """One message. numbers: shape (count,). agent: position among the run's agents, or NO_AGENT."""

    kind: Kind
    run_id: int
    sequence: int = 0
    agent: int = NO_AGENT
    status: int = 0
    flags: int = 0
    numbers: np.ndarray = field(default_factory=lambda: np.empty(0))
    text: str = ""


def question_bytes(entries: int) -> int:
    """Size of a packed question on a boundary of so many entries."""
    return HEADER.size + NUMBER.itemsize * (QUESTION_SCALARS + QUESTION_ARRAYS * entries)


def answer_bytes(entries: int, reason: str = "") -> int:
    """Size of a packed answer on a boundary of so many entries."""
    return HEADER.size + NUMBER.itemsize * (ANSWER_SCALARS + entries) + len(_short(reason).encode())


def pack(message: Message) -> bytes:
    """The message as bytes."""
    numbers, text = np.ascontiguousarray(message.numbers, dtype=NUMBER), message.text.encode(errors="replace")
    if len(text) > TEXT_LIMIT_BYTES:
        raise InputError(f"a {message.kind.name} has {len(text)} bytes of text, expected at most {TEXT_LIMIT_BYTES}")
    header = HEADER.pack(
        MAGIC,
        VERSION,
        message.kind,
        message.run_id,
        message.sequence,
        message.agent,
        message.status,
        message.flags,
        numbers.size,
        len(text),
    )
    return header + numbers.tobytes() + text


def unpack(data: bytes, run_id: int | None = None) -> Message:
    """The message in `data`; it must be one of the given run (None: of any run)."""
    if len(data) < HEADER.size:
        raise TransportError(f"a message has {len(data)} bytes, expected at least the {HEADER.size} of a header")
    magic, version, kind, run, sequence, agent, status, flags, count, length = HEADER.unpack_from(data)
    if magic != MAGIC:
        raise TransportError(f"a message starts with {magic!r}, expected {MAGIC!r}: it is not one of this program's")
    if version != VERSION:
        raise TransportError(f"a message has wire version {version}, expected {VERSION}: use one release on all ranks")
    if kind not in Kind._value2member_map_:
        raise TransportError(f"a message is of the unknown kind {kind}")
    if run_id is not None and run != run_id:
        raise TransportError(f"a {Kind(kind).name} is left over from another run: {run:x}, expected {run_id:x}")
    if length > TEXT_LIMIT_BYTES or len(data) != HEADER.size + NUMBER.itemsize * count + length:
        raise TransportError(
            f"a {Kind(kind).name} has {len(data)} bytes, its header promises {count} numbers and {length} bytes of text"
        )
    numbers = np.frombuffer(data, dtype=NUMBER, count=count, offset=HEADER.size).astype(float)
    return Message(Kind(kind), run, sequence, agent, status, flags, numbers, _decode(data[len(data) - length :]))


def expect(message: Message, kind: Kind, sequence: int, agent: int = NO_AGENT) -> Message:
    """The message, if it is of this kind, exchange and agent."""
    for word, found, wanted in (
        ("kind", message.kind.name, kind.name),
        ("exchange", message.sequence, sequence),
        ("agent", message.agent, agent),
    ):
        if found != wanted:
            raise TransportError(f"a {message.kind.name} came with {word} {found}, expected {wanted}: late or stray")
    return message


def question_message(run_id: int, sequence: int, agent: int, question: Question) -> Message:
    """A question as a message: iteration and accuracy, then price, reference and penalty."""
    scalars = np.array([question.iteration, question.accuracy])
    numbers = np.concatenate([scalars, question.price, question.reference, question.penalty])
    return Message(Kind.QUESTION, run_id, sequence, agent, flags=SETTLE * bool(question.settle), numbers=numbers)


def read_question(message: Message, entries: int) -> Question:
    """The question to an agent with so many boundary entries."""
    numbers = _check_count(message, QUESTION_SCALARS + QUESTION_ARRAYS * entries)
    price, reference, penalty = numbers[QUESTION_SCALARS:].reshape(QUESTION_ARRAYS, entries)
    iteration, accuracy = numbers[:QUESTION_SCALARS]
    _check_finite(message, numbers[: numbers.size - entries])
    if np.isnan(penalty).any() or (penalty < 0).any() or accuracy <= 0 or iteration < 0 or iteration % 1:
        raise TransportError("a QUESTION has a negative penalty, an accuracy of 0 or a fractional iteration")
    return Question(int(iteration), price, reference, penalty, float(accuracy), bool(message.flags & SETTLE))


def answer_message(run_id: int, sequence: int, agent: int, answer: Answer, entries: int) -> Message:
    """An answer on `entries` boundary entries; values that are not usable anyway travel as zeros."""
    values = answer.values if answer.status.usable else np.zeros(entries)
    scalars = np.array(
        [
            0.0 if answer.cost_eur is None else answer.cost_eur,
            0.0 if answer.bound_eur is None else answer.bound_eur,
            answer.model_error,
            answer.solve_seconds,
            answer.inner_iterations,
        ]
    )
    flags = HAS_COST * (answer.cost_eur is not None) | HAS_BOUND * (answer.bound_eur is not None)
    numbers = np.concatenate([scalars, values])
    return Message(Kind.ANSWER, run_id, sequence, agent, int(answer.status), flags, numbers, _short(answer.reason))


def read_answer(message: Message, entries: int) -> Answer:
    """The answer of an agent with so many boundary entries."""
    numbers = _check_count(message, ANSWER_SCALARS + entries)
    _check_finite(message, numbers)
    if message.status not in AnswerStatus._value2member_map_:
        raise TransportError(f"an ANSWER has the unknown status {message.status}")
    cost, bound, model_error, seconds, inner = (float(number) for number in numbers[:ANSWER_SCALARS])
    return Answer(
        values=numbers[ANSWER_SCALARS:],
        status=AnswerStatus(message.status),
        reason=message.text,
        cost_eur=cost if message.flags & HAS_COST else None,
        bound_eur=bound if message.flags & HAS_BOUND else None,
        model_error=model_error,
        solve_seconds=seconds,
        inner_iterations=int(inner),
    )


def error_message(run_id: int, sequence: int, agent: int, error: BaseException) -> Message:
    """A TEXT that carries an error; one that is not Tieline's own carries the name of its class too."""
    status = max((i for i, known in enumerate(ERRORS) if isinstance(error, known)), default=0)
    text = str(error) if isinstance(error, ERRORS) else f"{type(error).__name__}: {error}"
    return Message(Kind.TEXT, run_id, sequence, agent, status, text=_short(text))


def read_error(message: Message) -> TielineError | KeyboardInterrupt:
    """The error that a TEXT carries, of the class that it was raised with."""
    if message.status >= len(ERRORS):
        raise TransportError(f"a TEXT has the unknown status {message.status}")
    return ERRORS[message.status](message.text)


def layout_digest(boundaries: Mapping[str, AgentBoundary]) -> str:
    """A fingerprint of all agents' boundary entries: ranks with different couplings notice it at the start."""
    digest = hashlib.sha256()
    for name, boundary in boundaries.items():
        digest.update(repr((name, boundary.keys)).encode())
        for array in (boundary.scale, boundary.price_scale, boundary.sign):
            digest.update(np.ascontiguousarray(array, dtype=NUMBER).tobytes())
    return digest.hexdigest()


def _check_count(message: Message, count: int) -> np.ndarray:
    if message.numbers.size != count:
        raise TransportError(f"a {message.kind.name} has {message.numbers.size} numbers, expected {count}")
    return message.numbers


def _check_finite(message: Message, numbers: np.ndarray) -> None:
    if not np.isfinite(numbers).all():
        raise TransportError(f"a {message.kind.name} has a value that is not a finite number")


def _short(text: str) -> str:
    """At most REASON_LIMIT_BYTES of UTF-8, cut at a whole character."""
    return text.encode(errors="replace")[:REASON_LIMIT_BYTES].decode(errors="ignore")


def _decode(data: bytes) -> str:
    try:
        return data.decode()
    except UnicodeDecodeError:
        raise TransportError("a message has a text that is not UTF-8") from None
