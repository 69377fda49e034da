"""The programs of lead operators with other agents' answers beside them: one QP, built anew for every question.

Variables, all scaled: x of the leads, a free value for every entry at which no lead stands, shares w of the
remembered answers, mismatch d of every tie (in two parts where the tie is firm), theta of the followers.

    minimise    sum_leads f(x) + f.w + sum_F [theta_F + 1/2 |z_F - centre|^2_curvature]
                + price . d + (soft: 1/2 |d|^2_penalty,  firm: leeway . |d|)
    subject to  l <= A x <= u;   sign (Y w - z) - d = 0;   1'w_a = 1, w >= 0;   theta_F >= c_k + g_k . (z_F - y_k)

Of the leads' rows with several entries only those that bind are in it: a solution is checked against all
and solved again with those that it breaks, until it breaks none.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import scipy.sparse as sp

from admm import AnswerStatus
from admm.couplings import Layout
from admm.fits import check_array
from admm.memory.joint import JointAnswer, JointQuestion
from subproblems.bound import safe_bound
from subproblems.box import outer_box
from subproblems.clarabel_solver import ClarabelSolver
from subproblems.lead_model import LeadModel
from subproblems.piqp_solver import PiqpSolver
from subproblems.quadratic_program import INFINITE
from subproblems.solver import Numbers

ACCURACY, MOST_ITERATIONS = 1e-7, 40
"""Remembered answers that hardly differ keep an interior-point method from its last digits: then it is cut short."""
BROKEN, NEARLY_BROKEN = 1e-7, 1e-4
"""Slack, per unit of a row, below which a row left out is taken in, and once one is, those nearby with it."""
KEPT = 0.05
"""Slack, per unit, of a solution above which a row is left out of the next one."""
LARGEST_RESIDUAL = 1e-5
"""Violation, per unit, up to which an answer at the solver's iteration limit is used."""


