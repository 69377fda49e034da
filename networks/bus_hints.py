"""Refuses a bus that a network does not have, and names the one that was probably meant."""

from __future__ import annotations

import difflib
from collections.abc import Mapping, Sequence

from admm import InputError

MOST_NAMES = 3


def refuse_unknown_bus(
    where: str,
    bus: int | str,
    network: str,
    known: Sequence[str],
    left_out: Mapping[str, str] | None = None,
    titles: Mapping[str, str] | None = None,
) -> None:
    """Raise InputError for a bus that is not in the network.

    Args:
        where: file and key, as "case.toml: agent 'mill': bus".
        bus: what the case says.
        network: its name.
        known: the buses that there are.
        left_out: {bus of the network's source: why it is no bus here}.
        titles: {bus: the name that the source gives it}.
    """
    if str(bus) in (left_out or {}):
        raise InputError(
            f"{where} = {bus!r} of network '{network}' {(left_out or {})[str(bus)]}, so it is left out: name another "
            "bus, or bring it into the feeder"
        )
    if str(bus) not in known:
        raise InputError(
            f"{where} = {bus!r} is no bus of network '{network}'; {_meant(str(bus), known, titles or {})}its buses are "
            f"{known[0]} to {known[-1]}"
        )


def _meant(bus: str, known: Sequence[str], titles: Mapping[str, str]) -> str:
    """Give a hint: buses with that name, else with a name like it, else a number like it."""
    small = {key: title.strip().casefold() for key, title in titles.items() if key in set(known)}
    found = [key for key, title in small.items() if title and title == bus.strip().casefold()]
    if not found:
        near = difflib.get_close_matches(bus.strip().casefold(), list(small.values()), n=1, cutoff=0.8)
        found = [key for key, title in small.items() if near and title == near[0]]
    if not found:
        return ""
    hints = [f"bus {key} ('{titles[key]}')" for key in found[:MOST_NAMES]]
    return f"a case names a bus by its index: did you mean {' or '.join(hints)}? "
