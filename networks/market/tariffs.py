"""Reward tariffs: what an operator can publish of a coordination's prices, and what communities make of them.

The idea that an operator's need for flexibility makes a tariff of rewards that vary over the day is from S. A. Mansouri
et al., Applied Energy (2023) 121062; what follows is not their bi-level program.

A coordination run ends with a price for each community, quantity and period. A published tariff is simpler: a few
blocks a day, the same every day, with one energy price and one reward for up and down flexibility each. The blocks are
those of least squares against the run's prices, found exactly by dynamic programming (Bellman, Commun. ACM 4 (1961)
284; Fisher, JASA 53 (1958) 789). Rewards are not negative.

A community that sees a tariff only answers once, by its own best schedule. All that is used of the answer is
what a community tells anyway: its cost as one scalar, and its boundary values. So `response` runs where the agent
lives, and everything else works with arrays.

`Prices` are as in results: EUR per MW and period, signed for the community, so a negative
price is paid to it (see `networks.case.SIGNS`).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from admm import Agent, AgentBoundary, InputError, Question
from admm.run import check_answer

ENERGY, UP, DOWN = "p_mw", "flex_up_mw", "flex_down_mw"
QUANTITIES = (ENERGY, UP, DOWN)
REWARDED = (UP, DOWN)
"""Quantities whose tariff is a reward: minus the price, and not below 0."""
ACCURACY = 1e-7
"""Of a response, as a share of each boundary entry's scale."""

Prices = Mapping[str, np.ndarray]
"""{quantity: (T,)} in EUR per MW and period, signed for the community."""
Amounts = Mapping[str, np.ndarray]
"""{quantity: (T,)} in MW."""
Key = tuple[str, str]
"""A coupling and a quantity."""


# -------------------------------------------------------------------- blocks


@dataclass(frozen=True)
class Tariff:
    """starts: (blocks,), period of the day at which each block begins, ascending from 0. values: (blocks,).

    periods: of the horizon, which begins at the beginning of a day.
    """

    starts: np.ndarray
    values: np.ndarray
    periods: int
    periods_per_day: int

    def series(self) -> np.ndarray:
        """The value in each period of the horizon, (periods,)."""
        period_of_day = np.arange(self.periods) % self.periods_per_day
        return self.values[np.searchsorted(self.starts, period_of_day, side="right") - 1]


def best_blocks(
    series: np.ndarray,
    blocks: int,
    periods_per_day: int,
    weights: np.ndarray | None = None,
    lowest: float = -np.inf,
) -> Tariff:
    """The tariff of at most `blocks` blocks a day that is nearest to a series (T,): least sum(w (series - value)^2).

    weights: (T,), not negative; 1 where not given. lowest: no value of the tariff is below it.
    A block without any weight gets its plain mean. Raises InputError.
    """
    series = _checked("series", series)
    weights = np.ones(series.size) if weights is None else _checked("weights", weights, series.size)
    for key, value in (("blocks", blocks), ("periods_per_day", periods_per_day)):
        if isinstance(value, bool) or not isinstance(value, (int, np.integer)) or value < 1:
            raise InputError(f"tariff: {key} is {value!r}, expected a whole number of at least 1")
    if (weights < 0).any():
        raise InputError(f"tariff: weights has {weights.min():g}, expected no value below 0")
    cost, value = _block_costs(series, weights, periods_per_day, lowest)
    starts = _best_starts(cost, min(blocks, cost.shape[0] - 1))
    ends = np.append(starts[1:], cost.shape[0] - 1)
    return Tariff(starts, value[starts, ends], series.size, periods_per_day)


