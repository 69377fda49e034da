"""Random cases as folders: case.toml, feeder, agents, profiles. The number of a case is its seed.

Radial feeders of 5 to 40 buses with one to six communities or hubs of 0.3 kW to 2 MW, 1 to 48 periods of 5 to 60
minutes. With more than 6 periods feeders are smaller. Every agent has a schedule that its limits allow
(`case_devices`). Branches and voltages leave room for all of these at once, so a case has an agreement, as far as
losses and reactive power leave one. Where limits are tight they leave hardly more: flexible devices then meet them.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.case_devices import Site, community, hub, rounded
from benchmarks.fuzz_inputs import toml_text

PERIODS = (1, 2, 3, 6, 12, 24, 48)
PERIOD_CHANCES = (0.22, 0.2, 0.2, 0.25, 0.08, 0.04, 0.01)
MOST_BUSES, MOST_BUS_PERIODS = 40, 240
"""Long horizons have small feeders: a case takes seconds, and many say more than few large ones."""
STEPS_MINUTES = (5, 10, 15, 30, 60)
PRICES = ("flat", "usual", "swinging")
LEAST_KW, MOST_KW = 0.3, 2000.0
FIRST_DAY = datetime(2024, 1, 1, tzinfo=UTC)
GAS_ENTRY = "1"


@dataclass(frozen=True)
class Traits:
    """What was drawn. connections: smallest and largest, kW. buses: of the feeder."""

    periods: int
    step_minutes: int
    buses: int
    agents: int
    hubs: int
    gas: bool
    least_kw: float
    most_kw: float
    prices: str
    flexibility_paid: bool
    tight: bool
    supports: int


@dataclass(frozen=True)
class _Agent:
    """One drawn agent. table: its entry of case.toml; own: its own file without devices."""

    table: dict[str, Any]
    own: dict[str, Any]
    site: Site


def write_case(seed: int, folder: Path) -> Traits:
    """Write the case with this number into a folder that is not there yet."""
    rng = np.random.default_rng(seed)
    periods, step = int(rng.choice(PERIODS, p=PERIOD_CHANCES)), int(rng.choice(STEPS_MINUTES))
    start = FIRST_DAY + timedelta(days=int(rng.integers(0, 365)), hours=int(rng.integers(0, 24)))
    times = [start + i * timedelta(minutes=step) for i in range(periods)]
    hour = np.array([time.hour + time.minute / 60 for time in times])
    buses = int(rng.integers(5, max(6, min(MOST_BUSES, MOST_BUS_PERIODS // periods)) + 1))
    gas = bool(rng.random() < 0.15)
    count = int(rng.integers(1, 7))
    agents = [_agent(rng, i, hour, step, buses, gas) for i in range(count)]
    gas = any(agent.site.gas_kw for agent in agents)
    tight, prices = bool(rng.random() < 0.4), str(rng.choice(PRICES))
    network, tables = _feeder(rng, buses, agents, tight)
    network |= _prices(rng)
    public = {"load_pu": _shape(rng, hour), "pv_pu": _sun(rng, hour), "price": _price(rng, prices, hour)}
    head = {"name": f"random-{seed}", "profiles": ["profiles/public.csv"]}
    horizon = {"start": start, "periods": periods, "step_minutes": step}
    networks = [network, *([_gas_network(rng)] if gas else [])]
    tree = {**head, "horizon": horizon, "network": networks, "agent": [agent.table for agent in agents]}
    _write(folder / "case.toml", toml_text(tree))
    _write_series(folder / "profiles" / "public.csv", times, public)
    for name, text in {**tables, **(_gas_tables(agents) if gas else {})}.items():
        _write(folder / name, text)
    for agent in agents:
        _write_agent(folder, agent, times)
    sizes = [agent.table["connection_kw"] for agent in agents]
    return Traits(
        periods=periods,
        step_minutes=step,
        buses=buses,
        agents=count,
        hubs=sum(agent.table["kind"] == "hub" for agent in agents),
        gas=gas,
        least_kw=min(sizes),
        most_kw=max(sizes),
        prices=prices,
        flexibility_paid="supply_flexibility_price_eur_per_mwh" in network,
        tight=tight,
        supports=len(network["reactive_support"]),
    )


# ---------------------------------------------------------------- agents


def _agent(rng: np.random.Generator, number: int, hour: np.ndarray, step: int, buses: int, gas: bool) -> _Agent:
    connection = float(np.exp(rng.uniform(np.log(LEAST_KW), np.log(MOST_KW))))
    site = Site(rng, connection * float(rng.uniform(0.1, 0.4)), hour)
    is_hub = rng.random() < (0.6 if gas else 0.15)
    if is_hub:
        hub(site, gas)
    else:
        community(site)
    limit = rounded(max(connection, 1.2 * site.steady_kw))
    name = f"ec{number}"
    table = {"kind": "hub" if is_hub else "community", "name": name, "network": "dso", "file": f"agents/{name}.toml"}
    table |= {"bus": int(rng.integers(2, buses + 1)), "connection_kw": limit}
    table |= {"power_factor": float(rng.choice([1.0, 0.98, 0.9]))}
    own = {"import_limit_kw": limit, "export_limit_kw": limit, **_offers(rng, step)}
    if site.gas_kw:
        size = {"gas_connection_kw": rounded(site.gas_kw)}
        table |= {"gas_network": "gas", "gas_node": int(rng.integers(2, 4)), **size}
        own |= {**size, "emission_price_eur_per_t": float(rng.choice([0.0, 50.0]))}
    return _Agent(table, own, site)


def _offers(rng: np.random.Generator, step: int) -> dict[str, float]:
    """What an agent asks for its flexibility, and for how long it gives it."""
    costs = {f"flex_{way}_cost_eur_per_mwh": float(rng.choice([0.0, 1.0, 5.0])) for way in ("up", "down")}
    costs["flex_quadratic_cost_eur_per_mw2h"] = float(rng.choice([0.0, 1.0]))
    longer = {"flexibility_duration_minutes": step * int(rng.integers(2, 5))} if rng.random() < 0.3 else {}
    return costs | longer


def _write_agent(folder: Path, agent: _Agent, times: list[datetime]) -> None:
    path = folder / agent.table["file"]
    _write(path, toml_text({**agent.own, "devices": agent.site.devices}))
    _write_series(path.with_suffix(".csv"), times, agent.site.columns)


# ---------------------------------------------------------------- the feeder


def _feeder(
    rng: np.random.Generator, buses: int, agents: list[_Agent], tight: bool
) -> tuple[dict[str, Any], dict[str, str]]:
    """The operator's entry of case.toml, and its tables. Powers are in MVA, the root is bus 1."""
    above = np.array([0, *(int(i if rng.random() < 0.6 else rng.integers(1, i + 1)) for i in range(1, buses))])
    steady, most = np.zeros(buses, complex), np.zeros(buses, complex)
    for agent in agents:
        factor = agent.table["power_factor"]
        reactive = 1.0 + 1j * np.sqrt(1 - factor**2) / factor
        steady[agent.table["bus"] - 1] += agent.site.steady_kw / 1e3 * reactive
        most[agent.table["bus"] - 1] += agent.table["connection_kw"] / 1e3 * reactive
    fixed = _fixed_load(rng, buses, max(steady.real.sum(), 1e-4))
    steady, most = _through(above, steady + fixed), _through(above, most + fixed)
    total = abs(steady[1:]).max()
    kv = 0.4 if total < 0.15 else float(rng.choice([10.0, 12.66, 20.0]))
    ohm, drop = _impedances(rng, above, steady, kv)
    network = _feeder_entry(rng, buses, drop, total, tight)
    room = rng.uniform(1.1, 1.5, buses) if tight else np.full(buses, 1.5)
    amperes = np.maximum(room * abs(steady if tight else most) / (np.sqrt(3) * kv * 0.9) * 1e3, 1e-3)
    lines = [
        f"{i},{above[i]},{i + 1},{rounded(ohm[i].real)},{rounded(ohm[i].imag)},0,{rounded(amperes[i])}"
        for i in range(1, buses)
    ]
    rows = [
        f"{i + 1},{'PQ' if i else 'slack'},{kv},{_kw(fixed[i].real)},{_kw(fixed[i].imag)},0.9,1.1" for i in range(buses)
    ]
    return network, {
        "net/bus.csv": _table("bus,type,base_kV,Pd_kW,Qd_kvar,Vmin_pu,Vmax_pu", rows),
        "net/branch.csv": _table("branch,from_bus,to_bus,r_ohm,x_ohm,tie,I_max_A", lines),
    }


