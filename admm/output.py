"""The output folder of a run: prepared before, completed after; `summary.json` comes last and says so.

Read back, it is where a later run starts.
"""

from __future__ import annotations

import hashlib
import json
import math
import os
import platform
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from importlib import metadata
from pathlib import Path
from typing import Any

from admm import __version__
from admm.errors import InputError
from admm.folder_lock import LOCK
from admm.history import read_boundary
from admm.ownership import (
    AUDIT,
    BOUNDARY,
    CHECKPOINTS,
    HISTORY,
    PRIVATE,
    SUMMARY,
    TRANSCRIPTS,
    make_private,
    origin_of,
    own_files,
    remove_unfinished,
    run_ids,
)
from admm.state import BoundaryResult, Result
from admm.whole_file import unwritable, write_whole

UNFINISHED = (".tmp", ".part")
"""Endings of files that a killed run may leave behind."""
START_FORMAT = "%Y-%m-%dT%H:%MZ"
"""Of start_utc in the summary."""
BOUNDARY_DIGEST = "boundary_sha256"
"""Key of a summary."""
MINUTES_A_DAY = 24 * 60
PACKAGES = ("numpy", "scipy", "osqp", "piqp", "clarabel", "pandapower", "mpi4py", "h5py")


def run_id_of(identity: Mapping[str, str], former: str = "") -> str:
    """The id of a run: what is asked for, and the run whose results it replaces. Sixteen hexadecimal digits.

    It is no random number, so that two runs of the same ask in new folders write the same bytes; two runs that follow
    each other in one folder have two ids.
    """
    text = json.dumps([sorted(identity.items()), former])
    return hashlib.sha256(text.encode()).hexdigest()[:16]


