"""Writes the case `feeder118-gas65`: sixteen energy hubs on the 118-node feeder and the 65-node gas network.

    python -m networks.cases.build_feeder118_gas65

Hubs h01 to h08 stand where `hubs.csv` says, with its sizes of CHP, boiler, heat pump, storage and battery; the
other eight are of further kinds. Sizes are plausible, not measured. Profiles come from `source_profiles.csv`
(see the case's README for sources and licences).
"""

from __future__ import annotations

import csv
from pathlib import Path

from networks.cases.build_tools import (
    HEAT_MULTI,
    HEAT_SHOP,
    HEAT_SINGLE,
    HOME,
    OFFICE,
    SHOP,
    V2G,
    Site,
    battery,
    building,
    fleet,
    private_columns,
    pv,
    read_source,
    shiftable,
    site_toml,
    vehicles,
    write_csv,
)

FOLDER = Path(__file__).parent / "feeder118-gas65"
INDUSTRY, GAS_INDUSTRY = "load_industrial_continuous_pu", "gas_industrial_pu"
PUBLIC = {
    "temperature_degc": "temperature_degc",
    "pv_pu": "pv_mix_pu",
    "day_ahead_price_eur_per_mwh": "day_ahead_price_eur_per_mwh",
    "feeder_load_pu": "load_mv_grid_commercial_pu",
    "gas_residential_pu": HEAT_MULTI,
    "gas_commercial_pu": HEAT_SHOP,
    "gas_industrial_pu": GAS_INDUSTRY,
}


def chp(kw: float, electric: float = 0.34, thermal: float = 0.46) -> dict:
    return {
        "kind": "chp", "name": "chp", "rated_kw": kw, "electric_efficiency": electric, "thermal_efficiency": thermal,
        "minimum_kw": round(0.3 * kw, 1), "ramp_kw_per_h": kw, "run_cost_eur_per_kwh": 0.008,
    }  # fmt: skip


def boiler(heat_kw: float) -> dict:
    return {"kind": "gas_boiler", "name": "boiler", "max_heat_kw": heat_kw, "efficiency": 0.9}


def heat_pump(kw: float) -> dict:
    return {
        "kind": "hub_heat_pump", "name": "heatpump", "max_kw": kw, "cop_at_7c": 3.2, "cop_slope_per_k": 0.06,
        "outdoor_temperature_degc": "temperature_degc",
    }  # fmt: skip


def heat_store(kwh: float, kw: float) -> dict:
    return {
        "kind": "heat_storage", "name": "tank", "capacity_kwh": kwh, "charge_kw": kw, "discharge_kw": kw,
        "loss_per_h": 0.005,
    }  # fmt: skip


def of_carrier(carrier: str) -> dict:
    return {"kind": "load", "name": carrier, "carrier": carrier, "power_kw": f"{carrier}_kw"}


def electrolyser(kw: float, demand_kw: float, tank_kwh: float) -> dict:
    return {
        "kind": "electrolyser", "name": "electrolyser", "max_kw": kw, "efficiency": 0.7,
        "hydrogen_demand_kw": demand_kw, "tank_kwh": tank_kwh,
    }  # fmt: skip


def dual_fuel(name: str, demand_kw: float, gas_share: float) -> dict:
    return {
        "kind": "dual_fuel_load", "name": name, "demand_kw": demand_kw, "gas_share": gas_share, "gas_kwh_per_kwh": 1.15,
    }  # fmt: skip


