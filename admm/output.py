"""The output folder of a run: prepared before, completed after; `summary.json` comes last and says so.

Read back, it is where a later run starts.
"""

from __future__ import annotations

import hashlib
import json
import os
import platform
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from importlib import metadata
from pathlib import Path
from typing import Any

from admm import __version__
from admm.errors import InputError
from admm.history import read_boundary
from admm.state import BoundaryResult, Result
from admm.transcript import FILES as TRANSCRIPTS
from admm.transcript import FOLDER as AUDIT
from admm.whole_file import write_whole

SUMMARY, HISTORY, BOUNDARY, PRIVATE = "summary.json", "history.h5", "boundary.h5", "private"
CHECKPOINTS = ("checkpoint.h5", "checkpoint-previous.h5")
UNFINISHED = (".tmp", ".part")
"""Endings of files that a killed run may leave behind."""
START_FORMAT = "%Y-%m-%dT%H:%MZ"
"""Of start_utc in the summary."""
BOUNDARY_DIGEST = "boundary_sha256"
MINUTES_A_DAY = 24 * 60
PACKAGES = ("numpy", "scipy", "osqp", "piqp", "clarabel", "pandapower", "mpi4py", "h5py")


class OutputFolder:
    """Where a run writes. `prepare` refuses a folder with anything but an older result in it.

    tables: names of further files that a result holds. folders: of folders in it, each an OutputFolder of its own.
    audited: the transcript that is there is this run's own. option: which one named the folder, for errors.
    """

    def __init__(
        self,
        path: str | Path,
        tables: Sequence[str] = (),
        folders: Sequence[str] = (),
        audited: bool = False,
        option: str = "--out",
    ) -> None:
        self.path, self._tables, self._folders = Path(path), tuple(tables), tuple(folders)
        self._audited, self._name = audited, f"{option} {path}"

    def __truediv__(self, name: str) -> Path:
        return self.path / name

    def private(self, agent: str) -> Path:
        return self.path / PRIVATE / f"{agent}.h5"

    def check(self) -> None:
        """Raise InputError unless the folder can be written to without losing anything but an older result."""
        existing = next(p for p in (self.path, *self.path.parents) if os.path.exists(p))
        if not existing.is_dir():
            raise InputError(f"{self._name}: {existing} is a file, expected a folder; choose another name")
        if not os.access(existing, os.R_OK | os.W_OK | os.X_OK):
            raise InputError(f"{self._name}: {existing} may not be written to; choose another folder")
        ours = (SUMMARY, HISTORY, BOUNDARY, PRIVATE, AUDIT, *CHECKPOINTS, *self._tables, *self._folders)
        foreign = [p.name for p in self._content() if p.name not in ours and p.suffix not in UNFINISHED]
        if foreign:
            raise InputError(f"{self._name}: holds '{foreign[0]}', which is no result; choose an empty or new folder")

    def _content(self) -> list[Path]:
        return sorted(self.path.iterdir()) if os.path.isdir(self.path) else []

    def prepare(self, private: bool = True, keep_checkpoints: bool = False) -> None:
        """Make the folder, with one for private results, and remove an older result, its completion marker first."""
        self.check()
        try:
            (self.path / PRIVATE if private else self.path).mkdir(parents=True, exist_ok=True)
            (self / SUMMARY).unlink(missing_ok=True)
            for old in self._older(keep_checkpoints):
                old.unlink(missing_ok=True)
        except OSError as error:
            raise self._unwritable(error) from None

    def prepare_private(self) -> None:
        """Make the folder of private results where this rank is: another host than the driving rank's has none yet."""
        try:
            (self.path / PRIVATE).mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise self._unwritable(error) from None

    def _unwritable(self, error: OSError) -> InputError:
        return InputError(f"{self._name}: cannot be written ({error.strerror}); choose another folder")

    def _older(self, keep_checkpoints: bool) -> list[Path]:
        """Files of an older result. Checkpoints go before what they name."""
        private = [
            path for path in (self / PRIVATE).glob("*.h5") if not (keep_checkpoints and ".checkpoint-" in path.name)
        ]
        checkpoints = () if keep_checkpoints else CHECKPOINTS
        transcripts = () if self._audited else (self / AUDIT).glob(TRANSCRIPTS)
        return [*(self / name for name in (*checkpoints, HISTORY, BOUNDARY, *self._tables)), *private, *transcripts]

    def unmark(self) -> None:
        """An older result in the folder, if there is one, is no longer complete."""
        try:
            (self / SUMMARY).unlink(missing_ok=True)
        except OSError as error:
            raise self._unwritable(error) from None

    def complete(self, summary: dict[str, Any]) -> None:
        """Write summary.json; `complete` is its last key.

        With the SHA-256 of boundary.h5, if there is one: a later start from a damaged file is refused.
        """
        boundary = self / BOUNDARY
        digest = {BOUNDARY_DIGEST: file_digest(boundary)} if boundary.is_file() else {}
        text = json.dumps({**summary, **digest, "complete": True}, indent=2, allow_nan=False)
        write_whole(self / SUMMARY, f"{text}\n".encode())


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


