"""Every bad input ends with its exit code and one clear message, and nothing is written."""

from __future__ import annotations

import io
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import scipy.sparse as sp

import admm
from admm.cli import main
from networks.case_file import BUNDLED, CASE_FILE
from subproblems import QPAgent, QuadraticProgram
from tests.bad_files import CARS, FILES, HOMES, KEYS, REFERENCE, TYPES, VARIANT, Bad
from tests.bad_values import HORIZON, PROFILES, VALUES
from tests.case_tools import BUNDLED_CASE, Ended, copy_case, edit, tieline, write
from tests.conftest import ROOT

BAD_INPUT, NOT_CONVERGED, INFEASIBLE = 2, 3, 4
OLDER_RESULT = ("summary.json", "history.h5", "boundary.h5", "private/ec01-homes.h5")
ALL = {"files": FILES, "keys": KEYS, "types": TYPES, "horizon": HORIZON, "profiles": PROFILES, "values": VALUES}


def check_refused(ended: Ended, words: tuple[str, ...], code: int = BAD_INPUT) -> None:
    """The exit code and one line on stderr that holds all the words."""
    assert ended.code == code, ended
    assert ended.errors.startswith("tieline: ") and ended.errors.count("\n") == 1, ended.errors
    for word in words:
        assert word in ended.errors


@pytest.mark.parametrize(
    "bad", [pytest.param(bad, id=f"{group}: {name}") for group, table in ALL.items() for name, bad in table.items()]
)
def test_bad_cases_are_refused_in_one_line(bad: Bad, tmp_path: Path, capsys) -> None:
    case = copy_case(tmp_path)
    bad.change(case)
    check_refused(tieline(capsys, "check", case), bad.words)


@pytest.mark.parametrize("bad", VARIANT.values(), ids=VARIANT.keys())
def test_bad_variants_are_refused(bad: Bad, tmp_path: Path, capsys) -> None:
    case = copy_case(tmp_path)
    bad.change(case)
    check_refused(tieline(capsys, "check", f"{case}:summer"), bad.words)


@pytest.mark.parametrize("content", REFERENCE.values(), ids=REFERENCE.keys())
def test_a_broken_reference_shows_before_the_run(content: bytes, tmp_path: Path, capsys) -> None:
    case = copy_case(tmp_path)
    write("reference.json", content)(case)
    check_refused(tieline(capsys, "check", case), ("reference.json", "no saved optima", "save the reference again"))


COMMANDS = {
    "unknown command": (("rnu",), ("'rnu'", "'run'", "--help")),
    "no case": (("run",), ("CASE", "required")),
    "unknown case": (("run", "ieee33-10e"), ("case 'ieee33-10e'", "did you mean 'ieee33-10ec'?")),
    "no such folder": (("run", "/no/such/folder"), ("case '/no/such/folder'", "no such folder", "bundled cases")),
    "case file for a folder": (("run", str(BUNDLED / BUNDLED_CASE / CASE_FILE)), ("is a file", "folder that holds")),
    "overlong name": (("run", "x" * 5000), ("no such folder",)),
    "checkpoint for a folder": (
        ("run", BUNDLED_CASE, "--resume", str(BUNDLED / BUNDLED_CASE / CASE_FILE)),
        ("--resume", "is a file", "expected a folder"),
    ),
    "no result to resume": (
        ("run", BUNDLED_CASE, "--resume", str(BUNDLED / BUNDLED_CASE)),
        (f"--resume {BUNDLED / BUNDLED_CASE}: holds", "no result"),
    ),
    "empty case": (("check", ""), ("argument CASE: is empty", "expected a name")),
    "nothing to resume": (("run", BUNDLED_CASE, "--resume", ""), ("--resume: is empty", "expected a name")),
    "nowhere to write to": (("run", BUNDLED_CASE, "--out", ""), ("--out: is empty",)),
    "no former run": (("run", BUNDLED_CASE, "--warm-start", ""), ("--warm-start: is empty",)),
    "empty scenario": (("market", BUNDLED_CASE, "--scenario", ""), ("--scenario: is empty",)),
    "audit of nothing": (("audit", ""), ("DIR: is empty",)),
    "launcher of nobody": (
        ("run", BUNDLED_CASE, "--launcher", "mpirun -n 2"),
        ("--launcher 'mpirun -n 2'", "add --supervise N"),
    ),
    "overlong warm start": (("run", BUNDLED_CASE, "--warm-start", "x" * 5000), ("is no folder",)),
    "overlong scenario": (("market", BUNDLED_CASE, "--scenario", "x" * 5000), ("no such file or folder",)),
    "control codes": (("run", "\x1b[31mred\nline"), (r"case '\x1b[31mred\nline'", "no such folder")),
    "control codes of an option": (("run", BUNDLED_CASE, "\x1b[31m"), (r"unrecognized arguments: \x1b[31m",)),
    "empty variant": (("run", f"{BUNDLED_CASE}:"), ("no variant ''", "winter-15min")),
    "unknown variant": (("run", f"{BUNDLED_CASE}:winter"), ("no variant 'winter'", "winter-15min")),
    "unknown penalty": (("run", BUNDLED_CASE, "--penalty", "fast"), ("penalty is 'fast'", "adaptive, classical")),
    "penalty of nothing": (("run", BUNDLED_CASE, "--penalty", "classical:x"), ("'classical:x'", "a number")),
    "negative penalty": (("run", BUNDLED_CASE, "--penalty", "classical:-1"), ("-1", "above 0")),
    "unknown scheme": (("run", BUNDLED_CASE, "--scheme", "three"), ("scheme is 'three'", "two-block")),
    "unknown solver": (("run", BUNDLED_CASE, "--qp-solver", "cplex"), ("--qp-solver", "'cplex'", "'osqp'")),
    "tolerance of nan": (
        ("run", BUNDLED_CASE, "--tolerance", "nan"),
        ("--tolerance", "'nan'", "finite number above 0"),
    ),
    "tolerance of 0": (("run", BUNDLED_CASE, "--tolerance", "0"), ("--tolerance", "'0'", "above 0")),
    "tolerance in words": (("run", BUNDLED_CASE, "--optimality-tolerance", "low"), ("--optimality-tolerance", "'low'")),
    "no iterations": (("run", BUNDLED_CASE, "--max-iterations", "0"), ("--max-iterations", "'0'", "at least 1")),
    "half an iteration": (("run", BUNDLED_CASE, "--max-iterations", "1.5"), ("--max-iterations", "'1.5'", "whole")),
    "infinite deadline": (("run", BUNDLED_CASE, "--deadline", "inf"), ("--deadline", "'inf'", "finite")),
    "negative time limit": (("run", BUNDLED_CASE, "--time-limit", "-5"), ("--time-limit", "'-5'")),
    "unknown option": (("run", BUNDLED_CASE, "--tolerence", "1"), ("--tolerence",)),
}


