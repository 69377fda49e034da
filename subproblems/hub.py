"""An energy hub: electricity, gas and heat behind one fence."""

from __future__ import annotations

from typing import ClassVar

from admm import InputError
from subproblems.community import Community, EmissionFactors
from subproblems.devices import Resolver
from subproblems.devices.attributes import Series, number, series
from subproblems.devices.base import series_values
from subproblems.horizon import Horizon


class Hub(Community):
    """A community that is connected to a gas grid and counts its emissions.

    emissions[t] = h (electricity factor[t] p[t] + gas factor gas[t]) in kg. Electricity fed in counts with a
    negative sign at the same factor: over all agents, each kWh then counts once, where it is used.
    """

    label: ClassVar[str] = "hub"
    gas_connection_kw: float | None = number(
        "greatest gas flow at the connection (HHV); none without gas", "kW", None, gt=0
    )
    electricity_emission_kg_per_kwh: Series = series(
        "CO2 of the electricity that it takes; 0 = not counted", "kg/kWh", 0.0, ge=0, le=5
    )
    gas_emission_kg_per_kwh: float = number("CO2 of burning gas, per HHV", "kg/kWh", 0.182, ge=0)
    emission_price_eur_per_t: float = number("what it pays for its emissions", "EUR/t", 0.0, ge=0)

    def gas_limit_kw(self) -> float | None:
        return self.gas_connection_kw

    def emission_factors(self, horizon: Horizon, series: Resolver) -> EmissionFactors | None:
        key = "electricity_emission_kg_per_kwh"
        factor = series_values(self, key, horizon, series, lambda words: InputError(f"{self.label}: {words}"))
        return EmissionFactors(factor, self.gas_emission_kg_per_kwh, self.emission_price_eur_per_t)
