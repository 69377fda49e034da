"""A radial feeder in per unit on 1 MVA, so that powers are MW and Mvar as they stand.

Node 0 is the root. Branch b feeds node b + 1 from node `parent[b]`, and a parent always comes before
its children; so arrays over branches and arrays over nodes 1.. are in the same order.
"""

from __future__ import annotations

import heapq
from collections import deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from admm import InputError
from networks.tables import read_table

BASE_MVA = 1.0
OPTIONAL_POWERS = ("sgen_p_mw", "sgen_q_mvar", "shunt_p_mw", "shunt_q_mvar")
V_MIN_PU, V_MAX_PU = 0.95, 1.05
"""Voltage limits where a source states none: a band that operators plan with inside the 0.9 to 1.1 of EN 50160."""
MOST_NAMES = 8
"""Names listed in a message before it says "and so many more"."""


@dataclass(frozen=True)
class FeederNode:
    """A row of the node table; every power is consumption.

    p_mw, q_mvar: of loads. sgen_p_mw, sgen_q_mvar: of static generators, negative where they generate.
    shunt_p_mw, shunt_q_mvar: of constant admittances, at base_kv; it grows with the squared voltage.
    v_min_pu, v_max_pu: limits per unit of nominal_kv, which is base_kv where it is not given; NaN where the source
    states none.
    """

    name: str
    p_mw: float = 0.0
    q_mvar: float = 0.0
    v_min_pu: float = np.nan
    v_max_pu: float = np.nan
    base_kv: float = 1.0
    nominal_kv: float | None = None
    sgen_p_mw: float = 0.0
    sgen_q_mvar: float = 0.0
    shunt_p_mw: float = 0.0
    shunt_q_mvar: float = 0.0


@dataclass(frozen=True)
class FeederBranch:
    """A row of the branch table, in either direction. i_max_pu: current on the 1 MVA base, that is the
    apparent power in MVA that it carries at 1 pu; infinite where the branch has no rating."""

    name: str
    from_node: str
    to_node: str
    r_pu: float
    x_pu: float
    i_max_pu: float = np.inf


