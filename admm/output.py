"""The output folder of a run: prepared before, completed after; `summary.json` comes last and says so."""

from __future__ import annotations

import json
import os
import platform
from importlib import metadata
from pathlib import Path
from typing import Any

from admm import __version__
from admm.errors import InputError
from admm.state import Result

SUMMARY, HISTORY, BOUNDARY, PRIVATE = "summary.json", "history.h5", "boundary.h5", "private"
UNFINISHED = (".tmp", ".part")
"""Endings of files that a killed run may leave behind."""
PACKAGES = ("numpy", "scipy", "osqp", "piqp", "clarabel", "pandapower", "mpi4py", "h5py")


class OutputFolder:
    """Where a run writes. `prepare` refuses a folder with anything but an older result in it."""

    def __init__(self, path: str | Path) -> None:
        self.path = Path(path)

    def __truediv__(self, name: str) -> Path:
        return self.path / name

    def private(self, agent: str) -> Path:
        return self.path / PRIVATE / f"{agent}.h5"

    def check(self) -> None:
        """Raise InputError unless the folder can be written to without losing anything but an older result."""
        existing = next(p for p in (self.path, *self.path.parents) if os.path.exists(p))
        if not existing.is_dir():
            raise InputError(f"--out {self.path}: {existing} is a file, expected a folder; choose another name")
        if not os.access(existing, os.R_OK | os.W_OK | os.X_OK):
            raise InputError(f"--out {self.path}: {existing} may not be written to; choose another folder")
        ours = (SUMMARY, HISTORY, BOUNDARY, PRIVATE)
        foreign = [p.name for p in self._content() if p.name not in ours and p.suffix not in UNFINISHED]
        if foreign:
            raise InputError(
                f"--out {self.path}: holds '{foreign[0]}', which is no result; choose an empty or new folder"
            )

    def _content(self) -> list[Path]:
        return sorted(self.path.iterdir()) if os.path.isdir(self.path) else []

    def prepare(self) -> None:
        """Make the folder and remove an older result, its completion marker first."""
        self.check()
        try:
            (self.path / PRIVATE).mkdir(parents=True, exist_ok=True)
            (self / SUMMARY).unlink(missing_ok=True)
            for old in [self / HISTORY, self / BOUNDARY, *(self / PRIVATE).glob("*.h5")]:
                old.unlink(missing_ok=True)
        except OSError as error:
            raise InputError(
                f"--out {self.path}: cannot be written ({error.strerror}); choose another folder"
            ) from None

    def complete(self, summary: dict[str, Any]) -> None:
        """Write summary.json by a temporary file and a rename; `complete` is its last key."""
        temporary = self / (SUMMARY + ".tmp")
        with temporary.open("w", encoding="utf-8") as file:
            json.dump({**summary, "complete": True}, file, indent=2, allow_nan=False)
            file.write("\n")
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(self / SUMMARY)


def versions() -> str:
    """Versions of everything that can change a number, as one line."""
    found = [f"tieline {__version__}", f"python {platform.python_version()}"]
    for package in PACKAGES:
        try:
            found.append(f"{package} {metadata.version(package)}")
        except metadata.PackageNotFoundError:
            continue
    return ", ".join(found)


def result_summary(result: Result) -> dict[str, Any]:
    """What summary.json says of any result, whatever its case."""
    last, timing = result.residuals, result.timing
    return {
        "status": result.status.name.lower(),
        "converged": result.converged,
        "certified_gap": result.certified_gap,
        "iterations": result.iterations,
        "objective_eur": result.objective,
        "turnover_eur": result.turnover,
        "primal_residual": last.primal,
        "dual_residual": last.dual,
        "primal_tolerance": last.primal_tolerance,
        "dual_tolerance": last.dual_tolerance,
        "largest_mismatch": last.mismatch,
        "estimated_objective_error": last.objective_error,
        "wall_seconds": timing.wall,
        "agents_seconds": timing.agents,
        "operators_seconds": timing.operators,
        "communication_seconds": timing.communication,
        "waiting_seconds": timing.waiting,
        "engine_seconds": timing.engine,
        "bytes_exchanged": result.bytes_exchanged,
        "versions": versions(),
        **{f"solve_ms_{name}": 1e3 * seconds for name, seconds in result.solve_seconds.items()},
    }
