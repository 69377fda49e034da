"""Judges the flows of a schedule: own results against independent flows, limits, and the user's own network."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import Protocol

import numpy as np

from networks.distribution_model import DistributionModel
from networks.distribution_program import DistributionProgram
from networks.feeder_limits import VOLTAGE_PU, margins
from networks.flow_program import FlowProgram
from networks.joint_operator import ELECTRIC, SideBySide
from networks.sweep import FlowState
from networks.user_net_check import (
    NoFlowError,
    UserNet,
    limit_excess,
    loading_error,
    loss_error,
    user_net_flow,
    voltage_error,
)

AC_VOLTAGE_PU, AC_LOSS_SHARE = 5e-5, 1e-3
"""What a schedule's own flows keep against an AC power flow, of our model and of the user's network."""
NET_LOADING_SHARE = 1e-3
"""The same of loading, as a share of the rating."""
GAS_PRESSURE_BAR = 1e-3
"""The same against an exact gas flow."""
AC, GAS = "AC", "gas"
MOST_LIMITS = 4
TOLERANCES = {
    "ac_max_voltage_error_pu": (AC_VOLTAGE_PU, AC, "voltages differ by {:.1e} pu from pandapower's AC power flow"),
    "ac_max_loss_error": (AC_LOSS_SHARE, AC, "losses differ by {:.3%} from pandapower's AC power flow"),
    "gas_max_pressure_error_bar": (GAS_PRESSURE_BAR, GAS, "pressures differ by {:.1e} bar from the exact gas flow"),
}
"""By key of a summary: what is allowed, the check, and what to say of more."""
NO_FLOW = {AC: "there is no AC power flow for this schedule", GAS: "there is no gas flow for this schedule"}


class CheckedCase(Protocol):
    """What the checks need to know of a case."""

    def connections_mw(self, network: str) -> dict[str, float]:
        """Sizes of the connections by coupling."""

    def user_net(self, network: str) -> UserNet | None:
        """A feeder's source with the case's profiles, where pandapower reads it."""


@dataclass
class Findings:
    """figures: by key of a summary; None where there is no flow. faults: (check, sentence) of what did not pass.

    checks: which were made.
    """

    figures: dict[str, float | None] = field(default_factory=dict)
    faults: list[tuple[str, str]] = field(default_factory=list)
    checks: set[str] = field(default_factory=set)


def check_flows(
    case: CheckedCase, network: str, program: FlowProgram, x: np.ndarray, scheduled: np.ndarray
) -> Findings:
    """Check an operator's schedule.

    Args:
        case: the case.
        network: name of the operator.
        program: its program, at the latest operating points.
        x: its own answer, (n,).
        scheduled: x with what the other side schedules, (n,).
    """
    found = Findings(figures=program.checks(x, scheduled))
    for key, value in found.figures.items():
        if key not in TOLERANCES:
            continue
        allowed, check, words = TOLERANCES[key]
        found.checks.add(check)
        if value is None:
            fault = (check, f"network '{network}': {NO_FLOW[check]}")
            found.faults += [] if fault in found.faults else [fault]
        elif not value <= allowed:
            found.faults.append((check, f"network '{network}': {words.format(value)} (allowed {allowed:g})"))
    for electric, own, drawn in electric_parts(program, x, scheduled):
        flow = electric.exact_flow(drawn)
        if flow.converged.all():  # else it is said already
            _add_limits(found, case, network, electric.model, flow)
            _add_user_net(found, case, network, electric, own, drawn, flow)
    return found


def electric_parts(
    program: FlowProgram, x: np.ndarray, scheduled: np.ndarray
) -> Iterator[tuple[DistributionProgram, np.ndarray, np.ndarray]]:
    """Find the feeder in an operator's program, with its share of both vectors."""
    if isinstance(program, DistributionProgram):
        yield program, x, scheduled
    elif isinstance(program, SideBySide):
        yield from electric_parts(
            program.programs[ELECTRIC], program.part(ELECTRIC, x), program.part(ELECTRIC, scheduled)
        )


