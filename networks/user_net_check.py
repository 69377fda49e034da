"""The schedule in the user's own pandapower network: what the import made of that network is not used here.

A run ends with this check wherever a feeder's source is a file that pandapower reads. Agents become loads at their
buses, loads and static generators follow the case's profiles, and pandapower solves every period.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from networks.feeder_model import Feeder
from networks.pandapower_tables import NO_RATING_KA, open_network, quiet
from networks.user_net_rewrite import (
    couplers_as_switches,
    shares_as_shunts,
    with_types,
    without_idle_rows,
    without_other_options,
)

RESULTS = ("line", "trafo", "trafo3w", "impedance")
SWITCH_ENDS = ("p_from_mw", "p_to_mw")
"""Tables whose elements have losses in pandapower's results."""
LOADS, SGENS = ("load", "asymmetric_load", "motor"), ("sgen", "asymmetric_sgen")
"""Tables that follow the profile of loads, and that of static generators."""
MEMBER = re.compile(r"\b(line|trafo|switch) (\d+)\b")
"""Elements in the name of a branch, of which several may be parallel."""
LOSS_FLOOR, LEAST_LOSSES_MW = 0.01, 1e-4
"""Losses are compared with at least this share of the largest period's, and with at least this: pandapower stops at
1e-8 MVA a bus."""


@dataclass(frozen=True)
class NetSchedule:
    """What happens in the user's network.

    load, sgen, pv: (T,) factors on loads, on static generators, and share of the loads' active power that customers
    generate. drawn_mva: {bus: (T,) complex} of agents and of reactive support, consumption positive.
    slack_voltage_pu: overrides the external grid's; None for the file's own.
    """

    load: np.ndarray
    sgen: np.ndarray
    pv: np.ndarray
    drawn_mva: Mapping[str, np.ndarray] = field(default_factory=dict)
    slack_voltage_pu: float | None = None


@dataclass(frozen=True)
class UserNet:
    """A feeder's source and what the case changes of it. schedule: without agents.

    rating_scale: factor on its ratings. lower_limits, upper_limits: whether its own voltage limits hold.
    """

    source: Path
    schedule: NetSchedule
    rating_scale: float = 1.0
    lower_limits: bool = True
    upper_limits: bool = True


@dataclass(frozen=True)
class NetFlow:
    """pandapower's results. voltage_pu: {bus: (T,)}. losses_mw: (T,) of branches.

    loading: {element such as "line 3": (T,)}, share of the rating. v_min_pu, v_max_pu: {bus: limit in the file}.
    """

    voltage_pu: dict[str, np.ndarray]
    losses_mw: np.ndarray
    loading: dict[str, np.ndarray]
    v_min_pu: dict[str, float]
    v_max_pu: dict[str, float]


class NoFlowError(Exception):
    """pandapower finds no power flow. period: in which one. why: what it raised, where it cannot calculate at all."""

    def __init__(self, period: int, why: str = "") -> None:
        super().__init__(f"no power flow in period {period}{why}")
        self.period, self.why = period, why


def user_net_flow(source: Path | Any, schedule: NetSchedule) -> NetFlow:
    """Solve the user's network with the schedule.

    Args:
        source: the file, or a network, which is changed.
        schedule: of all periods.

    Raises:
        NoFlowError: pandapower does not converge.
    """
    with quiet():
        net = open_network(source)
        with_types(net)
        without_idle_rows(net)
        without_other_options(net)
        net = _Scheduled(net, schedule)
        return net.solve()


def _active_mw(table: str, row: Any) -> float:
    """Active power of an element in a row, before its scaling, as pandapower takes it."""
    if table == "asymmetric_load":
        return float(row["p_a_mw"] + row["p_b_mw"] + row["p_c_mw"])
    if table == "motor":
        return float(row["pn_mech_mw"] / row["efficiency_percent"] * row["loading_percent"])
    return float(row["p_mw"])


