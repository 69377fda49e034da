"""`tieline check`: what is wrong with a case."""

from __future__ import annotations

import argparse

from admm.commands.common import (
    one_process,
)
from networks.case import load_case


def command(given: argparse.Namespace) -> int:
    """`tieline check`: reads and builds everything, and lets each agent answer once on its own."""
    from networks.check import check_agents, check_market

    one_process("check")
    case = load_case(given.case)
    check_market(case)
    print(case.headline(), *case.notes, sep="\n  ")
    for line in check_agents(case):
        print(line)
    print(f"{case.name}: everything is valid, and every agent is feasible on its own")
    return 0
