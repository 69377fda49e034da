"""Threads of the linear algebra library: one while a run lasts, whatever the environment says of them."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator, Mapping

import pytest
from threadpoolctl import threadpool_info, threadpool_limits

import admm
from admm.interfaces import Agent, AgentBoundary
from admm.threads import LIBRARIES, VARIABLE, few_threads, start_with_few
from tests.case_tools import ROOT_ENVIRONMENT, tieline
from tests.small_problems import Parabola, coupling

BITS = """
import hashlib, admm
from networks.case import load_case
case = load_case("feeder118-gas65")
agents = {name: case.build_agent(name, "piqp") for name in case.agents}
found = admm.solve(agents, case.couplings, admm.Settings(max_iterations=4, schedule_cost=False)).boundary
values = [values for of in found.values() for values in of.values()]
print(hashlib.sha256(b"".join(v.lower.tobytes() + v.upper.tobytes() + v.price.tobytes() for v in values)).hexdigest())
"""
"""With two threads, the last bits are others."""


class Looking(Parabola):
    """Looks at the number of threads while it answers; fails if it is told to."""

    def __init__(self, fails: bool = False) -> None:
        super().__init__(1.0, [1.0])
        self.seen: set[int] = set()
        self.fails = fails

    def answer(self, question: admm.Question) -> admm.Answer:
        self.seen |= blas_threads()
        if self.fails:
            raise RuntimeError("planted")
        return super().answer(question)


class OtherRank(admm.InProcessTransport):
    """A rank that does not drive."""

    rank, ranks = 1, 2

    def start(self, agents: Mapping[str, Agent], boundaries: Mapping[str, AgentBoundary]) -> None:
        pass

    def serve(self, called: object = None) -> None:
        self.seen = blas_threads()


def blas_threads() -> set[int]:
    """Of the libraries of numpy and scipy: one that another package brings along may have a single thread for good."""
    found = [library for library in threadpool_info() if library["user_api"] == "blas"]
    ours = [library for library in found if "numpy" in library["filepath"] or "scipy" in library["filepath"]]
    return {library["num_threads"] for library in ours or found}


@pytest.fixture(autouse=True)
def two_threads(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """A process whose libraries take two, whatever machine this is; they do so again after each test."""
    monkeypatch.delenv(VARIABLE, raising=False)
    with threadpool_limits(2, user_api="blas"):
        yield
        assert blas_threads() == {2}


def solve_looking(fails: bool = False) -> set[int]:
    agent = Looking(fails)
    try:
        admm.solve({"a": agent, "b": Parabola(1.0, [3.0])}, [coupling("a-b", "a", "b", 1)])
    except RuntimeError:
        assert fails
    return agent.seen


def test_bits_do_not_depend_on_the_threads_that_the_library_begins_with() -> None:
    assert bits(OPENBLAS_NUM_THREADS="2") == bits(OPENBLAS_NUM_THREADS="1")


def bits(**environment: str) -> str:
    inherited = {name: text for name, text in ROOT_ENVIRONMENT.items() if name not in (*LIBRARIES, VARIABLE)}
    command = [sys.executable, "-c", BITS]
    return subprocess.run(command, env=inherited | environment, check=True, capture_output=True, text=True).stdout


@pytest.mark.parametrize("fails", [False, True])
def test_a_run_has_one_thread_and_puts_the_number_back(fails: bool) -> None:
    assert solve_looking(fails) == {1}


def test_a_rank_that_does_not_drive_has_one_thread_too() -> None:
    transport = OtherRank()
    assert admm.solve({}, [coupling("a-b", "a", "b", 1)], transport=transport) is None
    assert transport.seen == {1}


def test_the_environment_can_ask_for_more(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(VARIABLE, "3")
    assert solve_looking() == {3}


@pytest.mark.parametrize("text", ["0", "-1", "two", "1.5", "1000", "9" * 5000])
def test_another_number_is_refused(text: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(VARIABLE, text)
    with pytest.raises(admm.InputError, match=f"{VARIABLE} is '{text[:20]}', expected a whole number from 1 to 999"):
        solve_looking()


def test_the_first_of_two_runs_at_once_that_ends_leaves_the_number_to_the_other() -> None:
    first, second = few_threads(), few_threads()
    first.__enter__()
    second.__enter__()
    first.__exit__(None, None, None)
    assert blas_threads() == {1}
    second.__exit__(None, None, None)


def test_commands_start_libraries_with_one_thread(monkeypatch: pytest.MonkeyPatch) -> None:
    for variable in LIBRARIES:
        monkeypatch.setenv(variable, "8")
    start_with_few()
    assert {os.environ[variable] for variable in LIBRARIES} == {"1"}


def test_a_command_says_what_is_wrong_with_the_number(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv(VARIABLE, "x")
    ended = tieline(capsys, "cases")
    assert ended.code == 2 and ended.errors == f"tieline: {VARIABLE} is 'x', expected a whole number from 1 to 999\n"
