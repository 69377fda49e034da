"""Joint solves against the same mathematics written for cvxpy, and their prices against the dual function."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

import cvxpy as cp
import numpy as np
import pytest

import subproblems.joint as joint_module
from admm.couplings import Layout
from admm.memory import Columns, Cuts, JointAnswer, JointQuestion
from subproblems import QPAgent
from subproblems.joint import JointProgram
from tests.planted import PRICE_SCALE, SCALE, Planted, hubs, supplied
from tests.tolerances import EXACT, SOLVER

OF_MONEY = 1e-6
"""Differences of objectives, as a share of PRICE_SCALE x SCALE x entries."""
OF_PRICE = 2e-4
"""Differences of multipliers, as a share of PRICE_SCALE: they are less exact than the objective."""
LEEWAY = 20.0 * PRICE_SCALE
PENALTY = 0.8 * PRICE_SCALE / SCALE
CASES = [
    ("supplied", supplied, ("o",), ("s",)),
    ("two leads", hubs, ("o", "g"), ()),
    ("one of two", hubs, ("o",), ("g",)),
]
"""Name, problem, leads, followers; all others are remembered."""


class Setting:
    """One joint program and a question to it, with made-up answers and cuts around the optimum."""

    def __init__(self, problem: Planted, leads: Sequence[str], followers: Sequence[str], seed: int) -> None:
        self.problem, self.leads, self.layout = problem, leads, Layout(problem.couplings)
        self.rng = np.random.default_rng(1000 + seed)
        agents = {name: QPAgent(problem.programs[name]) for name in leads}
        for name, agent in agents.items():
            agent.prepare(self.layout.boundary(name))
        self.agents = agents
        self.others = [n for n in self.layout.agents if n not in (*leads, *followers)]
        self.followers = {name: self.cuts(name) for name in followers}
        self.remembered = {name: self.columns(name) for name in self.others}

    def joint(self) -> JointProgram:
        return JointProgram(list(self.agents.values()), self.leads, self.layout)

    def columns(self, name: str) -> Columns:
        """Answers that stand beside what is best: together the mixes reach it, nearly or not quite."""
        at, k = self.layout.entries(name), int(self.rng.integers(4, 12))
        values = self.problem.value[at] + self.rng.normal(0.0, 0.4, (k, at.size))
        return Columns(at, values, self.rng.uniform(-40.0, 40.0, k))

    def cuts(self, name: str, k: int = 5) -> Cuts:
        at, rng = self.layout.entries(name), self.rng
        values = self.problem.value[at] + rng.normal(0.0, 0.5, (k, at.size))
        slope = -self.layout.boundary(name).sign * self.problem.price[at] + rng.normal(0.0, 5.0, (k, at.size))
        curvature = rng.uniform(0.5, 3.0, at.size)
        return Cuts(at, values, slope, rng.uniform(-40.0, 40.0, k), values[-1].copy(), curvature)

    def question(self, firm: bool) -> JointQuestion:
        n = self.layout.size
        price = self.problem.price + self.rng.normal(0.0, 5.0, n)
        penalty = PENALTY * self.rng.uniform(0.5, 2.0, n)
        return JointQuestion(self.remembered, self.followers, price, penalty, np.full(n, LEEWAY), firm)


class Reference:
    """The question as in the docstring of `subproblems.joint`, with all rows and in natural units."""

    def __init__(self, setting: Setting, question: JointQuestion) -> None:
        self.setting, self.question, layout = setting, question, setting.layout
        self.x = {name: cp.Variable(setting.problem.programs[name].size) for name in setting.leads}
        self.w = {name: cp.Variable(known.cost_eur.size, nonneg=True) for name, known in question.remembered.items()}
        self.z = cp.Variable(layout.size)
        self.rows = [cp.sum(w) == 1 for w in self.w.values()]
        self.own = sum(self._lead(name) for name in setting.leads)
        self.mixed = sum(known.cost_eur @ self.w[n] for n, known in question.remembered.items())
        self.tied = np.concatenate([k.entries for k in question.remembered.values()])
        self.mismatch = cp.hstack([self._mismatch(name) for name in question.remembered])

    def _lead(self, name: str) -> cp.Expression:
        program, x = self.setting.problem.programs[name], self.x[name]
        value, above, below = program.A @ x, np.isfinite(program.u), np.isfinite(program.l)
        self.rows += [value[above] <= program.u[above], value[below] >= program.l[below]]
        self.rows.append(self.z[self.setting.layout.entries(name)] == x[: self.setting.layout.entries(name).size])
        return 0.5 * cp.quad_form(x, cp.psd_wrap(program.P)) + program.q @ x + program.constant

    def _mismatch(self, name: str) -> cp.Expression:
        """Lower less upper."""
        known = self.question.remembered[name]
        sign = self.setting.layout.boundary(name).sign
        return cp.multiply(sign, known.values.T @ self.w[name] - self.z[known.entries])

    def followed(self, at: Mapping[str, cp.Expression]) -> cp.Expression:
        """What the followers' planes and curvature say; at: {follower: its values}."""
        total = cp.Constant(0.0)
        for name, cuts in self.question.followers.items():
            planes = cuts.cost_eur + cp.sum(cp.multiply(cuts.slope, at[name][None, :] - cuts.values), axis=1)
            bend = cp.sum(cp.multiply(cuts.curvature, cp.square(at[name] - cuts.centre)))
            total += cp.max(planes) + 0.5 * bend
        return total

    def apart(self) -> cp.Expression:
        q, d = self.question, self.mismatch
        pull = q.leeway[self.tied] @ cp.abs(d) if q.firm else 0.5 * q.penalty[self.tied] @ cp.square(d)
        return q.price[self.tied] @ d + pull

    def optimum(self) -> float:
        here = {name: self.z[cuts.entries] for name, cuts in self.question.followers.items()}
        return _solved(self.own + self.mixed + self.followed(here) + self.apart(), self.rows)

    def dual(self, price: np.ndarray) -> float:
        """The best of leads, mixes and followers apart, each paying the price: it meets the optimum at right prices.

        The mismatch's own part is taken by hand: it must be bounded (firm), or is -(y - price)^2 / (2 penalty).
        """
        q, boundary = self.question, self.setting.layout.boundary
        paid, apart = price[self.tied] @ self.mismatch, {}
        for name, cuts in q.followers.items():
            apart[name] = cp.Variable(cuts.entries.size)
            paid += (boundary(name).sign * price[cuts.entries]) @ (apart[name] - self.z[cuts.entries])
        change = price[self.tied] - q.price[self.tied]
        if q.firm:
            assert (np.abs(change) <= q.leeway[self.tied] + OF_PRICE * PRICE_SCALE).all()
        squares = 0.0 if q.firm else float(np.sum(change**2 / (2 * q.penalty[self.tied])))
        box = [cp.abs(self.z) <= 1e3, *(cp.abs(v) <= 1e3 for v in apart.values())]
        return _solved(self.own + self.mixed + self.followed(apart) + paid, [*self.rows, *box]) - squares


