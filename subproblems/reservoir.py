"""Everything that stores is a reservoir: a battery, a fleet of cars, a tank, a warm house, a task to be done.

    state[t] = keep[t] state[t-1] + sum over legs of change[t] power[t] + drift[t],   state[-1] = initial
    lower[t] <= state[t] <= upper[t],   0 <= power[t] <= maximum_kw[t]

A *leg* is one power: charging, discharging, heating. Flexibility is deliverable: an award, once called, can be
held for `product_periods` periods, by power that is there in each of them, and after each of them the state
still allows whatever the device must do later.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
import scipy.sparse as sp

from subproblems.builder import Builder, Term, previous
from subproblems.calls import begin, drift_of_state, lags, later
from subproblems.port import ELECTRICITY, Award, Carrier, Flow, Port
from subproblems.quadratic_program import Block

OPPOSITES = (("charge_kw", "discharge_kw"), ("heating_kw", "cooling_kw"))
"""Ends of names of two legs of one reservoir that work against each other."""


@dataclass(frozen=True)
class Leg:
    """One power of a reservoir.

    maximum_kw: shape (periods,). change: shape (periods,), what 1 kW over the period adds to the state,
    in the state's unit; negative where it drains. consumes: False where it feeds into the grid.
    minimum_kw: a number or (periods,); below 0 where one power does both, such as the heat into and out of a tank,
    and equal to maximum_kw where the power is not free.
    usual_kw: shape (periods,), what scales are taken from where the limits are those of one day only, so that the
    same program fits another day's.
    """

    name: str
    words: str
    maximum_kw: np.ndarray
    change: np.ndarray
    consumes: bool = True
    minimum_kw: np.ndarray | float = 0.0
    usual_kw: np.ndarray | None = None

    @property
    def sign(self) -> float:
        return 1.0 if self.consumes else -1.0

    @property
    def sizes_kw(self) -> np.ndarray:
        """shape (periods,): how large the power can be."""
        return np.maximum(self.maximum_kw, -self.minimum_kw) if self.usual_kw is None else self.usual_kw

    @property
    def nominal_kw(self) -> float:
        return float(self.sizes_kw.max()) or 1.0

    @property
    def consumption_raises(self) -> bool:
        """Whether to consume more on this leg raises the state (charging less output, too)."""
        return bool((self.sign * self.change).sum() >= 0)


@dataclass(frozen=True)
class Reservoir:
    """A reservoir's numbers, see above; keep, drift, lower, upper: shape (periods,).

    prefix: what its variables' names begin with, such as "battery.". label: what messages call it.
    state_name and state_words: the same for its state. unit: of the state. initial: the device's own value, in place
    of which a builder may have one that is carried over from the day before.
    """

    prefix: str
    label: str
    state_name: str
    state_words: str
    unit: str
    initial: float
    keep: np.ndarray
    drift: np.ndarray
    lower: np.ndarray
    upper: np.ndarray
    legs: tuple[Leg, ...]

    @property
    def scale(self) -> float:
        """Nominal size of the state: what one period at full power adds or takes.

        Measured on a community of seven devices: with this in place of the capacity OSQP needs half the
        iterations at 24 periods and a fifth at 96.
        """
        sizes = np.sum([np.abs(leg.change) * leg.sizes_kw for leg in self.legs], axis=0)
        return float(sizes.max()) or 1.0

    def floor(self) -> np.ndarray:
        """The least state at each period's end from which every later lower bound can be met, (periods,).

        floor[t] = max(lower[t], (floor[t+1] - drift[t+1] - all filling legs at their maximum) / keep[t+1])
        """
        floor, most = self.lower.copy(), self._at_full_power(np.maximum) + self.drift
        for t in range(floor.size - 2, -1, -1):
            if self.keep[t + 1] > 0:
                floor[t] = max(floor[t], (floor[t + 1] - most[t + 1]) / self.keep[t + 1])
        return floor

    def ceiling(self) -> np.ndarray:
        """The greatest state at each period's end from which every later upper bound can be met, (periods,)."""
        ceiling, least = self.upper.copy(), self._at_full_power(np.minimum) + self.drift
        for t in range(ceiling.size - 2, -1, -1):
            if self.keep[t + 1] > 0:
                ceiling[t] = min(ceiling[t], (ceiling[t + 1] - least[t + 1]) / self.keep[t + 1])
        return ceiling

    def _at_full_power(self, pick: np.ufunc) -> np.ndarray:
        return np.sum([pick(leg.change, 0.0) * leg.maximum_kw for leg in self.legs], axis=0)


