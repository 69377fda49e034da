"""What Gaussian noise is worth: zero-concentrated differential privacy (zCDP), Bun and Steinke, TCC 2016.

one answer   rho = sensitivity^2 / (2 sigma^2)                  (Proposition 1.6; sensitivity in the 2-norm)
k answers    rho_1 + ... + rho_k, whatever each question depends on       (Lemma 1.7)
delta        rho-zCDP is (rho + 2 sqrt(rho ln(1 / delta)), delta)-differentially private    (Proposition 1.3)
"""

from __future__ import annotations

import math

from admm.errors import InputError


def rho(sensitivity: float, sigma: float, answers: int = 1) -> float:
    """Of so many answers with Gaussian noise of standard deviation sigma on each entry."""
    return answers * sensitivity**2 / (2.0 * sigma**2)


def epsilon(rho: float, delta: float) -> float:
    """What rho comes to at a delta."""
    return rho + 2.0 * math.sqrt(rho * math.log(1.0 / _checked_delta(delta)))


def rho_for(epsilon: float, delta: float) -> float:
    """The rho that comes to epsilon at a delta: (sqrt(L + epsilon) - sqrt(L))^2 with L = ln(1 / delta)."""
    if not (math.isfinite(epsilon) and epsilon > 0):
        raise InputError(f"privacy: epsilon is {epsilon!r}, expected a finite number above 0")
    log = math.log(1.0 / _checked_delta(delta))
    root = epsilon / (math.sqrt(log + epsilon) + math.sqrt(log))
    return root**2


def _checked_delta(delta: float) -> float:
    if not 0 < delta < 1:
        raise InputError(f"privacy: delta is {delta!r}, expected a number between 0 and 1")
    return delta
