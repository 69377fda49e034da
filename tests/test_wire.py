"""Messages: what is packed comes back the same, and nothing else is accepted."""

from __future__ import annotations

import struct
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import admm
from admm import wire
from admm.couplings import Layout
from admm.wire import HEADER, Kind, Message

RUN, SEQUENCE, AGENT = 0x1234_5678_9ABC, 7, 2
FINITE = st.floats(allow_nan=False, allow_infinity=False)
ARRAY = st.lists(FINITE, min_size=3, max_size=3).map(np.array)
PENALTY = st.lists(st.floats(min_value=0.0, allow_nan=False), min_size=3, max_size=3).map(np.array)


def _question(**changes: object) -> admm.Question:
    plain = {
        "iteration": 4,
        "price": np.array([1.0, -2.0, 0.5]),
        "reference": np.array([0.0, 3.0, 4.0]),
        "penalty": np.array([1.0, 0.0, np.inf]),
        "accuracy": 1e-3,
    }
    return admm.Question(**{**plain, **changes})


def _packed(message: Message | None = None, **fields: int) -> bytes:
    """A packed message (by default a question of 3 entries) with some header fields overwritten."""
    data = bytearray(wire.pack(message or wire.questions_message(RUN, SEQUENCE, AGENT, [_question()])))
    names = ("magic", "version", "kind", "run_id", "sequence", "agent", "status", "flags", "items", "count", "length")
    values = dict(zip(names, HEADER.unpack_from(data), strict=True))
    HEADER.pack_into(data, 0, *{**values, **fields}.values())
    return bytes(data)


def _answers(*answers: admm.Answer) -> Message:
    return wire.answers_message(RUN, SEQUENCE, AGENT, answers, 3)


def _with_number(message: Message, at: int, value: float) -> Message:
    """The message with one of its numbers overwritten."""
    numbers = message.numbers.copy()
    numbers[at] = value
    return replace(message, numbers=numbers)


QUESTIONS = st.builds(
    admm.Question, st.integers(0, 10**6), ARRAY, ARRAY, PENALTY, st.floats(1e-12, 1.0), *[st.booleans()] * 3
)
ANSWERS = st.builds(
    admm.Answer,
    values=ARRAY,
    status=st.sampled_from([one for one in admm.AnswerStatus if one is not admm.AnswerStatus.LOST]),
    reason=st.text(max_size=50),
    proves=st.booleans(),
    cost_eur=st.none() | FINITE,
    bound_eur=st.none() | FINITE,
    model_error=st.just(0.25),
    solve_seconds=st.just(1.5),
    inner_iterations=st.integers(0, 10**6),
)


@given(st.lists(QUESTIONS, min_size=1, max_size=4))
def test_questions_come_back_to_the_last_bit(asked: list[admm.Question]) -> None:
    data = wire.pack(wire.questions_message(RUN, SEQUENCE, AGENT, asked))
    got = wire.read_questions(wire.unpack(data, RUN), 3)
    assert len(data) == wire.questions_bytes(3, len(asked))
    for one, other in zip(got, asked, strict=True):
        assert (one.iteration, one.accuracy, one.settle) == (other.iteration, other.accuracy, other.settle)
        for key in ("price", "reference", "penalty"):
            assert getattr(one, key).tobytes() == getattr(other, key).astype("<f8").tobytes()


@given(st.lists(ANSWERS, min_size=1, max_size=4))
def test_answers_come_back_to_the_last_bit_each_with_its_own_status_cost_and_reason(given_answers: list) -> None:
    data = wire.pack(_answers(*given_answers))
    got = wire.read_answers(wire.unpack(data, RUN), 3)
    assert len(data) == wire.answers_bytes(3, [answer.reason for answer in given_answers])
    for one, other in zip(got, given_answers, strict=True):
        assert replace(one, values=None) == replace(other, values=None)
        assert np.array_equal(one.values, other.values if other.status.usable else np.zeros(3))


def test_the_format_is_fixed_and_holds_no_pickle() -> None:
    """Byte by byte as documented: 44 bytes of header, then a row of three scalars and three arrays a question."""
    data = wire.pack(wire.questions_message(RUN, SEQUENCE, AGENT, [_question(settle=True), _question(iteration=5)]))
    header = struct.pack("<4sHHQQiHHIII", b"TIEL", 4, 2, RUN, SEQUENCE, AGENT, 0, 0, 2, 24, 0)
    row = (1, -2, 0.5, 0, 3, 4, 1, 0, float("inf"))
    assert data == header + struct.pack("<24d", 4, 1e-3, 1, *row, 5, 1e-3, 0, *row)
    assert len(data) == wire.questions_bytes(3, 2) == 44 + 2 * 96