def _fixed_load(rng: np.random.Generator, buses: int, steady_mw: float) -> np.ndarray:
    """Load of others at each bus but the root, together 0.1 to 3 times what the agents draw; (n,) MVA."""
    weight = np.r_[0.0, rng.uniform(0.0, 1.0, buses - 1)]
    active = weight / weight.sum() * steady_mw * float(np.exp(rng.uniform(np.log(0.1), np.log(3.0))))
    return active * (1 + 1j * rng.uniform(0.1, 0.5, buses))


def _through(above: np.ndarray, power: np.ndarray) -> np.ndarray:
    """What flows through the branch above each bus, without losses. above: number of the bus above, from 1."""
    total = power.copy()
    for i in range(power.size - 1, 0, -1):
        total[above[i] - 1] += total[i]
    return total


def _impedances(
    rng: np.random.Generator, above: np.ndarray, through: np.ndarray, kv: float
) -> tuple[np.ndarray, float]:
    """Of the branch above each bus, ohm, such that the largest voltage drop is what was drawn, in pu."""
    ohm = rng.uniform(0.1, 1.0, above.size) * (1 + 1j * rng.uniform(0.3, 1.5, above.size))
    fall = (ohm.real * through.real + ohm.imag * through.imag) / kv**2
    total = np.zeros(above.size)
    for i in range(1, above.size):
        total[i] = total[above[i] - 1] + fall[i]
    drop = float(np.exp(rng.uniform(np.log(0.002), np.log(0.04))))
    factor = np.minimum(drop / total.max(), 3.0 / abs(ohm).max())
    return factor * ohm, float(factor * total.max())


