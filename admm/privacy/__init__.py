"""Counter-measures against inference from what agents tell: noise on it, and sums in place of it. Opt-in."""

from admm.privacy.accountant import epsilon, rho, rho_for
from admm.privacy.group import MaskedTransport, Members
from admm.privacy.noise import Noise, Noisy

__all__ = ["MaskedTransport", "Members", "Noise", "Noisy", "epsilon", "rho", "rho_for"]
