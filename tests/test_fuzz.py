"""Bad input of every kind, made from good input: a few examples of what `python -m benchmarks fuzz` tries by thousands.

An attempt raises where the input brings about anything but a result or an error of ours in one printable line.
"""

from __future__ import annotations

import tomllib
from collections.abc import Callable
from contextlib import nullcontext
from pathlib import Path
from random import Random

import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

import admm
from benchmarks import fuzz_checks
from benchmarks.__main__ import main
from benchmarks.fuzz import FuzzRow, shares, tried
from benchmarks.fuzz_api import Agents, Messages, Programs
from benchmarks.fuzz_checkpoints import CheckpointFiles
from benchmarks.fuzz_checks import Fault, Subject, check_message, check_output, command, ended
from benchmarks.fuzz_csv import mutated_csv
from benchmarks.fuzz_files import CaseFiles, CommandLine, GridFile, MatpowerScript, Scenarios
from benchmarks.fuzz_inputs import mutated_bytes, mutated_text, mutated_tree, toml_text
from benchmarks.fuzz_results import Results
from benchmarks.fuzz_subjects import SUBJECTS, draw_for
from benchmarks.fuzz_transcripts import Transcripts
from benchmarks.tables import read_csv
from tests.conftest import ROOT

TRIED: dict[str, tuple[Callable[[Path], Subject], int]] = {
    "electric case": (lambda at: CaseFiles(at, "", ("electric",)), 60),
    "case with hubs": (lambda at: CaseFiles(at, "", ("hubs",)), 40),
    "case with a market": (lambda at: CaseFiles(at, "", ("market",)), 6),
    "pandapower": (lambda at: GridFile(at, "pandapower"), 8),
    "pandapipes": (lambda at: GridFile(at, "pandapipes"), 60),
    "MATPOWER": (MatpowerScript, 40),
    "results": (Results, 30),
    "checkpoints": (lambda at: CheckpointFiles(at, ("certified",)), 15),
    "transcripts": (Transcripts, 40),
    "scenarios": (Scenarios, 25),
    "command line": (CommandLine, 15),
    "messages": (Messages, 150),
    "programs": (Programs, 100),
    "agents": (Agents, 50),
}
"""What is tried, and with how many examples."""


@pytest.mark.parametrize("name", TRIED)
def test_bad_input_ends_in_a_result_or_one_line(name: str, tmp_path: Path) -> None:
    make, examples = TRIED[name]
    subject = make(tmp_path)

    @settings(
        max_examples=examples,
        derandomize=True,
        deadline=None,
        database=None,
        phases=(Phase.generate, Phase.shrink),
        suppress_health_check=list(HealthCheck),
    )
    @given(st.randoms(use_true_random=False))
    def attempt(draw: Random) -> None:
        subject.attempt(draw)

    attempt()


# ---------------------------------------------------------------- the harness sees what is wrong


def test_whatever_is_wrong_is_seen_counted_and_does_not_end_the_others(monkeypatch) -> None:
    monkeypatch.setattr("benchmarks.fuzz.WORKER", "tests.fuzz_stub")
    found = list(tried("stub", seed=3, first=0, count=7, limit=1.0))
    outcomes = ["result", "fault", "traceback", "crash", "fault", "hang", "InputError"]
    assert [case.outcome for case in found] == outcomes and [case.number for case in found] == list(range(7))
    words = ["", "half a file", "ZeroDivisionError: division by zero", "Segmentation fault", "'printed", "no end", ""]
    assert all(word in case.words for word, case in zip(words, found, strict=True))
    row = FuzzRow("stub", "", 3, 0)
    for case in found:
        row.add(case)
    counts = (row.cases, row.results, row.refused, row.faults, row.tracebacks, row.crashes, row.hangs)
    assert counts == (7, 1, 1, 2, 1, 1, 1) and row.slowest_ms >= 1000


@pytest.mark.parametrize("message", ["", "two\nlines", "a terminal's \x1b[31m", "x" * 10_000])
def test_a_message_that_is_no_printable_line_is_a_fault(message: str) -> None:
    with pytest.raises(Fault):
        check_message(message)


