"""Masked sums: masks cancel to the last bit, hide everything else, and the run ends where one without them does."""

from __future__ import annotations

import json
import struct
import sys
from pathlib import Path

import numpy as np
import pytest

import admm
from admm.couplings import Layout
from admm.privacy import MaskedTransport, Members
from admm.privacy.masks import LOW, MODULUS_BITS, STEP, Masks, from_fixed, to_fixed
from admm.transcript import Transcript
from admm.wire import Message
from tests.sharing import COUPLINGS, GROUP, GROUPS, NAMES, member, numbers, solve_shared, supplier
from tests.small_problems import star

PROGRAM = str(Path(__file__).with_name("masked_run.py"))
NEAR = 1e-5
DRAWS = 3000
STANDARD_ERRORS = 5.0
RANKS = (2, 3)
"""Rank 0 has the supplier only: all members on rank 1, and on ranks 1 and 2."""


def met(names: tuple[str, ...]) -> dict[str, Masks]:
    masks = {name: Masks(name) for name in names}
    for each in masks.values():
        each.meet({name: other.public for name, other in masks.items()})
    return masks


# ---------------------------------------------------------------- masks


@pytest.mark.parametrize("count", [2, 3, 7])
def test_masks_cancel_to_the_last_bit(count: int) -> None:
    random, step = np.random.default_rng(count), np.full(5, 2.0**-20)
    values = random.normal(size=(count, 5)) * [1.0, 1e3, 1e-3, 1e6, 0.0]
    masks = met(tuple(f"m{i}" for i in range(count)))
    for exchange in (1, 2, 9):
        fixed = [to_fixed(v, step, count) for v in values]
        told = [m.mask(f, exchange) for m, f in zip(masks.values(), fixed, strict=True)]
        total = sum(told[1:], told[0]) & LOW
        assert np.array_equal(from_fixed(total, step), np.rint(values / step).sum(axis=0) * step)
        assert all(np.array_equal(t.astype(float).astype(np.uint64), t) for t in told), "a float64 holds each"
        assert not any(np.array_equal(t, f) for t, f in zip(told, fixed, strict=True))


def test_a_masked_number_is_uniform_whatever_the_value() -> None:
    """Of one member with one value, over many exchanges; of two members, each is noise by itself."""
    masks, zero = met(("a", "b")), np.zeros(1, dtype=np.uint64)
    told = np.array([masks["a"].mask(zero + np.uint64(5), i)[0] for i in range(1, DRAWS + 1)]) / 2.0**MODULUS_BITS
    assert abs(told.mean() - 0.5) < STANDARD_ERRORS / np.sqrt(12 * DRAWS)
    counts = np.bincount((told * 16).astype(int), minlength=16)
    assert ((counts - DRAWS / 16) ** 2 / (DRAWS / 16)).sum() < 50, "chi squared with 15 degrees of freedom"
    assert abs(np.corrcoef(told[1:], told[:-1])[0, 1]) < STANDARD_ERRORS / np.sqrt(DRAWS)
    assert len(set(told)) == DRAWS


def test_keys_are_new_in_every_run_and_known_to_two_only() -> None:
    one, other = met(("a", "b", "c")), met(("a", "b", "c"))
    assert one["a"].public != other["a"].public
    zero = np.zeros(4, dtype=np.uint64)
    assert not np.array_equal(one["a"].mask(zero, 1), other["a"].mask(zero, 1))
    assert len(set(one["a"]._keys.values()) | set(one["b"]._agree().values()) | set(one["c"]._agree().values())) == 3


def test_a_mask_is_used_once() -> None:
    masks, zero = met(("a", "b")), np.zeros(1, dtype=np.uint64)
    masks["a"].mask(zero, 4)
    for exchange in (4, 3):
        with pytest.raises(admm.SolverError, match="used twice hides nothing"):
            masks["a"].mask(zero, exchange)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda keys: {**keys, "a": keys["b"]}, "not those of the members"),
        (lambda keys: {**keys, "c": keys["b"]}, "not those of the members"),
        (lambda keys: {**keys, "b": b"short"}, "the key of 'b' is none"),
        (lambda keys: {**keys, "b": bytes(32)}, "the key of 'b' is none"),
    ],
)
def test_keys_that_are_none_are_refused(change, words: str) -> None:
    masks = {name: Masks(name) for name in NAMES}
    masks["a"].meet(change({name: each.public for name, each in masks.items()}))
    with pytest.raises(admm.SolverError, match=words):
        masks["a"].mask(np.zeros(1, dtype=np.uint64), 1)


def test_a_value_that_does_not_fit_is_refused() -> None:
    with pytest.raises(admm.SolverError, match="entry 1 is 1e\\+09, too large for a mask"):
        to_fixed(np.array([1.0, 1e9]), np.full(2, STEP), members=2)


def test_without_the_package_it_says_what_to_install(monkeypatch) -> None:
    monkeypatch.setitem(sys.modules, "cryptography.hazmat.primitives.asymmetric.x25519", None)
    with pytest.raises(admm.InputError, match=r"pip install 'tieline\[privacy\]'"):
        Masks("a")


