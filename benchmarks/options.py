"""What every command can be told on the command line."""

from __future__ import annotations

import argparse
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

RESULTS = Path(__file__).parent / "results"


@dataclass(frozen=True)
class Options:
    """files: users' own, from --with. own: what one command alone can be told. None: the command's own choice."""

    out: Path = RESULTS
    files: tuple[str, ...] = ()
    subjects: tuple[str, ...] | None = None
    variants: tuple[str, ...] | None = None
    solver: str = "piqp"
    start: str = "flat"
    cap: int | None = None
    processes: int | None = None
    resume: bool = False
    again: bool = False
    skip_unknown: bool = False
    own: Mapping[str, Any] = field(default_factory=dict)


def add_options(parser: argparse.ArgumentParser) -> None:
    # fmt: off
    parser.add_argument("--out", type=Path, default=RESULTS, help="folder for the results")
    parser.add_argument("--with", dest="files", action="append", default=[], metavar="FILE",
                        help="a Python file with VARIANTS or PROBLEMS of your own (see example_entry.py); repeatable")
    parser.add_argument("--subjects", nargs="+", metavar="NAME", help="only these; * stands for anything")
    parser.add_argument("--variants", nargs="+", metavar="NAME", help="only these; * stands for anything")
    parser.add_argument("--solver", choices=("osqp", "piqp"), default="piqp", help="the agents' solver")
    parser.add_argument("--start", choices=("zero", "flat"), default="flat", help="first prices: the price scale, or 0")
    parser.add_argument("--cap", type=int, help="most exchanges of a run")
    parser.add_argument("--processes", type=int, help="runs at a time; wall times are fair with 1")
    parser.add_argument("--resume", action="store_true", help="keep the rows that the results have already")
    parser.add_argument("--again", action="store_true", help="run the chosen rows anew and keep all others")
    parser.add_argument("--skip-unknown", action="store_true", help="leave out variants that the engine does not know")
    # fmt: on


def options_from(given: argparse.Namespace) -> Options:
    plain = {key: value for key, value in vars(given).items() if key in Options.__dataclass_fields__}
    own = {key: value for key, value in vars(given).items() if key not in plain and key != "command"}
    lists = {key: tuple(plain[key]) if plain[key] else None for key in ("subjects", "variants")}
    return Options(**{**plain, **lists, "files": tuple(given.files)}, own=own)
