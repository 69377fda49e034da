"""The proof at a stop: bounds of the optimum, asked for once a run has passed its tests.

The tests of a stop look at one point. Where little of a boundary value is worth much, they pass far from the optimum.
So a run that passes asks two things more, beside the agents' schedules: nothing else depends on the answers.

    lower bound   what every agent proves to be its least cost at the price alone; by weak duality their sum is a bound
    upper bound   what a plan costs: values, the same at both ends of every coupling, that every agent follows

Plans are what each side does, and what the second side does where it is held near the first one. A run whose bounds
meet has converged. Others go on with another penalty. Only answers that are SOLVED count, and what an answer misses of
a plan is charged.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from admm import updates
from admm.graph import same_on_relays
from admm.interfaces import Answer, AnswerStatus, Question, check_answer_fits
from admm.rounds import BOUND_ACCURACY, FINEST, Rounds
from admm.values import is_finite, is_whole

if TYPE_CHECKING:
    from admm.two_block import TwoBlock

ACCURACY = 2e-5
"""Accuracy of answers that follow a plan, as a share of scale: plans are made of answers that are hardly more exact.
Finer where all that is exchanged costs little of what nominal values would: a miss may cost as much as these do."""
DEAR = 1.0
"""What missing a plan is charged beyond the price, in price scales: far more than what is not scarce costs."""
USUAL_TOLERANCE = 1e-4
DEARER = 100.0
"""Multiple of the turnover up to which all costs together do not matter for how exact answers have to be."""
STIFF = 100.0
"""Multiple of the penalty that holds the second side near the first one."""
ALARM = 0.1
"""Bounds that cross by more than this share of the tolerance prove nothing but a fault."""
WAIT, WAIT_SHARE = 2, 0.1
"""Iterations, or their share, from one exchange in vain to the next one."""
MOST = 30
"""Exchanges in vain after which a run ends without a proof."""
SLOW, IN_VAIN = 50, 4
"""Iterations without a stop, and exchanges in vain, after which rounds look for the proof."""
MOST_ROUNDS, IN_DOUBT, FRUITLESS = 300, 40, 10
"""Rounds at most, where the stated scales are in doubt, and without any bound."""
LEAST_TOLERANCE = 1e-6
"""Tolerance of the objective below which answers are not exact enough for a proof."""
MOST_ENTRIES = 500
"""Boundary values, all periods counted, up to which a run asks: in large problems plans can seldom be followed."""


class Closing:
    """What is proven so far. lower_eur, upper_eur: bounds of the optimum, None without one. count: exchanges so far.
    next: the first iteration that may ask again.
    endless: an agent without limits proves nothing at a price alone, so there is no proof to be had."""

    KEPT = ("lower_eur", "upper_eur", "count", "next", "endless")

    def __init__(self, run: TwoBlock) -> None:
        self.run, self.layout = run, run.layout
        self.lower_eur: float | None = None
        self.upper_eur: float | None = None
        self.count, self.next = 0, 0
        self.endless = False
        self.rounds = Rounds(self)

    def snapshot(self) -> dict[str, Any]:
        return {**{name: getattr(self, name) for name in self.KEPT}, "rounds": self.rounds.snapshot()}

    def restore(self, kept: Mapping[str, Any]) -> None:
        for name in self.KEPT:
            setattr(self, name, kept[name])
        self.rounds.restore(kept["rounds"])

    def check_kept(self, kept: Mapping[str, Any]) -> None:
        """Raise ValueError where a snapshot is none of a closing."""
        for key in ("lower_eur", "upper_eur"):
            if kept[key] is not None and not is_finite(kept[key]):
                raise ValueError(f"{key} is not a finite number")
        if not all(is_whole(kept[key]) and kept[key] >= 0 for key in ("count", "next")):
            raise ValueError("counts of proofs are not whole numbers of at least 0")
        if not isinstance(kept["endless"], bool):
            raise ValueError("endless is neither true nor false")
        self.rounds.check_kept(kept["rounds"])

    def possible(self) -> bool:
        """Whether there can be a proof that is worth its time: the problem is small, every agent tells its cost,
        answers beside its schedule, and has a model that is exact: bounds of models that move mean little."""
        fine = self.run.settings.optimality_tolerance < LEAST_TOLERANCE
        if fine or self.endless or self.layout.size > MOST_ENTRIES:
            return False
        answers = [self.run.answers[name] for name in self.agents()]
        told = all(one.proves and one.cost_eur is not None and one.model_error == 0.0 for one in answers)
        return told and not self.run.frozen.why

    def agents(self) -> list[str]:
        """All but relays, which have no cost and no limits."""
        return [name for name in self.layout.agents if name not in self.run.sides.relays]

    def see(self, name: str, answer: Answer) -> None:
        """Remember an answer of the run that is exact enough for a proof; none any more once one cannot be proven."""
        settings, exact = self.run.settings, self.run.state.accuracy <= self.run.settings.final_accuracy
        if name in self.run.sides.relays or self.layout.size > MOST_ENTRIES or not settings.proof:
            return
        if not answer.proves or answer.cost_eur is None or answer.model_error != 0.0:
            self.rounds.end()
        elif exact and settings.scheme == "two-block" and not settings.staleness:
            self.rounds.learn(name, answer, self.run.state.accuracy)

    def due(self) -> bool:
        """Whether the next iteration is a round: tests have not passed for long, or bounds have not met."""
        slow = self.run.state.iteration >= SLOW or self.count >= IN_VAIN
        bound, doubtful = self.rounds.lower_eur is not None, self.run.doubts > 0
        left = FRUITLESS if not bound else IN_DOUBT if doubtful else MOST_ROUNDS
        wanted = not (self.endless or self.rounds.ended or self.run.settings.staleness)
        return slow and wanted and self.rounds.count < left

    def round(self) -> None:
        """Hold a round, see `admm.rounds`."""
        self.rounds.hold()
        if self.rounds.lower_eur is not None:
            self.lower_eur = max(self.rounds.lower_eur, -np.inf if self.lower_eur is None else self.lower_eur)

    def hand_out(self) -> bool:
        """All agents follow the plan of the rounds. Whether what they hold then is proven; the run's state has it."""
        run, plan, price = self.run, self.rounds.plan, self.rounds.price
        self.rounds.plan = None
        held, accuracy = np.full(self.layout.size, np.inf), self._accuracy() * self.rounds.accuracy / BOUND_ACCURACY
        asked = {name: [self.question(name, price, plan, held, accuracy, False)] for name in self.agents()}
        answers = {name: given[0] for name, given in run.ask_batches(asked, "agents", check=False).items()}
        if not all(one.status is AnswerStatus.SOLVED and one.cost_eur is not None for one in answers.values()):
            self.rounds.miss()
            return False
        run.state.lower, run.state.upper, run.state.price = plan.copy(), plan.copy(), price.copy()
        total = 0.0
        for name, answer in answers.items():
            run.accept(name, answer)
            at = self.layout.entries(name)
            total += answer.cost_eur + self._charge(at, price, np.abs(answer.values - plan[at]))
        self._take_upper(total)
        proven = self.proven()
        if not proven:
            self.rounds.miss()
        return proven

    def gap(self) -> float | None:
        """Distance of the bounds as a share of the turnover, with its floor."""
        if self.lower_eur is None or self.upper_eur is None:
            return None
        return self.gap_eur() / updates.least_turnover(self.run.state, self.layout)

    def proven(self) -> bool:
        """Whether the bounds meet, and the objective of the run with them."""
        gap, tolerance = self.gap(), self.run.settings.optimality_tolerance
        if gap is not None and gap < -ALARM * tolerance:
            self.upper_eur = None  # a better lower bound has shown it to be none
        if self.upper_eur is None or self.lower_eur is None:
            return False
        ends = self.lower_eur, self.upper_eur, self.run.objective()
        return max(ends) - min(ends) <= tolerance * updates.least_turnover(self.run.state, self.layout)

    def gap_eur(self) -> float:
        return self.upper_eur - self.lower_eur

    def beyond_doubt(self) -> bool:
        """Whether bounds meet so closely that it does not matter how well scales are stated: within the tolerance of
        the costs themselves, or of what is exchanged. Where nothing has ever cost anything, any agreement is the best.
        """
        costs = [self.run.answers[name].cost_eur for name in self.agents()]
        size = max(updates.turnover_eur(self.run.state), sum(map(abs, costs)))
        return self.run.seen_cost == 0.0 or self.gap_eur() <= self.run.settings.optimality_tolerance * size

    def allowed_eur(self, plan: np.ndarray, price: np.ndarray) -> float:
        """By how much bounds may differ at a plan, both (n,)."""
        turnover = max(float(np.abs(price) @ np.abs(plan)), updates.turnover_floor(self.layout))
        return self.run.settings.optimality_tolerance * turnover

    def given_up(self) -> bool:
        """Whether to end without a proof."""
        return self.count >= MOST or self.rounds.count >= MOST_ROUNDS

    def hold(self) -> bool:
        """Ask for bounds; returns whether they meet."""
        iteration = self.run.state.iteration
        self.count, self.next = self.count + 1, iteration + max(WAIT, int(WAIT_SHARE * iteration))
        price = same_on_relays(self.run.state.price, self.layout)
        self._bound(price)
        if self.lower_eur is not None:
            self._follow_sides(price)
        return self.proven()

    # ------------------------------------------------------------- lower bound

    def _bound(self, price: np.ndarray) -> None:
        """What every agent proves at the price alone; these bounds add up."""
        nothing = np.zeros(self.layout.size)
        answers = self._asked({name: [self.question(name, price, nothing, 0.0)] for name in self.agents()})
        bounds = [given[0].bound_eur if given[0].status.usable else None for given in answers.values()]
        for name, given in answers.items():
            self.rounds.learn(name, given[0], self.exactness(BOUND_ACCURACY))
        self.endless = None in bounds
        if not self.endless:
            total = float(sum(bounds))
            self.lower_eur = total if self.lower_eur is None else max(self.lower_eur, total)

    # ------------------------------------------------------------- upper bound

    def _follow_sides(self, price: np.ndarray) -> None:
        """What each side does, followed by the other one; then what the second side does near the first."""
        run = self.run
        for plan in (run.second_values(), run.first_values()):
            self._follow(price, self._with_relays(plan))
            if self.proven():
                return
        second = [name for name in run.sides.second if name not in run.sides.relays]
        first, stiff = run.first_values(), STIFF * run.state.penalty
        near = self._asked({name: [self.question(name, price, first, stiff)] for name in second})
        if all(given[0].status.usable for given in near.values()):
            plan = run.second_values()
            for name, given in near.items():
                plan[self.layout.entries(name)] = given[0].values
            self._follow(price, self._with_relays(plan))

    def _with_relays(self, values: np.ndarray) -> np.ndarray:
        """The plan of one side's values, (n,): on relayed couplings both ends follow the relay."""
        plan = values.copy()
        for relay in self.run.sides.relays:
            plan[self.layout.entries(relay)] = self.run.answers[relay].values
        return same_on_relays(plan, self.layout)

    def _follow(self, price: np.ndarray, plan: np.ndarray) -> None:
        """What a plan, (n,), costs if all follow it; an agent whose latest answer it is does so already."""
        held, accuracy, total, asked = np.full(self.layout.size, np.inf), self._accuracy(), 0.0, {}
        for name in self.agents():
            latest = self.run.answers[name]
            exact = latest.status is AnswerStatus.SOLVED and self._fineness() == 1.0
            if exact and np.array_equal(latest.values, plan[self.layout.entries(name)]):
                total += latest.cost_eur
            else:
                asked[name] = [self.question(name, price, plan, held, accuracy)]
        for name, given in self._asked(asked).items():
            if given[0].status is not AnswerStatus.SOLVED or given[0].cost_eur is None:
                return
            at = self.layout.entries(name)
            total += given[0].cost_eur + self._charge(at, price, np.abs(given[0].values - plan[at]))
        self._take_upper(total)

    def _take_upper(self, cost_eur: float) -> None:
        """The cost of a plan that all follow. One below the lower bound is none: answers were too coarse for it."""
        tolerance_eur = self.run.settings.optimality_tolerance * updates.least_turnover(self.run.state, self.layout)
        if self.lower_eur is not None and cost_eur < self.lower_eur - ALARM * tolerance_eur:
            return
        self.upper_eur = cost_eur if self.upper_eur is None else min(self.upper_eur, cost_eur)

    def _accuracy(self) -> float:
        """Of answers that follow a plan."""
        nominal = updates.turnover_floor(self.layout) / updates.LEAST_TURNOVER
        share = np.clip(updates.turnover_eur(self.run.state) / nominal, updates.LEAST_TURNOVER, 1.0)
        return max(float(share * self._fineness() * self.exactness(ACCURACY)), FINEST)

    def _fineness(self) -> float:
        """At most 1: what agents' limits are worth goes with their costs, which may be far more than is exchanged."""
        costs = sum(abs(self.run.answers[name].cost_eur) for name in self.agents())
        return min(1.0, DEARER * updates.least_turnover(self.run.state, self.layout) / max(costs, 1e-300))

    def exactness(self, accuracy: float) -> float:
        """An accuracy that is enough for the usual tolerance, where the run has a tighter one."""
        return accuracy * min(1.0, self.run.settings.optimality_tolerance / USUAL_TOLERANCE)

    def _charge(self, at: np.ndarray, price: np.ndarray, missed: np.ndarray) -> float:
        """EUR; what misses, (k,), at entries `at` may hide."""
        return float((np.abs(price[at]) + DEAR * self.layout.price_scale[at]) @ missed)

    # ---------------------------------------------------------------- questions

    def question(
        self,
        name: str,
        price: np.ndarray,
        reference: np.ndarray,
        penalty: np.ndarray | float,
        accuracy: float | None = None,
        beside: bool = True,
    ) -> Question:
        at = self.layout.entries(name)
        accuracy = self.exactness(BOUND_ACCURACY) if accuracy is None else accuracy
        own, pull = self.layout.boundary(name).sign * price[at], np.broadcast_to(penalty, self.layout.size)[at]
        return Question(self.run.state.iteration, own, reference[at], pull, accuracy=accuracy, beside=beside)

    def _asked(self, questions: Mapping[str, list[Question]]) -> dict[str, list[Answer]]:
        """As `asked`, in an exchange beside the iterations."""
        self.run.proof_exchanges += bool(questions)
        return self.asked(questions)

    def asked(self, questions: Mapping[str, list[Question]]) -> dict[str, list[Answer]]:
        """Answers that nothing but a proof depends on: one that makes no sense is no proof, and no error."""
        with self.run.timed("agents"):
            answers = self.run.transport.ask(questions) if questions else {}
        for name, given in answers.items():
            for answer in given:
                check_answer_fits(name, answer, self.layout.entries(name).size)
        return answers
