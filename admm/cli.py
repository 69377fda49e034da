"""The command `tieline`: arguments and exit codes. What a command does is in `admm.commands`.

Nothing heavy is imported before the arguments are read, so that help answers at once.
"""

from __future__ import annotations

import argparse
import io
import math
import os
import sys
from collections.abc import Sequence
from importlib import import_module
from typing import NoReturn

from admm.launch import launched_under_mpi
from admm.watchdog import DEADLINE_SECONDS, WATCHDOG

BROKEN_PIPE = 141
EXIT_CODES = """exit codes: 0 converged, every check passed; 1 an agent's solver gave up; 2 bad input; 3 stopped before
convergence, or a check did not pass (results saved and marked so); 4 infeasible, an agent or the whole; 5 audit: the
sums differ; 74 results cannot be written any more; 75 a rank was lost or an agent failed; 130 interrupted; 141 whoever
read the output has gone"""


class _Parser(argparse.ArgumentParser):
    """Says what is wrong in one line, as every other error does."""

    def error(self, message: str) -> NoReturn:
        from admm.errors import one_line

        self.exit(2, f"tieline: {one_line(message)}; see '{self.prog} --help'\n")


def whole_number(text: str) -> int:
    """Read a whole number of at least 1."""
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"is '{text}', expected a whole number of at least 1")
    return int(text)


def natural_number(text: str) -> int:
    """Read a whole number of at least 0."""
    if not text.isdecimal():
        raise argparse.ArgumentTypeError(f"is '{text}', expected a whole number of at least 0")
    return int(text)


def any_whole_number(text: str) -> int:
    """Read a whole number, negative ones included."""
    if not text.removeprefix("-").isdecimal():
        raise argparse.ArgumentTypeError(f"is '{text}', expected a whole number")
    return int(text)


def positive_number(text: str) -> float:
    """Read a finite number above 0."""
    try:
        number = float(text)
    except ValueError:
        number = math.nan
    if not (math.isfinite(number) and number > 0):
        raise argparse.ArgumentTypeError(f"is '{text}', expected a finite number above 0")
    return number


def some_name(text: str) -> str:
    """Read a name of a case, folder or file; an empty one comes from a shell variable that is not set."""
    if not text:
        raise argparse.ArgumentTypeError("is empty, expected a name")
    return text


def build_parser() -> argparse.ArgumentParser:
    parser = _Parser(
        prog="tieline",
        description="Coordinate energy communities, distribution and transmission operators by ADMM.",
        epilog=EXIT_CODES,
    )
    parser.add_argument("--version", action="store_true", help="print the version and stop")
    commands = parser.add_subparsers(dest="command", metavar="COMMAND")
    _add_run(commands)
    _add_centralised(commands)
    _add_market(commands)
    audit = commands.add_parser("audit", help="say what left each agent in a run with --audit")
    audit.add_argument("folder", type=some_name, metavar="DIR", help="output folder of the run")
    check = commands.add_parser("check", help="validate a case, every agent's feasibility included, and stop")
    _add_case(check)
    commands.add_parser("cases", help="list the bundled cases")
    return parser


def _add_case(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "case", type=some_name, metavar="CASE", help="a case folder, a bundled case, or either with :VARIANT"
    )


def _add_run(commands: argparse._SubParsersAction) -> None:
    run = commands.add_parser("run", help="run the coordination; also under mpirun")
    _add_case(run)
    run.add_argument(
        "--penalty", default="adaptive", metavar="POLICY", help="adaptive (default), classical, or NAME:VALUE"
    )
    run.add_argument(
        "--scheme",
        default="two-block",
        help="two-block (default); certified, the same with a proof to stop on; memory, fewest exchanges, with a proof",
    )
    run.add_argument(
        "--acceleration", default="anderson", metavar="NAME", help="anderson (default), none, relaxation, or NAME:VALUE"
    )
    run.add_argument(
        "--lead",
        action="append",
        default=[],
        metavar="AGENT",
        help="leads the schemes certified and memory; may be given again (default: every operator that can)",
    )
    _add_common(run, "results/CASE")
    run.add_argument(
        "--staleness",
        type=natural_number,
        default=0,
        metavar="K",
        help="go on without an agent for up to K iterations while it is late (default: 0, wait for the slowest)",
    )
    run.add_argument("--audit", action="store_true", help="write down every message, for 'tieline audit'")
    run.add_argument(
        "--warm-start",
        type=some_name,
        metavar="DIR",
        help="start from the prices and values in a former run's output folder",
    )
    run.add_argument(
        "--shift",
        type=any_whole_number,
        metavar="N",
        help="of a warm start: begin as N periods later in the former run (default: as the two start times say)",
    )
    _add_survival(run)


