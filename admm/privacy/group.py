"""Groups that act as one agent: the engine and the other side learn the sum of their members' values and costs only.

The members of a group (behind one node, say) have couplings together, for their sum Y = sum of y_m. To the engine the
group is one agent. Members are asked through the transport, wherever they live, all the same question, and answer
in masks (`admm.privacy.masks`), so what crosses is noise but for the sum. ADMM for sharing (Boyd et al. 2011, section
7.3), with price p, penalty r of the sum and the other side's value Z as the engine asks:

    told to each of N members    p, N r, and the mean deviation d = (Z - Y) / N
    member m                     y_m <- argmin cost_m(y) + p y + N r / 2 |y - (y_m + d)|^2
    told by it, masked           y_m, its cost, whether it tells one, whether the answer is exact, and the square of
                                 N r |y_m - (y_m before + d)| / price scale: what its optimality is off by

It is ADMM on each member with the other side's share of it, y_m + d, kept where the member is: the same convergence,
one exchange an iteration. The last number keeps a run from stopping while members still shift power among
themselves: it is the group's `model_error`, 1 at a root mean square of MEMBER_TOLERANCE.

What is still seen: the sums of values, of costs and of those squares, how many members tell a cost and how many
answered exactly, and that one has no answer (without its reason, which stays in `Members.reasons`). Rank 0 together
with all members but one finds that one. Public keys are passed on by rank 0: it must be honest in that, or members must
compare `Members.publics` by other means; a rank 0 that gives out keys of its own sees everything. A member that is
lost or has no answer ends the run. Groups need the scheme two-block: others ask for answers that one exchange of a
group cannot give; and no staleness: a sum has no members that are late.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Any

import numpy as np

from admm.errors import InputError, TransportError
from admm.interfaces import (
    Agent,
    AgentBoundary,
    Answer,
    AnswerStatus,
    Question,
    Traffic,
    Transport,
    check_answer_fits,
    no_calls,
)
from admm.plausible import check_plausible
from admm.privacy.masks import LOW, STEP, Masks, from_fixed, to_fixed
from admm.transcript import Transcript

NO_SECONDS = 1e-9
"""Told as the time of an answer."""
MEMBER_TOLERANCE = 1e-3
COST, TELLS, EXACT, SHIFT = range(4)
EXTRAS = 4
"""Numbers that a member tells besides its boundary values, in this order behind them."""
SHIFT_STEP = 1e-4 * MEMBER_TOLERANCE**2
"""Of the fixed-point number that a sum of squares is told as: far below what counts."""
MOST_SHIFT = 100.0
"""A member's sum of squares is cut here, far above what counts, so that the sums of thousands fit."""


class Members:
    """The members of a group that live on this rank, passed to `solve` under the group's name: {member: its agent}.

    Needs a MaskedTransport. Each member's program has the group's couplings for its own part of them.
    """

    def __init__(self, agents: Mapping[str, Agent]) -> None:
        self.agents = {name: Masked(name, agent) for name, agent in agents.items()}

    @property
    def publics(self) -> dict[str, str]:
        """Public keys of this run, hexadecimal, of all members: the same on all ranks, or rank 0 has changed them."""
        return {name: key.hex() for member in self.agents.values() for name, key in member.publics.items()}

    @property
    def reasons(self) -> dict[str, str]:
        """Why a member of this rank had no answer, for its owner."""
        return {name: member.reason for name, member in self.agents.items() if member.reason}

    def prepare(self, boundary: AgentBoundary) -> None:
        raise InputError(f"members {', '.join(self.agents)}: need a MaskedTransport; pass solve(transport=...) one")

    def answer(self, question: Question) -> Answer:
        raise InputError(f"members {', '.join(self.agents)}: are asked one by one, through a MaskedTransport")

    def solution(self) -> dict[str, Any]:
        """{member: its schedule}, for their owner."""
        return {name: member.solution() for name, member in self.agents.items()}


class Masked:
    """One member: asks its agent, keeps its latest values, and tells masked numbers."""

    def __init__(self, name: str, agent: Agent) -> None:
        self.name, self.agent, self.reason, self.publics = name, agent, "", {}

    def prepare(self, boundary: AgentBoundary) -> None:
        """boundary: the group's, scaled to a member, and EXTRAS behind it; see `_member_boundary`."""
        n = boundary.size - EXTRAS
        own = AgentBoundary(boundary.keys[:-1], boundary.scale[:n], boundary.price_scale[:n], boundary.sign[:n])
        self.agent.prepare(own)
        self._boundary, self._latest, self.reason = own, np.zeros(n), ""
        self.masks = Masks(self.name)

    def meet(self, publics: Mapping[str, bytes]) -> None:
        """The public keys of all members of the group."""
        self.publics = dict(publics)
        self.masks.meet(publics)

    def answer(self, question: Question) -> Answer:
        n = self._latest.size
        price, deviation, penalty = (a[:n] for a in (question.price, question.reference, question.penalty))
        reference = self._latest + deviation
        exact = question.accuracy, question.settle, question.own_cost, question.beside
        asked = Question(question.iteration, price, reference, penalty, *exact)
        answer = self.agent.answer(asked)
        check_answer_fits(self.name, answer, n)
        check_plausible(self.name, answer, self._boundary)
        if not answer.status.usable:
            self.reason = answer.reason
            return Answer(np.zeros(n + EXTRAS), answer.status, solve_seconds=NO_SECONDS)
        shift = float(np.sum((penalty * (answer.values - reference) / self._boundary.price_scale) ** 2))
        self._latest = np.array(answer.values, dtype=float)
        tells = answer.cost_eur is not None
        exact = answer.status is AnswerStatus.SOLVED
        extras = [answer.cost_eur if tells else 0.0, tells, exact, min(shift, MOST_SHIFT)]
        numbers = to_fixed(np.append(self._latest, extras), *_fixed(self._boundary, len(self.publics)))
        masked = self.masks.mask(numbers, question.iteration)
        return Answer(masked.astype(float), solve_seconds=NO_SECONDS)

    def solution(self) -> Any:
        return self.agent.solution()


