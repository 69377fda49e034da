"""What MPI libraries keep in shared memory, and how nothing of it is left behind.

MPICH leaves its segment there when a job is killed. Once every rank has it mapped its name is of no more use, so a run
takes the name away as soon as it has begun: the memory goes with the last process, however that ends. What a launch
left that never came so far is removed by whoever launched it.
"""

from __future__ import annotations

import contextlib
import os
import socket
from collections.abc import Iterable, Iterator
from pathlib import Path

from admm.lock_holder import Holder

FOLDER = Path("/dev/shm")
UNLINKED_AT_START = "mpich_shm_"
BEFORE_LOCK_SECONDS = 60.0
"""By so much a launcher may be older than its run's lock."""
OF_MPI = ("mpich", "fi_", "ofi", "vader", "sm_segment", "openmpi", "ucx", "psm")
"""How names of MPI libraries' files begin."""


def unlink_mapped() -> None:
    """Take away the name of MPICH's segment that this process has mapped. Only when every rank of the node has."""
    for path in _mapped_by("self"):
        if path.parent == FOLDER and path.name.startswith(UNLINKED_AT_START):
            with contextlib.suppress(OSError):
                path.unlink()


def remove_left_behind(since: float) -> None:
    """Remove what `left_behind` finds."""
    unlink(left_behind(since))


def remove_left_by(holder: Holder | None) -> None:
    """Remove what a run that was killed has left on this host; holder: who left its lock, if any."""
    if holder is not None and holder.host == socket.gethostname():
        remove_left_behind(holder.began - BEFORE_LOCK_SECONDS)


def unlink_own() -> None:
    """Before this process ends without MPI's own end: take away the names of what it has mapped."""
    unlink(mapped_here())


def mapped_here() -> list[Path]:
    """MPI's files that this process has mapped."""
    return [path for path in _mapped_by("self") if path.parent == FOLDER and _is_ours(path, 0.0)]


def unlink(paths: Iterable[Path]) -> None:
    """Take away the names of files, of those that can be removed."""
    for path in paths:
        with contextlib.suppress(OSError):
            path.unlink()


def is_any_there(since: float) -> bool:
    """Whether MPI has files here of this user that a run which took its lock then may have made."""
    return FOLDER.is_dir() and any(_is_ours(path, since - BEFORE_LOCK_SECONDS) for path in FOLDER.iterdir())


def left_behind(since: float) -> list[Path]:
    """Files of MPI that are this user's, newer than `since` (seconds, epoch), and mapped by no process."""
    ours = [path for path in FOLDER.iterdir() if _is_ours(path, since)] if FOLDER.is_dir() else []
    used = {path for pid in _processes() for path in _mapped_by(pid)} if ours else set()
    return [path for path in ours if path not in used]


def _is_ours(path: Path, since: float) -> bool:
    with contextlib.suppress(OSError):
        about = path.lstat()
        mine = about.st_uid == os.getuid() and about.st_mtime >= since - 1.0
        return path.name.startswith(OF_MPI) and path.is_file() and mine
    return False


def _processes() -> Iterator[str]:
    return (path.name for path in Path("/proc").glob("[0-9]*"))


def _mapped_by(process: str) -> set[Path]:
    """Files that a process has mapped; none where that may not be seen."""
    with contextlib.suppress(OSError):
        lines = Path(f"/proc/{process}/maps").read_text(errors="replace").splitlines()
        return {Path(line.split(maxsplit=5)[5]) for line in lines if "/" in line}
    return set()