def _add_survival(run: argparse.ArgumentParser) -> None:
    """Add what is of a run that is ended or loses a rank."""
    run.add_argument(
        "--time-limit", type=positive_number, metavar="SECONDS", help="stop after so long, with a checkpoint"
    )
    run.add_argument(
        "--checkpoint-every",
        type=positive_number,
        default=30.0,
        metavar="SECONDS",
        help="how often the state is saved (default: 30)",
    )
    run.add_argument(
        "--resume",
        type=some_name,
        metavar="DIR",
        help="go on from the latest checkpoint in a run's output folder, to the last bit but for --staleness",
    )
    run.add_argument(
        "--on-lost-agent",
        default="stop",
        choices=("stop", "freeze"),
        help="stop (default), or go on with the last values of a community, hub or transmission operator that is lost",
    )
    run.add_argument(
        "--supervise",
        type=natural_number,
        metavar="N",
        help="launch the run as a child, and up to N times again from its checkpoint if a rank is lost",
    )
    run.add_argument(
        "--launcher", metavar="WORDS", help="of --supervise: what to launch it with, such as 'mpirun -n 4'"
    )


def _add_common(run: argparse.ArgumentParser, out: str) -> None:
    """Add what every command that coordinates takes."""
    run.add_argument("--out", type=some_name, metavar="DIR", help=f"output folder (default: {out})")
    run.add_argument("--max-iterations", type=whole_number, default=500, metavar="N")
    run.add_argument(
        "--tolerance", type=positive_number, default=1e-3, metavar="X", help="largest mismatch, as a share of scale"
    )
    run.add_argument(
        "--optimality-tolerance",
        type=positive_number,
        default=1e-4,
        metavar="X",
        help="as a share of the boundary turnover",
    )
    run.add_argument("--qp-solver", default="osqp", choices=("osqp", "piqp"))
    run.add_argument(
        "--deadline", type=positive_number, default=600.0, metavar="SECONDS", help="how long a rank may be silent"
    )


def _add_market(commands: argparse._SubParsersAction) -> None:
    market = commands.add_parser("market", help="day-ahead, intra-day and settlement; also under mpirun")
    _add_case(market)
    market.add_argument("--draw", type=natural_number, default=0, metavar="N", help="number of the draw (default: 0)")
    market.add_argument("--seed", type=natural_number, metavar="N", help="of all draws (default: the case's)")
    market.add_argument(
        "--scenario",
        type=some_name,
        metavar="PATH",
        help="what happens, from a CSV file or a folder of them, one a draw",
    )
    market.add_argument("--perfect", action="store_true", help="forecasts do not fail, whatever the case says")
    _add_common(market, "results/CASE-market")
    market.add_argument("--audit", action="store_true", help="write down every message, for 'tieline audit'")
    market.add_argument(
        "--time-limit", type=positive_number, metavar="SECONDS", help="stop after so long; --resume goes on"
    )
    market.add_argument(
        "--resume", type=some_name, metavar="DIR", help="go on after the latest gate saved in a market's output folder"
    )
    market.set_defaults(
        penalty="adaptive",
        acceleration="anderson",
        scheme="two-block",
        lead=[],
        staleness=0,
        warm_start=None,
        on_lost_agent="stop",
    )


def _add_centralised(commands: argparse._SubParsersAction) -> None:
    centralised = commands.add_parser("centralised", help="solve the case as one QP with an independent solver")
    _add_case(centralised)
    centralised.add_argument(
        "--out", type=some_name, metavar="DIR", help="output folder (default: results/CASE-centralised)"
    )
    centralised.add_argument(
        "--save-reference", action="store_true", help="keep the objective in the case folder, for later runs to compare"
    )


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command; returns its exit code."""
    if isinstance(sys.stdout, io.TextIOWrapper):  # a name that the terminal cannot show ends no run
        sys.stdout.reconfigure(errors="backslashreplace")
    parser = build_parser()
    given = parser.parse_args(arguments)
    if given.version:
        from admm import __version__

        print(f"tieline {__version__}")
        return 0
    if given.command is None:
        parser.print_help()
        return 2
    given.arguments = list(sys.argv[1:] if arguments is None else arguments)
    return _dispatch(given)


def _dispatch(given: argparse.Namespace) -> int:
    from admm.errors import OutputError, TielineError, say, write_line
    from admm.threads import start_with_few

    if launched_under_mpi():
        WATCHDOG.watch(getattr(given, "deadline", DEADLINE_SECONDS), "the start of all ranks")
    try:
        start_with_few()
        code = import_module(f"admm.commands.{given.command}").command(given)
        sys.stdout.flush()
        return code
    except TielineError as error:
        say(error)
        return error.exit_code
    except KeyboardInterrupt:
        write_line("tieline: interrupted")
        return 130
    except BrokenPipeError:  # whoever read the output has gone; the results are not complete
        sys.stdout = open(os.devnull, "w")  # noqa: SIM115 - for the interpreter's last flush
        return BROKEN_PIPE
    except OSError as error:
        return _unwritten(error, OutputError.exit_code)


def _unwritten(error: OSError, code: int) -> int:
    """Say in one line what the file system does not take, the terminal's or a file's."""
    from admm.errors import one_line, write_line

    where = error.filename or "standard output"
    write_line(f"tieline: {one_line(f'{where}: {error.strerror or error}')}; check the folder and the disk")
    sys.stdout = open(os.devnull, "w")  # noqa: SIM115 - for the interpreter's last flush
    return code