def _solved(cost: cp.Expression, rows: list) -> float:
    problem = cp.Problem(cp.Minimize(cost), rows)
    problem.solve(solver=cp.CLARABEL)
    assert problem.status == cp.OPTIMAL
    return float(problem.value)


def cost_of(setting: Setting, question: JointQuestion, answer: JointAnswer) -> float:
    """The question's objective at an answer, from the answer's values and mixes alone."""
    total = answer.cost_eur
    for name, known in question.remembered.items():
        mix, at = answer.mix[name], known.entries
        apart = setting.layout.boundary(name).sign * (mix @ known.values - answer.values[at])
        pull = question.leeway[at] * np.abs(apart) if question.firm else 0.5 * question.penalty[at] * apart**2
        total += mix @ known.cost_eur + np.sum(question.price[at] * apart + pull)
    for cuts in question.followers.values():
        z = answer.values[cuts.entries]
        total += (cuts.cost_eur + np.sum(cuts.slope * (z - cuts.values), axis=1)).max()
        total += 0.5 * np.sum(cuts.curvature * (z - cuts.centre) ** 2)
    return float(total)


def money(setting: Setting) -> float:
    return PRICE_SCALE * SCALE * setting.layout.size


@pytest.fixture(params=[(*case, seed) for case in CASES for seed in range(2)], ids=lambda p: f"{p[0]}-{p[-1]}")
def setting(request) -> Setting:
    _, make, leads, followers, seed = request.param
    return Setting(make(seed), leads, followers, seed)


