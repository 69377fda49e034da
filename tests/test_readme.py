"""What the README shows a newcomer is true: its example runs, its commands are those of CI."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np

from tests.tolerances import OF_TURNOVER

ROOT = Path(__file__).parent.parent
README = (ROOT / "README.md").read_text(encoding="utf-8")


def test_the_example_of_own_programs_runs_and_is_right():
    """Energy goes where 40 + 20 sin + 8 p is lowest: all hours that are used have one marginal price."""
    example = re.search(r"```python\n(.*?)```", README, re.DOTALL).group(1)
    names: dict = {}
    exec(example, names)
    found = names["found"]
    assert names["result"].converged
    assert abs(found.lower.sum() - 12) < 12 * OF_TURNOVER
    used = (found.upper > 0.01) & (found.upper < 0.99)
    marginal = (names["price"] + 8 * found.upper)[used]
    assert np.ptp(marginal) < 0.1
    assert np.abs(found.price[used] - marginal).max() < 0.1


def test_the_two_commands_are_there_to_be_copied():
    """`.ci/run` takes the second one from here, word for word."""
    commands = [line.strip() for line in README.splitlines() if line.startswith("    python3 -m venv")]
    assert [command.split("&& .venv/bin/")[-1] for command in commands] == [
        "tieline run ieee33-10ec",
        "python -m pytest -n 2 --dist loadfile",
    ]
    assert "README.md" in (ROOT / ".ci" / "run").read_text(encoding="utf-8")


def test_every_file_that_the_readme_names_is_there():
    names = re.findall(r"`((?:admm|subproblems|networks|benchmarks|tests)/[\w./-]*)`", README)
    assert names
    assert [name for name in names if not (ROOT / name).exists()] == []
