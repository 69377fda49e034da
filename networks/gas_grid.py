"""A gas network at one pressure level, or several that compressors join: nodes, pipes, gates, compressors.

Flows are MW on the higher heating value, as kg/s times 3.6 times kWh/kg. Pressures in tables are bar gauge, that
is above the ambient pressure at the node's height; p in equations is absolute.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from functools import cached_property

import numpy as np
import scipy.sparse as sp
from scipy.sparse.csgraph import connected_components

from admm import InputError
from subproblems.devices.sizes import LEAST

NORMAL_BAR, NORMAL_K = 1.01325, 273.15
"""The state at which gases are sold (ISO 13443 calls 273.15 K "normal")."""
MW_PER_KGPS = 3.6
"""times kWh/kg."""
WIDEST_MM = 10_000.0
"""Wider than any pipe: beyond it a diameter is a mistake, which leaves the flow without a unique solution."""
LEAST_BAR = 0.1
"""Absolute pressure below which a limit is next to a vacuum, and a mistake."""
MOST_NAMES = 8
SOURCE = "source"
"""The profile that sources follow, if there is one."""


@dataclass(frozen=True)
class GasProperties:
    """The gas, taken as isothermal. Z(p) = 1 + compressibility_per_bar p; the default is an H gas at 10 degC."""

    normal_density_kg_per_m3: float = 0.732940
    viscosity_pa_s: float = 1.07094e-5
    temperature_k: float = 283.15
    heating_value_kwh_per_kg: float = 14.62197
    compressibility_per_bar: float = -0.0022

    @property
    def mw_per_kgps(self) -> float:
        """Heat that a kilogram a second carries, MW."""
        return MW_PER_KGPS * self.heating_value_kwh_per_kg

    @property
    def specific_j_per_kg(self) -> float:
        """Gas constant times temperature, from the density at the normal state: p = density * Z * this."""
        return NORMAL_BAR * 1e5 / (self.normal_density_kg_per_m3 * NORMAL_K) * self.temperature_k

    def compressibility(self, p_bar: np.ndarray) -> np.ndarray:
        """Z at an absolute pressure."""
        return 1.0 + self.compressibility_per_bar * p_bar


@dataclass(frozen=True)
class GasNode:
    """A row of the node table. demand_mw: at peak, negative where gas is fed in.

    profile: the kind of its demand, such as "residential". feed_in_mw: of sources, by which demand_mw is less;
    constant unless there is a profile "source".
    """

    name: str
    p_min_bar_g: float
    p_max_bar_g: float
    demand_mw: float = 0.0
    profile: str = ""
    height_m: float = 0.0
    feed_in_mw: float = 0.0

    @property
    def drawn_mw(self) -> float:
        """Demand at peak without what sources feed in."""
        return self.demand_mw + self.feed_in_mw


@dataclass(frozen=True)
class GasPipe:
    """A row of the pipe table. roughness_mm: of the wall, after Nikuradse. loss_coefficient: of fittings, in
    dynamic pressures."""

    name: str
    from_node: str
    to_node: str
    length_km: float
    inner_diameter_mm: float
    roughness_mm: float
    loss_coefficient: float = 0.0


@dataclass(frozen=True)
class GasGate:
    """Where gas enters, at a pressure that the operator sets in a range around its set point."""

    name: str
    node: str
    p_set_bar_g: float
    p_min_bar_g: float
    p_max_bar_g: float
    max_flow_mw: float = np.inf
    cost_eur_per_mwh: float = 0.0


@dataclass(frozen=True)
class GasCompressor:
    """Lifts the (absolute) pressure from one node to the next by 1 to max_ratio; gas flows one way.

    The operator sets its outlet pressure, which the outlet's node limits.
    """

    name: str
    from_node: str
    to_node: str
    max_ratio: float
    max_flow_mw: float = np.inf
    cost_eur_per_mwh: float = 0.0


Row = GasNode | GasPipe | GasGate | GasCompressor
POSITIVE = ("inner_diameter_mm", "roughness_mm", "max_flow_mw")
NOT_NEGATIVE = ("length_km", "loss_coefficient")
MAY_BE_INFINITE = ("max_flow_mw",)


@dataclass(frozen=True)
class GasGrid:
    """Tables, checked. Arrays over nodes, pipes, gates and compressors are in the tables' order.

    titles: {node: the name that its source gives it}.
    """

    name: str
    nodes: tuple[GasNode, ...]
    pipes: tuple[GasPipe, ...]
    gates: tuple[GasGate, ...]
    compressors: tuple[GasCompressor, ...] = ()
    gas: GasProperties = GasProperties()
    titles: Mapping[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        for key in ("nodes", "pipes", "gates", "compressors"):
            object.__setattr__(self, key, tuple(getattr(self, key)))
        self._check_gas()
        for key in ("nodes", "pipes", "gates", "compressors"):
            self._check_table(key[:-1], getattr(self, key))
        if not self.gates:
            raise self._error("has no gate", "expected at least one source of gas", "add one to the table of gates")
        self._check_pressures()
        self._check_controlled()
        self._check_connected()

    def _error(self, found: str, expected: str, hint: str) -> InputError:
        return InputError(f"gas grid '{self.name}': {found}, {expected}; {hint}")

    def _check_gas(self) -> None:
        for one in fields(GasProperties):
            value = getattr(self.gas, one.name)
            if not np.isfinite(value) or (value <= 0 and one.name != "compressibility_per_bar"):
                raise self._error(f"{one.name} is {value!r}", "expected a number above 0", "leave it out for H gas")

    def _check_table(self, what: str, rows: Sequence[Row]) -> None:
        seen: set[str] = set()
        for row in rows:
            if row.name in seen:
                raise self._error(f"two {what}s are called '{row.name}'", "expected unique names", "rename one of them")
            seen.add(row.name)
            self._check_ends(what, row)
            for one in fields(row):
                self._check_number(what, row, one.name)
            if isinstance(row, GasPipe):
                self._check_wall(row)

    def _check_ends(self, what: str, row: Row) -> None:
        ends = [(key, getattr(row, key)) for key in ("node", "from_node", "to_node") if hasattr(row, key)]
        for key, end in ends:
            if end not in self._place:
                expected = f"expected one of its nodes {_listed(list(self._place))}"
                raise self._error(f"{what} '{row.name}': {key} is '{end}'", expected, "check the name")
        if len(ends) == 2 and ends[0][1] == ends[1][1]:
            found = f"{what} '{row.name}': begins and ends at node '{ends[0][1]}'"
            raise self._error(found, "expected two nodes", "leave it out")

    def _check_number(self, what: str, row: Row, key: str) -> None:
        value = getattr(row, key)
        if isinstance(value, str):
            return
        least = LEAST if key in POSITIVE else 0.0 if key in NOT_NEGATIVE else -np.inf
        if not value >= least or (np.isinf(value) and key not in MAY_BE_INFINITE):
            found = f"{what} '{row.name}': {key} is {value:g}"
            expected = f"expected a number of at least {least:g}" if np.isfinite(least) else "expected a number"
            raise self._error(found, expected, "check its unit and its sign")

    def _check_wall(self, pipe: GasPipe) -> None:
        if pipe.length_km < LEAST and pipe.loss_coefficient < LEAST:
            found = f"pipe '{pipe.name}': length_km is {pipe.length_km:g} and it has no fittings"
            raise self._error(found, "expected a pipe that resists", "give its length, or make its two nodes one")
        rough, inner = pipe.roughness_mm, pipe.inner_diameter_mm
        if inner > WIDEST_MM or rough >= inner:
            found = f"pipe '{pipe.name}': inner_diameter_mm is {inner:g} and roughness_mm {rough:g}"
            raise self._error(
                found, f"expected a roughness below the diameter and that at most {WIDEST_MM:g}", "use mm"
            )

    def _check_pressures(self) -> None:
        for what, rows in (("node", self.nodes), ("gate", self.gates)):
            for row in rows:
                self._in_order(
                    f"{what} '{row.name}'", ("p_min_bar_g", row.p_min_bar_g), ("p_max_bar_g", row.p_max_bar_g)
                )
        for gate in self.gates:
            node, here = self.nodes[self.node(gate.node)], f"gate '{gate.name}'"
            self._in_order(here, ("p_min_bar_g", gate.p_min_bar_g), ("p_set_bar_g", gate.p_set_bar_g))
            self._in_order(here, ("p_set_bar_g", gate.p_set_bar_g), ("p_max_bar_g", gate.p_max_bar_g))
            self._in_order(
                here, ("p_set_bar_g", gate.p_set_bar_g), (f"node '{node.name}' p_max_bar_g", node.p_max_bar_g)
            )
            self._in_order(
                here, (f"node '{node.name}' p_min_bar_g", node.p_min_bar_g), ("p_max_bar_g", gate.p_max_bar_g)
            )
        around = dict(zip((one.name for one in self.nodes), self.ambient_bar, strict=True))
        at = [(f"node '{one.name}'", one.name, one) for one in self.nodes]
        for here, node, row in [*at, *((f"gate '{one.name}'", one.node, one) for one in self.gates)]:
            least = LEAST_BAR - around[node]
            if row.p_min_bar_g < least:
                found = f"{here}: p_min_bar_g is {row.p_min_bar_g:g}"
                expected = f"expected more than a vacuum, at least {least:.3g} ({LEAST_BAR:g} bar absolute)"
                raise self._error(found, expected, "give it in bar gauge")

    def _in_order(self, where: str, lower: tuple[str, float], upper: tuple[str, float]) -> None:
        if lower[1] > upper[1]:
            found = f"{where}: {lower[0]} is {lower[1]:g} and {upper[0]} is {upper[1]:g}"
            raise self._error(found, "expected the first not to be above the second", "exchange or widen the limits")

    def _check_controlled(self) -> None:
        """One element sets the pressure of a node, not two."""
        by_node: dict[str, str] = {}
        for what, rows, key in (("gate", self.gates, "node"), ("compressor", self.compressors, "to_node")):
            for row in rows:
                node, mine = getattr(row, key), f"{what} '{row.name}'"
                if node in by_node:
                    found = f"{mine} and {by_node[node]} both set the pressure of node '{node}'"
                    raise self._error(found, "expected one", "put a short pipe between them")
                by_node[node] = mine
        for one in self.compressors:
            if one.max_ratio < 1:
                found = f"compressor '{one.name}': max_ratio is {one.max_ratio:g}"
                raise self._error(found, "expected at least 1", "give outlet over inlet, both absolute")

    def _check_connected(self) -> None:
        """Every node needs a pressure: a gate's, or a compressor's that is itself fed."""
        fed = self._fed()
        if not fed.all():
            lost = [node.name for node, found in zip(self.nodes, fed, strict=True) if not found]
            found = f"no pipe connects node{'s' * (len(lost) > 1)} {_listed(lost)} with a gate"
            raise self._error(found, "expected every node to be fed", "add the missing pipe or leave them out")

    def _fed(self) -> np.ndarray:
        size, (start, end) = len(self.nodes), self.pipe_ends
        graph = sp.coo_array((np.ones(start.size), (start, end)), shape=(size, size))
        _, part = connected_components(graph, directed=False)
        fed = np.isin(part, part[self.gate_nodes])
        for _ in self.compressors:
            for inlet, outlet in zip(self.inlet_nodes, self.outlet_nodes, strict=True):
                if fed[inlet]:
                    fed |= part == part[outlet]
        return fed

    @cached_property
    def _place(self) -> dict[str, int]:
        return {node.name: i for i, node in enumerate(self.nodes)}

    def node(self, name: str) -> int:
        """Position of a node by its name."""
        if str(name) not in self._place:
            expected = f"its nodes are {_listed(list(self._place))}"
            raise self._error(f"there is no node '{name}'", expected, "check the name")
        return self._place[str(name)]

    def _positions(self, rows: Sequence[Row], key: str) -> np.ndarray:
        return np.array([self._place[getattr(row, key)] for row in rows], dtype=int)

    @cached_property
    def pipe_ends(self) -> tuple[np.ndarray, np.ndarray]:
        """Nodes where pipes begin and end, (E,) each."""
        return self._positions(self.pipes, "from_node"), self._positions(self.pipes, "to_node")

    @cached_property
    def gate_nodes(self) -> np.ndarray:
        """(G,)"""
        return self._positions(self.gates, "node")

    @cached_property
    def inlet_nodes(self) -> np.ndarray:
        """Of compressors, (C,)."""
        return self._positions(self.compressors, "from_node")

    @cached_property
    def outlet_nodes(self) -> np.ndarray:
        """Of compressors, (C,)."""
        return self._positions(self.compressors, "to_node")

    def column(self, rows: Sequence[Row], key: str) -> np.ndarray:
        """One attribute of a table's rows."""
        return np.array([getattr(row, key) for row in rows], dtype=float)

    @cached_property
    def ambient_bar(self) -> np.ndarray:
        """Of every node, (n,), by the international standard atmosphere (ISO 2533)."""
        return NORMAL_BAR * (1 - 2.25577e-5 * self.column(self.nodes, "height_m")) ** 5.25588

    @cached_property
    def volume_m3(self) -> np.ndarray:
        """Of every node, (n,): half the pipes that end there."""
        diameter_m = self.column(self.pipes, "inner_diameter_mm") / 1e3
        volume = np.pi / 4 * diameter_m**2 * self.column(self.pipes, "length_km") * 1e3
        found = np.zeros(len(self.nodes))
        for ends in self.pipe_ends:
            np.add.at(found, ends, volume / 2)
        return found

    def absolute_bar(self, p_bar_g: np.ndarray, nodes: np.ndarray | slice = slice(None)) -> np.ndarray:
        """Absolute pressure at the given nodes."""
        return p_bar_g + self.ambient_bar[nodes]

    def demand_mw(self, shares: dict[str, np.ndarray], scale: float = 1.0) -> np.ndarray:
        """Net demand of every node, (T, n): its peak times the profile of its kind, less what sources feed in.

        Args:
            shares: {profile: (T,)}.
            scale: factor on the demand, not on what sources feed in.
        """
        needed = {node.profile for node in self.nodes if node.drawn_mw != 0}
        missing = sorted(needed - shares.keys())
        if missing:
            at = [node.name for node in self.nodes if node.drawn_mw != 0 and node.profile == missing[0]]
            raise self._error(
                f"there is no profile '{missing[0]}'",
                f"found {_listed(sorted(filter(None, shares))) or 'none'}",
                f"nodes {_listed(at)} follow it: add it, such as demand_profiles = {{ {missing[0]} = 1.0 }}",
            )
        periods = max((len(share) for share in shares.values()), default=1)
        nothing, fed_in = np.zeros(periods), shares.get(SOURCE, np.ones(periods))
        columns = [
            scale * node.drawn_mw * shares.get(node.profile, nothing) - node.feed_in_mw * fed_in for node in self.nodes
        ]
        return np.stack(columns, axis=1)

    def without_gate(self, name: str) -> GasGrid:
        """The grid after the loss of a gate; its node stays."""
        if name not in [gate.name for gate in self.gates]:
            raise self._error(f"there is no gate '{name}'", f"its gates are {_listed(list(self._gates()))}", "check it")
        return replace(self, gates=tuple(gate for gate in self.gates if gate.name != name))

    def _gates(self) -> Iterator[str]:
        return (gate.name for gate in self.gates)


def _listed(names: Sequence[str]) -> str:
    more = f" and {len(names) - MOST_NAMES} more" if len(names) > MOST_NAMES else ""
    return ", ".join(names[:MOST_NAMES]) + more
