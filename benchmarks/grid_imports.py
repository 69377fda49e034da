"""Every published network through the imports: `python -m benchmarks grid_imports`.

For each network of pandapower, SimBench and MATPOWER (grid_networks.py) a row says whether it is a radial feeder with
one source, decided from its tables alone (grid_topology.py), and then what became of it: the base flow against
pandapower's own `runpp`, and a run with one community on it with both AC checks. A network that is refused is listed
with the reason. For meshed networks the flows of the transmission import are compared with `rundcpp`.

Writes results/grid_imports.csv and .md. `--subjects` takes names with `*`; ends with exit code 2 if a row is wrong.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from admm import InputError
from admm.output import versions
from benchmarks.grid_checks import base_flow, dc_error_mw, pandapower_failed, run_with_a_community
from benchmarks.grid_networks import Make, published
from benchmarks.grid_topology import Topology, shows_cell, topology_of
from benchmarks.matpower_flows import MatpowerFlow, matpower_flows
from benchmarks.measure import machine
from benchmarks.options import Options
from benchmarks.registry import chosen
from benchmarks.tables import made_with, read_csv, write_csv
from networks.pandapower_import import feeder_from_pandapower
from networks.pandapower_tables import open_network, quiet
from networks.source_files import is_matpower

FILE = "grid_imports"
VOLTAGE_PU, LOSS_PERCENT, DC_MW = 1e-5, 0.1, 1e-6
NO_FLOW = "pandapower finds no power flow"
REASONS: Mapping[str, tuple[str, ...]] = {
    "loop": ("loop", "mesh", "parallel"),
    "sources": ("ext_grid", "gen ", "controls a voltage"),
    "foreign": ("cannot be represented",),
}
"""Words of a refusal that go with what the tables show."""


@dataclass
class GridRow:
    """One network. Errors are empty where nothing was to be compared; right: None where nothing is to be judged."""

    network: str
    buses: int = 0
    topology: str = ""
    feeder: bool = False
    imported: bool = False
    max_voltage_error_pu: float | None = None
    loss_error_percent: float | None = None
    run_exit_code: int | None = None
    ac_passed: bool | None = None
    max_dc_error_mw: float | None = None
    right: bool | None = None
    words: str = ""
    seconds: float = 0.0
    versions: str = field(default_factory=versions)
    machine: str = field(default_factory=machine)


def add_own_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--without-runs", action="store_true", help="compare base flows only: quick, and judges less")


def run_grid_imports(options: Options) -> list[dict[str, Any]]:
    path = options.out / f"{FILE}.csv"
    makers = published()
    names = chosen(list(makers), options.subjects, "network")
    kept = {row["network"]: row for row in options.former_rows(path)}
    rows: dict[str, dict[str, Any]] = dict(kept)
    for name in names:
        if options.resume and name in kept:
            continue
        row = grid_row(name, makers[name], with_run=not options.own.get("without_runs", False))
        print(summary_line(row), flush=True)
        rows[name] = asdict(row)
        write_csv(path, list(rows.values()))
    table = [rows[name] for name in makers if name in rows]
    write_csv(path, table)
    (options.out / f"{FILE}.md").write_text(report(read_csv(path)), encoding="utf-8")
    wrong = [row["network"] for row in table if row["right"] is False]
    if wrong:
        raise InputError(f"{len(wrong)} networks are not as expected: {', '.join(wrong[:8])}; see {path}")
    return table


def summary_line(row: GridRow) -> str:
    return (
        f"{row.network}: {row.topology}, {'imported' if row.imported else 'not imported'}, "
        f"dv {row.max_voltage_error_pu}, dP {row.loss_error_percent} %, exit {row.run_exit_code}, "
        f"dc {row.max_dc_error_mw}, right {row.right}: {row.words} ({row.seconds} s)"
    )


def grid_row(name: str, make: Make, with_run: bool = True) -> GridRow:
    """One network measured; without a run nothing is said to be right, but a wrong base flow is wrong."""
    began = time.perf_counter()
    row = GridRow(name)
    try:
        with quiet():
            made = make()
            net = made if hasattr(made, "bus") else open_network(made)
    except InputError as error:
        row.words, row.right = _plain(error), None
        return row
    found = topology_of(net)
    row.buses, row.topology, row.feeder = found.buses, found.words(), found.is_feeder
    with quiet(), TemporaryDirectory() as folder:
        path = _file(made, net, Path(folder))
        own = matpower_flows().get(path.stem) if is_matpower(path) else None
        _measure_feeder(row, net, found, path, own, with_run)
        if found.has_loop:
            _measure_dc(row, net, own)
    row.seconds = round(time.perf_counter() - began, 1)
    return row


def _file(made: Any, net: Any, folder: Path) -> Path:
    """The network as a file that a case can name."""
    import pandapower

    if isinstance(made, Path):
        return made
    path = folder / "net.json"
    with quiet():
        pandapower.to_json(net, str(path))
    return path


def _measure_feeder(
    row: GridRow, net: Any, found: Topology, path: Path, own: MatpowerFlow | None, with_run: bool
) -> None:
    try:
        feeder = feeder_from_pandapower(path)
    except InputError as error:
        row.words = _plain(error)
        row.right = not found.is_feeder and (_is_reason(row.words, found) or shows_cell(net, row.words))
        return
    row.imported = True
    try:
        flow = base_flow(net, feeder, own)
    except pandapower_failed():
        row.words = NO_FLOW
        return
    row.max_voltage_error_pu, row.loss_error_percent = flow.max_voltage_error_pu, flow.loss_error_percent
    flow_right = row.max_voltage_error_pu <= VOLTAGE_PU and row.loss_error_percent <= LOSS_PERCENT
    if not with_run:
        row.right = None if flow_right else False
        return
    result = run_with_a_community(net, path, feeder)
    row.run_exit_code, row.ac_passed = result["exit_code"], result.get("ac_passed")
    row.words = result["words"]
    row.right = flow_right and row.run_exit_code == 0 and row.ac_passed is True


def _measure_dc(row: GridRow, net: Any, own: MatpowerFlow | None) -> None:
    try:
        row.max_dc_error_mw = dc_error_mw(net, own)
    except InputError as error:
        row.words = " | ".join(filter(None, (row.words, f"transmission: {_plain(error)}")))
        return
    row.right = row.right is not False and row.max_dc_error_mw <= DC_MW


def _is_reason(words: str, found: Topology) -> bool:
    """Whether a refusal names something that the tables show."""
    shown = {"loop": found.has_loop, "sources": len(found.sources) != 1, "foreign": bool(found.foreign)}
    return any(shown[key] and any(word in words for word in REASONS[key]) for key in shown)


def _plain(error: InputError) -> str:
    """The message without the folder of its file."""
    return " ".join(word.rpartition("/")[2] for word in str(error).split())[:300]


def report(rows: Sequence[Mapping[str, Any]]) -> str:
    """Counts, what is wrong, and a table of all networks."""
    lines = [*_counts(rows), "", *_wrong(rows), ""]
    keys = (
        "network",
        "buses",
        "topology",
        "max_voltage_error_pu",
        "loss_error_percent",
        "ac_passed",
        "max_dc_error_mw",
    )
    lines += ["| " + " | ".join(key.replace("_", " ") for key in (*keys, "words")) + " |"]
    lines += ["| --- " * (len(keys) + 1) + "|"]
    lines += ["| " + " | ".join(_cell(row[key]) for key in (*keys, "words")) + " |" for row in rows]
    note = (
        f"Feeders: radial with one source. Right: voltages within {VOLTAGE_PU:g} pu and power within {LOSS_PERCENT:g} "
        "% of the losses of `runpp`, and a run that ends with both AC checks passed; "
        f"DC flows within {DC_MW:g} MW of `rundcpp`."
    )
    return "\n".join([*lines, "", f"{note} {'. '.join(made_with(rows).values())}.", ""])


def _cell(value: Any) -> str:
    if value is None:
        return ""
    return f"{value:.1e}" if isinstance(value, float) else str(value).replace("|", "/")


def _counts(rows: Sequence[Mapping[str, Any]]) -> list[str]:
    lines = [
        "| source | networks | feeders | base flow equal | of these: run passed both checks | run not made "
        "| no flow in pandapower | others refused with the right reason | DC flows equal |"
    ]
    lines += ["| --- " * 9 + "|"]
    for source in dict.fromkeys(row["network"].split()[0] for row in rows):
        mine = [row for row in rows if row["network"].split()[0] == source]
        feeders = [row for row in mine if row["feeder"]]
        others = [row for row in mine if not row["feeder"]]
        dc = [row for row in mine if row["max_dc_error_mw"] is not None]
        flows = [row for row in feeders if row["max_voltage_error_pu"] is not None]
        good = sum(
            row["max_voltage_error_pu"] <= VOLTAGE_PU and row["loss_error_percent"] <= LOSS_PERCENT for row in flows
        )
        passed = sum(row["right"] is True for row in flows)
        left = sum(row["run_exit_code"] is None for row in flows)
        nothing = sum(row["words"] == NO_FLOW for row in feeders)
        refused = sum(not row["imported"] and row["right"] is not False for row in others)
        equal = sum(row["max_dc_error_mw"] <= DC_MW for row in dc)
        lines.append(
            f"| {source} | {len(mine)} | {len(feeders)} | {good} | {passed} | {left} | {nothing} "
            f"| {refused} of {len(others)} | {equal} of {len(dc)} |"
        )
    return lines


def _wrong(rows: Sequence[Mapping[str, Any]]) -> list[str]:
    wrong = [row for row in rows if row["right"] is False]
    if not wrong:
        return ["Nothing is wrong."]
    return ["Wrong:", "", *(f"- {row['network']}: {row['words']}" for row in wrong)]
