"""The errors that Tieline raises on purpose; the command line turns each into its exit code."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress

LONGEST_MESSAGE = 4000
"""Characters; a longer message loses its middle, as what to try stands at its end."""


class TielineError(Exception):
    """Base of every error that Tieline raises on purpose. Its text is one printable line, whatever input it quotes.

    said: whether it has been said, or every rank raises it and another one says it.
    public: what other ranks are told in place of the text, where that quotes what is private.
    """

    exit_code = 1
    said = False

    def __init__(self, *args: object, public: str | None = None) -> None:
        super().__init__(*args)
        self.public = public

    def __str__(self) -> str:
        return one_line(super().__str__())


def say(error: TielineError) -> None:
    """Say it on standard error, once."""
    if not error.said:
        write_line(f"tieline: {error}")
    error.said = True


def write_line(words: str) -> None:
    """Write to standard error, in one piece: other ranks write there, too.

    Nobody may be left to read it, and a signal may come in the middle of another line.
    """
    with suppress(OSError, ValueError, RuntimeError):
        sys.stderr.write(f"{words}\n")
        sys.stderr.flush()


class InputError(TielineError, ValueError):
    """The input is wrong: the message names where, what was expected and what to try."""

    exit_code = 2


class InfeasibleError(TielineError):
    """An agent has no feasible answer: the message names it and the constraints in conflict."""

    exit_code = 4


class SolverError(TielineError):
    """An agent's solver failed for a reason other than infeasibility."""

    exit_code = 1


class AgentError(SolverError):
    """An agent raised what is no error of Tieline, or its answer has a number that is not finite."""

    exit_code = 75


class TransportError(TielineError):
    """An answer did not come, came late, or was malformed."""

    exit_code = 75


class OutputError(InputError):
    """The file system does not take a result, now or later: the message names the file and why.

    An InputError, as the folder is one that the user has named; with a code of its own, as it may come in mid-run.
    """

    exit_code = 74


class UnwrittenError(OutputError, TransportError):
    """What is about to be sent cannot be written down first, so it is not sent: all ranks end."""


def public_words(error: BaseException) -> str:
    """What other ranks may know of an error: nobody knows what the text of one that is not Tieline's quotes."""
    if isinstance(error, TielineError):
        return str(error) if error.public is None else one_line(error.public)
    return str(error) if isinstance(error, KeyboardInterrupt) else f"{type(error).__name__}, see what its own rank says"


@contextmanager
def told_as(public: str) -> Iterator[None]:
    """Of an InputError that is raised here, other ranks are told this only."""
    try:
        yield
    except InputError as error:
        error.public = public
        raise


@contextmanager
def noted_as(agent: str) -> Iterator[None]:
    """What an agent raises here gets a note of its name, but for Tieline's own errors: their texts say it."""
    try:
        yield
    except TielineError:
        raise
    except Exception as error:
        error.add_note(f"agent '{agent}'")
        raise


def one_line(text: str) -> str:
    """The text with escapes for line breaks and whatever else would not show, such as a terminal's control codes."""
    if not text.isprintable():
        text = "".join(letter if letter.isprintable() else repr(letter)[1:-1] for letter in text)
    half = LONGEST_MESSAGE // 2
    return text if len(text) <= LONGEST_MESSAGE else f"{text[:half]} ... {text[-half:]}"
