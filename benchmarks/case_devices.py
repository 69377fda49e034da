"""Random devices for the communities and hubs of random cases, each with a schedule that its own limits allow.

A function of DEVICES or of a hub makes one device as a table for the agent's file. Beside it stands the largest power
of one such schedule, kW: batteries and tanks at rest, rooms at their set point, cars charged evenly. The agent's limits
and its feeder's lie above the sum of these.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np

COP_AT_7C, COP_SLOPE_PER_K, LEAST_COP, MOST_COP = 3.5, 0.07, 1.5, 6.0
"""Of every heat pump, as in subproblems/README.md."""


def rounded(value: float) -> float:
    """Six digits, as the files have them."""
    return float(f"{value:.6g}")


@dataclass
class Site:
    """Whose devices are drawn. kw: their usual size. hour: (T,) hour of the day of each period. columns: of the agent's
    own CSV file so far. steady_kw: power of the schedule that its limits allow. gas_kw: most gas it may take."""

    rng: np.random.Generator
    kw: float
    hour: np.ndarray
    columns: dict[str, np.ndarray] = field(default_factory=dict)
    devices: list[dict[str, Any]] = field(default_factory=list)
    steady_kw: float = 0.0
    gas_kw: float = 0.0

    def add(self, kind: str, name: str, steady_kw: float, **attributes: Any) -> None:
        self.steady_kw += steady_kw
        numbers = {k: rounded(v) if isinstance(v, float) else v for k, v in attributes.items()}
        self.devices.append({"kind": kind, "name": name, **numbers})

    def between(self, low: float, high: float) -> float:
        return float(self.rng.uniform(low, high))

    def size(self, low: float, high: float) -> float:
        """A power or energy of so many times the usual one."""
        return self.kw * self.between(low, high)

    def some(self, chance: float) -> bool:
        return bool(self.rng.random() < chance)

    def either(self, *values: float) -> float:
        return float(self.rng.choice(values))

    def column(self, name: str, peak: float) -> str:
        """Add a series with a morning and an evening peak, and noise."""
        shape = 0.55 + 0.2 * np.exp(-(((self.hour - 8) / 2) ** 2)) + 0.35 * np.exp(-(((self.hour - 19) / 3) ** 2))
        values = peak * np.minimum(shape * self.rng.uniform(0.85, 1.1, self.hour.size), 1.0)
        self.columns[name] = np.array([rounded(value) for value in values])
        return name


def _load(site: Site) -> None:
    peak = site.size(0.2, 1.0)
    site.add("load", "load", peak, power_kw=site.column("load_kw", peak))


def _pv(site: Site) -> None:
    installed, least = site.size(0.2, 1.5), site.either(0.0, 0.0, 0.0, 0.3)
    cost = site.either(0.0, 0.0, 0.01, 0.05)
    attributes = {"available_pu": "pv_pu", "min_share": least, "curtailment_cost_eur_per_kwh": cost}
    site.add("pv", "pv", least * installed, installed_kw=installed, **attributes, flexible=site.some(0.8))


def _battery(site: Site) -> None:
    charge, efficiency, loss = site.size(0.2, 1.0), site.between(0.8, 0.99), site.either(0.0, 0.001, 0.01)
    capacity = charge * site.between(0.5, 4.0)
    site.add(
        "battery",
        "battery",
        capacity * loss / efficiency,
        capacity_kwh=capacity,
        charge_kw=charge,
        discharge_kw=charge * site.between(0.5, 1.5),
        charge_efficiency=efficiency,
        discharge_efficiency=site.between(0.8, 0.99),
        self_discharge_per_h=loss,
        wear_cost_eur_per_kwh=site.either(0.0, 0.005, 0.05),
        wear_rise_eur_per_kwh=site.either(0.0, 0.002),
        flexible=site.some(0.7),
    )


def _cars(site: Site) -> None:
    """One class or two that come in the evening or in the morning."""
    classes, steady = [], 0.0
    for name, arrival, stay in [("night", 18.0, 12.0), ("day", 7.0, 9.0)][: 1 + site.some(0.3)]:
        vehicles, stay = int(site.rng.integers(1, 20)), stay - float(site.rng.integers(0, 4))
        charger = site.size(0.2, 0.8) / vehicles
        energy = 0.9 * charger * stay * site.between(0.2, 0.7)
        capacity = 2.0 * energy
        stays = {"name": name, "vehicles": vehicles, "arrival_hour": arrival, "departure_hour": arrival + stay}
        powers = {"charger_kw": charger, "discharge_kw": charger * site.either(0.0, 1.0), "capacity_kwh": capacity}
        energies = {"energy_on_arrival_kwh": 0.3 * capacity, "energy_at_departure_kwh": 0.8 * capacity}
        numbers = {
            key: rounded(value) for key, value in {**powers, **energies, "min_energy_kwh": 0.1 * capacity}.items()
        }
        classes.append(stays | numbers)
        steady += vehicles * charger
    charging = "controlled" if site.some(0.85) else "on_arrival"
    site.add("ev_fleet", "cars", steady, charging=charging, flexible=site.some(0.7), classes=classes)


def _house(site: Site) -> None:
    """Held at its set point by heating or by cooling."""
    outdoor = site.between(-10.0, 12.0) if site.some(0.8) else site.between(27.0, 35.0)
    steady = site.size(0.1, 0.5)
    most, resistance = steady * site.between(1.3, 2.5), abs(21.0 - outdoor) / (3.0 * steady)
    site.add(
        "thermostatic_load",
        "house",
        steady,
        resistance_k_per_kw=resistance,
        capacitance_kwh_per_k=site.between(8.0, 80.0) / resistance,
        outdoor_temperature_degc=outdoor,
        **{"max_heating_kw" if outdoor < 21.0 else "max_cooling_kw": most},
        discomfort_cost_eur_per_k2h=site.either(0.0, 0.05, 1.0),
        flexible=site.some(0.8),
    )


def _cop(outdoor: float) -> float:
    return min(MOST_COP, max(LEAST_COP, COP_AT_7C + COP_SLOPE_PER_K * (outdoor - 7.0)))


def _heat_pump(site: Site) -> None:
    outdoor, heat = site.between(-10.0, 15.0), site.size(0.3, 1.5)
    tank = heat * site.either(0.0, 1.0, 4.0)
    steady = (heat + 0.01 * tank) / _cop(outdoor)
    attributes = {"outdoor_temperature_degc": outdoor, "tank_kwh": tank, "flexible": site.some(0.8)}
    most, demand = steady * site.between(1.1, 2.0), site.column("heat_kw", heat)
    site.add("heat_pump", "heat_pump", steady, max_kw=most, heat_demand_kw=demand, **attributes)


def _washing(site: Site) -> None:
    """One window or two, by day and by night."""
    windows, most = [], site.size(0.1, 0.6)
    for start in [8.0, 20.0][: 1 + site.some(0.5)]:
        length = float(site.rng.integers(2, 9))
        energy = most * length * site.between(0.2, 0.8)
        windows.append(
            {"start_hour": start, "end_hour": start + length, "energy_kwh": rounded(energy), "max_kw": rounded(most)}
        )
    shifting = "controlled" if site.some(0.85) else "at_once"
    daily = len(windows) == 1 or site.some(0.5)
    site.add("shiftable_load", "washing", most, windows=windows, shifting=shifting, repeat_daily=daily)


DEVICES = (_pv, _battery, _cars, _house, _heat_pump, _washing)


def community(site: Site) -> None:
    """A load, and each other kind of device of a community with even chances."""
    _load(site)
    for add in DEVICES:
        if site.some(0.5):
            add(site)


def hub(site: Site, gas: bool) -> None:
    """A community with a heat balance, hydrogen now and then, and with gas CHP, boiler and loads of gas."""
    community(site)
    heat = site.size(0.2, 1.0)
    outdoor, tank = site.between(-10.0, 15.0), heat * site.between(1.0, 4.0)
    site.add("load", "rooms", 0.0, carrier="heat", power_kw=site.column("rooms_kw", heat))
    steady = (heat + 0.01 * tank) / _cop(outdoor)
    site.add("hub_heat_pump", "source", steady, max_kw=1.2 * steady, outdoor_temperature_degc=outdoor)
    power = heat * site.between(0.2, 1.0)
    site.add("heat_storage", "store", 0.0, capacity_kwh=tank, charge_kw=power, discharge_kw=power)
    if site.some(0.7):
        site.add("heat_dump", "dump", 0.0, max_heat_kw=heat)
    if site.some(0.5):
        _electrolyser(site)
    if gas:
        _gas_devices(site, heat)


def _electrolyser(site: Site) -> None:
    most = site.size(0.2, 0.8)
    demand = 0.7 * most * site.between(0.1, 0.6)
    tank = demand * site.either(0.0, 4.0)
    attributes = {"hydrogen_demand_kw": demand, "tank_kwh": tank, "flexible": site.some(0.8)}
    site.add("electrolyser", "electrolyser", demand / 0.7, max_kw=most, **attributes)


def _gas_devices(site: Site, heat: float) -> None:
    rated, load, dual = site.size(0.1, 0.5), site.size(0.1, 0.5), site.size(0.1, 0.5)
    ramp = {"ramp_kw_per_h": rated * site.between(0.5, 4.0)} if site.some(0.5) else {}
    cost = {"run_cost_eur_per_kwh": site.either(0.0, 0.008)}
    efficiencies = {"electric_efficiency": 0.35, "thermal_efficiency": 0.5}
    site.add("chp", "chp", 0.0, rated_kw=rated, **efficiencies, **ramp, **cost)
    site.add("gas_boiler", "boiler", 0.0, max_heat_kw=heat)
    site.add("load", "stove", 0.0, carrier="gas", power_kw=site.column("stove_kw", load))
    site.add("dual_fuel_load", "dual", dual, demand_kw=site.column("dual_kw", dual), gas_share=site.between(0.2, 1.0))
    site.gas_kw = 1.2 * (heat / 0.9 + load + dual + rated / 0.35)
