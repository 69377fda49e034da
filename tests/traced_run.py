"""Runs `tieline` and prints which private files this process opened, one JSON line. Started under mpirun by tests.

python tests/traced_run.py COMMAND ARGUMENT...
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

from admm.cli import main

MARK = "OPENED "
opened: set[str] = set()


def record(event: str, arguments: tuple) -> None:
    """Audit hook: Python calls it for every file that is opened."""
    if event == "open" and isinstance(arguments[0], str) and Path(arguments[0]).parent.name == "agents":
        opened.add(Path(arguments[0]).name)


if __name__ == "__main__":
    sys.addaudithook(record)
    code = main(sys.argv[1:])
    print(MARK + json.dumps(sorted(opened)), flush=True)
    raise SystemExit(code)
