"""The currents that ratings limit: those at the ends of branches, and of the members of merged ones.

A branch is a series impedance between two admittances, one at each end (a pi circuit). With the consumption A of an
admittance at 1 pu, squared voltages v, and the series flow S that leaves the sending and S' that reaches the receiving
end, the current is |S + A v| / sqrt(v) at the sending end and |S' - A' v'| / sqrt(v') at the receiving end.

Of parallel branches, number k carries the share c of the series current, c = y_k / (sum of y), so its current is
|c| times that of a branch with the admittance A_k / conj(c). That makes a rated current of it, too.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from admm import InputError


@dataclass(frozen=True)
class EndRating:
    """Names an end of a branch whose current its rating limits.

    at_from: the from end; else the to end. shunt_mva: consumption of the admittance there at 1 pu.
    factor: limit of this current as a multiple of the branch's i_max_pu.
    """

    at_from: bool
    shunt_mva: complex = 0j
    factor: float = 1.0


@dataclass(frozen=True)
class RatedCurrents:
    """branch, receiving, shunt_mva, factor: (L,), see `EndRating`. Every branch has at least one, rated or not."""

    branch: np.ndarray
    receiving: np.ndarray
    shunt_mva: np.ndarray
    factor: np.ndarray

    def __post_init__(self) -> None:
        for key, kind in (("branch", int), ("receiving", bool), ("shunt_mva", complex), ("factor", float)):
            array = np.array(getattr(self, key), dtype=kind)
            array.setflags(write=False)
            object.__setattr__(self, key, array)

    @classmethod
    def of_ends(cls, sending_mva: np.ndarray, receiving_mva: np.ndarray) -> RatedCurrents:
        """Make the currents of plain branches: both ends where one has an admittance, else one end for both."""
        branches = np.arange(sending_mva.size)
        both = np.flatnonzero((sending_mva != 0) | (receiving_mva != 0))
        return cls(
            np.concatenate([branches, both]),
            np.concatenate([np.zeros(branches.size, dtype=bool), np.ones(both.size, dtype=bool)]),
            np.concatenate([sending_mva, receiving_mva[both]]),
            np.ones(branches.size + both.size),
        )

    def check(self, feeder: str, branches: int) -> None:
        """Raise InputError unless every branch has a current and all numbers are of use."""
        if set(self.branch.tolist()) != set(range(branches)):
            raise InputError(f"feeder '{feeder}': its rated currents are not those of its {branches} branches")
        if not (np.isfinite(self.shunt_mva).all() and np.isfinite(self.factor).all() and (self.factor > 0).all()):
            raise InputError(f"feeder '{feeder}': a rated current is not finite, or its factor is not above 0")

    def largest_pu(
        self, sent_mva: np.ndarray, received_mva: np.ndarray, v_sq_sending: np.ndarray, v_sq_receiving: np.ndarray
    ) -> np.ndarray:
        """Find what loads each branch most, (T, n - 1): the largest current, each divided by its factor.

        sent_mva, received_mva: (T, n - 1) series flows at both ends. v_sq_*: (T, n - 1), per unit of base_kv.
        Divided by i_max_pu this is the loading of the branch.
        """
        at = self.branch
        square = np.where(self.receiving, v_sq_receiving[:, at], v_sq_sending[:, at])
        flow = np.where(
            self.receiving,
            received_mva[:, at] - self.shunt_mva * square,
            sent_mva[:, at] + self.shunt_mva * square,
        )
        current = np.abs(flow) / np.sqrt(square) / self.factor
        found = np.zeros(sent_mva.shape)
        np.maximum.at(found, (slice(None), at), current)
        return found