# ---------------------------------------------------------------- groups


@pytest.fixture(scope="module")
def alone() -> tuple[admm.Result, Members]:
    return solve_shared(admm.InProcessTransport(), {name: member(name) for name in NAMES})


def check_optimum(found: list) -> None:
    """The star's optimum; the sum of what its consumers take, and the price."""
    status, _, objective, lower, upper, price = found
    known = star()
    total = sum(float(value[0]) for value in known.value.values())
    assert status == "CONVERGED"
    assert objective == pytest.approx(known.objective, rel=NEAR)
    assert [lower, upper] == pytest.approx([total, total], rel=NEAR)
    assert price == pytest.approx(known.price["a-s"][0], rel=NEAR)


def test_a_group_finds_the_optimum_and_so_does_each_member(alone) -> None:
    """Members end at their own optima, not only at the right sum: no run stops while they still shift."""
    result, here = alone
    check_optimum(numbers(result))
    for name, values in here.solution().items():
        assert values["load.p_mw"] == pytest.approx(star().value[f"{name}-s"], abs=1e-3)
    assert result.solutions[GROUP].keys() == set(NAMES)
    assert result.history[-1].model_error <= 1.0 < max(progress.model_error for progress in result.history)


@pytest.mark.parametrize(
    "changes",
    [{"penalty": "classical:1", "acceleration": "none"}, {"penalty": "classical:0.1"}, {"relay_all": True}],
)
def test_whatever_the_penalty_and_the_acceleration(changes: dict) -> None:
    result, _ = solve_shared(admm.InProcessTransport(), {name: member(name) for name in NAMES}, **changes)
    check_optimum(numbers(result))


def test_members_are_asked_as_sharing_admm_says() -> None:
    """Boyd et al. (2011), section 7.3, by hand: penalty N r, reference y_m + (Z - Y) / N, the same price for all."""

    class Follows(Remembers):
        """Answers its reference and 0.5 more, and keeps what it was asked."""

        def answer(self, question: admm.Question) -> admm.Answer:
            self.answers.append(question)
            return admm.Answer(question.reference + 0.5, cost_eur=2.0)

    members = Members({name: Follows(member(name)) for name in NAMES})
    transport = MaskedTransport(admm.InProcessTransport(threads=1), GROUPS)
    transport.start({GROUP: members, "s": supplier()}, {n: Layout(COUPLINGS).boundary(n) for n in (GROUP, "s")})
    answers = []
    for iteration, other in ((1, 6.0), (2, 0.0)):
        question = admm.Question(iteration, np.array([7.0]), np.array([other]), np.array([0.1]))
        answers += transport.ask({GROUP: [question]})[GROUP]
    transport.finish(has_result=False)
    for each in members.agents.values():
        first, second = each.agent.answers
        assert [first.price[0], first.penalty[0], first.reference[0]] == pytest.approx([7.0, 0.3, 2.0])
        assert second.reference[0] == pytest.approx(2.5 + (0.0 - 7.5) / 3)  # its 2.5, Y = 7.5
    assert [a.values[0] for a in answers] == pytest.approx([7.5, 1.5]) and answers[0].cost_eur == pytest.approx(6.0)
    assert answers[0].model_error == pytest.approx(0.3 * 0.5 / 4.0 / 1e-3, rel=1e-3)


@pytest.mark.parametrize("ranks", RANKS)
def test_over_ranks_the_numbers_are_the_same_to_the_last_bit_and_what_crosses_is_masked(
    mpirun, tmp_path: Path, alone, ranks: int
) -> None:
    done = mpirun(ranks, PROGRAM, str(tmp_path))
    assert done.returncode == 0, done.stderr
    found = [json.loads((tmp_path / f"found-{rank}.json").read_text()) for rank in range(ranks)]
    assert found[0]["result"] == numbers(alone[0])
    assert found[0]["solution"] == {} and all(own["result"] is None for own in found[1:])
    solutions = {name: value for own in found[1:] for name, value in own["solution"].items()}
    assert solutions.keys() == set(NAMES)
    assert all(own["publics"] == found[1]["publics"] and len(own["publics"]) == 3 for own in found[1:])
    sent = "".join((tmp_path / f"sent-{rank}.hex").read_text() for rank in range(ranks))
    assert not any(struct.pack("<d", value).hex() in sent for value in solutions.values())


class Kept(Transcript):
    """Also keeps what is sent."""

    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        self.sent: list[tuple[str | None, bytes]] = []

    def record(self, message: Message, data: bytes, target: int, agent: str | None) -> None:
        super().record(message, data, target, agent)
        self.sent.append((agent, data))


class Remembers:
    """Keeps all its answers."""

    def __init__(self, agent: admm.Agent) -> None:
        self.agent, self.answers = agent, []
        self.prepare, self.solution = agent.prepare, agent.solution

    def answer(self, question: admm.Question) -> admm.Answer:
        answer = self.agent.answer(question)
        self.answers.append(answer)
        return answer


