"""Small valid input that mutations start from: cases with bundled agents on grids of a few nodes.

The devices are those of the bundled cases, so every kind of device and hub is among them; the grids are made by hand.
"""

from __future__ import annotations

import json
import tomllib
from pathlib import Path
from typing import Any

from benchmarks.fuzz_inputs import toml_text
from networks.case_file import BUNDLED, CASE_FILE, REFERENCE_FILE

PERIODS = 8
AGENTS_A_CASE = 2
BUNDLES = {"electric": "ieee33-10ec", "hubs": "feeder118-gas65"}
"""By kind of case, the bundled case whose agents are taken."""

FEEDER = {
    "bus.csv": """bus,type,base_kV,Pd_kW,Qd_kvar,Vmin_pu,Vmax_pu
1,slack,12.66,0,0,0.9,1.1
2,PQ,12.66,100,60,0.9,1.1
3,PQ,12.66,90,40,0.9,1.1
4,PQ,12.66,120,80,0.9,1.1
""",
    "branch.csv": """branch,from_bus,to_bus,r_ohm,x_ohm,tie,I_max_A
1,1,2,0.0922,0.0470,0,400
2,2,3,0.2930,0.1511,0,400
3,2,4,0.2660,0.1864,0,300
4,3,4,0.8000,0.8000,1,100
""",
}
TRANSMISSION = {
    "bus.csv": "bus,type,Pd_MW,Gs_MW_at_1pu\n1,slack,0,0\n2,PQ,40,0\n3,PQ,30,0\n",
    "branch.csv": """branch,from_bus,to_bus,x_pu,tap_ratio_at_from_bus,rate_A_MVA
1,1,2,0.05,1,80
2,2,3,0.06,1,60
3,1,3,0.08,0.98,60
""",
    "gen.csv": """gen,bus,Pmin_MW_matpower,Pmax_MW_matpower,cost_c1_USD_per_MWh_matpower,cost_c2_USD_per_MW2h_matpower
1,1,0,120,20,0.08
2,3,0,60,35,0.2
""",
}
GAS = {
    "node.csv": """node,profile,height_m,p_min_bar_g,p_max_bar_g,peak_demand_kw
1,source,0,1.5,4,0
2,residential,10,1.5,4,900
3,residential,5,1.5,4,600
""",
    "pipe.csv": """pipe,from_node,to_node,length_km,inner_diameter_mm,roughness_mm
1,1,2,0.8,147.2,0.05
2,2,3,0.7,102.2,0.05
3,1,3,0.9,102.2,0.05
""",
    "gate.csv": "gate,node,p_set_bar_g,p_min_bar_g,p_max_bar_g,max_flow_kw,cost_eur_per_mwh\nwest,1,4,3,4,20000,30\n",
    "compressor.csv": "",
}
FEEDER_TABLE = {
    "name": "dso",
    "kind": "distribution",
    "source": "feeder",
    "slack_voltage_pu": 1.02,
    "voltage_min_pu": 0.92,
    "voltage_max_pu": 1.06,
    "load_profile": "feeder_load_pu",
    "reactive_support": [{"bus": 4, "q_max_mvar": 0.2}],
}
OWN_SUPPLY = {"supply_price_eur_per_mwh": "day_ahead_price_eur_per_mwh", "supply_flexibility_price_eur_per_mwh": 3.0}
TRANSMISSION_TABLE = {
    "name": "tso",
    "kind": "transmission",
    "source": "grid",
    "load_profile": "transmission_load_pu",
    "reserve_up_share": 0.02,
    "reserve_down_share": 0.02,
}
GAS_TABLE = {
    "name": "gas",
    "kind": "gas",
    "source": "gas",
    "demand_profiles": {"residential": "gas_residential_pu"},
    "price_eur_per_mwh": 18.0,
}

