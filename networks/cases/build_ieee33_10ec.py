"""Writes the case `ieee33-10ec`: ten communities of different kinds on the 33-node feeder.

    python -m networks.cases.build_ieee33_10ec

Sizes are plausible, not measured. Profiles come from `source_profiles.csv` (see the case's README for
sources and licences); each community gets its own mix of them, shifted by some quarters of an hour.
"""

from __future__ import annotations

import csv
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

FOLDER = Path(__file__).parent / "ieee33-10ec"
STEPS_A_DAY = 96
PUBLIC = {
    "temperature_degc": "temperature_degc",
    "pv_pu": "pv_mix_pu",
    "day_ahead_price_eur_per_mwh": "day_ahead_price_eur_per_mwh",
    "feeder_load_pu": "load_lv_grid_suburban_pu",
    "transmission_load_pu": "load_hv_grid_mixed_pu",
}
HOME, SHOP, OFFICE = "load_household_mix_pu", "load_commercial_mix_pu", "load_office_weekday_pu"
HEAT_SINGLE, HEAT_MULTI, HEAT_SHOP = (
    "heat_household_single_family_pu",
    "heat_household_multi_family_pu",
    "heat_commercial_pu",
)


@dataclass(frozen=True)
class Community:
    """load: {source column: peak kW}. heat: {source column: peak kW thermal}. shift: quarters of an hour."""

    title: str
    connection_kw: float
    load: Mapping[str, float]
    shift: int
    devices: list[dict]
    pv_share_single: float = 0.3
    heat: Mapping[str, float] = field(default_factory=dict)
    solar_gain_kw: float = 0.0
    internal_gain_kw: float = 0.0


def pv(kw: float) -> dict:
    return {"kind": "pv", "name": "pv", "installed_kw": kw, "available_pu": "pv_pu_own"}


def battery(kwh: float, kw: float) -> dict:
    return {
        "kind": "battery", "name": "battery", "capacity_kwh": kwh, "charge_kw": kw, "discharge_kw": kw,
        "charge_efficiency": 0.96, "discharge_efficiency": 0.96, "self_discharge_per_h": 0.0002,
        "initial_share": 0.5, "min_share": 0.1, "max_share": 0.95,
    }  # fmt: skip


def vehicles(name: str, count: int, arrival: float, departure: float, need: tuple[float, float], **more) -> dict:
    """A class of cars: need = (energy on arrival, energy at departure) in kWh of each."""
    return {
        "name": name, "vehicles": count, "capacity_kwh": 60.0, "charger_kw": 11.0, "discharge_kw": 0.0,
        "charge_efficiency": 0.95, "discharge_efficiency": 0.95, "arrival_hour": arrival, "departure_hour": departure,
        "energy_on_arrival_kwh": need[0], "energy_at_departure_kwh": need[1], "min_energy_kwh": 12.0,
    } | more  # fmt: skip


def fleet(*classes: dict) -> dict:
    return {"kind": "ev_fleet", "name": "cars", "classes": list(classes)}


def building(name: str, loss_kw_per_k: float, hours: float, heating_kw: float, cooling_kw: float = 0.0, **more) -> dict:
    """Buildings with a heat loss and a time constant; heated, and cooled where cooling_kw is above 0."""
    return {
        "kind": "thermostatic_load", "name": name, "resistance_k_per_kw": round(1 / loss_kw_per_k, 6),
        "capacitance_kwh_per_k": round(loss_kw_per_k * hours, 3), "outdoor_temperature_degc": "temperature_degc",
        "gains_kw": "gains_kw", "max_heating_kw": heating_kw, "cop_heating": 3.0, "max_cooling_kw": cooling_kw,
        "cop_cooling": 3.2, "min_temperature_degc": 19.5, "max_temperature_degc": 24.5, "set_point_degc": 21.5,
        "initial_temperature_degc": 21.5, "discomfort_cost_eur_per_k2h": 0.02,
    } | more  # fmt: skip


def heat_pump(kw: float, tank_kwh: float) -> dict:
    return {
        "kind": "heat_pump", "name": "heatpump", "max_kw": kw, "heat_demand_kw": "heat_kw",
        "outdoor_temperature_degc": "temperature_degc", "cop_at_7c": 3.4, "cop_slope_per_k": 0.06,
        "tank_kwh": tank_kwh, "tank_loss_per_h": 0.005,
    }  # fmt: skip


def shiftable(name: str, *windows: tuple[float, float, float, float]) -> dict:
    """windows: (start hour, end hour, kWh, largest kW)."""
    keys = ("start_hour", "end_hour", "energy_kwh", "max_kw")
    return {"kind": "shiftable_load", "name": name, "windows": [dict(zip(keys, w, strict=True)) for w in windows]}