def _block_costs(
    series: np.ndarray, weights: np.ndarray, periods_per_day: int, lowest: float
) -> tuple[np.ndarray, np.ndarray]:
    """Squared error and value of each block from period i of the day to before j: (n + 1, n + 1), infinite for i >= j.

    n: periods of a day, or of the horizon where that is shorter.
    """
    n = min(series.size, periods_per_day)
    period, centre = np.arange(series.size) % periods_per_day, series.mean()

    def summed(values: np.ndarray) -> np.ndarray:
        """Over each block."""
        until = np.concatenate([[0.0], np.cumsum(np.bincount(period, values, n))])
        return until[None, :] - until[:, None]

    centred = series - centre  # sums of squares of what is far from 0 lose digits
    weight, first, second = (summed(weights * centred**power) for power in (0, 1, 2))
    count, plain = summed(np.ones(series.size)), summed(centred)
    with np.errstate(divide="ignore", invalid="ignore"):
        mean = np.where(weight > 0, first / weight, plain / count)
    value = np.maximum(mean, lowest - centre)
    cost = second - 2.0 * value * first + value**2 * weight
    cost[np.tril_indices(n + 1)] = np.inf
    return cost, np.maximum(value + centre, lowest)


def _best_starts(cost: np.ndarray, blocks: int) -> np.ndarray:
    """Starts (blocks,) of the cheapest partition: cheapest up to j = min over i of cheapest up to i + cost[i, j]."""
    until, chosen = cost[0], []
    for _ in range(blocks - 1):
        candidates = until[:, None] + cost
        chosen.append(np.argmin(candidates, axis=0))
        until = np.min(candidates, axis=0)
    starts = [cost.shape[0] - 1]
    for before in reversed(chosen):
        starts.append(before[starts[-1]])
    return np.array([0, *starts[:0:-1]])


def _checked(name: str, values: np.ndarray, size: int | None = None) -> np.ndarray:
    array = np.asarray(values, dtype=float)
    if array.ndim != 1 or array.size == 0 or (size is not None and array.size != size):
        wanted = "(T,)" if size is None else f"({size},)"
        raise InputError(f"tariff: {name} has shape {array.shape}, expected {wanted}")
    if not np.isfinite(array).all():
        raise InputError(f"tariff: {name} has a value that is not a finite number")
    return array


# -------------------------------------------------------------------- tariffs of communities


@dataclass(frozen=True)
class CommunityTariffs:
    """What is published: an energy price in EUR/MWh, and rewards in EUR per MW of flexibility and period.

    hours: length of a period.
    """

    energy_eur_per_mwh: Tariff
    up_eur_per_mw: Tariff
    down_eur_per_mw: Tariff
    hours: float

    def prices(self) -> dict[str, np.ndarray]:
        """As the engine counts: {quantity: (T,)} in EUR per MW and period; a reward is a negative price."""
        energy, up, down = (t.series() for t in (self.energy_eur_per_mwh, self.up_eur_per_mw, self.down_eur_per_mw))
        return {ENERGY: self.hours * energy, UP: 0.0 - up, DOWN: 0.0 - down}


@dataclass(frozen=True)
class TariffRules:
    """hours: length of a period. blocks: a day, of rewards. energy_blocks: a day, of the energy price; as many as of
    the rewards where None."""

    hours: float
    periods_per_day: int
    blocks: int = 4
    energy_blocks: int | None = None

    def __post_init__(self) -> None:
        if not (np.isfinite(self.hours) and self.hours > 0):
            raise InputError(f"tariff: hours is {self.hours!r}, expected the length of a period, above 0")


def nodal_tariffs(
    prices: Mapping[str, Prices], rules: TariffRules, weights: Mapping[str, Amounts] | None = None
) -> dict[str, CommunityTariffs]:
    """A tariff of each community's own, {community: tariffs}. weights: see `uniform_tariffs`."""
    return {
        name: uniform_tariffs({name: mine}, rules, None if weights is None else {name: weights[name]})
        for name, mine in prices.items()
    }


