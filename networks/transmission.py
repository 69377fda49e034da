"""The transmission system operator: a multi-period DC optimal power flow with reserves, as one program.

    flow of branch l = i -> j:  f = 100 / (x tap) (theta_i - theta_j - shift)          |f| <= rating
    balance of every bus:       generation - flows out = load + N x (what one feeder draws)
    reserve:                    sum of r_up + N x flex_up >= requirement               (down likewise)
    generators:                 Pmin + r_down <= p <= Pmax - r_up,  ramps,  r within one period's ramp

A substation stands for N feeders that are all alike: the boundary values p_mw, flex_up_mw, flex_down_mw
are those of ONE feeder, and the bus sees N times as much. The whole cost is divided by N, so prices are
EUR/MWh at the feeder and the objective is that of one feeder and its share of the transmission grid.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from admm import InputError
from networks.transmission_grid import Generator, TransmissionGrid, read_transmission_csv
from subproblems import Builder, QuadraticProgram, previous
from subproblems.quadratic_program import Block

__all__ = ["Substation", "TransmissionGrid", "TransmissionModel", "compile_tso", "read_transmission_csv"]

ANGLE_SCALE = 0.1


@dataclass(frozen=True)
class Substation:
    """N equal feeders at a bus, coupled through the values of one of them."""

    coupling: str
    bus: str
    feeders: int = 1


@dataclass(frozen=True)
class TransmissionModel:
    """What the operator plans. load_mw: (T, buses) without the feeders. hours: length of a period.

    reserve_up_mw, reserve_down_mw: (T,) requirement. flexibility: whether the couplings carry it.
    """

    name: str
    grid: TransmissionGrid
    hours: float
    load_mw: np.ndarray
    substations: tuple[Substation, ...]
    reserve_up_mw: np.ndarray
    reserve_down_mw: np.ndarray
    flexibility: bool = True

    def __post_init__(self) -> None:
        object.__setattr__(self, "substations", tuple(self.substations))
        if not (np.isfinite(self.hours) and self.hours > 0):
            raise self._error(f"hours is {self.hours!r}, expected a number above 0")
        load = np.array(self.load_mw, dtype=float)
        if load.ndim != 2 or load.shape[0] == 0 or load.shape[1] != len(self.grid.buses) or not np.isfinite(load).all():
            raise self._error(
                f"load_mw has shape {load.shape}, expected (periods, {len(self.grid.buses)}) finite numbers"
            )
        object.__setattr__(self, "load_mw", load)
        for key in ("reserve_up_mw", "reserve_down_mw"):
            need = np.array(getattr(self, key), dtype=float)
            if need.shape != (self.periods,) or not (np.isfinite(need) & (need >= 0)).all():
                raise self._error(f"{key} has shape {need.shape}, expected {(self.periods,)} numbers of at least 0")
            object.__setattr__(self, key, need)
        self._check_substations()

    def _error(self, message: str) -> InputError:
        return InputError(f"transmission operator '{self.name}': {message}")

    def _check_substations(self) -> None:
        counts = sorted({one.feeders for one in self.substations})
        for one in self.substations:
            self.grid.bus(one.bus)
            if isinstance(one.feeders, bool) or not isinstance(one.feeders, (int, np.integer)) or one.feeders < 1:
                raise self._error(
                    f"feeders of '{one.coupling}' is {one.feeders!r}, expected a whole number of at least 1"
                )
        if len(counts) > 1:
            raise self._error(
                f"substations stand for {', '.join(map(str, counts))} feeders, expected the same number for all: "
                "costs are divided by it"
            )
        names = [one.coupling for one in self.substations]
        if len(set(names)) < len(names):
            raise self._error(f"two substations have the same coupling among {', '.join(names)}")

    @property
    def periods(self) -> int:
        return self.load_mw.shape[0]

    @property
    def feeders(self) -> int:
        """N, by which all costs are divided; 1 without substations."""
        return self.substations[0].feeders if self.substations else 1


def compile_tso(model: TransmissionModel, scales: dict[tuple[str, str], float] | None = None) -> QuadraticProgram:
    """The operator's program. scales: nominal size of each boundary quantity, {(coupling, quantity): MW per feeder}."""
    return _Compiler(model, scales or {}).program()


