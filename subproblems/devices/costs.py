"""Costs that several devices share."""

from __future__ import annotations

from subproblems.builder import Builder
from subproblems.quadratic_program import Block


def add_wear(
    builder: Builder, power: Block, maximum_kw: float, hours: float, eur_per_kwh: float, rise_eur_per_kwh: float
) -> None:
    """Add hours (eur_per_kwh P + 1/2 rise_eur_per_kwh P^2 / maximum_kw) for every period's power P in kW.

    The marginal cost rises linearly from eur_per_kwh at rest to eur_per_kwh + rise_eur_per_kwh at maximum_kw.
    """
    builder.cost(power, linear=hours * eur_per_kwh, quadratic=0.5 * hours * rise_eur_per_kwh / maximum_kw)
