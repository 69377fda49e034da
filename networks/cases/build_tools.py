"""What the scripts that write bundled cases share: devices as tables, source profiles, and TOML and CSV files."""

from __future__ import annotations

import csv
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

STEPS_A_DAY = 96
HOME, SHOP, OFFICE = "load_household_mix_pu", "load_commercial_mix_pu", "load_office_weekday_pu"
HEAT_SINGLE, HEAT_MULTI, HEAT_SHOP = (
    "heat_household_single_family_pu",
    "heat_household_multi_family_pu",
    "heat_commercial_pu",
)
EMISSIONS = {"electricity_emission_kg_per_kwh": 0.4, "emission_price_eur_per_t": 25.0}
V2G = {"discharge_kw": 11.0}


@dataclass(frozen=True)
class Site:
    """A community or hub. load, gas, heat: {source column: peak kW} (gas HHV). shift: quarters of an hour.

    gas_connection_kw: a hub's, None for a community.
    """

    title: str
    connection_kw: float
    load: Mapping[str, float]
    shift: int
    devices: list[dict]
    pv_share_single: float = 0.3
    heat: Mapping[str, float] = field(default_factory=dict)
    solar_gain_kw: float = 0.0
    internal_gain_kw: float = 0.0
    gas: Mapping[str, float] = field(default_factory=dict)
    gas_connection_kw: float | None = None


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


def read_source(folder: Path) -> tuple[list[str], dict[str, np.ndarray]]:
    """Time stamps and columns, one row a quarter of an hour: whole local days, one after the other."""
    with (folder / "source_profiles.csv").open(newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    names = [name for name in rows[0] if name != "time_utc"]
    return [row["time_utc"] for row in rows], {n: np.array([float(row[n]) for row in rows]) for n in names}


def shifted(values: np.ndarray, quarters: int) -> np.ndarray:
    """Each day turned by some quarters of an hour, so that communities do not peak together."""
    return np.roll(values.reshape(-1, STEPS_A_DAY), quarters, axis=1).ravel()


def write_csv(path: Path, stamps: list[str], columns: Mapping[str, np.ndarray]) -> None:
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(["time_utc", *columns])
        writer.writerows(zip(stamps, *([f"{v:.4g}" for v in column] for column in columns.values()), strict=True))


def toml_value(value: object) -> str:
    """A text, truth value or number as TOML."""
    if isinstance(value, bool):
        return str(value).lower()
    return json.dumps(value, ensure_ascii=False) if isinstance(value, str) else repr(value)


def toml_table(head: str, table: Mapping[str, object]) -> list[str]:
    """A table, its nested lists of tables after it."""
    plain = [f"{key} = {toml_value(value)}" for key, value in table.items() if not isinstance(value, list)]
    nested = [(key, item) for key, value in table.items() if isinstance(value, list) for item in value]
    lines = [f"[[{head}]]", *plain, ""]
    for key, item in nested:
        lines += toml_table(f"{head}.{key}", item)
    return lines


def private_columns(site: Site, source: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    mix = lambda parts: sum(peak * shifted(source[c], site.shift) for c, peak in parts.items())  # noqa: E731
    single = site.pv_share_single
    sun = single * source["pv_single_pu"] + (1 - single) * source["pv_mix_pu"]
    columns = {"load_kw": mix(site.load), "pv_pu_own": sun}
    for carrier in ("heat", "gas"):
        if parts := getattr(site, carrier):
            columns[f"{carrier}_kw"] = mix(parts)
    if site.solar_gain_kw:
        columns["gains_kw"] = site.internal_gain_kw + site.solar_gain_kw * sun
    return columns


def site_toml(site: Site) -> str:
    limit = float(site.connection_kw)
    lines = [
        f"# {site.title}. Private: read only by the rank that owns this agent.",
        f"import_limit_kw = {limit}",
        f"export_limit_kw = {limit}",
        "flex_up_cost_eur_per_mwh = 1.0",
        "flex_down_cost_eur_per_mwh = 1.0",
        "flex_quadratic_cost_eur_per_mw2h = 4.0",
    ]
    if site.gas_connection_kw is not None:
        lines += [
            f"{key} = {toml_value(value)}"
            for key, value in {"gas_connection_kw": site.gas_connection_kw, **EMISSIONS}.items()
        ]
    lines.append("")
    for device in [{"kind": "load", "name": "load", "power_kw": "load_kw"}, *site.devices]:
        lines += toml_table("devices", device)
    return "\n".join(lines)
