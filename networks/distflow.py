"""The exact DistFlow equations of a feeder, linearised at an operating point, with the flows eliminated.

Baran and Wu, IEEE Trans. Power Delivery 4 (1989) 725, for branch b = i -> j with sending-end flows P, Q,
squared current l and squared voltage v, in MW, Mvar and per unit on 1 MVA:

    P_b - sum(P of children) - p_j - r l = 0                          (Q likewise with x)
    w_j - w_i + 200 (r P + x Q) - 100 (r^2 + x^2) l = 0               w = 100 (v - 1)
    l = (P^2 + Q^2) / v_i

Only l is not linear. At the operating point z0 = (P0, Q0, w0_i) it is replaced by l0 + g . (z - z0) with
g = (2 P0 / v0, 2 Q0 / v0, -l0 / (100 v0)). The function is convex, so the replacement never exceeds it:
a limit l <= I_max^2 cuts off no point that the exact equations allow, and is exact at the operating point.
Constant admittances consume g v and -b v, which is linear in squared voltage and needs no tangent.

What is left is square and linear, so every flow is an affine function of the consumption. Kept as
variables and rows, the flows made OSQP take hundreds to thousands of iterations; eliminated, tens, and
the balances hold exactly however loosely the program is solved.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from networks.feeder_model import Feeder
from networks.sweep import FlowState


@dataclass(frozen=True)
class OperatingPoint:
    """Where the rows are exact. branch_p_mw, branch_q_mvar: (T, n - 1). v_sq_pu: (T, n) squared voltage per unit of
    base_kv.

    root_p_mw, root_q_mvar: (T,) drawn from upstream.
    """

    branch_p_mw: np.ndarray
    branch_q_mvar: np.ndarray
    v_sq_pu: np.ndarray
    root_p_mw: np.ndarray
    root_q_mvar: np.ndarray

    @classmethod
    def of_flow(cls, flow: FlowState, otherwise: OperatingPoint | None = None) -> OperatingPoint:
        """The flow's own point; in periods in which the flow did not converge, that of `otherwise`."""
        mine = cls(flow.branch_p_mw, flow.branch_q_mvar, flow.v_sq_pu, flow.root_p_mw, flow.root_q_mvar)
        if flow.converged.all() or otherwise is None:
            return mine
        good = flow.converged
        pairs = [(getattr(mine, key), getattr(otherwise, key)) for key in cls.__dataclass_fields__]
        return cls(*(np.where(good[:, None] if a.ndim == 2 else good, a, b) for a, b in pairs))


@dataclass(frozen=True)
class Withdrawal:
    """A variable, positions (T,), that consumes p_share MW and q_share Mvar per unit at a node."""

    node: int
    columns: np.ndarray
    p_share: float
    q_share: float


@dataclass(frozen=True)
class Affine:
    """constant + slope @ u, with u (T, K) the withdrawals' variables. constant: (T, E). slope: (T, E, K)."""

    constant: np.ndarray
    slope: np.ndarray

    def at(self, u: np.ndarray) -> np.ndarray:
        """The value, shape (T, E), at u, shape (T, K)."""
        return self.constant + (self.slope @ u[:, :, None])[:, :, 0]

    def plus(self, other: Affine) -> Affine:
        """The sum of the two."""
        return Affine(self.constant + other.constant, self.slope + other.slope)

    def times(self, factor: np.ndarray) -> Affine:
        """Each element times its factor, broadcast to (T, E)."""
        return Affine(self.constant * factor, self.slope * np.broadcast_to(factor, self.constant.shape)[:, :, None])

    def shifted(self, by: np.ndarray) -> Affine:
        """The same plus a constant, broadcast to (T, E)."""
        return Affine(self.constant + by, self.slope)

    def where(self, mine: np.ndarray, other: Affine) -> Affine:
        """These elements where mine, (E,), is true, else those of the other."""
        return Affine(np.where(mine, self.constant, other.constant), np.where(mine[:, None], self.slope, other.slope))

    def only(self, elements: np.ndarray) -> Affine:
        """Some of the elements."""
        return Affine(self.constant[:, elements], self.slope[:, elements])


@dataclass(frozen=True)
class AffineFlow:
    """Branch flows p_mw, q_mvar (E = n - 1) into the series impedance, its squared current, w of the node that each
    branch feeds and of the one that feeds it, and root_p_mw, root_q_mvar (E = 1) drawn from upstream."""

    p_mw: Affine
    q_mvar: Affine
    current_sq_pu: Affine
    w: Affine
    w_above: Affine
    root_p_mw: Affine
    root_q_mvar: Affine


def _tangent(feeder: Feeder, point: OperatingPoint) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """l = constant + g_p P + g_q Q + g_w w_i near the point, all (T, n - 1)."""
    v0, p0, q0 = point.v_sq_pu[:, feeder.parent], point.branch_p_mw, point.branch_q_mvar
    l0 = (p0**2 + q0**2) / v0
    g_p, g_q, g_w = 2 * p0 / v0, 2 * q0 / v0, -l0 / (100 * v0)
    return l0 - g_p * p0 - g_q * q0 - g_w * 100 * (v0 - 1), g_p, g_q, g_w


