"""What a user would pick instead: all agents stacked into one QP and given to a solver.

    minimise sum_a f_a(x_a)   subject to   l_a <= A_a x_a <= u_a,   y_c - z_c = 0

All in scaled units (variables, rows and money), as the agents' own solvers see them. Each solve runs in a process of
its own that is ended at the time limit. "Same accuracy" as the coordination: objective within 1e-4 of the turnover,
violation of rows and couplings at most 1e-3 of scale; of a solver's tolerances the loosest that gets there counts.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from multiprocessing import get_context
from multiprocessing.connection import Connection

import numpy as np
import scipy.sparse as sp

import admm
from admm.couplings import Layout
from subproblems.quadratic_program import INFINITE, QuadraticProgram

TIME_LIMIT_SECONDS = 150.0
GRACE_SECONDS = 5.0
"""Beyond the limit, for a solver that keeps it by itself to pass on what it says."""


@dataclass(frozen=True)
class Stacked:
    """minimise 1/2 x'Px + q'x, l <= Ax <= u in scaled units; cost in EUR is money times that plus constant.

    ties: number of the last rows, which are y - z = 0 by each entry's scale. price_factor: (ties,), EUR per unit and
    period of a multiplier of 1. value_at, value_scale: (ties,), the lower agents' boundary variables.
    """

    P: sp.csc_matrix
    q: np.ndarray
    A: sp.csc_matrix
    l: np.ndarray  # noqa: E741
    u: np.ndarray
    money: float
    constant: float
    price_factor: np.ndarray
    value_at: np.ndarray
    value_scale: np.ndarray

    def objective_eur(self, x: np.ndarray) -> float:
        return self.money * float(0.5 * x @ (self.P @ x) + self.q @ x) + self.constant

    def violation(self, x: np.ndarray) -> float:
        """Largest violation of a row or a coupling, as a share of its scale."""
        value = self.A @ x
        return float(np.maximum(self.l - value, value - self.u).max(initial=0.0))

    def turnover_eur(self, x: np.ndarray, multiplier: np.ndarray) -> float:
        """Sum of |price x value|; multiplier: (m,) of the rows."""
        price = multiplier[-self.price_factor.size :] * self.price_factor
        return float(np.abs(price * x[self.value_at] * self.value_scale).sum())


@dataclass(frozen=True)
class Solved:
    """seconds: of the solver alone. status: "solved", "time limit" or "failed: ...". x, multiplier: only if solved."""

    status: str
    seconds: float
    x: np.ndarray | None = None
    multiplier: np.ndarray | None = None


def stack(programs: Mapping[str, QuadraticProgram], couplings: Sequence[admm.Coupling]) -> Stacked:
    """One program of all. Variables agent by agent, rows agent by agent and then the couplings'."""
    layout, names = Layout(couplings), list(programs)
    start = dict(zip(names, np.cumsum([0, *(programs[n].size for n in names)]), strict=False))
    scale = np.concatenate([_scale(programs[n], "variable_scale", programs[n].size) for n in names])
    rows = np.concatenate([_scale(programs[n], "row_scale", programs[n].l.size) for n in names])
    money = float(np.mean(layout.price_scale * layout.scale))
    ends = {"lower": [], "upper": []}
    for block in layout.blocks:
        for end, at in ends.items():
            agent = getattr(block.coupling, end)
            at.append(start[agent] + programs[agent].boundary[block.coupling.name, block.quantity.name])
    lower, upper = np.concatenate(ends["lower"]), np.concatenate(ends["upper"])
    entry, one = np.arange(layout.size), np.ones(layout.size)
    ties = sp.csc_matrix((np.r_[one, -one], (np.r_[entry, entry], np.r_[lower, upper])), (layout.size, scale.size))
    A = sp.vstack([sp.block_diag([programs[n].A for n in names]), ties], format="csc")
    by_row = np.concatenate([rows, layout.scale])
    zeros = np.zeros(layout.size)
    P = sp.block_diag([programs[n].P for n in names])
    return Stacked(
        P=sp.csc_matrix(sp.diags_array(scale / money) @ P @ sp.diags_array(scale)),
        q=scale * np.concatenate([programs[n].q for n in names]) / money,
        A=sp.csc_matrix(sp.diags_array(1 / by_row) @ A @ sp.diags_array(scale)),
        l=np.concatenate([*(programs[n].l for n in names), zeros]) / by_row,
        u=np.concatenate([*(programs[n].u for n in names), zeros]) / by_row,
        money=money,
        constant=sum(programs[n].constant for n in names),
        price_factor=money / layout.scale,
        value_at=lower,
        value_scale=scale[lower],
    )