@pytest.mark.parametrize(("arguments", "words"), COMMANDS.values(), ids=COMMANDS.keys())
def test_bad_arguments_are_refused_and_nothing_is_written(
    arguments, words, tmp_path: Path, capsys, monkeypatch
) -> None:
    monkeypatch.chdir(tmp_path)
    check_refused(tieline(capsys, *arguments), words)
    assert list(tmp_path.iterdir()) == []


def test_a_name_that_the_terminal_cannot_show_ends_no_command(tmp_path: Path, monkeypatch) -> None:
    """Arguments that are no UTF-8 come as lone surrogates, and some terminals know ASCII only."""
    shown = io.BytesIO()
    monkeypatch.setattr("sys.stdout", io.TextIOWrapper(shown, encoding="ascii", write_through=True))
    case = copy_case(tmp_path)
    edit(CASE_FILE, "periods = 24", "periods = 2")(case)
    out = tmp_path / "W\u00e4rme \udcff"
    assert main(["run", str(case), "--max-iterations", "1", "--out", str(out)]) == NOT_CONVERGED
    assert rb"W\xe4rme \udcff" in shown.getvalue() and (out / "summary.json").is_file()


def test_a_file_is_no_output_folder(tmp_path: Path, capsys) -> None:
    file = tmp_path / "taken"
    file.write_text("mine")
    for out in (file, file / "below"):
        check_refused(
            tieline(capsys, "run", BUNDLED_CASE, "--out", out), (f"--out {out}", f"{file} is a file", "choose")
        )
    assert file.read_text() == "mine"


def test_a_folder_of_others_is_no_output_folder(tmp_path: Path, capsys) -> None:
    (tmp_path / "thesis.tex").write_text("mine")
    for command in ("run", "centralised"):
        ended = tieline(capsys, command, BUNDLED_CASE, "--out", tmp_path)
        check_refused(ended, (f"--out {tmp_path}", "'thesis.tex'", "empty or new folder"))
    assert [path.name for path in tmp_path.iterdir()] == ["thesis.tex"]


@pytest.mark.parametrize("name", ["values: negative capacity", "files: no profile file", "profiles: gap"])
@pytest.mark.parametrize("command", ["run", "centralised"])
def test_bad_input_leaves_an_older_result_alone(name: str, command: str, tmp_path: Path, capsys) -> None:
    group, _, key = name.partition(": ")
    case, out = copy_case(tmp_path), tmp_path / "out"
    ALL[group][key].change(case)
    check_refused(tieline(capsys, command, case, "--out", out), ALL[group][key].words)
    assert not out.exists()
    (out / "private").mkdir(parents=True)
    for file in OLDER_RESULT:
        (out / file).write_text(file)
    check_refused(tieline(capsys, command, case, "--out", out), ALL[group][key].words)
    assert sorted(str(path.relative_to(out)) for path in out.rglob("*.*")) == sorted(OLDER_RESULT)
    assert all((out / file).read_text() == file for file in OLDER_RESULT)


