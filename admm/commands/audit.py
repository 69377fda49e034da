"""`tieline audit`: what left each agent."""

from __future__ import annotations

import argparse

EXIT_DIFFERENT = 5
"""What was written down is not what the run counted."""


def command(given: argparse.Namespace) -> int:
    """Run `tieline audit`: print what left each agent, from the transcript of a run."""
    from admm.audit import audited

    words, same = audited(given.folder)
    print(words)
    return 0 if same else EXIT_DIFFERENT