MATPOWER = """function mpc = small
mpc.version = '2';
mpc.baseMVA = 10;
mpc.bus = [ % kW
    1 3 0   0   0 0 1 1 0 12.66 1 1.1 0.9;
    2 1 100 60  0 0.1 1 1 0 12.66 1 1.1 0.9;
    7 1 90 40 0 0 1 1 0 12.66 1 1.1 0.9
];
mpc.gen = [1 0 0 10 -10 1.02 100 1 10 0];
mpc.branch = [
    1, 2, 0.0922, 0.0470, 0.01, 5, 0, 0, 0, 0, 1, -360, 360;
    2, 7, 0.4930, 0.2511, 0, 5, 0, 0, 0, 0, 1, -360, 360;
];
mpc.gencost = [2 0 0 3 0.1 20 3];
define_constants;
Vbase = mpc.bus(1, BASE_KV) * 1e3;
Sbase = mpc.baseMVA * 1e6;
mpc.branch(:, [BR_R BR_X]) = mpc.branch(:, [BR_R BR_X]) / (Vbase^2 / Sbase);
mpc.bus(:, [PD, QD]) = mpc.bus(:, [PD, QD]) / 1e3;
"""
"""A feeder that is a transmission grid, too, as MATPOWER's own scripts write one."""

Files = dict[str, str]
"""Text by path inside the case folder."""


def agent_pairs(kind: str) -> list[tuple[str, ...]]:
    """The bundled agents of a kind of case, two by two."""
    names = [agent["name"] for agent in _bundled(kind)["agent"]]
    return [tuple(names[i : i + AGENTS_A_CASE]) for i in range(0, len(names), AGENTS_A_CASE)]


def case_files(kind: str, agents: tuple[str, ...], upstream: bool = False) -> tuple[dict[str, Any], Files]:
    """The tree of case.toml and all files of a small case. upstream: below a transmission system, with a market."""
    bundled, folder = _bundled(kind), BUNDLED / BUNDLES[kind]
    start = bundled["horizon"]["start"]
    feeder = {**FEEDER_TABLE, **({"upstream": "tso", "upstream_bus": 2} if upstream else OWN_SUPPLY)}
    networks = [feeder, *([TRANSMISSION_TABLE] if upstream else []), *([GAS_TABLE] if kind == "hubs" else [])]
    tree = {
        "name": "tiny",
        "profiles": ["profiles/public.csv"],
        "horizon": {**bundled["horizon"], "periods": PERIODS},
        "prices": bundled["prices"],
        "network": networks,
        "agent": [_moved(one, i) for i, one in enumerate(a for a in bundled["agent"] if a["name"] in agents)],
        **({"market": _market(bundled)} if upstream else {}),
        "variant": {"late": {"horizon": {"periods": PERIODS - 1}, "agent": {agents[0]: {"power_factor": 0.9}}}},
    }
    optimum = {"case_sha256": "0" * 64, "objective_eur": 100.0, "turnover_eur": 50.0}
    files = {CASE_FILE: toml_text(tree), REFERENCE_FILE: json.dumps({"tiny": optimum})}
    files["profiles/public.csv"] = _cut(folder / "profiles/public.csv", start)
    for name in agents:
        files[f"agents/{name}.toml"] = (folder / f"agents/{name}.toml").read_text(encoding="utf-8")
        files[f"agents/{name}.csv"] = _cut(folder / f"agents/{name}.csv", start)
    grids = {"feeder": FEEDER, "grid": TRANSMISSION, "gas": GAS}
    used = {network["source"] for network in networks}
    files |= {f"{grid}/{name}": text for grid in used for name, text in grids[grid].items() if text}
    return tree, files


def _bundled(kind: str) -> dict[str, Any]:
    return tomllib.loads((BUNDLED / BUNDLES[kind] / CASE_FILE).read_text(encoding="utf-8"))


def _market(bundled: dict[str, Any]) -> dict[str, Any]:
    """The rules without the errors of series that not every agent has."""
    errors = [error for error in bundled["market"]["error"] if error["name"] != "heat-demand"]
    return {**bundled["market"], "error": errors}


def _moved(agent: dict[str, Any], position: int) -> dict[str, Any]:
    """The agent at a node of the small grids."""
    gas = {"gas_node": 2 + position} if "gas_node" in agent else {}
    return {**agent, "bus": 3 + position, **gas}


def _cut(path: Path, start: Any) -> str:
    """The header, and the rows of the horizon and an hour on each side."""
    lines = path.read_text(encoding="utf-8").splitlines()
    first = next(i for i, line in enumerate(lines) if line.startswith(f"{start:%Y-%m-%dT%H:%MZ}"))
    return "\n".join([lines[0], *lines[max(1, first - 4) : first + 4 * (PERIODS + 1)]]) + "\n"


