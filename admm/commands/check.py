"""`tieline check`: what is wrong with a case."""

from __future__ import annotations

import argparse
from itertools import chain

from admm.commands.common import (
    one_process,
)
from networks.case import load_case


def command(given: argparse.Namespace) -> int:
    """Run `tieline check`: read and build everything, and let each agent answer once on its own."""
    from networks.check import base_load_lines, check_agents, check_market

    one_process("check")
    case = load_case(given.case)
    check_market(case)
    print(case.headline(), *case.notes, sep="\n  ")
    for line in chain(base_load_lines(case), check_agents(case)):
        print(f"  {line}")
    print(f"{case.name}: everything is valid, and every agent is feasible on its own")
    return 0
