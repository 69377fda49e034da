"""Subjects in memory: messages between ranks, programs and settings of an embedding, agents that answer nonsense."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import fields, replace
from functools import partial
from random import Random
from types import SimpleNamespace
from typing import Any

import numpy as np
import scipy.sparse as sp

import admm
from admm import wire
from admm.interfaces import Answer, AnswerStatus, Question
from benchmarks.fuzz_checks import Fault, check_valid, ended
from benchmarks.fuzz_inputs import NOT_FINITE, NUMBERS, bad_value, mutated_bytes
from subproblems import QPAgent, QuadraticProgram

ENTRIES, RUN_ID = 4, 77
FEW = {"max_iterations": 3}
SOLVERS = ("osqp", "piqp")


# ---------------------------------------------------------------- messages


class Messages:
    """Messages of every kind, damaged or with mad fields, read as what they say they are."""

    def __init__(self, _: Any = None) -> None:
        array = np.arange(1.0, ENTRIES + 1)
        question, answer = Question(3, array, array, array), Answer(array, reason="ok", cost_eur=1.0, bound_eur=0.5)
        bad = Answer(array, AnswerStatus.INFEASIBLE, "the load cannot be met: é")
        self._messages = (
            wire.questions_message(RUN_ID, 5, 1, [question, replace(question, settle=True)]),
            wire.answers_message(RUN_ID, 5, 1, [answer, bad, answer], ENTRIES),
            wire.error_message(RUN_ID, 5, 1, admm.InputError("the bus is not there")),
            wire.Message(wire.Kind.HELLO, RUN_ID, text="a\nb"),
            wire.Message(wire.Kind.STOP, RUN_ID, flags=1),
        )

    def attempt(self, draw: Random) -> str:
        message = draw.choice(self._messages)
        kind = draw.randrange(3)
        if kind == 0:
            data = mutated_bytes(wire.pack(message), draw)
        elif kind == 1:
            data = _mad_header(wire.pack(message), draw)
        else:
            data = _mad_numbers(message, draw)
        return ended(lambda: _read_message(data, draw))


def _mad_header(data: bytes, draw: Random) -> bytes:
    """Fields of the header replaced; where it says how much follows, the rest is made as long now and then."""
    parts = list(wire.HEADER.unpack_from(data))
    for _ in range(draw.randint(1, 2)):
        at = draw.randrange(1, len(parts))
        most = {"H": 2**16, "I": 2**32, "Q": 2**64, "i": 2**31}["HHQQiHHIII"[at - 1]] - 1
        parts[at] = draw.choice((0, 1, 2, 3, 5, most, most - 1, draw.randrange(most)))
    count, length = parts[-2:]
    size = 8 * count + length
    body = draw.randbytes(size) if size < 4096 and draw.random() < 0.7 else data[wire.HEADER.size :]
    return wire.HEADER.pack(*parts) + body


def _mad_numbers(message: wire.Message, draw: Random) -> bytes:
    numbers = message.numbers.copy()
    for _ in range(draw.randint(1, 3) if numbers.size else 0):
        values = (*NOT_FINITE, -1.0, 0.0, 0.5, 3.0, 1e300, -1e300, 2.0**53, 5e-324)
        numbers[draw.randrange(min(numbers.size, draw.choice((8, 100))))] = draw.choice(values)
    sizes = (message.items, 0, 1, 2, 3, 2**32 - 1)
    return wire.pack(replace(message, numbers=numbers, items=draw.choice(sizes)))


def _read_message(data: bytes, draw: Random) -> None:
    message = wire.unpack(data, draw.choice((None, RUN_ID)))
    if wire.pack(message) != data:
        raise Fault("a message that was taken is not the one that its bytes say")
    if message.kind is wire.Kind.QUESTION:
        for question in wire.read_questions(message, ENTRIES):
            _check_numbers(question.price, question.reference, question.accuracy)
    elif message.kind is wire.Kind.ANSWER:
        for answer in wire.read_answers(message, ENTRIES):
            _check_numbers(answer.values, answer.model_error, answer.solve_seconds, float(answer.inner_iterations))
    elif message.kind is wire.Kind.TEXT:
        error = wire.read_error(message)
        if not isinstance(error, admm.TielineError | KeyboardInterrupt):
            raise Fault(f"a TEXT was read as {error!r}")
    else:
        wire.expect(message, message.kind, draw.choice((0, 5)))


def _check_numbers(*values: Any) -> None:
    if not all(np.isfinite(value).all() for value in values):
        raise Fault("a number that is not finite was taken from a message")


# ---------------------------------------------------------------- programs, couplings, settings


def program_parts(periods: int = 2) -> dict[str, Any]:
    """The keywords of a good program: x^2 - 2 x for every period, at most 3 each and 5 in all."""
    eye = sp.identity(periods, format="csc")
    return {
        "P": 2.0 * eye,
        "q": np.full(periods, -2.0),
        "A": sp.csc_matrix(sp.vstack([eye, np.ones((1, periods))])),
        "l": np.full(periods + 1, -np.inf),
        "u": np.r_[np.full(periods, 3.0), 5.0],
        "boundary": {("hub-dso", "p_mw"): np.arange(periods)},
        "constant": 0.0,
        "variable_scale": np.ones(periods),
        "row_scale": np.ones(periods + 1),
        "name": "hub",
    }


def bad_part(value: Any, draw: Random) -> Any:
    """Something else in the place of a good part: other numbers, another shape, another type."""
    change = draw.randrange(6)
    if change == 0:
        return bad_value(draw)
    if change == 1:
        odd = (None, lambda: 1, object(), 1j, np.float32(2), np.array([1, 2]), b"x", ("p_mw",), {1: 2}, range(3), sp)
        return draw.choice(odd)
    if sp.issparse(value):
        return _bad_matrix(value, draw)
    if isinstance(value, np.ndarray):
        return _bad_array(value, draw)
    if isinstance(value, dict):
        return _bad_mapping(value, draw)
    return draw.choice((*NUMBERS, *NOT_FINITE))


def _bad_array(value: np.ndarray, draw: Random) -> Any:
    array = value.astype(float)
    array.flat[draw.randrange(max(1, array.size))] = float(draw.choice((*NOT_FINITE, 1e300, -1e300, 1e-300, -1.0, 7.0)))
    kinds: tuple[Callable[[], Any], ...] = (
        lambda: array,
        lambda: array,
        lambda: array[:-1],
        lambda: array[:, None],
        lambda: np.r_[array, array],
        lambda: array.astype("c16"),
        lambda: array.astype(str),
        lambda: value.astype(object),
        lambda: np.array([None] * value.size),
        lambda: array.tolist(),
        lambda: [array.tolist(), 1],
        lambda: np.empty(0),
        lambda: value - 10**6,
        lambda: np.ma.masked_array(array, mask=True),
    )
    with np.errstate(all="ignore"):
        return draw.choice(kinds)()


def _bad_matrix(value: sp.csc_matrix, draw: Random) -> Any:
    matrix = value.copy().astype(float)
    matrix.data[draw.randrange(matrix.data.size)] = float(draw.choice((*NOT_FINITE, 1e300, -1e300, 1e-300, -1.0, 7.0)))
    kinds: tuple[Callable[[], Any], ...] = (
        lambda: matrix,
        lambda: matrix,
        lambda: matrix[:, :-1],
        lambda: matrix[:-1],
        lambda: matrix.toarray(),
        lambda: matrix.toarray().tolist(),
        lambda: matrix.astype("c16"),
        lambda: sp.coo_matrix(matrix),
        lambda: sp.csc_matrix((0, matrix.shape[1])),
        lambda: _broken_indices(matrix, draw),
        lambda: matrix.T,
        lambda: -matrix,
    )
    return draw.choice(kinds)()


def _broken_indices(matrix: sp.csc_matrix, draw: Random) -> sp.csc_matrix:
    """Index arrays that no constructor has checked."""
    which = matrix.indices if draw.random() < 0.6 else matrix.indptr
    which[draw.randrange(which.size)] = draw.choice((-1, 99, 2**31 - 1))
    return matrix


def _bad_mapping(value: dict[Any, Any], draw: Random) -> Any:
    keys = (("hub-dso",), "hub-dso", ("hub-dso", "q_mvar"), ("other", "p_mw"), (1, 2), None)
    positions = (np.array([-1, 0]), np.array([0, 0]), np.array([0, 10**9]), np.array([0.0, 1.0]), [], "01", None, 3)
    key = draw.choice((*value, *value, *keys))
    return {key: draw.choice((*value.values(), *positions)), **(value if draw.random() < 0.3 else {})}


class Programs:
    """`QuadraticProgram`, `Coupling`, `Quantity` and `Settings` with parts that are wrong, and a short run of them."""

    def __init__(self, _: Any = None) -> None:
        self._settings = [field.name for field in fields(admm.Settings)]
        good = {"hub": program_parts(), "dso": program_parts()}
        quantity, coupling = {"name": "p_mw", "periods": 2}, {"name": "hub-dso", "lower": "hub", "upper": "dso"}
        for solver in SOLVERS:
            check_valid([ended(partial(_solve, good, quantity, coupling, dict(FEW), solver))])

    def attempt(self, draw: Random) -> str:
        parts = {name: program_parts() for name in ("hub", "dso")}
        quantity: dict[str, Any] = {"name": "p_mw", "periods": 2, "unit": "MW", "scale": 1.0, "price_scale": 50.0}
        coupling: dict[str, Any] = {"name": "hub-dso", "lower": "hub", "upper": "dso"}
        settings: dict[str, Any] = dict(FEW)
        left = list(parts["hub"])
        for _ in range(draw.randint(1, 2)):
            kind = draw.randrange(7)
            if kind <= 3:
                key = left.pop(draw.randrange(len(left)))
                parts["hub"][key] = bad_part(parts["hub"][key], draw)
            elif kind == 4:
                key = draw.choice(list(quantity))
                quantity[key] = bad_part(quantity[key], draw)
            elif kind == 5:
                coupling[draw.choice(list(coupling))] = bad_part("x", draw)
            else:
                key, value = draw.choice(self._settings), self._bad_setting(draw)
                if not (key == "callback" and callable(value)):  # what that raises is the user's own
                    settings[key] = value
        return ended(lambda: _solve(parts, quantity, coupling, settings, draw.choice(SOLVERS)))

    def _bad_setting(self, draw: Random) -> Any:
        by_name = {"hub-dso": {"p_mw": bad_part(np.ones(2), draw)}}
        words = ("classical:1e300", "classical:-1", "adaptive:x", "anderson:0", "relaxation:nan", "memory", "certified")
        return draw.choice((by_name, by_name, {"hub-dso": bad_value(draw)}, bad_part(1.0, draw), draw.choice(words)))


def _solve(
    parts: dict[str, Any], quantity: dict[str, Any], coupling: dict[str, Any], settings: dict[str, Any], solver: str
) -> None:
    agents = {name: QPAgent(QuadraticProgram(**part), solver=solver) for name, part in parts.items()}
    couplings = [admm.Coupling(**coupling, quantities=[admm.Quantity(**quantity)])]
    if settings["max_iterations"] is not FEW["max_iterations"]:
        settings["time_limit_seconds"] = 0.5
    admm.solve(agents, couplings, admm.Settings(**settings), admm.InProcessTransport(threads=1))


# ---------------------------------------------------------------- agents that answer nonsense


class OwnError(Exception):
    """What an agent of the user's raises by itself."""