class _Scheduled:
    """The user's network with rows for what the case adds, and the numbers of the file by which profiles multiply."""

    def __init__(self, net: Any, schedule: NetSchedule) -> None:
        import pandapower

        self.net, self.schedule = net, schedule
        self.periods = schedule.load.size
        self.scaling = {table: net[table]["scaling"].to_numpy(dtype=float, copy=True) for table in (*LOADS, *SGENS)}
        self.own = {table: net[table].index for table in self.scaling}
        if schedule.slack_voltage_pu is not None:
            net.ext_grid["vm_pu"] = schedule.slack_voltage_pu
        couplers_as_switches(net)
        self.customers = self._customers() if schedule.pv.any() else {}
        self.shunt_rows, self.shunt_mva = shares_as_shunts(net)
        self.customer_rows = pandapower.create_loads(net, list(self.customers), p_mw=0.0) if self.customers else []
        buses = [int(bus) for bus in schedule.drawn_mva]
        self.drawn_rows = pandapower.create_loads(net, buses, p_mw=0.0) if buses else []

    def _customers(self) -> dict[int, float]:
        """Active power of loads by bus, MW: customers' own generation is a share of it."""
        found: dict[int, float] = {}
        for table in LOADS:
            elements = self.net[table]
            for _, row in elements[elements["in_service"].astype(bool)].iterrows():
                bus, active_mw = int(row["bus"]), _active_mw(table, row) * float(row["scaling"])
                found[bus] = found.get(bus, 0.0) + active_mw
        return found

    def solve(self) -> NetFlow:
        buses = [bus for bus, row in self.net.bus.iterrows() if bool(row["in_service"])]
        voltage, losses = np.empty((self.periods, len(buses))), np.zeros(self.periods)
        loading: dict[str, np.ndarray] = {}
        for period in range(self.periods):
            self._run(period)
            voltage[period] = self.net.res_bus.loc[buses, "vm_pu"]
            losses[period] = self._losses_mw()
            for name, share in self._loading():
                loading.setdefault(name, np.zeros(self.periods))[period] = share
        supplied = np.isfinite(voltage).all(axis=0)
        return NetFlow(
            {str(bus): voltage[:, i] for i, bus in enumerate(buses) if supplied[i]},
            losses,
            loading,
            self._limits("min_vm_pu"),
            self._limits("max_vm_pu"),
        )

    def _losses_mw(self) -> float:
        """Losses of all branches; switches with an impedance are branches, too."""
        found = sum(self.net[f"res_{table}"]["pl_mw"].sum() for table in RESULTS if len(self.net[table]))
        if len(self.net.switch):
            found += self.net.res_switch.reindex(columns=SWITCH_ENDS).sum().sum()
        return float(found)

    def _run(self, period: int) -> None:
        """Write one period into the tables and solve it."""
        import pandapower

        net, schedule = self.net, self.schedule
        for table, scaling in self.scaling.items():
            factor = schedule.load[period] if table in LOADS else schedule.sgen[period]
            net[table].loc[self.own[table], "scaling"] = factor * scaling
        if self.customers:
            net.load.loc[self.customer_rows, "p_mw"] = -schedule.pv[period] * np.array(list(self.customers.values()))
        drawn = np.array([one[period] for one in schedule.drawn_mva.values()])
        if drawn.size:
            net.load.loc[self.drawn_rows, "p_mw"], net.load.loc[self.drawn_rows, "q_mvar"] = drawn.real, drawn.imag
        if len(self.shunt_rows):
            at = schedule.load[period] * self.shunt_mva
            net.shunt.loc[self.shunt_rows, "p_mw"], net.shunt.loc[self.shunt_rows, "q_mvar"] = at.real, at.imag
        reused = None if len(self.shunt_rows) else {"bus_pq": True, "gen": False, "trafo": False}
        try:
            try:
                pandapower.runpp(net, numba=False, recycle=reused)
            except FloatingPointError:  # its start divides by reactances, which may be 0
                pandapower.runpp(net, numba=False, init="flat", calculate_voltage_angles=False)
        except pandapower.LoadflowNotConverged:
            raise NoFlowError(period) from None
        except Exception as error:  # of any kind: it calculates with whatever the file holds
            raise NoFlowError(period, f" ({type(error).__name__}: {error})") from None

    def _loading(self) -> Iterator[tuple[str, float]]:
        for table in ("line", "trafo"):
            elements, found = self.net[table], self.net[f"res_{table}"]
            limit = elements.get("max_loading_percent")
            for index in elements.index:
                if table == "line" and not elements.at[index, "max_i_ka"] < NO_RATING_KA:
                    continue
                percent = 100.0 if limit is None or not np.isfinite(limit.at[index]) else float(limit.at[index])
                yield f"{table} {index}", float(found.at[index, "loading_percent"]) / percent
        rated = self.net.switch["in_ka"] > 0
        for index in self.net.switch.index[rated & (self.net.switch["z_ohm"] > 0)]:
            yield f"switch {index}", float(self.net.res_switch.at[index, "loading_percent"]) / 100

    def _limits(self, key: str) -> dict[str, float]:
        if key not in self.net.bus:
            return {}
        return {str(bus): float(limit) for bus, limit in self.net.bus[key].items() if np.isfinite(limit)}


