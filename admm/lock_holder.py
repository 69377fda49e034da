"""Who holds the lock on an output folder, as the lock file says, and whether that process is gone."""

from __future__ import annotations

import contextlib
import json
import os
import secrets
import socket
import time
from dataclasses import dataclass, fields, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

JOB_VARIABLES = ("SLURM_JOB_ID", "PBS_JOBID", "LSB_JOBID", "JOB_ID")
"""In which Slurm, PBS, LSF and Grid Engine name the job."""


@dataclass(frozen=True)
class Holder:
    """The process that holds a lock.

    machine, boot, processes: tell two hosts of one name, two boots of a host, two spaces of process numbers apart.
    ticks: start of the process, in clock ticks since the boot. began: start of the run, seconds since the epoch.
    job, attempt: of the queue, if there is one. token: another one in each lock.
    lender: the supervisor that holds the folder for all its launches, of which this process is one; same token.
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
    lender: Holder | None = None

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

    def launched_here(self) -> Holder:
        """This process, as a launch of the supervisor that is this holder or its lender."""
        return replace(Holder.here(), token=self.token, lender=self.lender or self)

    def is_dead(self) -> bool:
        """Whether the process, and its lender, is certainly gone; False where it may still run, or cannot be seen."""
        return self.is_gone() and (self.lender is None or self.lender.is_gone())

    def is_gone(self) -> bool:
        """The same of the process alone."""
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
        """Host, process and start, for people: of the lender, as long as it lives."""
        if self.lender is not None and not self.lender.is_gone():
            return self.lender.words()
        began = datetime.fromtimestamp(self.began, UTC)
        return f"process {self.pid} on host '{self.host}', started {began:%Y-%m-%d %H:%M:%SZ}"

    def advice(self, path: Path) -> str:
        """What a person can do about it."""
        if self._is_seen_from(Holder.here()):
            return "wait for its end, or choose another folder"
        return f"that host cannot be seen from here: if the run is over, remove {path}; or choose another folder"


def read_holder(path: Path) -> Holder | None:
    """The holder that a lock file names; None if there is none, or it cannot be read."""
    with contextlib.suppress(OSError, ValueError, TypeError, AttributeError, OverflowError, RecursionError):
        return _holder_of(json.loads(path.read_text(encoding="utf-8")))
    return None


def _holder_of(found: dict[str, Any]) -> Holder | None:
    lender = found.get("lender")
    holder = Holder(**{**found, "lender": None if lender is None else _holder_of(lender)})
    kinds = {"str": str, "int": int, "float": (int, float), "Holder | None": (Holder, type(None))}
    if not all(isinstance(getattr(holder, f.name), kinds[str(f.type)]) for f in fields(Holder)):
        return None
    datetime.fromtimestamp(holder.began, UTC)
    return holder


def start_ticks(pid: int) -> int | None:
    """When a process began, in clock ticks since the boot; None if it is gone, or dead and not waited for."""
    try:
        rest = Path(f"/proc/{pid}/stat").read_text(errors="replace").rpartition(")")[2].split()
    except OSError:
        return None
    return None if rest[0] in ("Z", "X") else int(rest[19])


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
