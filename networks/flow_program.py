"""What an operator's program must offer to an agent that keeps it exact at operating points."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from admm.interfaces import Names
from networks.flow_limits import Limit
from subproblems import QuadraticProgram

NEAR = 0.1
"""Slack, per unit of a limit's scale, below which its row is taken when rows are added."""
LARGEST_ERROR = 1e9
"""Stands for "no flow exists" in `model_error`, which must be finite to be sent."""


class FlowProgram(ABC):
    """A program whose flows are exact at points, and the exact flows themselves.

    boundary: {(coupling, quantity): positions (T,)}. held: what the other side schedules and the exact flow
    depends on, the keys of its boundary values. limits: of the latest `linearised`.
    """

    boundary: Mapping[tuple[str, str], np.ndarray]
    held: Sequence[tuple[str, str]]
    limits: list[Limit]

    @property
    @abstractmethod
    def size(self) -> int:
        """Number of variables."""

    def first_x(self) -> np.ndarray:
        """Values of the variables, (n,), before anything is known of them."""
        return np.zeros(self.size)

    @abstractmethod
    def first_points(self) -> Any:
        """Operating points before anything is known of the schedule."""

    def snapshot(self) -> Any:  # noqa: B027
        """What further operating points and rows depend on beside the model, as `admm.snapshot` takes it."""

    def restore(self, kept: Any) -> None:  # noqa: B027 - most programs have nothing to keep
        """As it was when the snapshot was taken."""

    @abstractmethod
    def points(self, x: np.ndarray) -> Any:
        """Operating points: the exact flow of what x consumes."""

    @abstractmethod
    def linearised(self, points: Any = None, masks: Sequence[np.ndarray] | None = None) -> QuadraticProgram:
        """The program with flows that are exact at the points. masks: for each of `limits` which of its rows to
        take, (T, E); all without. For given masks the pattern of the program does not depend on the points."""

    @abstractmethod
    def all_errors(self, x: np.ndarray) -> Mapping[str, Any]:
        """How far the flows at x are from the exact flow of what x consumes, by what they belong to."""

    @abstractmethod
    def correction_multiple(self, errors: Mapping[str, Any]) -> float:
        """The largest of `all_errors`, in multiples of what is corrected; 0 for none."""

    def damp(self, x: np.ndarray, exact: float) -> None:  # noqa: B027 - most programs need none
        """Before `points` of a central solve: damp the corrections where the last one brought the flow no nearer.

        exact: error, in multiples of what is corrected, that counts as none.
        """

    def hidden_eur(self, x: np.ndarray) -> float:
        """Bound what the damping of corrections may hide of the optimum at x, EUR."""
        return 0.0

    @abstractmethod
    def schedule_multiple(self, x: np.ndarray, scheduled: np.ndarray, errors: Mapping[str, Any]) -> float:
        """How far the flows at x are from the exact flow of what is scheduled, in multiples of the tolerance.

        scheduled: x with the other side's own values in place of the copies. errors: `all_errors` of x.
        """

    @abstractmethod
    def cost_eur(self, x: np.ndarray) -> float:
        """The operator's own cost at x, without what only steers the solve."""

    @abstractmethod
    def solution(self, x: np.ndarray) -> dict[str, np.ndarray]:
        """Flows and what follows from them at x, in the unit with which each name ends."""

    @abstractmethod
    def names(self) -> dict[str, Names]:
        """What the columns are of each array of `solution` and of each block of variables."""

    @abstractmethod
    def checks(self, x: np.ndarray, scheduled: np.ndarray) -> dict[str, float | None]:
        """The flows at x against independent ones of what is scheduled, by key of a run's summary; None where there
        is no flow: a run that was stopped early may hold a schedule that no network can carry."""

    def no_rows(self) -> list[np.ndarray]:
        """Masks that take none of `limits`; rows are added as answers break them."""
        return [np.zeros(limit.lower.shape, dtype=bool) for limit in self.limits]

    def missing_rows(self, x: np.ndarray, masks: Sequence[np.ndarray], accuracy: float) -> list[np.ndarray] | None:
        """The masks with all rows near their limit, if x breaks one by more than accuracy; None if it breaks none."""
        slacks = [np.where(mask, np.inf, slack) for mask, slack in zip(masks, self.slacks(x), strict=True)]
        if not any((slack < -accuracy).any() for slack in slacks):
            return None
        return [mask | (slack < NEAR) for mask, slack in zip(masks, slacks, strict=True)]

    def slacks(self, x: np.ndarray) -> list[np.ndarray]:
        """Of every limit, see `Limit.slack`."""
        return [limit.slack(x) for limit in self.limits]
