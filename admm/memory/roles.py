"""Who does what in the scheme "memory": leads, remembered agents, followers."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from admm.couplings import Layout
from admm.errors import InputError
from admm.graph import Sides
from admm.interfaces import Agent
from admm.memory.joint import Lead


@dataclass(frozen=True)
class Roles:
    """leads: solve jointly, on the driving rank. remembered: known by their answers. followers: by cuts."""

    leads: tuple[str, ...]
    remembered: tuple[str, ...]
    followers: tuple[str, ...]


def roles_of(layout: Layout, sides: Sides, named: Sequence[str], owned: Mapping[str, Agent]) -> Roles:
    """The named leads, or all of the second side that can lead and live here.

    On the other side, agents that are the upper end of all their couplings supply, and follow; the rest are
    remembered. Others on the leads' side follow. Raises InputError where nobody can lead.
    """
    if sides.relays:
        relayed = next(iter(sides.relays.values())).name
        raise InputError(
            f"a scheme with certificates takes no relays, but coupling '{relayed}' has one: use 'two-block'"
        )
    leads = tuple(named) or tuple(name for name in sides.second if isinstance(owned.get(name), Lead))
    _check_leads(leads, sides, owned)
    other = sides.first if leads[0] in sides.second else sides.second
    supplying = {name for name in other if (layout.boundary(name).sign < 0).all()}
    beside = [name for name in layout.agents if name not in leads and name not in other]
    return Roles(
        leads,
        tuple(name for name in other if name not in supplying),
        (*(name for name in other if name in supplying), *beside),
    )


def _check_leads(leads: Sequence[str], sides: Sides, owned: Mapping[str, Agent]) -> None:
    if not leads:
        raise InputError(
            "a scheme with certificates needs a lead: an agent of the side that answers second, on the driving rank, "
            "that has `join` (a QPAgent has); use scheme 'two-block' without one"
        )
    for name in leads:
        if name not in (*sides.first, *sides.second):
            raise InputError(f"settings: lead names '{name}', which is no agent of a coupling")
        if not isinstance(owned.get(name), Lead):
            raise InputError(f"settings: lead names '{name}', which cannot lead: it has no `join`, or not this rank")
        if (name in sides.first) != (leads[0] in sides.first):
            raise InputError(f"settings: lead names '{leads[0]}' and '{name}', which answer to each other")