def _scale(program: QuadraticProgram, key: str, size: int) -> np.ndarray:
    given = getattr(program, key)
    return np.ones(size) if given is None else given


# ---------------------------------------------------------------- solvers: (status, x, multiplier)

Answer = tuple[str, np.ndarray, np.ndarray]


def _piqp(whole: Stacked, tolerance: float, limit: float) -> Answer:
    import piqp

    equal, other = _split(whole)
    solver, rows = piqp.SparseSolver(), sp.csr_matrix(whole.A)
    settings = solver.settings
    settings.eps_abs = settings.eps_rel = settings.eps_duality_gap_abs = settings.eps_duality_gap_rel = tolerance
    settings.eps_primal_inf = 1e-8
    ends = [np.where(np.abs(side) >= INFINITE, np.copysign(np.inf, side), side)[other] for side in (whole.l, whole.u)]
    solver.setup(
        sp.triu(whole.P, format="csc"), whole.q, rows[equal].tocsc(), whole.u[equal], rows[other].tocsc(), *ends
    )
    status, multiplier = solver.solve().name, np.zeros(whole.l.size)
    multiplier[equal] = solver.result.y
    multiplier[other] = np.asarray(solver.result.z_u) - np.asarray(solver.result.z_l)
    return "solved" if status == "PIQP_SOLVED" else status, np.array(solver.result.x), multiplier


def _split(whole: Stacked) -> tuple[np.ndarray, np.ndarray]:
    """Rows that are equalities, and the others; rows open at both ends are in neither."""
    equal = whole.l == whole.u
    return np.flatnonzero(equal), np.flatnonzero(~equal & ((whole.l > -INFINITE) | (whole.u < INFINITE)))


def _clarabel(whole: Stacked, tolerance: float, limit: float) -> Answer:
    import clarabel

    equal, other = _split(whole)
    above, below = other[whole.u[other] < INFINITE], other[whole.l[other] > -INFINITE]
    rows = sp.csr_matrix(whole.A)
    stacked = sp.vstack([rows[equal], rows[above], -rows[below]], format="csc")
    b = np.concatenate([whole.u[equal], whole.u[above], -whole.l[below]])
    cones = [clarabel.ZeroConeT(equal.size), clarabel.NonnegativeConeT(above.size + below.size)]
    settings = clarabel.DefaultSettings()
    settings.verbose, settings.time_limit = False, limit
    settings.tol_gap_abs = settings.tol_gap_rel = settings.tol_feas = tolerance
    found = clarabel.DefaultSolver(sp.triu(whole.P, format="csc"), whole.q, stacked, b, cones, settings).solve()
    z, multiplier = np.asarray(found.z), np.zeros(whole.l.size)
    multiplier[equal] = z[: equal.size]
    multiplier[above] += z[equal.size : equal.size + above.size]
    multiplier[below] -= z[equal.size + above.size :]
    status = str(found.status)
    return "solved" if status == "Solved" else status, np.asarray(found.x), multiplier


