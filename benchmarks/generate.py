"""Problems of any size from this project's own models: N communities on one feeder below one transmission grid.

Communities are the ten of the case `ieee33-10ec` in turn, each copy with load, PV, storage, cars and heat drawn anew
from a seed, its profiles shifted in time, and shrunk so that all copies of a kind together are as large as the one of
the case. The feeder therefore carries the same power whatever N is. Several communities share a node.

The operators' programs are fixed: the feeder's is the one at the optimum of the case, with the flows linearised there
and with the limits that come near there; the thousands that do not would only slow down the solvers that ADMM is
compared with. Per kind, and so per node, the operator sees the sum of its communities:

    sum over the kind's communities of y_i - Y_kind = 0        for p_mw, flex_up_mw, flex_down_mw
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Any

import numpy as np
import scipy.sparse as sp

import admm
from networks.case import Case, load_case
from networks.cases.build_ieee33_10ec import COMMUNITIES, FOLDER
from networks.cases.build_tools import private_columns, read_source, shifted
from networks.centralised import solve_centralised
from networks.profiles import STAMP
from subproblems import QuadraticProgram
from subproblems.community import Community, compile_community
from subproblems.horizon import Horizon

CASE_OF_PERIODS = {24: "ieee33-10ec", 96: "ieee33-10ec:winter-15min"}
QUARTERS = 96
SIZES = {
    "pv": ("installed_kw",),
    "battery": ("capacity_kwh", "charge_kw", "discharge_kw"),
    "thermostatic_load": (),
    "heat_pump": (),
    "ev_fleet": (),
    "shiftable_load": (),
}
"""Which attributes of a device are its size; cars are counted, heating belongs to its building."""
SPREAD = 0.3
FLEX_COST = {
    "flex_up_cost_eur_per_mwh": 1.0,
    "flex_down_cost_eur_per_mwh": 1.0,
    "flex_quadratic_cost_eur_per_mw2h": 4.0,
}
DSO = "dso"


@dataclass(frozen=True)
class Hub:
    """kind: the community that it is drawn from. share: its size as a part of that one."""

    name: str
    kind: str
    share: float


def generate(
    hubs: int, periods: int = 24, seed: int = 0
) -> tuple[dict[str, QuadraticProgram], tuple[admm.Coupling, ...]]:
    """Programs of all agents and their couplings; the same for the same arguments. Raises InputError."""
    if periods not in CASE_OF_PERIODS or hubs < 1:
        wanted = " or ".join(map(str, CASE_OF_PERIODS))
        raise admm.InputError(f"generate: hubs is {hubs}, periods {periods}; expected at least 1 hub, {wanted} periods")
    case, random = load_case(CASE_OF_PERIODS[periods]), np.random.default_rng([seed, hubs, periods])
    members = _members(hubs, random)
    nominal = {coupling.lower: coupling for coupling in case.couplings}
    couplings = {hub.name: _shrunk(nominal[hub.kind], hub) for hub in members}
    programs = {hub.name: _community_program(hub, case, random) for hub in members}
    upstream = nominal[DSO]
    programs[upstream.upper] = case.build_agent(upstream.upper).qp
    programs[DSO] = _operator_program(case, members, couplings, upstream)
    return programs, (*couplings.values(), upstream)


def _members(hubs: int, random: np.random.Generator) -> list[Hub]:
    """Kinds in turn; the copies of a kind have random sizes that add up to it."""
    kinds = list(COMMUNITIES)
    weight = random.uniform(1 - SPREAD, 1 + SPREAD, hubs)
    total = np.bincount(np.arange(hubs) % len(kinds), weight, len(kinds))
    return [Hub(f"hub{i:04d}", kinds[i % len(kinds)], float(weight[i] / total[i % len(kinds)])) for i in range(hubs)]


def _shrunk(coupling: admm.Coupling, hub: Hub) -> admm.Coupling:
    quantities = [replace(quantity, scale=quantity.scale * hub.share) for quantity in coupling.quantities]
    return admm.Coupling(f"{hub.name}-{DSO}", hub.name, DSO, quantities)


# ---------------------------------------------------------------- communities


def _community_program(hub: Hub, case: Case, random: np.random.Generator) -> QuadraticProgram:
    """A variation of the kind at its full size, then shrunk to the hub's share."""
    _, drawn = COMMUNITIES[hub.kind]
    profiles = _profiles(hub.kind, case.horizon, random)
    limit = float(drawn.connection_kw)
    devices = [{"kind": "load", "name": "load", "power_kw": "load_kw"}, *(_varied(d, random) for d in drawn.devices)]
    community = Community.model_validate(
        {"import_limit_kw": limit, "export_limit_kw": limit, "devices": devices, **FLEX_COST}
    )

    def series(name: str | float) -> np.ndarray:
        return profiles[name].copy() if name in profiles else case.profiles.series(name)

    return shrink(compile_community(hub.name, community, case.horizon, series, f"{hub.name}-{DSO}"), hub.share)


