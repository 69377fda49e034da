"""Files that are whole or are not there: put together in memory, written under another name, synced, renamed.

HDF5 never writes to the disk itself: a disk that is full would leave it with a file that it can neither finish nor
close, and it crashes over that when the program ends.
"""

from __future__ import annotations

import contextlib
import errno
import os
from pathlib import Path

from admm.errors import OutputError

OPEN, CLOSED = 0o666, 0o600
"""Rights of a new file: as the umask says, or of its user only."""
NOT_SYNCED = (errno.EINVAL, errno.ENOTSUP, errno.EBADF)
"""What file systems say that cannot sync a folder."""


def write_whole(path: Path, data: bytes, mode: int = OPEN) -> None:
    """Raises OutputError where it cannot be done; then what was there before is still there."""
    part = path.with_name(f"{path.name}.{os.getpid()}.part")
    try:
        _write(part, data, mode)
        os.replace(part, path)
        sync_folder(path.parent)
    except OSError as error:
        raise unwritable(path, error) from None
    finally:
        with contextlib.suppress(OSError):  # says less than what went wrong before
            part.unlink(missing_ok=True)


def _write(part: Path, data: bytes, mode: int) -> None:
    with contextlib.suppress(FileNotFoundError):  # of a process that had this number before
        part.unlink()
    with open(os.open(part, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode), "wb") as file:
        if mode == CLOSED:
            os.fchmod(file.fileno(), mode)
        file.write(data)
        file.flush()
        os.fsync(file.fileno())


def unwritable(path: Path, error: OSError) -> OutputError:
    """The error of a result that the file system does not take."""
    why = error.strerror or str(error)
    return OutputError(f"{path}: cannot be written ({why}); check the folder, its rights and the disk")


def mark_of(path: Path) -> tuple[int, int] | None:
    """Another one whenever another file is put in its place; None without one."""
    try:
        about = path.stat()
    except OSError:
        return None
    return about.st_ino, about.st_mtime_ns


def sync_folder(folder: Path) -> None:
    """Renames in a folder are on the disk, too."""
    number = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(number)
    except OSError as error:
        if error.errno not in NOT_SYNCED:
            raise
    finally:
        os.close(number)
