"""The star's three consumers as one group behind one meter: its optimum is the star's, known by hand."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

import admm
from admm.privacy import MaskedTransport, Members
from subproblems import Builder, QPAgent
from tests.small_problems import STAR_COST, STAR_SLOPE, STAR_TARGET, STAR_WEIGHT, TIGHT, coupling

GROUP, COUPLING = "homes", "homes-s"
NAMES = ("a", "b", "c")
MOST = (9.0, 1.0, 9.0)
GROUPS = {GROUP: NAMES}
COUPLINGS = [coupling(COUPLING, GROUP, "s", scale=3.0, price_scale=4.0)]
SETTINGS = {**TIGHT, "final_accuracy": 1e-8, "max_iterations": 300}


def supplier() -> QPAgent:
    """Sells a total: STAR_COST * total + 1/2 STAR_SLOPE * total^2."""
    builder = Builder("supplier")
    total = builder.variable("total.p_mw", 1, unit="MW")
    builder.cost(total, linear=STAR_COST, quadratic=0.5 * STAR_SLOPE)
    builder.boundary(COUPLING, "p_mw", total)
    return QPAgent(builder.build(), solver="piqp")


def member(name: str) -> QPAgent:
    """A consumer of the star."""
    i, builder = NAMES.index(name), Builder(name)
    taken = builder.variable("load.p_mw", 1, lower=0.0, upper=MOST[i], unit="MW")
    builder.cost_of_deviation(taken, 0.5 * STAR_WEIGHT[i], STAR_TARGET[i])
    builder.boundary(COUPLING, "p_mw", taken)
    return QPAgent(builder.build(), solver="piqp")


def solve_shared(
    transport: admm.Transport, members: Mapping[str, admm.Agent], supplies: bool = True, **changes: object
) -> tuple[admm.Result | None, Members]:
    """Run with these members and, if it lives here, the supplier; over MPI each rank passes its own."""
    here = Members(members)
    agents = ({GROUP: here} if members else {}) | ({"s": supplier()} if supplies else {})
    settings = admm.Settings(**{**SETTINGS, **changes})
    return admm.solve(agents, COUPLINGS, settings, MaskedTransport(transport, GROUPS)), here


def numbers(result: admm.Result) -> list:
    """What has to be the same wherever the members live."""
    found = result.boundary[COUPLING]["p_mw"]
    ends = [result.status.name, result.iterations, result.objective]
    return [*ends, *np.concatenate([found.lower, found.upper, found.price]).tolist()]
