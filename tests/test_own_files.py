"""An output folder: nothing goes that is not of an older result, and nothing stays of runs that were killed."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import h5py
import pytest

from tests.case_tools import tieline
from tests.market_tools import small_case

MOST = ("--max-iterations", "1")


@pytest.fixture(scope="module")
def case(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return small_case(tmp_path_factory.mktemp("case"))


def foreign_hdf5(path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with h5py.File(path, "w") as file:
        file["measured"] = [1.0, 2.0]


def content(folder: Path) -> dict[Path, bytes]:
    return {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_what_others_put_beside_an_older_result_stays(case: Path, tmp_path: Path, capsys) -> None:
    out = tmp_path / "out"
    assert tieline(capsys, "run", case, *MOST, "--out", out, "--audit").code == 3
    assert tieline(capsys, "run", case, *MOST, "--out", tmp_path / "other", "--penalty", "classical").code == 3
    (out / "notes.txt").write_text("mine")
    foreign_hdf5(out / "private" / "measured.h5")
    (out / "audit" / "rank-9.jsonl").write_text("mine")
    (out / "private" / "other.h5").write_bytes((tmp_path / "other" / "private" / "dso.h5").read_bytes())
    (out / "private" / "link.h5").symlink_to(tmp_path / "other" / "boundary.h5")
    kept = {path: path.read_bytes() for name in ("notes.txt", "private/measured.h5", "audit/rank-9.jsonl",
            "private/other.h5", "private/link.h5") for path in [out / name]}  # fmt: skip
    ended = tieline(capsys, "run", case, *MOST, "--out", out)
    assert ended.code == 3, ended.errors
    assert {path: path.read_bytes() for path in kept} == kept
    assert not (out / "audit" / "rank-0.jsonl").exists()


def test_the_private_results_of_agents_that_are_no_more_go(case: Path, tmp_path: Path, capsys) -> None:
    out = tmp_path / "out"
    assert tieline(capsys, "run", case, *MOST, "--out", out).code == 3
    (out / "private" / "dso.h5").rename(out / "private" / "former.h5")
    assert tieline(capsys, "run", case, *MOST, "--out", out).code == 3
    assert (out / "private" / "dso.h5").exists() and not (out / "private" / "former.h5").exists()


COLLISIONS: dict[str, Callable[[Path], object]] = {
    "summary.json": lambda path: path.write_text('{"my": "summary"}'),
    "history.h5": foreign_hdf5,
    "boundary.h5": lambda path: path.write_bytes(b"no HDF5 at all"),
    "checkpoint.h5": foreign_hdf5,
    "private/dso.h5": foreign_hdf5,
    "private": lambda path: path.write_text("a file"),
    "audit": lambda path: path.write_text("a file"),
}


@pytest.mark.parametrize("older", [False, True])
@pytest.mark.parametrize("name", COLLISIONS)
def test_a_name_that_somebody_else_has_taken_is_refused(
    name: str, older: bool, case: Path, tmp_path: Path, capsys
) -> None:
    out = tmp_path / "out"
    out.mkdir()
    if older:
        assert tieline(capsys, "run", case, *MOST, "--out", out).code == 3
        if (out / name).is_dir():
            (out / name).rename(tmp_path / "former")
    COLLISIONS[name](out / name)
    before = content(out)
    ended = tieline(capsys, "run", case, *MOST, "--out", out)
    assert ended.code == 2 and ended.errors.count("\n") == 1, ended.errors
    assert str(out / name) in ended.errors and "move it, or choose another folder" in ended.errors.replace(
        "move it or", "move it, or"
    )
    assert content(out) == before


@pytest.mark.parametrize("name", ["private", "audit"])
def test_a_folder_that_is_a_link_is_not_followed(name: str, case: Path, tmp_path: Path, capsys) -> None:
    out, elsewhere = tmp_path / "out", tmp_path / "elsewhere"
    assert tieline(capsys, "run", case, *MOST, "--out", elsewhere, "--audit").code == 3
    before = content(elsewhere)
    out.mkdir()
    (out / name).symlink_to(elsewhere / name)
    ended = tieline(capsys, "run", case, *MOST, "--out", out, "--audit")
    assert ended.code == 2 and f"{out / name} is a link, expected a folder" in ended.errors, ended.errors
    assert content(elsewhere) == before and sorted(os.listdir(out)) == [name]


def test_a_file_that_is_a_link_is_not_written_through(case: Path, tmp_path: Path, capsys) -> None:
    out, target = tmp_path / "out", tmp_path / "target.json"
    out.mkdir()
    target.write_text("{}")
    (out / "summary.json").symlink_to(target)
    ended = tieline(capsys, "run", case, *MOST, "--out", out)
    assert ended.code == 2 and "summary.json is a link" in ended.errors, ended.errors
    assert target.read_text() == "{}"


def test_what_a_killed_run_was_writing_goes_with_the_next_one(case: Path, tmp_path: Path, capsys) -> None:
    out = tmp_path / "out"
    assert tieline(capsys, "run", case, *MOST, "--out", out).code == 3
    dead, alive = 2**22 + 1, os.getppid()
    gone = [f"summary.json.{dead}.part", f"private/dso.h5.{dead}.part", f"checkpoint.h5.{dead}.part"]
    stay = [f"summary.json.{alive}.part", "notes.part", f"private/thesis.docx.{dead}.part"]
    for name in (*gone, *stay):
        (out / name).write_text("half")
    assert tieline(capsys, "run", case, *MOST, "--out", out).code == 3
    assert [name for name in (*gone, *stay) if (out / name).exists()] == stay
