"""A community's or hub's program of the day, made fit for the hours in which the day happens.

The day-ahead program stays as it is: same variables, same periods, same matrices; only bounds and costs change.

Periods that are over are *frozen*: powers are what they were, no flexibility is offered, limits there do not hold,
and balances alone carry the state into the future.

A forecast that fails must not leave an agent without any answer, so limits of states (energy, temperature) and of the
connection *give way*, by the cheapest amounts that leave a schedule at all:

    minimise  price . (short + over)   subject to   lower <= value + short - over <= upper,   all other rows as they are

These amounts are found once a gate, before anything is coordinated; the limits are then moved by them. Rows that keep
what flexibility needs in a state guard later limits: they give way next to those, not counted a second time.
Stored energy that the day leaves over has the *terminal value*, a cost on the last state.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import scipy.sparse as sp
from scipy.optimize import Bounds, LinearConstraint, milp

from admm import InfeasibleError
from networks.market.local_control import LocalControl
from subproblems import QuadraticProgram
from subproblems.quadratic_program import Block

POWER, SUMS = "kW", ("MW", "kg")
"""Units of what a device decides, and of sums and outputs; variables in any other unit are states."""
ROOM_SHARE = 1e-6
"""Limits that give way do so by so much of the variable's scale more, as solvers stop a hair outside."""
GUARD_SHARE = 1e-4
"""Of a state's price, what its guards cost: so little that all of them do not outweigh the limit that they guard."""

STORE_SHARE = 1e-2
"""What it counts if a store of heat leaves its schedule, of what it counts if others do."""

NOTED_SHARE = 1e-3
"""Share of a variable's scale from which on its excess is more than the inexactness of an answer."""


@dataclass(frozen=True)
class Relief:
    """What giving way costs. state_eur_per_kwh: a state beyond its limit, a period, in kWh of the power that moves
    it. connection_eur_per_mwh: power beyond the connection's limit."""

    state_eur_per_kwh: float = 1.0
    connection_eur_per_mwh: float = 4000.0


