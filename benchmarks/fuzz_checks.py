"""What bad input may bring about and what not: a result, or an error of ours in one line, and whole files or none."""

from __future__ import annotations

import io
import json
from collections.abc import Callable, Sequence
from contextlib import redirect_stderr, redirect_stdout
from pathlib import Path
from random import Random
from typing import Any, Protocol

from admm import TielineError
from admm.cli import main
from admm.output import BOUNDARY, HISTORY, PRIVATE, SUMMARY, UNFINISHED, read_former

LONGEST_MESSAGE = 6000
SUMS_DIFFER, DIFFERENCE = 5, "NOT the same"
"""Exit code of an audit whose sums differ, and how it says so."""
WITH_RESULT, WITH_ERROR = (0, 3, SUMS_DIFFER), (1, 2, 4)
"""Exit codes; `--help` and the like end with 0, too."""

UNBOUNDED = "cost falls without end"
"""What an agent's solver says of a program without an optimum; every device, connection and network has limits."""


class Fault(Exception):
    """Something that no input may bring about; the words say what."""


class Subject(Protocol):
    """What is given bad input. `attempt` draws one input, and says in a word how that ended; raises Fault."""

    def attempt(self, draw: Random) -> str: ...


def ended(call: Callable[[], Any]) -> str:
    """ "result", or the kind of our error; any other error passes through."""
    try:
        call()
    except TielineError as error:
        check_message(str(error))
        return type(error).__name__
    return "result"


def check_valid(outcomes: Sequence[str]) -> None:
    """Raises Fault unless good input is taken: bad input made from it would say nothing."""
    for outcome in outcomes:
        if outcome not in ("result", "exit 0", "exit 3"):
            raise Fault(f"the valid input ended with {outcome}")


def check_message(message: str) -> None:
    """One line that a terminal shows as it stands."""
    if not message.strip() or not message.isprintable() or len(message) > LONGEST_MESSAGE:
        raise Fault(f"the message is no printable line of at most {LONGEST_MESSAGE} characters: {message[:300]!r}")


def command(arguments: Sequence[str]) -> str:
    """`tieline ARGUMENTS` in this process: "exit CODE". Standard error has one line if that is an error, else none."""
    out = io.TextIOWrapper(io.BytesIO(), encoding="utf-8")
    errors = io.TextIOWrapper(io.BytesIO(), encoding="utf-8", errors="backslashreplace")
    with redirect_stdout(out), redirect_stderr(errors):
        try:
            code = main(list(arguments))
        except SystemExit as end:  # argparse
            code = end.code
        out.flush()
        errors.flush()
    said = errors.buffer.getvalue().decode()
    if code not in (*WITH_RESULT, *WITH_ERROR):
        raise Fault(f"exit code {code!r}, said {said[:300]!r}")
    differs = [*arguments[:1]] == ["audit"] and DIFFERENCE in out.buffer.getvalue().decode()
    if (code == SUMS_DIFFER) != differs:
        raise Fault(f"exit code {code}, which an audit has whose sums differ, and no other command")
    if UNBOUNDED in said:
        raise Fault(f"called unbounded, which no case is: {said[:500]!r}")
    if code in WITH_RESULT and said:
        raise Fault(f"exit code {code}, but standard error has {said[:500]!r}")
    if code in WITH_ERROR and said:  # without a command there is nothing but the help
        check_message(said.removesuffix("\n"))
    return f"exit {code}"


def check_output(out: Path, outcome: str) -> None:
    """The folder is absent, or whole and marked so, or not marked and without a file that is half there."""
    if not out.exists():
        if outcome in [f"exit {code}" for code in WITH_RESULT]:
            raise Fault(f"{outcome}, but there is no output folder")
        return
    left = [str(path.relative_to(out)) for path in out.rglob("*") if path.suffix in UNFINISHED]
    if left:
        raise Fault(f"{outcome} left {left[0]} behind")
    if outcome in [f"exit {code}" for code in WITH_RESULT]:
        _check_whole(out)
    elif (out / SUMMARY).exists():
        raise Fault(f"{outcome}, but there is a {SUMMARY}")


def _check_whole(out: Path) -> None:
    missing = [name for name in (SUMMARY, HISTORY, BOUNDARY, PRIVATE) if not (out / name).exists()]
    if missing:
        raise Fault(f"a result without {missing[0]}")
    read_former(out)
    json.loads((out / SUMMARY).read_text(encoding="utf-8"), parse_constant=_refuse)


def _refuse(word: str) -> None:
    raise Fault(f"{SUMMARY} holds {word}, which is no JSON")
