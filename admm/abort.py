"""The end of all ranks where one of them fails in a way that the others cannot know of."""

from __future__ import annotations

import os
import signal
import time
import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from admm.ending import FORWARDING_SECONDS, do_duties
from admm.errors import AgentError, OutputError, TielineError, TransportError, one_line, write_line
from admm.shared_memory import unlink_own

if TYPE_CHECKING:
    from admm.messenger import Communicator

INTERRUPTED_EXIT_CODE = 130


@contextmanager
def abort_on_exception(comm: Communicator) -> Iterator[None]:
    """End all ranks when this one fails in a way that the others cannot know of, so that nothing hangs.

    TransportError aborts with its exit code, an interrupt with 130, an unexpected exception with its traceback and
    the code of a lost rank. Tieline's other errors have reached every rank already and pass through.
    Ranks other than 0 do not listen to Ctrl-C and SIGTERM meanwhile, unless the program does itself: rank 0 hears them
    too and tells them to stop.
    """
    try:
        with _deaf_to_interrupts(comm.Get_rank() != 0):
            yield
    except TransportError as error:
        words = str(error)
        abort(comm, words if words.startswith("rank ") else f"rank {comm.Get_rank()}: {words}", error.exit_code)
        raise
    except (TielineError, SystemExit):
        raise
    except OSError as error:
        words = f"{error.filename or 'a result'}: cannot be written or read ({error.strerror or error})"
        abort(comm, f"rank {comm.Get_rank()}: {one_line(words)}", OutputError.exit_code)
        raise
    except KeyboardInterrupt:
        abort(comm, f"rank {comm.Get_rank()}: interrupted", INTERRUPTED_EXIT_CODE)
        raise
    except BaseException as error:
        words = [f"rank {comm.Get_rank()}", *getattr(error, "__notes__", []), f"{type(error).__name__}: {error}"]
        abort(comm, traceback.format_exc() + ": ".join(words), AgentError.exit_code)
        raise


@contextmanager
def _deaf_to_interrupts(deaf: bool) -> Iterator[None]:
    if not deaf or signal.getsignal(signal.SIGTERM) is not signal.SIG_DFL:
        yield
        return
    before = {number: signal.signal(number, signal.SIG_IGN) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def abort(comm: Communicator, words: str, code: int) -> None:
    """Say why, and end every rank with this exit code; alone, do nothing."""
    if comm.Get_size() > 1:
        write_line(words)
        do_duties()
        unlink_own()
        time.sleep(FORWARDING_SECONDS)
        comm.Abort(code)
        os._exit(code)  # Abort may come back before the launcher ends this process
