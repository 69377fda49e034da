"""Agents are spread by their solve times, side by side."""

from __future__ import annotations

from itertools import product

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import admm
from admm.placement import balance

GRAHAM = 4 / 3


def test_by_hand() -> None:
    """Longest first: 7 to rank 0, 5 and 4 to rank 1, 2 to rank 0 (7 < 9); then 9 stand on both, the lowest wins."""
    weights = {"a": 5.0, "b": 7.0, "c": 2.0, "d": 4.0, "o": 1.0}
    assert balance(weights, (("a", "b", "c", "d"), ("o",)), 2) == {"a": 1, "b": 0, "c": 0, "d": 1, "o": 0}


def test_with_a_rank_for_each_agent_rank_0_only_drives() -> None:
    weights = {"a": 1.0, "b": 2.0, "o": 9.0}
    assert sorted(balance(weights, (("a", "b"), ("o",)), 4).values()) == [1, 2, 3]
    assert sorted(balance(weights, (("a", "b"), ("o",)), 3).values()) == [0, 1, 2]
    assert set(balance(weights, (("a", "b"), ("o",)), 1).values()) == {0}


def test_who_has_to_drive_lives_on_rank_0_and_the_others_around_it() -> None:
    """o stands on rank 0 before anything else does, so a goes to rank 1 (5, no work so far) and so on: 4 to rank 0,
    2 to rank 0 (4 < 5), which has 6 against 5 in the end. With o on either rank, a would be on rank 0."""
    weights, sides = {"a": 5.0, "b": 4.0, "c": 2.0, "o": 1.0}, (("a", "b", "c"), ("o",))
    assert balance(weights, sides, 2) == {"a": 0, "b": 1, "c": 1, "o": 0}
    assert balance(weights, sides, 2, driving=("o",)) == {"a": 1, "b": 0, "c": 0, "o": 0}
    assert balance(weights, sides, 2, driving=("c",)) == {"a": 1, "b": 0, "c": 0, "o": 1}


@pytest.mark.parametrize("ranks", [1, 2, 3, 4, 5])
def test_with_a_rank_for_each_agent_rank_0_owns_who_drives_and_nobody_else(ranks: int) -> None:
    weights, sides = {"a": 5.0, "b": 4.0, "c": 2.0, "o": 1.0}, (("a", "b", "c"), ("o",))
    placement = balance(weights, sides, ranks, driving=("o",))
    assert list(placement) == list("abco") and placement["o"] == 0
    assert sorted(set(placement.values())) == list(range(min(ranks, 4)))
    if ranks == 5:
        assert [name for name, rank in placement.items() if rank == 0] == ["o"]


def test_one_that_drives_but_is_no_agent_is_named() -> None:
    with pytest.raises(admm.InputError, match="'x' has to live on rank 0, but is none of a, o"):
        balance({"a": 1.0, "o": 1.0}, (("a",), ("o",)), 2, driving=("x",))


def test_relays_are_passed_over() -> None:
    assert set(balance({"a": 1.0, "b": 1.0}, (("a", "b"), ("relay:a-b",)), 2)) == {"a", "b"}


def test_ties_do_not_depend_on_the_order_of_the_weights() -> None:
    sides = (("a", "b", "c"), ("o", "p"))
    one = balance({name: 1.0 for name in "abcop"}, sides, 3)
    assert one == balance({name: 1.0 for name in "pocba"}, sides, 3)
    assert list(one) == list("abcop")


@settings(deadline=None)
@given(st.lists(st.floats(0.01, 10.0), min_size=1, max_size=6), st.integers(1, 3))
def test_the_slowest_rank_is_within_a_third_of_the_best_possible(times: list[float], ranks: int) -> None:
    """Against all placements, tried one by one (Graham 1969)."""
    names = [f"a{i}" for i in range(len(times))]
    ranks = min(ranks, len(times))
    placement = balance(dict(zip(names, times, strict=True)), (names, ()), ranks)

    def slowest(owners: tuple[int, ...]) -> float:
        return max(sum(t for t, o in zip(times, owners, strict=True) if o == rank) for rank in range(ranks))

    best = min(slowest(owners) for owners in product(range(ranks), repeat=len(times)))
    assert slowest(tuple(placement[name] for name in names)) <= GRAHAM * best * (1 + 1e-12)


@pytest.mark.parametrize(
    ("weights", "ranks", "words"),
    [
        ({"a": 1.0, "o": 1.0}, 0, "ranks is 0, expected 1 to 3"),
        ({"a": 1.0, "o": 1.0}, 4, "ranks is 4, expected 1 to 3"),
        ({"a": 1.0}, 2, "'o' has no weight"),
        ({"a": 1.0, "o": 0.0}, 2, "'o' has weight 0.0"),
        ({"a": float("nan"), "o": 1.0}, 2, "'a' has weight nan"),
    ],
)
def test_wrong_input_is_named(weights: dict, ranks: int, words: str) -> None:
    with pytest.raises(admm.InputError, match=words):
        balance(weights, (("a",), ("o",)), ranks)
