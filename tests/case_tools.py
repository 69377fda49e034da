"""Copies of the bundled case to spoil, and the command line run on them in this process."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import pytest

from admm.cli import main
from networks.case_file import BUNDLED, CASE_FILE
from networks.grids import grid_folder

BUNDLED_CASE = "ieee33-10ec"
Mutation = Callable[[Path], None]
"""Changes one thing in a case folder."""


class Ended(NamedTuple):
    """How a command ended: its exit code and what it printed."""

    code: int
    out: str
    errors: str


def copy_case(to: Path, name: str = BUNDLED_CASE) -> Path:
    """A copy of a bundled case in a folder `case`, without what only its generator and its reference need."""
    left_out = shutil.ignore_patterns("source_profiles.csv", "reference.json", "README.md")
    return Path(shutil.copytree(BUNDLED / name, to / "case", ignore=left_out))


def edit(file: str, old: str, new: str) -> Mutation:
    """Replace the first occurrence of a text, which must be there."""

    def change(case: Path) -> None:
        text = (case / file).read_text(encoding="utf-8")
        assert old in text, f"{file} does not hold {old!r}"
        (case / file).write_text(text.replace(old, new, 1), encoding="utf-8")

    return change


def edit_lines(file: str, change_lines: Callable[[list[str]], list[str]]) -> Mutation:
    """Put other lines in the place of a file's lines."""

    def change(case: Path) -> None:
        lines = (case / file).read_text(encoding="utf-8").splitlines()
        (case / file).write_text("\n".join(change_lines(lines)) + "\n", encoding="utf-8")

    return change


def remove(file: str) -> Mutation:
    return lambda case: (case / file).unlink()


def write(file: str, content: bytes) -> Mutation:
    def change(case: Path) -> None:
        (case / file).write_bytes(content)

    return change


def folder_instead(file: str) -> Mutation:
    """A folder where the file was: unreadable for any user, root too."""

    def change(case: Path) -> None:
        (case / file).unlink()
        (case / file).mkdir()

    return change


def own_feeder(branch_change: Mutation) -> Mutation:
    """The bundled feeder as a folder `feeder` of the case, with its branches changed."""

    def change(case: Path) -> None:
        shutil.copytree(grid_folder("ieee33"), case / "feeder")
        edit(CASE_FILE, 'source = "ieee33"', 'source = "feeder"')(case)
        branch_change(case)

    return change


def tieline(capsys: pytest.CaptureFixture[str], *arguments: str | Path) -> Ended:
    """`tieline ARGUMENTS` in this process."""
    capsys.readouterr()
    try:
        code = main([str(argument) for argument in arguments])
    except SystemExit as stopped:  # argparse
        code = stopped.code
    out, errors = capsys.readouterr()
    return Ended(code, out, errors)


ROOT_ENVIRONMENT = {**os.environ, "PYTHONPATH": str(Path(__file__).resolve().parent.parent), "OMP_NUM_THREADS": "1"}
"""Of programs that tests start elsewhere."""
