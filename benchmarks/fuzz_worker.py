"""The process in which bad input is tried, one case after another: what crashes it, crashes only it.

It tells the case that it begins and how that ended, a line each, to a pipe. Whatever else is written to the terminal,
by libraries in C too, goes to a file and is a fault of the case that did it.
"""

from __future__ import annotations

import faulthandler
import json
import os
import resource
import sys
import time
import traceback
import warnings
from pathlib import Path
from typing import BinaryIO

from benchmarks.fuzz_checks import Fault, Subject
from benchmarks.fuzz_subjects import SUBJECTS, draw_for

MOST_MEMORY_BYTES = 6 << 30
"""Of address space: what asks for more gets a MemoryError, which is seen."""
FAULT, TRACEBACK = "fault", "traceback"


def work(subject: str, seed: int, first: int, count: int, folder: Path, pipe: int) -> None:
    """Cases `first` to `first + count - 1`; folder: an empty one."""
    resource.setrlimit(resource.RLIMIT_AS, (MOST_MEMORY_BYTES, MOST_MEMORY_BYTES))
    warnings.simplefilter("ignore")
    for kind in (RuntimeWarning, UserWarning):  # what numpy and scipy say of numbers that nobody should have given them
        warnings.simplefilter("always", kind)
    tried = SUBJECTS[subject].make(folder)
    with (folder / "terminal").open("w+b", buffering=0) as terminal:
        for descriptor in (1, 2):
            os.dup2(terminal.fileno(), descriptor)
        faulthandler.enable(terminal)
        for number in range(first, first + count):
            os.write(pipe, f"{number}\n".encode())
            began = time.perf_counter()
            outcome, words = _tried(tried, subject, seed, number, terminal)
            told = {"outcome": outcome, "words": words, "ms": 1e3 * (time.perf_counter() - began)}
            os.write(pipe, json.dumps(told).encode() + b"\n")


def _tried(tried: Subject, subject: str, seed: int, number: int, terminal: BinaryIO) -> tuple[str, str]:
    """How one case ended, and what is to say of it if that is wrong."""
    try:
        outcome, words = tried.attempt(draw_for(seed, subject, number)), ""
    except Fault as error:
        outcome, words = FAULT, str(error)
    except BaseException as error:
        outcome, words = TRACEBACK, f"{type(error).__name__}: {error} in {_place(error)}"
    sys.stdout.flush()
    sys.stderr.flush()
    terminal.seek(0)
    said = terminal.read().decode(errors="replace")
    terminal.seek(0)
    terminal.truncate()
    return (FAULT, f"wrote to the terminal: {said[:500]!r}") if said and not words else (outcome, words[:2000])


def _place(error: BaseException) -> str:
    """The last line of the program itself that the error passed."""
    frames = traceback.extract_tb(error.__traceback__)
    root = str(Path(__file__).parent.parent)
    ours = [f for f in frames if f.filename.startswith(root) and not f.filename.startswith(str(Path(__file__).parent))]
    last = (ours or frames)[-1]
    return f"{last.filename.removeprefix(root)}:{last.lineno}"


if __name__ == "__main__":
    work(sys.argv[1], int(sys.argv[2]), int(sys.argv[3]), int(sys.argv[4]), Path(sys.argv[5]), int(sys.argv[6]))
