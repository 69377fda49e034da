"""Devices whose flexibility is called, simulated one by one: what breaks, without any optimisation.

A call moves a device's consumption by its award for the product's duration. Afterwards the device is free: the states
that it can still reach are an interval, carried forward to the end of the horizon,

    low  <- keep low  + drift + all draining legs at full power
    high <- keep high + drift + all filling legs at full power        both cut to the limits of the state

and where low rises above an upper limit, or high falls below a lower one, nothing that the device may do saves it.
Numbers of the devices are those of `independent_community`, which reads the files itself. kW, and the states' units.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from tests.independent_community import DEFAULTS, CommunityModel, Reservoir
from tests.independent_model import KW_PER_MW, CaseData

SIGN = {"up": -1.0, "down": 1.0}
"""By which a call of 1 kW changes consumption."""
SPLITS = (1, -1)
"""Which leg delivers first: the first named, or the last."""
Schedule = Mapping[str, np.ndarray]
"""A community's solution: {block name: (periods,)}."""


@dataclass(frozen=True)
class Broken:
    """What calls break at most. power_share: power that is not there, of the device's power. state_share: distance
    beyond a limit of the state, of what full power moves it by in a period."""

    device: str
    power_share: float
    state_share: float


@dataclass(frozen=True)
class Group:
    """Legs that deliver one award together. legs: positions among the device's."""

    award: str
    legs: tuple[int, ...]


@dataclass(frozen=True)
class Device:
    """A reservoir, the names of its legs' powers, and what delivers each award, by direction."""

    name: str
    store: Reservoir
    powers: tuple[str, ...]
    groups: tuple[Group, ...]


def devices_of(model: CommunityModel, table: Mapping[str, Any]) -> Iterator[Device]:
    """All devices with a state, in the order in which the model made their reservoirs."""
    stores = iter(model.stores)
    for device in table["devices"]:
        names = [f"{device['name']}."]
        if device["kind"] == "ev_fleet":
            names = [f"{device['name']}.{one['name']}_" for one in device["classes"]]
        if device["kind"] not in ("load", "pv"):
            yield from (_device(name, next(stores), device["kind"]) for name in names)
    assert next(stores, None) is None


def _device(name: str, store: Reservoir, kind: str) -> Device:
    if kind == "thermostatic_load":
        words = [word for word, raises in (("heating", True), ("cooling", False)) if _has(store, raises)]
        marks = [f"{word}_" if len(words) > 1 else "" for word in words]
        groups = tuple(Group(f"{name}{mark}", (i,)) for i, mark in enumerate(marks))
        return Device(name, store, tuple(f"{name}{word}_kw" for word in words), groups)
    powers = ("charge_kw", "discharge_kw") if kind in ("battery", "ev_fleet") else ("power_kw",)
    legs = tuple(range(len(store.legs)))
    return Device(name, store, tuple(name + power for power in powers[: len(legs)]), (Group(name, legs),))


def _has(store: Reservoir, raises: bool) -> bool:
    return any(bool(leg.gain[0] > 0) is raises for leg in store.legs)


def called(device: Device, schedule: Schedule, direction: str, calls: int, split: int) -> Broken:
    """The worst of all single calls of a device, one from each period on, each held up to `calls` periods.

    All groups of the device deliver at once, and each alone. split: see SPLITS.
    """
    powers = np.stack([schedule[name] for name in device.powers])
    starts, now = np.indices((powers.shape[1], powers.shape[1]))
    found = []
    for groups in {device.groups, *((group,) for group in device.groups)}:
        for length in range(1, calls + 1):
            given, missing = np.repeat(powers[:, None, :], starts.shape[0], axis=1), 0.0
            running = (starts <= now) & (now < starts + length)
            for group in groups:
                left_kw = np.where(running, schedule[f"{group.award}{direction}_kw"][:, None], 0.0)
                missing = max(missing, _deliver(device.store, given, left_kw, group.legs[::split], SIGN[direction]))
            found.append((missing, _beyond(device.store, given, now >= starts + length)))
    return Broken(device.name, *(float(most) for most in np.max(found, axis=0)))


def _deliver(store: Reservoir, given: np.ndarray, left_kw: np.ndarray, legs: Sequence[int], sign: float) -> float:
    """Move the legs' powers, one after the other as far as each goes; the share of power that is not there.

    given: (legs, calls, periods) in kW, changed here. left_kw: (calls, periods) still to deliver.
    """
    for i in legs:
        leg, way = store.legs[i], sign * store.legs[i].sign
        room_kw = leg.most - given[i] if way > 0 else given[i]
        moved_kw = np.clip(left_kw, 0.0, np.maximum(room_kw, 0.0))
        given[i] += way * moved_kw
        left_kw = left_kw - moved_kw
    return float(left_kw.max()) / sum(float(store.legs[i].most.max()) for i in legs)