def _add_limits(found: Findings, case: CheckedCase, network: str, model: DistributionModel, flow: FlowState) -> None:
    """Hold the exact flow of what is scheduled against the feeder's limits."""
    all_of = margins(model, flow, case.connections_mw(network))
    for what, key in LIMIT_KEYS.items():
        found.figures[key] = max((one.beyond for one in all_of if one.what == what), default=None)
    broken = [one.words() for one in all_of if one.exceeded]
    if broken:
        found.faults.append((AC, f"network '{network}': limits do not hold: {limit_words(broken)}"))


def limit_words(broken: Sequence[str]) -> str:
    """Join what is said of broken limits, the worst first; of the last ones their number."""
    more = f" and {len(broken) - MOST_LIMITS} more" if len(broken) > MOST_LIMITS else ""
    return f"{'; '.join(broken[:MOST_LIMITS])}{more}"


def _add_user_net(
    found: Findings,
    case: CheckedCase,
    network: str,
    program: DistributionProgram,
    x: np.ndarray,
    scheduled: np.ndarray,
    flow: FlowState,
) -> None:
    """Solve the user's network with what is scheduled. flow: of our own model with the same."""
    user = case.user_net(network)
    if user is None:
        return
    try:
        net = user_net_flow(user.source, replace(user.schedule, drawn_mva=drawn_mva(program, scheduled)))
    except NoFlowError as error:
        found.figures |= dict.fromkeys(NET_KEYS)
        words = f"network '{network}': pandapower finds no power flow of '{user.source.name}' with this schedule"
        found.faults.append((AC, f"{words} in period {error.period}{error.why}"))
        return
    feeder = program.model.feeder
    loading = flow.current_pu / feeder.i_max_pu
    errors = (
        voltage_error(feeder, program.voltage_pu(x), net),
        loss_error(program.losses_mw(x), net),
        loading_error(feeder, loading, user.rating_scale, net),
        limit_excess(feeder, net, user.lower_limits, user.upper_limits),
    )
    for error, (key, (allowed, words)) in zip(errors, NET_KEYS.items(), strict=True):
        found.figures[key] = error.value
        if not error.value <= allowed:
            where = f"{words.format(error.value)} in '{user.source.name}', {error.where}"
            found.faults.append((AC, f"network '{network}': {where} (allowed {allowed:g})"))


def drawn_mva(program: DistributionProgram, x: np.ndarray) -> dict[str, np.ndarray]:
    """What agents and reactive support draw at x by bus, (T,) complex."""
    model, found = program.model, {}
    for one in model.connections:
        tangent = float(np.tan(np.arccos(one.power_factor)))
        taken = x[program.boundary[one.coupling, "p_mw"]] * (1 + 1j * tangent)
        found[one.node] = found.get(one.node, 0.0) + taken
    for node, q_mvar in program.support_mvar(x).items():
        found[node] = found.get(node, 0.0) + 1j * q_mvar
    return found


NET_KEYS = {
    "user_net_max_voltage_error_pu": (AC_VOLTAGE_PU, "voltages differ by {:.1e} pu from pandapower's"),
    "user_net_max_loss_error": (AC_LOSS_SHARE, "losses differ by {:.3%} from pandapower's"),
    "user_net_max_loading_error": (NET_LOADING_SHARE, "a loading differs by {:.2%} of the rating from pandapower's"),
    "user_net_max_voltage_violation_pu": (VOLTAGE_PU, "a voltage is {:.1e} pu beyond the limit of its bus"),
}
"""Keys of a summary for the user's network: what is allowed, and what to say of more."""
LIMIT_KEYS = {
    "voltage": "ac_max_voltage_violation_pu",
    "current": "ac_max_current_violation_share",
    "substation": "ac_max_substation_violation_share",
}
"""Keys of a summary: how far the worst element is beyond its limit, negative inside."""
