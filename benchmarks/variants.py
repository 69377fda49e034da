"""What is measured: a variant is a name and the keywords of `admm.Settings` that it stands for, and nothing else.

Two values of `penalty` stand for numbers that the grid has found, subject by subject: BEST_OF_FAMILY, BEST_OF_INSTANCE.
A `penalty` that is a dictionary stands for the policy "adaptive" with these keywords.
"""

from __future__ import annotations

from collections.abc import Mapping
from itertools import product
from typing import Any

import numpy as np

import admm
from admm.couplings import Layout

Variant = Mapping[str, Any]

BEST_OF_FAMILY, BEST_OF_INSTANCE = "classical:best-of-family", "classical:best-of-instance"
BASELINES: dict[str, Variant] = {
    "classical, 1 in raw units": {"penalty": "classical-raw:1", "acceleration": "none"},
    "classical, 1 per unit": {"penalty": "classical:1", "acceleration": "none"},
    "classical, best of family": {"penalty": BEST_OF_FAMILY, "acceleration": "none"},
    "classical, best of instance": {"penalty": BEST_OF_INSTANCE, "acceleration": "none"},
}


class OnePrice(admm.Classical):
    """Fixed at 1 per unit where all prices are counted in one unit, the price scale of the dearest quantity.

    A frequent choice of units. Flexibility, which is cheap, then gets a penalty ten times that of 1 per unit.
    """

    name = "classical, one price"

    def start(self, layout: Layout) -> np.ndarray:
        return self.per_unit * layout.price_scale.max() / layout.scale


POLICIES = ("residual", "normalised", "normalised-per-quantity", "spectral", "spectral-per-agent", "adaptive")
ACCELERATIONS = {"": "none", " + relaxation": "relaxation:1.6", " + Anderson": "anderson:6"}


def _products() -> dict[str, Variant]:
    """Every policy with every acceleration, and the best fixed penalties with an acceleration."""
    found: dict[str, Variant] = {}
    for policy, (words, acceleration) in product(POLICIES, ACCELERATIONS.items()):
        found[policy + words] = {"penalty": policy, "acceleration": acceleration}
    for words, acceleration in list(ACCELERATIONS.items())[1:]:
        found["classical, best of family" + words] = {"penalty": BEST_OF_FAMILY, "acceleration": acceleration}
    return found


PROVEN: Variant = {"optimality_tolerance": 5e-5}
"""The engine's turnover counts both prices of what passes through an operator, that of a subject may count one: with
half of the tolerance a run goes on until the gap is proven as a share of the subject's."""
DEFAULT = "default"
ONE_PRICE = {"classical, 1 per unit of one price": {"penalty": OnePrice(1.0), "acceleration": "none"}}
CONVERGENCE: dict[str, Variant] = BASELINES | ONE_PRICE | _products() | {
    DEFAULT: {},
    "averaging, classical 1": {"penalty": "classical:1", "acceleration": "none", "relay_all": True},
    "averaging, adaptive": {"penalty": "adaptive", "acceleration": "none", "relay_all": True},
    "certified": PROVEN | {"scheme": "certified"},
    "memory": PROVEN | {"scheme": "memory"},
}  # fmt: skip
WRONG_START: dict[str, Variant] = {
    DEFAULT: {},
    "start 100 x too small": {"penalty": f"adaptive:{0.01 * admm.Adaptive.START:g}"},
    "start 100 x too large": {"penalty": f"adaptive:{100 * admm.Adaptive.START:g}"},
}
WARM: dict[str, Variant] = {
    DEFAULT: {},
    "default, penalty forgotten": {"penalty": "adaptive"},
    "classical, 1 per unit": BASELINES["classical, 1 per unit"],
    "classical, best of family": BASELINES["classical, best of family"],
    "memory": PROVEN | {"scheme": "memory"},
    "cold default": {},
}
ABLATION: dict[str, Variant] = {
    DEFAULT: {},
    "no Anderson": {"acceleration": "none"},
    "no quantity balancing": {"penalty": {"balance_quantities": False}},
    "no sharpening": {"penalty": {"sharpen": False}},
    "no drift balancing": {"penalty": {"balance_drift": False}},
    "no price-scaled start": {"penalty": {"price_scaled": False}},
}
