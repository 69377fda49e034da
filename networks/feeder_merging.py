"""Makes a radial table of one that is radial but for parallel branches and couplers.

*Parallel branches* become one: their series admittances and their own shunts add up. Its rating lets every member
carry what its own rating allows, for the share of the current that its impedance gives it. *Couplers* are branches
whose impedance is below `LEAST_IMPEDANCE_PU`; they have none then. They stay branches, with their rating, unless they
close a loop: then the nodes that couplers join become one node.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from networks.branch_currents import EndRating
from networks.feeder_model import LEAST_IMPEDANCE_PU
from networks.feeder_rows import FeederBranch, FeederNode
from networks.radial import has_loop, listed

LOST_SHARE = 1e-17
"""Of an impedance: what is less changes no digit of it, but pandapower's start may divide by it."""


@dataclass(frozen=True)
class Merged:
    """The tables after merging. aliases: {name of a merged node: the node}. notes: what was merged, a sentence each."""

    nodes: list[FeederNode]
    branches: list[FeederBranch]
    aliases: dict[str, str]
    notes: list[str]


def merged_tables(root: str, nodes: Sequence[FeederNode], branches: Sequence[FeederBranch]) -> Merged:
    """Merge parallel branches, and the nodes that couplers join where the feeder would not be radial otherwise."""
    notes: list[str] = []
    joined = _without_parallels(branches, notes)
    names = [node.name for node in nodes]
    if not has_loop(names, joined):
        return Merged(list(nodes), list(map(_coupler_or_branch, joined)), {}, notes)
    stands_for = _joined_by_couplers(root, names, joined)
    lost = [one for one in joined if _is_coupler(one)]
    others = [
        replace(one, from_node=stands_for[one.from_node], to_node=stands_for[one.to_node])
        for one in joined
        if not _is_coupler(one)
    ]
    notes += [
        f"{one.name}: its ends are one node, so its rating is not watched" for one in lost if np.isfinite(one.i_max_pu)
    ]
    aliases = {name: node for name, node in stands_for.items() if name != node}
    fused = _with_shunts(_fused(nodes, stands_for), lost, stands_for)
    return Merged(fused, list(map(_coupler_or_branch, _without_parallels(others, notes))), aliases, notes)


def _is_coupler(branch: FeederBranch) -> bool:
    return bool(np.hypot(branch.r_pu, branch.x_pu) < LEAST_IMPEDANCE_PU)


def _coupler_or_branch(branch: FeederBranch) -> FeederBranch:
    """Without what is too small to matter: the impedance of a coupler, or a part that double precision loses."""
    if _is_coupler(branch):
        return replace(branch, r_pu=0.0, x_pu=0.0)
    least = LOST_SHARE * np.hypot(branch.r_pu, branch.x_pu)
    parts = {key: 0.0 for key in ("r_pu", "x_pu") if 0 < abs(getattr(branch, key)) < least}
    return replace(branch, **parts) if parts else branch


def _without_parallels(branches: Sequence[FeederBranch], notes: list[str]) -> list[FeederBranch]:
    groups: dict[frozenset[str], list[FeederBranch]] = {}
    for branch in branches:
        groups.setdefault(frozenset((branch.from_node, branch.to_node)), []).append(branch)
    found = []
    for ends, members in groups.items():
        if len(ends) == 1 or len(members) == 1:  # a branch from a node to itself is a loop, which is refused later
            found += members
            continue
        found.append(_parallel(members))
        notes.append(f"{listed([one.name for one in members])} are parallel: they are one branch")
    return found


def _parallel(members: Sequence[FeederBranch]) -> FeederBranch:
    """The branch that carries what all members carry."""
    first = members[0]
    members = [one if one.from_node == first.from_node else _turned(one) for one in members]
    impedances = np.array([complex(one.r_pu, one.x_pu) for one in members])
    impedance, shares = _divided(impedances)
    rated = [
        (rating, share, one.i_max_pu * rating.factor / abs(share))
        for one, share in zip(members, shares, strict=True)
        for rating in (one.ratings or _both_ends(one))
        if np.isfinite(one.i_max_pu) and share != 0
    ]
    most = min((limit for _, _, limit in rated), default=np.inf)
    return FeederBranch(
        " + ".join(one.name for one in members),
        first.from_node,
        first.to_node,
        impedance.real,
        impedance.imag,
        most,
        sum(one.from_shunt_mva for one in members),
        sum(one.to_shunt_mva for one in members),
        tuple(EndRating(r.at_from, r.shunt_mva / np.conj(share), limit / most) for r, share, limit in rated),
        any(one.equivalent for one in members),
    )


