"""What is fuzzed, by name, and how often."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from random import Random
from typing import NamedTuple

from benchmarks.fuzz_api import Agents, Messages, Programs
from benchmarks.fuzz_checkpoints import CheckpointFiles
from benchmarks.fuzz_checks import Subject
from benchmarks.fuzz_files import CaseFiles, CommandLine, GridFile, MatpowerScript, Scenarios
from benchmarks.fuzz_results import Results
from benchmarks.fuzz_transcripts import Transcripts
from networks.case_file import CASE_FILE, REFERENCE_FILE


class Entry(NamedTuple):
    """share: of all cases. make: the subject, given a folder of its own. words: what is spoilt."""

    share: float
    make: Callable[[Path], Subject]
    words: str


SUBJECTS: dict[str, Entry] = {
    "case file": Entry(0.12, lambda at: CaseFiles(at, CASE_FILE), "case.toml"),
    "agent files": Entry(0.14, lambda at: CaseFiles(at, "agents/"), "agents/NAME.toml and agents/NAME.csv"),
    "profiles": Entry(0.05, lambda at: CaseFiles(at, "profiles/"), "profiles/public.csv"),
    "feeder": Entry(0.07, lambda at: CaseFiles(at, "feeder/"), "bus.csv, branch.csv"),
    "transmission": Entry(0.04, lambda at: CaseFiles(at, "grid/", ("market",)), "bus.csv, branch.csv, gen.csv"),
    "gas grid": Entry(0.06, lambda at: CaseFiles(at, "gas/", ("hubs",)), "node.csv, pipe.csv, gate.csv"),
    "reference": Entry(0.01, lambda at: CaseFiles(at, REFERENCE_FILE, ("electric",)), "reference.json"),
    "pandapower": Entry(0.03, lambda at: GridFile(at, "pandapower"), "a feeder or grid in JSON"),
    "pandapipes": Entry(0.04, lambda at: GridFile(at, "pandapipes"), "a gas grid in JSON"),
    "MATPOWER": Entry(0.02, MatpowerScript, "a feeder or grid as a script"),
    "results": Entry(0.08, Results, "boundary.h5 and summary.json, read for a warm start"),
    "checkpoints": Entry(0.04, CheckpointFiles, "checkpoint.h5, the one before, and agents' own"),
    "transcripts": Entry(0.04, Transcripts, "audit/rank-0.jsonl and summary.json, read by tieline audit"),
    "messages": Entry(0.08, Messages, "what ranks send each other"),
    "programs": Entry(0.07, Programs, "QuadraticProgram, Coupling, Quantity, Settings"),
    "agents": Entry(0.05, Agents, "answers of agents, and what they raise"),
    "scenarios": Entry(0.04, Scenarios, "scenario files of the market"),
    "command line": Entry(0.02, CommandLine, "arguments of tieline"),
}


def draw_for(seed: int, subject: str, number: int) -> Random:
    """What one case is drawn from: the same for the same seed, whatever ran before."""
    return Random(f"{seed}/{subject}/{number}")