@pytest.mark.parametrize("firm", [False, True], ids=["soft", "firm"])
def test_the_answer_is_the_optimum_of_the_mathematics(setting: Setting, firm: bool) -> None:
    question = setting.question(firm)
    answer, reference = setting.joint().solve(question), Reference(setting, question)
    best = reference.optimum()
    assert cost_of(setting, question, answer) == pytest.approx(best, abs=OF_MONEY * money(setting))
    for shares in answer.mix.values():
        assert shares.min() >= 0.0 and shares.sum() == pytest.approx(1.0, abs=EXACT)
    start = np.cumsum([0, *(setting.problem.programs[name].size for name in setting.leads)])
    for i, name in enumerate(setting.leads):
        program, x = setting.problem.programs[name], answer.x[start[i] : start[i + 1]]
        assert program.violation(x).max() <= 10 * SOLVER
        entries = setting.layout.entries(name)
        np.testing.assert_allclose(answer.values[entries], x[: entries.size], atol=EXACT)


@pytest.mark.parametrize("firm", [False, True], ids=["soft", "firm"])
def test_prices_are_multipliers(setting: Setting, firm: bool) -> None:
    """At no other prices do the parts, solved one by one, cost together what they cost at their best together."""
    question = setting.question(firm)
    answer, reference = setting.joint().solve(question), Reference(setting, question)
    best, tied = reference.optimum(), reference.tied
    if not firm:
        moved = question.price[tied] + question.penalty[tied] * reference.mismatch.value
        np.testing.assert_allclose(answer.price[tied], moved, atol=OF_PRICE * PRICE_SCALE)
    assert reference.dual(answer.price) == pytest.approx(best, abs=10 * OF_MONEY * money(setting))


def test_a_followers_price_is_what_its_planes_say(setting: Setting) -> None:
    """Beside the answer the planes and the curvature never cost less than the price times the way."""
    question = setting.question(firm=True)
    answer = setting.joint().solve(question)
    for name, cuts in question.followers.items():
        z = answer.values[cuts.entries]
        slope = -setting.layout.boundary(name).sign * answer.price[cuts.entries]

        def cost(value: np.ndarray, cuts: Cuts = cuts) -> float:
            plane = (cuts.cost_eur + np.sum(cuts.slope * (value - cuts.values), axis=1)).max()
            return plane + 0.5 * np.sum(cuts.curvature * (value - cuts.centre) ** 2)

        for step in setting.rng.normal(0.0, 0.5, (50, z.size)):
            assert cost(z + step) >= cost(z) + slope @ step - 100 * OF_MONEY * PRICE_SCALE


def test_a_follower_of_which_nothing_is_known_costs_nothing() -> None:
    setting = Setting(supplied(0), ("o",), ("s",), 0)
    size = setting.layout.entries("s").size
    none = Cuts(setting.layout.entries("s"), *np.zeros((2, 0, size)), np.zeros(0), np.zeros(size), np.zeros(size))
    question = replace(setting.question(firm=False), followers={"s": none})
    answer = setting.joint().solve(question)
    alone = replace(question, followers={})
    best = Reference(setting, alone).optimum()
    assert cost_of(setting, alone, answer) == pytest.approx(best, abs=OF_MONEY * money(setting))
    np.testing.assert_allclose(answer.price[none.entries], 0.0, atol=OF_PRICE * PRICE_SCALE)


