"""What the scheme asks of the agents that lead it: a joint solve over their own variables and remembered answers.

    minimise    cost of the leads(x) + sum_a f_a . w_a + sum_F theta_F
    subject to  the leads' own rows;  w_a in the unit simplex;  theta_F >= c_k + g_k . (z - y_k) for every cut k
    tie         every boundary value z of x is what the other side's mix Y_a w_a of its remembered answers gives

Y_a: answers of agent a, f_a their costs. Convex combinations of answers are feasible for a, at no more than the
combined cost. The tie is soft (an augmented Lagrangian, price and penalty as in ADMM) or firm.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol, runtime_checkable

import numpy as np

from admm.couplings import Layout
from admm.interfaces import Agent


@dataclass(frozen=True)
class Columns:
    """One agent's remembered answers: entries (n_a,) in the layout, values (k, n_a), cost_eur (k,)."""

    entries: np.ndarray
    values: np.ndarray
    cost_eur: np.ndarray


@dataclass(frozen=True)
class Cuts:
    """What is known of one follower's cost: it is at least cost_eur[k] + slope[k] . (z - values[k]) for every k.

    entries (n_F,); values, slope (k, n_F); cost_eur (k,). centre, curvature (n_F,): the follower's latest value
    and how much its price moves from there, EUR per unit squared; 0 before the first answer.
    """

    entries: np.ndarray
    values: np.ndarray
    slope: np.ndarray
    cost_eur: np.ndarray
    centre: np.ndarray
    curvature: np.ndarray


@dataclass(frozen=True)
class JointQuestion:
    """price, penalty: (n,) over the layout's entries. firm: whether ties hold exactly, as far as there is a point
    at which they do; `leeway` is what breaking one costs beyond the price, EUR per unit (n,)."""

    remembered: Mapping[str, Columns]
    followers: Mapping[str, Cuts]
    price: np.ndarray
    penalty: np.ndarray
    leeway: np.ndarray
    firm: bool


@dataclass(frozen=True)
class JointAnswer:
    """values: (n,), the leads' values, and the followers' where no lead is at the entry. mix: {agent: shares of its
    answers}. price: (n,), what a unit more of each entry is worth. cost_eur: of the leads alone."""

    values: np.ndarray
    mix: dict[str, np.ndarray]
    price: np.ndarray
    cost_eur: float

    def told(self) -> JointAnswer:
        """Without what a subclass adds for the leads alone."""
        return JointAnswer(self.values, self.mix, self.price, self.cost_eur)


class Joint(Protocol):
    """The leads' models put together. Nothing of it leaves the rank on which the leads live."""

    def solve(self, question: JointQuestion) -> JointAnswer | None:
        """None where no usable answer was found."""

    def bound_eur(self, price: np.ndarray) -> float | None:
        """A proven lower bound of the leads' own cost at a price, (n,); None where none is found."""

    def adopt(self, answer: JointAnswer) -> bool:
        """Make a firm answer the leads' schedule; whether that has changed their models (a new operating point)."""

    def model_error(self) -> float:
        """The largest of the leads', see `Answer`."""

    def snapshot(self) -> Any:
        """What the next solve depends on beside the leads' own snapshots, as `admm.snapshot` takes it."""

    def restore(self, kept: Any) -> None:
        """After the leads are restored."""


@runtime_checkable
class Lead(Agent, Protocol):
    """An agent that can lead the scheme "memory", alone or with others of its side on the same rank."""

    def join(self, leads: Sequence[Lead], names: Sequence[str], layout: Layout) -> Joint:
        """All the given leads, this one among them, as one."""
