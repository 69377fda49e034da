"""Acceleration of the two-block loop: what is done with its steps, never with an agent's answers.

One iteration maps a start (second side's values z, price) to the next; it is a fixed-point map in the norm
    |(z, price)|^2 = sum(penalty * z^2 + price^2 / penalty)
An acceleration may move the point that the next iteration starts from, and the first side's values that the
second side is shown. It is not asked where much of a step is price moves that were cut off at what a price may move.
What is reported and tested are answers that agents gave. One class each.
"""

from __future__ import annotations

from typing import Any, NamedTuple, Protocol

import numpy as np

from admm.errors import InputError

MOST_CAPPED, ALL_BUT_ROUNDING = 0.25, 1.0 - 1e-9
"""From this share of capped price moves on a step tells where to go, but not how far: nothing is learned from it."""


class Point(NamedTuple):
    """What an iteration starts from, arrays of shape (n,): second side's values, in the unit; price, EUR per unit."""

    second: np.ndarray
    price: np.ndarray


class Acceleration(Protocol):
    """What the loop asks of an acceleration."""

    name: str

    def forget(self) -> None:
        """Before a run and after a change of the penalty: what was learned no longer holds."""

    def relax(self, first: np.ndarray, second_before: np.ndarray) -> np.ndarray:
        """What the second side is shown in place of the first side's values, shape (n,)."""

    def next_start(self, before: Point, after: Point, penalty: np.ndarray) -> Point:
        """Where the next iteration starts, given where this one started and where it led."""


class Plain:
    """No acceleration: each iteration starts where the last one ended."""

    name = "none"

    def forget(self) -> None:
        """There is nothing to forget."""

    def relax(self, first: np.ndarray, second_before: np.ndarray) -> np.ndarray:
        return first

    def next_start(self, before: Point, after: Point, penalty: np.ndarray) -> Point:
        return after


class Relaxation(Plain):
    """Over-relaxation: the second side is shown  factor * y + (1 - factor) * z  (Boyd et al. 2011, eq. 3.19)."""

    name = "relaxation"

    def __init__(self, factor: float = 1.6) -> None:
        if not 0.0 < factor < 2.0:
            raise InputError(f"acceleration 'relaxation': factor is {factor!r}, expected a number between 0 and 2")
        self.factor = factor

    def relax(self, first: np.ndarray, second_before: np.ndarray) -> np.ndarray:
        return self.factor * first + (1.0 - self.factor) * second_before


class Anderson(Plain):
    """Anderson acceleration of type II on (sqrt(penalty) z, price / sqrt(penalty)), with a safeguard.

    With f_k the step that iteration k made and g_k where it led, over the last `memory` differences:
        minimise |f - dF w|^2 + tikhonov * trace(dF'dF) |w|^2;   next start = g - dG w
    Walker and Ni (2011), "Anderson acceleration for fixed-point iterations", eq. 2.2; Tikhonov term and safeguard
    as in Zhang, O'Donoghue, Boyd (2020). Weights above 1e4 are not used. Three rules keep it from running away:

    - Reach: a start is at most REACH steps away from where the plain iteration leads, so flight is linear at worst.
    - Way back: a step after an accelerated start that is longer than LONGEST times the *smallest* one accepted sends
      the loop back to where the latest accepted one led. Held against the latest, steps could double without end.
    - Cool-down: after each way back the next starts are plain, 1, 2, 4 ... up to LONGEST_WAIT of them. A loop that is
      sent back again and again is the plain loop in the end, which converges.

    It needs inner products only, a Gram matrix of at most (memory + 1)^2 numbers, and linear combinations: over
    values that are spread out it would cost one small reduction an iteration.
    """

    name = "anderson"
    TIKHONOV, LARGEST_WEIGHT, LONGEST = 1e-8, 1e4, 2.0
    REACH, LONGEST_WAIT = 10.0, 64

    def __init__(self, memory: int = 6) -> None:
        if memory != int(memory) or memory < 1:
            raise InputError(f"acceleration 'anderson': memory is {memory!r}, expected a whole number of at least 1")
        self.memory = int(memory)
        self._ways_back, self._wait = 0, 0
        self.forget()

    def forget(self) -> None:
        """Steps f and ends g of the iterations remembered, latest last, each of shape (2n,)."""
        self._steps: list[np.ndarray] = []
        self._ends: list[np.ndarray] = []
        self._smallest, self._accelerated = np.inf, False

    def next_start(self, before: Point, after: Point, penalty: np.ndarray) -> Point:
        root = np.sqrt(penalty)
        end = np.concatenate([root * after.second, after.price / root])
        step = end - np.concatenate([root * before.second, before.price / root])
        size = float(np.linalg.norm(step))
        if self._accelerated and size > self.LONGEST * self._smallest:
            return _point(self._way_back(), root)
        self._steps = [*self._steps[-self.memory :], step]
        self._ends = [*self._ends[-self.memory :], end]
        self._smallest = min(self._smallest, size)
        return _point(self._within_reach(end, size), root)

    def _way_back(self) -> np.ndarray:
        accepted = self._ends[-1]
        self.forget()
        self._wait = min(2**self._ways_back, self.LONGEST_WAIT)
        self._ways_back += 1
        return accepted

    def _within_reach(self, end: np.ndarray, size: float) -> np.ndarray:
        """The accelerated start, or the plain one while the loop cools down."""
        if self._wait > 0:
            self._wait, self._accelerated = self._wait - 1, False
            return end
        mixed = self._mixed()
        far = float(np.linalg.norm(mixed - end))
        self._accelerated = far > 0.0
        if far <= self.REACH * size:
            return mixed
        return end + (self.REACH * size / far) * (mixed - end)

    def _mixed(self) -> np.ndarray:
        """g - dG w, or g where the weights are too large to trust or there is only one step."""
        if len(self._steps) < 2:
            return self._ends[-1]
        moves = [later - sooner for sooner, later in zip(self._steps, self._steps[1:], strict=False)]
        weight = least_squares(gram([*moves, self._steps[-1]]), self.TIKHONOV)
        if weight is None or np.abs(weight).max() > self.LARGEST_WEIGHT:
            return self._ends[-1]
        mixed = self._ends[-1].copy()
        for w, sooner, later in zip(weight, self._ends, self._ends[1:], strict=False):
            mixed -= w * (later - sooner)
        return mixed


