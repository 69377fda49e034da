"""What the keys of `case.toml` change of a grid's source, and the line that says so.

The source is the default: its voltage at the root, its voltage limits and its ratings hold where the case file says
nothing. A key of the case file holds for the whole feeder. Static generators follow a profile of their own.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from admm import InputError
from networks.case_tables import DistributionTable, TransmissionTable
from networks.feeder import V_MAX_PU, V_MIN_PU, Feeder
from networks.feeder_model import at_bus

MOST_BUSES = 8


def with_settings(feeder: Feeder, network: DistributionTable, has_slack_voltage: bool) -> tuple[Feeder, str]:
    """Apply the case file's keys to a feeder.

    Args:
        feeder: as its source has it.
        network: the table of the case file.
        has_slack_voltage: whether the source states a voltage at the root; CSV tables do not.

    Returns:
        The feeder, and what overrides what in words; empty where nothing does.

    Raises:
        InputError: a limit of the case file crosses the source's other limit.
    """
    words = [_limit_words(feeder, "voltage_min_pu", 0, network.voltage_min_pu)]
    words += [_limit_words(feeder, "voltage_max_pu", 1, network.voltage_max_pu)]
    changes = {"v_min_pu": _limit(feeder, feeder.v_min_pu, network.voltage_min_pu)}
    changes["v_max_pu"] = _limit(feeder, feeder.v_max_pu, network.voltage_max_pu)
    _check_band(feeder, network, **changes)
    if network.slack_voltage_pu is not None:
        words.append(_slack_words(feeder, network) if has_slack_voltage else "")
        changes["slack_voltage_pu"] = network.slack_voltage_pu
    if network.current_limit_scale is not None:
        words.append(_rating_words(feeder, network.current_limit_scale))
        changes["i_max_pu"] = feeder.i_max_pu * network.current_limit_scale
    return replace(feeder, **changes), "; ".join(filter(None, words))


def _limit(feeder: Feeder, of_source: np.ndarray, given: float | None) -> np.ndarray:
    """The given limit at every node that has limits but the root, whose limits are not used."""
    return of_source if given is None else np.where(feeder.limited & (np.arange(of_source.size) > 0), given, of_source)


def _check_band(feeder: Feeder, network: DistributionTable, v_min_pu: np.ndarray, v_max_pu: np.ndarray) -> None:
    """Where both limits are of the case file, its table has compared them; where both are the source's, the import."""
    both = network.voltage_min_pu is None, network.voltage_max_pu is None
    crossed = np.flatnonzero(v_min_pu[1:] >= v_max_pu[1:]) + 1
    if crossed.size == 0 or both[0] == both[1]:
        return
    at = crossed[0]
    given, other, limit = (
        ("voltage_max_pu", "voltage_min_pu", v_min_pu) if both[0] else ("voltage_min_pu", "voltage_max_pu", v_max_pu)
    )
    way = "above" if both[0] else "below"
    raise InputError(
        f"{given} is {getattr(network, given):g}, expected {way} the source's own limit {limit[at]:g} "
        f"{at_bus(feeder.nodes[at])}; give {other}, too, or another value"
    )


def _limit_words(feeder: Feeder, key: str, row: int, given: float | None) -> str:
    """row: 0 for lower limits, 1 for upper ones."""
    some = np.flatnonzero(feeder.limited[1:]) + 1
    found, stated = (feeder.v_min_pu, feeder.v_max_pu)[row][some], feeder.limits_stated[row, some]
    if given is None and not stated.all():
        where = "the source" if not stated.any() else f"the source at {_buses((~stated).sum())}"
        return f"{where} states no {('lower', 'upper')[row]} voltage limit: {(V_MIN_PU, V_MAX_PU)[row]:g} pu is taken"
    if given is None or not stated.any() or (found[stated] == given).all():
        return ""
    return f"{key} = {given:g} overrides the source's {_range(found[stated])}"


def _buses(number: int) -> str:
    return f"{number} bus" if number == 1 else f"{number} buses"


def _range(found: np.ndarray) -> str:
    low, high = f"{found.min():g}", f"{found.max():g}"
    return low if low == high else f"{low} to {high}"


def _slack_words(feeder: Feeder, network: DistributionTable) -> str:
    if network.slack_voltage_pu == feeder.slack_voltage_pu:
        return ""
    return f"slack_voltage_pu = {network.slack_voltage_pu:g} overrides the source's {feeder.slack_voltage_pu:g}"


def _rating_words(feeder: Feeder, scale: float) -> str:
    rated = int(np.isfinite(feeder.i_max_pu).sum())
    if rated == 0:
        return f"current_limit_scale = {scale:g} changes nothing, as no branch of the source has a rating"
    return "" if scale == 1 else f"current_limit_scale = {scale:g} multiplies the source's {rated} current limits"


def check_sgen_profile(network: DistributionTable | TransmissionTable, power: np.ndarray, buses: Sequence[str]) -> str:
    """Require a profile where static generators are in service: the sun does not follow the load.

    Args:
        network: the table of the case file.
        power: consumption of static generators by bus, MW (complex: MVA).
        buses: their names.

    Returns:
        A sentence if there is a profile but nothing that follows it, else nothing.

    Raises:
        InputError: the profile is missing.
    """
    at = np.flatnonzero(power)
    if at.size and network.sgen_profile is None:
        more = f" and {at.size - MOST_BUSES} more" if at.size > MOST_BUSES else ""
        raise InputError(
            f"key 'sgen_profile' is missing: '{network.source}' has static generators (sgen) in service, "
            f"{-power[at].real.sum():.4g} MW at bus {', '.join(buses[i] for i in at[:MOST_BUSES])}{more}; give a "
            "public column or a number, the factor on their power in every period (1: as in the source, 0: none)"
        )
    if not at.size and network.sgen_profile is not None:
        return "sgen_profile changes nothing: no static generator is in service"
    return ""
