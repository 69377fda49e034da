"""A run over two hosts whose link is cut: `python -m benchmarks two_hosts`. Needs root; see `hosts.py`.

Ranks of one mpirun on both hosts, and on each host the private files of its own agents only. The run to its end; the
link cut for good, and for a moment; the run that goes on when the link is back; the same under a supervisor. A row says
how it ended, after how long, what was left on either host, and whether boundary.h5 has the bytes of a run in one
process without a fault. Writes results/two_hosts.csv and .md.
"""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from admm import InputError
from admm.graph import split
from admm.output import versions
from admm.placement import balance
from admm.resume import latest_iteration
from benchmarks.cluster.hosts import NAMES, SHELL_SECONDS, Host, TwoHosts, check_possible
from benchmarks.faults import last_words, small_case
from benchmarks.measure import machine
from benchmarks.options import Options
from benchmarks.tables import markdown_table, write_csv
from networks.case import load_case

FILE = "two_hosts"
RANKS, RANKS_A_HOST, LAUNCHES_MORE, CUT_AFTER = 4, 2, 2, 7
DEADLINE_SECONDS, PATIENT_SECONDS = 8.0, 40.0
"""Of silence: where a cut is not mended, and where the run is to reach its end however busy the machine is."""
BEYOND_SECONDS, LIMIT_SECONDS, MOMENT_SECONDS = 10.0, 150.0, 2.0
"""How much later everything has to be over; when a run is called hung; of a cut that a run survives."""
POLL_SECONDS = 0.02
TERMINATED = 143
LOST = "link cut"
NOTE = (
    f"{RANKS} ranks by MPICH's mpirun from host-a over ssh, {RANKS_A_HOST} a host; hosts are namespaces (network, "
    f"mounts, host name, processes, IPC) joined by a virtual cable that is cut after iteration {CUT_AFTER}; "
    "state saved after every iteration. `seconds`: of the launch, from the cut, or from the "
    "start where none was made. `last process seconds`: until nothing of the run was left on either host, its ssh "
    f"included (which gives up after {SHELL_SECONDS} s of silence). `within limit`: within the deadline + "
    f"{BEYOND_SECONDS:g} s. `private files of others`: files of the other host's agents that a host sees. "
    "`same bytes`: whether boundary.h5 is that of a run in one process."
)


@dataclass
class HostsRow:
    """code: exit code of the launch; None, hung. same_bytes: None where the run did not end with a result."""

    what: str
    deadline_seconds: float
    code: int | None = None
    seconds: float | None = None
    last_process_seconds: float | None = None
    within_limit: bool | None = None
    saved_iteration: int | None = None
    processes_left: int = 0
    shared_memory_left: int = 0
    private_files_of_others: int = 0
    same_bytes: bool | None = None
    said: str = ""
    versions: str = field(default_factory=versions)
    machine: str = field(default_factory=machine)


def run_two_hosts(options: Options) -> list[dict[str, Any]]:
    """All rows, as dicts. Raises InputError where hosts cannot be made."""
    check_possible()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(TERMINATED))  # leaves no folder, as Ctrl-C does
    rows: list[dict[str, Any]] = []
    with tempfile.TemporaryDirectory() as folder, TwoHosts(Path(folder)) as hosts:
        for row in Bench(Path(folder), hosts).rows():
            print(" ".join(f"{key}={value}" for key, value in list(asdict(row).items())[:-2]), flush=True)
            rows.append(asdict(row))
            write_csv(options.out / f"{FILE}.csv", rows)
            (options.out / f"{FILE}.md").write_text(markdown_table(rows, NOTE, nothing="-"), encoding="utf-8")
    return rows


