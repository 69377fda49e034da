"""What a feeder's own load alone does to it: its flow, the limits that it exceeds, and whether its agents can help.

The check is the operator's alone. Agents may draw or feed in any power within their connections, so what cannot be
kept here cannot be kept in a run.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace

import numpy as np
import scipy.sparse as sp

from admm import InfeasibleError, InputError
from networks.ac_check import ac_flow
from networks.distribution_model import DistributionModel, Supply
from networks.distribution_program import DistributionProgram
from networks.feeder_limits import Margin, margins
from networks.feeder_model import at_bus
from networks.flow_limits import Limit
from networks.sweep import FlowState, Sweep

HELP = (0.25, 0.5, 1.0)
"""Shares of their connections with which agents may help a load that has no flow of its own."""
MOST_STEPS = 15
"""Linear programs at most before nothing is claimed; two to five are usual."""
SETTLED = 0.01
"""The least excess is found when the linear program and the exact flow at its point agree up to this share."""
BROKEN = 1e-4
"""Excess of a limit, per unit of its scale (0.5 % of voltage, a connection's power), below which it counts as kept."""
CERTAIN = 1e-6
"""Excess in pu of voltage or as a share of a limit above which a limit counts as exceeded."""
MOST_WORDS = 4


@dataclass(frozen=True)
class BaseLoad:
    """The flow of the feeder's own load, and where it stands against the limits. limits: see `margins`."""

    model: DistributionModel
    flow: FlowState
    limits: list[Margin]

    @classmethod
    def of_model(cls, model: DistributionModel) -> BaseLoad:
        """Compute the flow without the agents."""
        flow = Sweep(model.feeder).run(model.load_p_mw, model.load_q_mvar, model.shunt_mva)
        return cls(model, flow, margins(model, flow) if flow.converged.all() else [])

    @property
    def exceeded(self) -> list[Margin]:
        """The limits that the load exceeds, the worst first."""
        return [one for one in self.limits if one.beyond > CERTAIN]

    def lines(self) -> Iterator[str]:
        """Say what flows at the load alone, and which limits it exceeds."""
        model, flow = self.model, self.flow
        peak, least = flow.root_p_mw.argmax(), flow.root_p_mw.argmin()
        yield (
            f"network '{model.name}' at its own load, without agents: draws {flow.root_p_mw[least]:.4g} MW "
            f"(period {least}) to {flow.root_p_mw[peak]:.4g} MW (period {peak}), "
            f"losses up to {flow.losses_mw.max():.3g} MW (period {flow.losses_mw.argmax()})"
        )
        yield f"  voltages from {self._extreme(lowest=True)} to {self._extreme(lowest=False)}; {self._loading()}"
        if self.exceeded:
            yield f"  WARNING: its own load breaks limits: {_listed(self.exceeded)}; only agents can cure that"

    def _extreme(self, lowest: bool) -> str:
        voltage = np.abs(self.flow.voltage_pu)
        period, at = np.unravel_index(voltage.argmin() if lowest else voltage.argmax(), voltage.shape)
        return f"{voltage[period, at]:.4f} pu {at_bus(self.model.feeder.nodes[at])} (period {period})"

    def _loading(self) -> str:
        loaded = max((one for one in self.limits if one.what == "current"), key=lambda one: one.value, default=None)
        if loaded is None:
            return "no branch has a rating"
        return f"the most loaded branch is {loaded.where}, {loaded.value:.1%} of its rating (period {loaded.period})"


def _listed(found: list[Margin]) -> str:
    more = f" and {len(found) - MOST_WORDS} more limits" if len(found) > MOST_WORDS else ""
    return "; ".join(one.words() for one in found[:MOST_WORDS]) + more


def check_base_load(model: DistributionModel, sizes_mw: Mapping[str, float]) -> None:
    """Refuse a feeder whose limits cannot be kept whatever its agents do.

    Args:
        model: the operator's own.
        sizes_mw: size of each agent's connection by its coupling.

    Raises:
        InputError: the load has no power flow, and agents cannot give it one.
        InfeasibleError: agents that draw or feed in any power within their connections cannot keep the limits.
    """
    base = BaseLoad.of_model(model)
    if not base.flow.converged.all():
        _refuse_load_without_flow(base, sizes_mw)
        return
    for period in sorted({one.period for one in base.exceeded}):
        left = least_excess(_one_period(model, period), sizes_mw)
        if left:
            raise InfeasibleError(_infeasible_words(base, period, left))


def _refuse_load_without_flow(base: BaseLoad, sizes_mw: Mapping[str, float]) -> None:
    model = base.model
    period = int(np.argmin(base.flow.converged))
    own = _one_period(model, period)
    if _has_flow(own, sizes_mw):
        return
    load_mw = float(own.load_p_mw.sum() + own.z_load_p_mw.sum())
    raise InputError(
        f"the base load of {load_mw:.5g} MW has no power flow in this feeder; are its units right? kW given as MW are "
        f"a usual cause (period {period}); else lower load_scale or load_profile"
    )


def _has_flow(own: DistributionModel, sizes_mw: Mapping[str, float]) -> bool:
    """Whether pandapower finds a flow of the load alone, or there is one with agents that feed in or draw power."""
    try:
        ac_flow(own.feeder, own.load_p_mw, own.load_q_mvar, own.shunt_mva)
        return True
    except InputError:
        pass
    sweep = Sweep(own.feeder)
    for share in (sign * share for share in HELP for sign in (-1, 1)):
        p, q = own.load_p_mw.copy(), own.load_q_mvar.copy()
        for one in own.connections:
            drawn, node = share * sizes_mw[one.coupling], own.feeder.node(one.node)
            p[:, node] += drawn
            q[:, node] += drawn * np.tan(np.arccos(one.power_factor))
        if sweep.run(p, q, own.shunt_mva).converged.all():
            return True
    return False


def _one_period(model: DistributionModel, period: int) -> DistributionModel:
    """The same operator in one of its periods, without flexibility, which only adds limits."""
    only = slice(period, period + 1)
    powers = ("load_p_mw", "load_q_mvar", "z_load_p_mw", "z_load_q_mvar")
    supply = model.upstream
    if isinstance(supply, Supply):
        supply = replace(supply, price_eur_per_mwh=np.asarray(supply.price_eur_per_mwh)[only])
    return replace(model, flexibility=False, upstream=supply, **{key: getattr(model, key)[only] for key in powers})


def least_excess(own: DistributionModel, sizes_mw: Mapping[str, float]) -> list[Margin]:
    """Find what agents and reactive support leave of the excess of limits in one period.

    A linear program finds the least sum of excesses with flows that are exact at a point; the point moves to the
    exact flow of its answer until the two agree. The tangent never overestimates losses, so for currents and low
    voltages what it cannot keep cannot be kept; for high voltages the point has to settle.

    Args:
        own: one period, without flexibility.
        sizes_mw: size of each agent's connection by its coupling.

    Returns:
        The limits exceeded at the best point; empty where all can be kept, or where nothing is certain.
    """
    program = DistributionProgram(own)
    bounds = _bounds(own, sizes_mw)
    x = program.first_x()
    columns = program.scenarios["base"].columns[0]
    program.linearised(program.first_points())
    for _ in range(MOST_STEPS):
        if _excess(program.limits, x) <= BROKEN:
            return []
        least, u = _least(program.limits, bounds)
        if u is None:
            return []
        x = program.first_x()
        x[columns] = u
        if not program.exact_flow(x).converged.all():
            return []
        program.linearised(program.points(x))
        if least > BROKEN and _excess(program.limits, x) - least <= SETTLED * least:
            return [one for one in margins(own, program.exact_flow(x)) if one.beyond > CERTAIN]
    return []


def _bounds(own: DistributionModel, sizes_mw: Mapping[str, float]) -> np.ndarray:
    """(K, 2) of the variables that the base flow depends on, in its order."""
    limits = [sizes_mw[one.coupling] for one in own.connections] + [one.q_max_mvar for one in own.supports]
    return np.array(limits)[:, None] * np.array([-1.0, 1.0])


def _excess(limits: list[Limit], x: np.ndarray) -> float:
    """The sum of what is beyond its limit at x, per unit of scale."""
    return float(sum(np.maximum(-limit.slack(x), 0.0).sum() for limit in limits))


def _least(limits: list[Limit], bounds: np.ndarray) -> tuple[float, np.ndarray | None]:
    """Minimise that sum over the variables; the sum and the variables (K,)."""
    from scipy.optimize import linprog

    slope = np.vstack([limit.value.slope[0] / limit.scale for limit in limits])
    constant = np.concatenate([limit.value.constant[0] / limit.scale for limit in limits])
    upper = np.concatenate([limit.upper[0] / limit.scale for limit in limits]) - constant
    lower = np.concatenate([limit.lower[0] / limit.scale for limit in limits]) - constant
    rows = np.vstack([slope[np.isfinite(upper)], -slope[np.isfinite(lower)]])
    right = np.concatenate([upper[np.isfinite(upper)], -lower[np.isfinite(lower)]])
    size, variables = rows.shape
    cost = np.concatenate([np.zeros(variables), np.ones(size)])
    found = linprog(
        cost,
        A_ub=sp.hstack([sp.csr_matrix(rows), -sp.identity(size)], format="csr"),
        b_ub=right,
        bounds=np.vstack([bounds, np.tile([0.0, np.inf], (size, 1))]),
        method="highs",
    )
    return (float(found.fun), found.x[:variables]) if found.status == 0 else (np.inf, None)


def _infeasible_words(base: BaseLoad, period: int, left: list[Margin]) -> str:
    model = base.model
    load_mw = float(base.model.load_p_mw[period].sum() + base.model.z_load_p_mw[period].sum())
    alone = {(one.what, one.where): one for one in BaseLoad.of_model(_one_period(model, period)).limits}
    worst = left[0]
    before = alone[worst.what, worst.where]
    more = f"; also {_listed(left[1:])}" if len(left) > 1 else ""
    return (
        f"network '{model.name}' cannot keep its limits whatever its agents do within their connections: in period "
        f"{period} its own load of {load_mw:.4g} MW gives {before.found()} ({before.limit_words()}), and at the best "
        f"that agents can do it is {worst.found()}{more}; lower the load, or change the limit"
    )
