"""Powers that are free within a range and fill no store of their own, and their flexibility."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from subproblems.builder import Builder
from subproblems.calls import begin, lags, later
from subproblems.port import Award, Carrier
from subproblems.quadratic_program import Block


def add_power(builder: Builder, name: str, most_kw: np.ndarray, words: str) -> Block:
    """Add 0 <= power[t] <= most_kw[t] under the name "device.variable_kw"; words: what messages call the limits."""
    device = name.partition(".")[0]
    return builder.variable(
        name,
        most_kw.size,
        0.0,
        most_kw,
        unit="kW",
        scale=float(most_kw.max()) or 1.0,
        bound_name=f"{device}: {words}",
    )


def add_range_flexibility(
    builder: Builder,
    name: str,
    power: Block,
    limits_kw: tuple[np.ndarray, np.ndarray],
    product_periods: int,
    *,
    consumes: bool,
    scale_kw: float,
    takes_more: Mapping[Carrier, np.ndarray] | None = None,
) -> dict[str, tuple[Award, ...]]:
    """Add {"up": awards, "down": awards} of a power with these limits, each (periods,).

    While a call runs, the power P of a producer is P + up <= most and P - down >= least, that of a consumer
    P - up >= least and P + down <= most. consumes: which of both it is. takes_more: {carrier: (periods,)}, kW of
    other carriers that the device takes for each kW by which P rises.
    """
    least_kw, most_kw = limits_kw
    rises = "down" if consumes else "up"
    found = {}
    for direction in ("up", "down"):
        sign = 1.0 if direction == rises else -1.0
        room_kw = most_kw if direction == rises else -least_kw
        block = builder.variable(
            f"{name}.{direction}_kw",
            power.length,
            0.0,
            most_kw - least_kw,
            unit="kW",
            scale=scale_kw,
            bound_name=f"{name}: {direction} flexibility limits",
        )
        for lag, words in lags(power.length, product_periods):
            terms = [(block, begin(power.length, lag)), (power, sign * later(power.length, lag))]
            rows = f"{name}: power behind {direction} flexibility{words}"
            builder.rows(rows, terms, -np.inf, room_kw[lag:], scale=scale_kw)
        takes = {carrier: sign * coefficient for carrier, coefficient in (takes_more or {}).items()}
        found[direction] = (Award(block, takes),)
    return found
