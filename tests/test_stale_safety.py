"""Late answers and what keeps a run safe: checkpoints, deadlines and transcripts."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Iterable
from pathlib import Path

import numpy as np
import pytest

import admm
from admm import InProcessTransport, Status
from admm.audit import read_transcripts, told_by_agent
from admm.resume import Checkpoints
from admm.run import Run
from admm.snapshot import pack_values, unpack_values
from admm.stale import Stale
from admm.transcript import Transcript
from tests.case_tools import tieline
from tests.delayed import Delayed
from tests.market_tools import small_case
from tests.small_problems import Parabola, star
from tests.test_stale import MARK, MPI_PROGRAM, NAMES, exchanges, impatient, star_of_parabolas
from tests.tolerances import SOLVER

ALWAYS, NEVER = 1e-9, 1e9
DEADLINE_SECONDS, GIVE_UP_SECONDS = 0.5, 15.0
CUT_AT = 9

# -------------------------------------------------------------- checkpoints


class Watching(Checkpoints):
    """Remembers after which iterations it has saved; nothing may be under way then."""

    saved_after: tuple[int, ...] = ()

    def save(self, run: Run) -> None:
        assert not run.under_way
        self.saved_after = (*self.saved_after, run.state.iteration)
        super().save(run)


def run(transport: admm.Transport, kept: Checkpoints | None = None, stop: int | None = None) -> admm.Result:
    problem = star()
    agents = {name: make() for name, make in problem.agents.items()}
    asked = None if stop is None else lambda progress: progress.iteration >= stop
    chosen = admm.Settings(**problem.settings, staleness=3, callback=asked)
    with impatient():
        return admm.solve(agents, problem.couplings, chosen, transport, kept)


@pytest.mark.parametrize("seed", range(3))
def test_a_run_that_goes_on_finds_the_same_optimum(seed: int, tmp_path: Path) -> None:
    problem, first, second = star(), Delayed(seed, 4), Delayed(seed + 1, 4)
    cut = run(first, Watching(tmp_path, every_seconds=NEVER), stop=CUT_AT)
    said: list[str] = []
    result = run(second, Watching(tmp_path, resume=True, say=said.append))
    assert cut.status is Status.STOPPED and said[0].startswith(f"goes on after iteration {cut.iterations}")
    assert cut.iterations < result.iterations == len(result.history)
    assert result.converged and result.objective == pytest.approx(problem.objective, rel=SOLVER)
    assert max(first.ages) > 0 and max(second.ages) > 0


@pytest.mark.parametrize("who", [[], ["a"], ["b", "c"]], ids=["nobody", "a", "b and c"])
def test_where_the_same_answers_are_late_it_goes_on_to_the_last_bit(who: list[str], tmp_path: Path) -> None:
    """Nothing that the next iteration depends on is missing in a checkpoint."""

    def late() -> Delayed:
        return Delayed(0, 2, who, always=True)

    watching = Watching(tmp_path / "whole", every_seconds=ALWAYS)
    whole = run(late(), watching)
    stop = next(iteration for iteration in watching.saved_after if iteration >= CUT_AT)
    cut = run(late(), Watching(tmp_path / "cut", every_seconds=ALWAYS), stop)
    result = run(late(), Watching(tmp_path / "cut", every_seconds=ALWAYS, resume=True))
    assert cut.iterations == stop < whole.iterations == result.iterations
    assert [p.residuals for p in result.history] == [p.residuals for p in whole.history]
    assert [p.penalty for p in result.history] == [p.penalty for p in whole.history]
    assert result.objective == whole.objective


def test_a_save_that_is_due_is_put_off_by_one_iteration_at_most(tmp_path: Path) -> None:
    transport, kept = Delayed(2, 4), Watching(tmp_path, every_seconds=ALWAYS)
    result = run(transport, kept)
    gaps = np.diff([0, *kept.saved_after, result.iterations])
    assert result.converged and set(gaps) == {1, 2} and max(transport.ages) == 1


NOT_KEPT = {
    *("layout", "sides", "settings", "transport", "owned", "side", "most_price_move", "began", "launched"),
    "boundaries",  # of the layout
    *("policy", "acceleration", "closing"),  # kept beside the others
    *("complete", "patience", "frozen", "asking"),  # of an iteration, and of runs without staleness
    *("under_way", "asked", "ending", "gathering"),  # nothing is under way
}


def test_on_the_command_line_a_run_goes_on_with_the_same_staleness(tmp_path: Path, capsys) -> None:
    case, out = small_case(tmp_path), tmp_path / "out"
    assert tieline(capsys, "run", case, "--staleness", "2", "--max-iterations", "4", "--out", out).code == 3
    ended = tieline(capsys, "run", case, "--resume", out)
    assert ended.code == 2 and "--staleness is '2' there and '0' now" in ended.errors
    assert len(ended.errors.splitlines()) == 1
    ended = tieline(capsys, "run", case, "--staleness", "2", "--resume", out)
    summary = json.loads((out / "summary.json").read_text())
    assert ended.code == 0 and (summary["resumed_after"], summary["staleness"]) == (4, 2)


def late_loop(count: int) -> Stale:
    """After so many iterations with late answers, and one more that waits for all."""
    with impatient():
        late = exchanges(star_of_parabolas(), 4, Delayed(5, 4), count, penalty="adaptive:3")
        while not late.ready_to_save():
            late.iterate()
    return late


def test_all_that_the_loop_carries_is_kept() -> None:
    late, other = late_loop(11), late_loop(3)
    assert vars(late).keys() - {*Stale.KEPT} == NOT_KEPT
    kept, own_bytes = late.snapshot(), other.transport.traffic.bytes
    other.restore(unpack_values(*pack_values(kept)))
    again = other.snapshot()
    assert again["sent"]["bytes"] == kept["sent"]["bytes"] + own_bytes > own_bytes  # both launches count
    (text, arrays), (expected, of_kept) = (
        pack_values({**again, "elapsed": kept["elapsed"], "sent": kept["sent"]}),
        pack_values(kept),
    )
    assert late.slow and late.rounds > 1 and text == expected
    assert all(np.array_equal(one, two) for one, two in zip(arrays, of_kept, strict=True))


# -------------------------------------------------------------- deadlines


class Hangs(Parabola):
    """Does not come back from its third question before it is let go."""

    def __init__(self, *parabola: object, released: threading.Event) -> None:
        super().__init__(*parabola)
        self.released, self.given = released, 0

    def answer(self, question: admm.Question) -> admm.Answer:
        self.given += 1
        if self.given == 3:
            self.released.wait(GIVE_UP_SECONDS)
        return super().answer(question)


def interrupt(progress: admm.Progress) -> None:
    if progress.iteration == 6:
        raise KeyboardInterrupt


@pytest.mark.parametrize(("threads", "callback"), [(1, None), (2, None), (2, interrupt)])
def test_an_agent_that_hangs_ends_the_run_at_the_deadline(threads: int, callback: object) -> None:
    problem, released, began = star_of_parabolas(), threading.Event(), time.perf_counter()
    agents = {name: make() for name, make in problem.agents.items()}
    agents["slow"] = Hangs(2.0, [3.0], released=released)
    chosen = admm.Settings(**problem.settings, staleness=10**6, callback=callback)
    try:
        with pytest.raises(admm.TransportError, match="agent 'slow' was not heard of for 0.5 s: it is stuck"):
            admm.solve(agents, problem.couplings, chosen, InProcessTransport(threads, DEADLINE_SECONDS))
    finally:
        released.set()
    assert DEADLINE_SECONDS <= time.perf_counter() - began < GIVE_UP_SECONDS


def test_who_is_asked_does_not_wait_behind_one_that_is_late() -> None:
    problem, released = star_of_parabolas(), threading.Event()
    agents = {name: make() for name, make in problem.agents.items()}
    late = exchanges(problem, 4, InProcessTransport(1, GIVE_UP_SECONDS), 0)
    transport, late.transport._agents = late.transport, agents
    agents["slow"] = Hangs(2.0, [3.0], released=released)
    agents["slow"].given = 2
    transport.post({"slow": late.question("slow")})
    assert set(transport.ask({"hub": [late.question("hub")]})) == {"hub"}
    assert transport.collect(lambda arrived: True) == {}
    released.set()
    assert set(transport.collect(lambda arrived: False)) == {"slow"}
    transport.finish(has_result=False)


# -------------------------------------------------------------- transcripts


def check_accounted_for(lines: Iterable[dict]) -> None:
    """Every answer is to the question before it of the same exchange and iteration; none is missing."""
    asked: dict[str, dict] = {}
    for line in lines:
        if line["kind"] == "QUESTION":
            assert line["agent"] not in asked
            asked[line["agent"]] = line
        elif line["kind"] == "ANSWER":
            question = asked.pop(line["agent"])
            assert (question["exchange"], question["iteration"]) == (line["exchange"], line["iteration"])
    assert not asked


@pytest.mark.parametrize("callback", [None, interrupt], ids=["to the end", "interrupted"])
def test_in_one_process_all_that_is_late_is_written_down(tmp_path: Path, callback: object) -> None:
    problem, transport = star_of_parabolas(), Delayed(1, 4)
    transport.transcript = Transcript(tmp_path / "audit")
    agents = {name: make() for name, make in problem.agents.items()}
    chosen = admm.Settings(**{**problem.settings, "max_iterations": 30}, staleness=4, callback=callback)
    with impatient():
        result = admm.solve(agents, problem.couplings, chosen, transport)
    assert max(transport.ages) > 0
    lines = read_transcripts(tmp_path).lines
    check_accounted_for(lines)
    told = told_by_agent(lines)
    assert all(told[name].answers == told[name].questions < result.iterations for name in NAMES)
    assert sum(line["bytes"] for line in lines) == result.bytes_exchanged


def test_over_mpi_all_that_is_late_is_written_down(mpirun, tmp_path: Path) -> None:
    """And saves in between find nothing under way on any rank."""
    done = mpirun(3, MPI_PROGRAM, "late_audited", str(tmp_path))
    assert done.returncode == 0, done.stderr
    found = [json.loads(line.removeprefix(MARK)) for line in done.stdout.splitlines() if line.startswith(MARK)]
    ((status, exchanged),) = [report["found"] for report in found if report["rank"] == 0]
    assert status == "CONVERGED" and (tmp_path / "checkpoint.h5").is_file()
    by_rank = [(tmp_path / "audit" / f"rank-{rank}.jsonl").read_text().splitlines()[1:] for rank in range(3)]
    lines = [json.loads(line) for texts in by_rank for line in texts]
    asked = [line for line in lines if line["kind"] == "QUESTION"]
    answered = [line for line in lines if line["kind"] == "ANSWER"]
    key = lambda line: (line["agent"], line["exchange"], line["iteration"])  # noqa: E731
    assert sorted(map(key, asked)) == sorted(map(key, answered))
    assert len({line["agent"] for line in answered}) == 4
    crossed = [
        line
        for line in lines
        if line["source"] != line["target"] and line["kind"] in ("QUESTION", "ANSWER", "HELLO", "CALL")
    ]
    assert sum(line["bytes"] for line in crossed) == exchanged
