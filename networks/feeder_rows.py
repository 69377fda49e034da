"""The rows of a feeder's tables."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from networks.branch_currents import EndRating


@dataclass(frozen=True)
class FeederNode:
    """A row of the node table; every power is consumption.

    p_mw, q_mvar: of loads of constant power. z_load_p_mw, z_load_q_mvar: of loads of constant impedance, at
    nominal_kv. sgen_p_mw, sgen_q_mvar: of static generators, negative where they generate. constant_p_mw,
    constant_q_mvar: of what follows no profile. shunt_p_mw, shunt_q_mvar: of constant admittances, at base_kv.
    The consumption of impedances and admittances grows with the squared voltage. v_min_pu, v_max_pu: limits
    per unit of nominal_kv, which is base_kv where it is not given; NaN where the source states none, 0 and inf where
    there is nothing to limit.
    """

    name: str
    p_mw: float = 0.0
    q_mvar: float = 0.0
    v_min_pu: float = np.nan
    v_max_pu: float = np.nan
    base_kv: float = 1.0
    nominal_kv: float | None = None
    sgen_p_mw: float = 0.0
    sgen_q_mvar: float = 0.0
    shunt_p_mw: float = 0.0
    shunt_q_mvar: float = 0.0
    constant_p_mw: float = 0.0
    constant_q_mvar: float = 0.0
    z_load_p_mw: float = 0.0
    z_load_q_mvar: float = 0.0


@dataclass(frozen=True)
class FeederBranch:
    """A row of the branch table, in either direction.

    r_pu, x_pu: series impedance; 0 and 0 for a coupler. i_max_pu: current on the 1 MVA base, that is the apparent
    power in MVA that it carries at 1 pu of base_kv; infinite where the branch has no rating. from_shunt_mva,
    to_shunt_mva: consumption of its own admittances (charging, no-load losses) at base_kv, P + jQ. ratings: which
    currents i_max_pu limits; by default those at both ends. equivalent: part of an equivalent circuit, whose
    impedance may be negative.
    """

    name: str
    from_node: str
    to_node: str
    r_pu: float
    x_pu: float
    i_max_pu: float = np.inf
    from_shunt_mva: complex = 0j
    to_shunt_mva: complex = 0j
    ratings: tuple[EndRating, ...] = ()
    equivalent: bool = False
