"""Photovoltaic plant that can be curtailed."""

from __future__ import annotations

from typing import ClassVar, Literal

import numpy as np

from subproblems.builder import Builder, Term
from subproblems.calls import begin, lags, later
from subproblems.devices.attributes import Series, flag, number, series
from subproblems.devices.base import Device, Resolver
from subproblems.horizon import Horizon
from subproblems.port import Port
from subproblems.quadratic_program import Block


class PV(Device):
    """min_share available[t] <= production[t] <= available[t] = installed_kw available_pu[t].

    Up flexibility gives back what is curtailed, down flexibility curtails more. Neither strains a store.
    """

    label: ClassVar[str] = "pv"
    kind: Literal["pv"] = "pv"
    installed_kw: float = number("installed power", "kW", gt=0)
    available_pu: Series = series("available power per installed power", "kW/kW", ge=0, le=1.5)
    min_share: float = number("share of the available power that cannot be curtailed", "", 0.0, ge=0, le=1)
    curtailment_cost_eur_per_kwh: float = number("cost of curtailed energy", "EUR/kWh", 0.0, ge=0)
    flexible: bool = flag("whether it offers flexibility", True)

    def add(self, builder: Builder, horizon: Horizon, series: Resolver, product_periods: int = 1) -> Port:
        available_kw = self.installed_kw * self.values("available_pu", horizon, series)
        production = builder.variable(
            f"{self.name}.production_kw",
            horizon.periods,
            self.min_share * available_kw,
            available_kw,
            unit="kW",
            scale=self.installed_kw,
            bound_name=f"{self.name}: available power limits",
        )
        cost = horizon.hours * self.curtailment_cost_eur_per_kwh
        builder.cost(production, linear=-cost)
        builder.constant += cost * float(available_kw.sum())
        flexibility = self._flexibility(builder, production, available_kw, product_periods) if self.flexible else {}
        return Port(
            consumption=((production, -1.0),),
            constant_kw=np.zeros(horizon.periods),
            nominal_kw=self.installed_kw,
            flexible_kw=self.installed_kw if self.flexible else 0.0,
            **flexibility,
        )

    def _flexibility(
        self, builder: Builder, production: Block, available_kw: np.ndarray, product_periods: int
    ) -> dict[str, tuple[Term, ...]]:
        """While a call runs: up <= available - production, down <= production - min_share available."""
        sides = {"up": (1.0, available_kw), "down": (-1.0, -self.min_share * available_kw)}
        periods, found = production.length, {}
        for direction, (sign, room_kw) in sides.items():
            block = builder.variable(
                f"{self.name}.{direction}_kw",
                periods,
                0.0,
                (1 - self.min_share) * available_kw,
                unit="kW",
                scale=self.installed_kw,
                bound_name=f"{self.name}: {direction} flexibility limits",
            )
            for lag, words in lags(periods, product_periods):
                terms = [(block, begin(periods, lag)), (production, sign * later(periods, lag))]
                rows = f"{self.name}: power behind {direction} flexibility{words}"
                builder.rows(rows, terms, -np.inf, room_kw[lag:], scale=self.installed_kw)
            found[direction] = ((block, 1.0),)
        return found