@dataclass(frozen=True)
class Feeder:
    """nodes: n names, the root first. branches: n - 1 names. parent: (n - 1,) node that feeds branch b.

    r_pu, x_pu, i_max_pu: (n - 1,). slack_voltage_pu: voltage magnitude at the root, per unit of its nominal_kv.
    All others: (n,), see `FeederNode`. Flows are computed per unit of base_kv, the root's voltage carried through
    the ratios of transformers; limits and results are per unit of nominal_kv. Limits of the root itself are not used.
    A limit that is NaN becomes V_MIN_PU or V_MAX_PU. limits_stated: (2, n) bool, whether v_min_pu, v_max_pu are the
    source's own.
    """

    name: str
    nodes: tuple[str, ...]
    branches: tuple[str, ...]
    parent: np.ndarray
    r_pu: np.ndarray
    x_pu: np.ndarray
    i_max_pu: np.ndarray
    load_p_mw: np.ndarray
    load_q_mvar: np.ndarray
    v_min_pu: np.ndarray
    v_max_pu: np.ndarray
    base_kv: np.ndarray
    slack_voltage_pu: float = 1.0
    nominal_kv: np.ndarray | None = None
    sgen_p_mw: np.ndarray | None = None
    sgen_q_mvar: np.ndarray | None = None
    shunt_p_mw: np.ndarray | None = None
    shunt_q_mvar: np.ndarray | None = None
    limits_stated: np.ndarray | None = None

    def __post_init__(self) -> None:
        nodes, branches = len(self.nodes), len(self.branches)
        self._fill_in()
        for key in ("parent", "r_pu", "x_pu", "i_max_pu"):
            self._freeze(key, branches)
        for key in ("load_p_mw", "load_q_mvar", "v_min_pu", "v_max_pu", "base_kv", "nominal_kv", *OPTIONAL_POWERS):
            self._freeze(key, nodes)
        self._check()

    def _fill_in(self) -> None:
        """What is not given: no static generators, no shunts, nominal voltages that are the base voltages, limits."""
        if self.limits_stated is None:
            object.__setattr__(self, "limits_stated", ~np.isnan([self.v_min_pu, self.v_max_pu]))
        for key, default in (("v_min_pu", V_MIN_PU), ("v_max_pu", V_MAX_PU)):
            given = np.asarray(getattr(self, key), dtype=float)
            object.__setattr__(self, key, np.where(np.isnan(given), default, given))
        if self.nominal_kv is None:
            object.__setattr__(self, "nominal_kv", self.base_kv)
        for key in OPTIONAL_POWERS:
            if getattr(self, key) is None:
                object.__setattr__(self, key, np.zeros(len(self.nodes)))

    @property
    def base_per_nominal(self) -> np.ndarray:
        """(n,): a voltage per unit of base_kv times this is the voltage per unit of nominal_kv."""
        return self.base_kv / self.nominal_kv

    def _freeze(self, key: str, size: int) -> None:
        array = np.array(getattr(self, key), dtype=int if key == "parent" else float)
        if array.shape != (size,):
            raise InputError(f"feeder '{self.name}': {key} has shape {array.shape}, expected {(size,)}")
        array.setflags(write=False)
        object.__setattr__(self, key, array)

    def _check(self) -> None:
        if len(self.branches) != len(self.nodes) - 1 or not self.branches:
            raise InputError(
                f"feeder '{self.name}': {len(self.nodes)} nodes and {len(self.branches)} branches, "
                "expected one branch fewer than nodes and at least one"
            )
        if (self.parent < 0).any() or (self.parent > np.arange(len(self.branches))).any():
            raise InputError(
                f"feeder '{self.name}': a branch comes before the one that feeds it: use feeder_from_tables"
            )
        for key in ("load_p_mw", "load_q_mvar", *OPTIONAL_POWERS):
            self._reject(key, ~np.isfinite(getattr(self, key)), self.nodes, "a finite number")
        for key in ("base_kv", "nominal_kv"):
            self._reject(key, ~_positive(getattr(self, key)), self.nodes, "a number above 0")
        self._reject("v_min_pu", ~_positive(self.v_min_pu), self.nodes, "a number above 0")
        self._reject("v_max_pu", ~(self.v_max_pu >= self.v_min_pu), self.nodes, "at least v_min_pu")
        for key in ("r_pu", "x_pu"):
            value = getattr(self, key)
            self._reject(key, ~(np.isfinite(value) & (value >= 0)), self.branches, "a number of at least 0")
        self._reject(
            "r_pu", self.r_pu + self.x_pu <= 0, self.branches, "an impedance above 0 (merge the two nodes instead)"
        )
        self._reject("i_max_pu", ~(self.i_max_pu > 0), self.branches, "a number above 0")
        if not (np.isfinite(self.slack_voltage_pu) and 0.5 <= self.slack_voltage_pu <= 1.5):
            raise InputError(
                f"feeder '{self.name}': slack_voltage_pu is {self.slack_voltage_pu!r}, expected about 1 (0.5 to 1.5)"
            )

    def _reject(self, key: str, bad: np.ndarray, names: Sequence[str], expected: str) -> None:
        if bad.any():
            at = int(np.argmax(bad))
            value = getattr(self, key)[at]
            raise InputError(f"feeder '{self.name}', '{names[at]}': {key} is {value:g}, expected {expected}")

    def node(self, name: str) -> int:
        """Position of a node by its name."""
        try:
            return self.nodes.index(str(name))
        except ValueError:
            raise InputError(
                f"feeder '{self.name}': there is no node '{name}'; its nodes are {_listed(self.nodes)}"
            ) from None

    def paths(self) -> np.ndarray:
        """M, shape (n - 1, n - 1): 1 where branch b lies between the root and node j + 1."""
        size = len(self.branches)
        paths = np.zeros((size, size))
        for b, above in enumerate(self.parent):
            paths[b, b] = 1.0
            if above > 0:
                paths[:, b] += paths[:, above - 1]
        return paths


def _positive(array: np.ndarray) -> np.ndarray:
    return np.isfinite(array) & (array > 0)


def _listed(names: Sequence[str]) -> str:
    more = f" and {len(names) - MOST_NAMES} more" if len(names) > MOST_NAMES else ""
    return ", ".join(names[:MOST_NAMES]) + more


def feeder_from_tables(
    name: str, root: str, nodes: Sequence[FeederNode], branches: Sequence[FeederBranch], slack_voltage_pu: float = 1.0
) -> Feeder:
    """A feeder from its tables, in any order. InputError names the loop, the island or the double name."""
    by_name = _by_name(name, nodes)
    if root not in by_name:
        raise InputError(
            f"feeder '{name}': the root is '{root}', which is no node; its nodes are {_listed(list(by_name))}"
        )
    _check_ends(name, by_name, branches)
    _check_no_loop(name, by_name, branches)
    order, feeding = _outwards(root, list(by_name), branches)
    lost = [node for node in by_name if node not in order]
    if lost:
        raise InputError(f"feeder '{name}': no closed branch connects {_listed(lost)} with the root '{root}'")
    at = {node: position for position, node in enumerate(order)}
    mine = [feeding[node] for node in order[1:]]
    table = [by_name[node] for node in order]
    return Feeder(
        name=name,
        nodes=tuple(order),
        branches=tuple(branch.name for _, branch in mine),
        parent=np.array([at[above] for above, _ in mine], dtype=int),
        r_pu=np.array([branch.r_pu for _, branch in mine]),
        x_pu=np.array([branch.x_pu for _, branch in mine]),
        i_max_pu=np.array([branch.i_max_pu for _, branch in mine]),
        load_p_mw=np.array([node.p_mw for node in table]),
        load_q_mvar=np.array([node.q_mvar for node in table]),
        v_min_pu=np.array([node.v_min_pu for node in table]),
        v_max_pu=np.array([node.v_max_pu for node in table]),
        base_kv=np.array([node.base_kv for node in table]),
        slack_voltage_pu=slack_voltage_pu,
        nominal_kv=np.array([node.base_kv if node.nominal_kv is None else node.nominal_kv for node in table]),
        **{key: np.array([getattr(node, key) for node in table]) for key in OPTIONAL_POWERS},
    )


