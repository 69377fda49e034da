"""Random streams, and the distributions of forecast errors as functions of a standard normal variable z.

Arrays broadcast against each other. A standard deviation of 0 gives the forecast itself, to the last digit.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from functools import lru_cache

import numpy as np
from scipy.optimize import brentq
from scipy.special import betaincinv, betaln, gammainc, gammaln, log_ndtr, ndtr, ndtri

NODES, WEIGHTS = np.polynomial.hermite_e.hermegauss(64)
WEIGHTS = WEIGHTS / WEIGHTS.sum()
"""Gauss-Hermite quadrature of the mean over a standard normal variable. Measured against a fine sum: 1e-10 for any
Weibull and for a Beta of standard deviation up to 0.6 (1e-7 where the mean is within 0.01 of a bound), 1e-3 at 0.9."""
FARTHEST = 40.0
"""No double-precision uniform number maps to a normal one beyond this."""
MOST_EXPONENT = 700.0
"""exp of this is still finite."""
LOG_SMALL = float(np.log(1e-8))
"""Below this a share of capacity is as good as its first-order expansion."""
LEAST_STD, LEAST_SHARE = 1e-4, 1e-9
"""A Beta distribution that is closer to certainty counts as certain."""
WIDEST = 5.0
"""Largest inverse shape of a Weibull distribution that is searched: its standard deviation is 16 times its mean."""


def standard_normals(seed: int, draw: int, key: str, count: int) -> np.ndarray:
    """shape (count,): the stream of that key. Fewer numbers of a stream are the first ones of more.

    Inverted from raw bits, because numpy promises to keep these, but not its algorithm for normal numbers (NEP 19).
    """
    words = np.frombuffer(hashlib.sha256(key.encode()).digest(), dtype="<u4")
    sequence = np.random.SeedSequence(seed, spawn_key=(draw, *map(int, words)))
    raw = np.random.PCG64(sequence).random_raw(count)
    return ndtri(((raw >> np.uint64(12)) + 0.5) * 2.0**-52)


def autoregression(shocks: np.ndarray, correlation: float) -> np.ndarray:
    """shape (n,): z[0] = shocks[0], z[t] = r z[t-1] + sqrt(1 - r^2) shocks[t], of unit variance throughout."""
    z = shocks.copy()
    for t in range(1, z.size):
        z[t] = correlation * z[t - 1] + np.sqrt(1 - correlation**2) * shocks[t]
    return z


def mean_over(
    value: Callable[[np.ndarray, np.ndarray, np.ndarray], np.ndarray],
    forecast: np.ndarray,
    std: np.ndarray,
    mean: np.ndarray,
    spread: np.ndarray,
) -> np.ndarray:
    """shape (n,): E[value(z, forecast, std)] by quadrature, for z normal with that mean and standard deviation."""
    values = value(mean[:, None] + spread[:, None] * NODES, forecast[:, None], std[:, None])
    return np.clip(values @ WEIGHTS, values.min(axis=1), values.max(axis=1))  # rounding must not leave their range


def gaussian_share_mean(forecast: np.ndarray, std: np.ndarray, mean: np.ndarray, spread: np.ndarray) -> np.ndarray:
    """E[forecast (1 + std y)], y = z limited to +-1/std, for z normal with that mean and standard deviation.

    The limits keep the sign of the forecast and, being symmetric, the mean of the factor at 1.
    E[y] = mean + E[max(-1/std - z, 0)] - E[max(z - 1/std, 0)].
    """
    limit = 1 / np.maximum(std, 1 / FARTHEST)
    limited = mean + _positive_part(-limit - mean, spread) - _positive_part(mean - limit, spread)
    return forecast * (1 + std * limited)


def _positive_part(mean: np.ndarray, spread: np.ndarray) -> np.ndarray:
    """E[max(x, 0)] = mean Phi(mean / spread) + spread phi(mean / spread) for a normal x."""
    ratio = mean / np.where(spread > 0, spread, 1.0)
    return np.where(spread > 0, mean * ndtr(ratio) + spread * _density(ratio), np.maximum(mean, 0.0))


def _density(x: float | np.ndarray) -> np.ndarray:
    return np.exp(-0.5 * np.square(x)) / np.sqrt(2 * np.pi)


def beta_value(z: np.ndarray, share: np.ndarray, std: np.ndarray) -> np.ndarray:
    """Quantile Phi(z) of the Beta distribution with mean `share` and variance std^2 share (1 - share).

    Upper quantiles come from the mirrored distribution, so that both tails are exact. Where the mean is within 1e-9 of
    a bound, or std is below 1e-4, the value is the mean: scipy's quantiles take long there, or are not found.
    """
    certain = (std < LEAST_STD) | (share < LEAST_SHARE) | (share > 1 - LEAST_SHARE)
    inner, size = np.where(certain, 0.5, share), 1 / np.where(certain, 0.5, std) ** 2 - 1
    a, b = inner * size, (1 - inner) * size
    tail = _low_quantile(np.where(z > 0, b, a), np.where(z > 0, a, b), -np.abs(z))
    return np.where(certain, share, np.where(z > 0, 1 - tail, tail))


def _low_quantile(a: np.ndarray, b: np.ndarray, z: np.ndarray) -> np.ndarray:
    """Quantile Phi(z) of Beta(a, b) for z <= 0.

    Quantiles x far below 1 / (1 + b) come from the first term of the series, Phi(z) = x^a / (a B(a, b)): scipy's
    inverse returns no number for some of them.
    """
    log_x = (log_ndtr(z) + np.log(a) + betaln(a, b)) / a
    first_term = log_x + np.log1p(b) < LOG_SMALL
    return np.where(first_term, np.exp(np.minimum(log_x, 0.0)), betaincinv(a, b, np.where(first_term, 0.5, ndtr(z))))


def weibull_value(z: np.ndarray, forecast: np.ndarray, std: np.ndarray) -> np.ndarray:
    """forecast times the quantile Phi(z) of the Weibull distribution of mean 1 with that standard deviation."""
    power = weibull_power(std)
    factor = np.exp(power * np.log(-log_ndtr(-z)) - gammaln(1 + power))
    return np.where(std == 0, forecast, forecast * factor)


def weibull_power(std: np.ndarray) -> np.ndarray:
    """x = 1 / shape of the Weibull distribution of mean 1: Gamma(1 + 2 x) / Gamma(1 + x)^2 = 1 + std^2 (bisection)."""
    wanted = np.log1p(np.square(std))
    low, high = np.zeros_like(wanted), np.full_like(wanted, WIDEST)
    for _ in range(60):
        middle = (low + high) / 2
        above = gammaln(1 + 2 * middle) - 2 * gammaln(1 + middle) > wanted
        low, high = np.where(above, low, middle), np.where(above, middle, high)
    return (low + high) / 2


def capped_weibull(z: float, std: float, cap: float) -> float:
    """min(W, cap) with mean 1, W Weibull at quantile Phi(z), with the shape that belongs to standard deviation std."""
    if std == 0:
        return 1.0
    power, log_scale = _capped_weibull_law(std, cap)
    return float(min(np.exp(log_scale + power * np.log(-log_ndtr(-z))), cap))


@lru_cache(maxsize=1024)
def _capped_weibull_law(std: float, cap: float) -> tuple[float, float]:
    """x = 1 / shape and the logarithm of the scale s that solves

    E[min(W, cap)] = s Gamma(1 + x) P(1 + x, (cap / s)^(1/x)) + cap exp(-(cap / s)^(1/x)) = 1.
    """
    x = float(weibull_power(np.array(std)))

    def excess(log_scale: float) -> float:
        reach = np.exp(min((np.log(cap) - log_scale) / x, MOST_EXPONENT))
        inside = np.exp(log_scale + gammaln(1 + x)) * gammainc(1 + x, reach)
        return float(inside + cap * np.exp(-reach) - 1)

    low = high = float(-gammaln(1 + x))
    while excess(high) < 0:
        high += 1.0
    return x, low if low == high else float(brentq(excess, low, high))


def truncated_normal(z: float, std: float, limit: float) -> float:
    """Quantile Phi(z) of a normal variable of mean 0 and that standard deviation, given that it is in +-limit."""
    if std == 0:
        return 0.0
    lowest = ndtr(-limit / std)
    return float(std * ndtri(lowest + ndtr(z) * (1 - 2 * lowest)))


def truncated_normal_mean(above: float, std: float, limit: float) -> float:
    """The mean of the same variable given that it is above `above`: std (phi(a) - phi(c)) / (Phi(c) - Phi(a))."""
    if std == 0 or above <= -limit:
        return 0.0
    a, c = above / std, limit / std
    mass = ndtr(-a) - ndtr(-c)
    mean = (_density(a) - _density(c)) / mass if mass > 0 else (a + c) / 2
    return float(std * min(max(mean, a), c))