class JointProgram:
    """Answers joint questions for one or several leads. leads: have `lead_model`, `led_model`, `take_schedule`."""

    def __init__(self, leads: Sequence, names: Sequence[str], layout: Layout) -> None:
        self._leads, self._names, self._layout = leads, names, layout
        self._money = float(np.mean(layout.price_scale * layout.scale))
        self._rows_taken: list[np.ndarray] | None = None
        self._take_models([lead.lead_model() for lead in leads])

    def _take_models(self, models: list[LeadModel]) -> None:
        self._models = models
        self._boxes = [None] * len(self._models)
        scales = [model.scales() for model in self._models]
        programs = [model.program for model in self._models]
        self._scale = np.concatenate([variable for variable, _ in scales])
        row_scale = np.concatenate([row for _, row in scales])
        S, E = sp.diags_array(self._scale), sp.diags_array(1.0 / row_scale)
        self._P = sp.csc_matrix(S @ sp.block_diag([p.P for p in programs]) @ S) / self._money
        self._q = self._scale * np.concatenate([p.q for p in programs]) / self._money
        self._A = sp.csr_matrix(E @ sp.block_diag([p.A for p in programs], format="csr") @ S)
        self._l = np.maximum(np.concatenate([p.l for p in programs]) / row_scale, -INFINITE)
        self._u = np.minimum(np.concatenate([p.u for p in programs]) / row_scale, INFINITE)
        always = self._rows_always = (np.diff(self._A.indptr) == 1) | (self._l == self._u)
        kept = self._rows_taken if self._rows_taken is not None and self._rows_taken.size == always.size else always
        self._rows_taken = kept | always
        self._place_entries()

    def _place_entries(self) -> None:
        """Which variable stands for each entry, (n,): a lead's, or a free one behind them."""
        layout, start = self._layout, 0
        self._position = np.full(layout.size, -1)
        self._start = [0]
        for name, model in zip(self._names, self._models, strict=True):
            at = np.concatenate([model.program.boundary[c, q] for c, q, _ in model.boundary.keys])
            self._position[layout.entries(name)] = start + at
            start += model.program.size
            self._start.append(start)
        free = np.flatnonzero(self._position < 0)
        self._position[free] = start + np.arange(free.size)
        self._value_scale = np.concatenate([self._scale, layout.scale[free]])

    # ------------------------------------------------------------- the question

    def solve(self, question: JointQuestion) -> JointAnswer | None:
        stacked = _Stacked(self, question)
        found = self._with_rows_on_demand(stacked.numbers())
        return None if found is None else stacked.answer(*found)

    def _with_rows_on_demand(self, whole: Numbers) -> tuple[np.ndarray, np.ndarray] | None:
        """x and multipliers of all rows; the leads' rows come first."""
        own, rest = self._l.size, whole.l.size - self._l.size
        rows = sp.csr_matrix(whole.A)
        while True:
            taken = np.concatenate([self._rows_taken, np.ones(rest, bool)])
            x, y = _solved(Numbers(whole.P, whole.q, sp.csc_matrix(rows[taken]), whole.l[taken], whole.u[taken]))
            if x is None:
                if self._rows_taken.all():
                    return None
                self._rows_taken = np.ones(own, bool)
                continue
            value = rows[:own] @ x
            slack = np.minimum(value - self._l, self._u - value)
            if not ((slack < -BROKEN) & ~self._rows_taken).any():
                self._rows_taken = self._rows_always | (self._rows_taken & (slack < KEPT))
                multiplier = np.zeros(whole.l.size)
                multiplier[taken] = y
                return x, multiplier
            self._rows_taken = self._rows_taken | (slack < NEARLY_BROKEN)

    def bound_eur(self, price: np.ndarray) -> float | None:
        """See `admm.memory.joint.Joint`; by the weak duality of each lead's program."""
        natural = self._natural_price(price)
        numbers = Numbers(_upper(self._P), self._q + self._scale * natural / self._money, self._A, self._l, self._u)
        found = self._with_rows_on_demand(numbers)
        if found is None:
            return None
        x, y = self._scale * found[0], found[1] * self._money
        bounds, row = [], 0
        for i, model in enumerate(self._models):
            program, here = model.program, slice(self._start[i], self._start[i + 1])
            multiplier = y[row : row + program.l.size] / model.scales()[1]
            row += program.l.size
            self._boxes[i] = self._boxes[i] or outer_box(program)
            bounds.append(safe_bound(program, self._boxes[i], x[here], multiplier, natural[here]))
        return None if None in bounds else float(sum(bounds))

    def _natural_price(self, price: np.ndarray) -> np.ndarray:
        """The price of every lead variable, signed for its owner, EUR per unit."""
        natural = np.zeros(self._scale.size)
        for name in self._names:
            at = self._layout.entries(name)
            np.add.at(natural, self._position[at], self._layout.boundary(name).sign * price[at])
        return natural

    def cost_eur(self, x: np.ndarray) -> float:
        """Of the leads alone, at the scaled x of their variables."""
        parts = zip(self._models, self._start[:-1], self._start[1:], strict=True)
        return float(sum(m.program.cost_eur((self._scale * x)[begin:end]) for m, begin, end in parts))

    def adopt(self, answer: JointAnswer) -> bool:
        """Give every lead its schedule; read the models again if one of them has moved."""
        parts = zip(self._leads, self._start[:-1], self._start[1:], strict=True)
        moved = [lead.take_schedule(answer.x[begin:end]) for lead, begin, end in parts]
        if any(moved):
            self._take_models([lead.lead_model() for lead in self._leads])
        return any(moved)

    def snapshot(self) -> np.ndarray:
        return self._rows_taken

    def restore(self, kept: np.ndarray) -> None:
        self._take_models([lead.led_model() for lead in self._leads])
        check_array(kept, self._rows_always.shape, "rows taken", "b")
        self._rows_taken = kept | self._rows_always

    def model_error(self) -> float:
        return max(lead.model_error() for lead in self._leads)


@dataclass(frozen=True)
class PrivateAnswer(JointAnswer):
    """With the leads' own variables, x (n_leads,), in their units: it never leaves the leads' rank."""

    x: np.ndarray = None  # type: ignore[assignment]