@dataclass(frozen=True)
class Error:
    """The largest of some errors, and where it is."""

    value: float = 0.0
    where: str = ""

    @classmethod
    def largest(cls, errors: Mapping[str, np.ndarray]) -> Error:
        """errors: (T,) each, by the name of what they belong to."""
        if not errors:
            return cls()
        name, worst = max(errors.items(), key=lambda pair: np.nan_to_num(pair[1], nan=np.inf).max())
        period = int(np.nan_to_num(worst, nan=np.inf).argmax())
        return cls(float(worst[period]), f"{name} in period {period}")


def voltage_error(feeder: Feeder, voltage_pu: np.ndarray, found: NetFlow) -> Error:
    """Compare voltages (T, n) per unit of nominal_kv with those of the user's network."""
    errors = {}
    for bus, at in _places(feeder).items():
        if bus in found.voltage_pu:
            errors[f"bus {bus}"] = np.abs(voltage_pu[:, at] - found.voltage_pu[bus])
    return Error.largest(errors)


def _places(feeder: Feeder) -> dict[str, int]:
    """Position of every bus, those that were merged with another one included."""
    nodes = {name: i for i, name in enumerate(feeder.nodes)}
    return nodes | {other: nodes[name] for other, name in feeder.aliases.items()}


def loss_error(losses_mw: np.ndarray, found: NetFlow) -> Error:
    """Compare losses (T,) of branches; as a share of the period's, but at least of LOSS_FLOOR."""
    floor = max(LOSS_FLOOR * float(found.losses_mw.max()), LEAST_LOSSES_MW)
    return Error.largest({"losses": np.abs(losses_mw - found.losses_mw) / np.maximum(found.losses_mw, floor)})


def loading_error(feeder: Feeder, loading: np.ndarray, rating_scale: float, found: NetFlow) -> Error:
    """Compare loadings (T, n - 1), shares of the ratings, which the case has multiplied by rating_scale."""
    errors = {}
    for b, name in enumerate(feeder.branches):
        members = [found.loading[key] for key in map(" ".join, MEMBER.findall(name)) if key in found.loading]
        if members and np.isfinite(feeder.i_max_pu[b]):
            errors[name] = np.abs(loading[:, b] - np.max(members, axis=0) / rating_scale)
    return Error.largest(errors)


def limit_excess(feeder: Feeder, found: NetFlow, lower: bool, upper: bool) -> Error:
    """Find how far voltages are beyond the limits that the file states; lower, upper: which of them hold."""
    root = {name for name, at in _places(feeder).items() if at == 0}
    excess = {}
    for bus in found.voltage_pu.keys() - root:
        voltage, none = found.voltage_pu[bus], np.inf
        below = (found.v_min_pu.get(bus, -none) if lower else -none) - voltage
        above = voltage - (found.v_max_pu.get(bus, none) if upper else none)
        excess[f"bus {bus}"] = np.maximum(np.maximum(below, above), 0.0)
    return Error.largest(excess)
