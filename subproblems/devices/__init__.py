"""The devices that stand behind a fence, one file a kind."""

from typing import Annotated, get_args

from pydantic import Field

from subproblems.devices.base import Device, Resolver
from subproblems.devices.battery import Battery
from subproblems.devices.chp import CHP, below_minimum_load
from subproblems.devices.dual_fuel_load import DualFuelLoad
from subproblems.devices.electrolyser import Electrolyser
from subproblems.devices.ev_fleet import EvClass, EvFleet
from subproblems.devices.gas_boiler import GasBoiler
from subproblems.devices.heat_dump import HeatDump
from subproblems.devices.heat_pump import HeatPump
from subproblems.devices.heat_storage import HeatStorage
from subproblems.devices.hub_heat_pump import HubHeatPump
from subproblems.devices.load import Load
from subproblems.devices.pv import PV
from subproblems.devices.shiftable_load import ShiftableLoad, Window
from subproblems.devices.thermostatic_load import ThermostaticLoad

AnyDevice = Annotated[
    Load
    | PV
    | Battery
    | EvFleet
    | ThermostaticLoad
    | HeatPump
    | ShiftableLoad
    | CHP
    | GasBoiler
    | HubHeatPump
    | HeatStorage
    | HeatDump
    | Electrolyser
    | DualFuelLoad,
    Field(discriminator="kind"),
]
"""A device of any kind; `kind` says which."""

DEVICES: dict[str, type[Device]] = {
    kind.model_fields["kind"].default: kind for kind in get_args(get_args(AnyDevice)[0])
}
"""Every kind by its name in files."""

__all__ = [
    "CHP",
    "DEVICES",
    "PV",
    "AnyDevice",
    "Battery",
    "Device",
    "DualFuelLoad",
    "Electrolyser",
    "EvClass",
    "EvFleet",
    "GasBoiler",
    "HeatDump",
    "HeatPump",
    "HeatStorage",
    "HubHeatPump",
    "Load",
    "Resolver",
    "ShiftableLoad",
    "ThermostaticLoad",
    "Window",
    "below_minimum_load",
]