def _beyond(store: Reservoir, given: np.ndarray, free: np.ndarray) -> float:
    """given: (legs, calls, periods) in kW. free: (calls, periods), where the device may do as it likes instead."""
    gains = np.stack([leg.gain for leg in store.legs])
    full = gains * np.stack([leg.most for leg in store.legs])
    drain, fill = np.minimum(full, 0.0).sum(axis=0), np.maximum(full, 0.0).sum(axis=0)
    moves = np.einsum("lt,lct->ct", gains, given)
    low = high = np.full(free.shape[0], float(store.start))
    worst = 0.0
    for t in range(free.shape[1]):
        low = store.keep[t] * low + store.drift[t] + np.where(free[:, t], drain[t], moves[:, t])
        high = store.keep[t] * high + store.drift[t] + np.where(free[:, t], fill[t], moves[:, t])
        worst = max(worst, float((store.lower[t] - high).max()), float((low - store.upper[t]).max()))
        low, high = (np.clip(end, store.lower[t], store.upper[t]) for end in (low, high))
    return worst / float(np.abs(full).sum(axis=0).max())


def community_breaks(case: CaseData, name: str, schedule: Schedule) -> list[Broken]:
    """What single calls of a community's awards break, by device; of all of them at once at its connection."""
    model, table = CommunityModel(case, name), case.communities[name]
    pairs = [(direction, split) for direction in SIGN for split in SPLITS]
    found = [
        called(device, schedule, direction, model.calls, split)
        for device in devices_of(model, table)
        for direction, split in pairs
    ]
    found += [_roof(case, name, d, schedule, model.calls) for d in table["devices"] if d["kind"] == "pv"]
    return [*found, _connection(case, name, schedule, model.calls)]


def _roof(case: CaseData, name: str, device: Mapping[str, Any], schedule: Schedule, calls: int) -> Broken:
    """A plant that is called: up gives more, down less."""
    device = DEFAULTS["pv"] | device
    available = device["installed_kw"] * (case.public | case.columns[name])[device["available_pu"]]
    production, worst = schedule[f"{device['name']}.production_kw"], 0.0
    for start in range(case.periods):
        span = slice(start, start + calls)
        more = production[span] + schedule[f"{device['name']}.up_kw"][start] - available[span]
        less = device["min_share"] * available[span] - production[span] + schedule[f"{device['name']}.down_kw"][start]
        worst = max(worst, float(more.max()), float(less.max()))
    return Broken(device["name"], worst / device["installed_kw"], 0.0)


def _connection(case: CaseData, name: str, schedule: Schedule, calls: int) -> Broken:
    """All devices called at once, from the sum of their own powers; what was sold must be the sum of their awards."""
    table = case.communities[name]
    drawn = consumption_kw(case, name, schedule)
    awards = {way: sum(v for key, v in schedule.items() if key.endswith(f"{way}_kw")) for way in SIGN}
    sold = {way: KW_PER_MW * schedule[f"connection.flex_{way}_mw"] for way in SIGN}
    worst = max(float((sold[way] - awards[way]).max()) for way in SIGN)
    worst = max(worst, float(np.abs(KW_PER_MW * schedule["connection.p_mw"] - drawn).max()))
    for start in range(case.periods):
        span = slice(start, start + calls)
        worst = max(worst, float((drawn[span] + awards["down"][start]).max()) - table["import_limit_kw"])
        worst = max(worst, float((awards["up"][start] - drawn[span]).max()) - table["export_limit_kw"])
    return Broken("connection", worst / max(table["import_limit_kw"], table["export_limit_kw"]), 0.0)


def consumption_kw(case: CaseData, name: str, schedule: Schedule) -> np.ndarray:
    """The devices' powers at the meter added up, (periods,)."""
    columns, total = case.public | case.columns[name], np.zeros(case.periods)
    for device in case.communities[name]["devices"]:
        if device["kind"] == "load":
            value = device["power_kw"]
            profile = columns[value] if isinstance(value, str) else float(value)
            total = total + device.get("scale_factor", 1.0) * profile
    for key, kw in schedule.items():
        if key.endswith(("charge_kw", "heating_kw", "cooling_kw", ".power_kw")) and not key.endswith("discharge_kw"):
            total = total + kw
        elif key.endswith(("discharge_kw", "production_kw")):
            total = total - kw
    return total


def worst(found: Sequence[Broken]) -> Broken:
    """The largest of each kind; the device is that with the larger one."""
    name = max(found, key=lambda one: max(one.state_share, one.power_share)).device
    return Broken(name, max(one.power_share for one in found), max(one.state_share for one in found))
