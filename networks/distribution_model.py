"""What a distribution operator knows: its feeder, its load, who is connected, and the grid above."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property

import numpy as np

from admm import InputError
from networks.feeder_model import Feeder

SCENARIOS = {"base": 0.0, "up": -1.0, "down": 1.0}
"""Name of a scenario and the sign with which its flexibility changes a community's consumption."""
SUPPLY = "supply"
"""Name of the blocks of what is exchanged with a grid above that is no agent."""


@dataclass(frozen=True)
class Connection:
    """A community at a node. It draws reactive power p tan(acos(power_factor)), also when activated.

    capacity_mw: limit on |p|, |p - flex_up| and |p + flex_down|; infinite for none.
    """

    coupling: str
    node: str
    power_factor: float = 1.0
    capacity_mw: float = np.inf


@dataclass(frozen=True)
class ReactiveSupport:
    """A set point q of the operator's own, consumption positive, |q| <= q_max_mvar, at quadratic_cost q^2 an hour."""

    node: str
    q_max_mvar: float
    quadratic_cost_eur_per_mvar2h: float = 0.1


@dataclass(frozen=True)
class Supply:
    """A grid above that is no agent: it sells and buys energy at a price, and buys flexibility.

    price_eur_per_mwh: (T,). flexibility_price_eur_per_mwh: paid for up and for down flexibility, per MW and hour.
    """

    price_eur_per_mwh: np.ndarray
    flexibility_price_eur_per_mwh: float = 0.0


@dataclass(frozen=True)
class DistributionModel:
    """The private model of one operator.

    hours: length of a period. load_p_mw, load_q_mvar: (T, n) fixed consumption, in the feeder's order
    of nodes. z_load_p_mw, z_load_q_mvar: (T, n) consumption of loads of constant impedance, at nominal_kv; none
    by default. The feeder's shunts come on top. upstream: name of the coupling to the grid above, or what stands
    for that grid. flexibility: whether couplings carry flex_up_mw and flex_down_mw beside p_mw.
    loss_price_eur_per_mwh: sets the curvature of the base flows' losses around the operating point, where no supply is
    dearer; it steers the solve and costs nothing. periods_over: so many of the first periods have happened: their
    flows are what they were, there is no flexibility, no limit of the feeder holds there, and reactive support is what
    it was: support_was_mvar, {node: (T,)}.
    """

    name: str
    feeder: Feeder
    hours: float
    load_p_mw: np.ndarray
    load_q_mvar: np.ndarray
    connections: tuple[Connection, ...]
    upstream: str | Supply
    supports: tuple[ReactiveSupport, ...] = ()
    substation_limit_mva: float = np.inf
    flexibility: bool = True
    loss_price_eur_per_mwh: float = field(default=50.0)
    periods_over: int = 0
    support_was_mvar: Mapping[str, np.ndarray] = field(default_factory=dict)
    z_load_p_mw: np.ndarray | None = None
    z_load_q_mvar: np.ndarray | None = None

    def __post_init__(self) -> None:
        object.__setattr__(self, "connections", tuple(self.connections))
        object.__setattr__(self, "supports", tuple(self.supports))
        for key in ("z_load_p_mw", "z_load_q_mvar"):
            if getattr(self, key) is None:
                object.__setattr__(self, key, np.zeros(np.shape(self.load_p_mw)))
        for key in ("load_p_mw", "load_q_mvar", "z_load_p_mw", "z_load_q_mvar"):
            array = np.array(getattr(self, key), dtype=float)
            if array.ndim != 2 or array.shape[0] == 0 or array.shape[1] != len(self.feeder.nodes):
                raise self._error(key, f"array of shape {array.shape}", f"(periods, {len(self.feeder.nodes)})")
            if not np.isfinite(array).all():
                raise self._error(key, "not finite everywhere", "finite numbers")
            object.__setattr__(self, key, array)
        for key in ("load_q_mvar", "z_load_p_mw", "z_load_q_mvar"):
            if getattr(self, key).shape != self.load_p_mw.shape:
                raise self._error(key, f"of shape {getattr(self, key).shape}", f"{self.load_p_mw.shape}")
        for key in ("hours", "substation_limit_mva", "loss_price_eur_per_mwh"):
            if not getattr(self, key) > 0:
                raise self._error(key, repr(getattr(self, key)), "a number above 0")
        if isinstance(self.upstream, Supply):
            self._check_supply(self.upstream)
        self._check_connections()
        self._check_supports()

    def _error(self, key: str, found: str, expected: str) -> InputError:
        return InputError(f"distribution operator '{self.name}': {key} is {found}, expected {expected}")

    def _check_supply(self, supply: Supply) -> None:
        price = np.asarray(supply.price_eur_per_mwh, dtype=float)
        if price.shape != (self.periods,) or not np.isfinite(price).all():
            raise self._error("price_eur_per_mwh of its supply", f"{price}", f"{self.periods} finite numbers")
        if not np.isfinite(supply.flexibility_price_eur_per_mwh):
            found = repr(supply.flexibility_price_eur_per_mwh)
            raise self._error("flexibility_price_eur_per_mwh of its supply", found, "a finite number")

    def _check_connections(self) -> None:
        names = [self.exchange_name, *(connection.coupling for connection in self.connections)]
        for name in names:
            if names.count(name) > 1:
                raise self._error("coupling", f"'{name}' more than once", "a name of its own for each")
        for one in self.connections:
            self.feeder.node(one.node)
            if not 0 < one.power_factor <= 1:
                raise self._error(f"power_factor of '{one.coupling}'", repr(one.power_factor), "above 0 and at most 1")
            if not one.capacity_mw > 0:
                raise self._error(f"capacity_mw of '{one.coupling}'", repr(one.capacity_mw), "a number above 0")

    def _check_supports(self) -> None:
        nodes = [support.node for support in self.supports]
        for one in self.supports:
            self.feeder.node(one.node)
            if nodes.count(one.node) > 1:
                raise self._error("reactive support", f"given twice at node '{one.node}'", "one a node")
            for key in ("q_max_mvar", "quadratic_cost_eur_per_mvar2h"):
                value = getattr(one, key)
                if not (np.isfinite(value) and value >= 0):
                    raise self._error(f"{key} at node '{one.node}'", repr(value), "a finite number of at least 0")

    @property
    def periods(self) -> int:
        return self.load_p_mw.shape[0]

    @cached_property
    def shunt_mva(self) -> np.ndarray:
        """(T, n), or (1, n) if it is the same in all periods, complex: consumption of the nodes' admittances at
        base_kv."""
        own = self.feeder.shunt_mva[None]
        loads = self.z_load_p_mw + 1j * self.z_load_q_mvar
        return own + loads * self.feeder.base_per_nominal**2 if loads.any() else own

    @property
    def exchange_name(self) -> str:
        """Of the coupling to the grid above, or of the blocks that stand for it."""
        return SUPPLY if isinstance(self.upstream, Supply) else self.upstream

    @property
    def scenarios(self) -> dict[str, float]:
        """Name and sign of each scenario."""
        return SCENARIOS if self.flexibility else {"base": 0.0}

    @property
    def quantities(self) -> tuple[str, ...]:
        """Boundary quantities of every coupling."""
        return ("p_mw", "flex_up_mw", "flex_down_mw") if self.flexibility else ("p_mw",)