def _profiles(kind: str, horizon: Horizon, random: np.random.Generator) -> dict[str, np.ndarray]:
    """The kind's own columns on the horizon's day, turned by up to an hour; load and heat larger or smaller."""
    stamps, source = read_source(FOLDER)
    first = stamps.index(f"{horizon.start:{STAMP}}")
    columns = private_columns(COMMUNITIES[kind][1], source)
    turn, found = int(random.integers(0, 5)), {}
    for name, column in columns.items():
        day = shifted(column, 0 if name == "pv_pu_own" else turn)[first : first + QUARTERS]
        factor = random.uniform(1 - SPREAD / 2, 1 + SPREAD / 2) if name in ("load_kw", "heat_kw") else 1.0
        found[name] = factor * day.reshape(horizon.periods, -1).mean(axis=1)
    return found


def _varied(device: Mapping[str, Any], random: np.random.Generator) -> dict[str, Any]:
    """The device with its size drawn anew; a heat pump stays, since its heat demand is drawn already."""
    factor, varied = random.uniform(1 - SPREAD, 1 + SPREAD), dict(device)
    for key in SIZES[device["kind"]]:
        varied[key] = device[key] * factor
    if device["kind"] == "ev_fleet":
        varied["classes"] = [
            {**one, "vehicles": max(1, round(one["vehicles"] * random.uniform(1 - SPREAD, 1 + SPREAD)))}
            for one in device["classes"]
        ]
    return varied


def shrink(program: QuadraticProgram, share: float) -> QuadraticProgram:
    """The program of `share` such agents: cost share f(x / share), rows share l <= A x <= share u."""
    return replace(
        program,
        P=program.P / share,
        l=share * program.l,
        u=share * program.u,
        constant=share * program.constant,
        variable_scale=share * program.variable_scale,
        row_scale=share * program.row_scale,
    )


# ---------------------------------------------------------------- distribution operator


@lru_cache
def case_operator(case_name: str) -> QuadraticProgram:
    """The case's distribution operator at the optimum of the case."""
    return solve_centralised(load_case(case_name)).programs[DSO]


def _operator_program(
    case: Case, members: list[Hub], couplings: Mapping[str, admm.Coupling], upstream: admm.Coupling
) -> QuadraticProgram:
    """The case's operator with, below each of its communities, a copy of the values of every hub of that kind."""
    base = case_operator(case.name)
    below = {c.lower: c for c in case.couplings if c.name != upstream.name}
    copies = _Copies(base, case.horizon.periods)
    for hub in members:
        for quantity in couplings[hub.name].quantities:
            copies.add(couplings[hub.name].name, quantity, base.boundary[below[hub.kind].name, quantity.name])
    copies.boundary |= {key: at for key, at in base.boundary.items() if key[0] == upstream.name}
    return copies.program({(c.name, q.name): q.scale for c in below.values() for q in c.quantities})


class _Copies:
    """Variables for every hub's values beside a base program, and the rows that sum them up."""

    def __init__(self, base: QuadraticProgram, periods: int) -> None:
        self.base, self.periods = base, periods
        self.boundary: dict[tuple[str, str], np.ndarray] = {}
        self._sums: list[np.ndarray] = []
        self._scales: list[float] = []
        self._not_negative: list[bool] = []

    def add(self, coupling: str, quantity: admm.Quantity, sum_at: np.ndarray) -> None:
        start = self.base.size + len(self._sums) * self.periods
        self.boundary[coupling, quantity.name] = start + np.arange(self.periods)
        self._sums.append(sum_at)
        self._scales.append(quantity.scale)
        self._not_negative.append(quantity.name != "p_mw")

    def program(self, sums: Mapping[tuple[str, str], float]) -> QuadraticProgram:
        """sums: {key of the base's boundary that is a sum: its scale}."""
        base, copies = self.base, len(self._sums) * self.periods
        targets = np.concatenate([base.boundary[key] for key in sums])
        row_of = np.full(base.size, -1)
        row_of[targets] = np.arange(targets.size)
        rows = row_of[np.concatenate(self._sums)]
        add_up = sp.csc_matrix((np.ones(copies), (rows, np.arange(copies))), (targets.size, copies))
        pick = sp.csc_matrix((-np.ones(targets.size), (np.arange(targets.size), targets)), (targets.size, base.size))
        signed = np.repeat(self._not_negative, self.periods)
        flex = sp.eye_array(copies, format="csr")[np.flatnonzero(signed)]
        zeros, open_end = np.zeros(targets.size), np.full(flex.shape[0], np.inf)
        scale = np.repeat(self._scales, self.periods)
        return QuadraticProgram(
            P=sp.block_diag([base.P, sp.csc_matrix((copies, copies))], format="csc"),
            q=np.concatenate([base.q, np.zeros(copies)]),
            A=sp.block_array([[base.A, None], [pick, add_up], [None, flex]], format="csc"),
            l=np.concatenate([base.l, zeros, np.zeros(flex.shape[0])]),
            u=np.concatenate([base.u, zeros, open_end]),
            boundary=self.boundary,
            constant=base.constant,
            variable_scale=np.concatenate([base.variable_scale, scale]),
            row_scale=np.concatenate([base.row_scale, np.repeat(list(sums.values()), self.periods), scale[signed]]),
            name=DSO,
        )
