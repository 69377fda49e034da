"""What leaves an agent: every byte of it is accounted for, and no private number is among it."""

from __future__ import annotations

import hashlib
import json
import re
import shutil
import struct
from collections.abc import Iterable
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pytest

import admm
from admm.audit import read_transcripts, told_by_agent
from admm.cli import main
from admm.graph import split
from admm.interfaces import Answer, Question
from admm.placement import balance
from admm.transcript import Transcript
from admm.wire import HEADER, Kind, answers_bytes, questions_bytes, unpack
from networks.case import load_case
from networks.case_file import CASE_FILE
from tests.case_tools import edit, tieline
from tests.market_tools import CARS, HOMES, small_case
from tests.small_problems import PROBLEMS, Parabola, pair
from tests.test_mpi_case import check_same, datasets

PROGRAM = str(Path(__file__).with_name("apart_run.py"))
RANKS = 2
PLANTED = {"import_limit_kw = 220.0": 217.31415926535898, "capacity_kwh = 60.0": 61.803398874989484}
"""Private limits of the cars' community, of which none binds: a limit that does is seen as a boundary value."""
KW_PER_MW = 1000.0


@dataclass(frozen=True)
class Apart:
    """A run on ranks that have the private files of their own agents only."""

    out: Path
    sent: dict[int, list[bytes]]
    private: set[float]
    alone: Path


def private_numbers(case: Path) -> set[float]:
    """Every number of the agents' files but those that are few binary digits long: they turn up by chance."""
    texts = [path.read_text(encoding="utf-8") for path in (case / "agents").iterdir()]
    found = {float(number) for text in texts for number in re.findall(r"(?<![\w.-])\d+\.\d+", text)}
    return {number for number in found if (64 * number) % 1 != 0}


def leaked(sent: Iterable[bytes], private: Iterable[float]) -> set[float]:
    """Which private numbers are in what was sent: as a double of either sign, in kW or MW, at any byte, or in words."""
    data, found = b"\n".join(sent), set()
    for number in private:
        doubles = [struct.pack("<d", sign * number / unit) for sign in (1, -1) for unit in (1.0, KW_PER_MW)]
        word = rb"(?<![\d.])%s(?![\d.e])" % re.escape(f"{number:g}").encode()
        if any(double in data for double in doubles) or re.search(word, data):
            found.add(number)
    return found


@pytest.fixture(scope="module")
def apart(mpirun, tmp_path_factory) -> Apart:
    folder = tmp_path_factory.mktemp("apart")
    case = small_case(folder)
    for file in (case / "agents").iterdir():
        if file.stem not in (HOMES, CARS):
            file.unlink()
    for old, planted in PLANTED.items():
        edit(f"agents/{CARS}.toml", old, f"{old.split(' =')[0]} = {planted!r}")(case)
    edit(CASE_FILE, "solve_ms = 6.0", "solve_ms = 0.1")(case)  # of the transmission operator: the communities part
    loaded = load_case(str(case))
    sides = split(loaded.couplings)
    placement = balance(loaded.solve_weights(), (sides.first, sides.second), RANKS)
    assert placement[HOMES] != placement[CARS]
    for rank in range(RANKS):
        own = shutil.copytree(case, folder / f"rank-{rank}" / "case")
        for file in (own / "agents").iterdir():
            if placement[file.stem] != rank:
                file.unlink()
    out = folder / "out"
    done = mpirun(RANKS, PROGRAM, str(folder), str(out))
    assert done.returncode == 0, done.stderr
    assert main(["run", str(case), "--audit", "--out", str(folder / "alone")]) == 0
    lines = {rank: (folder / f"sent-{rank}.hex").read_text().splitlines() for rank in range(RANKS)}
    sent = {rank: [bytes.fromhex(line) for line in found] for rank, found in lines.items()}
    return Apart(out, sent, private_numbers(case), folder / "alone")


def transcript_lines(out: Path, rank: int) -> list[dict]:
    """Messages of a rank's transcript that crossed to another rank."""
    lines = map(json.loads, (out / "audit" / f"rank-{rank}.jsonl").read_text().splitlines())
    return [line for line in lines if line.get("source") != line.get("target")]


def test_ranks_with_their_own_private_files_only_find_the_same(apart: Apart) -> None:
    check_same(datasets(apart.out / "boundary.h5"), datasets(apart.alone / "boundary.h5"))
    files = {path.name for path in (apart.out / "private").iterdir()}
    assert {f"{HOMES}.h5", f"{CARS}.h5", "dso.h5", "tso.h5"} == files


def test_every_byte_sent_is_in_the_transcript_as_header_fields_and_text(apart: Apart) -> None:
    for rank, sent in apart.sent.items():
        lines = transcript_lines(apart.out, rank)
        assert len(lines) == len(sent) > 10
        for line, data in zip(lines, sent, strict=True):
            message = unpack(data)
            numbers = sum(int(np.prod(shape)) for shape in line["fields"].values())
            assert numbers == message.numbers.size and line["kind"] == message.kind.name
            assert line["text_bytes"] == len(message.text.encode())
            assert line["bytes"] == len(data) == HEADER.size + 8 * numbers + line["text_bytes"]
            assert line["sha256"] == hashlib.sha256(data).hexdigest()