def _by_name(feeder: str, nodes: Sequence[FeederNode]) -> dict[str, FeederNode]:
    found: dict[str, FeederNode] = {}
    for node in nodes:
        if node.name in found:
            raise InputError(f"feeder '{feeder}': two nodes are called '{node.name}': give each its own name")
        found[node.name] = node
    return found


def _check_ends(feeder: str, nodes: Mapping[str, FeederNode], branches: Sequence[FeederBranch]) -> None:
    for branch in branches:
        for end in (branch.from_node, branch.to_node):
            if end not in nodes:
                raise InputError(f"feeder '{feeder}': branch '{branch.name}' ends at '{end}', which is no node")


def _check_no_loop(feeder: str, nodes: Mapping[str, FeederNode], branches: Sequence[FeederBranch]) -> None:
    """A branch whose ends are already connected closes a loop: name the nodes around it."""
    beside: dict[str, list[str]] = {node: [] for node in nodes}
    for branch in branches:
        around = _path(beside, branch.from_node, branch.to_node)
        if around:
            raise InputError(
                f"feeder '{feeder}': branch '{branch.name}' closes a loop: {' - '.join([*around, branch.from_node])}; "
                "a feeder must be radial: open one of its branches"
            )
        beside[branch.from_node].append(branch.to_node)
        beside[branch.to_node].append(branch.from_node)


def _path(beside: Mapping[str, Sequence[str]], start: str, goal: str) -> list[str]:
    """Nodes from start to goal; empty if there is no way."""
    came_from, queue = {start: start}, deque([start])
    while queue and goal not in came_from:
        here = queue.popleft()
        for there in beside[here]:
            if there not in came_from:
                came_from[there] = here
                queue.append(there)
    if goal not in came_from:
        return []
    path = [goal]
    while path[-1] != start:
        path.append(came_from[path[-1]])
    return path[::-1]


def _outwards(
    root: str, names: Sequence[str], branches: Sequence[FeederBranch]
) -> tuple[list[str], dict[str, tuple[str, FeederBranch]]]:
    """Nodes reached from the root, parents first and else as in the table, and what feeds each."""
    rank = {name: position for position, name in enumerate(names)}
    touching: dict[str, list[FeederBranch]] = {name: [] for name in names}
    for branch in branches:
        touching[branch.from_node].append(branch)
        touching[branch.to_node].append(branch)
    order: list[str] = []
    feeding: dict[str, tuple[str, FeederBranch]] = {}
    waiting = [(rank[root], root)]
    while waiting:
        _, here = heapq.heappop(waiting)
        order.append(here)
        for branch in touching[here]:
            there = branch.to_node if branch.from_node == here else branch.from_node
            if there != root and there not in feeding:
                feeding[there] = (here, branch)
                heapq.heappush(waiting, (rank[there], there))
    return order, feeding


def read_feeder_csv(folder: Path | str, slack_voltage_pu: float = 1.0) -> Feeder:
    """The feeder in folder/bus.csv and folder/branch.csv; branches with tie = 1 are open and left out.

    Ohm become per unit by r / kV^2 and amperes MVA at 1 pu by sqrt(3) kV A / 1000 (base 1 MVA).
    """
    folder = Path(folder)
    buses = read_table(folder / "bus.csv", ["bus", "type", "base_kV", "Pd_kW", "Qd_kvar", "Vmin_pu", "Vmax_pu"])
    lines = read_table(folder / "branch.csv", ["branch", "from_bus", "to_bus", "r_ohm", "x_ohm", "tie", "I_max_A"])
    roots = [row for row in buses if row.text("type") == "slack"]
    if len(roots) != 1:
        names = ", ".join(row.text("bus") for row in roots) or "none"
        raise InputError(f"{folder / 'bus.csv'}: buses of type slack: {names}; expected exactly one root")
    nodes = [
        FeederNode(
            row.text("bus"),
            row.number("Pd_kW") / 1e3,
            row.number("Qd_kvar") / 1e3,
            row.number("Vmin_pu"),
            row.number("Vmax_pu"),
            row.number("base_kV"),
        )
        for row in buses
    ]
    kv = roots[0].number("base_kV")
    odd = next((node for node in nodes if node.base_kv != kv), None)
    if odd is not None or kv <= 0:
        raise InputError(
            f"{folder / 'bus.csv'}: base_kV differs between buses or is not above 0; expected one voltage level"
        )
    branches = [
        FeederBranch(
            f"branch {row.text('branch')}",
            row.text("from_bus"),
            row.text("to_bus"),
            row.number("r_ohm") / kv**2,
            row.number("x_ohm") / kv**2,
            np.sqrt(3.0) * kv * row.number("I_max_A") / 1e3,
        )
        for row in lines
        if not row.flag("tie")
    ]
    return feeder_from_tables(folder.name, roots[0].text("bus"), nodes, branches, slack_voltage_pu)
