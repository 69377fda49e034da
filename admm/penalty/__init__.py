"""Penalty policies: how the diagonal penalty starts and when it changes. One class each, a file a family."""

from __future__ import annotations

from typing import Any

from admm.errors import InputError
from admm.penalty.adaptive import Adaptive
from admm.penalty.fixed import Classical, ClassicalRaw
from admm.penalty.policy import Observation, PenaltyPolicy, relative_ratio, unit_penalty
from admm.penalty.residual import NormalisedBalancing, NormalisedPerQuantity, ResidualBalancing
from admm.penalty.spectral import Spectral, SpectralPerAgent

__all__ = [
    "POLICIES",
    "Adaptive",
    "Classical",
    "ClassicalRaw",
    "NormalisedBalancing",
    "NormalisedPerQuantity",
    "Observation",
    "PenaltyPolicy",
    "ResidualBalancing",
    "Spectral",
    "SpectralPerAgent",
    "policy_for",
    "relative_ratio",
    "unit_penalty",
]

POLICIES = {
    Adaptive.name: Adaptive,
    Classical.name: Classical,
    ClassicalRaw.name: ClassicalRaw,
    ResidualBalancing.name: ResidualBalancing,
    NormalisedBalancing.name: NormalisedBalancing,
    NormalisedPerQuantity.name: NormalisedPerQuantity,
    Spectral.name: Spectral,
    SpectralPerAgent.name: SpectralPerAgent,
}
"""Policies that can be asked for by name; what follows a colon is the start (or the fixed value)."""


def policy_for(penalty: Any) -> PenaltyPolicy:
    """The policy object for a name such as "adaptive" or "classical:0.1", or the given object itself."""
    if not isinstance(penalty, str):
        verbs = all(callable(getattr(penalty, verb, None)) for verb in ("start", "update"))
        if verbs and not isinstance(penalty, type):
            return penalty
        raise InputError(f"settings: penalty is {penalty!r}, expected a name or an object with start and update")
    name, _, parameter = penalty.partition(":")
    if name not in POLICIES:
        raise InputError(f"settings: penalty is '{penalty}', expected one of {', '.join(sorted(POLICIES))}")
    if not parameter:
        return POLICIES[name]()
    try:
        value = float(parameter)
    except ValueError:
        raise InputError(f"settings: penalty is '{penalty}', expected a number after '{name}:'") from None
    return POLICIES[name](value)