def test_no_private_number_is_in_what_was_sent(apart: Apart) -> None:
    assert set(PLANTED.values()) < apart.private and len(apart.private) > 30
    assert leaked((data for sent in apart.sent.values() for data in sent), apart.private) == set()


def test_a_private_number_that_leaves_would_be_found() -> None:
    """What the last test looks for is there to be found: in a value, in a cost, in kW and MW, in a reason."""
    number = PLANTED["capacity_kwh = 60.0"]
    for value in (number, -number, number / KW_PER_MW, -number / KW_PER_MW):
        assert leaked([b"x" * 3 + np.array([1.0, value]).tobytes()], [number, 1.23456789]) == {number}
    assert leaked([b"capacity 61.8034 kWh"], [number]) == {number}


def test_the_sums_are_those_of_the_transport(apart: Apart, capsys) -> None:
    posted = sum(len(data) for sent in apart.sent.values() for data in sent)
    ended = tieline(capsys, "audit", apart.out)
    assert ended.code == 0 and f"{posted} bytes, each its header, its fields and its text" in ended.out
    until = sum(
        len(data) for sent in apart.sent.values() for data in sent
        if (m := unpack(data)).kind is not Kind.STOP and not (m.kind is Kind.TEXT and not m.flags)
    )  # fmt: skip
    exchanged = json.loads((apart.out / "summary.json").read_text())["bytes_exchanged"]
    assert until == exchanged
    assert f"until the result {until} bytes; summary.json says {exchanged}: the same" in ended.out


def test_the_audit_says_who_told_what(apart: Apart, capsys) -> None:
    summary = json.loads((apart.out / "summary.json").read_text())
    assert summary["schedule_cost_eur"] is not None  # then operators have answered once more
    for out, ranks in ((apart.out, RANKS), (apart.alone, 1)):
        agents = told_by_agent(read_transcripts(out).lines)
        assert set(agents) == {HOMES, CARS, "dso", "tso"}
        entries = {HOMES: 18, CARS: 18, "dso": 54, "tso": 18}
        for name, told in agents.items():
            answers = summary["iterations"] + (name in ("dso", "tso"))
            assert (told.answers, told.questions, told.costs, told.bounds) == (answers, answers, answers, 0)
            assert told.entries == entries[name]
            assert told.bytes_left == answers * answers_bytes(entries[name])
            assert told.bytes_told == answers * questions_bytes(entries[name])
        words = tieline(capsys, "audit", out).out
        assert "summary.json says" in words and "the same" in words and "NOT" not in words
        assert (f"{ranks} ranks" if ranks > 1 else "one process") in words
        assert ("report (digest, violation_pu" in words) == (ranks > 1)


def test_an_infeasible_agent_s_reason_is_shown_and_an_older_result_stays(tmp_path: Path, capsys) -> None:
    case, out = small_case(tmp_path), tmp_path / "out"
    out.mkdir()
    (out / "summary.json").write_text("{}")
    edit(f"agents/{CARS}.toml", "import_limit_kw = 220.0", "import_limit_kw = 8.0")(case)
    assert tieline(capsys, "run", case, "--audit", "--out", out).code == 4
    words = tieline(capsys, "audit", out).out
    assert f"{CARS}: these constraints contradict each other: " in words and "without a result" in words
    assert "no message has a field for them; the texts above name some of them" in words
    assert (out / "summary.json").read_text() == "{}"
    shutil.rmtree(out / "audit")
    assert tieline(capsys, "run", case, "--out", out).code == 4 and not (out / "audit").exists()


def test_an_audit_is_part_of_a_result_and_replaced_with_it(tmp_path: Path, capsys) -> None:
    case, out = small_case(tmp_path), tmp_path / "out"
    one = ("run", case, "--max-iterations", "1", "--out", out)
    older = Transcript(out / "audit", rank=7, ranks=8)
    older.begin()
    older.close(has_result=False)
    (out / "audit" / "rank-8.jsonl").write_text("of somebody else\n")
    assert tieline(capsys, *one, "--audit").code == 3
    assert sorted(path.name for path in (out / "audit").iterdir()) == ["rank-0.jsonl", "rank-8.jsonl"]
    (out / "audit" / "rank-8.jsonl").unlink()
    assert tieline(capsys, *one).code == 3
    ended = tieline(capsys, "audit", out)
    assert ended.code == 2 and "holds no transcript" in ended.errors and ended.errors.count("\n") == 1