class MaskedTransport:
    """A transport with groups: the engine asks a group, `inner` asks its members. groups: {group: names of members}.

    Every rank makes one around its own transport, with the same groups; names of members are public.
    """

    def __init__(self, inner: Transport, groups: Mapping[str, Sequence[str]]) -> None:
        self.inner, self.groups = inner, {group: tuple(members) for group, members in groups.items()}
        for group, members in self.groups.items():
            if len(members) < 2 or len(set(members)) < len(members):
                raise InputError(f"group '{group}': members are {list(members)}, expected at least two different names")

    # ---------------------------------------------------------------- start

    def start(self, agents: Mapping[str, Agent], boundaries: Mapping[str, AgentBoundary]) -> None:
        """Start the members in place of the groups, and pass their public keys on."""
        try:
            mine = {group: self._members(group, agents.get(group), boundaries) for group in self.groups}
        except InputError as error:
            self.inner.refuse(error)
            raise
        asked: dict[str, AgentBoundary] = {}
        for name, boundary in boundaries.items():
            members = self.groups.get(name)
            asked |= {name: boundary} if members is None else _member_boundaries(name, members, boundary)
        owned = {name: agent for name, agent in agents.items() if name not in self.groups}
        owned |= {_full(group, name): member for group, found in mine.items() for name, member in found.items()}
        missing = [name for name in asked if name not in owned]
        if self.ranks == 1 and missing:
            raise InputError(f"agent '{missing[0]}' is missing; agents: {', '.join(owned)}")
        self._boundaries, self._sums = boundaries, {g: np.zeros(boundaries[g].size) for g in self.groups}
        self.inner.start(owned, asked)
        self._introduce(mine)

    def _members(self, group: str, given: Agent | None, boundaries: Mapping[str, AgentBoundary]) -> dict[str, Masked]:
        """The members of a group that live here."""
        if group not in boundaries:
            raise InputError(f"group '{group}': no coupling names it; couplings name {', '.join(boundaries)}")
        if given is None:
            return {}
        if not isinstance(given, Members):
            raise InputError(f"group '{group}': its agent is {type(given).__name__}, expected admm.privacy.Members")
        for name in given.agents:
            if name not in self.groups[group]:
                raise InputError(f"group '{group}': '{name}' is none of its members {', '.join(self.groups[group])}")
        return given.agents

    def _introduce(self, mine: Mapping[str, Mapping[str, Masked]]) -> None:
        """Public keys to rank 0 and from there to everybody."""
        own = {_full(g, name): m.masks.public.hex() for g, found in mine.items() for name, m in found.items()}
        told = [json.loads(text) for text in self.inner.gather_text(json.dumps(own))]
        text = self.inner.share_text(json.dumps({name: key for keys in told for name, key in keys.items()}))
        publics = {name: bytes.fromhex(key) for name, key in json.loads(text).items()}
        for group, found in mine.items():
            everybody = {name: publics.get(_full(group, name), b"") for name in self.groups[group]}
            for member in found.values():
                member.meet(everybody)

    # ---------------------------------------------------------------- exchanges

    def ask(self, questions: Mapping[str, Sequence[Question]]) -> dict[str, list[Answer]]:
        """Groups and others at once."""
        asked: dict[str, Sequence[Question]] = {}
        for name, of_agent in questions.items():
            asked |= self._to_members(name, of_agent) if name in self.groups else {name: of_agent}
        answers = self.inner.ask(asked)
        return {name: self._summed(name, answers) if name in self.groups else answers[name] for name in questions}

    def _to_members(self, group: str, questions: Sequence[Question]) -> dict[str, list[Question]]:
        """The one question that all members of a group get."""
        members, question = self.groups[group], questions[0]
        if len(questions) > 1 or not (np.isfinite(question.penalty) & (question.penalty > 0)).all():
            raise InputError(f"group '{group}': answers one question with finite penalties; use the scheme two-block")
        n = len(members)
        deviation = (question.reference - self._sums[group]) / n
        arrays = (np.append(a, np.zeros(EXTRAS)) for a in (question.price, deviation, n * question.penalty))
        told = question.accuracy, question.settle, question.own_cost, question.beside
        same = Question(question.iteration, *arrays, *told)
        return {_full(group, name): [same] for name in members}

    def _summed(self, group: str, answers: Mapping[str, Sequence[Answer]]) -> list[Answer]:
        """The group's answer from its members'."""
        members, boundary = self.groups[group], self._boundaries[group]
        told = {name: answers[_full(group, name)][0] for name in members}
        for name, answer in told.items():
            check_answer_fits(_full(group, name), answer, boundary.size + EXTRAS)
            if not answer.status.usable:
                words = f"member '{name}' has no answer, and keeps the reason to itself"
                return [Answer(np.zeros(boundary.size), answer.status, words, solve_seconds=NO_SECONDS)]
            if not ((answer.values >= 0) & (answer.values <= LOW) & (answer.values % 1 == 0)).all():
                raise TransportError(
                    f"member '{name}' told numbers that are not masked: is it an admm.privacy.Members?"
                )
        total = sum((answer.values.astype(np.uint64) for answer in told.values()), np.uint64(0)) & LOW
        count = len(members)
        step, _ = _fixed(_member_boundary(boundary, count), count)
        values, extras = np.split(from_fixed(total, step), [boundary.size])
        self._sums[group] = values.copy()
        off_by = np.sqrt(max(0.0, extras[SHIFT]) / (count * boundary.size))
        return [
            Answer(
                values,
                AnswerStatus.SOLVED if round(extras[EXACT]) == count else AnswerStatus.INACCURATE,
                cost_eur=float(extras[COST]) if round(extras[TELLS]) == count else None,
                model_error=float(off_by / MEMBER_TOLERANCE),
                solve_seconds=NO_SECONDS,
            )
        ]

    # ---------------------------------------------------------------- everything else is the inner one's

    @property
    def rank(self) -> int:
        return self.inner.rank

    @property
    def ranks(self) -> int:
        return self.inner.ranks

    @property
    def has_result(self) -> bool:
        return self.inner.has_result

    @property
    def traffic(self) -> Traffic:
        return self.inner.traffic

    @property
    def transcript(self) -> Transcript | None:
        return self.inner.transcript

    def refuse(self, error: Exception) -> None:
        self.inner.refuse(error)

    @property
    def keep_going(self) -> bool:
        """Never: without one member's mask nobody can read the sum."""
        return False

    @keep_going.setter
    def keep_going(self, wanted: bool) -> None:
        if wanted:
            raise InputError("settings: on_lost_agent 'freeze' and groups with masks exclude each other; use 'stop'")

    def post(self, questions: Mapping[str, Question]) -> None:
        """Raises InputError: a sum is known when its last member has answered."""
        raise InputError("settings: staleness and groups with masks exclude each other; leave staleness out")

    def collect(self, enough: Callable[[Collection[str]], bool]) -> dict[str, Answer]:
        return self.inner.collect(enough)

    def drop(self) -> None:
        self.inner.drop()

    def call(self, text: str, called: Callable[[str], str]) -> list[str]:
        """Raises InputError: how a group shares a sum among its members is in no checkpoint."""
        raise InputError("a run with groups of masked members keeps no checkpoints; leave them out")

    def serve(self, called: Callable[[str], str] = no_calls) -> None:
        self.inner.serve(called)

    def end_all(self, code: int) -> None:
        self.inner.end_all(code)

    def finish(self, has_result: bool) -> None:
        self.inner.finish(has_result)

    def gather_text(self, text: str) -> list[str]:
        return self.inner.gather_text(text)

    def share_text(self, text: str) -> str:
        return self.inner.share_text(text)


def _full(group: str, member: str) -> str:
    """A member's name among the agents of the inner transport."""
    return f"{group}/{member}"


def _member_boundaries(group: str, members: Sequence[str], boundary: AgentBoundary) -> dict[str, AgentBoundary]:
    """Of all members: the group's entries at an equal share of its scale, and EXTRAS behind them."""
    part = _member_boundary(boundary, len(members))
    arrays = (np.append(a, np.ones(EXTRAS)) for a in (part.scale, part.price_scale, part.sign))
    whole = AgentBoundary((*part.keys, (group, "masked", EXTRAS)), *arrays)
    return {_full(group, name): whole for name in members}


def _member_boundary(boundary: AgentBoundary, members: int) -> AgentBoundary:
    return AgentBoundary(boundary.keys, boundary.scale / members, boundary.price_scale, boundary.sign)


def _fixed(boundary: AgentBoundary, members: int) -> tuple[np.ndarray, int]:
    """The step of each number that a member tells, (n + EXTRAS,), from its boundary; and how many are summed."""
    money = float(boundary.scale @ boundary.price_scale)
    return np.append(STEP * boundary.scale, [STEP * money, 1.0, 1.0, SHIFT_STEP]), members
