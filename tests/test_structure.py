"""Imports point one way, and help answers without heavy imports."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
ALLOWED = {
    "admm": {"admm"},
    "subproblems": {"admm", "subproblems"},
    "networks": {"admm", "subproblems", "networks"},
}
KNOWS_ALL = ("admm/cli.py", "admm/commands/", "admm/__main__.py")
ONLY_IN = {
    "mpi4py": {"admm/messenger.py"},
    "osqp": {"subproblems/osqp_solver.py"},
    "piqp": {"subproblems/piqp_solver.py"},
    "cryptography": {"admm/privacy/masks.py"},
}
HEAVY = ("scipy", "osqp", "pandapower", "mpi4py", "h5py", "pydantic", "clarabel", "rich", "cryptography")


def imports(path: Path) -> set[str]:
    """Top-level names of all packages that a file imports, wherever in the file."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            found |= {alias.name.split(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.level == 0:
            found.add(node.module.split(".")[0])
    return found


def sources() -> list[Path]:
    return [path for package in ALLOWED for path in sorted((ROOT / package).rglob("*.py"))]


@pytest.mark.parametrize("path", sources(), ids=lambda path: str(path.relative_to(ROOT)))
def test_imports_point_one_way(path):
    name = str(path.relative_to(ROOT))
    ours = imports(path) & (ALLOWED.keys() | {"benchmarks", "tests"})
    if not name.startswith(KNOWS_ALL):
        assert ours <= ALLOWED[name.split("/")[0]]
    for package, places in ONLY_IN.items():
        assert package not in imports(path) or name in places


def loaded_after(statement: str) -> set[str]:
    code = f"import sys\n{statement}\nprint(' '.join(sorted({{m.split('.')[0] for m in sys.modules}})))"
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=ROOT)
    return set(run.stdout.splitlines()[-1].split())


def test_help_imports_nothing_heavy():
    help_only = "import admm.cli\ntry: admm.cli.main(['--help'])\nexcept SystemExit: pass"
    assert not loaded_after(help_only) & set(HEAVY)


def test_the_engine_needs_numpy_only():
    assert not loaded_after("import admm") & set(HEAVY)