def test_files_that_are_half_there_are_a_fault(tmp_path: Path) -> None:
    out = tmp_path / "out"
    check_output(out, "exit 2")
    with pytest.raises(Fault, match="no output folder"):
        check_output(out, "exit 3")
    out.mkdir()
    check_output(out, "exit 1")
    (out / "summary.json").write_text("{}", encoding="utf-8")
    with pytest.raises(Fault, match=r"exit 2, but there is a summary\.json"):
        check_output(out, "exit 2")
    with pytest.raises(Fault, match="a result without"):
        check_output(out, "exit 0")
    (out / "boundary.h5.77.part").touch()
    with pytest.raises(Fault, match="left boundary"):
        check_output(out, "exit 2")


def test_only_our_errors_and_exit_codes_pass() -> None:
    assert ended(lambda: None) == "result" and command(["cases"]) == "exit 0" and command(["no"]) == "exit 2"
    with pytest.raises(ZeroDivisionError):
        ended(lambda: 1 / 0)

    def refuse() -> None:
        raise admm.InfeasibleError("no")

    assert ended(refuse) == "InfeasibleError"


@pytest.mark.parametrize(
    ("asked", "code", "words", "passes"),
    [
        ("audit", 5, "NOT the same", True),
        ("audit", 0, "the same", True),
        ("audit", 5, "the same", False),
        ("audit", 0, "NOT the same", False),
        ("run", 5, "NOT the same", False),
    ],
)
def test_the_code_of_sums_that_differ_is_of_an_audit_that_says_so(
    asked: str, code: int, words: str, passes: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(fuzz_checks, "main", lambda arguments: print(words) or code)
    with nullcontext() if passes else pytest.raises(Fault, match="an audit has whose sums differ"):
        assert command([asked, "out"]) == f"exit {code}"


# ---------------------------------------------------------------- inputs


def test_one_seed_gives_one_input_and_another_another() -> None:
    tree, text = {"a": [1, 2.5, {"b": "x"}], "c": True}, "a,b\n1,2\n3,4\n"
    changes = (lambda d: mutated_tree(tree, d), lambda d: mutated_text(text, d), lambda d: mutated_csv(text, d))
    for change in (*changes, lambda d: mutated_bytes(text.encode(), d)):
        inputs = [repr(change(draw_for(1, "s", number))) for number in range(40)]
        assert inputs == [repr(change(draw_for(1, "s", number))) for number in range(40)]
        assert len(set(inputs)) > 20
    assert tree == {"a": [1, 2.5, {"b": "x"}], "c": True}


def test_a_tree_as_toml_is_the_tree() -> None:
    tree = tomllib.loads((ROOT / "networks/cases/ieee33-10ec/case.toml").read_text(encoding="utf-8"))
    odd = {"a b": '\x7f\n"é', "inf": float("inf"), "big": 10**30, "empty": {}, "none": []}
    assert tomllib.loads(toml_text(tree | odd)) == tree | odd


def test_every_subject_gets_its_share() -> None:
    found = shares(list(SUBJECTS), 20_000)
    assert abs(sum(found.values()) - 20_000) <= len(SUBJECTS) and min(found.values()) > 100
    assert shares(["messages", "agents"], 1) == {"messages": 1, "agents": 1}


def test_the_command_writes_what_it_counted(tmp_path: Path) -> None:
    arguments = ["fuzz", "--cases", "40", "--subjects", "messages", "--seed", "5", "--out", str(tmp_path)]
    assert main(arguments) == 0
    (row,) = read_csv(tmp_path / "fuzz.csv")
    assert (row["subject"], row["seed"], row["cases"]) == ("messages", 5, 40)
    assert row["results"] + row["refused"] == 40 and row["refused"] > 10
    assert "| messages |" in (tmp_path / "fuzz.md").read_text(encoding="utf-8")
    with pytest.raises(SystemExit, match="2"):
        main([*arguments, "--limit", "0"])