class OutputFolder:
    """Where a run writes. `prepare` removes an older result, and no file that is not of one.

    tables: names of further files that a result holds. folders: of folders in it, each an OutputFolder of its own.
    audited: the transcript that is there is this run's own. option: which one named the folder, for errors.
    run_id: of this run, in all that it writes; set before the first file.
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
        self._audited, self._name, self.run_id = audited, f"{option} {path}", ""

    def __truediv__(self, name: str) -> Path:
        return self.path / name

    def private(self, agent: str) -> Path:
        return self.path / PRIVATE / f"{agent}.h5"

    # ------------------------------------------------------------- what is there

    def check(self) -> None:
        """Raise InputError unless the folder can be written to without losing anything but an older result.

        Files of others may stand beside an older result, under other names than those of a result.
        """
        existing = next(p for p in (self.path, *self.path.parents) if os.path.exists(p))
        if not existing.is_dir():
            raise InputError(f"{self._name}: {existing} is a file, expected a folder; choose another name")
        if not os.access(existing, os.R_OK | os.W_OK | os.X_OK):
            raise InputError(f"{self._name}: {existing} may not be written to; choose another folder")
        self._check_folders()
        content = self._content()
        names = (*self._result_files(), PRIVATE, AUDIT, LOCK, *self._folders)
        foreign = [p.name for p in content if p.name not in names and p.suffix not in UNFINISHED]
        if foreign and not any(p.name in names and p.name != LOCK for p in content):
            raise InputError(f"{self._name}: holds '{foreign[0]}', which is no result; choose an empty or new folder")

    def check_files(self, agents: Sequence[str] = ()) -> None:
        """Raise InputError if a file of somebody else stands where one of this result will go.

        agents: whose private results will be there.
        """
        for path in (self / name for name in self._result_files()):
            if os.path.lexists(path) and not self._is_own(path, None):
                raise self._foreign(path)
        ids = self._older_ids()
        for path in map(self.private, agents):
            if os.path.lexists(path) and not self._is_own(path, ids):
                raise self._foreign(path)

    def former_run_id(self) -> str:
        """Of the complete result that is there; empty without one."""
        return origin_of(self / SUMMARY) or ""

    def run_id_to_go_on_with(self) -> str:
        """Of the run that has left a checkpoint or a transcript here; empty without one."""
        found = run_ids(self.path, (CHECKPOINTS[0],)) or run_ids(self.path, CHECKPOINTS)
        return next(iter(found or {origin_of(p) or "" for p in self._transcripts()}), "")

    def _transcripts(self) -> Iterator[Path]:
        folder = self / AUDIT
        return (p for p in folder.glob(TRANSCRIPTS) if origin_of(p) is not None) if folder.is_dir() else iter(())

    def _content(self) -> list[Path]:
        return sorted(self.path.iterdir()) if os.path.isdir(self.path) else []

    def _result_files(self) -> tuple[str, ...]:
        return (SUMMARY, HISTORY, BOUNDARY, *CHECKPOINTS, *self._tables)

    def _check_folders(self) -> None:
        """Nothing behind a link is ours to remove."""
        for path in (self / name for name in (PRIVATE, AUDIT, *self._folders)):
            if os.path.islink(path):
                raise InputError(f"{self._name}: {path} is a link, expected a folder; remove it or choose another")
            if os.path.lexists(path) and not os.path.isdir(path):
                raise InputError(f"{self._name}: {path} is a file, expected a folder; move it or choose another folder")

    def _foreign(self, path: Path) -> InputError:
        what = "is a link" if path.is_symlink() else "is not a file that Tieline has written, or is damaged"
        return InputError(f"{self._name}: {path} {what}; move it, or choose another folder")

    def _is_own(self, path: Path, ids: set[str] | None) -> bool:
        """Whether Tieline has written a file; ids: of the runs that it may be of."""
        if path.suffix == ".csv":  # carries no id: it is of the result that it stands beside
            plain = path.is_file() and not path.is_symlink()
            beside = run_ids(self.path, (SUMMARY, *(t for t in self._tables if t.endswith(".h5"))))
            return plain and bool(beside) and self._digest_told(path.name) in (None, file_digest(path))
        origin = origin_of(path)
        return origin is not None and (ids is None or origin in ids)

    def _digest_told(self, name: str) -> str | None:
        """SHA-256 of a file of the complete result that is there; None without one, or where it does not say."""
        try:
            found = json.loads((self / SUMMARY).read_text(encoding="utf-8"))
        except (OSError, ValueError, RecursionError):
            return None
        return found.get(digest_key(name)) if isinstance(found, dict) else None

    def _older_ids(self) -> set[str]:
        """Of all runs that have left something here, and of this one."""
        return run_ids(self.path, (SUMMARY, HISTORY, BOUNDARY, *CHECKPOINTS)) | ({self.run_id} - {""})

    # ------------------------------------------------------------- what is written

    def prepare(self, private: bool = True, keep_checkpoints: bool = False, agents: Sequence[str] = ()) -> None:
        """Make the folder, with one for private results, and remove an older result, its completion marker first."""
        self.check()
        self.check_files(agents)
        try:
            self.path.mkdir(parents=True, exist_ok=True)
            if private:
                make_private(self / PRIVATE)
            older = list(self._older(keep_checkpoints))
            for old in (self / SUMMARY, *older):
                old.unlink(missing_ok=True)
        except OSError as error:
            raise unwritable(self.path, error) from None
        self.tidy()

    def prepare_private(self, agents: Sequence[str] = ()) -> None:
        """Make the folder of private results where this rank is: another host than the driving rank's has none yet."""
        try:
            make_private(self / PRIVATE)
        except OSError as error:
            raise unwritable(self / PRIVATE, error) from None
        for path in map(self.private, agents):
            if os.path.lexists(path) and not self._is_own(path, None):
                raise self._foreign(path)

    def tidy(self) -> None:
        """Remove what processes that are gone were writing here when they were killed."""
        remove_unfinished((self.path, self / PRIVATE, self / AUDIT))

    def _older(self, keep_checkpoints: bool) -> Iterator[Path]:
        """Files of an older result. Checkpoints go before what they name."""
        ids = self._older_ids()
        names = (*(() if keep_checkpoints else CHECKPOINTS), HISTORY, BOUNDARY, *self._tables)
        yield from (self / name for name in names)
        for path in own_files(self / PRIVATE, "*.h5", ids):
            if not (keep_checkpoints and ".checkpoint-" in path.name):
                yield path
        if not self._audited:
            yield from self._transcripts()

    def unmark(self) -> None:
        """An older result in the folder, if there is one, is no longer complete."""
        try:
            (self / SUMMARY).unlink(missing_ok=True)
        except OSError as error:
            raise unwritable(self / SUMMARY, error) from None

    def complete(self, summary: dict[str, Any]) -> None:
        """Write summary.json; `complete` is its last key. Numbers that are not finite become null.

        With the SHA-256 of boundary.h5, if there is one: a later start from a damaged file is refused. And with that of
        every CSV file, which has no room for the id of its run.
        """
        named = (BOUNDARY, *(name for name in self._tables if name.endswith(".csv")))
        digests = {digest_key(name): file_digest(self / name) for name in named if (self / name).is_file()}
        run_id = {"run_id": self.run_id} if self.run_id else {}
        numbers = {key: _number_or_none(value) for key, value in summary.items()}
        text = json.dumps({**numbers, **run_id, **digests, "complete": True}, indent=2, allow_nan=False)
        write_whole(self / SUMMARY, f"{text}\n".encode())


def _number_or_none(value: Any) -> Any:
    """What JSON has no number for, infinite or not a number, becomes null: a run ends with its results."""
    return None if isinstance(value, float) and not math.isfinite(value) else value


def digest_key(name: str) -> str:
    """Under which a summary has the SHA-256 of a file."""
    return BOUNDARY_DIGEST if name == BOUNDARY else f"{name.replace('.', '_')}_sha256"


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
        "note": result.note,
        "certified_gap": result.certified_gap,
        "proof_exchanges": result.proof_exchanges,
        "iterations": result.iterations,
        "objective_eur": result.objective,
        "turnover_eur": result.turnover,
        "schedule_cost_eur": result.schedule_cost.eur,
        "schedule_cost_gap": result.schedule_cost.gap,
        "schedule_cost_change": result.schedule_cost.change,
        "schedule_cost_note": result.schedule_cost.reason,
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
