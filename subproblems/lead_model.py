"""What a lead shows of itself to a joint solve on its own rank."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from admm import AgentBoundary
from subproblems.quadratic_program import QuadraticProgram


@dataclass(frozen=True)
class LeadModel:
    """A lead's program with all its rows, and the boundary it was prepared with."""

    program: QuadraticProgram
    boundary: AgentBoundary

    def scales(self) -> tuple[np.ndarray, np.ndarray]:
        """Nominal sizes of variables (n,) and rows (m,)."""
        program, nominal = self.program, float(self.boundary.scale.max())
        variable = np.full(program.size, nominal) if program.variable_scale is None else program.variable_scale
        row = np.full(program.l.size, nominal) if program.row_scale is None else program.row_scale
        return variable, row
