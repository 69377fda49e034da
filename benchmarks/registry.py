"""Subjects and variants by name: the bundled ones and those of a user's own file.

A file given by `--with` defines `VARIANTS`, `PROBLEMS` or both, see example_entry.py:

    VARIANTS = {"mine": {"penalty": MyPolicy()}}            keywords of admm.Settings
    PROBLEMS = {"my-problem-00": callable}                   gives a Subject, such as subjects.solved_problem(...)
"""

from __future__ import annotations

import difflib
import runpy
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from functools import lru_cache, partial
from pathlib import Path
from typing import Any

import admm
from benchmarks.problem_files import problem_names, read_problem
from benchmarks.subjects import CaseSubject, SubjectMaker
from benchmarks.variants import Variant

CASES = {
    "ieee33-10ec": "ieee33-10ec",
    "ieee33-10ec:summer": "ieee33-10ec",
    "feeder118-gas65": "16 hubs",
    "feeder118-gas65:summer": "16 hubs",
}
"""Family of each case of 24 periods; those of 96 take four times as long and are in `main_case`."""


@dataclass(frozen=True)
class Registry:
    """subjects: {name: what makes it}. own_variants, own_subjects: those that come from users' files."""

    subjects: Mapping[str, SubjectMaker]
    own_variants: Mapping[str, Variant] = field(default_factory=dict)
    own_subjects: tuple[str, ...] = ()


@lru_cache
def registry(files: tuple[str, ...] = ()) -> Registry:
    """The bundled subjects, and what the files define. Raises InputError."""
    subjects: dict[str, SubjectMaker] = {name: partial(read_problem, name) for name in problem_names()}
    subjects |= {name: partial(CaseSubject, name, family) for name, family in CASES.items()}
    variants: dict[str, Variant] = {}
    bundled = len(subjects)
    for file in files:
        found = _definitions(Path(file))
        variants |= found["VARIANTS"]
        subjects |= found["PROBLEMS"]
    return Registry(subjects, variants, tuple(subjects)[bundled:])


def _definitions(path: Path) -> dict[str, Mapping[str, Any]]:
    if not path.is_file():
        raise admm.InputError(f"--with {path}: there is no such file; expected a Python file with VARIANTS or PROBLEMS")
    defined = runpy.run_path(str(path))
    found = {key: defined.get(key, {}) for key in ("VARIANTS", "PROBLEMS")}
    for key, value in found.items():
        if not isinstance(value, Mapping):
            raise admm.InputError(f"{path}: {key} is {type(value).__name__}, expected a dictionary by name")
    for name, make in found["PROBLEMS"].items():
        if not callable(make):
            raise admm.InputError(f"{path}: PROBLEMS['{name}'] is {type(make).__name__}, expected what makes a problem")
    if not any(found.values()):
        raise admm.InputError(f"{path}: defines neither VARIANTS nor PROBLEMS; see benchmarks/example_entry.py")
    return found


def chosen(names: Sequence[str], patterns: Sequence[str] | None, what: str) -> list[str]:
    """The names that match one of the patterns (`*` for anything), in the order of the names; all without patterns."""
    if not patterns:
        return list(names)
    for pattern in patterns:
        if not any(fnmatchcase(name, pattern) for name in names):
            close = difflib.get_close_matches(pattern, names, n=1)
            hint = f"did you mean '{close[0]}'?" if close else f"there are: {', '.join(names)}"
            raise admm.InputError(f"no {what} is called '{pattern}'; {hint}")
    return [name for name in names if any(fnmatchcase(name, pattern) for pattern in patterns)]