@dataclass(frozen=True)
class FormerRun:
    """A completed run, read back from its output folder.

    start: of its first period, UTC. scheme, penalty: by name, as it was asked; None where it does not say.
    boundary: {coupling: {quantity: values}}.
    """

    path: Path
    start: datetime
    step_minutes: int
    scheme: str | None
    penalty: str | None
    boundary: dict[str, dict[str, BoundaryResult]]

    @property
    def periods_per_day(self) -> int:
        return MINUTES_A_DAY // self.step_minutes

    def check_step(self, step_minutes: int) -> None:
        """Raise InputError unless periods are as long as this run's: prices are per period."""
        if step_minutes != self.step_minutes:
            raise InputError(
                f"{self.path / SUMMARY}: step_minutes is {self.step_minutes}, expected {step_minutes} as in the case; "
                "choose a run with periods of the same length"
            )

    def shift_to(self, start: datetime) -> int:
        """Periods from this run's start to another; InputError unless it is a whole number of them."""
        shift = (start - self.start) / timedelta(minutes=self.step_minutes)
        if not shift.is_integer():
            raise InputError(
                f"{self.path / SUMMARY}: start_utc is {self.start:{START_FORMAT}}, expected a whole number of periods "
                f"of {self.step_minutes} minutes from the case's {start:{START_FORMAT}}; or say it with --shift"
            )
        return int(shift)


def read_former(path: str | Path) -> FormerRun:
    """The completed run in a folder. Raises InputError, naming the file and what is wrong with it."""
    path = Path(path)
    if not os.path.isdir(path):
        raise InputError(f"{path}: is no folder, expected the output folder of a completed run")
    summary = _read_summary(path / SUMMARY)
    if BOUNDARY_DIGEST in summary and (path / BOUNDARY).is_file():
        _check_digest(path / BOUNDARY, summary[BOUNDARY_DIGEST])
    periods = _number_in(summary, "periods", path)
    return FormerRun(
        path=path,
        start=_start_in(summary, path),
        step_minutes=_number_in(summary, "step_minutes", path),
        scheme=summary.get("scheme"),
        penalty=summary.get("penalty"),
        boundary=read_boundary(path / BOUNDARY, periods),
    )


def file_digest(path: Path) -> str:
    """SHA-256 of a file's content, as hexadecimal digits."""
    try:
        return hashlib.sha256(path.read_bytes()).hexdigest()
    except OSError as error:
        raise InputError(f"{path}: cannot be read ({error.strerror}); check its rights") from None


def _check_digest(path: Path, digest: Any) -> None:
    if digest != file_digest(path):
        raise InputError(
            f"{path}: is not the file that its {SUMMARY} belongs to, or is damaged (its SHA-256 is another); "
            "choose the folder of a completed run, or run that one again"
        )


def _read_summary(path: Path) -> dict[str, Any]:
    if not path.is_file():
        raise InputError(f"{path}: is not there, so the run is not complete; choose the folder of a completed run")
    try:
        summary = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise InputError(f"{path}: cannot be read ({error}); choose the folder of a completed run") from None
    if not isinstance(summary, dict) or summary.get("complete") is not True:
        raise InputError(f"{path}: does not say complete = true; choose the folder of a completed run")
    return summary


def _number_in(summary: dict[str, Any], key: str, path: Path) -> int:
    value = summary.get(key)
    if isinstance(value, bool) or not isinstance(value, int) or value < 1:
        raise InputError(f"{path / SUMMARY}: {key} is {value!r}, expected a whole number of at least 1")
    return value


def _start_in(summary: dict[str, Any], path: Path) -> datetime:
    value = summary.get("start_utc")
    try:
        return datetime.strptime(value, START_FORMAT).replace(tzinfo=UTC)
    except (TypeError, ValueError):
        raise InputError(
            f"{path / SUMMARY}: start_utc is {value!r}, expected a time such as 2024-01-31T00:00Z"
        ) from None