def write_files(folder: Path, files: dict[str, str | bytes]) -> None:
    """Make the files below a folder."""
    for name, content in files.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content.encode() if isinstance(content, str) else content)


def pandapipes_json() -> str:
    """A network of three junctions as pandapipes writes it."""
    tables = {
        "junction": (["name", "pn_bar", "tfluid_k", "height_m", "in_service"], [["a", 4.0, 283.15, 0.0, True]] * 3),
        "pipe": (
            [
                "from_junction",
                "to_junction",
                "length_km",
                "inner_diameter_mm",
                "k_mm",
                "loss_coefficient",
                "in_service",
            ],
            [[0, 1, 0.8, 147.2, 0.05, 0.0, True], [1, 2, 0.7, 102.2, 0.05, 0.0, True]],
        ),
        "ext_grid": (["junction", "p_bar", "t_k", "type", "in_service"], [[0, 4.0, 283.15, "pt", True]]),
        "sink": (["junction", "mdot_kg_per_s", "scaling", "in_service"], [[2, 0.01, 1.0, True]]),
        "valve": (
            ["junction", "element", "et", "opened", "loss_coefficient", "inner_diameter_mm"],
            [[1, 0, "pi", True, 0.1, 147.2]],
        ),
    }
    net: dict[str, Any] = {name: _frame(*table) for name, table in tables.items()}
    density = {"x_values": [273.0, 283.0, 293.0], "y_values": [0.733, 0.707, 0.683]}
    properties = {
        "density": {"_class": "FluidPropertyInterExtra", "_object": density},
        "viscosity": {
            "_class": "FluidPropertyInterExtra",
            "_object": {**density, "y_values": [1.07e-5, 1.1e-5, 1.13e-5]},
        },
        "compressibility": {"_class": "FluidPropertyLinear", "_object": {"slope": -0.0022, "offset": 1.0}},
        "hhv": {"_class": "FluidPropertyConstant", "_object": {"value": 14.62}},
    }
    net["fluid"] = {"_class": "Fluid", "_object": {"name": "hgas", "is_gas": True, "all_properties": properties}}
    return json.dumps({"_module": "pandapipes.pandapipes_net", "_class": "pandapipesNet", "_object": net})


def _frame(columns: list[str], rows: list[list[Any]]) -> dict[str, Any]:
    """A table as pandas writes it in "split" orientation."""
    text = json.dumps({"columns": columns, "index": list(range(len(rows))), "data": rows})
    return {"_module": "pandas.core.frame", "_class": "DataFrame", "_object": text, "orient": "split"}


def pandapower_json() -> str:
    """A feeder of three buses, a transformer among its branches, as pandapower writes it."""
    import pandapower

    net = pandapower.create_empty_network(name="tiny")
    kv = (20.0, 20.0, 20.0, 0.4)
    buses = [pandapower.create_bus(net, vn_kv=each, min_vm_pu=0.9, max_vm_pu=1.1) for each in kv]
    pandapower.create_ext_grid(net, buses[0], vm_pu=1.02, min_p_mw=0.0, max_p_mw=50.0)
    for start, end in ((0, 1), (1, 2)):
        pandapower.create_line(net, buses[start], buses[end], 1.5, "NA2XS2Y 1x95 RM/25 12/20 kV")
    pandapower.create_transformer(net, buses[2], buses[3], "0.4 MVA 20/0.4 kV")
    pandapower.create_switch(net, buses[1], 1, et="l", closed=True)
    pandapower.create_load(net, buses[2], p_mw=2.0, q_mvar=0.5)
    pandapower.create_sgen(net, buses[3], p_mw=0.1)
    pandapower.create_poly_cost(net, 0, "ext_grid", cp1_eur_per_mw=30.0)
    for table in ("bus", "line", "trafo", "switch", "load", "sgen", "ext_grid", "poly_cost"):
        net[table] = net[table].dropna(axis=1, how="all")
    net.std_types = {kind: {} for kind in net.std_types}
    for table in [name for name, value in net.items() if hasattr(value, "columns") and value.empty]:
        del net[table]  # pandapower makes empty ones by itself
    return pandapower.to_json(net)
