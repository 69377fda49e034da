"""The gas network operator as an agent; how it follows its flow is `FlowAgent`'s."""

from __future__ import annotations

from collections.abc import Mapping

from networks.flow_agent import FlowAgent
from networks.gas_model import GasConnection, GasModel
from networks.gas_program import GasProgram

__all__ = ["GasAgent", "GasConnection", "GasModel", "GasProgram"]


class GasAgent(FlowAgent):
    """Answers for one GasModel. solver: "osqp" or "piqp"."""

    program: GasProgram | None

    def __init__(self, model: GasModel, solver: str = "osqp", shares_cost: bool = True) -> None:
        super().__init__(f"gas operator '{model.name}'", solver, shares_cost)
        self.model = model

    def _make_program(self, scales: Mapping[tuple[str, str], float]) -> GasProgram:
        return GasProgram(self.model, scales)
