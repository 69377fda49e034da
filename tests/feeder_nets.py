"""Small pandapower networks, each with one thing that a feeder must carry, and pandapower's own flows of them."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from typing import Any

import numpy as np
import pandapower as pp

from networks.pandapower_import import feeder_from_pandapower
from networks.sweep import Sweep

TRAFO = {
    **{"sn_mva": 25, "vn_hv_kv": 110, "vn_lv_kv": 20, "vkr_percent": 0.4, "vk_percent": 12, "pfe_kw": 14},
    **{"i0_percent": 0.07, "shift_degree": 150, "tap_side": "hv", "tap_pos": 0, "tap_neutral": 0},
    **{"tap_min": -9, "tap_max": 9, "tap_step_percent": 1.5, "tap_changer_type": "Ratio"},
}
LINE = {"r_ohm_per_km": 0.3, "x_ohm_per_km": 0.2, "c_nf_per_km": 0.0, "max_i_ka": 0.2}


def plain(trafo: dict[str, Any] | None = None, line: dict[str, Any] | None = None, low_kv: float = 20.0) -> Any:
    """110 kV (bus 0) - transformer - 20 kV (1) - line - (2) - line - (3), with loads at 2 and 3."""
    net = pp.create_empty_network(name="small")
    for kv in (110.0, low_kv, low_kv, low_kv):
        pp.create_bus(net, kv, min_vm_pu=0.9, max_vm_pu=1.1)
    pp.create_ext_grid(net, 0, vm_pu=1.02)
    pp.create_transformer_from_parameters(net, 0, 1, **{**TRAFO, **(trafo or {})})
    for start in (1, 2):
        pp.create_line_from_parameters(net, start, start + 1, 5.0, **{**LINE, **(line or {})})
    pp.create_load(net, 2, 1.2, 0.4, scaling=0.8)
    pp.create_load(net, 3, 1.0, 0.3)
    return net


def changed(change: Callable[[Any], Any], **options: Any) -> Any:
    """The plain network with one more thing in it."""
    net = plain(**options)
    change(net)
    return net


def _der(net: Any) -> None:
    pp.create_sgen(net, 3, 2.5, 0.2, scaling=0.9)
    pp.create_storage(net, 2, -0.2, 1.0, q_mvar=0.05)


def _parallel_lines(net: Any) -> None:
    pp.create_line_from_parameters(net, 3, 2, 4.0, **{**LINE, "r_ohm_per_km": 0.6, "max_i_ka": 0.1, "c_nf_per_km": 300})


def _coupler(net: Any) -> None:
    """A busbar coupler as a line between the transformer and the feeder."""
    busbar = pp.create_bus(net, 20.0, min_vm_pu=0.9, max_vm_pu=1.1)
    net.line.loc[0, "from_bus"] = busbar
    pp.create_line_from_parameters(net, 1, busbar, 1e-6, **{**LINE, "r_ohm_per_km": 5e-3, "max_i_ka": 0.15})


def _closed_switch(net: Any) -> None:
    beside = pp.create_bus(net, 20.0, min_vm_pu=0.9, max_vm_pu=1.1)
    pp.create_switch(net, 3, beside, "b", closed=True)
    pp.create_load(net, beside, 0.4, 0.1)


def _impedant_switch(net: Any) -> None:
    beside = pp.create_bus(net, 20.0)
    pp.create_switch(net, 3, beside, "b", closed=True, z_ohm=0.5)
    pp.create_load(net, beside, 0.4, 0.1)


def _open_line(net: Any) -> None:
    pp.create_line_from_parameters(net, 1, 3, 8.0, **{**LINE, "c_nf_per_km": 400})
    pp.create_switch(net, 1, 2, "l", closed=False)


def _constant_impedance(net: Any) -> None:
    net.load["const_z_p_percent"], net.load["const_z_q_percent"] = [60.0, 100.0], [30.0, 0.0]


def _shunts(net: Any) -> None:
    pp.create_shunt(net, 3, q_mvar=-0.4, p_mw=0.05, step=2, vn_kv=21.0)
    pp.create_ward(net, 2, 0.2, 0.1, 0.3, -0.2)


def _shunts_of_other_voltages(net: Any) -> None:
    """Their rated voltages are far from the 20 kV of their buses; power goes with the square of the ratio."""
    pp.create_shunt(net, 2, q_mvar=-0.3, p_mw=0.1, vn_kv=28.0)
    pp.create_shunt(net, 3, q_mvar=-0.2, p_mw=0.02, vn_kv=11.0)


def _three_windings(net: Any) -> None:
    low, lower = pp.create_bus(net, 10.0), pp.create_bus(net, 20.0)
    pp.create_transformer3w_from_parameters(
        net, 0, lower, low, 110, 20.5, 10.2, 40, 25, 15, 10.4, 10.6, 10.2, 0.28, 0.32, 0.35, 30, 0.1,
        tap_side="hv", tap_pos=2, tap_neutral=0, tap_min=-9, tap_max=9, tap_step_percent=1.2, tap_changer_type="Ratio",
    )  # fmt: skip
    pp.create_load(net, low, 8.0, 2.0)
    pp.create_load(net, lower, 12.0, 3.0)


def _impedance(net: Any) -> None:
    beside = pp.create_bus(net, 20.0)
    pp.create_impedance(net, 3, beside, 0.03, 0.05, 10.0, gf_pu=0.001, bf_pu=0.002, gt_pu=0.002, bt_pu=0.003)
    pp.create_load(net, beside, 0.5, 0.2)


def _other_consumers(net: Any) -> None:
    pp.create_motor(net, 2, 0.4, 0.9, efficiency_percent=95.0, loading_percent=70.0)
    pp.create_asymmetric_load(net, 3, 0.1, 0.2, 0.3, 0.05, 0.02, 0.01)
    pp.create_asymmetric_sgen(net, 3, 0.1, 0.0, 0.2, 0.01, 0.0, 0.02)
    pp.create_gen(net, 0, 3.0, vm_pu=1.02)


def _second_transformer(net: Any) -> None:
    pp.create_transformer_from_parameters(net, 0, 1, **{**TRAFO, "sn_mva": 10.0, "vk_percent": 9.0})


def _open_transformer(net: Any) -> None:
    """A second transformer under no load, and one of three windings with two of them open."""
    low = pp.create_bus(net, 20.0)
    trafo = pp.create_transformer_from_parameters(net, 0, low, **TRAFO)
    pp.create_switch(net, low, trafo, "t", closed=False)
    _three_windings(net)
    for bus in (5, 6):
        pp.create_switch(net, bus, 0, "t3", closed=False)


def from_the_low_side() -> Any:
    """The external grid feeds 110 kV from 20 kV."""
    net = plain({"tap_pos": 2, "vn_lv_kv": 20.5})
    net.ext_grid.loc[0, "bus"] = 3
    net.load.loc[1, "bus"] = 0
    return net


def _other_voltages(net: Any) -> None:
    """A line between buses of different nominal voltages, as files of real grids have them."""
    net.bus.loc[3, "vn_kv"] = 21.0


def _tap_table(net: Any) -> None:
    import pandas

    net["trafo_characteristic_table"] = pandas.DataFrame(
        {
            "id_characteristic": [0, 0], "step": [0, 2], "voltage_ratio": [1.0, 1.03], "angle_deg": [0.0, 0.0],
            "vk_percent": [12.0, 13.0], "vkr_percent": [0.4, 0.5],
        }
    )  # fmt: skip
    net.trafo["tap_pos"], net.trafo["tap_changer_type"] = 2, "Tabular"
    net.trafo["tap_dependency_table"], net.trafo["id_characteristic_table"] = True, 0


KINDS: dict[str, Callable[[], Any]] = {
    "plain": plain,
    "tap on the high side": lambda: plain({"tap_pos": -3}),
    "tap on the low side": lambda: plain({"tap_pos": 4, "tap_side": "lv"}),
    "symmetrical tap": lambda: plain({"tap_pos": 3, "tap_changer_type": "Symmetrical"}),
    "tap without a type": lambda: plain({"tap_pos": 3, "tap_changer_type": None}),
    "tap from a table": lambda: changed(_tap_table),
    "second tap changer": lambda: plain(
        {
            **{"tap2_side": "lv", "tap2_pos": 2, "tap2_neutral": 0, "tap2_step_percent": 2.0},
            **{"tap2_min": -4, "tap2_max": 4, "tap2_changer_type": "Ratio", "tap_pos": 1},
        }
    ),
    "ratio other than nominal": lambda: plain({"vn_hv_kv": 115.0, "vn_lv_kv": 20.8}),
    "ratio and tap": lambda: plain({"vn_hv_kv": 112.0, "vn_lv_kv": 21.0, "tap_pos": 2}),
    "several transformers in one": lambda: plain({"parallel": 2, "df": 0.9}),
    "charging": lambda: plain(line={"c_nf_per_km": 900.0, "g_us_per_km": 3.0}),
    "shunts": lambda: changed(_shunts),
    "shunts of other rated voltages": lambda: changed(_shunts_of_other_voltages),
    "static generators": lambda: changed(_der),
    "parallel lines": lambda: changed(_parallel_lines, line={"c_nf_per_km": 500.0}),
    "several lines in one": lambda: plain(line={"parallel": 2, "df": 0.8, "c_nf_per_km": 200.0}),
    "parallel transformers": lambda: changed(_second_transformer),
    "closed switch": lambda: changed(_closed_switch),
    "switch with an impedance": lambda: changed(_impedant_switch),
    "open line": lambda: changed(_open_line),
    "constant impedance": lambda: changed(_constant_impedance),
    "three windings": lambda: changed(_three_windings),
    "open transformers": lambda: changed(_open_transformer),
    "fed from the low side": from_the_low_side,
    "line between nominal voltages": lambda: changed(_other_voltages, line={"c_nf_per_km": 300.0}),
    "impedance element": lambda: changed(_impedance),
    "motor, phases, generator at the root": lambda: changed(_other_consumers),
    "another base power": lambda: changed(lambda net: net.__setitem__("sn_mva", 100.0)),
}
COUPLER = "coupler"


def coupler() -> Any:
    """A network that pandapower can only solve with a switch in the place of its coupler."""
    return changed(_coupler)


def solved_by_pandapower(net: Any) -> Any:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        pp.runpp(net, numba=False, tolerance_mva=1e-10, max_iteration=50)
    return net


def own_flow(feeder: Any, extra_mw: dict[str, float] | None = None) -> Any:
    """The flow of the feeder's own consumption, and of more at some nodes."""
    fixed = feeder.fixed_load(np.ones(1))
    p, z = fixed["load_p_mw"].copy(), fixed["z_load_p_mw"] + 1j * fixed["z_load_q_mvar"]
    for node, power in (extra_mw or {}).items():
        p[:, feeder.node(node)] += power
    return Sweep(feeder).run(p, fixed["load_q_mvar"], feeder.shunt_mva + z * feeder.base_per_nominal**2)


def imported(net: Any) -> Any:
    return feeder_from_pandapower(net)
