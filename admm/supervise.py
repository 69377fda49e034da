"""`tieline run --supervise N`: launches a run as a child, and again from its checkpoint if a rank was lost.

Every process that descends from a launch carries a mark in its environment, however it was started, so none is
missed when a launch is over: whatever is left is killed, and what MPI left in shared memory is removed. A process that
stays stopped for longer than the deadline counts as lost; inside a run the ranks watch each other. Linux only.
"""

from __future__ import annotations

import contextlib
import os
import re
import signal
import subprocess
import threading
import time
import uuid
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from admm.errors import write_line
from admm.shared_memory import remove_left_behind

MARK = "TIELINE_LAUNCH"
FINAL = (0, 2, 3, 4, 74, 130)
"""Exit codes that another launch would not change."""
LOST, INTERRUPTED = 75, 130
POLL_SECONDS, GRACE_SECONDS = 0.1, 2.0
FAILED = re.compile(r"agent '([^']+)'")
"""How a run says who has failed."""
LAST_LINES = 40
LONGEST_PAUSE_SECONDS = 60.0


@dataclass
class Launch:
    """How one launch ended. lines: the last ones of what it wrote to stderr. told: whether it was told to stop."""

    code: int
    lines: Sequence[str] = field(default_factory=tuple)
    told: bool = False

    def culprit(self) -> str | None:
        """The agent that the run named, None if it had no chance to."""
        found = [match[1] for line in self.lines for match in FAILED.finditer(line)]
        return found[0] if found else None


def supervise(
    command: Sequence[str],
    resume: Sequence[str],
    times: int,
    deadline_seconds: float,
    iteration: Callable[[], int],
    environment: Mapping[str, str] | None = None,
) -> int:
    """Run `command`; while it ends because something was lost, run it again. Its exit code.

    times: launches after the first one, at most. iteration: gives the one that the next launch would go on after, with
    `resume` added to its command; 0 where nothing is saved, and it starts over. environment: more variables
    of launches.
    """
    failed: tuple[str, int] | None = None
    where = fruitless = 0
    for launch_number in range(times + 1):
        _pause(fruitless)
        launch = run_once([*command, *(resume if where else ())], deadline_seconds, environment)
        if launch.code in FINAL:
            return launch.code
        culprit, before, where = launch.culprit(), where, iteration()
        if launch.told:  # some launchers then end with a code of their own
            say(f"told to stop; saved until iteration {where}")
            return INTERRUPTED
        named = f", agent '{culprit}'" if culprit else ""
        say(f"launch {launch_number + 1} ended with exit code {launch.code}{named}, saved until iteration {where}")
        if culprit and failed == (culprit, where):
            say(f"agent '{culprit}' has failed twice after iteration {where}: that is no accident; not launched again")
            return launch.code if launch.code > 0 else LOST
        failed = (culprit, where) if culprit else None
        fruitless = 0 if where > before else fruitless + 1
    say(f"given up after {times + 1} launches; 'tieline run --resume' goes on where the last one was saved")
    return LOST


def pause_seconds(fruitless: int) -> float:
    """Before the next launch, after so many in a row that gained no iteration: 0, 0, 1, 2, 4 ... 60.

    One rank that is lost costs no time; a host that cannot be reached may come back, if launches are left by then.
    """
    doublings = min(fruitless - 2, 6)
    return min(2.0**doublings, LONGEST_PAUSE_SECONDS) if fruitless > 1 else 0.0


def _pause(fruitless: int) -> None:
    seconds = pause_seconds(fruitless)
    if seconds:
        say(f"{fruitless} launches in a row have gained no iteration: the next one starts in {seconds:g} s")
        time.sleep(seconds)


def is_supervised() -> bool:
    """Whether this process belongs to a launch."""
    return MARK in os.environ


def run_once(command: Sequence[str], deadline_seconds: float, environment: Mapping[str, str] | None = None) -> Launch:
    """One launch, its output passed on; when it returns, no process of it is left."""
    mark, began = uuid.uuid4().hex, time.time()
    environment = {**os.environ, **(environment or {}), MARK: mark}
    with passing_on_signals() as (children, told):
        child = subprocess.Popen(
            command, env=environment, stderr=subprocess.PIPE, text=True, errors="replace", start_new_session=True
        )
        children.append(child)
        lines: deque[str] = deque(maxlen=LAST_LINES)
        reader = threading.Thread(target=_pass_on, args=(child, lines), daemon=True)
        reader.start()
        try:
            _wait(child, mark, deadline_seconds)
        finally:
            end_all(mark)
    reader.join(GRACE_SECONDS)
    remove_left_behind(began)
    return Launch(_exit_code(child.returncode), tuple(lines), bool(told))


def _exit_code(code: int) -> int:
    """A signal as shells count it."""
    return 128 - code if code < 0 else code


def _pass_on(child: subprocess.Popen[str], lines: deque[str]) -> None:
    for line in child.stderr:
        lines.append(line)
        write_line(line.removesuffix("\n"))  # who does not read it may not stop the launch


def _wait(child: subprocess.Popen[str], mark: str, deadline_seconds: float) -> None:
    """Until the child is over, or one of its processes has been stopped for too long."""
    stopped_since: dict[int, float] = {}
    while child.poll() is None:
        time.sleep(POLL_SECONDS)
        now, stopped = time.monotonic(), {pid for pid in marked(mark) if _state(pid) == "T"}
        stopped_since = {pid: stopped_since.get(pid, now) for pid in stopped}
        late = [pid for pid, since in stopped_since.items() if now - since > deadline_seconds]
        if late:
            say(f"process {late[0]} has been stopped for {deadline_seconds:g} s: the launch is ended")
            end_all(mark)
            child.wait()


def marked(mark: str, variable: str = MARK) -> Iterator[int]:
    """Processes with this mark in their environment."""
    wanted = f"{variable}={mark}".encode()
    for path in Path("/proc").glob("[0-9]*/environ"):
        with contextlib.suppress(OSError):
            if wanted in path.read_bytes().split(b"\0"):
                yield int(path.parent.name)


def _state(pid: int) -> str:
    try:
        return Path(f"/proc/{pid}/stat").read_text(errors="replace").rpartition(")")[2].split()[0]
    except (OSError, IndexError):
        return ""


def end_all(mark: str, variable: str = MARK) -> None:
    """Kill every process with this mark; returns when there is none but what nobody has waited for."""
    until = time.monotonic() + GRACE_SECONDS
    while alive := [pid for pid in marked(mark, variable) if _state(pid) not in ("Z", "")]:
        for pid in alive:
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.kill(pid, signal.SIGKILL)
        if time.monotonic() > until:
            say(f"process {alive[0]} cannot be ended")
            return
        time.sleep(POLL_SECONDS / 10)


@contextlib.contextmanager
def passing_on_signals() -> Iterator[tuple[list[subprocess.Popen[str]], list[int]]]:
    """Ctrl-C and SIGTERM reach the launch, which ends with a checkpoint: the children told, and what they were."""
    children: list[subprocess.Popen[str]] = []
    told: list[int] = []

    def pass_on(number: int, _: object) -> None:
        told.append(number)
        for child in children:
            with contextlib.suppress(ProcessLookupError):
                child.send_signal(number)

    before = {number: signal.signal(number, pass_on) for number in (signal.SIGTERM, signal.SIGINT)}
    try:
        yield children, told
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def say(words: str) -> None:
    write_line(f"tieline: {words}")
