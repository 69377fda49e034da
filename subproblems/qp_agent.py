"""An agent that is one QP: turns a question into numbers for a solver, and its answer back.

The solver never sees natural units. With S = variable_scale, E = 1 / row_scale and c = what one scale
unit of boundary is worth, it solves in x / S, E A S and cost / c, where the penalty term has a
curvature of about one. An absolute tolerance then bounds the boundary error as a share of scale.

Questions without a finite penalty (a price alone, or a reference to follow) are linear programs but for a few
costs, which first-order methods do not finish: an interior-point solver of their own answers them, and the
other one stays warm. A price alone asks what it is worth, not for a schedule: its answer carries a proven
bound and leaves the schedule as it was.
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import replace
from importlib import import_module
from typing import Any

import numpy as np
import scipy.sparse as sp

from admm import AgentBoundary, Answer, AnswerStatus, InputError, Question
from admm.couplings import Layout
from admm.fits import check_array
from admm.interfaces import Names, check_question_fits
from admm.memory.joint import Joint
from admm.values import is_whole
from subproblems.bound import safe_bound
from subproblems.box import Box, outer_box
from subproblems.conflict import Conflict, find_conflict, limits_that_hold
from subproblems.equilibrate import sizes
from subproblems.infeasibility import explain, held_by
from subproblems.lead_model import LeadModel
from subproblems.quadratic_program import INFINITE, QuadraticProgram
from subproblems.solver import Numbers, QpSolver, SolverAnswer

SOLVERS = {
    "osqp": ("subproblems.osqp_solver", "OsqpSolver"),
    "piqp": ("subproblems.piqp_solver", "PiqpSolver"),
}
"""Solvers to choose from: module and class of each."""
FLAT_SOLVERS = {"osqp": ("subproblems.clarabel_solver", "ClarabelSolver"), "piqp": SOLVERS["piqp"]}
"""What answers questions that no finite penalty curves, by the solver chosen."""
OTHER = {"osqp": "piqp", "piqp": "osqp"}
"""What takes over from a solver that is stuck."""
STUCK_AFTER = 5
"""Answers in a row that a solver leaves inaccurate, or finds at its limit of iterations or not at all, before the other
one is asked. In runs that nothing holds up there are at most 4: see `benchmarks/stuck_solvers.py`."""
LIMITS_SOLVER = SOLVERS["piqp"]
"""What answers for limits alone: of the two interior-point methods it takes a fifth of the time for a feeder."""
LARGEST = 1e30
"""Size of a program's numbers above which products of them leave what floating point holds."""
REACH = 1e3
"""Scales within which boundary values lie where limits alone are asked for: a proof is one within these."""
REASON_SLACK = 1e-4
"""Share of what scales cost at a price by which the limits that are named may explain less than all do."""
INNER_SHARE = 0.5
"""The solver's tolerance as a share of the accuracy that is asked for."""


