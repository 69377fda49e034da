"""Bundled grids: one folder each, CSV inside; README.md says where they come from."""

from __future__ import annotations

from pathlib import Path

from admm import InputError

HERE = Path(__file__).parent
ELECTRIC, GAS = "bus.csv", "node.csv"
"""The table by which a folder is known as an electric or a gas grid."""


def grid_names(kind: str = ELECTRIC) -> tuple[str, ...]:
    """Names of the bundled grids of a kind, ELECTRIC or GAS."""
    return tuple(sorted(path.name for path in HERE.iterdir() if (path / kind).is_file()))


def grid_folder(name: str, kind: str = ELECTRIC) -> Path:
    """The folder of a bundled grid; InputError if there is none of that name."""
    if name not in grid_names(kind):
        raise InputError(f"bundled grid '{name}' does not exist: expected one of {', '.join(grid_names(kind))}")
    return HERE / name