class IntradayProgram:
    """Makes the intra-day program from a day-ahead program with the latest numbers.

    cleared: the day-ahead program as it was cleared. coupling: the one that carries its power. hours: of a period.
    terminal_eur_per_kwh: value of energy that is left at the end of the day beyond what must be.
    """

    def __init__(
        self, cleared: QuadraticProgram, coupling: str, hours: float, relief: Relief, terminal_eur_per_kwh: float
    ) -> None:
        self._coupling, self._blocks = coupling, _yielding_blocks(cleared, coupling)
        self._yielding = np.concatenate([np.arange(b.start, b.start + b.length) for b in self._blocks])
        self._row_period = np.concatenate([np.arange(block.length) for block in cleared.rows])
        self._bounded = _bounded_variable(cleared)
        self._is_limit = _limits(cleared, self._bounded)
        self._unit_of = np.concatenate([np.full(b.length, b.unit, dtype=object) for b in cleared.variables])
        self._awards = _awards(cleared, coupling, self._unit_of)
        self._closed = self._balances_of_powers(cleared)
        self._cost = self._relief_cost(cleared, hours, relief)
        self._guards, self._guard_cost = self._guarding(cleared)
        self._value = self._terminal_value(cleared, hours, terminal_eur_per_kwh)

    def _relief_cost(self, qp: QuadraticProgram, hours: float, relief: Relief) -> np.ndarray:
        """Of one unit of every yielding variable, EUR a period."""
        prices = [hours * relief.connection_eur_per_mwh]
        for state in self._blocks[1:]:
            prices.append(relief.state_eur_per_kwh * _kwh_per_unit(qp, state, self._unit_of, hours))
        return np.concatenate([np.full(block.length, price) for block, price in zip(self._blocks, prices, strict=True)])

    def _guarding(self, qp: QuadraticProgram) -> tuple[np.ndarray, np.ndarray]:
        """Limits of a state together with flexibility, as rows, and what giving way costs there, EUR a unit."""
        states, first = self._yielding, self._blocks[0].length
        held = sp.csr_matrix(qp.A)[:, states[first:]] != 0
        rows = np.flatnonzero(self._is_limit & (self._bounded < 0) & (np.diff(held.indptr) > 0))
        return rows, GUARD_SHARE * (held[rows] @ self._cost[first:])

    def _terminal_value(self, qp: QuadraticProgram, hours: float, eur_per_kwh: float) -> np.ndarray:
        """(n,), EUR per unit: of the last state of what has to be left with something at the end."""
        value = np.zeros(qp.size)
        for state in self._blocks[1:]:
            lower = qp.l[np.flatnonzero(self._bounded == state.start + state.length - 1)]
            before = qp.l[np.flatnonzero(self._bounded == state.start + state.length - 2)]
            if lower.size and before.size and lower[0] > before[0]:
                value[state.start + state.length - 1] = eur_per_kwh * _kwh_per_unit(qp, state, self._unit_of, hours)
        return value

    def program(self, qp: QuadraticProgram, gate: int, done: np.ndarray) -> tuple[QuadraticProgram, dict]:
        """With the numbers of qp, and the periods before `gate` as they were in done, (n,); and by how much
        limits give way, {variable: (T,)} in its unit, of those that do.

        Raises InfeasibleError if no schedule is left whatever gives way.
        """
        lower, upper = self._frozen(qp, gate, done)
        amounts, moved = self._given_way(qp, lower, upper)
        lower, upper = lower - np.maximum(moved, 0.0), upper - np.minimum(moved, 0.0)
        return replace(qp, l=lower, u=upper, q=qp.q - self._value), self._by_name(amounts)

    def _given_way(self, qp: QuadraticProgram, lower: np.ndarray, upper: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Short minus over of every yielding variable, with room for the solver where there is any; and by how much
        that and giving way of guards move each row, (m,)."""
        columns, k = self._columns(qp), self._yielding.size
        prices = np.concatenate([self._cost, self._guard_cost])
        rows = LinearConstraint(sp.hstack([qp.A, columns, -columns], format="csc"), lower, upper)
        free = np.concatenate([np.full(qp.size, -np.inf), np.zeros(2 * prices.size)])
        found = milp(np.concatenate([np.zeros(qp.size), prices, prices]), constraints=rows, bounds=Bounds(free, np.inf))
        if found.x is None:
            raise InfeasibleError(f"{qp.name}: no schedule is left for the rest of the day ({found.message})")
        short, over = np.split(found.x[qp.size :], 2)
        room = ROOM_SHARE * np.concatenate([qp.variable_scale[self._yielding], qp.row_scale[self._guards]])
        net = short - over
        net = np.where(np.abs(net) > room, net + np.sign(net) * room, 0.0)
        return net[:k], columns @ net

    def _columns(self, qp: QuadraticProgram) -> sp.csc_matrix:
        """What gives way, in the rows that are limits: yielding variables, and guards by themselves; (m, both)."""
        variables = sp.diags_array(self._is_limit.astype(float)) @ qp.A[:, self._yielding]
        return sp.csc_matrix(sp.hstack([variables, sp.eye_array(qp.l.size, format="csc")[:, self._guards]]))

    def _by_name(self, amounts: np.ndarray) -> dict[str, np.ndarray]:
        ends = np.cumsum([block.length for block in self._blocks])
        parts = zip(self._blocks, np.split(np.abs(amounts), ends[:-1]), strict=True)
        return {block.name: part for block, part in parts if part.any()}

    def relief_eur(self, given_way: dict[str, np.ndarray]) -> np.ndarray:
        """What the amounts of `program` cost in each period, (T,)."""
        starts = np.cumsum([0, *(block.length for block in self._blocks)])[:-1]
        each = {
            b.name: self._cost[at] * given_way[b.name]
            for b, at in zip(self._blocks, starts, strict=True)
            if b.name in given_way
        }
        return sum(each.values(), np.zeros(self._blocks[0].length))

    def awarded(self, qp: QuadraticProgram) -> np.ndarray:
        """Which variables are flexibility, of devices and at the connection; (n,), true or false."""
        offered = [qp.boundary[self._coupling, key] for key in ("flex_up_mw", "flex_down_mw")]
        found = self._awards.copy()
        found[np.concatenate(offered)] = True
        return found

    def terminal_eur(self, x: np.ndarray) -> float:
        """What the program's cost counts as value of what is left at the end, EUR."""
        return float(self._value @ x)

    @property
    def states(self) -> tuple[str, ...]:
        return tuple(block.name for block in self._blocks[1:])

    def beyond(self, qp: QuadraticProgram, x: np.ndarray) -> dict[str, np.ndarray]:
        """By how much x, (n,), exceeds bounds of states and of the connection, {variable: (T,)}, of those that do."""
        rows, at = self._limits_by_themselves(qp)
        factor = np.asarray(sp.csr_matrix(qp.A)[rows, at]).ravel()
        excess = np.zeros(qp.size)
        each = np.maximum(np.maximum(qp.l[rows] - factor * x[at], factor * x[at] - qp.u[rows]), 0.0) / np.abs(factor)
        np.maximum.at(excess, at, each)
        scale = np.ones(qp.size) if qp.variable_scale is None else qp.variable_scale
        excess[excess < NOTED_SHARE * scale] = 0.0
        return self._by_name(excess[self._yielding])

    def _limits_by_themselves(self, qp: QuadraticProgram) -> tuple[np.ndarray, np.ndarray]:
        """Rows that limit states and the connection, and the variable in each: bounds; and of the connection limits
        with flexibility, which is not negative, so that power alone has to keep to them."""
        bounds = np.flatnonzero(np.isin(self._bounded, self._yielding))
        power = self._blocks[0]
        with_power = sp.coo_matrix(sp.csc_matrix(qp.A)[:, power.start : power.start + power.length])
        shared = self._is_limit[with_power.row] & (self._bounded[with_power.row] < 0)
        rows = np.concatenate([bounds, with_power.row[shared]])
        return rows, np.concatenate([self._bounded[bounds], power.start + with_power.col[shared]])

    def _frozen(self, qp: QuadraticProgram, gate: int, done: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Bounds of qp's rows: before the gate, powers are held at what they were, awards at 0, limits are open."""
        lower, upper = qp.l.copy(), qp.u.copy()
        over = self._is_limit & (self._row_period < gate)
        lower[over], upper[over] = -np.inf, np.inf
        held = np.flatnonzero((self._bounded >= 0) & (self._row_period < gate))
        held = held[self._unit_of[self._bounded[held]] == POWER]
        was = np.where(self._awards, 0.0, done)
        lower[held] = upper[held] = was[self._bounded[held]]
        return lower, upper

    def local_control(self, qp: QuadraticProgram) -> LocalControl:
        """Of the cleared program's devices."""
        powers, states, cost = (
            (self._unit_of == POWER) & ~self._awards,
            np.zeros(qp.size, dtype=bool),
            np.zeros(qp.size),
        )
        states[self._yielding[self._blocks[0].length :]] = True
        cost[self._yielding] = self._cost
        return LocalControl(qp, powers, states, cost, self._row_period, self._is_limit)

    def realised(self, qp: QuadraticProgram, x: np.ndarray, former: QuadraticProgram | None = None) -> np.ndarray:
        """x, (n,), with every power cut to the limits that qp has now: what a device can do of what was scheduled.

        former: the program that x was scheduled with; what ran at its full power there, such as PV that nobody
        curtailed, does so still. Where powers have to be in balance by themselves, as heat in a hub, those move that
        must, by the least heat; a store before all others. Raises InfeasibleError if they cannot.
        """
        done, rows = x.copy(), np.flatnonzero(self._bounded >= 0)
        at = self._bounded[rows]
        done[at] = np.clip(x[at], qp.l[rows], qp.u[rows])
        if former is not None:
            full = self._at_full_power(former, x, rows) & (qp.u[rows] > former.u[rows])
            done[at[full]] = qp.u[rows[full]]
        if not self._closed.size:
            return done
        balance, room = sp.csr_matrix(qp.A)[self._closed], np.zeros((2, qp.size))
        room[:, at] = qp.u[rows] - done[at], done[at] - qp.l[rows]
        takes_both = np.zeros(qp.size, dtype=bool)
        takes_both[at] = qp.l[rows] < 0
        return done + _least_change(qp, balance, qp.l[self._closed] - balance @ done, room, takes_both)

    def _at_full_power(self, qp: QuadraticProgram, x: np.ndarray, rows: np.ndarray) -> np.ndarray:
        """Which of those bounds of powers are reached from below, (rows,) true or false."""
        at = self._bounded[rows]
        near = x[at] >= qp.u[rows] - NOTED_SHARE * qp.variable_scale[at]
        return near & (qp.u[rows] > 0) & (self._unit_of[at] == POWER) & ~self._awards[at]

    def _balances_of_powers(self, qp: QuadraticProgram) -> np.ndarray:
        """The rows that tie powers of devices, and nothing else, to each other."""
        free = np.ones(qp.size)
        free[self._bounded[self._bounded >= 0]] = 0.0
        others = (free > 0) | (self._unit_of != POWER) | self._awards
        return np.flatnonzero(~self._is_limit & (abs(sp.csr_matrix(qp.A)) @ others.astype(float) == 0))


def _yielding_blocks(qp: QuadraticProgram, coupling: str) -> list[Block]:
    """The connection's power first, then all states."""
    at = qp.boundary[coupling, "p_mw"][0]
    connection = [b for b in qp.variables if b.start == at]
    return connection + [b for b in qp.variables if b.unit not in (POWER, *SUMS)]


def _limits(qp: QuadraticProgram, bounded: np.ndarray) -> np.ndarray:
    """Which rows are limits: bounds of variables, and all rows of blocks that are no balances; (m,) true or false."""
    found = bounded >= 0
    for block in qp.rows:
        found[block.entries] |= (qp.l[block.entries] < qp.u[block.entries]).any()
    return found


def _least_change(
    qp: QuadraticProgram, balance: sp.csr_matrix, missing: np.ndarray, room: np.ndarray, stores: np.ndarray
) -> np.ndarray:
    """(n,): minimise |balance| . |change|  subject to  balance change = missing,  -room[1] <= change <= room[0]."""
    cost = np.asarray(abs(balance).sum(axis=0)).ravel() * np.where(stores, STORE_SHARE, 1.0)
    rows = LinearConstraint(sp.hstack([balance, -balance], format="csc"), missing, missing)
    found = milp(np.concatenate([cost, cost]), constraints=rows, bounds=Bounds(0.0, room.ravel()))
    if found.x is None:
        raise InfeasibleError(f"{qp.name}: powers of devices cannot be kept in balance ({found.message})")
    more, less = np.split(found.x, 2)
    return more - less


def _kwh_per_unit(qp: QuadraticProgram, state: Block, unit_of: np.ndarray, hours: float) -> float:
    """How much energy moves a state by one of its units: from the power that moves it most in its balances."""
    rows = sp.csr_matrix(qp.A)[np.flatnonzero(qp.l == qp.u)]
    mine = rows[np.flatnonzero(np.abs(rows[:, state.entries]).sum(axis=1) > 0)].tocoo()
    moving = np.abs(mine.data[unit_of[mine.coords[1]] == POWER])
    return hours / float(moving.max()) if moving.size else 1.0


def _awards(qp: QuadraticProgram, coupling: str, unit_of: np.ndarray) -> np.ndarray:
    """Which variables are flexibility of a device: those that add up to the connection's. shape (n,), true or false."""
    offered = np.concatenate([qp.boundary[coupling, key] for key in ("flex_up_mw", "flex_down_mw")])
    rows = sp.csr_matrix(qp.A)[np.flatnonzero(qp.l == qp.u)]
    sums = rows[np.flatnonzero(np.abs(rows[:, offered]).sum(axis=1) > 0)].tocoo()
    found = np.zeros(qp.size, dtype=bool)
    found[sums.coords[1]] = True
    return found & (unit_of == POWER)


def _bounded_variable(qp: QuadraticProgram) -> np.ndarray:
    """For every row the variable whose bounds it holds; -1 for all other rows. shape (m,).

    A balance may happen to have one variable only, too.
    """
    rows, found = sp.csr_matrix(qp.A), np.full(qp.l.size, -1)
    for block in (block for block in qp.rows if block.bounds):
        found[block.entries] = rows[block.entries].indices
    return found
