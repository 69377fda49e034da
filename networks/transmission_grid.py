"""A transmission grid for DC power flow: buses, branches, generators and their costs; read from CSV tables."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

import numpy as np
import scipy.sparse as sp
from scipy.sparse.csgraph import connected_components

from admm import InputError
from networks.tables import read_table
from subproblems.devices.sizes import LEAST

BASE_MVA = 100.0
RAMP_SHARE_PER_HOUR = 0.5
"""Default ramp as a share of Pmax an hour: neither source gives ramps; a middle value for thermal units."""
RESERVE_COST = 5.0
RESERVE_QUADRATIC_COST = 0.02
"""Defaults for holding reserve, EUR/MW and EUR/MW^2 an hour: no source gives them."""
LARGEST_SHIFT_DEGREE = 360.0
LEAST_X_PU = 1e-12
"""Below it a branch's susceptance has no meaning beside those of others, and may be infinite."""
COST_SETS = ("pglib", "matpower")


@dataclass(frozen=True)
class Generator:
    """Costs of p and of reserve held: linear EUR/MWh, quadratic EUR/(MW^2 h); USD of the sources count as EUR."""

    name: str
    bus: str
    p_min_mw: float
    p_max_mw: float
    linear_cost_eur_per_mwh: float
    quadratic_cost_eur_per_mw2h: float = 0.0
    ramp_mw_per_hour: float = np.inf
    reserve_cost_eur_per_mwh: float = RESERVE_COST
    reserve_quadratic_cost_eur_per_mw2h: float = RESERVE_QUADRATIC_COST

    @property
    def size_mw(self) -> float:
        """What ramps are a share of; a generator that only consumes, such as an export, counts by that."""
        return max(self.p_max_mw, -self.p_min_mw)


@dataclass(frozen=True)
class TransmissionBranch:
    """x_pu on 100 MVA; tap at the from side. rating_mw: infinite for none."""

    name: str
    from_bus: str
    to_bus: str
    x_pu: float
    rating_mw: float = np.inf
    tap: float = 1.0
    shift_degree: float = 0.0

    @property
    def mw_per_rad(self) -> float:
        """100 / (x tap), as MATPOWER's DC model has it."""
        return BASE_MVA / (self.x_pu * self.tap)


