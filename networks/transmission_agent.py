"""The transmission system operator as an agent: its schedule, with the flows and names of all branches."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from admm.interfaces import Names
from networks.transmission import TransmissionModel, compile_tso
from subproblems import QPAgent

FLOW = "network.branch_flow_mw"


class TransmissionAgent(QPAgent):
    """Answers for one TransmissionModel.

    scales: nominal size of each boundary quantity, {(coupling, quantity): MW per feeder}. solver: "osqp" or "piqp".
    """

    def __init__(
        self,
        model: TransmissionModel,
        scales: Mapping[tuple[str, str], float] | None = None,
        solver: str = "osqp",
        shares_cost: bool = True,
    ) -> None:
        super().__init__(compile_tso(model, dict(scales or {})), solver, shares_cost)
        self.model = model

    def solution(self) -> dict[str, np.ndarray]:
        """The schedule, {variable block: array}, and the flow of every branch, (T, branches), MW from its first bus."""
        found = super().solution()
        return found and found | {FLOW: self._flows_mw(found)}

    def _flows_mw(self, found: Mapping[str, np.ndarray]) -> np.ndarray:
        """100 / (x tap) (theta_from - theta_to - shift), (T, branches)."""
        grid, slack = self.model.grid, np.zeros(self.model.periods)
        angle = {bus: found.get(f"bus {bus}.angle_rad", slack) for bus in grid.buses}
        flows = [
            one.mw_per_rad * (angle[one.from_bus] - angle[one.to_bus] - np.deg2rad(one.shift_degree))
            for one in grid.branches
        ]
        return np.stack(flows, axis=1) if flows else np.zeros((self.model.periods, 0))

    def units(self) -> dict[str, str]:
        return super().units() | {FLOW: "MW"}

    def names(self) -> dict[str, Names]:
        """Of each block: its generator, bus or coupling; the branches."""
        grid = self.model.grid
        owners = {one.name: Names("generator", (one.name,)) for one in grid.generators}
        owners |= {f"bus {bus}": Names("bus", (bus,)) for bus in grid.buses}
        owners |= {one.coupling: Names("coupling", (one.coupling,)) for one in self.model.substations}
        blocks = {block.name: block.name.rpartition(".")[0] for block in self.qp.variables}
        found = {block: owners[owner] for block, owner in blocks.items() if owner in owners}
        return found | {FLOW: Names("branch", tuple(one.name for one in grid.branches))}