class DistFlow:
    """Makes affine flows of one feeder; what does not depend on the operating point is made once.

    With M the paths, N the nodes' consumption by u, l the squared currents and g + jh what admittances consume at 1 pu:

        P = M (p + N_p u + g v + r l)        Q = M (q + N_q u + h v + x l)        v = 1 + w / 100
        w = w_root - M' [200 (r P + x Q) - 100 (r^2 + x^2) l]

    Both P and Q contain w where there are admittances. It is eliminated with
    A w = w of the rest, where A = 1 + 2 M' (r M g + x M h).
    """

    def __init__(
        self,
        feeder: Feeder,
        withdrawals: Sequence[Withdrawal],
        p_mw: np.ndarray,
        q_mvar: np.ndarray,
        shunt_mva: np.ndarray | None = None,
    ) -> None:
        """p_mw, q_mvar: (T, n) fixed consumption. shunt_mva: as in `Sweep.run`."""
        self._feeder, self._paths = feeder, feeder.paths()
        shunt = feeder.branch_shunt_mva + (feeder.shunt_mva[None] if shunt_mva is None else shunt_mva)
        own = shunt[:, 0] * feeder.root_base_pu**2
        self._p_root = _at_root(withdrawals, p_mw, own.real, False)
        self._q_root = _at_root(withdrawals, q_mvar, own.imag, True)
        nodes = len(feeder.nodes)
        shares = np.zeros((2, nodes, len(withdrawals)))
        for k, taken in enumerate(withdrawals):
            shares[:, taken.node, k] = taken.p_share, taken.q_share
        at_1_pu = shunt[:, 1:]
        # without losses, as (T or 1, n - 1, K + 1): first the constant, then one column a variable
        self._p = self._columns(p_mw[:, 1:] + at_1_pu.real, shares[0, 1:])
        self._q = self._columns(q_mvar[:, 1:] + at_1_pu.imag, shares[1, 1:])
        r, x = feeder.r_pu[:, None], feeder.x_pu[:, None]
        self._w_root = 100 * (feeder.root_base_pu**2 - 1)
        self._w = -self._paths.T @ (200 * (r * self._p + x * self._q))
        self._w[:, :, 0] += self._w_root
        # what the losses add, per unit of l: (n - 1, n - 1), or (T or 1, n - 1, n - 1) with admittances
        self._p_of_l, self._q_of_l = self._paths * feeder.r_pu, self._paths * feeder.x_pu
        drop = 200 * (r * self._p_of_l + x * self._q_of_l) - 100 * np.diag(feeder.r_pu**2 + feeder.x_pu**2)
        self._w_of_l = -self._paths.T @ drop
        if at_1_pu.any():
            self._eliminate(self._paths * at_1_pu.real[:, None, :], self._paths * at_1_pu.imag[:, None, :])

    def _eliminate(self, p_of_v: np.ndarray, q_of_v: np.ndarray) -> None:
        """Put what admittances consume, (T or 1, n - 1, n - 1) per unit of v, into the rest."""
        r, x = self._feeder.r_pu[:, None], self._feeder.x_pu[:, None]
        matrix = np.eye(r.size) + 2 * self._paths.T @ (r * p_of_v + x * q_of_v)
        self._w = np.linalg.solve(matrix, self._w)
        self._w_of_l = np.linalg.solve(matrix, np.broadcast_to(self._w_of_l, matrix.shape))
        self._p, self._q = self._p + p_of_v @ self._w / 100, self._q + q_of_v @ self._w / 100
        self._p_of_l = self._p_of_l + p_of_v @ self._w_of_l / 100
        self._q_of_l = self._q_of_l + q_of_v @ self._w_of_l / 100

    def _columns(self, fixed: np.ndarray, shares: np.ndarray) -> np.ndarray:
        varying = np.broadcast_to(shares, (fixed.shape[0], *shares.shape))
        return self._paths @ np.concatenate([fixed[:, :, None], varying], axis=2)

    def at(self, point: OperatingPoint) -> AffineFlow:
        """The flow whose losses are exact at the point: l is found from a linear system of n - 1 rows a period."""
        constant, g_p, g_q, g_w = (part[:, :, None] for part in _tangent(self._feeder, point))
        w_above, w_above_of_l = self._above(self._w, self._w_root), self._above(self._w_of_l)
        right = g_p * self._p + g_q * self._q + g_w * w_above
        right[:, :, :1] += constant
        matrix = np.eye(len(self._feeder.branches)) - g_p * self._p_of_l - g_q * self._q_of_l - g_w * w_above_of_l
        squared = np.linalg.solve(matrix, right)
        p = _affine(self._p + self._p_of_l @ squared)
        q = _affine(self._q + self._q_of_l @ squared)
        w = self._w + self._w_of_l @ squared
        return AffineFlow(
            p,
            q,
            _affine(squared),
            _affine(w),
            _affine(self._above(w, self._w_root)),
            self._root(p, self._p_root),
            self._root(q, self._q_root),
        )

    def _above(self, w: np.ndarray, root: float = 0.0) -> np.ndarray:
        """w of the sending node, (..., n - 1, K + 1), from that of the nodes fed; the root's own is constant."""
        parent = self._feeder.parent
        above = w[..., np.maximum(parent - 1, 0), :].copy()
        above[..., parent == 0, :] = 0.0
        above[..., parent == 0, 0] = root
        return above

    def _root(self, flow: Affine, own: Affine) -> Affine:
        first = self._feeder.parent == 0
        constant = flow.constant[:, first].sum(axis=1, keepdims=True)
        return Affine(own.constant + constant, own.slope + flow.slope[:, first].sum(axis=1, keepdims=True))


def _affine(columns: np.ndarray) -> Affine:
    return Affine(columns[:, :, 0], columns[:, :, 1:])


def _at_root(withdrawals: Sequence[Withdrawal], fixed: np.ndarray, own: np.ndarray, reactive: bool) -> Affine:
    """Consumption at the root itself. own: (T or 1,) of its admittances."""
    shares = [(one.q_share if reactive else one.p_share) if one.node == 0 else 0.0 for one in withdrawals]
    constant = fixed[:, [0]] + own[:, None]
    return Affine(constant, np.tile(np.array(shares, dtype=float), (fixed.shape[0], 1, 1)))
