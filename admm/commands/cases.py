"""`tieline cases`: what is bundled."""

from __future__ import annotations

import argparse


def command(given: argparse.Namespace) -> int:
    """Run `tieline cases`: print the bundled cases and their variants, a line each."""
    from networks.case_file import bundled_names, open_case

    for name in bundled_names():
        folder = open_case(name)
        print(f"{name:28} {folder.table.title}")
        for variant in folder.table.variant:
            full = f"{name}:{variant}"
            horizon = open_case(full).horizon
            print(f"{full:28} from {horizon.start:%Y-%m-%d %H:%MZ}, {horizon.periods} x {horizon.step_minutes} min")
    return 0
