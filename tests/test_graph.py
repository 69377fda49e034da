"""The two sides of the coupling graph: every coupling joins one agent of each, whatever the graph."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import admm
from admm.couplings import Layout
from admm.graph import split
from admm.relay import RelayAgent
from tests.small_problems import coupling


def _graph(*ends: str) -> list[admm.Coupling]:
    """Couplings from pairs of one-letter agents, such as "ab"."""
    return [coupling(f"{i}:{pair}", pair[0], pair[1]) for i, pair in enumerate(ends)]


def _check_two_sides(couplings: list[admm.Coupling], relay_all: bool = False) -> None:
    sides = split(couplings, relay_all)
    first, second = set(sides.first), set(sides.second)
    agents = {name for c in couplings for name in (c.lower, c.upper)}
    assert first | second == agents | set(sides.relays)
    assert not first & second
    assert all((c.lower in first) != (c.upper in first) for c in sides.couplings)


def test_a_star_needs_no_relay() -> None:
    sides = split(_graph("as", "bs", "cs"))
    assert (sides.first, sides.second, sides.relays) == (("a", "b", "c"), ("s",), {})


def test_three_levels_put_the_outer_ones_on_one_side() -> None:
    sides = split(_graph("ad", "bd", "ce", "dt", "et"))
    assert set(sides.first) == {"a", "b", "c", "t"}
    assert set(sides.second) == {"d", "e"}


def test_the_side_of_the_first_couplings_lower_agent_answers_first() -> None:
    assert split(_graph("ab")).first == ("a",)
    assert split(_graph("ba")).first == ("b",)
    assert set(split(_graph("cd", "dt", "et", "ft")).first) == {"c", "t"}  # fewer, but named first


@pytest.mark.parametrize(
    ("ends", "relays"),
    [(("ab", "bc", "ca"), 1), (("ab", "bc", "cd", "da"), 0), (("ab", "bc", "cd", "de", "ea"), 1), (("ab", "ba"), 0)],
)
def test_an_odd_cycle_is_cut_by_one_relay(ends: tuple[str, ...], relays: int) -> None:
    assert len(split(_graph(*ends)).relays) == relays


def test_relays_answer_second_and_carry_both_halves_of_their_coupling() -> None:
    sides = split(_graph("ab", "bc", "ca"))
    (relay,) = sides.relays
    halves = [c for c in sides.couplings if relay in (c.lower, c.upper)]
    original = sides.relays[relay]
    assert relay in sides.second
    assert [(c.lower, c.upper) for c in halves] == [(original.lower, relay), (relay, original.upper)]
    assert all(c.quantities == original.quantities for c in halves)


def test_relay_all_puts_every_agent_first_and_every_relay_second() -> None:
    sides = split(_graph("ab", "bc"), relay_all=True)
    assert set(sides.first) == {"a", "b", "c"}
    assert set(sides.second) == set(sides.relays)


TWO_AGENTS = st.lists(st.sampled_from("abcdefg"), min_size=2, max_size=2, unique=True).map("".join)


@settings(deadline=None)
@given(st.lists(TWO_AGENTS, min_size=1, max_size=12))
def test_any_graph_is_split(ends: list[str]) -> None:
    couplings = _graph(*ends)
    _check_two_sides(couplings)
    _check_two_sides(couplings, relay_all=True)


@pytest.mark.parametrize(("name", "lower"), [("a/b", "a"), (".", "a"), ("a-b", "relay:a")])
def test_reserved_names_are_refused(name: str, lower: str) -> None:
    with pytest.raises(admm.InputError, match="reserved|not allowed"):
        split([coupling(name, lower, "b")])


def test_a_relay_minimises_the_penalty_of_both_couplings() -> None:
    """Against the same function on a fine grid of values."""
    relay, question = RelayAgent(), admm.Question(1, np.array([2.0, -5.0]), np.array([1.0, 4.0]), np.array([3.0, 1.0]))
    relay.prepare(Layout(split(_graph("ab"), relay_all=True).couplings).boundary("relay:0:ab"))
    grid = np.linspace(-10.0, 10.0, 20001)[:, None]
    cost = (question.price * grid + 0.5 * question.penalty * (grid - question.reference) ** 2).sum(axis=1)
    answer = relay.answer(question)
    assert answer.values == pytest.approx(np.full(2, grid[np.argmin(cost), 0]), abs=1e-3)
    with pytest.raises(admm.InputError, match="without a penalty"):
        relay.answer(admm.Question(1, np.zeros(2), np.zeros(2), np.zeros(2)))
