"""Runs `tieline` and writes which private files this process opened. Started under mpirun by tests.

python tests/traced_run.py FOLDER COMMAND ARGUMENT...     writes FOLDER/PID.json: lines printed by many ranks would mix
"""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path

from admm.cli import main

opened: set[str] = set()


def record(event: str, arguments: tuple) -> None:
    """Audit hook: Python calls it for every file that is opened."""
    if event == "open" and isinstance(arguments[0], str) and Path(arguments[0]).parent.name == "agents":
        opened.add(Path(arguments[0]).name)


if __name__ == "__main__":
    sys.addaudithook(record)
    code = main(sys.argv[2:])
    Path(sys.argv[1], f"{os.getpid()}.json").write_text(json.dumps(sorted(opened)), encoding="utf-8")
    raise SystemExit(code)