@pytest.mark.parametrize("command", ["check", "run"])
def test_an_infeasible_agent_is_named_with_the_limits_in_conflict(
    command: str, tmp_path: Path, capsys, monkeypatch
) -> None:
    """A connection of 8 kW cannot carry an inflexible load of 15 to 64 kW, at night without sun at the latest."""
    monkeypatch.chdir(tmp_path)
    case = copy_case(tmp_path)
    edit(CARS, "import_limit_kw = 220.0", "import_limit_kw = 8.0")(case)
    ended = tieline(capsys, command, case)
    words = ("agent 'ec02-homes-cars' is infeasible", "connection: import limit", "connection: power balance", "period")
    check_refused(ended, words, INFEASIBLE)
    assert [path.name for path in tmp_path.iterdir()] == ["case"]


@pytest.mark.parametrize("command", ["check", "run"])
def test_the_device_in_conflict_is_named(command: str, tmp_path: Path, capsys, monkeypatch) -> None:
    """Homes that lose 7 kW/K at 0 degC outside need 45 kW of heat for 19.5 degC inside: 3 kW (1 kW x 3) are too few."""
    monkeypatch.chdir(tmp_path)
    case = copy_case(tmp_path)
    edit(HOMES, "max_heating_kw = 70", "max_heating_kw = 1")(case)
    words = ("agent 'ec01-homes' is infeasible", "homes: ", "temperature", "period")
    check_refused(tieline(capsys, command, case), words, INFEASIBLE)


@pytest.mark.parametrize(
    ("bad", "words"),
    [
        (VALUES["unknown bus"], "bus = 77"),
        (FILES["no agent file"], "file not found"),
        (FILES["binary case file"], "UTF-8"),
    ],
)
def test_the_process_ends_with_the_exit_code(bad: Bad, words: str, tmp_path: Path) -> None:
    case = copy_case(tmp_path)
    bad.change(case)
    command = [sys.executable, "-m", "admm", "check", str(case)]
    done = subprocess.run(command, capture_output=True, text=True, cwd=ROOT, check=False)
    check_refused(Ended(done.returncode, done.stdout, done.stderr), (words,))


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")
def test_a_file_without_permission_is_refused(tmp_path: Path, capsys) -> None:
    case = copy_case(tmp_path)
    (case / HOMES).chmod(0)
    check_refused(tieline(capsys, "check", case), (f"{HOMES}: cannot be read", "Permission denied"))


def embedded(**changes) -> QPAgent:
    """An agent that pays x^2 - 2 x for its one boundary value, with some parts of its program replaced."""
    parts = {"P": sp.csc_matrix([[2.0]]), "q": [-2.0], "A": sp.csc_matrix((0, 1)), "l": [], "u": []}
    return QPAgent(
        QuadraticProgram(**parts | {"boundary": {("hub-dso", "p_mw"): np.array([0])}, "name": "hub"} | changes)
    )


def solve_with(hub, periods: int = 1) -> None:
    coupling = admm.Coupling("hub-dso", "hub", "dso", [admm.Quantity("p_mw", periods=periods)])
    admm.solve({"hub": hub, "dso": embedded(name="dso")}, [coupling])


EMBEDDED = {
    "not convex": (lambda: embedded(P=sp.csc_matrix([[-2.0]])), "hub: P is not positive semidefinite"),
    "wrong shape": (lambda: embedded(q=[1.0, 2.0]), r"hub: q has shape \(2,\), expected \(1,\)"),
    "wrong bounds": (lambda: embedded(A=sp.csc_matrix([[1.0]]), l=[2.0], u=[1.0]), "hub: l is above u in row 0"),
    "no program": (lambda: QPAgent("hub.mps"), "QPAgent got str, expected a QuadraticProgram"),
    "wrong periods": (lambda: solve_with(embedded(), periods=2), "'hub-dso', 'p_mw'.* has 1 positions, expected 2"),
    "coupling to nobody": (
        lambda: admm.solve({"hub": embedded()}, [admm.Coupling("hub-dso", "hub", "dso", [admm.Quantity("p_mw", 1)])]),
        "dso",
    ),
    "no such boundary": (
        lambda: solve_with(embedded(boundary={("hub-dos", "p_mw"): np.array([0])})),
        "'hub-dos', 'p_mw'.* no coupling",
    ),
    "unknown penalty": (
        lambda: admm.Settings(penalty="fast"),
        "penalty is 'fast', expected one of adaptive, classical",
    ),
    "no agent": (lambda: solve_with("hub"), "hub"),
}


@pytest.mark.parametrize(("use", "words"), EMBEDDED.values(), ids=EMBEDDED.keys())
def test_the_embedding_interface_refuses_in_words(use, words: str) -> None:
    with pytest.raises(admm.InputError, match=words):
        use()


def test_the_embedded_agents_are_right_unless_spoilt() -> None:
    solve_with(embedded())