class QPAgent:
    """Answers questions by solving one QuadraticProgram.

    solver: "osqp" or "piqp". solver_in_use: the other one for the rest of a run in which the solver was stuck.
    shares_cost: whether answers carry the cost, and where the question has no penalty the bound, as one scalar each.
    x: the schedule behind the latest answer to a question with a penalty; until there is one, behind the latest answer.
    resumable: whether answers follow from `snapshot` alone, as they do from the first one on.
    conflict: why there is no answer, in the owner's numbers; no number of it is told.
    """

    def __init__(self, qp: QuadraticProgram, solver: str = "osqp", shares_cost: bool = True) -> None:
        if not isinstance(qp, QuadraticProgram):
            raise InputError(f"QPAgent got {type(qp).__name__}, expected a QuadraticProgram")
        if not isinstance(solver, str) or solver not in SOLVERS:
            raise InputError(f"{qp.name}: solver is {solver!r}, expected one of {', '.join(SOLVERS)}")
        if not isinstance(shares_cost, bool | np.bool_):
            raise InputError(f"{qp.name}: shares_cost is {shares_cost!r}, expected True or False")
        self.qp, self.solver_name, self.shares_cost = qp, solver, shares_cost
        self.x: np.ndarray | None = None
        self.conflict: Conflict | None = None
        self._boundary: AgentBoundary | None = None
        self._revised = self.resumable = False
        self.solver_in_use, self._stuck = solver, 0

    def prepare(self, boundary: AgentBoundary) -> None:
        self._check_boundary(boundary)
        kept, self._revised = self._revised and boundary.same_as(self._boundary), False
        if kept:
            return
        self._boundary = boundary
        self._at = np.concatenate([self.qp.boundary[c, q] for c, q, _ in boundary.keys])
        self._money = float(0.4 * np.mean(boundary.price_scale * boundary.scale))
        self._solver: QpSolver | None = None
        self._flat_solver: QpSolver | None = None
        self.solver_in_use, self._stuck = self.solver_name, 0
        self._has_schedule = False
        self._scale_program()

    def _check_boundary(self, boundary: AgentBoundary) -> None:
        wanted = {(c, q): periods for c, q, periods in boundary.keys}
        for key, at in self.qp.boundary.items():
            if key not in wanted:
                raise InputError(f"{self.qp.name}: boundary {key} belongs to no coupling of this agent")
            if at.size != wanted[key]:
                raise InputError(
                    f"{self.qp.name}: boundary {key} has {at.size} positions, expected {wanted[key]} periods"
                )
        for key in wanted.keys() - self.qp.boundary.keys():
            raise InputError(f"{self.qp.name}: has no boundary for the coupling quantity {key}")

    def _scale_program(self) -> None:
        """The program in scaled units, with a full diagonal in P and free rows that can pin the boundary."""
        qp, n = self.qp, self.qp.size
        self._box: Box | None = None
        self._s, rows = sizes(qp, self._at, self._boundary.scale)
        self._e = 1.0 / rows
        pins = sp.csc_matrix((np.ones(self._at.size), (np.arange(self._at.size), self._at)), (self._at.size, n))
        self._A = sp.csc_matrix(sp.vstack([_scaled(qp.A, self._e, self._s), pins]))
        self._A.sort_indices()
        curvature = _scaled(qp.P, self._s, self._s) / self._money
        self._P, self._diagonal_at = _upper_with_full_diagonal(curvature)
        self._base_diagonal = self._P.data[self._diagonal_at].copy()
        open_ends = np.full(self._at.size, INFINITE)
        with np.errstate(over="ignore"):
            self._q = self._s * qp.q / self._money
            self._l = np.concatenate([np.maximum(qp.l * self._e, -INFINITE), -open_ends])
            self._u = np.concatenate([np.minimum(qp.u * self._e, INFINITE), open_ends])
        self._check_scaled()

    def _check_scaled(self) -> None:
        """Solvers take what is not finite for nothing in particular, and bounds of INFINITE for none."""
        odd = (self._l >= INFINITE) | (self._u <= -INFINITE)
        if odd.any():
            row = int(np.argmax(odd))
            what, found = f"{self.qp.name}: {self.qp.row_label(row)} lies", f"{self.qp.l[row]:g} and {self.qp.u[row]:g}"
            expected = f"expected bounds below {INFINITE:g} times its scale; check the units"
            raise InputError(f"{what} between {found}, {expected}", public=f"{what} too far out, {expected}")
        for key, values in (("P", self._P.data), ("q", self._q), ("A", self._A.data)):
            if not np.isfinite(values).all():
                raise InputError(
                    f"{self.qp.name}: {key} is no longer finite in scaled units; check the units and the scales"
                )
            size = np.abs(values).max(initial=0.0)
            if size > LARGEST:
                raise InputError(
                    f"{self.qp.name}: the largest entry of {key} is {size:.3g} in scaled units, expected sizes below "
                    f"{LARGEST:g}; check the units and the scales"
                )

    def update(self, qp: QuadraticProgram) -> None:
        """Take new numbers on the same pattern; the solver is kept and stays warm."""
        if not (_same_pattern(qp.A, self.qp.A) and _same_pattern(qp.P, self.qp.P)):
            raise InputError(f"{qp.name}: an update may change numbers only, not the pattern of P or A")
        if any(not np.array_equal(at, qp.boundary.get(key)) for key, at in self.qp.boundary.items()):
            raise InputError(f"{qp.name}: an update may not move the boundary to other variables")
        self.qp = qp
        self._scale_program()

    def revise(self, qp: QuadraticProgram) -> None:
        """New numbers on the same pattern for a further run, which begins with this solver, warm."""
        if self._boundary is None:
            self.qp = qp
            return
        self.update(qp)
        self._revised = True

    def answer(self, question: Question) -> Answer:
        """Solve for one question; `bound_eur` is a proven bound of cost + price . values, without a penalty only."""
        began = time.perf_counter()
        check_question_fits(self.qp.name, self._boundary, question)
        if question.beside:
            return self.beside(question)[0]
        if not question.own_cost:
            return self._without_cost(question, began)
        numbers, price_only = self._numbers(question), not question.penalty.any()
        if self.resumable:
            self._solver, self._flat_solver = _telling(self._solver), _telling(self._flat_solver)
        solver = self._solver_for(question.penalty, numbers)
        found = solver.solve(numbers, INNER_SHARE * question.accuracy)
        doubtful = self._is_doubtful(found, question)
        if solver is self._solver:
            found = self._better(found, doubtful, numbers, question)
        if not found.status.usable and np.isinf(question.penalty).any():
            found = self._nearly(question, numbers, solver, found)
        if not found.status.usable:
            return self._unusable(found, time.perf_counter() - began)
        x = found.x * self._s
        if not (price_only and self._has_schedule):
            self.x, self._has_schedule = x, not price_only
        return Answer(
            values=x[self._at],
            status=found.status,
            reason=found.reason,
            cost_eur=self.qp.cost_eur(x) if self.shares_cost else None,
            bound_eur=self._bound(x, found.y, question.price) if self.shares_cost and price_only else None,
            solve_seconds=time.perf_counter() - began,
            inner_iterations=found.iterations,
            proves=self.shares_cost,
        )

    def _better(self, found: SolverAnswer, doubtful: bool, numbers: Numbers, question: Question) -> SolverAnswer:
        """What was found, or in its place what no first-order step reaches, or what is found in place of a solver that
        is stuck."""
        good = found.status not in (AnswerStatus.INACCURATE, AnswerStatus.FAILED) and not found.at_limit
        self._stuck = 0 if good else self._stuck + 1
        if doubtful:
            self._flat_solver = self._flat_solver or _make_solver(FLAT_SOLVERS[self.solver_name], numbers)
            found = self._flat_solver.solve(numbers, INNER_SHARE * question.accuracy)
        if self._may_change() and (self._stuck >= STUCK_AFTER or found.status is AnswerStatus.FAILED):
            return self._by_the_other(numbers, question.accuracy) or found
        return found

    def _may_change(self) -> bool:
        """Once a run; what answers beside the schedule has one solver only."""
        return self.solver_in_use == self.solver_name and self._solver is not self._flat_solver

    def _by_the_other(self, numbers: Numbers, accuracy: float) -> SolverAnswer | None:
        """The other solver's answer, which stays in use if it has one; None if it has none."""
        self._stuck, name = 0, OTHER[self.solver_name]
        other = _make_solver(SOLVERS[name], numbers)
        found = other.solve(numbers, INNER_SHARE * accuracy)
        if found.status is not AnswerStatus.SOLVED:
            return None
        self._solver, self.solver_in_use = other, name
        return found

    def replaced_solver(self) -> str:
        """In words; empty where the solver is the one that was chosen."""
        return "" if self.solver_in_use == self.solver_name else f"{self.solver_in_use} in place of {self.solver_name}"

    def goes_on_as(self, former: QPAgent) -> None:
        """Use the solver that another agent of the same program, with other rows, has come to."""
        self.solver_in_use, self._stuck = former.solver_in_use, former._stuck

    def beside(self, question: Question) -> tuple[Answer, np.ndarray | None]:
        """As an agent that has been asked nothing before, with x, (n,): what this one remembers stays as it is."""
        other = QPAgent(self.qp, self.solver_name, self.shares_cost)
        other.prepare(self._boundary)
        if question.own_cost:  # a first-order solver takes long to see what is out of reach, and to come close to it
            other._solver = other._flat_solver = _make_solver(FLAT_SOLVERS[self.solver_name], other._numbers(question))
        return other.answer(replace(question, beside=False)), other.x

    def _without_cost(self, question: Question, began: float) -> Answer:
        """What the limits alone leave of price . values, with a proven bound, or nearest to the reference, without one;
        nothing that the agent remembers moves.

        Its solver is made for the one question: it has another pattern of numbers, and hardly any question is like it.
        """
        price_only = not question.penalty.any()
        numbers = self._numbers(question)
        pins = slice(self._l.size - self._at.size, None)
        reach = REACH * self._boundary.scale / self._s[self._at]
        numbers.l[pins], numbers.u[pins] = -reach, reach
        curvature = numbers.P.copy()
        curvature.data[:] = 0.0
        curvature.data[self._diagonal_at] = numbers.P.data[self._diagonal_at] - self._base_diagonal
        numbers = Numbers(curvature, numbers.q - self._q, numbers.A, numbers.l, numbers.u)
        found = _make_solver(LIMITS_SOLVER, numbers).solve(numbers, INNER_SHARE * question.accuracy)
        if not found.status.usable:
            return self._unusable(found, time.perf_counter() - began)
        x = found.x * self._s
        if not self._has_schedule:
            self.x = x
        far = price_only & (np.abs(x[self._at]) > 0.5 * REACH * self._boundary.scale) & (question.price != 0)
        proves = self.shares_cost and price_only
        return Answer(
            values=x[self._at],
            status=AnswerStatus.UNBOUNDED if far.any() else found.status,
            reason=self._held_by(x, found.y, question.price) if question.settle and price_only else "",
            cost_eur=0.0 if self.shares_cost else None,
            bound_eur=self._bound_without_cost(x, found.y, question.price) if proves else None,
            solve_seconds=time.perf_counter() - began,
            inner_iterations=found.iterations,
            proves=self.shares_cost,
        )

    def _held_by(self, x: np.ndarray, y: np.ndarray, price: np.ndarray) -> str:
        """The few limits that hold it at the price; where they are not found in time, all that weigh."""
        least = float(price @ x[self._at]) - REASON_SLACK * float(np.abs(price) @ self._boundary.scale)
        few = limits_that_hold(self.qp, self._at, price, least)
        return held_by(self.qp, y[: self._e.size] if few is None else few)

    def _bound_without_cost(self, x: np.ndarray, y: np.ndarray, price: np.ndarray) -> float | None:
        """Of all points whose boundary values are within reach; y: the solver's multipliers."""
        qp, ends = self.qp, REACH * self._boundary.scale
        pins = sp.csc_matrix((np.ones(self._at.size), (np.arange(self._at.size), self._at)), (self._at.size, qp.size))
        within = QuadraticProgram(
            P=0.0 * qp.P,
            q=np.zeros(qp.size),
            A=sp.vstack([qp.A, pins], format="csc"),
            l=np.concatenate([qp.l, -ends]),
            u=np.concatenate([qp.u, ends]),
            boundary=qp.boundary,
            name=qp.name,
        )
        paid = np.zeros(qp.size)
        paid[self._at] = price
        multiplier = np.concatenate([y[: self._e.size] * self._e * self._money, np.zeros(self._at.size)])
        return safe_bound(within, outer_box(within), x, multiplier, paid)

    def snapshot(self) -> dict[str, Any]:
        """All that the next answer depends on beside the program. Solvers that cannot say what they remember are made
        anew for each answer from now on."""
        self.resumable = True
        solver = _telling(self._solver)
        which = {"solver_in_use": self.solver_in_use, "stuck": self._stuck}
        return {"x": self.x, "has_schedule": self._has_schedule, "solver": solver and solver.snapshot(), **which}

    def restore(self, kept: Mapping[str, Any]) -> None:
        """Answer as the agent would have whose snapshot this is."""
        if kept["x"] is not None:
            check_array(kept["x"], (self.qp.size,), "x")
        if kept["has_schedule"] not in (False, kept["x"] is not None):
            raise ValueError("has_schedule does not say whether there is one")
        if kept["solver_in_use"] not in SOLVERS or not (is_whole(kept["stuck"]) and kept["stuck"] >= 0):
            raise ValueError("solver_in_use is no solver, or stuck is no count")
        self.resumable, self.x, self._has_schedule = True, kept["x"], kept["has_schedule"]
        self.solver_in_use, self._stuck = kept["solver_in_use"], kept["stuck"]
        self._solver = self._flat_solver = None
        if kept["solver"] is not None:
            numbers = Numbers(self._P, self._q, self._A, self._l, self._u)
            self._solver = _make_solver(SOLVERS[self.solver_in_use], numbers, kept["solver"])

    def _solver_for(self, penalty: np.ndarray, numbers: Numbers) -> QpSolver:
        """One of the two solvers, made when it is first needed."""
        if not (np.isfinite(penalty) & (penalty > 0)).any():
            self._flat_solver = self._flat_solver or _make_solver(FLAT_SOLVERS[self.solver_name], numbers)
            return self._flat_solver
        self._solver = self._solver or _make_solver(SOLVERS[self.solver_in_use], numbers)
        return self._solver

    def _is_doubtful(self, found: SolverAnswer, question: Question) -> bool:
        """Whether the other solver should be asked: steps that end nowhere, a cost that is said to fall without end,
        limits that are said to contradict each other and do not."""
        if found.status is AnswerStatus.INFEASIBLE and self.qp.times and not np.isinf(question.penalty).any():
            self.conflict = find_conflict(self.qp)
            return self.conflict is None
        return found.status in (AnswerStatus.FAILED, AnswerStatus.UNBOUNDED)

    def _numbers(self, question: Question) -> Numbers:
        scale, pinned = self._s[self._at], np.isinf(question.penalty)
        penalty = np.where(pinned, 0.0, question.penalty)
        diagonal, q = self._base_diagonal.copy(), self._q.copy()
        diagonal[self._at] += penalty * scale**2 / self._money
        q[self._at] += scale * (question.price - penalty * question.reference) / self._money
        self._P.data[self._diagonal_at] = diagonal
        lower, upper, pins = self._l.copy(), self._u.copy(), self._l.size - self._at.size
        lower[pins:][pinned] = upper[pins:][pinned] = (question.reference / scale)[pinned]
        return Numbers(self._P, q, self._A, lower, upper)

    def _nearly(self, question: Question, numbers: Numbers, solver: QpSolver, exact: SolverAnswer) -> SolverAnswer:
        """Follow a reference that no point meets exactly as nearly as the accuracy asks.

        What is to be followed is made of answers that were no more exact: it may lie a hair beyond a limit.
        """
        pinned = np.isinf(question.penalty)
        pins = np.arange(self._l.size - self._at.size, self._l.size)[pinned]
        room = INNER_SHARE * question.accuracy * self._boundary.scale[pinned] / self._s[self._at[pinned]]
        numbers.l[pins], numbers.u[pins] = numbers.l[pins] - room, numbers.u[pins] + room
        found = solver.solve(numbers, INNER_SHARE * question.accuracy)
        return found if found.status.usable else exact

    def _unusable(self, found: SolverAnswer, seconds: float) -> Answer:
        reason = found.reason
        if found.status is AnswerStatus.INFEASIBLE and found.certificate is not None:
            reason = explain(self.qp, found.certificate[: self.qp.l.size])
        if found.status is AnswerStatus.INFEASIBLE and self.conflict is not None:
            reason = self.conflict.public_words()
        nothing = np.zeros(self._at.size)
        return Answer(nothing, found.status, reason, solve_seconds=seconds, inner_iterations=found.iterations)

    def _bound(self, x: np.ndarray, y: np.ndarray, price: np.ndarray) -> float | None:
        """EUR; y: the solver's multipliers, of rows scaled by E and a cost scaled by 1 / c."""
        self._box = self._box or outer_box(self.qp)
        paid = np.zeros(self.qp.size)
        paid[self._at] = price
        return safe_bound(self.qp, self._box, x, y[: self._e.size] * self._e * self._money, paid)

    def join(self, leads: Sequence, names: Sequence[str], layout: Layout) -> Joint:
        """The joint program of several leads, this one among them; see `admm.memory.joint.Lead`."""
        from subproblems.joint import JointProgram

        return JointProgram(leads, names, layout)

    def lead_model(self) -> LeadModel:
        """The program and the boundary, for a joint solve on this rank."""
        return LeadModel(self.qp, self._boundary)

    led_model = lead_model
    """The model that was given last."""

    def take_schedule(self, x: np.ndarray) -> bool:
        """Make x, (n,), the schedule. Whether that moves the program: never."""
        self.x, self._has_schedule = x, True
        return False

    def model_error(self) -> float:
        """See `Answer`: a program is its own model."""
        return 0.0

    def solution(self) -> dict[str, np.ndarray]:
        """The schedule that stands, `x`: {variable block: array}, in the blocks' units."""
        return {} if self.x is None else self.qp.values(self.x)

    def units(self) -> dict[str, str]:
        """The unit of each block of `solution`."""
        return {block.name: block.unit for block in self.qp.variables or ()}

    def names(self) -> dict[str, Names]:
        """What blocks of `solution` belong to, where that is not the device that they are named after."""
        return {}

    def cost_eur(self) -> float | None:
        """The agent's own cost of its schedule, for its owner; None before the first answer."""
        return None if self.x is None else self.qp.cost_eur(self.x)

    def checks(self) -> dict[str, float | None]:
        """See `networks.case.CaseAgent`: a program has no flows beside its own."""
        return {}

    def violation(self) -> float:
        """Largest violation of the agent's own rows by its schedule, per unit of their scale."""
        return 0.0 if self.x is None else float(np.max(self.qp.violation(self.x) * self._e, initial=0.0))


