"""The coordination problems with known optima in `benchmarks/problems`, as agents and couplings."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import scipy.sparse as sp

import admm
from benchmarks.subjects import Problem
from subproblems import QuadraticProgram

__all__ = ["Problem", "problem_names", "read_problem"]

FOLDER = Path(__file__).parent / "problems"


def problem_names() -> list[str]:
    return sorted(path.stem for path in FOLDER.glob("*.npz"))


def read_problem(name: str) -> Problem:
    """One instance by its file's name, such as feeder33-tso57-00."""
    with np.load(FOLDER / f"{name}.npz") as file:
        meta = json.loads(str(file["meta"]))
        boundary: dict[str, dict[tuple[str, str], np.ndarray]] = {}
        for entry in meta["couplings"]:
            for side in ("lower", "upper"):
                key = (entry["coupling"], entry["quantity"])
                at = file[f"coupling/{entry['coupling']}/{entry['quantity']}/{side}_index"]
                boundary.setdefault(entry[side], {})[key] = at
        programs = {a["name"]: _program(file, a["name"], boundary[a["name"]]) for a in meta["agents"]}
    return Problem(name, programs, _couplings(meta), meta["reference_objective_eur"], meta["boundary_turnover_eur"])


def _program(file: np.lib.npyio.NpzFile, agent: str, boundary: dict[tuple[str, str], np.ndarray]) -> QuadraticProgram:
    def matrix(key: str) -> sp.csc_matrix:
        parts = tuple(file[f"{agent}/{key}_{part}"] for part in ("data", "indices", "indptr"))
        return sp.csc_matrix(parts, shape=tuple(file[f"{agent}/{key}_shape"]))

    bounds = (file[f"{agent}/{key}"] for key in ("l", "u"))
    return QuadraticProgram(matrix("P"), file[f"{agent}/q"], matrix("A"), *bounds, boundary=boundary, name=agent)


def _couplings(meta: dict) -> tuple[admm.Coupling, ...]:
    quantities: dict[tuple[str, str, str], list[admm.Quantity]] = {}
    for entry in meta["couplings"]:
        price = entry["price_scale_eur_per_mwh"] * meta["hours_per_period"]
        quantity = admm.Quantity(entry["quantity"], entry["periods"], entry["unit"], entry["scale"], price)
        quantities.setdefault((entry["coupling"], entry["lower"], entry["upper"]), []).append(quantity)
    return tuple(admm.Coupling(*key, found) for key, found in quantities.items())
