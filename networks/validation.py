"""Reading input files: every mistake becomes one InputError that names the file and what to try."""

from __future__ import annotations

import difflib
import os
import tomllib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeVar

from admm import InputError
from subproblems.devices.attributes import Attributes

Model = TypeVar("Model", bound=Attributes)
SIMILAR = 0.85
"""How alike two file names must be for a suggestion: numbered files of one folder are alike, too."""


def read_text(path: Path) -> str:
    """The file's text; InputError if it is missing, unreadable or no UTF-8 text."""
    try:
        if os.path.exists(path) and not (os.path.isfile(path) or os.path.isdir(path)):  # a pipe might never end
            raise InputError(f"{path}: is no file; expected a text file that you may read")
        text = path.read_text(encoding="utf-8-sig")
    except FileNotFoundError:
        raise InputError(f"{path}: file not found; {_nearby(path)}") from None
    except OSError as error:
        raise InputError(f"{path}: cannot be read ({error.strerror}); expected a text file that you may read") from None
    except UnicodeDecodeError as error:
        raise InputError(f"{path}: is no UTF-8 text file (byte {error.start}); save it as UTF-8 text") from None
    if "\0" in text:
        raise InputError(f"{path}: is no UTF-8 text file (it holds zero bytes); save it as UTF-8 text")
    return text


def _nearby(path: Path) -> str:
    if not os.path.isdir(path.parent):
        return f"there is no folder {path.parent}"
    close = difflib.get_close_matches(path.name, [p.name for p in path.parent.iterdir()], n=1, cutoff=SIMILAR)
    return f"did you mean '{close[0]}'?" if close else f"check the name, or create it in {path.parent}"


def read_toml(path: Path) -> dict[str, Any]:
    """The file's content; InputError if it cannot be read or is no TOML."""
    text = read_text(path)
    try:
        return tomllib.loads(text)
    except RecursionError:
        raise InputError(f"{path}: is not valid TOML: nested too deeply") from None
    except tomllib.TOMLDecodeError as error:
        raise InputError(f"{path}: is not valid TOML: {error}") from None
    except ValueError:
        raise InputError(f"{path}: is not valid TOML: a number in it has thousands of digits") from None


def parse(model: type[Model], data: dict[str, Any], where: str | Path) -> Model:
    """The data as a checked model; InputError for the first thing that is wrong with it."""
    try:
        return model(**data)
    except InputError as error:
        raise InputError(f"{where}: {error}") from None


@contextmanager
def located(where: str) -> Iterator[None]:
    """Begins an InputError's message with where it belongs."""
    try:
        yield
    except InputError as error:
        raise InputError(f"{where}: {error}") from None