def test_rows_are_taken_in_when_they_bind(monkeypatch) -> None:
    """The first solve leaves rows out; a solution that breaks one is not given out, and all questions end right."""
    solved = []
    original = joint_module._solved
    monkeypatch.setattr(joint_module, "_solved", lambda numbers: solved.append(numbers.l.size) or original(numbers))
    setting = Setting(hubs(3), ("o", "g"), (), 3)
    joint = setting.joint()
    for firm in (True, False, True):
        question = setting.question(firm)
        answer = joint.solve(question)
        best = Reference(setting, question).optimum()
        assert cost_of(setting, question, answer) == pytest.approx(best, abs=OF_MONEY * money(setting))
    assert len(solved) > 3 and min(solved) < max(solved)


def test_mixes_that_cannot_be_carried_are_kept_apart_at_the_leeway() -> None:
    """One answer an agent, far from what the lead can do: the ties break, each at price and leeway."""
    setting = Setting(supplied(1), ("o",), (), 1)
    for name in setting.others:
        at = setting.layout.entries(name)
        setting.remembered[name] = Columns(at, setting.problem.value[at][None] + 9.0, np.zeros(1))
    question = setting.question(firm=True)
    answer, reference = setting.joint().solve(question), Reference(setting, question)
    assert cost_of(setting, question, answer) == pytest.approx(reference.optimum(), abs=OF_MONEY * money(setting))
    change = answer.price[reference.tied] - question.price[reference.tied]
    assert np.abs(change).max() == pytest.approx(LEEWAY, rel=OF_PRICE)


@pytest.mark.parametrize(("make", "leads"), [(supplied, ("o",)), (hubs, ("o", "g"))])
@pytest.mark.parametrize("seed", range(3))
def test_the_leads_bound_is_what_they_earn_at_best(make, leads, seed: int) -> None:
    """At the optimal price by construction, elsewhere by cvxpy; never above it."""
    problem = make(seed)
    setting = Setting(problem, leads, (), seed)
    joint, rng = setting.joint(), np.random.default_rng(seed)
    for spread in (0.0, 20.0, 200.0):
        price = problem.price + rng.normal(0.0, 1.0, problem.price.size) * spread
        best = 0.0
        for name in leads:
            program, at = problem.programs[name], setting.layout.entries(name)
            x = cp.Variable(program.size)
            rows = [program.A @ x <= program.u, program.A @ x >= program.l]
            paid = (setting.layout.boundary(name).sign * price[at]) @ x[: at.size]
            quadratic = 0.5 * cp.quad_form(x, cp.psd_wrap(program.P))
            best += _solved(quadratic + program.q @ x + program.constant + paid, rows)
        bound = joint.bound_eur(price)
        assert best - 10 * OF_MONEY * money(setting) <= bound <= best + SOLVER * abs(best)


def test_leads_that_contradict_themselves_have_no_answer() -> None:
    setting = Setting(supplied(0), ("o",), (), 0)
    program = setting.problem.programs["o"]
    lower, upper = program.l.copy(), program.u.copy()
    row = np.flatnonzero(np.diff(program.A.tocsr().indptr) > 1)[0]
    reach = np.abs(program.A.toarray()[row]) @ np.maximum(np.abs(lower), np.abs(upper))[-program.size :]
    lower[row], upper[row] = reach + 1.0, reach + 2.0
    setting.agents["o"].update(replace(program, l=lower, u=upper))
    joint = setting.joint()
    assert joint.solve(setting.question(firm=True)) is None
    assert joint.bound_eur(setting.problem.price) is None
