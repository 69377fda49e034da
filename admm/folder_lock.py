"""The lock on an output folder: two runs never write into one folder at the same time.

`run.lock` names the host, the process and the start of the run that holds the folder. It appears whole, by a hard link,
which is atomic on network file systems, too. It goes when the run ends. A run that was killed leaves it behind: it is
stale when its process is gone from this host, or when the queue has started the same job anew. A supervisor holds the
folder for all its launches, and between them: each puts its own name beside the supervisor's.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import time
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path

from admm.errors import InputError, OutputError
from admm.lock_holder import Holder, read_holder

LOCK = "run.lock"
LENT = "TIELINE_LOCK"
"""In the environment of a launch: the token of its supervisor's lock."""
TRIES = 50
GUARD_SECONDS = 5.0


class FolderLock:
    """Holds a folder for one run; `take` makes the folder, too, and `release` removes it if nothing was put in.

    option: which option or argument named the folder, for errors. former: after `take`, who has left a stale lock, or
    the trace of one; the latter goes with all unfinished files.
    """

    def __init__(self, folder: str | Path, option: str = "--out") -> None:
        self.folder, self.path, self._option = Path(folder), Path(folder) / LOCK, f"{option} {folder}"
        self.former: Holder | None = None
        self._mine: Holder | None = None
        self._made: list[Path] = []

    def take(self) -> None:
        """Hold the folder. Raises InputError: another run holds it, or nothing can be written there."""
        if self._mine is not None:
            return
        try:
            self._take()
        except OSError as error:
            self._remove_made()
            raise InputError(
                f"{self._option}: cannot be written ({error.strerror or error}); choose another folder"
            ) from None
        except InputError:
            self._remove_made()
            raise

    def _take(self) -> None:
        mine = Holder.here()
        for attempt in range(TRIES):
            try:
                self._make_folder()
                with _one_at_a_time(self.folder):
                    held = self._borrowed()
                    if held is None and (self._create(mine) or (self._remove_stale() and self._create(mine))):
                        held = mine
                    if held is not None:
                        self._mine = held
                        self.former = self.former or self._traced()
                        return
            except FileNotFoundError:  # whoever was here before has removed its empty folder meanwhile
                if attempt == TRIES - 1:
                    raise
            time.sleep(0.001 * attempt)
        raise InputError(f"{self._option}: {self.path} comes and goes: other runs begin here; choose another folder")

    def _make_folder(self) -> None:
        if os.path.lexists(self.folder) and not self.folder.is_dir():
            what = "a link to nothing" if self.folder.is_symlink() and not self.folder.exists() else "a file"
            raise InputError(f"{self._option}: {self.folder} is {what}, expected a folder; choose another name")
        missing = [path for path in (self.folder, *self.folder.parents) if not path.exists()]
        self.folder.mkdir(parents=True, exist_ok=True)
        self._made = [*missing, *self._made]

    def _borrowed(self) -> Holder | None:
        """This process beside the supervisor that has lent it the lock; None if none has, or to another one as well."""
        holder = read_holder(self.path)
        if holder is None or holder.token != os.environ.get(LENT):
            return None
        if holder.lender is not None and not holder.is_gone():
            return None
        mine = holder.launched_here()
        self._replace(mine)
        return mine

    def _replace(self, mine: Holder) -> None:
        """Put another name into the lock; it is held, and whole, all the time."""
        part = self._part_of(mine)
        try:
            _write_new(part, _text_of(mine))
            os.replace(part, self.path)
        finally:
            with contextlib.suppress(OSError):
                part.unlink()

    def _part_of(self, mine: Holder) -> Path:
        return self.folder / f"{LOCK}.{mine.token}.{mine.pid}.part"

    def _create(self, mine: Holder) -> bool:
        """Whether the lock could be put there; it is whole from the first moment on."""
        part, text = self._part_of(mine), _text_of(mine)
        try:
            _write_new(part, text)
            try:
                os.link(part, self.path)
            except FileExistsError:
                return _same_file(part, self.path)  # a network file system may have asked twice
            except OSError:
                return self._create_without_links(text)
            return True
        finally:
            with contextlib.suppress(OSError):
                part.unlink()

    def _create_without_links(self, text: bytes) -> bool:
        try:
            _write_new(self.path, text)
        except FileExistsError:
            return False
        return True

    def _remove_stale(self) -> bool:
        """Whether the lock that was there is gone. Raises InputError if it may be in use."""
        holder = read_holder(self.path)
        if holder is None:
            if not os.path.lexists(self.path):
                return True
            raise InputError(
                f"{self._option}: {self.path} is not a lock that can be read; if no run writes there, remove that file"
            )
        if not holder.is_dead():
            raise InputError(f"{self._option}: another run writes there: {holder.words()}; {holder.advice(self.path)}")
        aside = self.path.with_name(f"{LOCK}.{holder.token}.{os.getpid()}.part")
        os.rename(self.path, aside)
        if read_holder(aside) != holder:  # another run has taken it in between
            with contextlib.suppress(OSError):
                os.link(aside, self.path)
            aside.unlink()
            return False
        self.former = holder
        aside.unlink()
        return True

    def is_held(self) -> bool:
        """Whether the lock on the disk is still this one, whoever of a supervisor and its launches has put it there."""
        holder = read_holder(self.path)
        return self._mine is not None and holder is not None and holder.token == self._mine.token

    def check_held(self) -> None:
        """Raise OutputError if the folder was removed, or taken over, since `take`."""
        if not self.is_held():
            raise OutputError(
                f"{self._option}: results cannot be written: {self.path} is gone or another run's: the folder was "
                "removed or taken over in mid-run; run again"
            )

    @property
    def token(self) -> str:
        """What a launch has to know to use the lock of its supervisor; empty if it is not held."""
        return "" if self._mine is None else self._mine.token

    @property
    def began(self) -> float | None:
        """When the lock was taken, seconds since the epoch; None if it is not held."""
        return None if self._mine is None else self._mine.began

    def _traced(self) -> Holder | None:
        """Who has given the folder up and left a trace, the earliest; None without one."""
        found = [read_holder(path) for path in self.folder.glob(f"{LOCK}.*.part")]
        gone = [holder for holder in found if holder is not None and holder.is_dead()]
        return min(gone, key=lambda holder: holder.began, default=None)

    def release(self, traced: bool = False) -> None:
        """Give the folder up, or back to the supervisor; a second call does nothing, and so does a child process.

        traced: leave the lock under another name, as a file that is unfinished: the next run learns of this one.
        """
        if self._mine is None or self._mine.pid != os.getpid():
            return
        lender = self._mine.lender
        with contextlib.suppress(OSError):
            if self.is_held() and lender is not None and not lender.is_gone():
                self._replace(lender)
            elif self.is_held() and traced:
                self.path.rename(self.path.with_name(f"{LOCK}.{self._mine.token}.{self._mine.pid}.part"))
            elif self.is_held():
                self.path.unlink()
        self._mine = None
        self._remove_made()

    def _remove_made(self) -> None:
        """Remove the folders that `take` made, where they are empty still."""
        for path in self._made:
            with contextlib.suppress(OSError):
                path.rmdir()
        self._made = []

    def __enter__(self) -> FolderLock:
        self.take()
        return self

    def __exit__(self, *_: object) -> None:
        self.release()


@contextlib.contextmanager
def _one_at_a_time(folder: Path) -> Iterator[None]:
    """Among processes of this host, where the file system can lock a folder; else the hard link alone decides."""
    number = os.open(folder, os.O_RDONLY)
    try:
        until = time.monotonic() + GUARD_SECONDS
        while time.monotonic() < until:
            try:
                fcntl.flock(number, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError:
                time.sleep(0.005)
            except OSError:
                break
        yield
    finally:
        os.close(number)


def _text_of(holder: Holder) -> bytes:
    return json.dumps(asdict(holder)).encode()


def _write_new(path: Path, data: bytes) -> None:
    number = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o644)
    try:
        os.write(number, data)
        os.fsync(number)
    finally:
        os.close(number)


def _same_file(one: Path, other: Path) -> bool:
    try:
        return os.path.samefile(one, other)
    except OSError:
        return False
