"""Checks that branches between named nodes form a tree, and orders them from the root outwards."""

from __future__ import annotations

import heapq
from collections import deque
from collections.abc import Mapping, Sequence
from typing import Protocol, TypeVar

from admm import InputError

MOST_NAMES = 8
"""Names listed in a message before it says "and so many more"."""


class Branch(Protocol):
    """A branch between two named nodes, in either direction."""

    @property
    def name(self) -> str: ...
    @property
    def from_node(self) -> str: ...
    @property
    def to_node(self) -> str: ...


B = TypeVar("B", bound=Branch)


def listed(names: Sequence[str], most: int = MOST_NAMES) -> str:
    """Join the names; after `most` of them say how many more there are."""
    more = f" and {len(names) - most} more" if len(names) > most else ""
    return ", ".join(names[:most]) + more


def check_ends(feeder: str, nodes: Mapping[str, object], branches: Sequence[Branch]) -> None:
    """Raise InputError if a branch ends at a node that the table does not have."""
    for branch in branches:
        for end in (branch.from_node, branch.to_node):
            if end not in nodes:
                raise InputError(f"feeder '{feeder}': branch '{branch.name}' ends at '{end}', which is no node")


def check_no_loop(feeder: str, nodes: Mapping[str, object], branches: Sequence[Branch]) -> None:
    """Raise InputError at a branch whose ends are already connected; name the nodes around the loop."""
    beside: dict[str, list[str]] = {node: [] for node in nodes}
    for branch in branches:
        around = _path(beside, branch.from_node, branch.to_node)
        if around:
            raise InputError(
                f"feeder '{feeder}': branch '{branch.name}' closes a loop: {' - '.join([*around, branch.from_node])}; "
                "a feeder must be radial: open one of its branches"
            )
        beside[branch.from_node].append(branch.to_node)
        beside[branch.to_node].append(branch.from_node)


def has_loop(nodes: Sequence[str], branches: Sequence[Branch]) -> bool:
    """Say whether branches between different nodes close a loop."""
    above = {node: node for node in nodes}

    def top(node: str) -> str:
        while above[node] != node:
            above[node] = above[above[node]]
            node = above[node]
        return node

    for branch in branches:
        one, other = top(branch.from_node), top(branch.to_node)
        if one == other:
            return True
        above[one] = other
    return False


def _path(beside: Mapping[str, Sequence[str]], start: str, goal: str) -> list[str]:
    """Nodes from start to goal; empty if there is no way."""
    came_from, queue = {start: start}, deque([start])
    while queue and goal not in came_from:
        here = queue.popleft()
        for there in beside[here]:
            if there not in came_from:
                came_from[there] = here
                queue.append(there)
    if goal not in came_from:
        return []
    path = [goal]
    while path[-1] != start:
        path.append(came_from[path[-1]])
    return path[::-1]


def outwards(root: str, names: Sequence[str], branches: Sequence[B]) -> tuple[list[str], dict[str, tuple[str, B]]]:
    """Order the nodes that the root reaches, parents first and else as in the table, and find what feeds each."""
    rank = {name: position for position, name in enumerate(names)}
    touching: dict[str, list[B]] = {name: [] for name in names}
    for branch in branches:
        touching[branch.from_node].append(branch)
        touching[branch.to_node].append(branch)
    order: list[str] = []
    feeding: dict[str, tuple[str, B]] = {}
    waiting = [(rank[root], root)]
    while waiting:
        _, here = heapq.heappop(waiting)
        order.append(here)
        for branch in touching[here]:
            there = branch.to_node if branch.from_node == here else branch.from_node
            if there != root and there not in feeding:
                feeding[there] = (here, branch)
                heapq.heappush(waiting, (rank[there], there))
    return order, feeding
