"""The distribution system operator as an agent; how it follows its flow is `FlowAgent`'s."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from networks.ac_check import AcCheck
from networks.distribution_model import Connection, DistributionModel, ReactiveSupport, Supply
from networks.distribution_program import DistributionProgram
from networks.flow_agent import FlowAgent

__all__ = ["Connection", "DistributionAgent", "DistributionModel", "DistributionProgram", "ReactiveSupport", "Supply"]


class DistributionAgent(FlowAgent):
    """Answers for one DistributionModel. solver: "osqp" or "piqp"."""

    program: DistributionProgram | None

    def __init__(self, model: DistributionModel, solver: str = "osqp", shares_cost: bool = True) -> None:
        super().__init__(f"distribution operator '{model.name}'", solver, shares_cost)
        self.model = model

    def revise(self, model: DistributionModel) -> None:
        """Other numbers (load, prices) for a further run, which begins where this one ended, with a warm solver."""
        self.model, self._revised = model, True

    def support_mvar(self) -> dict[str, np.ndarray]:
        """Reactive set points of the latest answer, {node: (T,)}."""
        return self.program.support_mvar(self._rows.x)

    def _make_program(self, scales: Mapping[tuple[str, str], float]) -> DistributionProgram:
        return DistributionProgram(self.model, scales)

    def ac_check(self) -> AcCheck | None:
        """The latest answer against pandapower's AC power flow of the communities' own schedule; None without one."""
        if self.program is None or self._rows.x is None or self._scheduled is None:
            return None
        return self.program.ac_check(self._rows.x, self._scheduled)
