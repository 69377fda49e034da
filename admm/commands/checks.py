"""What a summary says of the checks of a schedule's flows, and whether they passed."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from networks.flow_checks import AC, GAS, LIMIT_KEYS, NET_KEYS, TOLERANCES, Findings

NO_FLOW_MATTERS = (*TOLERANCES, *NET_KEYS)
"""Figures that are None if one of several could not be found; of limits it says only that there is none."""


def told(findings: Findings) -> dict[str, list]:
    """Put findings into the form in which ranks tell them."""
    return {"checks": list(findings.figures.items()), "faults": findings.faults, "checked": sorted(findings.checks)}


def add_told(facts: dict[str, Any], findings: Findings) -> None:
    """Add findings to what a rank tells already."""
    for key, values in told(findings).items():
        facts.setdefault(key, []).extend(values)


def checks_summary(facts: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Sum up what ranks tell, as keys of a summary.

    The figures are the largest of all operators. `ac_passed` and `gas_passed` are None where nothing was to be
    checked; `failed_checks` says in words what did not pass.
    """
    found: dict[str, list[float | None]] = {key: [] for key in (*TOLERANCES, *LIMIT_KEYS.values(), *NET_KEYS)}
    for key, value in (pair for fact in facts for pair in fact.get("checks", ())):
        found.setdefault(key, []).append(value)
    faults = [(check, words) for fact in facts for check, words in fact.get("faults", ())]
    checked = {check for fact in facts for check in fact.get("checked", ())}
    return {
        **{key: _largest(key, values) for key, values in found.items()},
        "ac_passed": _passed(AC, checked, faults),
        "gas_passed": _passed(GAS, checked, faults),
        "failed_checks": "; ".join(words for _, words in faults),
    }


def _largest(key: str, values: Sequence[float | None]) -> float | None:
    if key in NO_FLOW_MATTERS and None in values:
        return None
    return max((value for value in values if value is not None), default=None)


def _passed(check: str, checked: set[str], faults: Sequence[tuple[str, str]]) -> bool | None:
    return check not in {one for one, _ in faults} if check in checked else None


def checks_passed(summary: Mapping[str, Any]) -> bool:
    """Say whether no check of a summary failed; where one did, no command ends with exit code 0."""
    return not summary["failed_checks"]
