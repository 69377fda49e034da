"""checkpoint.h5: one file that is whole or is not taken.

The first 512 bytes are a block that HDF5 leaves alone: a line that says what the file is and the SHA-256 of all that
follows. It is checked before HDF5 sees the file, so one that was cut short or damaged is told from a good one and
never opened. Written under a temporary name, synced to the disk, then renamed.
"""

from __future__ import annotations

import hashlib
import io
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import h5py
import numpy as np

from admm.errors import InputError
from admm.history import put_run_id
from admm.snapshot import pack_values, unpack_values
from admm.whole_file import CLOSED, write_whole

BLOCK_BYTES = 512
MAGIC = b"TIELINE CHECKPOINT 1 sha256 "


def write_checkpoint(path: Path, values: Any, iteration: int = 0, run_id: str = "") -> str:
    """Write a nest of values (see `admm.snapshot`); returns the SHA-256 of the file's content. Raises OutputError."""
    text, arrays = pack_values(values)
    content = io.BytesIO()
    with h5py.File(content, "w", userblock_size=BLOCK_BYTES) as file:
        put_run_id(file, run_id)
        file.attrs["iteration"] = iteration
        file["values"] = np.frombuffer(text.encode(), dtype=np.uint8)
        for number, array in enumerate(arrays):
            file[f"arrays/{number}"] = array
    data = content.getvalue()[BLOCK_BYTES:]
    digest = hashlib.sha256(data).hexdigest()
    write_whole(path, (MAGIC + digest.encode() + b"\n").ljust(BLOCK_BYTES, b"\0") + data, CLOSED)
    return digest


def read_checkpoint(path: Path, expected_sha256: str | None = None) -> Any:
    """The values in a file. Raises InputError, naming the file, if it is damaged or another than the expected one."""
    with _opened(path, expected_sha256) as file:
        arrays = [_array(file, f"arrays/{number}") for number in range(len(file.get("arrays", ())))]
        text = _array(file, "values").tobytes().decode()
    try:
        return unpack_values(text, arrays)
    except InputError as error:
        raise InputError(f"{path}: {error}") from None


def saved_iteration(path: Path) -> int:
    """The iteration after which a file was written. Raises as `read_checkpoint` does."""
    with _opened(path) as file:
        return int(file.attrs["iteration"])


def _array(file: h5py.File, name: str) -> np.ndarray:
    """Numbers that are in the file itself, as `write_checkpoint` puts them there."""
    if file.get(name, getlink=True).__class__ is not h5py.HardLink:
        raise ValueError(f"'{name}' is a link")
    data = file[name]
    plain = isinstance(data, h5py.Dataset) and not (data.is_virtual or data.external or data.chunks)
    if not plain or data.dtype.kind not in "biuf" or data.shape is None or data.nbytes > file.id.get_filesize():
        raise ValueError(f"'{name}' is no plain array of numbers")
    found = data[()]
    return np.asarray(found, dtype=data.dtype)


@contextmanager
def _opened(path: Path, expected_sha256: str | None = None) -> Iterator[h5py.File]:
    try:
        whole = path.read_bytes()
    except OSError as error:
        raise InputError(f"{path}: cannot be read ({error.strerror})") from None
    block, data = whole[:BLOCK_BYTES], whole[BLOCK_BYTES:]
    if not block.startswith(MAGIC):
        raise InputError(f"{path}: is no checkpoint of this release")
    said = block[len(MAGIC) :].split(b"\n")[0].decode(errors="replace")
    if hashlib.sha256(data).hexdigest() != said:
        raise InputError(f"{path}: is damaged or was cut short: its content does not match its SHA-256")
    if expected_sha256 not in (None, said):
        raise InputError(f"{path}: is of another run or iteration than the checkpoint beside it")
    try:
        with h5py.File(io.BytesIO(whole), "r") as file:
            yield file
    except InputError:
        raise
    except (OSError, RuntimeError, LookupError, ValueError, TypeError, AttributeError, MemoryError) as error:
        raise InputError(f"{path}: cannot be read ({type(error).__name__}: {error})") from None
