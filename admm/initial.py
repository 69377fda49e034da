"""Where a run starts: prices, values and penalties as given by name, and how a former result gives them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from admm.couplings import Block, Coupling, Layout, Quantity
from admm.errors import InputError
from admm.graph import given_name
from admm.penalty import PenaltyPolicy, unit_penalty
from admm.plausible import MOST_PENALTY, MOST_PRICE_SCALES, MOST_SCALES, check_start
from admm.state import BoundaryResult, Settings, State
from admm.values import is_whole, real_numbers

ByName = dict[str, dict[str, np.ndarray]]
"""{coupling: {quantity: array (periods,)}}"""
LARGEST_SHIFT = 10**10
"""In periods: minutes of all years that have four digits are fewer."""


def initial_state(layout: Layout, settings: Settings, policy: PenaltyPolicy) -> State:
    """The first state: nothing exchanged, at nominal prices, where nothing is given.

    A given penalty takes the place of the policy's start, entry by entry.
    """
    value = _spread(layout, settings.initial_values, "initial_values", np.zeros(layout.size))
    price = _spread(layout, settings.initial_price, "initial_price", layout.price_scale)
    start = checked_penalty(policy.start(layout), policy, layout)
    penalty = checked_penalty(_spread(layout, settings.initial_penalty, "initial_penalty", start), policy, layout)
    return State(lower=value.copy(), upper=value, price=price, penalty=penalty)


@dataclass(frozen=True)
class WarmStart:
    """Where a former result lets a run start: what `Settings` takes as initial price, values and penalty.

    values: the mean of both sides'. penalty: of the quantities for which the former result has one, and only if
    the shift keeps the hours of the day.
    added: "COUPLING/QUANTITY" that the former result does not have: it starts as in a run without one.
    dropped: those that only the former result has: they are left out.
    """

    price: ByName
    values: ByName
    penalty: ByName
    added: tuple[str, ...] = ()
    dropped: tuple[str, ...] = ()

    def applied_to(self, settings: Settings) -> Settings:
        """The settings with this start."""
        return replace(settings, initial_price=self.price, initial_values=self.values, initial_penalty=self.penalty)


def warm_start(
    boundary: Mapping[str, Mapping[str, BoundaryResult]],
    couplings: Sequence[Coupling],
    shift_periods: int = 0,
    periods_per_day: int | None = None,
) -> WarmStart:
    """The start that a former result's boundary gives, for a horizon of any length with periods of the same length.

    shift_periods: the new period t begins as the former period t + shift_periods. Beyond the former horizon it
    begins as the same hour of the former last day (before it: of the first day) if periods_per_day is given and
    the former horizon covers a day, else as the former last (first) period. Penalties belong to the hours of the
    day: shifted to other hours they cost 1 to 11 iterations in eight of eight runs of ieee33-10ec: they are left out.
    Raises InputError if nothing of the former result fits, or a unit differs.
    """
    _check_shift(shift_periods)
    _check_given(boundary, couplings, periods_per_day)
    wanted = {(c.name, q.name): q for c in couplings for q in c.quantities}
    former = {(c, q): values for c, quantities in boundary.items() for q, values in quantities.items()}
    if not wanted.keys() & former.keys():
        raise InputError(
            f"warm start: the former result has none of the couplings, expected some of {_listed(wanted)}; "
            f"found {_listed(former)}"
        )
    start = WarmStart({}, {}, {}, _listed(wanted.keys() - former.keys()), _listed(former.keys() - wanted.keys()))
    same_hours = shift_periods % periods_per_day == 0 if periods_per_day else shift_periods == 0
    for (coupling, name), quantity in wanted.items():
        if (coupling, name) in former:
            values = former[coupling, name]
            _check_former(coupling, quantity, values)
            at = _former_periods(quantity.periods, values.price.size, shift_periods, periods_per_day)
            start.price.setdefault(coupling, {})[name] = values.price[at]
            start.values.setdefault(coupling, {})[name] = 0.5 * (values.lower + values.upper)[at]
            if values.penalty is not None and same_hours:
                start.penalty.setdefault(coupling, {})[name] = values.penalty[at]
    return start


def _check_shift(shift: int) -> None:
    if not is_whole(shift) or abs(shift) > LARGEST_SHIFT:
        raise InputError(
            f"warm start: the shift is {shift!r}, expected a whole number of periods up to {LARGEST_SHIFT:g}"
        )


def _check_given(boundary: Any, couplings: Any, periods_per_day: Any) -> None:
    if not isinstance(boundary, Mapping) or not all(isinstance(of, Mapping) for of in boundary.values()):
        raise InputError(f"warm start: the boundary is {type(boundary).__name__}, expected that of an admm.Result")
    if not isinstance(couplings, Sequence) or not all(isinstance(one, Coupling) for one in couplings):
        raise InputError(f"warm start: couplings is {couplings!r}, expected a list of admm.Coupling objects")
    if periods_per_day is not None and (not is_whole(periods_per_day) or periods_per_day < 1):
        raise InputError(f"warm start: periods_per_day is {periods_per_day!r}, expected a whole number above 0")


def _listed(keys) -> tuple[str, ...]:
    return tuple(sorted("/".join(key) for key in keys))


def _check_former(coupling: str, quantity: Quantity, values: BoundaryResult) -> None:
    where = f"warm start: '{coupling}', '{quantity.name}'"
    if not isinstance(values, BoundaryResult):
        raise InputError(f"{where} is {type(values).__name__} in the former result, expected what a Result has there")
    if values.unit != quantity.unit:
        raise InputError(f"{where} is in {values.unit} in the former result, expected {quantity.unit}")
    arrays = [array for array in (values.lower, values.upper, values.price, values.penalty) if array is not None]
    for array in arrays:
        if not isinstance(array, np.ndarray) or array.dtype.kind not in "fiu":
            raise InputError(f"{where} has {type(array).__name__} in the former result, expected arrays of numbers")
    shapes = {array.shape for array in arrays}
    if len(shapes) != 1 or len(next(iter(shapes))) != 1:
        raise InputError(f"{where} has arrays of shapes {sorted(shapes)}, expected one shape (periods,)")


def _former_periods(periods: int, former: int, shift: int, per_day: int | None) -> np.ndarray:
    """Which of the former periods each new one begins as, shape (periods,)."""
    at = np.arange(periods) + shift
    if per_day is not None and former >= per_day:
        days_after, days_before = -(-np.maximum(at - former + 1, 0) // per_day), -(-np.maximum(-at, 0) // per_day)
        at = at + per_day * (days_before - days_after)
    return np.clip(at, 0, former - 1)


def checked_penalty(penalty: np.ndarray, policy: PenaltyPolicy, layout: Layout) -> np.ndarray:
    """What a policy gives, as an array (n,); the very array where it is one."""
    try:
        numbers = real_numbers(penalty)
    except (TypeError, ValueError, OverflowError):
        numbers = np.empty(0)
    name = getattr(policy, "name", type(policy).__name__)
    if numbers.shape != (layout.size,) or not np.isfinite(numbers).all() or (numbers <= 0).any():
        raise InputError(f"penalty policy '{name}': start and update must give {layout.size} finite numbers above 0")
    unit = unit_penalty(layout)
    odd = (numbers > MOST_PENALTY * unit) | (numbers < unit / MOST_PENALTY)
    if odd.any():
        raise InputError(
            f"penalty policy '{name}': a penalty is {(numbers / unit)[np.argmax(odd)]:g} times price scale / scale, "
            f"expected {1 / MOST_PENALTY:.0e} to {MOST_PENALTY:.0e} times"
        )
    return numbers


def _spread(
    layout: Layout, given: Mapping[str, Mapping[str, np.ndarray]], key: str, otherwise: np.ndarray
) -> np.ndarray:
    """{coupling: {quantity: array}} to one flat array, `otherwise` where nothing is given."""
    flat, used = otherwise.copy(), set()
    for block in layout.blocks:
        coupling = given_name(block.coupling.name)
        values = given.get(coupling, {}).get(block.quantity.name)
        if values is None:
            continue
        flat[block.entries] = _checked(values, block, key)
        used.add((coupling, block.quantity.name))
    unknown = [(c, q) for c, quantities in given.items() for q in quantities if (c, q) not in used]
    if unknown:
        raise InputError(f"settings: {key} names '{unknown[0][0]}', '{unknown[0][1]}', which is no coupling's quantity")
    return flat


def _checked(values: np.ndarray, block: Block, key: str) -> np.ndarray:
    """The values of one quantity as an array (periods,) of finite numbers, above 0 for a penalty."""
    where = f"settings: {key} of '{given_name(block.coupling.name)}', '{block.quantity.name}'"
    shape = (block.quantity.periods,)
    try:
        array = real_numbers(values)
    except (TypeError, ValueError, OverflowError) as error:
        found = f"{where} is {type(values).__name__}, expected {shape[0]} finite numbers"
        raise InputError(f"{found}; found {error}") from None
    if array.shape != shape:
        raise InputError(f"{where} has shape {array.shape}, expected {shape} finite numbers")
    if not np.isfinite(array).all():
        period = int(np.argmin(np.isfinite(array)))
        raise InputError(f"{where} has the value {array[period]} in period {period}, expected {shape} finite numbers")
    quantity = block.quantity
    if key == "initial_price":
        check_start(where, array, quantity.price_scale, MOST_PRICE_SCALES)
    elif key == "initial_values":
        check_start(where, array, quantity.scale, MOST_SCALES)
    elif (array <= 0).any():
        raise InputError(f"{where} has the value {array.min():g}, expected numbers above 0")
    return array
