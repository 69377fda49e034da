"""Which files in an output folder Tieline has written, and by which run.

Every HDF5 file of a run has the attributes `run_id`, for people, and `origin`, the same as text of fixed length. The
latter is looked for in the bytes of a file, so that a file of unknown origin is never opened as HDF5. A file is known
by its name and by that; files of releases without run ids are known by the names in them.
"""

from __future__ import annotations

import contextlib
import json
import os
import re
from collections.abc import Iterable, Iterator
from pathlib import Path

from admm.folder_lock import LOCK
from admm.lock_holder import start_ticks

SUMMARY, HISTORY, BOUNDARY, PRIVATE = "summary.json", "history.h5", "boundary.h5", "private"
CHECKPOINTS = ("checkpoint.h5", "checkpoint-previous.h5")
AUDIT, TRANSCRIPTS = "audit", "rank-*.jsonl"
WITHOUT_ID = ""
"""Of a file of a release whose files have no run id."""
ORIGIN = "tieline run "
_ORIGIN = re.compile(rb"tieline run ([0-9a-f]{16})")
_SIGNATURE = b"\x89HDF\r\n\x1a\n"
_CHECKPOINT = b"TIELINE CHECKPOINT "
_OLDER = (
    (b"primal_residual", b"dual_residual"),
    (b"lower", b"upper", b"price"),
    (b"objective_eur",),
    (b"settlement", b"positions", b"gates"),
)
_PART = re.compile(r"(?P<name>.+?)\.(?:[0-9a-f]{16}\.)?(?P<pid>\d+)\.part")


def origin_of(path: Path) -> str | None:
    """The run id of a file that Tieline has written, WITHOUT_ID if it has none; None for any other file, or a link."""
    if path.is_symlink() or not path.is_file():
        return None
    try:
        if path.suffix == ".json":
            return _of_summary(path)
        if path.suffix == ".jsonl":
            return _of_transcript(path)
        return _of_hdf5(path.read_bytes())
    except (OSError, ValueError, RecursionError):
        return None


def _of_summary(path: Path) -> str | None:
    found = json.loads(path.read_text(encoding="utf-8"))
    if not isinstance(found, dict):
        return None
    marker = found.keys() <= {"complete"}  # and nothing that anybody could miss
    ours = marker or ("complete" in found and str(found.get("versions", "")).startswith("tieline"))
    return str(found.get("run_id", WITHOUT_ID)) if ours else None


def _of_transcript(path: Path) -> str | None:
    with path.open(encoding="utf-8") as file:
        found = json.loads(file.readline())
    return str(found.get("run_id", WITHOUT_ID)) if isinstance(found, dict) and "tieline_audit" in found else None


def _of_hdf5(data: bytes) -> str | None:
    found = _ORIGIN.search(data)
    if found:
        return found[1].decode()
    if data.startswith(_CHECKPOINT):
        return WITHOUT_ID
    older = data.startswith(_SIGNATURE) and any(all(word in data for word in words) for words in _OLDER)
    return WITHOUT_ID if older else None


def run_ids(folder: Path, names: Iterable[str]) -> set[str]:
    """Of the runs that have written these files in the folder."""
    found = (origin_of(folder / name) for name in names)
    return {run_id for run_id in found if run_id is not None}


def own_files(folder: Path, pattern: str, ids: set[str]) -> Iterator[Path]:
    """Files in a folder that one of these runs has written; a folder that is a link is not looked into."""
    if folder.is_dir() and not folder.is_symlink():
        yield from (path for path in folder.glob(pattern) if origin_of(path) in ids)


def unfinished_files(folder: Path) -> Iterator[Path]:
    """Files that a process which is gone was writing under another name, to rename them when whole."""
    if not folder.is_dir() or folder.is_symlink():
        return
    for path in folder.glob("*.part"):
        match = _PART.fullmatch(path.name)
        known = match and (match["name"] == LOCK or Path(match["name"]).suffix in (".json", ".h5", ".csv", ".part"))
        if known and path.is_file() and not path.is_symlink() and start_ticks(int(match["pid"])) is None:
            yield path


def remove_unfinished(folders: Iterable[Path]) -> None:
    for folder in folders:
        for path in unfinished_files(folder):
            with contextlib.suppress(OSError):
                path.unlink()


def make_private(folder: Path) -> None:
    """Make a folder that only its user may look into, whatever the umask; one that is there is closed, too."""
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    with contextlib.suppress(PermissionError):  # of somebody else, who has let us in
        os.chmod(folder, 0o700)