def gram(vectors: list[np.ndarray]) -> np.ndarray:
    """Inner products of k vectors, shape (k, k)."""
    return np.array([[one @ other for other in vectors] for one in vectors])


def least_squares(products: np.ndarray, tikhonov: float) -> np.ndarray | None:
    """argmin |f - F w|^2 + tikhonov * trace(F'F) |w|^2 from the Gram matrix of the columns of F and, last, f."""
    normal, right = products[:-1, :-1], products[:-1, -1]
    size = float(np.trace(normal))
    if size <= 0.0:
        return None
    return np.linalg.solve(normal / size + tikhonov * np.eye(right.size), right / size)


def _point(stacked: np.ndarray, root: np.ndarray) -> Point:
    second, price = np.split(stacked, 2)
    return Point(second / root, price * root)


def capped_share(before: Point, after: Point, penalty: np.ndarray, most: np.ndarray | float) -> float:
    """The share of a step, squared and in the norm above, of prices that moved by all that they may (`most`, (n,))."""
    moved = after.price - before.price
    of_prices, of_values = moved**2 / penalty, penalty * (after.second - before.second) ** 2
    capped = np.abs(moved) >= ALL_BUT_ROUNDING * most
    whole = float(of_prices.sum() + of_values.sum())
    return float(of_prices[capped].sum()) / whole if whole > 0.0 else 0.0


def checked_point(point: Any, acceleration: Acceleration, size: int) -> Point:
    """A start that an acceleration gives. Raises InputError unless it is a Point of arrays (n,) of finite numbers."""
    arrays = (point.second, point.price) if isinstance(point, Point) else ()
    good = [isinstance(one, np.ndarray) and one.shape == (size,) and np.isfinite(one).all() for one in arrays]
    if not good or not all(good):
        name = getattr(acceleration, "name", type(acceleration).__name__)
        raise InputError(
            f"acceleration '{name}': next_start must give an admm.acceleration.Point of two arrays ({size},) of "
            "finite numbers"
        )
    return point


ACCELERATIONS = {"none": Plain, "relaxation": Relaxation, "anderson": Anderson}
"""Accelerations that can be asked for by name."""


def acceleration_for(acceleration: Any) -> Acceleration:
    """The object for a name such as "none", "anderson:6" or "relaxation:1.6", or the given object itself."""
    if not isinstance(acceleration, str):
        verbs = all(callable(getattr(acceleration, verb, None)) for verb in ("forget", "relax", "next_start"))
        if verbs and not isinstance(acceleration, type):
            return acceleration
        raise InputError(
            f"settings: acceleration is {acceleration!r}, expected a name or an object with forget, relax, next_start"
        )
    name, _, parameter = acceleration.partition(":")
    if name not in ACCELERATIONS:
        raise InputError(f"settings: acceleration is '{acceleration}', expected one of {', '.join(ACCELERATIONS)}")
    if not parameter:
        return ACCELERATIONS[name]()
    try:
        return ACCELERATIONS[name](float(parameter))
    except (ValueError, TypeError, OverflowError) as error:
        if isinstance(error, InputError):
            raise
        message = f"settings: acceleration is '{acceleration}', expected {_expected(name)}"
        raise InputError(message) from None


def _expected(name: str) -> str:
    return f"nothing after '{name}'" if ACCELERATIONS[name] is Plain else f"a number after '{name}:'"
