"""How messages look between ranks: a fixed header, float64 numbers and a bounded text. No pickle.

    header   magic, version, kind, run id, sequence, agent, status, flags, items, count of numbers, bytes of text
    numbers  count x float64, little endian
    text     UTF-8, at most TEXT_LIMIT_BYTES

A QUESTION carries as many questions to one agent as `items` says, one row of numbers each:
    iteration, accuracy, flags, price (n,), reference (n,), penalty (n,)
An ANSWER carries as many answers, in the same order; its text is that of all reasons, one after the other:
    status, flags, bytes of reason, cost, bound, model error, seconds, inner iterations, values (n,)

Every reader checks what it gets and raises TransportError: a late or damaged message is never taken
for an answer. `sequence` numbers the exchanges of a run, so a late answer does not match.
"""

from __future__ import annotations

import hashlib
import struct
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from enum import IntEnum

import numpy as np

from admm.errors import (
    AgentError,
    InfeasibleError,
    InputError,
    OutputError,
    SolverError,
    TielineError,
    TransportError,
    public_words,
)
from admm.interfaces import AgentBoundary, Answer, AnswerStatus, Question

MAGIC, VERSION = b"TIEL", 4
HEADER = struct.Struct("<4sHHQQiHHIII")
NUMBER = np.dtype("<f8")
TEXT_LIMIT_BYTES = 1 << 20
REASON_LIMIT_BYTES = 4096
"""Reasons and errors are cut here, other texts are refused above TEXT_LIMIT_BYTES."""
NO_AGENT = -1
QUESTION_FIELDS, QUESTION_ARRAY_FIELDS = ("iteration", "accuracy", "flags"), ("price", "reference", "penalty")
ANSWER_FIELDS = (
    "status", "flags", "reason_bytes", "cost_eur", "bound_eur", "model_error", "solve_seconds", "inner_iterations",
)  # fmt: skip
ANSWER_ARRAY_FIELD = "values"
QUESTION_SCALARS, ANSWER_SCALARS = len(QUESTION_FIELDS), len(ANSWER_FIELDS)
QUESTION_ARRAYS = len(QUESTION_ARRAY_FIELDS)
SETTLE, NO_OWN_COST, BESIDE = 1, 2, 4
QUESTION_FLAGS = SETTLE | NO_OWN_COST | BESIDE
HAS_COST, HAS_BOUND, PROVES = 1, 2, 4
ANSWER_FLAGS = HAS_COST | HAS_BOUND | PROVES
ERROR = 1
ERRORS = (
    TielineError,
    InputError,
    InfeasibleError,
    SolverError,
    TransportError,
    KeyboardInterrupt,
    AgentError,
    OutputError,
)
"""Errors that cross ranks as themselves: the status of a TEXT is the position here, 0 for any other."""


class Kind(IntEnum):
    """HELLO: the agents that a rank owns. TEXT: an error, or what a rank reports. STOP: the run is over. CALL: what
    concerns a rank, not one agent, and the reply."""

    HELLO = 1
    QUESTION = 2
    ANSWER = 3
    TEXT = 4
    STOP = 5
    CALL = 6


@dataclass(frozen=True)
class Message:
    """One message. numbers: shape (count,). agent: position among the run's agents, or NO_AGENT.

    status: of a TEXT. flags: of a STOP, and ERROR of a TEXT that carries one. items: questions or answers in the
    message.
    """

    kind: Kind
    run_id: int
    sequence: int = 0
    agent: int = NO_AGENT
    status: int = 0
    flags: int = 0
    items: int = 0
    numbers: np.ndarray = field(default_factory=lambda: np.empty(0))
    text: str = ""


def questions_bytes(entries: int, questions: int = 1) -> int:
    """Size of a packed message of so many questions on a boundary of so many entries."""
    return HEADER.size + NUMBER.itemsize * questions * (QUESTION_SCALARS + QUESTION_ARRAYS * entries)


def answers_bytes(entries: int, reasons: Sequence[str] = ("",)) -> int:
    """Size of a packed message of answers with these reasons on a boundary of so many entries."""
    numbers = len(reasons) * (ANSWER_SCALARS + entries)
    return HEADER.size + NUMBER.itemsize * numbers + sum(len(_short(reason).encode()) for reason in reasons)


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
        message.items,
        numbers.size,
        len(text),
    )
    return header + numbers.tobytes() + text


