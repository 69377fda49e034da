"""The lock on an output folder: two runs never write into one folder at the same time.

`run.lock` names the host, the process and the start of the run that holds the folder. It appears whole, by a hard link,
which is atomic on network file systems, too. It goes when the run ends. A run that was killed leaves it behind: it is
stale when its process is gone from this host, or when the queue has started the same job anew.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import secrets
import socket
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass, fields
from datetime import UTC, datetime
from pathlib import Path

from admm.errors import InputError, OutputError

LOCK = "run.lock"
TRIES = 50
GUARD_SECONDS = 5.0
JOB_VARIABLES = ("SLURM_JOB_ID", "PBS_JOBID", "LSB_JOBID", "JOB_ID")
"""In which Slurm, PBS, LSF and Grid Engine name the job."""


@dataclass(frozen=True)
class Holder:
    """The process that holds a lock.

    machine, boot, processes: tell two hosts of one name, two boots of a host, two spaces of process numbers apart.
    ticks: start of the process, in clock ticks since the boot. began: start of the run, seconds since the epoch.
    job, attempt: of the queue, if there is one. token: another one in each lock.
    """

    token: str
    host: str
    pid: int
    ticks: int
    machine: str
    boot: str
    processes: str
    began: float
    job: str = ""
    attempt: int = 0

    @classmethod
    def here(cls) -> Holder:
        """This process."""
        pid = os.getpid()
        return cls(
            token=secrets.token_hex(8),
            host=socket.gethostname(),
            pid=pid,
            ticks=start_ticks(pid) or 0,
            machine=_text_of("/etc/machine-id"),
            boot=_text_of("/proc/sys/kernel/random/boot_id"),
            processes=_process_space(),
            began=time.time(),
            job=next((os.environ[name] for name in JOB_VARIABLES if os.environ.get(name)), ""),
            attempt=int(restarts) if (restarts := os.environ.get("SLURM_RESTART_COUNT", "")).isdecimal() else 0,
        )

    def is_dead(self) -> bool:
        """Whether the process is certainly gone; False where it may still run, or cannot be seen."""
        here = Holder.here()
        if self.job and self.job == here.job and self.attempt < here.attempt:
            return True  # a queue never runs two attempts at one job
        if not self._is_seen_from(here):
            return False
        return self.boot != here.boot or start_ticks(self.pid) != self.ticks

    def _is_seen_from(self, here: Holder) -> bool:
        if self.host != here.host or self.machine != here.machine:
            return False
        if self.boot == here.boot:
            return self.processes == here.processes
        return bool(self.machine)  # this machine, started anew since

    def words(self) -> str:
        """Host, process and start, for people."""
        began = datetime.fromtimestamp(self.began, UTC)
        return f"process {self.pid} on host '{self.host}', started {began:%Y-%m-%d %H:%M:%SZ}"

    def advice(self, path: Path) -> str:
        """What a person can do about it."""
        if self._is_seen_from(Holder.here()):
            return "wait for its end, or choose another folder"
        return f"that host cannot be seen from here: if the run is over, remove {path}; or choose another folder"


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
                    if self._create(mine) or (self._remove_stale() and self._create(mine)):
                        self._mine = mine
                        self.former = self.former or self._traced()
                        return
            except FileNotFoundError:  # whoever was here before has removed its empty folder meanwhile
                if attempt == TRIES - 1:
                    raise
            time.sleep(0.001 * attempt)
        raise InputError(f"{self._option}: {self.path} comes and goes: other runs begin here; choose another folder")

    def _make_folder(self) -> None:
        if os.path.lexists(self.folder) and not self.folder.is_dir():
            raise InputError(f"{self._option}: {self.folder} is a file, expected a folder; choose another name")
        missing = [path for path in (self.folder, *self.folder.parents) if not path.exists()]
        self.folder.mkdir(parents=True, exist_ok=True)
        self._made = [*missing, *self._made]

    def _create(self, mine: Holder) -> bool:
        """Whether the lock could be put there; it is whole from the first moment on."""
        part = self.folder / f"{LOCK}.{mine.token}.{mine.pid}.part"
        text = json.dumps(asdict(mine)).encode()
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
        """Whether the lock on the disk is still this one."""
        return self._mine is not None and read_holder(self.path) == self._mine

    def check_held(self) -> None:
        """Raise OutputError if the folder was removed, or taken over, since `take`."""
        if not self.is_held():
            raise OutputError(
                f"{self._option}: results cannot be written: {self.path} is gone or another run's: the folder was "
                "removed or taken over in mid-run; run again"
            )

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
        """Give the folder up; a second call does nothing, and so does a child process.

        traced: leave the lock under another name, as a file that is unfinished: the next run learns of this one.
        """
        if self._mine is None or self._mine.pid != os.getpid():
            return
        with contextlib.suppress(OSError):
            if self.is_held() and traced:
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


def read_holder(path: Path) -> Holder | None:
    """The holder that a lock file names; None if there is none, or it cannot be read."""
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
        holder = Holder(**found)
    except (OSError, ValueError, TypeError):
        return None
    kinds = {"str": str, "int": int, "float": (int, float)}
    return holder if all(isinstance(getattr(holder, f.name), kinds[str(f.type)]) for f in fields(Holder)) else None


def start_ticks(pid: int) -> int | None:
    """When a process began, in clock ticks since the boot; None if it is gone, or dead and not waited for."""
    try:
        rest = Path(f"/proc/{pid}/stat").read_text(errors="replace").rpartition(")")[2].split()
    except OSError:
        return None
    return None if rest[0] in ("Z", "X") else int(rest[19])


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


def _text_of(path: str) -> str:
    try:
        return Path(path).read_text(encoding="utf-8").strip()
    except (OSError, ValueError):
        return ""


def _process_space() -> str:
    try:
        return os.readlink("/proc/self/ns/pid")
    except OSError:
        return ""
