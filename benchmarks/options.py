"""What commands can be told on the command line; each takes those options alone that it heeds."""

from __future__ import annotations

import argparse
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from admm.cli import whole_number
from benchmarks.tables import read_csv

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

    def former_rows(self, path: Path) -> list[dict[str, Any]]:
        """The rows of a table that are kept: all with --resume or --again, otherwise none."""
        return read_csv(path) if (self.resume or self.again) and path.is_file() else []


OWN_FILE = "a Python file with VARIANTS or PROBLEMS of your own (see example_entry.py); repeatable"
ARGUMENTS: Mapping[str, Mapping[str, Any]] = {
    "with": {"dest": "files", "action": "append", "metavar": "FILE", "help": OWN_FILE},
    "subjects": {"nargs": "+", "metavar": "NAME", "help": "only these; * stands for anything"},
    "variants": {"nargs": "+", "metavar": "NAME", "help": "only these; * stands for anything"},
    "solver": {"choices": ("osqp", "piqp"), "default": "piqp", "help": "the agents' solver"},
    "start": {"choices": ("zero", "flat"), "default": "flat", "help": "first prices: the price scale, or 0"},
    "cap": {"type": whole_number, "help": "most exchanges of a run"},
    "processes": {"type": whole_number, "help": "runs at a time; wall times are fair with 1"},
    "resume": {"action": "store_true", "help": "keep the rows that the results have already"},
    "again": {"action": "store_true", "help": "run the chosen rows anew and keep all others"},
    "skip-unknown": {"action": "store_true", "help": "leave out variants that the engine does not know"},
}


def add_options(parser: argparse.ArgumentParser, names: Sequence[str]) -> None:
    parser.add_argument("--out", type=Path, default=RESULTS, help="folder for the results")
    for name in names:
        parser.add_argument(f"--{name}", **ARGUMENTS[name])


def options_from(given: argparse.Namespace) -> Options:
    plain = {key: value for key, value in vars(given).items() if key in Options.__dataclass_fields__}
    own = {key: value for key, value in vars(given).items() if key not in plain and key != "run"}
    lists = {key: tuple(value) for key, value in plain.items() if isinstance(value, list)}
    return Options(**{**{key: value for key, value in plain.items() if value is not None}, **lists}, own=own)