def _osqp(whole: Stacked, tolerance: float, limit: float) -> Answer:
    import osqp

    solver = osqp.OSQP(algebra="builtin")
    solver.setup(
        sp.triu(whole.P, format="csc"), whole.q, whole.A, np.maximum(whole.l, -INFINITE), np.minimum(whole.u, INFINITE),
        eps_abs=tolerance, eps_rel=0.0, max_iter=1_000_000, check_termination=25, time_limit=limit, verbose=False,
    )  # fmt: skip
    found = solver.solve(raise_error=False)
    return "solved" if found.info.status_val == 1 else found.info.status, found.x, found.y


def _highs(whole: Stacked, tolerance: float, limit: float) -> Answer:
    import highspy

    model, hessian = highspy.HighsModel(), sp.tril(whole.P, format="csc")
    lp = model.lp_
    lp.num_col_, lp.num_row_ = whole.q.size, whole.l.size
    lp.col_cost_, lp.row_lower_, lp.row_upper_ = whole.q, whole.l, whole.u
    lp.col_lower_, lp.col_upper_ = np.full(whole.q.size, -highspy.kHighsInf), np.full(whole.q.size, highspy.kHighsInf)
    lp.a_matrix_.format_ = highspy.MatrixFormat.kColwise
    lp.a_matrix_.start_, lp.a_matrix_.index_, lp.a_matrix_.value_ = whole.A.indptr, whole.A.indices, whole.A.data
    model.hessian_.dim_, model.hessian_.format_ = whole.q.size, highspy.HessianFormat.kTriangular
    model.hessian_.start_, model.hessian_.index_ = hessian.indptr, hessian.indices
    model.hessian_.value_ = hessian.data
    solver = highspy.Highs()
    for key, value in (("output_flag", False), ("time_limit", limit)):
        solver.setOptionValue(key, value)
    for key in ("primal_feasibility_tolerance", "dual_feasibility_tolerance"):
        solver.setOptionValue(key, tolerance)
    solver.passModel(model)
    solver.run()
    status = solver.modelStatusToString(solver.getModelStatus())
    found = solver.getSolution()
    return "solved" if status == "Optimal" else status, np.array(found.col_value), -np.array(found.row_dual)


SOLVERS: dict[str, tuple[Callable[[Stacked, float, float], Answer], tuple[float, ...]]] = {
    "PIQP": (_piqp, (1e-5, 1e-6, 1e-8)),
    "Clarabel": (_clarabel, (1e-5, 1e-6, 1e-8)),
    "OSQP": (_osqp, (1e-4, 1e-5, 1e-6)),
    "HiGHS": (_highs, (1e-7,)),
}
"""Each with its tolerances from loose to tight: the first that is accurate enough is the one that counts."""
REFERENCE = ("PIQP", 1e-9)


def solve_whole(whole: Stacked, solver: str, tolerance: float, limit: float = TIME_LIMIT_SECONDS) -> Solved:
    """One solve in a process of its own, which is ended at the limit (plus a little, to pass the answer on)."""
    context = get_context("spawn")  # a forked process would wait for ever for threads that only its parent has
    ours, theirs = context.Pipe(duplex=False)
    process = context.Process(target=_child, args=(whole, solver, tolerance, limit, theirs))
    process.start()
    theirs.close()
    try:
        answered = ours.poll(limit + GRACE_SECONDS)
        return ours.recv() if answered else Solved("time limit", limit)
    except EOFError:
        return Solved("failed: the process died, perhaps for want of memory", limit)
    finally:
        process.kill()
        process.join()


def _child(whole: Stacked, solver: str, tolerance: float, limit: float, pipe: Connection) -> None:
    began = time.perf_counter()
    try:
        status, x, multiplier = SOLVERS[solver][0](whole, tolerance, limit)
        seconds = time.perf_counter() - began
        if status != "solved":
            late = seconds >= 0.95 * limit
            pipe.send(Solved("time limit" if late else f"failed: {status}", seconds))
        else:
            pipe.send(Solved(status, seconds, np.asarray(x), np.asarray(multiplier)))
    except Exception as error:
        pipe.send(Solved(f"failed: {type(error).__name__}: {error}"[:120], time.perf_counter() - began))