def _divided(impedances: np.ndarray) -> tuple[complex, np.ndarray]:
    """The impedance of all in parallel, and the complex share of the current that each carries."""
    none = impedances == 0
    if none.any():  # the current takes them alone, in equal parts
        return 0j, none / none.sum()
    admittances = 1 / impedances
    return 1 / admittances.sum(), admittances / admittances.sum()


def _both_ends(branch: FeederBranch) -> tuple[EndRating, EndRating]:
    return EndRating(True, branch.from_shunt_mva), EndRating(False, branch.to_shunt_mva)


def _turned(branch: FeederBranch) -> FeederBranch:
    """The same branch with its ends exchanged."""
    return replace(
        branch,
        from_node=branch.to_node,
        to_node=branch.from_node,
        from_shunt_mva=branch.to_shunt_mva,
        to_shunt_mva=branch.from_shunt_mva,
        ratings=tuple(replace(one, at_from=not one.at_from) for one in branch.ratings),
    )


def _joined_by_couplers(root: str, names: Sequence[str], branches: Sequence[FeederBranch]) -> dict[str, str]:
    """{node: the node that stands for all that couplers join with it}: the root, or else the first in the table."""
    stands_for = {name: name for name in names}

    def top(name: str) -> str:
        while stands_for[name] != name:
            name = stands_for[name]
        return name

    rank = {name: position for position, name in enumerate(names)} | {root: -1}
    for branch in branches:
        if _is_coupler(branch):
            low, high = sorted((top(branch.from_node), top(branch.to_node)), key=rank.__getitem__)
            stands_for[high] = low
    return {name: top(name) for name in names}


def _fused(nodes: Sequence[FeederNode], stands_for: Mapping[str, str]) -> list[FeederNode]:
    """The nodes that stand for others, with the sum of their powers and the tightest of their limits."""
    by_name = {node.name: node for node in nodes}
    groups: dict[str, list[FeederNode]] = {}
    for name, node in stands_for.items():
        groups.setdefault(node, []).append(by_name[name])
    return [one_node(by_name[name], members) for name, members in groups.items()]


def one_node(first: FeederNode, members: Sequence[FeederNode]) -> FeederNode:
    """One node for several at the same voltage, under the name and the nominal voltage of the first."""
    nominal = _nominal_kv(first)
    sums = {
        key: sum(getattr(one, key) for one in members)
        for key in (
            *("p_mw", "q_mvar", "sgen_p_mw", "sgen_q_mvar"),
            *("constant_p_mw", "constant_q_mvar", "shunt_p_mw", "shunt_q_mvar"),
        )
    }
    for key in ("z_load_p_mw", "z_load_q_mvar"):
        sums[key] = sum(getattr(one, key) * (nominal / _nominal_kv(one)) ** 2 for one in members)
    lower = np.fmax.reduce([one.v_min_pu * _nominal_kv(one) / nominal for one in members])  # NaN only if all are
    upper = np.fmin.reduce([one.v_max_pu * _nominal_kv(one) / nominal for one in members])
    return replace(first, **sums, v_min_pu=float(lower), v_max_pu=float(upper))


def _nominal_kv(node: FeederNode) -> float:
    return node.base_kv if node.nominal_kv is None else node.nominal_kv


def _with_shunts(
    nodes: Sequence[FeederNode], lost: Sequence[FeederBranch], stands_for: Mapping[str, str]
) -> list[FeederNode]:
    """The admittances of couplers that are no branch any more stay at their node."""
    extra: dict[str, complex] = {}
    for one in lost:
        node = stands_for[one.from_node]
        extra[node] = extra.get(node, 0j) + one.from_shunt_mva + one.to_shunt_mva
    return [
        replace(
            node,
            shunt_p_mw=node.shunt_p_mw + extra.get(node.name, 0j).real,
            shunt_q_mvar=node.shunt_q_mvar + extra.get(node.name, 0j).imag,
        )
        for node in nodes
    ]
