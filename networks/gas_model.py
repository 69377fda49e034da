"""What a gas network operator is told: its grid, the demand that is fixed, prices, and where hubs are connected."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from admm import InputError
from networks.gas_grid import GasGrid


@dataclass(frozen=True)
class GasConnection:
    """A hub at a node. It draws from -injection_mw to capacity_mw, consumption positive."""

    coupling: str
    node: str
    capacity_mw: float = np.inf
    injection_mw: float = 0.0


@dataclass(frozen=True)
class GasModel:
    """The private model of one operator.

    hours: length of a period. demand_mw: (T, n) fixed consumption in the grid's order of nodes.
    price_eur_per_mwh: (T, G) at the gates; their own costs where it is not given. import_limit_mw: all gates
    together. set_point_eur_per_bar4h: what leaving a gate's set point costs, times (p^2 - p_set^2)^2, absolute.
    linepack: whether pipes store gas from period to period. It begins with what the first period's fixed demand
    leaves in them at the set points; at the end, more or less than that is worth the mean price at the gates.
    """

    name: str
    grid: GasGrid
    hours: float
    demand_mw: np.ndarray
    connections: tuple[GasConnection, ...]
    price_eur_per_mwh: np.ndarray | None = None
    import_limit_mw: float = np.inf
    set_point_eur_per_bar4h: float = 0.01
    linepack: bool = False

    def __post_init__(self) -> None:
        object.__setattr__(self, "connections", tuple(self.connections))
        demand = self._array("demand_mw", self.demand_mw, len(self.grid.nodes))
        object.__setattr__(self, "demand_mw", demand)
        cost = self.grid.column(self.grid.gates, "cost_eur_per_mwh")
        price = np.tile(cost, (demand.shape[0], 1)) if self.price_eur_per_mwh is None else self.price_eur_per_mwh
        price = self._array("price_eur_per_mwh", price, len(self.grid.gates))
        if price.shape[0] != demand.shape[0]:
            raise self._error("price_eur_per_mwh", f"for {price.shape[0]} periods", f"{demand.shape[0]} as demand_mw")
        object.__setattr__(self, "price_eur_per_mwh", price)
        for key in ("hours", "import_limit_mw"):
            if not getattr(self, key) > 0:
                raise self._error(key, repr(getattr(self, key)), "a number above 0")
        if not (np.isfinite(self.set_point_eur_per_bar4h) and self.set_point_eur_per_bar4h >= 0):
            raise self._error("set_point_eur_per_bar4h", repr(self.set_point_eur_per_bar4h), "a number of at least 0")
        self._check_connections()

    def _error(self, key: str, found: str, expected: str) -> InputError:
        return InputError(f"gas operator '{self.name}': {key} is {found}, expected {expected}")

    def _array(self, key: str, value: np.ndarray, width: int) -> np.ndarray:
        array = np.array(value, dtype=float)
        if array.ndim != 2 or array.shape[0] == 0 or array.shape[1] != width:
            raise self._error(key, f"array of shape {array.shape}", f"(periods, {width})")
        if not np.isfinite(array).all():
            t, i = np.argwhere(~np.isfinite(array))[0]
            raise self._error(key, f"{array[t, i]} in period {t}, column {i}", "finite numbers")
        return array

    def _check_connections(self) -> None:
        names = [one.coupling for one in self.connections]
        if not names:
            raise self._error("connections", "empty", "at least one hub")
        for one in self.connections:
            if names.count(one.coupling) > 1:
                raise self._error("coupling", f"'{one.coupling}' more than once", "a name of its own for each")
            self.grid.node(one.node)
            if not one.capacity_mw > 0:
                raise self._error(f"capacity_mw of '{one.coupling}'", repr(one.capacity_mw), "a number above 0")
            if not one.injection_mw >= 0:
                raise self._error(f"injection_mw of '{one.coupling}'", repr(one.injection_mw), "at least 0")

    @property
    def periods(self) -> int:
        return self.demand_mw.shape[0]
