"""One agent that runs an electric and a gas network: both programs side by side, each with corrections of its own.

Its couplings with hubs carry p_mw, flexibility and gas_mw; the networks meet in the hubs only, so nothing but the
agent is shared.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import scipy.sparse as sp

from admm import InputError
from admm.interfaces import Names
from networks.distribution import DistributionModel, DistributionProgram
from networks.flow_agent import FlowAgent
from networks.flow_program import FlowProgram
from networks.gas_model import GasModel
from networks.gas_program import GasProgram
from subproblems import QuadraticProgram
from subproblems.quadratic_program import Block

ELECTRIC, GAS = "electric", "gas"
"""Names of the two programs of one operator."""


class SideBySide(FlowProgram):
    """Several programs as one. programs: by name; their variables follow one another in this order.

    Points and errors are those of the programs, {name: ...}.
    """

    def __init__(self, name: str, programs: Mapping[str, FlowProgram]) -> None:
        self.name, self.programs = name, dict(programs)
        self._parts, start = {}, 0
        self.boundary: dict[tuple[str, str], np.ndarray] = {}
        for key, program in self.programs.items():
            self._parts[key] = slice(start, start + program.size)
            for entry, at in program.boundary.items():
                if entry in self.boundary:
                    raise InputError(f"operator '{name}': two of its networks have the boundary value {entry}")
                self.boundary[entry] = start + at
            start += program.size
        self.held = [entry for program in self.programs.values() for entry in program.held]

    @property
    def size(self) -> int:
        return sum(program.size for program in self.programs.values())

    def part(self, key: str, x: np.ndarray) -> np.ndarray:
        """One program's share of x."""
        return x[self._parts[key]]

    def _each(self, x: np.ndarray) -> Iterator[tuple[str, FlowProgram, np.ndarray]]:
        return ((key, program, self.part(key, x)) for key, program in self.programs.items())

    def first_x(self) -> np.ndarray:
        return np.concatenate([program.first_x() for program in self.programs.values()])

    def snapshot(self) -> dict[str, Any]:
        return {key: program.snapshot() for key, program in self.programs.items()}

    def restore(self, kept: Mapping[str, Any]) -> None:
        for key, program in self.programs.items():
            program.restore(kept[key])

    def first_points(self) -> dict[str, Any]:
        return {key: program.first_points() for key, program in self.programs.items()}

    def points(self, x: np.ndarray) -> dict[str, Any]:
        return {key: program.points(part) for key, program, part in self._each(x)}

    def linearised(
        self, points: Mapping[str, Any] | None = None, masks: Sequence[np.ndarray] | None = None
    ) -> QuadraticProgram:
        points, taken = self.first_points() if points is None else points, 0
        found = []
        for key, program in self.programs.items():
            mine = None
            if masks is not None:
                mine = masks[taken : taken + len(program.limits)]
                taken += len(program.limits)
            found.append(program.linearised(points[key], mine))
        return _stacked(f"operator '{self.name}'", found, self.boundary)

    def no_rows(self) -> list[np.ndarray]:
        return [mask for program in self.programs.values() for mask in program.no_rows()]

    def slacks(self, x: np.ndarray) -> list[np.ndarray]:
        return [slack for _, program, part in self._each(x) for slack in program.slacks(part)]

    def all_errors(self, x: np.ndarray) -> dict[str, Any]:
        return {key: program.all_errors(part) for key, program, part in self._each(x)}

    def correction_multiple(self, errors: Mapping[str, Any]) -> float:
        return max((self.programs[key].correction_multiple(one) for key, one in errors.items()), default=0.0)

    def damp(self, x: np.ndarray, exact: float) -> None:
        for _, program, part in self._each(x):
            program.damp(part, exact)

    def hidden_eur(self, x: np.ndarray) -> float:
        return sum(program.hidden_eur(part) for _, program, part in self._each(x))

    def schedule_multiple(self, x: np.ndarray, scheduled: np.ndarray, errors: Mapping[str, Any]) -> float:
        return max(
            program.schedule_multiple(part, self.part(key, scheduled), errors.get(key, {}))
            for key, program, part in self._each(x)
        )

    def checks(self, x: np.ndarray, scheduled: np.ndarray) -> dict[str, float | None]:
        found: dict[str, float | None] = {}
        for key, program, part in self._each(x):
            found |= program.checks(part, self.part(key, scheduled))
        return found

    def cost_eur(self, x: np.ndarray) -> float:
        return sum(program.cost_eur(part) for _, program, part in self._each(x))

    def solution(self, x: np.ndarray) -> dict[str, np.ndarray]:
        return {name: one for _, program, part in self._each(x) for name, one in program.solution(part).items()}

    def names(self) -> dict[str, Names]:
        return {name: one for program in self.programs.values() for name, one in program.names().items()}


def _stacked(
    name: str, programs: Sequence[QuadraticProgram], boundary: Mapping[tuple[str, str], np.ndarray]
) -> QuadraticProgram:
    """The programs on one diagonal."""
    vector = {
        key: np.concatenate([getattr(program, key) for program in programs])
        for key in ("q", "l", "u", "variable_scale", "row_scale")
    }
    variables, rows, columns, height = [], [], 0, 0
    for program in programs:
        variables += [_moved(block, columns) for block in program.variables]
        rows += [_moved(block, height) for block in program.rows]
        columns, height = columns + program.size, height + program.l.size
    return QuadraticProgram(
        P=sp.block_diag([program.P for program in programs], format="csc"),
        A=sp.block_diag([program.A for program in programs], format="csc"),
        boundary=boundary,
        constant=sum(program.constant for program in programs),
        variables=tuple(variables),
        rows=tuple(rows),
        name=name,
        **vector,
    )


def _moved(block: Block, by: int) -> Block:
    return replace(block, start=block.start + by)


class JointOperatorAgent(FlowAgent):
    """Answers for an electric and a gas network at once. solver: "osqp" or "piqp"."""

    program: SideBySide | None

    def __init__(
        self, electric: DistributionModel, gas: GasModel, solver: str = "osqp", shares_cost: bool = True
    ) -> None:
        name = f"{electric.name} and {gas.name}"
        super().__init__(f"operator '{name}'", solver, shares_cost)
        if electric.periods != gas.periods or electric.hours != gas.hours:
            ours, theirs = (f"{one.periods} periods of {one.hours:g} h" for one in (electric, gas))
            raise InputError(f"operator '{name}': the electric network has {ours}, the gas network {theirs}")
        self.name, self.electric, self.gas = name, electric, gas

    def _make_program(self, scales: Mapping[tuple[str, str], float]) -> SideBySide:
        programs = {ELECTRIC: DistributionProgram(self.electric, scales), GAS: GasProgram(self.gas, scales)}
        return SideBySide(self.name, programs)