class Nonsense:
    """A good agent until its `turn`-th call; then what `spoil` makes of the good answer."""

    def __init__(self, turn: int, spoil: Callable[[Answer], Any], where: str = "answer") -> None:
        self._good = QPAgent(QuadraticProgram(**program_parts()))
        self._left, self._spoil, self._where = turn, spoil, where

    def prepare(self, boundary: admm.AgentBoundary) -> None:
        self._good.prepare(boundary)
        if self._where == "prepare":
            self._spoil(Answer(np.zeros(2)))

    def answer(self, question: Question) -> Any:
        answer, self._left = self._good.answer(question), self._left - 1
        return self._spoil(answer) if self._left == 0 and self._where == "answer" else answer

    def solution(self) -> Any:
        return self._spoil(Answer(np.zeros(2))) if self._where == "solution" else self._good.solution()


class Agents:
    """A run in which one agent answers nonsense, or raises."""

    def __init__(self, _: Any = None) -> None:
        self._settings = ({"scheme": "two-block"}, {"scheme": "certified", "lead": ("dso",)}, {"scheme": "memory"})

    def attempt(self, draw: Random) -> str:
        where = draw.choice(("answer",) * 6 + ("prepare", "solution"))
        odd = Nonsense(draw.randint(1, 4), _nonsense(draw), where)
        agents: dict[str, Any] = {"hub": odd, "dso": QPAgent(QuadraticProgram(**program_parts()))}
        if draw.random() < 0.05:
            agents["hub"] = draw.choice((None, "hub", SimpleNamespace(answer=1), Nonsense, lambda: None))
        settings = admm.Settings(max_iterations=6, **draw.choice(self._settings))
        couplings = [admm.Coupling("hub-dso", "hub", "dso", [admm.Quantity("p_mw", 2)])]
        threads = draw.choice((1, 1, 2))
        try:
            return ended(
                lambda: _check_result(admm.solve(agents, couplings, settings, admm.InProcessTransport(threads)))
            )
        except OwnError:
            return "the agent's own error"