def uniform_tariffs(
    prices: Mapping[str, Prices], rules: TariffRules, weights: Mapping[str, Amounts] | None = None
) -> CommunityTariffs:
    """One tariff for all communities: the blocks nearest to the weighted mean of their prices {community: Prices}.

    weights: {community: {quantity: (T,)}}, such as what was contracted; they count in the mean and in the distance,
    which makes the tariff the one of least weighted squares to all communities' prices. A quantity that is not in
    them counts the same everywhere.
    """
    if not prices:
        raise InputError("tariff: there are no communities, expected at least one")
    fitted = {}
    for quantity in QUANTITIES:
        price, weight = _mean_price(prices, weights, quantity)
        if quantity in REWARDED:
            fitted[quantity] = best_blocks(0.0 - price, rules.blocks, rules.periods_per_day, weight, lowest=0.0)
        else:
            blocks = rules.blocks if rules.energy_blocks is None else rules.energy_blocks
            fitted[quantity] = best_blocks(price / rules.hours, blocks, rules.periods_per_day, weight)
    return CommunityTariffs(fitted[ENERGY], fitted[UP], fitted[DOWN], rules.hours)


def baseline_tariffs(mine: Prices, rules: TariffRules, flat: bool) -> CommunityTariffs:
    """No rewards; the energy price of a community at its mean over the horizon (flat), or period by period."""
    price, nothing = mine[ENERGY] / rules.hours, np.zeros(mine[ENERGY].size)
    energy = best_blocks(price, 1, price.size) if flat else _every_period(price)
    return CommunityTariffs(energy, _every_period(nothing), _every_period(nothing), rules.hours)


def _every_period(values: np.ndarray) -> Tariff:
    return Tariff(np.arange(values.size), values, values.size, values.size)


def _mean_price(
    prices: Mapping[str, Prices], weights: Mapping[str, Amounts] | None, quantity: str
) -> tuple[np.ndarray, np.ndarray]:
    """The communities' mean price in each period and the sum of their weights, (T,) each."""
    price, weight = _stacked(prices, quantity, "price"), np.ones(1)
    if weights is not None:
        missing = prices.keys() - weights.keys()
        if missing:
            raise InputError(f"tariff: no weights of {', '.join(sorted(missing))}, expected them for all communities")
        if any(quantity in mine for mine in weights.values()):
            weight = _stacked({name: weights[name] for name in prices}, quantity, "weight")
    if weight.shape[-1] not in (1, price.shape[1]):
        raise InputError(f"tariff: weights of {quantity} have {weight.shape[1]} periods, expected {price.shape[1]}")
    if (weight < 0).any():
        raise InputError(f"tariff: a weight of {quantity} is {weight.min():g}, expected none below 0")
    weight = np.broadcast_to(weight, price.shape)
    total = weight.sum(axis=0)
    weighted = (weight * price).sum(axis=0) / np.where(total > 0, total, 1.0)
    return np.where(total > 0, weighted, price.mean(axis=0)), total


def _stacked(of: Mapping[str, Mapping[str, np.ndarray]], quantity: str, what: str) -> np.ndarray:
    """(communities, T)."""
    found = []
    for name, mine in of.items():
        if quantity not in mine:
            raise InputError(f"tariff: community '{name}' has no {what} of {quantity}; it has {', '.join(mine)}")
        found.append(_checked(f"{what} of {quantity} of '{name}'", mine[quantity]))
    lengths = sorted({values.size for values in found})
    if len(lengths) > 1:
        raise InputError(f"tariff: {what}s of {quantity} have {lengths} periods, expected as many for all")
    return np.array(found)


# -------------------------------------------------------------------- responses


@dataclass(frozen=True)
class Response:
    """What a community tells of a schedule. values: {(coupling, quantity): (T,)} in MW."""

    cost_eur: float
    values: Mapping[Key, np.ndarray]


def at_coupling(coupling: str, series: Mapping[str, np.ndarray]) -> dict[Key, np.ndarray]:
    """{quantity: (T,)} by coupling and quantity; those of several couplings are put together with `|`."""
    return {(coupling, quantity): values for quantity, values in series.items()}