def test_the_format_of_answers_is_fixed() -> None:
    """A row of eight scalars and the values an answer; behind all rows the reasons."""
    values = np.array([1.0, -2.0, 0.5])
    refused = admm.Answer(np.empty(0), admm.AnswerStatus.INFEASIBLE, "no h\u00e4t")
    data = wire.pack(_answers(admm.Answer(values, bound_eur=7.0, solve_seconds=0.5, inner_iterations=30), refused))
    header = struct.pack("<4sHHQQiHHIII", b"TIEL", 4, 3, RUN, SEQUENCE, AGENT, 0, 0, 2, 22, 7)
    first, second = (0, 2, 0, 0, 7, 0, 0.5, 30, 1, -2, 0.5), (2, 0, 7, 0, 0, 0, 0, 0, 0, 0, 0)
    assert data == header + struct.pack("<22d", *first, *second) + b"no h\xc3\xa4t"


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (b"", "0 bytes"),
        (_packed()[:43], "43 bytes"),
        (_packed()[:-1], "promises"),
        (_packed() + b"\0", "promises"),
        (_packed(magic=b"HTTP"), "starts with b'HTTP'"),
        (_packed(version=1), "wire version 1"),
        (_packed(kind=9), "unknown kind 9"),
        (_packed(run_id=5), "another run"),
        (_packed(count=13), "promises 13 numbers"),
        (_packed(count=2**32 - 1), "promises"),
        (_packed(length=wire.TEXT_LIMIT_BYTES + 1), "promises"),
        (_packed(Message(Kind.TEXT, RUN, text="ab"))[:-2] + b"\xff\xfe", "UTF-8"),
    ],
)
def test_damaged_messages_are_refused(data: bytes, words: str) -> None:
    with pytest.raises(admm.TransportError, match=words):
        wire.unpack(data, RUN)


@pytest.mark.parametrize(
    ("kind", "sequence", "agent", "words"),
    [
        (Kind.ANSWER, SEQUENCE, AGENT, "kind QUESTION, expected ANSWER"),
        (Kind.QUESTION, SEQUENCE + 1, AGENT, "exchange 7, expected 8"),
        (Kind.QUESTION, SEQUENCE, 0, "agent 2, expected 0"),
    ],
)
def test_late_or_stray_messages_are_refused(kind: Kind, sequence: int, agent: int, words: str) -> None:
    with pytest.raises(admm.TransportError, match=words):
        wire.expect(wire.unpack(_packed(), RUN), kind, sequence, agent)


@pytest.mark.parametrize(
    "changes",
    [
        {"price": np.array([1.0, np.nan, 0.0])},
        {"price": np.array([1.0, np.inf, 0.0])},
        {"reference": np.array([-np.inf, 0.0, 0.0])},
        {"penalty": np.array([np.nan, 0.0, 0.0])},
        {"penalty": np.array([-1.0, 0.0, 0.0])},
        {"accuracy": 0.0},
        {"accuracy": np.nan},
        {"iteration": 1.5},
        {"iteration": -1},
    ],
)
def test_questions_with_useless_numbers_are_refused(changes: dict) -> None:
    message = wire.questions_message(RUN, SEQUENCE, AGENT, [_question(), _question(**changes)])
    with pytest.raises(admm.TransportError, match="QUESTION"):
        wire.read_questions(message, 3)


@pytest.mark.parametrize("key", ["values", "cost_eur", "bound_eur", "model_error", "solve_seconds"])
def test_answers_with_useless_numbers_are_refused(key: str) -> None:
    plain = {"values": np.zeros(3), key: np.full(3, np.nan) if key == "values" else np.inf}
    with pytest.raises(admm.TransportError, match="not a finite number"):
        wire.read_answers(_answers(admm.Answer(np.zeros(3)), admm.Answer(**plain)), 3)


