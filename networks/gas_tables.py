"""A gas grid from a folder of CSV tables: node.csv, pipe.csv, gate.csv, and if there are any compressor.csv."""

from __future__ import annotations

import difflib
from collections.abc import Sequence
from pathlib import Path

from admm import InputError
from networks.gas_grid import GasCompressor, GasGate, GasGrid, GasNode, GasPipe, GasProperties
from networks.tables import TableRow, read_table

NODE = ("node", "profile", "p_min_bar_g", "p_max_bar_g", "peak_demand_kw")
PIPE = ("pipe", "from_node", "to_node", "length_km", "inner_diameter_mm", "roughness_mm")
GATE = ("gate", "node", "p_set_bar_g", "p_min_bar_g", "p_max_bar_g", "max_flow_kw", "cost_eur_per_mwh")
COMPRESSOR = ("compressor", "from_node", "to_node", "max_ratio", "max_flow_kw", "cost_eur_per_mwh")
NODE_TOO = ("height_m", "x_km", "y_km", "hub", "hub_peak_demand_kw")
PIPE_TOO = ("loss_coefficient", "is_loop_pipe")
"""Columns that may be left out. Coordinates, hubs and loops are for readers: nothing is computed from them."""


def read_gas_csv(folder: Path | str, gas: GasProperties | None = None) -> GasGrid:
    """The grid in a folder. InputError names the file, the line, the column and what was expected."""
    folder = Path(folder)
    nodes = [_node(row) for row in _rows(folder / "node.csv", NODE, NODE_TOO)]
    pipes = [_pipe(row) for row in _rows(folder / "pipe.csv", PIPE, PIPE_TOO)]
    gates = [_gate(row) for row in _rows(folder / "gate.csv", GATE)]
    more = folder / "compressor.csv"
    compressors = [_compressor(row) for row in _rows(more, COMPRESSOR)] if more.is_file() else []
    try:
        return GasGrid(
            folder.name, tuple(nodes), tuple(pipes), tuple(gates), tuple(compressors), gas or GasProperties()
        )
    except InputError as error:
        raise InputError(f"{folder}: {error}") from None


def _rows(path: Path, columns: Sequence[str], optional: Sequence[str] = ()) -> list[TableRow]:
    rows, known = read_table(path, columns), (*columns, *optional)
    unknown = [name for name in rows[0].cells if name not in known]
    if unknown:
        close = difflib.get_close_matches(unknown[0], known, n=1)
        hint = f"did you mean '{close[0]}'?" if close else "leave it out"
        raise InputError(f"{path}: column '{unknown[0]}' is unknown, expected {', '.join(known)}; {hint}")
    return rows


def _optional(row: TableRow, key: str) -> float:
    return row.number(key) if key in row.cells else 0.0


def _node(row: TableRow) -> GasNode:
    return GasNode(
        row.text("node"),
        row.number("p_min_bar_g"),
        row.number("p_max_bar_g"),
        row.number("peak_demand_kw") / 1e3,
        row.text("profile"),
        _optional(row, "height_m"),
    )


def _pipe(row: TableRow) -> GasPipe:
    return GasPipe(
        f"pipe {row.text('pipe')}",
        row.text("from_node"),
        row.text("to_node"),
        row.number("length_km"),
        row.number("inner_diameter_mm"),
        row.number("roughness_mm"),
        _optional(row, "loss_coefficient"),
    )


def _gate(row: TableRow) -> GasGate:
    pressures = (row.number(key) for key in ("p_set_bar_g", "p_min_bar_g", "p_max_bar_g"))
    flow_mw, cost = row.number("max_flow_kw") / 1e3, row.number("cost_eur_per_mwh")
    return GasGate(row.text("gate"), row.text("node"), *pressures, flow_mw, cost)


def _compressor(row: TableRow) -> GasCompressor:
    ends = row.text("from_node"), row.text("to_node")
    flow_mw, cost = row.number("max_flow_kw") / 1e3, row.number("cost_eur_per_mwh")
    return GasCompressor(row.text("compressor"), *ends, row.number("max_ratio"), flow_mw, cost)
