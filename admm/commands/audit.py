"""`tieline audit`: what left each agent."""

from __future__ import annotations

import argparse


def command(given: argparse.Namespace) -> int:
    """`tieline audit`: what left each agent, from the transcript of a run."""
    from admm.audit import audit_words

    print(audit_words(given.folder))
    return 0