@dataclass(frozen=True)
class TransmissionGrid:
    """buses: names, one of them `slack` (angle 0). Constant cost: of the generators.

    load_mw, sgen_mw, constant_mw: (buses,), base case, consumption positive: of loads; of static generators and others
    that nobody moves, negative where they generate; of what changes with no profile, such as shunts.
    aliases: {other name of a bus: its name}. own_load_mw: {either name: its part of load_mw}, of joined buses. notes:
    lines that a user should see. titles: {bus of the source: the name that it has there}.
    """

    name: str
    buses: tuple[str, ...]
    slack: str
    load_mw: np.ndarray
    branches: tuple[TransmissionBranch, ...]
    generators: tuple[Generator, ...]
    constant_cost_eur_per_hour: float = field(default=0.0)
    sgen_mw: np.ndarray | None = None
    constant_mw: np.ndarray | None = None
    aliases: Mapping[str, str] = field(default_factory=dict)
    own_load_mw: Mapping[str, float] = field(default_factory=dict)
    notes: tuple[str, ...] = ()
    titles: Mapping[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        for key in ("buses", "branches", "generators"):
            object.__setattr__(self, key, tuple(getattr(self, key)))
        for key in ("load_mw", "sgen_mw", "constant_mw"):
            self._take_power(key)
        names = Counter([*self.buses, *(b.name for b in self.branches), *(g.name for g in self.generators)])
        twice = next((name for name, count in names.items() if count > 1), None)
        if twice is not None:
            raise self._error(f"'{twice}' is the name of two things: give each its own")
        self.bus(self.slack)
        self._check_branches()
        self._check_generators()
        self._check_connected()

    @property
    def bus_names(self) -> tuple[str, ...]:
        """All names that a bus answers to."""
        return (*self.aliases, *self.buses)

    @property
    def fixed_mw(self) -> np.ndarray:
        """(buses,): consumption that nobody moves, as in the source."""
        return self.load_mw + self.sgen_mw + self.constant_mw

    def _error(self, message: str) -> InputError:
        return InputError(f"transmission grid '{self.name}': {message}")

    def _take_power(self, key: str) -> None:
        given = getattr(self, key)
        power = np.zeros(len(self.buses)) if given is None else np.array(given, dtype=float)
        if power.shape != (len(self.buses),) or not np.isfinite(power).all():
            raise self._error(f"{key} has shape {power.shape}, expected {(len(self.buses),)} finite numbers")
        object.__setattr__(self, key, power)

    @cached_property
    def _place(self) -> dict[str, int]:
        place = {name: i for i, name in enumerate(self.buses)}
        return {**{other: place[name] for other, name in self.aliases.items()}, **place}

    def bus(self, name: str) -> int:
        """Position of a bus by its name."""
        if str(name) not in self._place:
            raise self._error(f"there is no bus '{name}'; its buses are {', '.join(self.buses[:8])} ...")
        return self._place[str(name)]

    def load_at_mw(self, name: str) -> float:
        """What loads at a bus consume, without those of buses that switches join with it."""
        return self.own_load_mw.get(str(name), float(self.load_mw[self.bus(name)]))

    def _check_branches(self) -> None:
        for one in self.branches:
            for key, end in (("from_bus", one.from_bus), ("to_bus", one.to_bus)):
                if end not in self._place:
                    raise self._error(f"branch '{one.name}': {key} is '{end}', which is no bus of it")
            if one.from_bus == one.to_bus:
                raise self._error(f"branch '{one.name}' begins and ends at bus '{one.to_bus}'")
            if not (np.isfinite(one.x_pu) and abs(one.x_pu) >= LEAST_X_PU):
                expected = f"expected a finite number of at least {LEAST_X_PU:g} in size"
                raise self._error(f"branch '{one.name}': x_pu is {one.x_pu!r}, {expected}")
            for key, good in (
                ("rating_mw", one.rating_mw >= LEAST),
                ("tap", 0.5 < one.tap < 2),
                ("shift_degree", abs(one.shift_degree) <= LARGEST_SHIFT_DEGREE),
            ):
                if not good:
                    raise self._error(
                        f"branch '{one.name}': {key} is {getattr(one, key)!r}, expected a sensible number"
                    )

    def _check_generators(self) -> None:
        if not self.generators:
            raise self._error("has no generators, expected at least one")
        for one in self.generators:
            if one.bus not in self._place:
                raise self._error(f"generator '{one.name}': bus is '{one.bus}', which is no bus of it")
            if not (np.isfinite([one.p_min_mw, one.p_max_mw]).all() and one.p_min_mw <= one.p_max_mw):
                raise self._error(f"generator '{one.name}': p_min_mw is {one.p_min_mw!r} and p_max_mw {one.p_max_mw!r}")
            for key in ("quadratic_cost_eur_per_mw2h", "reserve_quadratic_cost_eur_per_mw2h", "ramp_mw_per_hour"):
                if not getattr(one, key) >= 0:
                    raise self._error(f"generator '{one.name}': {key} is {getattr(one, key)!r}, expected at least 0")

    def _check_connected(self) -> None:
        ends = np.array([[self.bus(one.from_bus), self.bus(one.to_bus)] for one in self.branches]).reshape(-1, 2)
        size = len(self.buses)
        graph = sp.coo_array((np.ones(len(ends)), (ends[:, 0], ends[:, 1])), (size, size))
        part = connected_components(graph, directed=False)[1]
        reached = {name for name, one in zip(self.buses, part, strict=True) if one == part[self.bus(self.slack)]}
        lost = [name for name in self.buses if name not in reached]
        if lost:
            raise self._error(f"no branch connects {', '.join(lost[:8])} with the slack bus '{self.slack}'")


def read_transmission_csv(
    folder: Path | str,
    cost_set: str = "pglib",
    rating_scale: float = 1.0,
    ramp_share_per_hour: float = RAMP_SHARE_PER_HOUR,
) -> TransmissionGrid:
    """The grid in folder/bus.csv, branch.csv and gen.csv.

    cost_set: "pglib" or "matpower", for the generators' costs and limits. rating_scale: factor on all
    ratings, below 1 for congestion. Generators without active power (condensers) are left out.
    """
    folder = Path(folder)
    if cost_set not in COST_SETS:
        raise InputError(f"{folder.name}: cost_set is {cost_set!r}, expected one of {', '.join(COST_SETS)}")
    for key, value in (("rating_scale", rating_scale), ("ramp_share_per_hour", ramp_share_per_hour)):
        if not (np.isfinite(value) and value > 0):
            raise InputError(f"{folder.name}: {key} is {value!r}, expected a number above 0")
    buses = read_table(folder / "bus.csv", ["bus", "type", "Pd_MW", "Gs_MW_at_1pu"])
    slack = [row.text("bus") for row in buses if row.text("type") == "slack"]
    if len(slack) != 1:
        raise InputError(f"{folder / 'bus.csv'}: {len(slack)} buses of type slack, expected exactly one")
    return TransmissionGrid(
        name=folder.name,
        buses=tuple(row.text("bus") for row in buses),
        slack=slack[0],
        load_mw=np.array([row.number("Pd_MW") for row in buses]),
        branches=_read_branches(folder / "branch.csv", rating_scale),
        generators=_read_generators(folder / "gen.csv", cost_set, ramp_share_per_hour),
        constant_mw=np.array([row.number("Gs_MW_at_1pu") for row in buses]),
    )


def _read_branches(path: Path, rating_scale: float) -> tuple[TransmissionBranch, ...]:
    columns = ["branch", "from_bus", "to_bus", "x_pu", "tap_ratio_at_from_bus", "rate_A_MVA"]
    return tuple(
        TransmissionBranch(
            f"branch {row.text('branch')}",
            row.text("from_bus"),
            row.text("to_bus"),
            row.number("x_pu"),
            rating_scale * row.number("rate_A_MVA"),
            row.number("tap_ratio_at_from_bus"),
        )
        for row in read_table(path, columns)
    )


def _read_generators(path: Path, cost_set: str, ramp_share_per_hour: float) -> tuple[Generator, ...]:
    p_min, p_max = f"Pmin_MW_{cost_set}", f"Pmax_MW_{cost_set}"
    linear, quadratic = f"cost_c1_USD_per_MWh_{cost_set}", f"cost_c2_USD_per_MW2h_{cost_set}"
    return tuple(
        Generator(
            f"generator {row.text('gen')}",
            row.text("bus"),
            row.number(p_min),
            row.number(p_max),
            row.number(linear),
            row.number(quadratic),
            ramp_share_per_hour * row.number(p_max),
        )
        for row in read_table(path, ["gen", "bus", p_min, p_max, linear, quadratic])
        if row.number(p_max) > 0 or row.number(p_min) < 0
    )
