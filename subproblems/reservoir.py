"""Everything that stores is a reservoir: a battery, a fleet of cars, a tank, a warm house, a task to be done.

    state[t] = keep[t] state[t-1] + sum over legs of change[t] power[t] + drift[t],   state[-1] = initial
    lower[t] <= state[t] <= upper[t],   0 <= power[t] <= maximum_kw[t]

A *leg* is one power: charging, discharging, heating. Flexibility is deliverable when the power is there
in its period and when, after the awards of any `product_periods` periods in a row were called in full,
the state still allows whatever the device must do later.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import scipy.sparse as sp

from subproblems.builder import Builder, Term, previous
from subproblems.port import Port
from subproblems.quadratic_program import Block

OPPOSITES = (("charge_kw", "discharge_kw"), ("heating_kw", "cooling_kw"))
"""Ends of names of two legs of one reservoir that work against each other."""


@dataclass(frozen=True)
class Leg:
    """One power of a reservoir.

    maximum_kw: shape (periods,). change: shape (periods,), what 1 kW over the period adds to the state,
    in the state's unit; negative where it drains. consumes: False where it feeds into the grid.
    """

    name: str
    words: str
    maximum_kw: np.ndarray
    change: np.ndarray
    consumes: bool = True

    @property
    def sign(self) -> float:
        return 1.0 if self.consumes else -1.0

    @property
    def nominal_kw(self) -> float:
        return float(self.maximum_kw.max()) or 1.0

    @property
    def consumption_raises(self) -> bool:
        """Whether to consume more on this leg raises the state (charging less output, too)."""
        return bool((self.sign * self.change).sum() >= 0)


@dataclass(frozen=True)
class Reservoir:
    """A reservoir's numbers, see above; keep, drift, lower, upper: shape (periods,).

    prefix: what its variables' names begin with, such as "battery.". label: what messages call it.
    state_name and state_words: the same for its state. unit: of the state.
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
        sizes = np.sum([np.abs(leg.change) * leg.maximum_kw for leg in self.legs], axis=0)
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


def add_reservoir(builder: Builder, reservoir: Reservoir, flexible: bool, product_periods: int) -> Added:
    """Add the reservoir's variables and rows; with up and down flexibility if it is flexible."""
    periods = reservoir.keep.size
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
    flexibility = _add_flexibility(builder, reservoir, state, legs, product_periods) if flexible else {}
    nominal_kw = sum(leg.nominal_kw for leg in reservoir.legs)
    port = Port(
        consumption=tuple((legs[leg.name], leg.sign) for leg in reservoir.legs),
        constant_kw=np.zeros(periods),
        nominal_kw=max(leg.nominal_kw for leg in reservoir.legs),
        up=tuple(flexibility.get("up", ())),
        down=tuple(flexibility.get("down", ())),
        flexible_kw=nominal_kw if flexible else 0.0,
    )
    return Added(port, state, legs)


def _add_leg(builder: Builder, reservoir: Reservoir, leg: Leg) -> Block:
    return builder.variable(
        reservoir.prefix + leg.name,
        leg.maximum_kw.size,
        0.0,
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
    builder.rows(f"{reservoir.label}: {reservoir.state_words} balance", terms, right, right, scale=reservoir.scale)


def _add_flexibility(
    builder: Builder, reservoir: Reservoir, state: Block, legs: Mapping[str, Block], product_periods: int
) -> dict[str, list[Term]]:
    """Variables and rows of the flexibility, {"up": terms, "down": terms} in kW.

    Legs on which more consumption raises the state share one variable a direction; so do those on
    which it lowers the state (cooling). A reservoir with both gets two, as they strain opposite bounds.
    """
    groups = [[leg for leg in reservoir.legs if leg.consumption_raises is raises] for raises in (True, False)]
    groups = [group for group in groups if group]
    found: dict[str, list[Term]] = {"up": [], "down": []}
    for group in groups:
        mark = group[0].words + "_" if len(groups) > 1 else ""
        for direction, terms in found.items():
            block = _flexibility_variable(builder, reservoir, group, mark + direction)
            _power_rows(builder, reservoir, group, legs, block, direction)
            _state_rows(builder, reservoir, group, state, block, direction, product_periods)
            terms.append((block, 1.0))
    return found


def _flexibility_variable(builder: Builder, reservoir: Reservoir, group: Sequence[Leg], name: str) -> Block:
    most = np.sum([leg.maximum_kw for leg in group], axis=0)
    return builder.variable(
        f"{reservoir.prefix}{name}_kw",
        most.size,
        0.0,
        most,
        unit="kW",
        scale=float(most.max()) or 1.0,
        bound_name=f"{reservoir.label}: {name.replace('_', ' ')} flexibility limits",
    )


def _power_rows(
    builder: Builder,
    reservoir: Reservoir,
    group: Sequence[Leg],
    legs: Mapping[str, Block],
    block: Block,
    direction: str,
) -> None:
    """up <= power of consuming legs + room above feeding legs; down <= room above consuming + power of feeding ones."""
    up = direction == "up"
    terms = [(block, 1.0), *((legs[leg.name], -leg.sign if up else leg.sign) for leg in group)]
    room = sum((leg.maximum_kw for leg in group if leg.consumes is not up), np.zeros(block.length))
    words = _words(block, reservoir)
    scale = max(leg.nominal_kw for leg in group)
    builder.rows(f"{reservoir.label}: power behind {words} flexibility", terms, -np.inf, room, scale=scale)


def _state_rows(
    builder: Builder,
    reservoir: Reservoir,
    group: Sequence[Leg],
    state: Block,
    block: Block,
    direction: str,
    product_periods: int,
) -> None:
    """state - response award >= floor if a call lowers the state, state + response award <= ceiling if it raises it.

    The effect of 1 kW is that of the group's least favourable leg, so delivery does not hang on which leg delivers.
    """
    effect = np.max([np.abs(leg.change) for leg in group], axis=0)
    response = activation_response(reservoir.keep, effect, product_periods)
    name = f"{reservoir.label}: {reservoir.state_words} behind {_words(block, reservoir)} flexibility"
    if (direction == "up") == group[0].consumption_raises:
        builder.rows(name, [(state, 1.0), (block, -response)], reservoir.floor(), np.inf, scale=reservoir.scale)
    else:
        builder.rows(name, [(state, 1.0), (block, response)], -np.inf, reservoir.ceiling(), scale=reservoir.scale)


def _words(block: Block, reservoir: Reservoir) -> str:
    return block.name.removeprefix(reservoir.prefix).removesuffix("_kw").replace("_", " ")


def activation_response(keep: np.ndarray, effect: np.ndarray, product_periods: int) -> sp.dia_array:
    """How far the state at each period's end is off after the last `product_periods` awards were called, per kW.

    keep, effect: shape (periods,). Result: (periods, periods), entry (s, i) = effect[i] keep[i+1] ... keep[s] for
    s - product_periods < i <= s. Calls of fewer periods move the state less, so these rows cover them.
    """
    diagonals = [effect]
    for lag in range(1, min(product_periods, keep.size)):
        diagonals.append(diagonals[-1][:-1] * keep[lag:])
    return sp.diags_array(diagonals, offsets=[-lag for lag in range(len(diagonals))], shape=(keep.size, keep.size))


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
