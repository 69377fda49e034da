"""Bundled grids: one folder each, CSV inside; README.md says where they come from."""

from __future__ import annotations

from pathlib import Path

from admm import InputError

HERE = Path(__file__).parent
TABLES = ("bus.csv", "node.csv")
"""What makes a folder a grid: the buses of an electric one, the nodes of a gas one."""


def grid_names() -> tuple[str, ...]:
    """Names of the bundled grids."""
    return tuple(sorted(path.name for path in HERE.iterdir() if any((path / table).is_file() for table in TABLES)))


def grid_folder(name: str) -> Path:
    """The folder of a bundled grid; InputError if there is none of that name."""
    if name not in grid_names():
        raise InputError(f"bundled grid '{name}' does not exist: expected one of {', '.join(grid_names())}")
    return HERE / name