@dataclass(frozen=True)
class Added:
    """The blocks of a reservoir that was added to a program. legs: {leg's name: its block}."""

    port: Port
    state: Block
    legs: Mapping[str, Block]


def add_reservoir(
    builder: Builder, reservoir: Reservoir, flexible: bool, product_periods: int, carrier: Carrier = ELECTRICITY
) -> Added:
    """Add the reservoir's variables and rows; with up and down flexibility if it is flexible.

    carrier: what its legs take. Only electricity has flexibility.
    """
    reservoir, periods = with_carried_state(builder, reservoir), reservoir.keep.size
    state = builder.variable(
        reservoir.prefix + reservoir.state_name,
        periods,
        reservoir.lower,
        reservoir.upper,
        unit=reservoir.unit,
        scale=reservoir.scale,
        bound_name=f"{reservoir.label}: {reservoir.state_words} limits",
    )
    legs = {leg.name: _add_leg(builder, reservoir, leg) for leg in reservoir.legs}
    _add_balance(builder, reservoir, state, legs)
    flexible = flexible and carrier == ELECTRICITY
    flexibility = _add_flexibility(builder, reservoir, state, legs, product_periods) if flexible else {}
    nominal_kw = sum(leg.nominal_kw for leg in reservoir.legs)
    flow = Flow(
        terms=tuple((legs[leg.name], leg.sign) for leg in reservoir.legs),
        constant_kw=np.zeros(periods),
        nominal_kw=max(leg.nominal_kw for leg in reservoir.legs),
        least_kw=sum(np.maximum(leg.minimum_kw, 0.0) for leg in reservoir.legs if leg.consumes),
    )
    port = Port(
        {carrier: flow},
        up=tuple(flexibility.get("up", ())),
        down=tuple(flexibility.get("down", ())),
        flexible_kw=nominal_kw if flexible else 0.0,
    )
    return Added(port, state, legs)


def with_carried_state(builder: Builder, reservoir: Reservoir) -> Reservoir:
    """The reservoir from the initial state that the builder was given for it, where it was given one."""
    state = reservoir.prefix + reservoir.state_name
    return replace(reservoir, initial=builder.initial_state(state, reservoir.initial))


def _add_leg(builder: Builder, reservoir: Reservoir, leg: Leg) -> Block:
    return builder.variable(
        reservoir.prefix + leg.name,
        leg.maximum_kw.size,
        leg.minimum_kw,
        leg.maximum_kw,
        unit="kW",
        scale=leg.nominal_kw,
        bound_name=f"{reservoir.label}: {leg.words} power limits",
    )


def _add_balance(builder: Builder, reservoir: Reservoir, state: Block, legs: Mapping[str, Block]) -> None:
    """state[t] - keep[t] state[t-1] - sum of change[t] power[t] = drift[t], with the initial state in t = 0."""
    periods = reservoir.keep.size
    step = sp.eye_array(periods) - sp.diags_array(reservoir.keep) @ previous(periods)
    right = reservoir.drift.copy()
    right[0] += reservoir.keep[0] * reservoir.initial
    terms: list[Term] = [(state, step), *((legs[leg.name], -leg.change) for leg in reservoir.legs)]
    rows = f"{reservoir.label}: {reservoir.state_words} balance"
    builder.rows(rows, terms, right, right, scale=reservoir.scale)
    builder.describe(rows, unit=reservoir.unit)


def _add_flexibility(
    builder: Builder, reservoir: Reservoir, state: Block, legs: Mapping[str, Block], product_periods: int
) -> dict[str, list[Award]]:
    """Variables and rows of the flexibility, {"up": awards, "down": awards}.

    Legs on which more consumption raises the state share one variable a direction; so do those on
    which it lowers the state (cooling). A reservoir with both gets two, as they strain opposite bounds.
    """
    groups = [[leg for leg in reservoir.legs if leg.consumption_raises is raises] for raises in (True, False)]
    groups = [group for group in groups if group]
    found: dict[str, list[Award]] = {"up": [], "down": []}
    for group in groups:
        mark = group[0].words + "_" if len(groups) > 1 else ""
        for direction, awards in found.items():
            block = _flexibility_variable(builder, reservoir, group, mark + direction)
            strain = Strain(builder, reservoir, group, block, direction)
            _power_rows(strain, legs, product_periods)
            _state_rows(strain, state, product_periods)
            awards.append(Award(block))
    return found


