"""Cases that are right and were refused, and cases that are wrong and are told so in numbers."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from tests.case_tools import tieline

CASES = Path(__file__).parent / "data" / "failing"


@pytest.fixture
def case(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    """A copy of the small case of that name."""
    return Path(shutil.copytree(CASES / request.param, tmp_path / "case"))


@pytest.mark.parametrize("case", ["unused_text_column"], indirect=True)
def test_a_column_of_text_that_nobody_names_is_ignored(case: Path, capsys) -> None:
    assert tieline(capsys, "check", case).code == 0


@pytest.mark.parametrize("case", ["unused_text_column"], indirect=True)
def test_a_column_of_text_that_is_named_is_refused(case: Path, capsys) -> None:
    path = case / "case.toml"
    path.write_text(path.read_text().replace('load_profile = "load_pu"', 'load_profile = "sky"'))
    ended = tieline(capsys, "check", case)
    assert ended.code == 2
    words = ("network 'dso'", "load_profile: ", "public.csv: line 2: sky is 'sunny', expected a finite number")
    assert all(part in ended.errors for part in words), ended.errors