@pytest.mark.parametrize(
    ("number", "old", "new"),
    [
        (0, '"tieline_audit":1', '"tieline_audit":2'),
        (0, "{", "["),
        (1, '"bytes":', '"bytes":1'),
        (1, '"price"', '"limits":[3],"price"'),
        (1, '"kind":"QUESTION"', '"kind":"GOSSIP"'),
        (2, '"source"', '"sauce"'),
        (2, '"iteration":1', '"iteration":"1"'),
        (2, '"agent":"low"', '"agent":["low"]'),
        (2, '"values":[1,2]', '"values":[2]'),
        (2, '"costs":1', '"costs":null'),
        (3, '{"run"', '7#"run"'),
    ],
)
def test_a_damaged_transcript_is_said_in_one_line(tmp_path: Path, capsys, number: int, old: str, new: str) -> None:
    transcript = Transcript(tmp_path / "audit")
    problem = pair()
    transport = admm.InProcessTransport(threads=1, transcript=transcript)
    settings = admm.Settings(max_iterations=1)
    admm.solve({name: make() for name, make in problem.agents.items()}, problem.couplings, settings, transport)
    assert tieline(capsys, "audit", tmp_path).code == 0
    lines = transcript.path.read_text().splitlines()
    assert old in lines[number]
    lines[number] = lines[number].replace(old, new, 1)
    transcript.path.write_text("\n".join(lines))
    ended = tieline(capsys, "audit", tmp_path)
    assert ended.code == 2 and f"line {number + 1} is not one of a transcript" in ended.errors
    assert ended.errors.count("\n") == 1


@pytest.mark.parametrize("name", PROBLEMS)
def test_in_one_process_the_sum_is_the_traffic(tmp_path: Path, name: str) -> None:
    problem, plain = PROBLEMS[name](), PROBLEMS[name]().solve(max_iterations=20)
    transport = admm.InProcessTransport(transcript=Transcript(tmp_path))
    settings = admm.Settings(**{**problem.settings, "max_iterations": 20})
    agents = {n: make() for n, make in problem.agents.items()}
    result = admm.solve(agents, problem.couplings, settings, transport)
    lines = [json.loads(line) for line in transport.transcript.path.read_text().splitlines()[1:]]
    assert sum(line["bytes"] for line in lines) == result.bytes_exchanged == plain.bytes_exchanged > 0
    assert result.objective == plain.objective


class Refuses(Parabola):
    """Has no answer, or one that is none."""

    def __init__(self, answer: Answer | None) -> None:
        super().__init__(2.0, [3.0, -1.0])
        self.own = answer

    def answer(self, question: Question) -> Answer:
        return self.own


@pytest.mark.parametrize(
    ("answer", "error"),
    [
        (Answer(np.empty(0), admm.AnswerStatus.INFEASIBLE, "the tank's limits"), admm.InfeasibleError),
        (Answer(np.zeros(3)), admm.InputError),
        (None, admm.InputError),
    ],
)
def test_bad_answers_are_the_same_errors_with_a_transcript(tmp_path: Path, answer, error) -> None:
    agents, problem = {"low": Refuses(answer), "up": Parabola(6.0, [1.0, 5.0])}, pair()
    transcript, told = Transcript(tmp_path), []
    for transport in (admm.InProcessTransport(threads=1), admm.InProcessTransport(threads=1, transcript=transcript)):
        with pytest.raises(error) as raised:
            admm.solve(agents, problem.couplings, admm.Settings(), transport)
        told.append(str(raised.value))
    assert told[0] == told[1]
    reasons = [json.loads(line).get("text") for line in transcript.path.read_text().splitlines()]
    assert ("the tank's limits" in reasons) == (error is admm.InfeasibleError)


def test_a_cost_that_is_not_told_is_not_counted(tmp_path: Path) -> None:
    class Quiet(Parabola):
        def answer(self, question: Question) -> Answer:
            return replace(super().answer(question), cost_eur=None)

    transport = admm.InProcessTransport(transcript=Transcript(tmp_path / "audit"))
    agents = {"low": Quiet(2.0, [3.0, -1.0]), "up": Parabola(6.0, [1.0, 5.0])}
    admm.solve(agents, pair().couplings, admm.Settings(max_iterations=4), transport)
    told = told_by_agent(read_transcripts(tmp_path).lines)
    assert (told["low"].costs, told["up"].costs) == (0, 4)


def test_nothing_is_sent_that_cannot_be_written_down(tmp_path: Path) -> None:
    """A full disk: the first question is not asked."""
    transcript = Transcript(tmp_path)
    transcript._file = open("/dev/full", "w", buffering=1)  # noqa: SIM115
    agents, problem = {"low": Refuses(None), "up": Refuses(None)}, pair()
    with pytest.raises(admm.TransportError, match="nothing leaves that is not written down"):
        admm.solve(agents, problem.couplings, admm.Settings(), admm.InProcessTransport(transcript=transcript))


def test_a_folder_that_cannot_be_written_is_bad_input(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(admm.InputError, match="rank-0.jsonl: cannot be written"):
        Transcript(tmp_path / "file")