V2G = {"discharge_kw": 11.0}
COMMUNITIES = {
    "ec01-homes": (7, Community("150 homes, air-conditioned by reversible heat pumps", 260, {HOME: 170}, 0,
        [pv(120), battery(200, 80), building("homes", 7.0, 24, 70, 40)], solar_gain_kw=40, internal_gain_kw=18)),
    "ec02-homes-cars": (14, Community("60 homes with cars, half of them V2G", 220, {HOME: 80}, 2,
        [pv(70), fleet(vehicles("v2g", 15, 17.5, 31.0, (28, 48), **V2G), vehicles("plain", 20, 18.5, 30.5, (26, 46)))])),
    "ec03-offices": (24, Community("office park with cars at work", 460, {OFFICE: 260, SHOP: 40}, 0,
        [pv(220), building("offices", 9.0, 30, 90, 90), fleet(vehicles("staff", 45, 8.0, 17.0, (24, 44)))],
        solar_gain_kw=60, internal_gain_kw=40)),
    "ec04-shops": (30, Community("shopping street with a battery", 340, {SHOP: 230}, 1,
        [pv(150), battery(240, 90), building("shops", 6.0, 16, 60, 70)], solar_gain_kw=30, internal_gain_kw=30)),
    "ec05-depot": (25, Community("delivery depot: vans charge at night, some at noon", 420, {SHOP: 60}, 0,
        [pv(120), battery(300, 120), fleet(
            vehicles("night-vans", 24, 18.0, 30.0, (25, 72), capacity_kwh=80.0, charger_kw=22.0),
            vehicles("noon-vans", 8, 11.5, 14.5, (30, 60), capacity_kwh=80.0, charger_kw=22.0))])),
    "ec06-heat-pumps": (18, Community("80 homes on heat pumps with tanks", 200, {HOME: 90}, 3,
        [pv(60), heat_pump(110, 500)], heat={HEAT_SINGLE: 300})),
    "ec07-village": (32, Community("village: homes, shops, cars, wash houses", 280, {HOME: 90, SHOP: 50}, 1,
        [pv(110), battery(120, 50), fleet(vehicles("cars", 20, 18.0, 31.0, (26, 45), **V2G)), heat_pump(50, 200),
         shiftable("laundry", (8.0, 20.0, 120.0, 30.0))], heat={HEAT_MULTI: 120})),
    "ec08-works": (29, Community("works with cars of two shifts and a process to shift", 420, {OFFICE: 120, SHOP: 120}, 2,
        [pv(260), fleet(vehicles("shift", 40, 6.0, 14.0, (22, 42)), vehicles("late-shift", 25, 14.0, 22.0, (24, 44))),
         shiftable("process", (6.0, 14.0, 240.0, 60.0), (14.0, 22.0, 200.0, 60.0))])),
    "ec09-hotel": (22, Community("hotel and baths", 240, {SHOP: 110, HOME: 30}, 0,
        [pv(80), building("rooms", 5.0, 28, 50, 50), heat_pump(45, 180), shiftable("laundry", (7.0, 17.0, 150.0, 40.0))],
        heat={HEAT_SHOP: 100}, solar_gain_kw=20, internal_gain_kw=15)),
    "ec10-solar": (12, Community("solar cooperative: homes, a large battery, V2G cars", 340, {HOME: 120}, 4,
        [pv(320), battery(500, 160), fleet(vehicles("coop", 25, 17.0, 32.0, (27, 47), **V2G))], pv_share_single=0.6)),
}  # fmt: skip


def read_source() -> tuple[list[str], dict[str, np.ndarray]]:
    """Time stamps and columns (192,): the winter day, then the summer day."""
    with (FOLDER / "source_profiles.csv").open(newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    names = [name for name in rows[0] if name != "time_utc"]
    return [row["time_utc"] for row in rows], {n: np.array([float(row[n]) for row in rows]) for n in names}


def shifted(values: np.ndarray, quarters: int) -> np.ndarray:
    """Each day turned by some quarters of an hour, so that communities do not peak together."""
    return np.roll(values.reshape(-1, STEPS_A_DAY), quarters, axis=1).ravel()


def private_columns(community: Community, source: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    mix = lambda parts: sum(peak * shifted(source[c], community.shift) for c, peak in parts.items())  # noqa: E731
    single = community.pv_share_single
    sun = single * source["pv_single_pu"] + (1 - single) * source["pv_mix_pu"]
    columns = {"load_kw": mix(community.load), "pv_pu_own": sun}
    if community.heat:
        columns["heat_kw"] = mix(community.heat)
    if community.solar_gain_kw:
        columns["gains_kw"] = community.internal_gain_kw + community.solar_gain_kw * sun
    return columns


def write_csv(path: Path, stamps: list[str], columns: Mapping[str, np.ndarray]) -> None:
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(["time_utc", *columns])
        writer.writerows(zip(stamps, *([f"{v:.4g}" for v in column] for column in columns.values()), strict=True))


def toml_value(value: object) -> str:
    return f'"{value}"' if isinstance(value, str) else repr(value)


def toml_table(head: str, table: Mapping[str, object]) -> list[str]:
    """A table, its nested lists of tables after it."""
    plain = [f"{key} = {toml_value(value)}" for key, value in table.items() if not isinstance(value, list)]
    nested = [(key, item) for key, value in table.items() if isinstance(value, list) for item in value]
    lines = [f"[[{head}]]", *plain, ""]
    for key, item in nested:
        lines += toml_table(f"{head}.{key}", item)
    return lines


def community_toml(community: Community) -> str:
    limit = float(community.connection_kw)
    lines = [
        f"# {community.title}. Private: read only by the rank that owns this agent.",
        f"import_limit_kw = {limit}",
        f"export_limit_kw = {limit}",
        "flex_up_cost_eur_per_mwh = 1.0",
        "flex_down_cost_eur_per_mwh = 1.0",
        "flex_quadratic_cost_eur_per_mw2h = 4.0",
        "",
    ]
    for device in [{"kind": "load", "name": "load", "power_kw": "load_kw"}, *community.devices]:
        lines += toml_table("devices", device)
    return "\n".join(lines)


def main() -> None:
    stamps, source = read_source()
    for folder in ("agents", "profiles"):
        (FOLDER / folder).mkdir(exist_ok=True)
    write_csv(FOLDER / "profiles" / "public.csv", stamps, {new: source[old] for new, old in PUBLIC.items()})
    for name, (_, community) in COMMUNITIES.items():
        write_csv(FOLDER / "agents" / f"{name}.csv", stamps, private_columns(community, source))
        (FOLDER / "agents" / f"{name}.toml").write_text(community_toml(community), encoding="utf-8")


if __name__ == "__main__":
    main()
