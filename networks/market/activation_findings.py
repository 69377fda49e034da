"""Judges whether all flexibility of a schedule can be called at once: part of the AC check of every run."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from admm import InputError
from networks.case import FLEXIBILITY_SHARE
from networks.distribution_model import DistributionModel
from networks.feeder_limits import AGREED_SHARE, exceeded
from networks.flow_checks import AC, Findings, electric_parts, limit_words
from networks.flow_program import FlowProgram
from networks.market.activation import (
    KW_PER_MW,
    TOLERANCES,
    ContractedDay,
    Margins,
    activation_of,
    day_of,
    scenario_flows,
)

SUMMARY_KEYS = {
    "ac_activation_max_voltage_violation_pu": "voltage_pu",
    "ac_activation_max_current_violation_share": "current_share",
    "ac_activation_max_substation_violation_share": "substation_share",
    "ac_activation_max_connection_violation_share": "connection_share",
    "ac_activation_max_not_passed_on_mw": "passed_on_mw",
}
"""Keys of a summary and what they say."""


def activation_findings(
    network: str, program: FlowProgram, x: np.ndarray, scheduled: np.ndarray, connections_mw: Mapping[str, float]
) -> Findings:
    """Check that what was bought and sold can be called: AC flows with all flexibility of one direction called at once.

    Args:
        network: name of the operator.
        program: its program, at the latest operating points.
        x: its own answer, (n,).
        scheduled: x with what the other side schedules, (n,).
        connections_mw: sizes of the connections by coupling.

    Figures are negative so far inside a limit, None where there is no such limit or no flow.
    """
    found = Findings()
    for electric, own, drawn in electric_parts(program, x, scheduled):
        if electric.model.flexibility and electric.exact_flow(drawn).converged.all():  # else it is said already
            limits_kw = {name: KW_PER_MW * mw for name, mw in connections_mw.items()}
            day = day_of(electric.model, electric, own, drawn, limits_kw)
            _add_activation(found, network, electric.model, day, connections_mw)
    return found


def _add_activation(
    found: Findings, network: str, model: DistributionModel, day: ContractedDay, connections_mw: Mapping[str, float]
) -> None:
    found.checks.add(AC)
    try:
        flows = scenario_flows(day)
    except InputError:
        found.figures |= dict.fromkeys(SUMMARY_KEYS)
        found.faults.append((AC, f"network '{network}': there is no AC power flow with all flexibility called at once"))
        return
    activation = activation_of(day, flows)
    worst = {key: activation.worst(kind).beyond for key, kind in SUMMARY_KEYS.items()}
    found.figures |= {key: value if np.isfinite(value) else None for key, value in worst.items()}
    agreed_mw = {name: (1 + FLEXIBILITY_SHARE) * mw for name, mw in connections_mw.items()}  # power and flexibility
    flexible_mw = FLEXIBILITY_SHARE * sum(connections_mw.values())
    for way in ("up", "down"):
        words = _promises(getattr(activation, way), AGREED_SHARE * flexible_mw)
        words += [one.words() for one in exceeded(model, flows[way], agreed_mw)]
        if words:
            where = f"network '{network}': with all {way} flexibility called at once"
            found.faults.append((AC, f"{where} limits do not hold: {limit_words(words)}"))


def _promises(margins: Margins, agreed_mw: float) -> list[str]:
    """Say what communities and the grid above were promised and is not kept."""
    words, connection, passed_on = [], margins.connection_share, margins.passed_on_mw
    if connection.beyond > TOLERANCES["connection_share"]:
        words.append(
            f"{connection.beyond:.1%} more than the connection of {connection.where} in period {connection.period}"
        )
    if passed_on.beyond > max(TOLERANCES["passed_on_mw"], agreed_mw):
        words.append(
            f"{passed_on.beyond:.3g} MW of what is sold do not pass the substation in period {passed_on.period}"
        )
    return words
