"""Whether a pandapower network is one radial feeder, decided from its tables alone.

This shares no code with the imports that it judges. Buses that closed switches or near-zero branches join are one,
parallel branches are one, and what no source supplies does not count.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any

import networkx as nx
import numpy as np

COUPLER_PU = 1e-8
"""Impedance on 1 MVA up to which a branch counts as a coupler."""
ENDS = {
    "line": ("from_bus", "to_bus", "l"),
    "trafo": ("hv_bus", "lv_bus", "t"),
    "impedance": ("from_bus", "to_bus", "i"),
    "dcline": ("from_bus", "to_bus", ""),
    "tcsc": ("from_bus", "to_bus", ""),
}
FOREIGN = ("dcline", "tcsc", "svc", "ssc", "vsc", "xward", "b2b_vsc")
"""Tables whose elements a feeder of constant power, constant impedance and branches need not be able to carry."""


@dataclass(frozen=True)
class Topology:
    """What was found: sources by table and index, whether the supplied part has a loop, and foreign elements in it."""

    buses: int
    sources: tuple[str, ...]
    has_loop: bool
    foreign: tuple[str, ...]

    @property
    def is_feeder(self) -> bool:
        """One source, no loop, nothing foreign."""
        return len(self.sources) == 1 and not self.has_loop and not self.foreign

    def words(self) -> str:
        """A short description."""
        if not self.sources:
            return "no source"
        found = ["radial" if not self.has_loop else "meshed"]
        if len(self.sources) > 1:
            found.append(f"{len(self.sources)} sources")
        return ", ".join([*found, *(f"has {name}" for name in self.foreign)])


def topology_of(net: Any) -> Topology:
    graph = _graph(net)
    sources = [f"ext_grid {i}" for i, row in _active(net, "ext_grid") if row["bus"] in graph]
    roots = {net.ext_grid.loc[int(name.split()[1]), "bus"] for name in sources}
    supplied: set[Any] = set()
    for root in roots:
        supplied |= nx.node_connected_component(graph, root)
    sources += [f"gen {i}" for i, row in _active(net, "gen") if row["bus"] in supplied - roots]
    merged = _without_couplers(graph.subgraph(supplied))
    foreign = [table for table in FOREIGN if any(_touches(row, supplied) for _, row in _active(net, table))]
    return Topology(len(supplied), tuple(sources), bool(merged) and not nx.is_forest(merged), tuple(foreign))


CELL = re.compile(r"(\w+) (\d+): (\w+) is (empty|[-+.\deE]+),")
"""A refusal's words about one cell of a table, as "line 3: x_ohm_per_km is -0.2,"."""


def shows_cell(net: Any, words: str) -> bool:
    """Whether a refusal names a cell that the tables really hold, and that is empty or negative."""
    found = CELL.search(words)
    if found is None or found[1] not in net or found[3] not in net[found[1]]:
        return False
    number = float(net[found[1]].at[int(found[2]), found[3]])
    if found[4] == "empty":
        return bool(np.isnan(number))
    return number < 0 and bool(np.isclose(number, float(found[4]), rtol=1e-4))


def _active(net: Any, table: str) -> list[tuple[int, Any]]:
    elements = getattr(net, table, None)
    if elements is None or len(elements) == 0:
        return []
    return [(i, row) for i, row in elements.iterrows() if row.get("in_service", True)]


def _touches(row: Any, buses: set[Any]) -> bool:
    return any(row[key] in buses for key in ("bus", "from_bus", "to_bus") if key in row)


def _graph(net: Any) -> nx.Graph:
    """Buses in service and what connects them; `pu` of an edge is its impedance on 1 MVA (nan: no line)."""
    graph = nx.Graph()
    graph.add_nodes_from(int(i) for i, _ in _active(net, "bus"))
    opened = {(row["et"], row["element"]) for _, row in net.switch.iterrows() if not row["closed"]}
    for _, row in net.switch.iterrows():
        if row["et"] == "b" and row["closed"]:
            ohm, kv = float(row.get("z_ohm", 0.0) or 0.0), net.bus.loc[row["bus"], "vn_kv"]
            _add(graph, int(row["bus"]), int(row["element"]), ohm / kv**2)
    for table, (start, end, letter) in ENDS.items():
        for i, row in _active(net, table):
            if (letter, i) not in opened:
                pu = np.nan
                if table == "line":
                    ohm = np.hypot(row["r_ohm_per_km"], row["x_ohm_per_km"]) * row["length_km"] / row["parallel"]
                    pu = ohm / net.bus.loc[row[start], "vn_kv"] ** 2
                _add(graph, int(row[start]), int(row[end]), pu)
    for i, row in _active(net, "trafo3w"):
        shut = {s["bus"] for _, s in net.switch.iterrows() if s["et"] == "t3" and s["element"] == i and not s["closed"]}
        for key in ("hv_bus", "mv_bus", "lv_bus"):
            if row[key] not in shut and int(row[key]) in graph:
                graph.add_edge(f"star {i}", int(row[key]), pu=np.nan)
    return graph


def _add(graph: nx.Graph, start: int, end: int, pu: float) -> None:
    if start in graph and end in graph and start != end:
        known = graph.get_edge_data(start, end, {"pu": np.nan})["pu"]
        graph.add_edge(start, end, pu=float(np.fmin(known, pu)))


def _without_couplers(graph: nx.Graph) -> nx.Graph:
    """The graph with the ends of near-zero branches joined; parallel branches are one edge anyhow."""
    couplers = nx.Graph((a, b) for a, b, pu in graph.edges(data="pu") if pu <= COUPLER_PU)
    couplers.add_nodes_from(graph)
    part = {node: i for i, group in enumerate(nx.connected_components(couplers)) for node in group}
    merged = nx.Graph()
    merged.add_nodes_from(part.values())
    merged.add_edges_from((part[a], part[b]) for a, b in graph.edges() if part[a] != part[b])
    return merged
