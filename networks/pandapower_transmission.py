"""A transmission grid from a pandapower network, or an InputError that says what stands in the way.

Branches are those of pandapower's own DC power flow, so b = 1 / (x ratio). pandapower 3.5's `case57` has its taps on
the wrong side; its AC results are wrong, its DC results right, and so is the import. A bus has its index as name; buses
that closed switches join are one, under the smallest index.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

from admm import InputError
from networks.pandapower_dc import DcNetwork, dc_network
from networks.pandapower_tables import active, bus_titles, explained, open_network, value
from networks.radial import listed
from networks.transmission_grid import RAMP_SHARE_PER_HOUR, Generator, TransmissionGrid

NOT_A_LIMIT_MW = 1e5
DUST_MW = 1e-9
"""What rounding leaves where sums cancel."""


@explained()
def transmission_from_pandapower(source: Any, ramp_share_per_hour: float = RAMP_SHARE_PER_HOUR) -> TransmissionGrid:
    """The DC grid in a pandapower network, its JSON file or a MATPOWER case.

    Costs are the poly_cost of ext_grid, gen and controllable sgen. Ramps, which pandapower does not have, are
    a share of Pmax an hour.
    """
    net = open_network(source, costs=True)
    slack = _slack_bus(net)
    if len(getattr(net, "pwl_cost", ())) > 0:
        raise InputError("pandapower network: has piecewise linear costs (pwl_cost), expected poly_cost")
    found = dc_network(net)
    generators, constant = _generators(net, found, ramp_share_per_hour)
    return TransmissionGrid(
        name=str(getattr(net, "name", "") or "pandapower network"),
        buses=found.names,
        slack=found.node_of[slack],
        **_fixed(net, found),
        branches=found.branches,
        generators=generators,
        constant_cost_eur_per_hour=constant,
        aliases={str(bus): node for bus, node in found.node_of.items() if str(bus) != node},
        own_load_mw=_own_loads(net, found),
        notes=(*_notes(net, found), *_without_costs(net, generators)),
        titles=bus_titles(net),
    )


def _slack_bus(net: Any) -> int:
    """The bus of the first ext_grid in service, or of the first generator that is marked as slack."""
    serving = {int(index) for index, _ in active(net, "bus")}
    rows = [row for _, row in active(net, "ext_grid")]
    rows += [row for _, row in active(net, "gen") if bool(row.get("slack", False))]
    for row in rows:
        if int(row["bus"]) in serving:
            return int(row["bus"])
    if rows:
        raise InputError(f"pandapower network: the ext_grid's bus {int(rows[0]['bus'])} is out of service")
    raise InputError("pandapower network: no ext_grid in service, expected one: its bus gets the angle 0")


def _notes(net: Any, found: DcNetwork) -> tuple[str, ...]:
    if not found.isolated:
        return ()
    names = ", ".join(map(str, found.isolated[:8])) + (" ..." if len(found.isolated) > 8 else "")
    lost = sum(
        value(row, "p_mw", 0.0) * value(row, "scaling", 1.0)
        for _, row in active(net, "load")
        if int(row["bus"]) in set(found.isolated)
    )
    return (f"nothing supplies bus {names}: left out, with {lost:g} MW of load",)


def _without_costs(net: Any, generators: Sequence[Generator]) -> Iterator[str]:
    """Name the generators that the network states no cost of."""
    stated = {f"{et} {element}" for et, element in zip(net.poly_cost["et"], net.poly_cost["element"], strict=True)}
    lacking = [one.name for one in generators if one.name not in stated]
    if lacking:
        yield f"{listed(lacking)}: no poly_cost, so what they generate costs nothing"


def _own_loads(net: Any, found: DcNetwork) -> dict[str, float]:
    """{bus: MW of its loads}, of all buses that closed switches join with others."""
    sizes = Counter(found.node_of.values())
    own = {str(bus): 0.0 for bus, node in found.node_of.items() if sizes[node] > 1}
    for _, row in active(net, "load"):
        if str(int(row["bus"])) in own:
            own[str(int(row["bus"]))] += value(row, "p_mw", 0.0) * value(row, "scaling", 1.0)
    return own


def _is_controllable(table: str, row: Any) -> bool:
    default = table != "sgen"
    cell = row.get("controllable", default)
    return table == "ext_grid" or bool(default if cell is None or cell != cell else cell)


def _generators(net: Any, grid: DcNetwork, ramp_share: float) -> tuple[tuple[Generator, ...], float]:
    """Everything that the optimal power flow may move, and the sum of their constant costs, EUR an hour."""
    found, constant = [], 0.0
    for table in ("ext_grid", "gen", "sgen"):
        for index, row in active(net, table):
            if not _is_controllable(table, row) or int(row["bus"]) not in grid.node_of:
                continue
            lower, upper = value(row, "min_p_mw", -np.inf), value(row, "max_p_mw", np.inf)
            if max(-lower, upper) > NOT_A_LIMIT_MW:
                raise InputError(
                    f"pandapower network: {table} {index} has p from {lower:g} to {upper:g} MW, "
                    "expected limits: set min_p_mw and max_p_mw"
                )
            c0, c1, c2 = _poly_cost(net, table, index)
            constant += c0
            ramp = ramp_share * upper if upper > 0 else np.inf
            found.append(Generator(f"{table} {index}", grid.node_of[int(row["bus"])], lower, upper, c1, c2, ramp))
    return tuple(found), constant


def _poly_cost(net: Any, table: str, index: int) -> tuple[float, float, float]:
    costs = net.poly_cost[(net.poly_cost["et"] == table) & (net.poly_cost["element"] == index)]
    if len(costs) == 0:
        return 0.0, 0.0, 0.0
    row = costs.iloc[0]
    return tuple(
        value(row, f"cp{power}_eur" + (f"_per_mw{power if power > 1 else ''}" if power else ""), 0.0)
        for power in range(3)
    )


def _fixed(net: Any, found: DcNetwork) -> dict[str, np.ndarray]:
    """Sum the consumption of every bus that nobody moves, MW, by what it follows in time; see `TransmissionGrid`.

    A static generator that is movable is in the consumption that pandapower sums: it is taken out.
    """
    power = {table: np.zeros(len(found.names)) for table in ("load", "sgen", "gen", "moved")}
    at = {name: i for i, name in enumerate(found.names)}
    for table in ("load", "sgen", "gen"):
        for index, row in active(net, table):
            name = found.node_of.get(int(row["bus"]))
            movable = table != "load" and _is_controllable(table, row)
            if name is None or (table == "gen" and movable):
                continue
            p_mw = value(row, "p_mw", np.nan) * value(row, "scaling", 1.0)
            if np.isnan(p_mw):
                raise InputError(f"pandapower network: {table} {index}: p_mw is empty, expected a number")
            power["moved" if movable else table][at[name]] += p_mw
    constant = found.fixed_mw - power["load"] + power["sgen"] + power["moved"]
    return {
        "load_mw": power["load"],
        "sgen_mw": 0.0 - power["sgen"] - power["gen"],
        "constant_mw": np.where(np.abs(constant) < DUST_MW, 0.0, constant),
    }
