"""A transmission grid from a pandapower network, or an InputError that says what stands in the way.

It follows pandapower's DC model: b = 1 / (x ratio). pandapower 3.5's `case57` has its taps on the wrong side; its AC
results are wrong, its DC results right, and so is the import. Buses are named as in `networks.pandapower_feeder`.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np

from admm import InputError
from networks.pandapower_tables import (
    Transformer,
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
from networks.transmission_grid import BASE_MVA, RAMP_SHARE_PER_HOUR, Generator, TransmissionBranch, TransmissionGrid

NOT_A_LIMIT_MW = 1e5


@explained()
def transmission_from_pandapower(source: Any, ramp_share_per_hour: float = RAMP_SHARE_PER_HOUR) -> TransmissionGrid:
    """The DC grid in a pandapower network or JSON file.

    Costs are the poly_cost of ext_grid, gen and controllable sgen. Ramps, which pandapower does not have, are
    a share of Pmax an hour.
    """
    net = open_network(source, costs=True)
    refuse_unknown(net)
    fused = fused_buses(net)
    grids = list(active(net, "ext_grid"))
    if not grids:
        raise InputError("pandapower network: no ext_grid in service, expected one: its bus gets the angle 0")
    if len(getattr(net, "pwl_cost", ())) > 0:
        raise InputError("pandapower network: has piecewise linear costs (pwl_cost), expected poly_cost")
    generators, constant = _generators(net, fused, ramp_share_per_hour)
    buses = sorted(set(fused.values()))
    return TransmissionGrid(
        name=str(getattr(net, "name", "") or "pandapower network"),
        buses=tuple(map(str, buses)),
        slack=str(fused[int(grids[0][1]["bus"])]),
        **_fixed_power(net, fused, buses),
        branches=(*_dc_lines(net, fused), *(_dc_trafo(net, fused, one) for one in transformers(net))),
        generators=generators,
        constant_cost_eur_per_hour=constant,
    )


def _is_controllable(table: str, row: Any) -> bool:
    default = table != "sgen"
    cell = row.get("controllable", default)
    return table == "ext_grid" or bool(default if cell is None or cell != cell else cell)


def _generators(net: Any, fused: dict[int, int], ramp_share: float) -> tuple[tuple[Generator, ...], float]:
    """Everything that the optimal power flow may move, and the sum of their constant costs, EUR an hour."""
    found, constant = [], 0.0
    for table in ("ext_grid", "gen", "sgen"):
        for index, row in active(net, table):
            if not _is_controllable(table, row):
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
            found.append(Generator(f"{table} {index}", str(fused[int(row["bus"])]), lower, upper, c1, c2, ramp))
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


def _fixed_power(net: Any, fused: dict[int, int], buses: list[int]) -> dict[str, np.ndarray]:
    """Sum the consumption of every bus that nobody moves, MW, by what it follows in time; see `TransmissionGrid`."""
    found = {key: np.zeros(len(buses)) for key in ("load_mw", "sgen_mw", "constant_mw")}
    at = {bus: i for i, bus in enumerate(buses)}
    for one in constant_power(net):
        if one.bus in fused:
            follows = {"load": "load_mw", "sgen": "sgen_mw"}.get(one.table, "constant_mw")
            found[follows][at[fused[one.bus]]] += one.p_mw
    for table, sign in (("sgen", 1.0), ("gen", -1.0)):  # a movable sgen is in the constant power above: take it out
        for _, row in active(net, table):
            if _is_controllable(table, row) == (table == "sgen"):
                moved = sign * value(row, "scaling", 1.0) * value(row, "p_mw", 0.0)
                found["sgen_mw"][at[fused[int(row["bus"])]]] += moved
    return found


def _dc_lines(net: Any, fused: dict[int, int]) -> Iterator[TransmissionBranch]:
    for index, row in active(net, "line"):
        if open_ends(net, "l", index):
            continue
        start, end = fused[int(row["from_bus"])], fused[int(row["to_bus"])]
        kv = value(net.bus.loc[start], "vn_kv", 1.0)
        x_ohm = value(row, "x_ohm_per_km", 0.0) * value(row, "length_km", 0.0) / value(row, "parallel", 1.0)
        yield TransmissionBranch(
            f"line {index}", str(start), str(end), x_ohm * BASE_MVA / kv**2, line_rating_mva(row, kv)
        )


def _dc_trafo(net: Any, fused: dict[int, int], one: Transformer) -> TransmissionBranch:
    start, end = fused[one.hv_bus], fused[one.lv_bus]
    hv_kv, lv_kv = (value(net.bus.loc[bus], "vn_kv", 1.0) for bus in (start, end))
    ratio = (one.hv_kv / hv_kv) / (one.lv_kv / lv_kv)
    return TransmissionBranch(
        one.name, str(start), str(end), one.x_ohm * BASE_MVA / lv_kv**2, one.rating_mva, ratio, one.shift_degree
    )