class _Compiler:
    """Adds the parts of one operator's program to a builder."""

    def __init__(self, model: TransmissionModel, scales: dict[tuple[str, str], float]) -> None:
        self.model, self.scales, self.grid = model, scales, model.grid
        self.builder = Builder(f"transmission operator '{model.name}'")
        self.builder.constant += model.grid.constant_cost_eur_per_hour * model.hours * model.periods / model.feeders
        self.balance: list[list[tuple[Block, float]]] = [[] for _ in self.grid.buses]
        self.reserve: dict[str, list[tuple[Block, float]]] = {"up": [], "down": []}
        self.power_scale_mw = max(1.0, float(max(g.p_max_mw - g.p_min_mw for g in self.grid.generators)))

    def program(self) -> QuadraticProgram:
        for generator in self.grid.generators:
            self._generator(generator)
        for substation in self.model.substations:
            self._substation(substation)
        self._network()
        self._reserves()
        return self.builder.build()

    def _generator(self, one: Generator) -> None:
        model, builder, periods = self.model, self.builder, self.model.periods
        size, ramp_mw = max(one.p_max_mw - one.p_min_mw, 1.0), one.ramp_mw_per_hour * model.hours
        share = model.hours / model.feeders
        p = builder.variable(
            f"{one.name}.p_mw",
            periods,
            one.p_min_mw,
            one.p_max_mw,
            unit="MW",
            scale=size,
            bound_name=f"{one.name}: capacity",
        )
        builder.cost(p, one.linear_cost_eur_per_mwh * share, one.quadratic_cost_eur_per_mw2h * share)
        self.balance[self.grid.bus(one.bus)].append((p, 1.0))
        if np.isfinite(ramp_mw) and periods > 1:
            lower = np.full(periods, -ramp_mw)
            upper = np.full(periods, ramp_mw)
            lower[0], upper[0] = -np.inf, np.inf  # what ran before the horizon is not known
            builder.rows(f"{one.name}: ramp", [(p, 1.0), (p, -previous(periods))], lower, upper, scale=size)
        if not (model.reserve_up_mw.any() or model.reserve_down_mw.any()):
            return
        most = min(size, ramp_mw)
        for direction, sign in (("up", 1.0), ("down", -1.0)):
            held = builder.variable(
                f"{one.name}.reserve_{direction}_mw",
                periods,
                0.0,
                most,
                unit="MW",
                scale=size,
                bound_name=f"{one.name}: reserve {direction} within the ramp of a period",
            )
            builder.cost(held, one.reserve_cost_eur_per_mwh * share, one.reserve_quadratic_cost_eur_per_mw2h * share)
            builder.rows(
                f"{one.name}: capacity with reserve {direction}",
                [(p, 1.0), (held, sign)],
                one.p_min_mw,
                one.p_max_mw,
                scale=size,
            )
            self.reserve[direction].append((held, 1.0))

    def _substation(self, one: Substation) -> None:
        """The feeder's values; flexibility beyond the whole requirement is of no use, so it is bounded by that."""
        model, count = self.model, float(one.feeders)
        scale = self.scales.get((one.coupling, "p_mw"), 1.0)
        p = self.builder.variable(f"{one.coupling}.p_mw", model.periods, unit="MW", scale=scale)
        self.builder.boundary(one.coupling, "p_mw", p)
        self.balance[self.grid.bus(one.bus)].append((p, -count))
        if not model.flexibility:
            return
        for direction, need_mw in (("up", model.reserve_up_mw), ("down", model.reserve_down_mw)):
            quantity = f"flex_{direction}_mw"
            flex = self.builder.variable(
                f"{one.coupling}.{quantity}",
                model.periods,
                0.0,
                need_mw / count,
                unit="MW",
                scale=self.scales.get((one.coupling, quantity), 0.1),
                bound_name=f"{one.coupling}: {quantity} within the requirement",
            )
            self.builder.boundary(one.coupling, quantity, flex)
            self.reserve[direction].append((flex, count))

    def _network(self) -> None:
        """Balance of every bus with the branch flows put in, and the limits of rated branches."""
        grid, periods = self.grid, self.model.periods
        angle = [
            None
            if bus == grid.slack
            else self.builder.variable(f"bus {bus}.angle_rad", periods, unit="rad", scale=ANGLE_SCALE)
            for bus in grid.buses
        ]
        known = self.model.load_mw.copy()
        susceptance: dict[tuple[int, int], float] = {}
        for one in grid.branches:
            i, j, b = grid.bus(one.from_bus), grid.bus(one.to_bus), one.mw_per_rad
            shifted = b * np.deg2rad(one.shift_degree)
            known[:, i] -= shifted
            known[:, j] += shifted
            for at, of, value in ((i, i, -b), (i, j, b), (j, j, -b), (j, i, b)):
                susceptance[at, of] = susceptance.get((at, of), 0.0) + value
            ends = [(angle[bus], sign * b) for bus, sign in ((i, 1.0), (j, -1.0)) if angle[bus] is not None]
            if np.isfinite(one.rating_mw):
                limits = (shifted - one.rating_mw, shifted + one.rating_mw)
                self.builder.rows(
                    f"{one.name} ({one.from_bus} - {one.to_bus}): rating", ends, *limits, scale=self.power_scale_mw
                )
        for (at, of), value in susceptance.items():
            if angle[of] is not None:
                self.balance[at].append((angle[of], value))
        for i, bus in enumerate(grid.buses):
            self.builder.rows(
                f"bus {bus}: power balance", self.balance[i], known[:, i], known[:, i], scale=self.power_scale_mw
            )

    def _reserves(self) -> None:
        for direction, need_mw in (("up", self.model.reserve_up_mw), ("down", self.model.reserve_down_mw)):
            if need_mw.any():
                self.builder.rows(
                    f"reserve {direction}: requirement",
                    self.reserve[direction],
                    need_mw,
                    np.inf,
                    scale=self.power_scale_mw,
                )