def _scaled(matrix: sp.csc_matrix, rows: np.ndarray, columns: np.ndarray) -> sp.csc_matrix:
    """diag(rows) matrix diag(columns) on the same pattern: scipy's products drop stored zeros."""
    scaled = matrix.copy()
    with np.errstate(over="ignore", invalid="ignore"):  # what is no longer finite is refused
        scaled.data *= rows[matrix.indices] * np.repeat(columns, np.diff(matrix.indptr))
    return scaled


def _same_pattern(one: sp.csc_matrix, other: sp.csc_matrix) -> bool:
    pairs = ((one.indptr, other.indptr), (one.indices, other.indices))
    return one.shape == other.shape and all(np.array_equal(a, b) for a, b in pairs)


def _upper_with_full_diagonal(P: sp.csc_matrix) -> tuple[sp.csc_matrix, np.ndarray]:
    """The upper triangle with every diagonal entry stored, and where in its data the diagonal lies."""
    upper = sp.coo_matrix(sp.triu(P))
    n = P.shape[0]
    at = np.arange(n)
    data = np.concatenate([upper.data, np.zeros(n)])
    full = sp.csc_matrix((data, (np.concatenate([upper.row, at]), np.concatenate([upper.col, at]))), (n, n))
    full.sort_indices()
    return full, full.indptr[1:] - 1


def _make_solver(which: tuple[str, str], numbers: Numbers, *snapshot: Mapping[str, np.ndarray]) -> QpSolver:
    """A solver by module and class; imported here, so that only the one in use has to be installed."""
    module, kind = which
    return getattr(import_module(module), kind)(numbers, *snapshot)


def _telling(solver: QpSolver | None) -> QpSolver | None:
    """The solver, if it can say all that its next answer depends on."""
    return solver if hasattr(solver, "snapshot") else None