def _check_result(result: admm.Result | None) -> None:
    found = [
        array for of in result.boundary.values() for one in of.values() for array in (one.lower, one.upper, one.price)
    ]
    if not all(array.shape == (2,) and np.isfinite(array).all() for array in found):
        raise Fault("the result has a number that is not finite")


def _nonsense(draw: Random) -> Callable[[Answer], Any]:
    """What becomes of a good answer."""
    kind = draw.randrange(4)
    if kind == 0:
        other = bad_part(np.ones(2), draw)
        return lambda answer: other
    if kind == 1:
        values = bad_part(np.ones(2), draw)
        return lambda answer: replace(answer, values=values)
    if kind == 2:
        error = draw.choice((OwnError("no"), OwnError(), admm.SolverError("a\nb"), admm.InfeasibleError("none")))
        return lambda answer: _raise(error)
    changes = {draw.choice(ANSWER_KEYS): _bad_scalar(draw) for _ in range(draw.randint(1, 2))}
    return lambda answer: replace(answer, **changes)


ANSWER_KEYS = ("status", "reason", "cost_eur", "bound_eur", "model_error", "solve_seconds", "inner_iterations")


def _bad_scalar(draw: Random) -> Any:
    odd = (*AnswerStatus, 7, -1, math.nan, None, "x", "a\nb", np.ones(2), np.array(3.0), np.nan, 10**400, True, 1j)
    return draw.choice((draw.choice(odd), bad_value(draw)))


def _raise(error: Exception) -> Any:
    raise error