@pytest.mark.parametrize(
    ("message", "entries", "words"),
    [
        (_answers(admm.Answer(np.zeros(3))), 4, "11 numbers, expected 1 x 12"),
        (_answers(*[admm.Answer(np.zeros(3))] * 2), 4, "22 numbers, expected 2 x 12"),
        (replace(_answers(admm.Answer(np.zeros(3))), items=0), 3, "0 items"),
        (replace(_answers(admm.Answer(np.zeros(3))), items=2), 3, "11 numbers, expected 2 x 11"),
        (_with_number(_answers(admm.Answer(np.zeros(3))), 0, 99), 3, "status: 99, expected a whole number of 0 to 4"),
        (_with_number(_answers(admm.Answer(np.zeros(3))), 0, 0.5), 3, "status: 0.5"),
        (_with_number(_answers(admm.Answer(np.zeros(3))), 1, 8), 3, "flags: 8"),
        (_with_number(_answers(admm.Answer(np.zeros(3), reason="ab")), 2, 1), 3, "reasons of 1 bytes, expected the 2"),
        (_with_number(_answers(admm.Answer(np.zeros(3))), 2, wire.REASON_LIMIT_BYTES + 1), 3, "bytes of reason"),
        (_with_number(_answers(admm.Answer(np.zeros(3), reason="ab")), 2, -2), 3, "bytes of reason: -2"),
    ],
)
def test_answers_that_do_not_add_up_are_refused(message: Message, entries: int, words: str) -> None:
    with pytest.raises(admm.TransportError, match=words):
        wire.read_answers(message, entries)


def test_reasons_are_not_cut_within_a_character() -> None:
    message = _answers(admm.Answer(np.zeros(3), reason="\u00fc"), admm.Answer(np.zeros(3)))
    moved = _with_number(_with_number(message, 2, 1), 13, 1)
    with pytest.raises(admm.TransportError, match="UTF-8"):
        wire.read_answers(moved, 3)


def test_questions_that_do_not_add_up_are_refused() -> None:
    question = wire.unpack(_packed())
    with pytest.raises(admm.TransportError, match="12 numbers, expected 1 x 9"):
        wire.read_questions(question, 2)
    with pytest.raises(admm.TransportError, match="12 numbers, expected 2 x 12"):
        wire.read_questions(wire.unpack(_packed(items=2)), 3)
    with pytest.raises(admm.TransportError, match="flags: 8"):
        wire.read_questions(_with_number(question, 2, 8), 3)
    with pytest.raises(admm.TransportError, match="unknown status 99"):
        wire.read_error(wire.unpack(_packed(Message(Kind.TEXT, RUN), status=99)))


@pytest.mark.parametrize("error", wire.ERRORS)
def test_an_error_comes_back_as_itself(error: type[BaseException]) -> None:
    got = wire.read_error(wire.unpack(wire.pack(wire.error_message(RUN, 1, AGENT, error("bus 7: no load")))))
    assert type(got) is error
    assert str(got) == "bus 7: no load"


def test_of_a_foreign_error_only_the_name_of_its_class_is_told() -> None:
    got = wire.read_error(wire.error_message(RUN, 1, AGENT, ValueError("987654.321 kW")))
    assert type(got) is admm.TielineError
    assert str(got) == "ValueError, see what its own rank says"


def test_of_an_error_with_a_public_text_only_that_is_told() -> None:
    sent = wire.error_message(RUN, 1, AGENT, admm.InputError("capacity is 987654.321 kW", public="not\nvalid"))
    got = wire.read_error(sent)
    assert type(got) is admm.InputError and str(got) == "not\\nvalid"


def test_a_long_reason_is_cut_at_a_whole_character() -> None:
    limit = wire.REASON_LIMIT_BYTES
    sent = wire.error_message(RUN, 1, AGENT, admm.InputError("a" + "\u00fc" * (3 * limit // 4)))
    assert str(wire.read_error(wire.unpack(wire.pack(sent)))) == "a" + "\u00fc" * ((limit - 1) // 2)
    answer = admm.Answer(np.zeros(3), reason="r" * (limit + 1))
    data = wire.pack(_answers(answer, answer))
    assert len(data) == wire.answers_bytes(3, [answer.reason] * 2)
    assert [len(got.reason) for got in wire.read_answers(wire.unpack(data), 3)] == [limit, limit]


def test_any_other_text_is_never_cut() -> None:
    whole = "x" * wire.TEXT_LIMIT_BYTES
    assert wire.unpack(wire.pack(Message(Kind.TEXT, RUN, text=whole))).text == whole
    with pytest.raises(admm.InputError, match="bytes of text"):
        wire.pack(Message(Kind.TEXT, RUN, text=whole + "x"))


def test_the_digest_changes_with_anything_that_the_ranks_must_share() -> None:
    def digest(**changes: object) -> str:
        quantity = admm.Quantity(**{"name": "p_mw", "periods": 2, **changes})
        layout = Layout([admm.Coupling("ab", "a", "b", [quantity])])
        return wire.layout_digest({name: layout.boundary(name) for name in layout.agents})

    changed = [{"name": "q_mvar"}, {"periods": 3}, {"scale": 2.0}, {"price_scale": 2.0}]
    assert len({digest(), *(digest(**change) for change in changed)}) == 5
    assert digest() == digest()
