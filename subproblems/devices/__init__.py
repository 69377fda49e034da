"""The devices that stand behind a meter, one file a kind."""

from typing import Annotated

from pydantic import Field

from subproblems.devices.base import Device, Resolver
from subproblems.devices.battery import Battery
from subproblems.devices.ev_fleet import EvClass, EvFleet
from subproblems.devices.heat_pump import HeatPump
from subproblems.devices.load import Load
from subproblems.devices.pv import PV
from subproblems.devices.shiftable_load import ShiftableLoad, Window
from subproblems.devices.thermostatic_load import ThermostaticLoad

DEVICES: dict[str, type[Device]] = {
    kind.model_fields["kind"].default: kind
    for kind in (Load, PV, Battery, EvFleet, ThermostaticLoad, HeatPump, ShiftableLoad)
}
"""Every kind by its name in files."""

AnyDevice = Annotated[
    Load | PV | Battery | EvFleet | ThermostaticLoad | HeatPump | ShiftableLoad, Field(discriminator="kind")
]
"""A device of any kind; `kind` says which."""

__all__ = [
    "DEVICES",
    "PV",
    "AnyDevice",
    "Battery",
    "Device",
    "EvClass",
    "EvFleet",
    "HeatPump",
    "Load",
    "Resolver",
    "ShiftableLoad",
    "ThermostaticLoad",
    "Window",
]
