"""A radial feeder from a pandapower network, or an InputError that says what stands in the way.

Buses get their index as name; buses that closed switches join are one node, under the smallest index, and the others
are aliases. The circuit is the one that pandapower's power flow solves, see `networks.pandapower_circuit`: every branch
is a pi circuit behind an ideal ratio. The ratio, tap included, goes into the base voltage of what lies behind it, so
V_kv = V_pu x base_kv holds everywhere, while limits and results are per unit of each bus's own vn_kv. Line charging,
no-load losses, shunts and loads of constant impedance are admittances. What is not connected with the ext_grid is left
out with a note, as pandapower does.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from admm import InputError
from networks.branch_currents import EndRating
from networks.feeder import Feeder, FeederBranch, FeederNode, feeder_from_tables
from networks.feeder_model import V_MAX_PU, V_MIN_PU
from networks.pandapower_circuit import Circuit, checked_tables, circuit
from networks.pandapower_columns import WHOSE, Elements, is_empty
from networks.pandapower_powers import Power, check_shares, powers
from networks.pandapower_ratings import end_limits_ka
from networks.pandapower_refusals import refuse_elements
from networks.pandapower_tables import bus_titles, explained, open_network
from networks.radial import listed

NO_LIMIT_PU = 2.0
NO_VOLTAGE_PU = 10.0
"""Upper limits from here on are not per unit, but kV or percent."""
LEAST_SOURCE_PU, MOST_SOURCE_PU = 0.5, 1.5
SAME = 1e-9
"""Relative difference of voltages that parallel transformers may have before a current circulates."""


@explained()
def feeder_from_pandapower(source: Any) -> Feeder:
    """The radial feeder in a pandapower network or a file that holds one.

    Loads, static generators and what is constant are its base load, see `networks.pandapower_powers`.
    """
    net = open_network(source)
    refuse_elements(net)
    tables = checked_tables(net)
    consumption, sources = powers(net), _sources(tables)
    found = circuit(net, tables)
    root, slack_voltage_pu = _root(sources, tables["gen"], found)
    check_shares(consumption, found.node)
    base_kv, mismatch = _base_voltages(found, root)
    if mismatch:
        raise InputError(
            f"{WHOSE}: {mismatch} closes a loop in which the ratios of transformers do not match, so a current "
            "circulates; expected a radial feeder, whose parallel transformers have equal ratios and vector groups: "
            "open one of its branches"
        )
    _refuse_lone_root(found, root)
    names = _names(net, found)
    nodes = _nodes(net, found, names, base_kv, [*consumption, *_generators_at_root(net, found, root)])
    branches = _branches(net, found, names, base_kv, nodes)
    aliases = {str(bus): names[at] for bus, at in found.node.items() if names[at] != str(bus)}
    feeder = feeder_from_tables(
        str(getattr(net, "name", "") or "pandapower network"),
        names[root],
        [nodes[at] for at in sorted(nodes)],
        branches,
        slack_voltage_pu,
        aliases,
        [*found.notes, *_left_out(net, found, consumption), *_other_notes(net, found)],
    )
    return replace(feeder, left_out=_unsupplied(net, found), titles=bus_titles(net))


def _refuse_lone_root(found: Circuit, root: int) -> None:
    if not any(root in pair for pair in found.ends.tolist() if pair[0] != pair[1]):
        bus = min(bus for bus, at in found.node.items() if at == root)
        raise InputError(
            f"{WHOSE}: no branch in service is connected with the ext_grid at bus {bus}, expected a feeder behind it; "
            "close a switch there, or put a line or transformer into service"
        )


def _unsupplied(net: Any, found: Circuit) -> dict[str, str]:
    """{bus that is not in the feeder: why}."""
    alive = {int(bus) for bus in Elements(net, "bus").index}
    lost = (int(bus) for bus in net.bus.index if int(bus) not in found.node)
    return {str(bus): "is not connected with the ext_grid" if bus in alive else "is out of service" for bus in lost}


@dataclass(frozen=True)
class Source:
    """What holds a voltage: an ext_grid, or a generator that is the slack."""

    name: str
    bus: int
    vm_pu: float


def _sources(tables: dict[str, Elements]) -> list[Source]:
    grids, gens = tables["ext_grid"], tables["gen"]
    found = _holding(grids)
    slack = [not is_empty(cell) and bool(cell) for cell in gens.cells("slack")]
    found += [one for one, mine in zip(_holding(gens), slack, strict=True) if mine]
    if not found:
        raise InputError(f"{WHOSE}: 0 ext_grid in service, expected exactly one, the feeder's root")
    return found


def _holding(elements: Elements) -> list[Source]:
    rows = zip(elements.named(), elements.cells("bus"), elements.above_0("vm_pu"), strict=True)
    found = [Source(name, int(bus), float(voltage)) for name, bus, voltage in rows]
    for one in found:
        if not LEAST_SOURCE_PU <= one.vm_pu <= MOST_SOURCE_PU:
            expected = f"expected about 1 ({LEAST_SOURCE_PU} to {MOST_SOURCE_PU})"
            raise InputError(f"{WHOSE}: {one.name}: vm_pu is {one.vm_pu:g}, {expected}: per unit of its bus's vn_kv")
    return found


def _root(sources: list[Source], gens: Elements, found: Circuit) -> tuple[int, float]:
    """The node of the one source, and its voltage per unit."""
    lost = next((one for one in sources if one.bus not in found.node), None)
    if lost is not None:
        raise InputError(f"{WHOSE}: {lost.name} is at bus {lost.bus}, which is out of service; put it into service")
    roots = {found.node[one.bus] for one in sources}
    if len(roots) > 1:
        names = listed([f"{one.name} at bus {one.bus}" for one in sources])
        raise InputError(
            f"{WHOSE}: {len(roots)} ext_grid in service, expected exactly one, the feeder's root; there are {names}: "
            "take all but one out of service, with the part of the grid that each of them feeds"
        )
    (root,) = roots
    for one in _holding(gens):
        if one.bus in found.node and found.node[one.bus] != root:
            raise InputError(
                f"{WHOSE}: {one.name} controls a voltage at bus {one.bus}; in a feeder only the ext_grid may: replace "
                "it by an sgen with a fixed q_mvar, for example with pandapower.toolbox.replace_gen_by_sgen(net)"
            )
    return root, sources[0].vm_pu


def _generators_at_root(net: Any, found: Circuit, root: int) -> list[Power]:
    """The active power of generators at the root; the ext_grid supplies their reactive power."""
    gens = Elements(net, "gen")
    if not len(gens):
        return []
    p_mw = gens.numbers("p_mw") * gens.numbers("scaling", 1.0)
    rows = zip(gens.index, gens.cells("bus"), p_mw, gens.cells("slack"), strict=True)
    return [
        Power("gen", index, "constant", int(bus), complex(-p))
        for index, bus, p, slack in rows
        if found.node.get(int(bus)) == root and (is_empty(slack) or not slack)
    ]


def _base_voltages(found: Circuit, root: int) -> tuple[np.ndarray, str]:
    """Base voltage of every node, kV: that of the root carried through ratios; and a branch that does not fit."""
    phasor = {root: 1 + 0j}  # over the nominal voltage
    across = found.ratio * np.exp(1j * np.deg2rad(found.shift_degree))
    beside: dict[int, list[tuple[int, complex]]] = {}
    for (start, end), factor in zip(found.ends.tolist(), across.tolist(), strict=True):
        beside.setdefault(start, []).append((end, 1 / factor))
        beside.setdefault(end, []).append((start, factor))
    waiting = [root]
    while waiting:
        here = waiting.pop()
        for there, factor in beside.get(here, []):
            if there not in phasor:
                phasor[there] = phasor[here] * factor
                waiting.append(there)
    for name, (start, end), factor in zip(found.names, found.ends.tolist(), across.tolist(), strict=True):
        if abs(phasor[start] / factor / phasor[end] - 1) > SAME:
            return np.array([]), name
    return np.array([abs(phasor.get(at, 1.0)) for at in range(found.vn_kv.size)]) * found.vn_kv, ""


def _names(net: Any, found: Circuit) -> dict[int, str]:
    """{node: name}: the smallest index of its buses, or what it is inside of a transformer or line."""
    names: dict[int, str] = dict(found.inner)
    kv: dict[int, tuple[int, float]] = {}
    for bus in sorted(found.node):
        at, nominal = found.node[bus], float(net.bus.at[bus, "vn_kv"])
        first, other = kv.setdefault(at, (bus, nominal))
        if other != nominal:
            raise InputError(
                f"{WHOSE}: closed switches join bus {first} of {other:g} kV and bus {bus} of {nominal:g} kV; "
                "expected the same vn_kv"
            )
        names.setdefault(at, str(bus))
    return names


def _nodes(
    net: Any, found: Circuit, names: dict[int, str], base_kv: np.ndarray, consumption: list[Power]
) -> dict[int, FeederNode]:
    """Every node with its consumption and the tightest limits of its buses."""
    sums = {key: np.zeros(found.vn_kv.size, dtype=complex) for key in ("load", "sgen", "constant", "z_load")}
    for one in consumption:
        if one.bus in found.node:
            sums[one.kind][found.node[one.bus]] += one.mva - one.z_mva
            sums["z_load"][found.node[one.bus]] += one.z_mva
    sums["shunt"] = found.shunt_mva * (base_kv / found.vn_kv) ** 2
    limits = _limits(net, found)
    nodes = {}
    for at, name in names.items():
        lower, upper = limits.get(at, (0.0, np.inf))
        fields = {}
        for kind, prefix in (("load", ""), ("sgen", "sgen_"), ("constant", "constant_"), ("z_load", "z_load_")):
            fields |= {f"{prefix}p_mw": sums[kind][at].real, f"{prefix}q_mvar": sums[kind][at].imag}
        fields |= {"shunt_p_mw": sums["shunt"][at].real, "shunt_q_mvar": sums["shunt"][at].imag}
        fields = {key: float(number) for key, number in fields.items()}
        nodes[at] = FeederNode(
            name, v_min_pu=lower, v_max_pu=upper, base_kv=base_kv[at], nominal_kv=found.vn_kv[at], **fields
        )
    return nodes


def _limits(net: Any, found: Circuit) -> dict[int, tuple[float, float]]:
    """{node: (lowest, highest) voltage per unit} of nodes that are buses; NaN where no bus states one.

    0 and 2 pu are what pandapower's optimal power flow takes for no limit.
    """
    buses = Elements(net, "bus")
    lowest, highest = (buses.numbers(key, np.nan) for key in ("min_vm_pu", "max_vm_pu"))
    _check_limits(buses, lowest, highest)
    columns = np.where(lowest > 0, lowest, np.nan), np.where(highest < NO_LIMIT_PU, highest, np.nan)
    limits: dict[int, tuple[float, float]] = {}
    for bus, lower, upper in zip(buses.index, *columns, strict=True):
        if int(bus) in found.node:
            low, high = limits.get(found.node[int(bus)], (np.nan, np.nan))
            limits[found.node[int(bus)]] = float(np.fmax(low, lower)), float(np.fmin(high, upper))
    return limits


def _check_limits(buses: Elements, lowest: np.ndarray, highest: np.ndarray) -> None:
    """Raise InputError for limits that are not per unit, or between which no voltage lies."""
    for name, lower, upper in zip(buses.named(), lowest, highest, strict=True):
        for key, number, most in (("min_vm_pu", lower, NO_LIMIT_PU), ("max_vm_pu", upper, NO_VOLTAGE_PU)):
            if number >= most:
                raise InputError(f"{WHOSE}: {name}: {key} is {number:g}, expected per unit of vn_kv, as 1.05")
        if upper < lower:
            raise InputError(f"{WHOSE}: {name}: max_vm_pu is {upper:g}, expected at least min_vm_pu {lower:g}")
        for key, number, other, taken in (
            ("min_vm_pu", lower, "max_vm_pu", V_MAX_PU if np.isnan(upper) else np.inf),
            ("max_vm_pu", -upper, "min_vm_pu", -V_MIN_PU if np.isnan(lower) else np.inf),
        ):
            if number > taken:
                raise InputError(
                    f"{WHOSE}: {name}: {key} is {abs(number):g}, but {other} is empty, for which {abs(taken):g} pu is "
                    f"taken; state {other}"
                )


def _branches(
    net: Any, found: Circuit, names: dict[int, str], base_kv: np.ndarray, nodes: dict[int, FeederNode]
) -> list[FeederBranch]:
    """Every branch behind its ratio, on 1 MVA and the base voltage of its to end."""
    scale = base_kv / found.vn_kv
    limits_ka, branches = end_limits_ka(net, found), []
    for b, name in enumerate(found.names):
        start, end = map(int, found.ends[b])
        square = scale[end] ** 2
        impedance = found.impedance[b] / found.sn_mva / square
        shunts = np.conj(found.shunts[b]) * found.sn_mva * square
        if start == end:
            _put_at_node(found, b, nodes, complex(shunts.sum()))
            continue
        kv = base_kv[start], base_kv[end]
        rated = {side: np.sqrt(3) * kv[side] * limit for side, limit in limits_ka[b].items()}
        most = min(rated.values(), default=np.inf)
        branches.append(
            FeederBranch(
                name,
                names[start],
                names[end],
                float(impedance.real),
                float(impedance.imag),
                float(most),
                complex(shunts[0]),
                complex(shunts[1]),
                tuple(EndRating(side == 0, complex(shunts[side]), limit / most) for side, limit in rated.items()),
                found.table[b] != "line",
            )
        )
    return branches


def _put_at_node(found: Circuit, b: int, nodes: dict[int, FeederNode], shunt_mva: complex) -> None:
    """Both ends of a branch are one node: only its admittances are left of it."""
    at, name = int(found.ends[b][0]), found.names[b]
    if abs(found.ratio[b] - 1) > SAME:
        raise InputError(
            f"{WHOSE}: {name} has a ratio, but closed switches join its ends, so a current circulates: open one"
        )
    node = nodes[at]
    nodes[at] = replace(
        node, shunt_p_mw=node.shunt_p_mw + shunt_mva.real, shunt_q_mvar=node.shunt_q_mvar + shunt_mva.imag
    )
    found.notes.append(f"{name}: closed switches join its ends, so it carries nothing and its rating is not watched")


def _left_out(net: Any, found: Circuit, consumption: list[Power]) -> list[str]:
    """Name what is not connected with the ext_grid, and the consumption that is lost with it."""
    alive = [int(bus) for bus in Elements(net, "bus").index]
    lost = [str(bus) for bus in alive if bus not in found.node]
    with_it = [one.name for one in consumption if one.bus not in found.node and str(one.bus) in lost]
    out = [f"{one.name} at bus {one.bus}" for one in consumption if one.bus not in alive]
    words = []
    if lost:
        many = f"buses {listed(lost)} are" if len(lost) > 1 else f"bus {lost[0]} is"
        what = f", with {listed(with_it)}" if with_it else ""
        words.append(f"{many} not connected with the ext_grid: left out{what}, as in pandapower")
    if out:
        words.append(f"{listed(out)}: the bus is out of service, so nothing is consumed there, as in pandapower")
    return words


def _other_notes(net: Any, found: Circuit) -> list[str]:
    """Name what pandapower holds for other studies, and ratings of switches that join nodes."""
    branches = {element for table, element in zip(found.table, found.element, strict=True) if table == "switch"}
    words = []
    switches = Elements(net, "switch")
    rows = zip(switches.index, switches.cells("et"), switches.cells("closed"), switches.cells("in_ka"), strict=True)
    rated = [
        str(index)
        for index, kind, closed, rating in rows
        if kind == "b" and closed and not is_empty(rating) and index not in branches
    ]
    if rated:
        words.append(f"switch {listed(rated)}: closed between buses, so in_ka is not watched")
    if len(Elements(net, "controller")):
        words.append("controllers are not run, as in a plain power flow of pandapower")
    return words