@dataclass(frozen=True)
class Strain:
    """One direction of flexibility of one group of legs, about to get its rows. block: its variable in kW."""

    builder: Builder
    reservoir: Reservoir
    group: Sequence[Leg]
    block: Block
    direction: str

    def rows_name(self, backing: str, words: str) -> str:
        flexibility = self.block.name.removeprefix(self.reservoir.prefix).removesuffix("_kw").replace("_", " ")
        return f"{self.reservoir.label}: {backing} behind {flexibility} flexibility{words}"


def _flexibility_variable(builder: Builder, reservoir: Reservoir, group: Sequence[Leg], name: str) -> Block:
    most, sizes_kw = (np.sum(each, axis=0) for each in zip(*((g.maximum_kw, g.sizes_kw) for g in group), strict=True))
    return builder.variable(
        f"{reservoir.prefix}{name}_kw",
        most.size,
        0.0,
        most,
        unit="kW",
        scale=float(sizes_kw.max()) or 1.0,
        bound_name=f"{reservoir.label}: {name.replace('_', ' ')} flexibility limits",
    )


def _power_rows(strain: Strain, legs: Mapping[str, Block], product_periods: int) -> None:
    """While a call runs, with P the powers of consuming legs and Q those of feeding ones:

    up <= P + (Q_max - Q),   down <= (P_max - P) + Q
    """
    up, periods = strain.direction == "up", strain.block.length
    room = sum((leg.maximum_kw for leg in strain.group if leg.consumes is not up), np.zeros(periods))
    scale = max(leg.nominal_kw for leg in strain.group)
    for lag, words in lags(periods, product_periods):
        power = [(legs[leg.name], (-leg.sign if up else leg.sign) * later(periods, lag)) for leg in strain.group]
        terms = [(strain.block, begin(periods, lag)), *power]
        builder, name = strain.builder, strain.rows_name("power", words)
        builder.rows(name, terms, -np.inf, room[lag:], scale=scale)


def _state_rows(strain: Strain, state: Block, product_periods: int) -> None:
    """While a call runs:

    state - moved award >= floor where it lowers the state,   state + moved award <= ceiling where it raises it

    The effect of 1 kW is that of the group's least favourable leg, so delivery does not hang on which leg delivers.
    """
    reservoir, periods = strain.reservoir, strain.block.length
    effect = np.max([np.abs(leg.change) for leg in strain.group], axis=0)
    lowers = (strain.direction == "up") == strain.group[0].consumption_raises
    floor, ceiling = reservoir.floor(), reservoir.ceiling()
    for lag, words in lags(periods, product_periods):
        moved = sp.diags_array(drift_of_state(reservoir.keep, effect, lag)) @ begin(periods, lag)
        terms = [(state, later(periods, lag)), (strain.block, -moved if lowers else moved)]
        bounds = (floor[lag:], np.inf) if lowers else (-np.inf, ceiling[lag:])
        rows = strain.rows_name(reservoir.state_words, words)
        strain.builder.rows(rows, terms, *bounds, scale=reservoir.scale)
        strain.builder.describe(rows, unit=reservoir.unit, implied=True)


def simultaneous(solution: Mapping[str, np.ndarray], tolerance_kw: float = 0.1) -> dict[str, np.ndarray]:
    """Where a schedule charges and discharges (or heats and cools) at once.

    solution: {block name: array (periods,)}, such as `QPAgent.solution()`. Result: for each reservoir with an
    overlap above tolerance_kw the smaller of the two powers in kW, shape (periods,), by the name up to the leg.
    """
    found = {}
    for one, other in OPPOSITES:
        for name in solution:
            stem = name.removesuffix(other)
            if stem == name or stem + one not in solution:
                continue
            overlap = np.maximum(np.minimum(solution[name], solution[stem + one]), 0.0)
            if overlap.max(initial=0.0) > tolerance_kw:
                found[stem.rstrip("._")] = overlap
    return found
