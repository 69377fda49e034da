"""What the file system does not take in mid-run: one line, exit code 74, no traceback, whatever the fault."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import pytest

import admm
import admm.whole_file
from admm.whole_file import write_whole
from tests.case_tools import tieline
from tests.market_tools import small_case


def folder_gone(out: Path) -> None:
    shutil.rmtree(out)


def file_in_its_place(out: Path) -> None:
    shutil.rmtree(out)
    out.write_text("a file")


def private_is_a_file(out: Path) -> None:
    shutil.rmtree(out / "private")
    (out / "private").write_text("a file")


def folder_in_the_way(out: Path) -> None:
    (out / "boundary.h5").mkdir()


@pytest.mark.parametrize("fault", [folder_gone, file_in_its_place, private_is_a_file, folder_in_the_way])
def test_a_folder_that_changes_in_mid_run_is_said_in_one_line(fault, tmp_path: Path, capsys, monkeypatch) -> None:
    import admm.commands.run as command

    case, out, finish = small_case(tmp_path), tmp_path / "out", command.finish_agents
    monkeypatch.setattr(command, "finish_agents", lambda *given: [fault(out), finish(*given)][1])
    ended = tieline(capsys, "run", case, "--max-iterations", "1", "--out", out)
    assert ended.code == 74, ended
    assert ended.errors.count("\n") == 1 and "annot be written" in ended.errors, ended.errors


def test_the_real_error_is_told_where_the_part_cannot_be_removed_either(tmp_path: Path, monkeypatch) -> None:
    """As on a file system that turns read-only."""

    def refuse(*_: object, **__: object) -> None:
        raise OSError(30, "Read-only file system")

    for call in ("open", "unlink", "replace"):
        monkeypatch.setattr(admm.whole_file.os, call, refuse)
    with pytest.raises(admm.OutputError, match=r"x.h5: cannot be written \(Read-only file system\); check the folder"):
        write_whole(tmp_path / "x.h5", b"data")


def test_a_name_that_is_too_long_for_a_file_is_said(tmp_path: Path) -> None:
    with pytest.raises(admm.OutputError, match="File name too long"):
        write_whole(tmp_path / ("a" * 250), b"data")
    assert os.listdir(tmp_path) == []


def test_a_folder_that_is_read_only_from_the_start_is_bad_input(tmp_path: Path, capsys, monkeypatch) -> None:
    """os.access says so, as the tests' user may be root."""
    case = small_case(tmp_path)
    monkeypatch.setattr("admm.output.os.access", lambda *_: False)
    ended = tieline(capsys, "run", case, "--out", tmp_path / "out")
    assert ended.code == 2 and ended.errors.count("\n") == 1 and "may not be written to" in ended.errors
    assert not (tmp_path / "out").exists()


def test_a_link_to_nothing_is_called_so(tmp_path: Path, capsys) -> None:
    (tmp_path / "out").symlink_to(tmp_path / "gone")
    ended = tieline(capsys, "run", small_case(tmp_path), "--out", tmp_path / "out")
    assert ended.code == 2 and "out is a link to nothing, expected a folder" in ended.errors


def test_a_run_without_a_standard_output_or_error_runs(tmp_path: Path) -> None:
    import subprocess
    import sys

    from tests.case_tools import ROOT_ENVIRONMENT

    case, out = small_case(tmp_path), tmp_path / "out"
    command = f'"{sys.executable}" -m admm run "{case}" --out "{out}" >&- 2>&-'
    ended = subprocess.run(["sh", "-c", command], env=ROOT_ENVIRONMENT, check=False)
    assert ended.returncode == 0 and (out / "summary.json").exists()


def test_output_that_nobody_takes_ends_with_one_line(tmp_path: Path) -> None:
    import subprocess
    import sys

    from tests.case_tools import ROOT_ENVIRONMENT

    with open("/dev/full", "w") as full:
        ended = subprocess.run(
            [sys.executable, "-m", "admm", "cases"],
            stdout=full,
            stderr=subprocess.PIPE,
            text=True,
            env=ROOT_ENVIRONMENT,
            check=False,
        )
    assert ended.returncode == 74 and ended.stderr.count("\n") == 1 and "No space left" in ended.stderr
