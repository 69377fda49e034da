"""What a pandapower network consumes at its buses, sorted by the profile that it follows.

Loads (load, asymmetric_load, motor) follow the profile of loads, static generators (sgen, asymmetric_sgen) theirs.
Storages, the constant power of wards and the generator at the root are what the file says in every period. Of elements
with three phases pandapower's symmetric power flow takes the sum, and so does this.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from admm import InputError
from networks.pandapower_columns import WHOSE, Elements

LOADS = ("load", "asymmetric_load", "motor")
STATIC_GENERATORS = ("sgen", "asymmetric_sgen")
CONSTANT = ("storage", "ward")
PHASES = "abc"


@dataclass(frozen=True)
class Power:
    """Consumption of one element at a bus, P + jQ in MVA; z_mva of it grows with the squared voltage.

    table, index: of the element. kind: "load", "sgen" or "constant".
    """

    table: str
    index: Any
    kind: str
    bus: int
    mva: complex
    z_mva: complex = 0j

    @property
    def name(self) -> str:
        return f"{self.table} {self.index}"


def powers(net: Any) -> list[Power]:
    """Read the consumption of all elements in service."""
    found, shared = [], loads_depend_on_voltage(net)
    kinds = (("load", LOADS, 1.0), ("sgen", STATIC_GENERATORS, -1.0), ("constant", CONSTANT, 1.0))
    for kind, tables, sign in kinds:
        for table in tables:
            elements = Elements(net, table)
            if len(elements):
                mva = sign * READ[table](elements)
                p_share, q_share = (_z_shares(elements, of) if shared else np.zeros(len(elements)) for of in "pq")
                z_mva = mva.real * p_share + 1j * mva.imag * q_share
                rows = zip(elements.index, elements.cells("bus"), mva, z_mva, strict=True)
                found += [Power(table, i, kind, int(bus), complex(s), complex(z)) for i, bus, s, z in rows]
    return found


def loads_depend_on_voltage(net: Any) -> bool:
    """Whether a power flow takes the loads' shares of constant impedance; an option stored in the network says so."""
    return bool((net.get("user_pf_options") or {}).get("voltage_depend_loads", True))


def _plain(elements: Elements) -> np.ndarray:
    scaling = elements.numbers("scaling")
    return (elements.numbers("p_mw") + 1j * elements.numbers("q_mvar")) * scaling


def _three_phases(elements: Elements) -> np.ndarray:
    whole = sum(elements.numbers(f"p_{one}_mw") + 1j * elements.numbers(f"q_{one}_mvar") for one in PHASES)
    return whole * elements.numbers("scaling")


def _motor(elements: Elements) -> np.ndarray:
    """Mechanical power over efficiency, and the reactive power of its power factor."""
    cosine = elements.above_0("cos_phi")
    p_mw = 1e4 * elements.numbers("pn_mech_mw") / elements.above_0("efficiency_percent")
    p_mw = p_mw * elements.numbers("loading_percent") / 1e4 * elements.numbers("scaling")
    return p_mw + 1j * np.sqrt(np.maximum((p_mw / cosine) ** 2 - p_mw**2, 0.0))


def _ward(elements: Elements) -> np.ndarray:
    return elements.numbers("ps_mw") + 1j * elements.numbers("qs_mvar")


READ = {
    **dict.fromkeys(("load", "sgen", "storage"), _plain),
    **dict.fromkeys(("asymmetric_load", "asymmetric_sgen"), _three_phases),
    "motor": _motor,
    "ward": _ward,
}


def _z_shares(elements: Elements, of: str) -> np.ndarray:
    """Share of P ("p") or Q ("q") that is a constant impedance, by element; only loads have one."""
    if elements.name != "load":
        return np.zeros(len(elements))
    shares = {}
    for law in "zi":
        column = f"const_{law}_{of}_percent"
        column = column if elements.has(column) else f"const_{law}_percent"  # before pandapower 3
        shares[law] = elements.numbers(column) if elements.has(column) else np.zeros(len(elements))
        for index, share in zip(elements.index, shares[law], strict=True):
            if not 0 <= share <= 100:
                raise InputError(f"{WHOSE}: load {index}: {column} is {share:g}, expected 0 to 100")
            if law == "i" and share != 0:
                raise InputError(
                    f"{WHOSE}: load {index}: {column} is {share:g}; a constant current is not linear in squared "
                    "voltage, so a feeder cannot represent it: give half of it to constant impedance, or set it to 0"
                )
    return shares["z"] / 100


def check_shares(found: list[Power], node: dict[int, int]) -> None:
    """Raise InputError where pandapower does not take the shares of constant impedance by element.

    It applies the plain mean of the loads' shares to all power at a bus, that of generators included.
    """
    at: dict[int, list[Power]] = {}
    for one in found:
        if one.bus in node and (one.mva != 0 or one.table == "load"):
            at.setdefault(node[one.bus], []).append(one)
    for members in at.values():
        first = next((one for one in members if one.z_mva != 0), None)
        other = next((one for one in members if first is not None and not _alike(one, first)), None)
        if other is not None:
            raise InputError(
                f"{WHOSE}: {first.name} has a share of constant impedance that {other.name} at the same bus has not; "
                "pandapower takes the mean share for both: give one of them a bus of its own, joined by a short line"
            )


def _alike(one: Power, other: Power) -> bool:
    """Whether two loads have the same shares."""
    pairs = ((one.mva.real, one.z_mva.real, other.mva.real, other.z_mva.real),)
    pairs += ((one.mva.imag, one.z_mva.imag, other.mva.imag, other.z_mva.imag),)
    return one.table == "load" and all(abs(z * b - y * a) <= 1e-9 * abs(a * b) for a, z, b, y in pairs)