class _Stacked:
    """One question as numbers, and the numbers' solution as an answer."""

    def __init__(self, joint: JointProgram, question: JointQuestion) -> None:
        self._joint, self._question, self._layout = joint, question, joint._layout
        self._agents = list(question.remembered)
        counts = [question.remembered[name].cost_eur.size for name in self._agents]
        self._shares = np.concatenate([[0], np.cumsum(counts)]).astype(int)
        parts = [question.remembered[name].entries for name in self._agents]
        self._tied = np.concatenate(parts) if parts else np.empty(0, int)
        sign = [self._layout.boundary(name).sign for name in self._agents]
        self._sign = np.concatenate(sign) if sign else np.empty(0)
        x = joint._value_scale.size
        self._w = x
        self._d = self._w + int(self._shares[-1])
        self._theta = self._d + self._tied.size * (2 if question.firm else 1)
        self._size = self._theta + len(question.followers)

    def numbers(self) -> Numbers:
        blocks = [self._lead_rows(), self._ties(), self._simplex(), self._signs(), *self._cuts()]
        A = sp.vstack([block[0] for block in blocks], format="csc")
        lower, upper = (np.concatenate([block[i] for block in blocks]) for i in (1, 2))
        diagonal, q = self._cost()
        P = sp.block_diag([self._joint._P, sp.csc_array((self._size - self._joint._scale.size,) * 2)])
        return Numbers(_upper(sp.csc_matrix(P + sp.diags_array(diagonal))), q, A, lower, upper)

    def _cost(self) -> tuple[np.ndarray, np.ndarray]:
        """Diagonal curvature and gradient in scaled units."""
        joint, question, money = self._joint, self._question, self._joint._money
        diagonal, q = np.zeros(self._size), np.zeros(self._size)
        q[: joint._q.size] = joint._q
        for i, name in enumerate(self._agents):
            cost = question.remembered[name].cost_eur
            q[self._w + self._shares[i] : self._w + self._shares[i + 1]] = (cost - cost.min()) / money
        self._mismatch_cost(diagonal, q)
        q[self._theta :] = 1.0
        for cuts in question.followers.values():
            at = joint._position[cuts.entries]
            curved = cuts.curvature * joint._value_scale[at] / money
            diagonal[at] += curved * joint._value_scale[at]
            q[at] -= curved * cuts.centre
        return diagonal, q

    def _mismatch_cost(self, diagonal: np.ndarray, q: np.ndarray) -> None:
        question, tied, money = self._question, self._tied, self._joint._money
        scale = self._layout.scale[tied]
        price, count = question.price[tied] * scale / money, tied.size
        first = slice(self._d, self._d + count)
        q[first] = price
        if question.firm:
            leeway = question.leeway[tied] * scale / money
            q[first] += leeway
            q[self._d + count : self._theta] = leeway - price
        else:
            diagonal[first] = question.penalty[tied] * scale**2 / money

    def _lead_rows(self) -> tuple:
        joint = self._joint
        beside = sp.csr_matrix((joint._l.size, self._size - joint._A.shape[1]))
        return sp.hstack([joint._A, beside], format="csr"), joint._l, joint._u

    def _ties(self) -> tuple:
        """sign (Y w - z) / scale - d = 0."""
        rows, columns, data = [], [], []

        def put(row: np.ndarray, column: np.ndarray, value: np.ndarray) -> None:
            rows.append(np.ravel(row)), columns.append(np.ravel(column)), data.append(np.ravel(value))

        start = 0
        for i, name in enumerate(self._agents):
            known = self._question.remembered[name]
            n, k = known.entries.size, known.cost_eur.size
            weight = self._sign[start : start + n] / self._layout.scale[known.entries]
            row = np.repeat(np.arange(start, start + n), k)
            column = np.tile(self._w + self._shares[i] + np.arange(k), n)
            put(row, column, known.values.T * weight[:, None])
            start += n
        at, every = self._joint._position[self._tied], np.arange(self._tied.size)
        put(every, at, -self._sign * self._joint._value_scale[at] / self._layout.scale[self._tied])
        put(every, self._d + every, -np.ones(every.size))
        if self._question.firm:
            put(every, self._d + every.size + every, np.ones(every.size))
        entries = (np.concatenate(data), (np.concatenate(rows), np.concatenate(columns)))
        zero = np.zeros(every.size)
        return sp.csr_matrix(entries, shape=(every.size, self._size)), zero, zero

    def _simplex(self) -> tuple:
        count = np.diff(self._shares)
        row = np.repeat(np.arange(count.size), count)
        entries = (np.ones(row.size), (row, self._w + np.arange(row.size)))
        one = np.ones(count.size)
        return sp.csr_matrix(entries, shape=(count.size, self._size)), one, one

    def _signs(self) -> tuple:
        """Shares are not negative, nor are the two parts of a firm mismatch."""
        last = self._theta if self._question.firm else self._d
        at = np.arange(self._w, last)
        matrix = sp.csr_matrix((np.ones(at.size), (np.arange(at.size), at)), shape=(at.size, self._size))
        return matrix, np.zeros(at.size), np.full(at.size, INFINITE)

    def _cuts(self) -> list[tuple]:
        """theta - slope . z >= cost - slope . y, in scaled units; theta >= 0 where nothing is known yet."""
        joint, blocks = self._joint, []
        for i, cuts in enumerate(self._question.followers.values()):
            k, at = cuts.cost_eur.size, joint._position[cuts.entries]
            base = cuts.cost_eur.min(initial=np.inf) if k else 0.0
            slope = -cuts.slope * joint._value_scale[at] / joint._money
            right = (cuts.cost_eur - base - np.einsum("kn,kn->k", cuts.slope, cuts.values)) / joint._money
            rows = max(k, 1)
            matrix = sp.lil_matrix((rows, self._size))
            matrix[:, self._theta + i] = 1.0
            if k:
                matrix[:, at] = slope
            blocks.append((matrix.tocsr(), right if k else np.zeros(1), np.full(rows, INFINITE)))
        return blocks

    # --------------------------------------------------------------- the answer

    def answer(self, x: np.ndarray, multiplier: np.ndarray) -> PrivateAnswer:
        joint = self._joint
        values = (joint._value_scale * x[: joint._value_scale.size])[joint._position]
        mix = {}
        for i, name in enumerate(self._agents):
            shares = np.clip(x[self._w + self._shares[i] : self._w + self._shares[i + 1]], 0.0, None)
            mix[name] = shares / shares.sum()
        own = x[: joint._scale.size]
        return PrivateAnswer(values, mix, self._price(values, multiplier), joint.cost_eur(own), joint._scale * own)

    def _price(self, values: np.ndarray, multiplier: np.ndarray) -> np.ndarray:
        """Of tied entries their tie's multiplier, of the others what the follower's cuts and curvature say."""
        joint, price = self._joint, np.zeros(self._layout.size)
        row = joint._l.size
        ties = multiplier[row : row + self._tied.size]
        row += self._tied.size + len(self._agents) + (self._theta if self._question.firm else self._d) - self._w
        for name, cuts in self._question.followers.items():
            k = cuts.cost_eur.size
            slope = cuts.curvature * (values[cuts.entries] - cuts.centre) - multiplier[row : row + k] @ cuts.slope
            price[cuts.entries] = -self._layout.boundary(name).sign * slope
            row += max(k, 1)
        price[self._tied] = ties * joint._money / self._layout.scale[self._tied]
        return price


def _upper(P: sp.csc_matrix) -> sp.csc_matrix:
    """The upper triangle with a full diagonal, as solvers take it."""
    upper = sp.coo_matrix(sp.triu(P))
    at = np.arange(P.shape[0])
    entries = (np.concatenate([upper.row, at]), np.concatenate([upper.col, at]))
    full = sp.csc_matrix((np.concatenate([upper.data, np.zeros(at.size)]), entries), P.shape)
    full.sort_indices()
    return full


def _solved(numbers: Numbers) -> tuple[np.ndarray | None, np.ndarray]:
    """x and multipliers, by a second method where the first ends far from them; None for x where both do."""
    for make in (lambda: PiqpSolver(numbers, MOST_ITERATIONS), lambda: ClarabelSolver(numbers)):
        found = make().solve(numbers, ACCURACY)
        if found.status is AnswerStatus.SOLVED:
            return found.x, found.y
        value = numbers.A @ found.x
        broken = np.maximum(numbers.l - value, value - numbers.u).max(initial=0.0)
        if found.status is AnswerStatus.INACCURATE and broken <= LARGEST_RESIDUAL:
            return found.x, found.y
    return None, found.y