def tariff_question(boundary: AgentBoundary, prices: Mapping[Key, np.ndarray]) -> Question:
    """Asks for the best schedule at prices {(coupling, quantity): (T,)}, signed for the lower side of each coupling."""
    nothing = np.zeros(boundary.size)
    price = np.empty(boundary.size)
    for (coupling, quantity), at in boundary.slices().items():
        if (coupling, quantity) not in prices:
            raise InputError(f"tariff: no price of {quantity} at coupling '{coupling}', expected one for each quantity")
        price[at] = _checked(f"price of {quantity} at '{coupling}'", prices[coupling, quantity], at.stop - at.start)
    return Question(0, boundary.sign * price, nothing, nothing, accuracy=ACCURACY)


def response(name: str, agent: Agent, boundary: AgentBoundary, prices: Mapping[Key, np.ndarray]) -> Response:
    """The answer of a community that sees prices only: its own best schedule, once.

    agent: prepared with the boundary, such as after a run; the schedule that it has from there stays as it is.
    prices: {(coupling, quantity): (T,)} for all its quantities, in EUR per unit and period. Where a community is
    indifferent between schedules, the interior-point solver's choice stands: one in the midst of the best ones.
    Raises InputError, and what a run raises where there is no usable answer.
    """
    answer = agent.answer(tariff_question(boundary, prices))
    check_answer(name, answer, boundary.size)
    if answer.cost_eur is None:
        raise InputError(f"agent '{name}' does not share its cost, so what a tariff is worth cannot be told")
    return Response(answer.cost_eur, {key: answer.values[at] for key, at in boundary.slices().items()})


def value_eur(told: Response, prices: Mapping[Key, np.ndarray]) -> float:
    """- (own cost + price . boundary) at prices {(coupling, quantity): (T,)}, whatever the schedule was made for."""
    missing = told.values.keys() - prices.keys()
    if missing:
        raise InputError(f"tariff: no price of {', '.join(map(str, sorted(missing)))} to value a schedule at")
    return -(told.cost_eur + sum(float(prices[key] @ values) for key, values in told.values.items()))


def captured_share(tariff_eur: float, baseline_eur: float, coordinated_eur: float) -> float | None:
    """Of what coordination is worth more than the baseline, the share that a tariff reaches; None if it is no more.

    Each is a sum of `value_eur` over communities, for all three at the coordination's own prices. The coordinated
    schedule is the best at these, up to the run's accuracy, so no tariff gets beyond 1. Two baselines are fair, and
    answer different questions:

        flat energy price     what is the tariff worth as a whole, for the timing of energy and as rewards?
        energy price as is    what are rewards worth on top of energy prices that are right already? Tariffs with few
                              energy blocks lose some of that first, and their share may be negative.

    Prices are right for small changes. A schedule far from the coordinated one is worth less to the networks than
    this tells, or does not fit into them at all: limits of the network hold with prices, and not with a few blocks.
    """
    gain = coordinated_eur - baseline_eur
    return (tariff_eur - baseline_eur) / gain if gain > 0 else None


# -------------------------------------------------------------------- what the operator sees


@dataclass(frozen=True)
class FlexibilitySeen:
    """Over all communities of a feeder, MW, (T,) each: promised at the tariff, and needed (contracted by the run)."""

    promised_mw: np.ndarray
    needed_mw: np.ndarray

    @property
    def short_mw(self) -> np.ndarray:
        return np.maximum(0.0, self.needed_mw - self.promised_mw)

    @property
    def over_mw(self) -> np.ndarray:
        return np.maximum(0.0, self.promised_mw - self.needed_mw)


def flexibility_seen(promised_mw: Sequence[np.ndarray], needed_mw: Sequence[np.ndarray]) -> FlexibilitySeen:
    """Of one direction; one array (T,) a community in each. Both may be added up on any rank: it sees arrays only."""
    return FlexibilitySeen(np.sum(promised_mw, axis=0), np.sum(needed_mw, axis=0))


def net_peak_mw(p_mw: Sequence[np.ndarray], other_load_mw: np.ndarray | float = 0.0) -> float:
    """Largest sum of communities' power (T,) and of what else the feeder carries, without losses."""
    return float(np.max(np.sum(p_mw, axis=0) + other_load_mw))
