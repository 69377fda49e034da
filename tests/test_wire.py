"""Messages: what is packed comes back the same, and nothing else is accepted."""

from __future__ import annotations

import struct

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
    data = bytearray(wire.pack(message or wire.question_message(RUN, SEQUENCE, AGENT, _question())))
    names = ("magic", "version", "kind", "run_id", "sequence", "agent", "status", "flags", "count", "length")
    values = dict(zip(names, HEADER.unpack_from(data), strict=True))
    HEADER.pack_into(data, 0, *{**values, **fields}.values())
    return bytes(data)


@given(st.integers(0, 10**6), ARRAY, ARRAY, PENALTY, st.floats(1e-12, 1.0), st.booleans())
def test_a_question_comes_back_to_the_last_bit(iteration, price, reference, penalty, accuracy, settle) -> None:
    asked = admm.Question(iteration, price, reference, penalty, accuracy, settle)
    got = wire.read_question(wire.unpack(wire.pack(wire.question_message(RUN, SEQUENCE, AGENT, asked)), RUN), 3)
    assert (got.iteration, got.accuracy, got.settle) == (iteration, accuracy, settle)
    for key in ("price", "reference", "penalty"):
        assert getattr(got, key).tobytes() == getattr(asked, key).astype("<f8").tobytes()


@given(ARRAY, st.sampled_from(admm.AnswerStatus), st.text(max_size=50), st.none() | FINITE, st.none() | FINITE)
def test_an_answer_comes_back_to_the_last_bit(values, status, reason, cost, bound) -> None:
    given_answer = admm.Answer(values, status, reason, cost, bound, 0.25, 1.5, 40)
    message = wire.answer_message(RUN, SEQUENCE, AGENT, given_answer, 3)
    data = wire.pack(message)
    got = wire.read_answer(wire.unpack(data, RUN), 3)
    assert (got.status, got.reason, got.cost_eur, got.bound_eur) == (status, reason, cost, bound)
    assert (got.model_error, got.solve_seconds, got.inner_iterations) == (0.25, 1.5, 40)
    assert np.array_equal(got.values, values if status.usable else np.zeros(3))
    assert len(data) == wire.answer_bytes(3, reason)


def test_the_format_is_fixed_and_holds_no_pickle() -> None:
    """Byte by byte as documented: 40 bytes of header, then two scalars and three arrays."""
    data = wire.pack(wire.question_message(RUN, SEQUENCE, AGENT, _question(settle=True)))
    header = struct.pack("<4sHHQQiHHII", b"TIEL", 1, 2, RUN, SEQUENCE, AGENT, 0, 1, 11, 0)
    numbers = struct.pack("<11d", 4, 1e-3, 1, -2, 0.5, 0, 3, 4, 1, 0, float("inf"))
    assert data == header + numbers
    assert len(data) == wire.question_bytes(3) == 128


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (b"", "0 bytes"),
        (_packed()[:39], "39 bytes"),
        (_packed()[:-1], "promises"),
        (_packed() + b"\0", "promises"),
        (_packed(magic=b"HTTP"), "starts with b'HTTP'"),
        (_packed(version=2), "wire version 2"),
        (_packed(kind=9), "unknown kind 9"),
        (_packed(run_id=5), "another run"),
        (_packed(count=12), "promises 12 numbers"),
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
    message = wire.question_message(RUN, SEQUENCE, AGENT, _question(**changes))
    with pytest.raises(admm.TransportError, match="QUESTION"):
        wire.read_question(message, 3)


@pytest.mark.parametrize("key", ["values", "cost_eur", "bound_eur", "model_error", "solve_seconds"])
def test_answers_with_useless_numbers_are_refused(key: str) -> None:
    plain = {"values": np.zeros(3), key: np.full(3, np.nan) if key == "values" else np.inf}
    with pytest.raises(admm.TransportError, match="not a finite number"):
        wire.read_answer(wire.answer_message(RUN, SEQUENCE, AGENT, admm.Answer(**plain), 3), 3)


def test_a_wrong_number_of_entries_or_an_unknown_status_is_refused() -> None:
    answer = wire.answer_message(RUN, SEQUENCE, AGENT, admm.Answer(np.zeros(3)), 3)
    with pytest.raises(admm.TransportError, match="8 numbers, expected 9"):
        wire.read_answer(answer, 4)
    with pytest.raises(admm.TransportError, match="11 numbers, expected 8"):
        wire.read_question(wire.unpack(_packed()), 2)
    with pytest.raises(admm.TransportError, match="unknown status 99"):
        wire.read_answer(wire.unpack(_packed(answer, status=99)), 3)
    with pytest.raises(admm.TransportError, match="unknown status 99"):
        wire.read_error(wire.unpack(_packed(Message(Kind.TEXT, RUN), status=99)))


@pytest.mark.parametrize("error", wire.ERRORS)
def test_an_error_comes_back_as_itself(error: type[BaseException]) -> None:
    got = wire.read_error(wire.unpack(wire.pack(wire.error_message(RUN, 1, AGENT, error("bus 7: no load")))))
    assert type(got) is error
    assert str(got) == "bus 7: no load"


def test_a_foreign_error_comes_back_with_the_name_of_its_class() -> None:
    got = wire.read_error(wire.error_message(RUN, 1, AGENT, ZeroDivisionError("by zero")))
    assert type(got) is admm.TielineError
    assert str(got) == "ZeroDivisionError: by zero"


def test_a_long_reason_is_cut_at_a_whole_character() -> None:
    limit = wire.REASON_LIMIT_BYTES
    sent = wire.error_message(RUN, 1, AGENT, admm.InputError("a" + "\u00fc" * limit))
    assert str(wire.read_error(wire.unpack(wire.pack(sent)))) == "a" + "\u00fc" * ((limit - 1) // 2)
    answer = admm.Answer(np.zeros(3), reason="r" * (limit + 1))
    assert len(wire.pack(wire.answer_message(RUN, 1, AGENT, answer, 3))) == wire.answer_bytes(3, answer.reason)


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
