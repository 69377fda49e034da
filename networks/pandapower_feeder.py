"""A radial feeder from a pandapower network, or an InputError that says what stands in the way.

Buses get their index as name; buses that closed switches join are one node, under the smallest index.

Feeders are series impedances in per unit. A transformer's ratio, tap included, goes into the base
voltage of what lies behind it, so V_kv = V_pu x base_kv holds everywhere and voltage limits are converted.
Line charging and no-load losses are taken as constant power, half at each end, at the voltages of the base
load: exact there, and off by the square of the voltage elsewhere. Where they are more than a tenth of the
load this is refused.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np

from admm import InputError
from networks.feeder import Feeder, FeederBranch, FeederNode, feeder_from_tables
from networks.pandapower_tables import (
    active,
    constant_power,
    explained,
    fused_buses,
    line_rating_mva,
    open_ends,
    open_network,
    refuse_unknown,
    transformers,
    value,
)
from networks.sweep import Sweep

LARGEST_CHARGING_SHARE = 0.1
CHARGING_PASSES = 6


@explained()
def feeder_from_pandapower(source: Any) -> Feeder:
    """The radial feeder in a pandapower network or JSON file; loads and static generators are its base load."""
    net = open_network(source)
    refuse_unknown(net)
    for index, _ in active(net, "gen"):
        raise InputError(
            f"pandapower network: gen {index} controls a voltage; in a feeder only the ext_grid may: use an sgen"
        )
    grids = list(active(net, "ext_grid"))
    if len(grids) != 1:
        raise InputError(
            f"pandapower network: {len(grids)} ext_grid in service, expected exactly one, the feeder's root"
        )
    return _FeederImport(net, int(grids[0][1]["bus"]), value(grids[0][1], "vm_pu", 1.0)).feeder()


class _FeederImport:
    """Collects one feeder's tables in ohm and kV and turns them into per unit."""

    def __init__(self, net: Any, root: int, slack_voltage_pu: float) -> None:
        self.net, self.slack_voltage_pu = net, slack_voltage_pu
        self.fused = fused_buses(net)
        if root not in self.fused:
            raise InputError(f"pandapower network: the ext_grid's bus {root} is out of service")
        self.root = self.fused[root]
        self.trafos = list(transformers(net))
        self.lines = [(i, row) for i, row in active(net, "line") if not open_ends(net, "l", i)]

    def feeder(self) -> Feeder:
        """The feeder; charging is taken at the voltages of the base load, which a few flows settle."""
        base_kv = self._base_voltages()
        self.voltage_pu = dict.fromkeys(base_kv, self.slack_voltage_pu)
        for _ in range(CHARGING_PASSES):
            feeder = self._build(base_kv)
            flow = Sweep(feeder).run(feeder.load_p_mw[None], feeder.load_q_mvar[None])
            if not flow.converged.all():
                break
            self.voltage_pu = {int(n): float(v) for n, v in zip(feeder.nodes, np.abs(flow.voltage_pu[0]), strict=True)}
        return feeder

    def _build(self, base_kv: dict[int, float]) -> Feeder:
        power = self._power(base_kv)
        nodes = [self._node(bus, base_kv[bus], power[bus]) for bus in sorted(base_kv)]
        branches = [*self._line_branches(base_kv), *self._trafo_branches(base_kv)]
        name = str(getattr(self.net, "name", "") or "pandapower network")
        return feeder_from_tables(name, str(self.root), nodes, branches, self.slack_voltage_pu)

    def _ends(self) -> Iterator[tuple[int, int, float]]:
        """(from, to, ratio of base voltages to / from) of every branch."""
        for index, row in self.lines:
            yield self._bus(row["from_bus"], f"line {index}"), self._bus(row["to_bus"], f"line {index}"), 1.0
        for one in self.trafos:
            yield self._bus(one.hv_bus, one.name), self._bus(one.lv_bus, one.name), one.lv_kv / one.hv_kv

    def _bus(self, bus: int, of: str) -> int:
        if int(bus) not in self.fused:
            raise InputError(f"pandapower network: {of} ends at bus {bus}, which is out of service")
        return self.fused[int(bus)]

    def _base_voltages(self) -> dict[int, float]:
        """Base voltage of every bus, kV: that of the root carried along lines and through ratios."""
        base_kv = {self.root: value(self.net.bus.loc[self.root], "vn_kv", 0.0)}
        beside: dict[int, list[tuple[int, float]]] = {}
        for start, end, ratio in self._ends():
            beside.setdefault(start, []).append((end, ratio))
            beside.setdefault(end, []).append((start, 1 / ratio))
        waiting = [self.root]
        while waiting:
            here = waiting.pop()
            for there, ratio in beside.get(here, []):
                if there not in base_kv:
                    base_kv[there] = base_kv[here] * ratio
                    waiting.append(there)
        for bus in self.fused.values():  # what is not connected is named by the feeder's own check
            base_kv.setdefault(bus, value(self.net.bus.loc[bus], "vn_kv", 1.0))
        return base_kv

    def _power(self, base_kv: dict[int, float]) -> dict[int, complex]:
        """Consumption of every bus, charging and no-load losses included, MVA."""
        power, shunt = dict.fromkeys(base_kv, 0j), dict.fromkeys(base_kv, 0j)
        for one in constant_power(self.net):
            if one.bus in self.fused:
                power[self.fused[one.bus]] += complex(one.p_mw, one.q_mvar)
        for start, end, drawn in self._shunts(base_kv):
            for bus in (start, end):
                shunt[bus] += drawn / 2 * self.voltage_pu[bus] ** 2
        charging, load = sum(map(abs, shunt.values())), sum(map(abs, power.values()))
        if charging > LARGEST_CHARGING_SHARE * load:
            raise InputError(
                f"pandapower network: line charging and no-load losses are {charging:.3g} MVA "
                f"against {load:.3g} MVA of load; a feeder takes them as constant power, "
                f"which is exact enough up to {LARGEST_CHARGING_SHARE:.0%} only; "
                "set c_nf_per_km = 0 to leave charging out"
            )
        return {bus: power[bus] + shunt[bus] for bus in power}

    def _live_ends(self, index: int, row: Any) -> list[int]:
        """Ends of a line that no switch opens: with one of them left it still charges."""
        opened = open_ends(self.net, "l", index)
        return [self._bus(row[key], f"line {index}") for key in ("from_bus", "to_bus") if int(row[key]) not in opened]

    def _shunts(self, base_kv: dict[int, float]) -> Iterator[tuple[int, int, complex]]:
        """(bus, bus, consumption at 1 pu that they share)."""
        for index, row in active(self.net, "line"):
            ends = self._live_ends(index, row)
            if not ends:
                continue
            start, end = ends[0], ends[-1]
            amount = value(row, "length_km", 0.0) * value(row, "parallel", 1.0)
            farad = value(row, "c_nf_per_km", 0.0) * 1e-9 * amount
            siemens = complex(value(row, "g_us_per_km", 0.0) * 1e-6 * amount, -2 * np.pi * float(self.net.f_hz) * farad)
            yield start, end, siemens * base_kv[start] ** 2
        for one in self.trafos:
            yield (
                self.fused[one.hv_bus],
                self.fused[one.lv_bus],
                complex(one.p_mw, one.q_mvar),
            )

    def _node(self, bus: int, base_kv: float, power: complex) -> FeederNode:
        row = self.net.bus.loc[bus]
        factor = value(row, "vn_kv", base_kv) / base_kv
        lower, upper = factor * value(row, "min_vm_pu", np.nan), factor * value(row, "max_vm_pu", np.nan)
        return FeederNode(str(bus), power.real, power.imag, lower, upper, base_kv)

    def _line_branches(self, base_kv: dict[int, float]) -> Iterator[FeederBranch]:
        for index, row in self.lines:
            start, end = self.fused[int(row["from_bus"])], self.fused[int(row["to_bus"])]
            per_unit = value(row, "length_km", 0.0) / value(row, "parallel", 1.0) / base_kv[start] ** 2
            yield FeederBranch(
                f"line {index}",
                str(start),
                str(end),
                value(row, "r_ohm_per_km", 0.0) * per_unit,
                value(row, "x_ohm_per_km", 0.0) * per_unit,
                line_rating_mva(row, base_kv[start]),
            )

    def _trafo_branches(self, base_kv: dict[int, float]) -> Iterator[FeederBranch]:
        for one in self.trafos:
            start, end = self.fused[one.hv_bus], self.fused[one.lv_bus]
            square = base_kv[end] ** 2
            yield FeederBranch(
                one.name,
                str(start),
                str(end),
                one.r_ohm / square,
                one.x_ohm / square,
                one.rating_mva * base_kv[end] / one.lv_kv,
            )
