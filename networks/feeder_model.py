"""A radial feeder in per unit on 1 MVA, so that powers are MW and Mvar as they stand.

Node 0 is the root. Branch b feeds node b + 1 from node `parent[b]`, and a parent always comes before
its children; so arrays over branches and arrays over nodes 1.. are in the same order.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from admm import InputError
from networks.branch_currents import RatedCurrents
from networks.radial import listed

BASE_MVA = 1.0
OPTIONAL_POWERS = (
    *("sgen_p_mw", "sgen_q_mvar", "constant_p_mw", "constant_q_mvar"),
    *("z_load_p_mw", "z_load_q_mvar", "shunt_p_mw", "shunt_q_mvar"),
)
V_MIN_PU, V_MAX_PU = 0.95, 1.05
"""Voltage limits where a source states none: a band that operators plan with inside the 0.9 to 1.1 of EN 50160."""
LEAST_IMPEDANCE_PU = 1e-8
"""Impedance on 1 MVA below which a branch joins its nodes. 100 MVA change the voltage across it by 1e-6 pu at most,
and above it a power flow in double precision still finds powers within 1e-7 MVA; at 20 kV it is 4 microohm."""


LEAST_RATING_PU = 1e-100
"""Ratings from here on may be divided by, and squared."""
INNER = (" star", " open end")
"""How names of nodes end that are no bus."""


def at_bus(name: str) -> str:
    """Say where a node is: "at bus 3", "at line 2 open end"."""
    return f"at {name}" if name.endswith(INNER) else f"at bus {name}"


@dataclass(frozen=True)
class Feeder:
    """nodes: n names, the root first. branches: n - 1 names. parent: (n - 1,) node that feeds branch b.

    r_pu, x_pu, i_max_pu, sending_shunt_mva, receiving_shunt_mva: (n - 1,), see `FeederBranch`.
    slack_voltage_pu: voltage magnitude at the root, per unit of its nominal_kv. All others: (n,), see `FeederNode`.
    Flows are computed per unit of base_kv, the root's voltage carried through the ratios of transformers;
    limits and results are per unit of nominal_kv. Limits of the root itself are not used.
    A limit that is NaN becomes V_MIN_PU or V_MAX_PU. limits_stated: (2, n) bool, whether v_min_pu, v_max_pu are the
    source's own.
    currents: which currents i_max_pu limits. aliases: {another name of a node: its name}.
    notes: what was left out or merged when the feeder was read, one sentence each.
    left_out: {bus of the source that is no node: why}. titles: {bus of the source: the name that it has there}.
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
    constant_p_mw: np.ndarray | None = None
    constant_q_mvar: np.ndarray | None = None
    z_load_p_mw: np.ndarray | None = None
    z_load_q_mvar: np.ndarray | None = None
    sending_shunt_mva: np.ndarray | None = None
    receiving_shunt_mva: np.ndarray | None = None
    currents: RatedCurrents | None = None
    aliases: Mapping[str, str] = field(default_factory=dict)
    notes: tuple[str, ...] = ()
    left_out: Mapping[str, str] = field(default_factory=dict)
    titles: Mapping[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        nodes, branches = len(self.nodes), len(self.branches)
        self._fill_in()
        for key in ("parent", "r_pu", "x_pu", "i_max_pu"):
            self._freeze(key, branches)
        for key in ("load_p_mw", "load_q_mvar", "v_min_pu", "v_max_pu", "base_kv", "nominal_kv", *OPTIONAL_POWERS):
            self._freeze(key, nodes)
        for key in ("sending_shunt_mva", "receiving_shunt_mva"):
            self._freeze(key, branches, complex)
        self._check()
        if self.currents is None:
            found = RatedCurrents.of_ends(self.sending_shunt_mva, self.receiving_shunt_mva)
            object.__setattr__(self, "currents", found)
        self.currents.check(self.name, branches)

    def _fill_in(self) -> None:
        """What is not given: limits, nominal voltages that are the base voltages, no powers beside the loads."""
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
        for key in ("sending_shunt_mva", "receiving_shunt_mva"):
            if getattr(self, key) is None:
                object.__setattr__(self, key, np.zeros(len(self.branches), dtype=complex))

    @property
    def base_per_nominal(self) -> np.ndarray:
        """(n,): a voltage per unit of base_kv times this is the voltage per unit of nominal_kv."""
        return self.base_kv / self.nominal_kv

    @property
    def limited(self) -> np.ndarray:
        """(n,) bool: nodes whose voltage matters; not the star points and open ends inside of equipment."""
        return np.isfinite(self.v_max_pu)

    @property
    def bus_names(self) -> tuple[str, ...]:
        """Names that a community may be connected at: of nodes that are buses, and their other names."""
        found = (name for name, is_bus in zip(self.nodes, self.limited, strict=True) if is_bus)
        return (*found, *self.aliases)

    @property
    def root_base_pu(self) -> float:
        """Voltage magnitude at the root per unit of its base_kv."""
        return float(self.slack_voltage_pu / self.base_per_nominal[0])

    @property
    def shunt_mva(self) -> np.ndarray:
        """(n,) complex: consumption of constant admittances at base_kv, without those of branches."""
        return self.shunt_p_mw + 1j * self.shunt_q_mvar

    @property
    def branch_shunt_mva(self) -> np.ndarray:
        """(n,) complex: consumption of the branches' own admittances at base_kv."""
        found = np.zeros(len(self.nodes), dtype=complex)
        np.add.at(found, self.parent, self.sending_shunt_mva)
        found[1:] += self.receiving_shunt_mva
        return found

    def fixed_load(
        self, load: np.ndarray, sgen: np.ndarray | float = 1.0, pv: np.ndarray | float = 0.0
    ) -> dict[str, np.ndarray]:
        """Scale the feeder's own consumption in time, as the arguments of a `DistributionModel`, (T, n) each.

        load, sgen: (T,) factors on loads and on static generators. pv: (T,) share of the loads' active power that
        customers generate. What is constant and shunts follow none of them.
        """
        load = np.asarray(load, dtype=float)
        sgen, pv = (np.broadcast_to(np.asarray(one, dtype=float), load.shape) for one in (sgen, pv))
        p, q = np.outer(load - pv, self.load_p_mw), np.outer(load, self.load_q_mvar)
        p -= np.outer(pv, self.z_load_p_mw)
        return {
            "load_p_mw": p + np.outer(sgen, self.sgen_p_mw) + self.constant_p_mw,
            "load_q_mvar": q + np.outer(sgen, self.sgen_q_mvar) + self.constant_q_mvar,
            "z_load_p_mw": np.outer(load, self.z_load_p_mw),
            "z_load_q_mvar": np.outer(load, self.z_load_q_mvar),
        }

    def _freeze(self, key: str, size: int, kind: type = float) -> None:
        array = np.array(getattr(self, key), dtype=int if key == "parent" else kind)
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
        self._reject("v_min_pu", ~(np.isfinite(self.v_min_pu) & (self.v_min_pu >= 0)), self.nodes, "at least 0")
        self._reject("v_max_pu", ~(self.v_max_pu > 0), self.nodes, "a number above 0")
        self._reject("v_max_pu", self.v_max_pu < self.v_min_pu, self.nodes, "at least v_min_pu")
        for key in ("r_pu", "x_pu", "sending_shunt_mva", "receiving_shunt_mva"):
            self._reject(key, ~np.isfinite(getattr(self, key)), self.branches, "a finite number")
        self._reject("i_max_pu", ~(self.i_max_pu >= LEAST_RATING_PU), self.branches, "a number above 0")
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
        """Position of a node by its name, or by another name of it."""
        name = str(name)
        try:
            return self.nodes.index(self.aliases.get(name, name))
        except ValueError:
            raise InputError(
                f"feeder '{self.name}': there is no node '{name}'; its nodes are {listed(self.nodes)}"
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
