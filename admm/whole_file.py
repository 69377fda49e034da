"""Files that are whole or are not there: put together in memory, written under another name, synced, renamed.

HDF5 never writes to the disk itself: a disk that is full would leave it with a file that it can neither finish nor
close, and it crashes over that when the program ends.
"""

from __future__ import annotations

import os
from pathlib import Path

from admm.errors import InputError


def write_whole(path: Path, data: bytes) -> None:
    """Raises InputError where it cannot be done; then what was there before is still there."""
    part = path.with_name(f"{path.name}.{os.getpid()}.part")
    try:
        with part.open("wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        os.replace(part, path)
        sync_folder(path.parent)
    except OSError as error:
        raise InputError(
            f"{path}: cannot be written ({error.strerror}); check the folder, its rights and the disk"
        ) from None
    finally:
        part.unlink(missing_ok=True)


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
    finally:
        os.close(number)
