"""The distribution system operator as an agent; how it follows its flow is `FlowAgent`'s."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from admm import InputError
from networks.ac_check import AcCheck, check_ac
from networks.distribution_program import (
    Connection,
    DistributionModel,
    DistributionProgram,
    ReactiveSupport,
    Supply,
)
from networks.flow_agent import FlowAgent

__all__ = ["Connection", "DistributionAgent", "DistributionModel", "DistributionProgram", "ReactiveSupport", "Supply"]


class DistributionAgent(FlowAgent):
    """Answers for one DistributionModel. solver: "osqp" or "piqp"."""

    program: DistributionProgram | None

    def __init__(self, model: DistributionModel, solver: str = "osqp", shares_cost: bool = True) -> None:
        super().__init__(f"distribution operator '{model.name}'", solver, shares_cost)
        self.model = model

    def _make_program(self, scales: Mapping[tuple[str, str], float]) -> DistributionProgram:
        return DistributionProgram(self.model, scales)

    def ac_check(self) -> AcCheck | None:
        """The latest answer against pandapower's AC power flow of the communities' own schedule; None without one."""
        if self.program is None or self._rows.x is None or self._scheduled is None:
            return None
        return ac_check_of(self.program, self._rows.x, self._scheduled)


def ac_check_of(program: DistributionProgram, x: np.ndarray, scheduled: np.ndarray) -> AcCheck | None:
    """A program's base flow at x against pandapower's of what is scheduled.

    None where there is none: a run that was stopped early may hold a schedule that no feeder can carry.
    """
    p, q = program.consumption(scheduled)
    voltage_pu = np.sqrt(program.own_point(x, "base").v_sq_pu)
    try:
        return check_ac(program.model.feeder, p, q, voltage_pu, program.losses_mw(x, "base"))
    except InputError:
        return None
