"""Six studies of one case, from no flexibility to all of it: what each kind of device is worth when it is coordinated.

After the case studies of "Integrating energy communities with electric vehicle fleets into flexibility markets"
(one TSO, one DSO, ten communities):

    none        no flexibility: no batteries; cars, thermal and shiftable loads run as they come; nothing is offered
    batteries   as none, but with the batteries
    thermal     as none, but buildings, heat pumps and shiftable loads are controlled
    ev          as none, but charging is controlled; no discharging
    ev-v2g      as ev, with discharging
    all         the case as it is

PV can be curtailed in all of them, and offers that as flexibility in `all` only.

Without flexibility a grid must carry what comes. The feeder of `ieee33-10ec` does on its winter and its summer day, but
not on four of the five workdays of its winter week, where only flexibility keeps its currents within limits. Studies of
that week need more of them: `current_limit_factor = 1.3`, in all six alike.
"""

from __future__ import annotations

import difflib
import math
import re
import shutil
from collections.abc import Sequence
from pathlib import Path

from admm import InputError
from networks.case_file import CASE_FILE, CaseFolder
from networks.case_tables import AgentTable
from networks.cases.build_tools import toml_table, toml_value
from networks.validation import located, parse, read_text, read_toml
from subproblems.community import Community
from subproblems.devices import (
    PV,
    Battery,
    Device,
    EvClass,
    EvFleet,
    HeatPump,
    Load,
    ShiftableLoad,
    ThermostaticLoad,
)

THERMAL = (ThermostaticLoad, HeatPump, ShiftableLoad)
STUDIES: dict[str, tuple[type[Device], ...]] = {
    "none": (),
    "batteries": (Battery,),
    "thermal": THERMAL,
    "ev": (EvFleet,),
    "ev-v2g": (EvFleet,),
    "all": (PV, Battery, EvFleet, *THERMAL),
}
"""What is controlled in each study."""
KINDS = (Load, *STUDIES["all"])
SIMULTANEITY = 0.2
"""Share of the chargers of a class that run at once where nobody coordinates. In the model a class arrives in one
moment, in life over hours; at full power all together would exceed the connection that serves them."""
NOTHING = Load(name="nothing", power_kw=0.0)
CURRENT_LIMIT = re.compile(r"^(\s*current_limit_scale\s*=\s*)([0-9.eE+_-]+)", re.MULTILINE)
LEFT_OUT = ("reference.json", "source_profiles.csv", "README.md")


def write_study(case_folder: Path, study: str, out: Path, current_limit_factor: float = 1.0) -> Path:
    """Copy the case to the new folder `out`, with its communities' devices as the study has them, and return `out`.

    current_limit_factor: on every current_limit_scale that the case file gives its feeders.
    Raises InputError if there is no such study, `out` is there already, an agent is a hub or has a device of a kind
    that no study knows, or there are no current limits to change. Nothing is written then.
    """
    if study not in STUDIES:
        close = difflib.get_close_matches(study, STUDIES, n=1)
        hint = f"did you mean '{close[0]}'?" if close else f"studies: {', '.join(STUDIES)}"
        raise InputError(f"there is no study '{study}'; {hint}")
    if out.exists():
        raise InputError(f"study '{study}': {out} is there already; give the name of a new folder")
    case = CaseFolder(case_folder)
    agents = () if study == "all" else case.table.agent
    written = {agent.file: _agent_toml(case, agent, study) for agent in agents}
    if current_limit_factor != 1.0:
        written[CASE_FILE] = _with_current_limits(case.path, current_limit_factor)
    shutil.copytree(case_folder, out, ignore=shutil.ignore_patterns(*LEFT_OUT))
    for file, text in written.items():
        (out / file).write_text(text, encoding="utf-8")
    return out


def _agent_toml(case: CaseFolder, agent: AgentTable, study: str) -> str:
    """An agent's file as the study has it."""
    path = case.file(agent.file)
    if agent.kind != "community":
        raise InputError(f"{case.path}: agent '{agent.name}' is a {agent.kind}; studies are of communities only")
    community = parse(Community, read_toml(path), path)
    with located(str(path)):
        found = [_in_study(device, study) for device in community.devices]
    devices = [device for device in found if device is not None] or [NOTHING]
    return _as_toml(f"Study '{study}' of agent '{agent.name}'.", community, devices)


def _with_current_limits(path: Path, factor: float) -> str:
    """The case file's text with the factor on its current limits."""
    if not (math.isfinite(factor) and factor > 0):
        raise InputError(f"current_limit_factor is {factor!r}, expected a number above 0")
    changed, count = CURRENT_LIMIT.subn(lambda m: f"{m[1]}{float(m[2]) * factor:.6g}", read_text(path))
    if count == 0:
        raise InputError(f"{path}: no network gives current_limit_scale, which the factor {factor:g} is for; give it")
    return changed


def _as_toml(headline: str, community: Community, devices: Sequence[Device]) -> str:
    own = community.model_dump(exclude={"devices"}, exclude_none=True)
    lines = [f"# {headline} Private: read only by the rank that owns this agent."]
    lines += [*(f"{key} = {toml_value(value)}" for key, value in own.items()), ""]
    for device in devices:
        lines += toml_table("devices", device.model_dump(exclude_none=True))
    return "\n".join(lines)


def _in_study(device: Device, study: str) -> Device | None:
    """What stands for a device in a study: itself, itself without control, or nothing."""
    if not isinstance(device, KINDS):
        known = ", ".join(kind.label for kind in KINDS)
        raise device.error(f"no study knows this kind; they know {known}: remove the device")
    if not isinstance(device, STUDIES[study]):
        return without_control(device)
    if study == "ev" and isinstance(device, EvFleet):
        return device.model_copy(update={"classes": [_charging_only(each) for each in device.classes]})
    return device


def without_control(device: Device) -> Device | None:
    """The device where nobody coordinates; None for a battery, which nobody would have then."""
    changes: dict[str, object] = {"flexible": False}
    match device:
        case Load():
            return device
        case Battery():
            return None
        case EvFleet():
            changes |= {"charging": "on_arrival", "classes": [_spread(each) for each in device.classes]}
        case ShiftableLoad():
            changes |= {"shifting": "at_once"}
        case HeatPump():
            changes |= {"tank_kwh": 0.0}
        case ThermostaticLoad():
            keys = ("min_temperature_degc", "max_temperature_degc", "initial_temperature_degc")
            changes |= dict.fromkeys(keys, device.set_point_degc)
    return device.model_copy(update=changes)


def _charging_only(each: EvClass) -> EvClass:
    return each.model_copy(update={"discharge_kw": 0.0})


def _spread(each: EvClass) -> EvClass:
    """The class with the mean power of its simultaneous chargers; at least what serves it in its whole hours."""
    hours = math.floor(each.departure_hour) - math.ceil(each.arrival_hour)
    need_kwh = max(0.0, each.energy_at_departure_kwh - each.energy_on_arrival_kwh)
    least_kw = need_kwh / (each.charge_efficiency * hours) if hours > 0 else each.charger_kw
    return each.model_copy(update={"charger_kw": min(each.charger_kw, max(SIMULTANEITY * each.charger_kw, least_kw))})