class Bench:
    """A case whose private files are spread over the hosts, and the bytes that a run of it in one process ends with."""

    def __init__(self, folder: Path, hosts: TwoHosts) -> None:
        self._folder, self._hosts = folder, hosts
        self._log, self._out = folder / "log", hosts.a.root / "out"
        whole = small_case(folder / "whole")
        self._of_others = {name: others for name, others in zip(NAMES, reversed(agents_by_host(whole)), strict=True)}
        for host in (hosts.a, hosts.b):
            without = [f"{agent}.*" for agent in self._of_others[host.name]]
            shutil.copytree(whole, host.disk / "case", ignore=shutil.ignore_patterns(*without))
        self._sound = boundary_of_one_process(whole, folder / "sound")
        shutil.rmtree(whole)

    def rows(self) -> Iterator[HostsRow]:
        yield self._to_the_end("to the end")
        yield self._cut(LOST)
        yield self._to_the_end("link back, --resume", "--resume", str(self._out))
        yield self._cut(f"link cut for {MOMENT_SECONDS:g} s", mend_after=MOMENT_SECONDS)
        more = str(LAUNCHES_MORE)
        yield self._cut(f"link cut, --supervise {more}", "--supervise", more)
        yield self._to_the_end("link back, --resume", "--resume", str(self._out))
        until = f"link cut until the first launch has ended, --supervise {more}"
        yield self._cut(until, "--supervise", more, mend_at="launch 1 ended")

    def _to_the_end(self, what: str, *arguments: str) -> HostsRow:
        row = HostsRow(what, PATIENT_SECONDS)
        with self._launch(row, arguments) as child:
            self._end(row, child, time.monotonic())
        return row

    def _cut(self, what: str, *arguments: str, mend_after: float | None = None, mend_at: str | None = None) -> HostsRow:
        """A run whose link is cut; mended after so many seconds, or when the run has said these words."""
        row = HostsRow(what, DEADLINE_SECONDS if mend_after is mend_at is None else PATIENT_SECONDS)
        for host in (self._hosts.a, self._hosts.b):
            shutil.rmtree(host.disk / "out", ignore_errors=True)
        with self._launch(row, arguments) as child:
            _wait_until(lambda: latest_iteration(self._hosts.a.disk / "out") >= CUT_AFTER or child.poll() is not None)
            self._hosts.cut()
            began = time.monotonic()
            if mend_after is not None:
                time.sleep(mend_after)
                self._hosts.mend()
            if mend_at is not None:
                _wait_until(lambda: mend_at in self._log.read_text(errors="replace") or child.poll() is not None)
                self._hosts.mend()
            self._end(row, child, began)
        self._hosts.mend()
        return row

    def _launch(self, row: HostsRow, arguments: Sequence[str]) -> subprocess.Popen[bytes]:
        """Of a run, from the first host."""
        python = sys.executable
        mpirun = [str(Path(python).parent / "mpirun"), "-launcher", "ssh"]
        mpirun += [
            "-launcher-exec",
            str(self._hosts.remote_shell),
            "-hosts",
            ",".join(NAMES),
            "-ppn",
            str(RANKS_A_HOST),
            "-n",
            str(RANKS),
        ]
        run = [python, "-m", "admm", "run", str(self._hosts.a.root / "case"), *arguments]
        run += [] if "--resume" in arguments else ["--out", str(self._out)]
        run += ["--checkpoint-every", "1e-6", "--deadline", str(row.deadline_seconds)]
        command = [*run, "--launcher", " ".join(mpirun)] if "--supervise" in arguments else [*mpirun, *run]
        environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(Path(__file__).parents[2])}
        with self._log.open("wb") as log:
            return subprocess.Popen(self._hosts.a.command(command), env=environment, stdout=log, stderr=log)

    def _end(self, row: HostsRow, child: subprocess.Popen[bytes], began: float) -> None:
        hosts = (self._hosts.a, self._hosts.b)
        _wait_until(lambda: child.poll() is not None)
        row.code, row.seconds = child.poll(), round(time.monotonic() - began, 2)
        _wait_until(lambda: not any(host.processes() for host in hosts))
        row.last_process_seconds = round(time.monotonic() - began, 2)
        row.processes_left = sum(len(host.processes()) for host in hosts)
        if row.what == LOST:
            row.within_limit = (
                row.code is not None and row.last_process_seconds <= row.deadline_seconds + BEYOND_SECONDS
            )
        row.saved_iteration = latest_iteration(hosts[0].disk / "out")
        row.shared_memory_left = sum(len(files_seen(host, "/dev/shm")) for host in hosts)
        row.private_files_of_others = sum(self._seen_of_others(host) for host in hosts)
        boundary = hosts[0].disk / "out" / "boundary.h5"
        row.same_bytes = boundary.read_bytes() == self._sound if row.code == 0 else None
        row.said = last_words(self._log.read_text(errors="replace")) if row.code or "--supervise" in row.what else ""
        with suppress(ProcessLookupError):
            child.kill()

    def _seen_of_others(self, host: Host) -> int:
        """Files of agents that live on the other host, of all that this one sees."""
        names = [Path(path).name for path in files_seen(host, str(self._folder))]
        return sum(name.startswith(tuple(f"{agent}." for agent in self._of_others[host.name])) for name in names)


def agents_by_host(case: Path) -> list[list[str]]:
    """The agents of each host, as the ranks find them."""
    loaded = load_case(str(case))
    sides = split(loaded.couplings)
    placement = balance(loaded.solve_weights(), (sides.first, sides.second), RANKS)
    return [[name for name, rank in placement.items() if rank // RANKS_A_HOST == host] for host in range(len(NAMES))]


def files_seen(host: Host, folder: str) -> list[str]:
    found = subprocess.run(host.command(["find", folder, "-type", "f"]), capture_output=True, text=True, check=True)
    return found.stdout.splitlines()


def boundary_of_one_process(case: Path, out: Path) -> bytes:
    words = [sys.executable, "-m", "admm", "run", str(case), "--out", str(out)]
    ended = subprocess.run(words, env={**os.environ, "OMP_NUM_THREADS": "1"}, capture_output=True, text=True)
    if ended.returncode != 0:
        raise InputError(f"two hosts: the run in one process ended with {ended.returncode}: {last_words(ended.stderr)}")
    found = (out / "boundary.h5").read_bytes()
    shutil.rmtree(out)
    return found


def _wait_until(over: Callable[[], bool]) -> None:
    """Until then, or until whatever runs is called hung."""
    until = time.monotonic() + LIMIT_SECONDS
    while not over() and time.monotonic() < until:
        time.sleep(POLL_SECONDS)