HEAT = of_carrier("heat")
KINDS = {
    "H1": ("h01-estate", "housing estate with cars", {HOME: 420}, {HEAT_SINGLE: 900}, 0, 1.2,
        [fleet(vehicles("cars", 40, 18.0, 31.0, (26, 45)))]),
    "H2": ("h02-quarter", "town quarter, cars of which half are V2G", {HOME: 480, SHOP: 120}, {HEAT_MULTI: 1200}, 1, 1.2,
        [fleet(vehicles("v2g", 30, 17.5, 31.0, (28, 48), **V2G), vehicles("plain", 30, 18.5, 30.5, (26, 46)))]),
    "H3": ("h03-mall", "shopping mall", {SHOP: 520}, {HEAT_SHOP: 600}, 0, 1.5,
        [shiftable("cold-store", (0.0, 8.0, 320.0, 80.0), (12.0, 18.0, 240.0, 80.0))]),
    "H4": ("h04-hospital", "hospital", {INDUSTRY: 600, OFFICE: 150}, {HEAT_MULTI: 900, HEAT_SHOP: 600}, 2, 0.8, []),
    "H5": ("h05-works", "works with process heat", {INDUSTRY: 560}, {HEAT_SHOP: 900}, 1, 2.0,
        [dual_fuel("process", 220.0, 0.7)]),
    "H6": ("h06-dairy", "dairy: steam from either carrier, cold to shift", {INDUSTRY: 360}, {HEAT_SHOP: 600}, 3, 2.0,
        [dual_fuel("steam", 180.0, 0.8), shiftable("cold", (0.0, 24.0, 900.0, 90.0))]),
    "H7": ("h07-school", "schools and a swimming hall", {OFFICE: 320}, {HEAT_MULTI: 1200}, 0, 1.6, []),
    "H8": ("h08-offices", "offices with cars at work", {OFFICE: 460, SHOP: 80}, {HEAT_SHOP: 900}, 1, 1.6,
        [fleet(vehicles("staff", 50, 8.0, 17.0, (24, 44)))]),
}  # fmt: skip
"""Row of hubs.csv: name, what it is, electric loads, heat loads, shift, factor on its PV, devices beside the row's."""
MORE = {
    "h09-district": (8, 43, Site("district heating plant: large CHP, boilers and tank", 2400, {HOME: 150}, 0,
        [HEAT, chp(1200, 0.38, 0.44), boiler(2600), heat_store(9000, 1500)], heat={HEAT_MULTI: 3200},
        gas_connection_kw=6000.0)),
    "h10-greenhouse": (35, 38, Site("greenhouses: CHP for light and heat", 1800, {INDUSTRY: 500}, 2,
        [HEAT, chp(800, 0.40, 0.45), boiler(900), heat_store(3500, 900), pv(600),
         shiftable("light", (2.0, 10.0, 2400.0, 500.0), (16.0, 22.0, 1200.0, 500.0))], heat={HEAT_SHOP: 1500},
        gas_connection_kw=3000.0)),
    "h11-hydrogen": (55, 46, Site("electrolyser with a tank beside a solar park", 4200, {OFFICE: 60}, 0,
        [pv(3200), battery(2000, 800), electrolyser(1500, 350.0, 6000)], pv_share_single=0.6)),
    "h12-electric": (66, 45, Site("new homes: heat pumps and V2G cars, gas for the coldest days", 1500, {HOME: 380}, 3,
        [HEAT, heat_pump(420), boiler(900), heat_store(1500, 500), pv(900), battery(500, 200),
         fleet(vehicles("v2g", 50, 17.0, 31.5, (27, 47), **V2G))], heat={HEAT_SINGLE: 1300}, gas_connection_kw=1000.0)),
    "h13-depot": (80, 58, Site("bus and van depot", 2000, {SHOP: 160, OFFICE: 80}, 1,
        [HEAT, boiler(500), pv(900), battery(800, 300), fleet(
            vehicles("buses", 24, 20.0, 29.0, (90, 290), capacity_kwh=320.0, charger_kw=80.0, min_energy_kwh=40.0),
            vehicles("noon-vans", 20, 11.5, 14.5, (30, 62), capacity_kwh=80.0, charger_kw=22.0))],
        heat={HEAT_SHOP: 420}, gas_connection_kw=700.0)),
    "h14-foundry": (90, 14, Site("foundry: furnaces of either carrier", 2600, {INDUSTRY: 700}, 2,
        [of_carrier("gas"), dual_fuel("furnace", 800.0, 0.75), pv(1400), battery(600, 300)], gas={GAS_INDUSTRY: 600},
        gas_connection_kw=1700.0)),
    "h15-campus": (106, 59, Site("campus: CHP, heat pump, cold rooms to precool", 2000, {OFFICE: 520, SHOP: 120}, 0,
        [HEAT, chp(400), boiler(900), heat_pump(220), heat_store(1800, 600), pv(1200), battery(600, 250),
         building("halls", 9.0, 30, 90, 120)], heat={HEAT_MULTI: 1300}, solar_gain_kw=60, internal_gain_kw=40,
        gas_connection_kw=2400.0)),
    "h16-solar": (116, 60, Site("solar cooperative: homes, a large battery, cars", 3200, {HOME: 300}, 4,
        [HEAT, boiler(600), heat_pump(150), pv(2600), battery(2400, 800), fleet(
            vehicles("coop", 40, 17.0, 32.0, (27, 47), **V2G))], heat={HEAT_SINGLE: 620}, pv_share_single=0.6,
        gas_connection_kw=750.0)),
}  # fmt: skip
"""Name: bus, gas node, site."""


def read_hubs() -> dict[str, dict[str, float]]:
    """{hub: its row}."""
    with (FOLDER / "hubs.csv").open(newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    return {row.pop("hub"): {key: float(value) for key, value in row.items()} for row in rows}


def of_row(row: dict[str, float], kind: tuple) -> tuple[str, tuple[int, int, Site]]:
    """A hub of the table: CHP and boiler at full power draw its gas connection exactly."""
    name, title, load, heat, shift, sun, more = kind
    tank = row["thermal_storage_kWh"]
    devices = [
        HEAT,
        chp(row["chp_P_el_max_kW"], row["chp_eta_el_HHV"], row["chp_eta_th_HHV"]),
        boiler(row["boiler_Q_th_max_kW"]),
        heat_pump(row["heat_pump_P_el_max_kW"]),
        heat_store(tank, tank / 2),
        battery(row["battery_E_kWh"], row["battery_P_max_kW"]),
        pv(sun * row["pv_P_peak_kW"]),
        *more,
    ]
    connection_kw = 2.0 * sum(load.values()) + row["heat_pump_P_el_max_kW"]
    gas_kw = row["hub_peak_gas_offtake_kW_HHV"]
    site = Site(title, connection_kw, load, shift, devices, heat=heat, gas_connection_kw=gas_kw)
    return name, (int(row["elec_bus"]), int(row["gas_node"]), site)


def hubs() -> dict[str, tuple[int, int, Site]]:
    """{name: (bus, gas node, site)}, all sixteen."""
    rows = read_hubs()
    return dict(of_row(rows[hub], kind) for hub, kind in KINDS.items()) | MORE


def main() -> None:
    stamps, source = read_source(FOLDER)
    for folder in ("agents", "profiles"):
        (FOLDER / folder).mkdir(exist_ok=True)
    write_csv(FOLDER / "profiles" / "public.csv", stamps, {new: source[old] for new, old in PUBLIC.items()})
    for name, (_, _, site) in hubs().items():
        write_csv(FOLDER / "agents" / f"{name}.csv", stamps, private_columns(site, source))
        (FOLDER / "agents" / f"{name}.toml").write_text(site_toml(site), encoding="utf-8")


if __name__ == "__main__":
    main()