def unpack(data: bytes, run_id: int | None = None) -> Message:
    """The message in `data`; it must be one of the given run (None: of any run)."""
    if len(data) < HEADER.size:
        raise TransportError(f"a message has {len(data)} bytes, expected at least the {HEADER.size} of a header")
    magic, version, kind, run, sequence, agent, status, flags, items, count, length = HEADER.unpack_from(data)
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
    text = _decode(data[len(data) - length :])
    return Message(Kind(kind), run, sequence, agent, status, flags, items, numbers, text)


def expect(message: Message, kind: Kind, sequence: int, agent: int = NO_AGENT) -> Message:
    """The message, if it is of this kind, exchange and agent."""
    for word, found, wanted in (
        ("kind", message.kind.name, kind.name),
        ("exchange", message.sequence, sequence),
        ("agent", message.agent, agent),
    ):
        if found != wanted:
            raise TransportError(f"message {message.kind.name} has {word} {found}, expected {wanted}: late or stray")
    return message


def field_shapes(message: Message) -> dict[str, tuple[int, ...]]:
    """What the numbers of a message are: {field: shape}; the shapes' sizes add up to the count of numbers."""
    if message.kind is Kind.HELLO:
        return {"owned_agents": message.numbers.shape} if message.numbers.size else {}
    if message.kind not in (Kind.QUESTION, Kind.ANSWER):
        return {}
    asked, rows = message.kind is Kind.QUESTION, message.items
    scalars, arrays = (QUESTION_FIELDS, QUESTION_ARRAY_FIELDS) if asked else (ANSWER_FIELDS, (ANSWER_ARRAY_FIELD,))
    entries = (message.numbers.size // rows - len(scalars)) // len(arrays)
    return {name: (rows,) for name in scalars} | {name: (rows, entries) for name in arrays}


def questions_message(run_id: int, sequence: int, agent: int, questions: Sequence[Question]) -> Message:
    """Questions to one agent as a message."""
    rows = [
        np.concatenate([[q.iteration, q.accuracy, _question_flags(q)], q.price, q.reference, q.penalty])
        for q in questions
    ]
    return Message(Kind.QUESTION, run_id, sequence, agent, items=len(rows), numbers=np.concatenate(rows))


def _question_flags(question: Question) -> int:
    return SETTLE * bool(question.settle) | NO_OWN_COST * (not question.own_cost) | BESIDE * bool(question.beside)


def read_questions(message: Message, entries: int) -> list[Question]:
    """The questions to an agent with so many boundary entries."""
    rows = _rows(message, QUESTION_SCALARS + QUESTION_ARRAYS * entries)
    _check_finite(message, rows[:, :-entries])
    return [_question(row[:QUESTION_SCALARS], row[QUESTION_SCALARS:].reshape(QUESTION_ARRAYS, -1)) for row in rows]


def _question(scalars: np.ndarray, arrays: np.ndarray) -> Question:
    (iteration, accuracy, flags), (price, reference, penalty) = scalars, arrays
    if np.isnan(penalty).any() or (penalty < 0).any() or accuracy <= 0 or iteration < 0 or iteration % 1:
        raise TransportError("a QUESTION has a negative penalty, an accuracy of 0 or a fractional iteration")
    flags = _whole("a QUESTION's flags", flags, QUESTION_FLAGS)
    told = bool(flags & SETTLE), not flags & NO_OWN_COST, bool(flags & BESIDE)
    return Question(int(iteration), price, reference, penalty, float(accuracy), *told)


def answers_message(run_id: int, sequence: int, agent: int, answers: Sequence[Answer], entries: int) -> Message:
    """One agent's answers on `entries` boundary entries; values that are not usable anyway travel as zeros."""
    reasons = [_short(answer.reason) for answer in answers]
    rows = [_answer_row(answer, len(reason.encode()), entries) for answer, reason in zip(answers, reasons, strict=True)]
    numbers, text = np.concatenate(rows), "".join(reasons)
    return Message(Kind.ANSWER, run_id, sequence, agent, items=len(rows), numbers=numbers, text=text)


def _answer_row(answer: Answer, reason_bytes: int, entries: int) -> np.ndarray:
    scalars = [
        int(answer.status),
        HAS_COST * (answer.cost_eur is not None)
        | HAS_BOUND * (answer.bound_eur is not None)
        | PROVES * bool(answer.proves),
        reason_bytes,
        0.0 if answer.cost_eur is None else answer.cost_eur,
        0.0 if answer.bound_eur is None else answer.bound_eur,
        answer.model_error,
        answer.solve_seconds,
        answer.inner_iterations,
    ]
    return np.concatenate([scalars, answer.values if answer.status.usable else np.zeros(entries)])


def read_answers(message: Message, entries: int) -> list[Answer]:
    """The answers of an agent with so many boundary entries, in the order of the questions."""
    rows = _rows(message, ANSWER_SCALARS + entries)
    _check_finite(message, rows)
    return [_answer(row, reason) for row, reason in zip(rows, _reasons(message, rows[:, 2]), strict=True)]


def _reasons(message: Message, lengths: np.ndarray) -> list[str]:
    """Each answer's part of the text. lengths: bytes of each, shape (items,)."""
    text = message.text.encode()
    ends = np.cumsum([_whole("an ANSWER's bytes of reason", length, REASON_LIMIT_BYTES) for length in lengths])
    if ends[-1] != len(text):
        raise TransportError(f"an ANSWER has reasons of {ends[-1]} bytes, expected the {len(text)} of its text")
    return [_decode(part) for part in np.split(np.frombuffer(text, dtype=np.uint8), ends[:-1])]


def _answer(row: np.ndarray, reason: str) -> Answer:
    status, flags, _, cost, bound, model_error, seconds, inner = (float(number) for number in row[:ANSWER_SCALARS])
    flags = _whole("an ANSWER's flags", flags, ANSWER_FLAGS)
    return Answer(
        values=row[ANSWER_SCALARS:],
        status=AnswerStatus(_whole("an ANSWER's status", status, AnswerStatus.FAILED)),
        reason=reason,
        cost_eur=cost if flags & HAS_COST else None,
        bound_eur=bound if flags & HAS_BOUND else None,
        model_error=model_error,
        solve_seconds=seconds,
        inner_iterations=int(inner),
        proves=bool(flags & PROVES),
    )


def error_message(run_id: int, sequence: int, agent: int, error: BaseException) -> Message:
    """A TEXT that carries what others may know of an error; of one that is not Tieline's own, the name of its class."""
    status = max((i for i, known in enumerate(ERRORS) if isinstance(error, known)), default=0)
    return Message(Kind.TEXT, run_id, sequence, agent, status, flags=ERROR, text=_short(public_words(error)))


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


def _rows(message: Message, width: int) -> np.ndarray:
    """The numbers as one row a question or answer, shape (items, width)."""
    if message.items < 1:
        raise TransportError(f"a {message.kind.name} has {message.items} items, expected at least 1")
    if message.numbers.size != message.items * width:
        found = f"a {message.kind.name} has {message.numbers.size} numbers"
        raise TransportError(f"{found}, expected {message.items} x {width}")
    return message.numbers.reshape(message.items, width)


def _whole(what: str, value: float, most: int) -> int:
    if not (0 <= value <= most and value % 1 == 0):
        raise TransportError(f"{what}: {value:g}, expected a whole number of 0 to {most}")
    return int(value)


def _check_finite(message: Message, numbers: np.ndarray) -> None:
    if not np.isfinite(numbers).all():
        raise TransportError(f"a {message.kind.name} has a value that is not a finite number")


def _short(text: str) -> str:
    """At most REASON_LIMIT_BYTES of UTF-8, cut at a whole character."""
    return text.encode(errors="replace")[:REASON_LIMIT_BYTES].decode(errors="ignore")


def _decode(data: bytes | np.ndarray) -> str:
    try:
        return bytes(data).decode()
    except UnicodeDecodeError:
        raise TransportError("a message has a text that is not UTF-8") from None