def test_no_member_s_value_or_cost_leaves_in_any_exchange(tmp_path: Path) -> None:
    """Neither as it is nor as a fixed-point number; what is looked for is there in what the supplier tells."""
    members, transcript = {name: Remembers(member(name)) for name in NAMES}, Kept(tmp_path)
    result, _ = solve_shared(admm.InProcessTransport(transcript=transcript), members)
    told = b"".join(data for agent, data in transcript.sent if agent != "s")
    total = result.boundary["homes-s"]["p_mw"].upper[0]
    assert struct.pack("<d", total) in b"".join(data for agent, data in transcript.sent if agent == "s")
    secrets = [x for m in members.values() for a in m.answers for x in (*a.values, a.cost_eur)]
    assert len(secrets) == 2 * 3 * result.iterations > 60
    for secret in secrets:
        for step in (STEP * 1.0, STEP * 4.0):  # of values (scale 3 for three), of costs (times price scale)
            fixed = float(to_fixed(np.array([secret]), np.array([step]), 3)[0])
            assert struct.pack("<d", secret) not in told and struct.pack("<d", fixed) not in told
    assert len({agent for agent, _ in transcript.sent}) == 4 and "homes/a" in {agent for agent, _ in transcript.sent}
    answers = [data for agent, data in transcript.sent if agent == "homes/a" and data[6] == 3]
    assert len({data[-40:] for data in answers}) == result.iterations, "a value that stays is masked anew each time"


class NoAnswer(Remembers):
    def answer(self, question: admm.Question) -> admm.Answer:
        return admm.Answer(np.empty(0), admm.AnswerStatus.INFEASIBLE, "battery.energy (period 3)")


def test_a_member_without_an_answer_ends_the_run_and_keeps_its_reason() -> None:
    members = Members({**{name: member(name) for name in "bc"}, "a": NoAnswer(member("a"))})
    transport = MaskedTransport(admm.InProcessTransport(), GROUPS)
    with pytest.raises(admm.InfeasibleError, match="member 'a' has no answer, and keeps the reason to itself"):
        admm.solve({GROUP: members, "s": supplier()}, COUPLINGS, admm.Settings(), transport)
    assert members.reasons == {"a": "battery.energy (period 3)"}


def test_numbers_that_are_not_masked_are_refused() -> None:
    """A negative, a fractional and a too large number of a member that does not mask."""
    for number in (-1.0, 0.5, 2.0**53):
        members = Members({name: member(name) for name in NAMES})
        members.agents["b"].answer = lambda question, number=number: admm.Answer(np.full(5, number))
        with pytest.raises(admm.TransportError, match="member 'b' told numbers that are not masked"):
            transport = MaskedTransport(admm.InProcessTransport(), GROUPS)
            admm.solve({GROUP: members, "s": supplier()}, COUPLINGS, admm.Settings(), transport)


class Silent(Remembers):
    def answer(self, question: admm.Question) -> admm.Answer:
        found = super().answer(question)
        return admm.Answer(found.values, admm.AnswerStatus.INACCURATE)


def test_a_cost_that_one_member_keeps_is_not_told_and_an_inexact_answer_counts() -> None:
    members = {**{name: member(name) for name in "bc"}, "a": Silent(member("a"))}
    result, _ = solve_shared(admm.InProcessTransport(), members, max_iterations=60)
    assert result.objective is None and result.status is admm.Status.MAX_ITERATIONS


@pytest.mark.parametrize(
    ("agents", "groups", "words"),
    [
        ({"a": member, "b": member}, GROUPS, "agent 'homes/c' is missing|'homes/c'"),
        ({"a": member, "b": member, "c": member, "d": lambda _: member("a")}, GROUPS, "'d' is none of its members"),
        ({"a": member}, {GROUP: ("a",)}, "expected at least two different names"),
        ({"a": member, "b": member}, {"homs": ("a", "b")}, "group 'homs': no coupling names it"),
    ],
)
def test_groups_that_do_not_fit_are_bad_input(agents: dict, groups: dict, words: str) -> None:
    with pytest.raises(admm.InputError, match=words):
        transport = MaskedTransport(admm.InProcessTransport(), groups)
        members = Members({name: make(name) for name, make in agents.items()})
        admm.solve({GROUP: members, "s": supplier()}, COUPLINGS, admm.Settings(), transport)


def test_members_need_their_transport_and_a_group_the_default_scheme() -> None:
    members = Members({name: member(name) for name in NAMES})
    with pytest.raises(admm.InputError, match="need a MaskedTransport"):
        admm.solve({GROUP: members, "s": supplier()}, COUPLINGS)
    for scheme in ("memory", "certified"):
        with pytest.raises(admm.InputError, match="use the scheme two-block"):
            solve_shared(admm.InProcessTransport(), {name: member(name) for name in NAMES}, scheme=scheme, lead=("s",))
    with pytest.raises(admm.InputError, match="staleness and groups with masks exclude each other"):
        solve_shared(admm.InProcessTransport(), {name: member(name) for name in NAMES}, staleness=1)
    with pytest.raises(admm.InputError, match="expected admm.privacy.Members"):
        transport = MaskedTransport(admm.InProcessTransport(), GROUPS)
        admm.solve({GROUP: member("a"), "s": supplier()}, COUPLINGS, admm.Settings(), transport)