def _feeder_entry(rng: np.random.Generator, buses: int, drop: float, total_mva: float, tight: bool) -> dict[str, Any]:
    slack = float(rng.choice([1.0, 1.02]))
    room = 1.3 * drop + 0.005 if tight else 0.1
    count = int(rng.integers(0, 4)) if rng.random() < 0.6 else 0
    at = rng.choice(np.arange(2, buses + 1), size=count, replace=False)
    supports = [{"bus": int(bus), "q_max_mvar": rounded(total_mva * rng.uniform(0.05, 1.0))} for bus in sorted(at)]
    limit = {"substation_limit_mva": rounded(1.4 * total_mva)} if tight and rng.random() < 0.3 else {}
    return {
        "name": "dso",
        "kind": "distribution",
        "source": "net",
        "slack_voltage_pu": slack,
        "voltage_min_pu": rounded(slack - room),
        "voltage_max_pu": rounded(slack + room),
        "load_profile": "load_pu",
        "reactive_support": supports,
        **limit,
        **({"pv_profile": "pv_pu", "pv_scale": rounded(rng.uniform(0.2, 1.0))} if rng.random() < 0.6 else {}),
    }


def _prices(rng: np.random.Generator) -> dict[str, Any]:
    flexibility = {"supply_flexibility_price_eur_per_mwh": rounded(float(np.exp(rng.uniform(0.0, np.log(50.0)))))}
    return {"supply_price_eur_per_mwh": "price", **(flexibility if rng.random() < 0.6 else {})}


# ---------------------------------------------------------------- gas


def _gas_network(rng: np.random.Generator) -> dict[str, Any]:
    price = rounded(rng.uniform(10.0, 60.0))
    profiles = {"demand_profiles": {"homes": "load_pu"}}
    return {"name": "gas", "kind": "gas", "source": "gas", "price_eur_per_mwh": price, **profiles}


def _gas_tables(agents: list[_Agent]) -> dict[str, str]:
    """Three nodes in a line, wide enough for all connections at once."""
    kw = sum(agent.site.gas_kw for agent in agents)
    wide = rounded(60.0 * max(1.0, kw / 1e3) ** 0.4)
    nodes = ["1,source,1.5,4,0", *(f"{i},homes,1.5,4,{rounded(0.1 * kw)}" for i in (2, 3))]
    pipes = [f"{i},{i},{i + 1},0.5,{wide},0.05" for i in (1, 2)]
    return {
        "gas/node.csv": _table("node,profile,p_min_bar_g,p_max_bar_g,peak_demand_kw", nodes),
        "gas/pipe.csv": _table("pipe,from_node,to_node,length_km,inner_diameter_mm,roughness_mm", pipes),
        "gas/gate.csv": _table(
            "gate,node,p_set_bar_g,p_min_bar_g,p_max_bar_g,max_flow_kw,cost_eur_per_mwh",
            [f"gate,{GAS_ENTRY},4,3,4,{rounded(1.5 * kw)},30"],
        ),
    }


# ---------------------------------------------------------------- profiles and files


def _shape(rng: np.random.Generator, hour: np.ndarray) -> np.ndarray:
    wave = 0.7 - 0.2 * np.cos(2 * np.pi * (hour - 4) / 24)
    return np.minimum(wave * rng.uniform(0.9, 1.1, hour.size), 1.0)


def _sun(rng: np.random.Generator, hour: np.ndarray) -> np.ndarray:
    """Output of PV per installed power; so many hours of sun as were drawn."""
    half = rng.uniform(4.0, 8.0)
    height = np.cos(np.pi / 2 * np.clip((hour - 12) / half, -1.0, 1.0))
    return np.round(height * rng.uniform(0.4, 1.0, hour.size), 4)


def _price(rng: np.random.Generator, kind: str, hour: np.ndarray) -> np.ndarray:
    """EUR/MWh: one in all periods, two peaks a day, or to and fro between -500 and 3000."""
    if kind == "flat":
        return np.full(hour.size, rounded(rng.uniform(10.0, 150.0)))
    if kind == "swinging":
        extreme = rng.choice([-500.0, 3000.0], hour.size)
        return np.where(rng.random(hour.size) < 0.5, extreme, rng.uniform(-500.0, 3000.0, hour.size))
    peaks = np.exp(-(((hour - 8) / 2) ** 2)) + np.exp(-(((hour - 19) / 2) ** 2))
    return rng.uniform(20.0, 80.0) * (1 + peaks) * rng.uniform(0.8, 1.2, hour.size)


def _kw(mw: float) -> float:
    return rounded(1e3 * mw)


def _table(head: str, rows: list[str]) -> str:
    return "\n".join([head, *rows, ""])


def _write(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, encoding="utf-8")


def _write_series(path: Path, times: list[datetime], columns: Mapping[str, np.ndarray]) -> None:
    rows = [
        ",".join([f"{time:%Y-%m-%dT%H:%MZ}", *(f"{values[i]:.6g}" for values in columns.values())])
        for i, time in enumerate(times)
    ]
    _write(path, _table(",".join(["time_utc", *columns]), rows))
