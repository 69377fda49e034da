"""Subjects that read files: cases, grids, scenarios; and the command line."""

from __future__ import annotations

import json
import os
import shutil
from contextlib import chdir
from pathlib import Path
from random import Random
from types import SimpleNamespace
from typing import Any

import numpy as np

from admm.couplings import Layout
from benchmarks.fuzz_base import (
    MATPOWER,
    Files,
    agent_pairs,
    case_files,
    pandapipes_json,
    pandapower_json,
    write_files,
)
from benchmarks.fuzz_checks import Fault, check_output, check_valid, command, ended
from benchmarks.fuzz_csv import mutated_csv
from benchmarks.fuzz_inputs import (
    CHANGES,
    TEXTS,
    mutated_text,
    mutated_tree,
    toml_text,
)
from networks.case import Case, load_case
from networks.case_file import CASE_FILE
from networks.market.scenarios import ScenarioFile

BY_CHECK, BY_RUN, BY_MARKET = 0.05, 0.01, 0.001
"""Shares of the cases that go through a whole command from the start."""
ON_TO_CHECK, ON_TO_RUN = 0.3, 0.05
"""The others only load, which is where most bad input ends; of what is taken, these shares go on."""
NO_FILE = 0.03
"""Share of the cases in which something else is where the file was: nothing, an empty file, a folder, any bytes."""


class CaseFiles:
    """A small case with one of its files spoilt. kinds: of cases, see `fuzz_base`; part: which files of them."""

    def __init__(self, folder: Path, part: str, kinds: tuple[str, ...] = ("electric", "hubs", "market")) -> None:
        self._part, self._out = part, folder / "out"
        self._cases: list[tuple[Path, dict[str, Any], Files]] = []
        for kind in kinds:
            bundle, upstream = ("electric", True) if kind == "market" else (kind, False)
            for number, pair in enumerate(agent_pairs(bundle)):
                tree, files = case_files(bundle, pair, upstream)
                write_files(folder / f"{kind}-{number}", files)
                check_valid([ended(lambda at=folder / f"{kind}-{number}": build(str(at)))])
                self._cases.append((folder / f"{kind}-{number}", tree, files))

    def attempt(self, draw: Random) -> str:
        case, tree, files = draw.choice(self._cases)
        name = draw.choice([name for name in files if name.startswith(self._part)])
        try:
            _spoil(case / name, files[name], tree if name == CASE_FILE else None, draw)
            return self._use(case, name, draw)
        finally:
            _restore(case / name, files[name])

    def _use(self, case: Path, name: str, draw: Random) -> str:
        variant = ":late" if draw.random() < 0.05 else ""
        chance = draw.random()
        if chance < BY_MARKET and case.name.startswith("market"):
            return self._run("market", case, "--max-iterations", "2")
        if chance < BY_RUN:
            return self._run("run", case, "--max-iterations", draw.choice(("1", "3", "30")))
        if chance < BY_RUN + BY_CHECK:
            return command(["check", f"{case}{variant}"])
        own = Path(name).stem if name.startswith("agents/") else None
        outcome, chance = ended(lambda: build(f"{case}{variant}", own)), draw.random()
        if outcome == "result" and chance < ON_TO_RUN:
            return self._run("run", case, "--max-iterations", "5")
        if outcome == "result" and chance < ON_TO_RUN + ON_TO_CHECK:
            return command(["check", f"{case}{variant}"])
        return outcome

    def _run(self, what: str, case: Path, *options: str) -> str:
        try:
            outcome = command([what, str(case), "--out", str(self._out), *options])
            if what == "run":
                check_output(self._out, outcome)
            return outcome
        finally:
            shutil.rmtree(self._out, ignore_errors=True)


def build(case: str, own: str | None = None) -> Case:
    """Load a case and make its agents fit their couplings; own: only this agent."""
    found = load_case(case)
    layout = Layout(found.couplings)
    for name in [own] if own in found.agents else found.agents:
        found.build_agent(name).prepare(layout.boundary(name))
    return found


def _spoil(path: Path, text: str, tree: dict[str, Any] | None, draw: Random) -> None:
    if draw.random() < NO_FILE:
        path.unlink()
        if draw.random() < 0.3:
            path.mkdir()
        elif draw.random() < 0.8:
            path.write_bytes(draw.choice((b"", bytes(50), bytes(range(256)), draw.randbytes(300))))
    elif path.suffix == ".csv":
        path.write_bytes(mutated_csv(text, draw))
    elif draw.random() < 0.15:
        path.write_bytes(mutated_text(text, draw))
    elif path.suffix == ".json":
        found = json.dumps(mutated_tree(json.loads(text), draw), default=str)
        path.write_text(found, encoding="utf-8", errors="replace")
    else:
        found = toml_text(mutated_tree(tree if tree is not None else _toml(text), draw))
        path.write_text(found, encoding="utf-8", errors="replace")


def _restore(path: Path, text: str) -> None:
    if path.is_dir():
        path.rmdir()
    path.write_text(text, encoding="utf-8")


def _toml(text: str) -> dict[str, Any]:
    import tomllib

    return tomllib.loads(text)


FROM_JSON = 0.15
"""Share of pandapower's networks that are read from a file, which takes it half a second."""


class GridFile:
    """A network of pandapower or pandapipes in JSON, spoilt; strings in it that are JSON are spoilt inside, too."""

    def __init__(self, folder: Path, kind: str) -> None:
        self._kind, self._path = kind, folder / f"{kind}.json"
        text = pandapower_json() if kind == "pandapower" else pandapipes_json()
        self._text, self._tree = text, _opened(json.loads(text))
        self._readers = _readers(kind)
        self._path.write_text(text, encoding="utf-8")
        check_valid([ended(lambda read=read: read(self._path)) for read in self._readers])

    def attempt(self, draw: Random) -> str:
        read, tree = draw.choice(self._readers), mutated_tree(self._tree, draw)
        net = _network(tree) if self._kind == "pandapower" and draw.random() > FROM_JSON else None
        if net is not None:
            return ended(lambda: read(net))
        if draw.random() < 0.25:
            self._path.write_bytes(mutated_text(self._text, draw))
        else:
            text = json.dumps(_closed(tree), default=str)
            self._path.write_text(text, encoding="utf-8", errors="replace")
        return ended(lambda: read(self._path))


class MatpowerScript:
    """A MATPOWER script, spoilt, read as a feeder or as a transmission grid."""

    def __init__(self, folder: Path) -> None:
        self._path, self._readers = folder / "small.m", _readers("pandapower")
        self._path.write_text(MATPOWER, encoding="utf-8")
        check_valid([ended(lambda read=read: read(self._path)) for read in self._readers])

    def attempt(self, draw: Random) -> str:
        read = draw.choice(self._readers)
        self._path.write_bytes(mutated_text(MATPOWER, draw))
        return ended(lambda: read(self._path))


def _network(tree: Any) -> SimpleNamespace | None:
    """Tables as pandapower would have made them of the file; None where pandas cannot."""
    import pandas

    found: dict[str, Any] = {"f_hz": 50.0, "name": "tiny"}
    try:
        for name, value in tree["_object"].items():
            frame = value["_object"].get(WAS_TEXT) if isinstance(value, dict) and "_object" in value else None
            found[name] = value if frame is None else pandas.DataFrame(**frame)
    except Exception:
        return None
    return SimpleNamespace(**found) if {"bus", "ext_grid"} <= found.keys() else None


def _readers(kind: str) -> list[Any]:
    if kind == "pandapower":
        from networks.pandapower_import import feeder_from_pandapower, transmission_from_pandapower

        return [feeder_from_pandapower, feeder_from_pandapower, transmission_from_pandapower]
    from networks.pandapipes_import import gas_from_pandapipes

    return [gas_from_pandapipes]


WAS_TEXT = "was text"


def _opened(tree: Any) -> Any:
    """With strings that are JSON themselves as trees under a key of their own."""
    if isinstance(tree, dict):
        return {key: _opened(value) for key, value in tree.items()}
    if isinstance(tree, list):
        return [_opened(value) for value in tree]
    return {WAS_TEXT: _opened(json.loads(tree))} if isinstance(tree, str) and tree[:1] in ("{", "[") else tree


def _closed(tree: Any) -> Any:
    """What `_opened` has opened, as text again."""
    if isinstance(tree, dict):
        if list(tree) == [WAS_TEXT]:
            return json.dumps(_closed(tree[WAS_TEXT]), default=str)
        return {str(key): _closed(value) for key, value in tree.items()}
    return [_closed(value) for value in tree] if isinstance(tree, list) else tree


class Scenarios:
    """Scenario files of the market."""

    def __init__(self, folder: Path) -> None:
        self._path, self._case, self._out = folder / "scenario.csv", folder / "case", folder / "out"
        _, files = case_files("electric", agent_pairs("electric")[2], upstream=True)
        write_files(self._case, files)
        self._text, self._horizon = files["profiles/public.csv"], load_case(str(self._case)).horizon
        self._names = self._text.split("\n", 1)[0].split(",")[1:]
        self._path.write_text(self._text, encoding="utf-8")
        check_valid([ended(lambda: self._read(Random(0)))])

    def attempt(self, draw: Random) -> str:
        self._path.write_bytes(mutated_csv(self._text, draw))
        if draw.random() > 0.01:
            return ended(lambda: self._read(draw))
        try:
            given = ["--scenario", str(self._path), "--max-iterations", "1"]
            return command(["market", str(self._case), "--out", str(self._out), *given])
        finally:
            shutil.rmtree(self._out, ignore_errors=True)

    def _read(self, draw: Random) -> None:
        found = ScenarioFile(self._path, self._horizon)
        found.check_names(self._names)
        forecast = np.ones(self._horizon.periods)
        for name in self._names:
            values = found.at_gate(name, forecast, draw.randrange(self._horizon.periods + 1))
            if values.shape != forecast.shape or not np.isfinite(values).all():
                raise Fault(f"the scenario gives {values} for {name}")


COMMANDS = (
    ("run", "CASE", "--penalty", "adaptive", "--max-iterations", "1", "--out", "out"),
    ("run", "CASE:late", "--scheme", "memory", "--lead", "dso", "--max-iterations", "1", "--tolerance", "0.1"),
    ("run", "CASE", "--acceleration", "anderson:5", "--max-iterations", "2", "--time-limit", "5", "--deadline", "9"),
    ("run", "CASE", "--qp-solver", "piqp", "--max-iterations", "1", "--optimality-tolerance", "1e-3"),
    ("run", "CASE", "--warm-start", "former", "--shift", "-3", "--max-iterations", "1"),
    ("centralised", "CASE", "--out", "central"),
    ("market", "CASE", "--draw", "1", "--seed", "2", "--scenario", "s.csv", "--max-iterations", "1", "--out", "m"),
    ("check", "CASE"),
    ("cases",),
    ("--version",),
)
WORDS = (
    *(text for text in TEXTS if "\0" not in text),
    "--",
    "-x",
    "--no-such",
    "--max-iterations",
    "-1",
    "1e400",
    "٣",
    "²",
    "9" * 5000,
    "classical:-1",
    "classical:nan",
    "anderson:0",
    "anderson:1e9",
    "relaxation:9",
    "undecodable \udcff",
    ":",
    "CASE:",
    "--out=",
    "--penalty=classical:1e-300",
    "--out=a/b/c",
)


class CommandLine:
    """Arguments left out, doubled, exchanged or made up, in a folder of its own."""

    def __init__(self, folder: Path) -> None:
        self._work = folder / "a" / "b" / "work"
        _, files = case_files("electric", agent_pairs("electric")[3])
        self._case = folder / "case"
        write_files(self._case, files)
        self._work.mkdir(parents=True)

    def attempt(self, draw: Random) -> str:
        words = list(draw.choice(COMMANDS))
        for _ in range(draw.choice(CHANGES)):
            at = draw.randrange(1, len(words) + 1)
            change = draw.randrange(4)
            if change == 0:
                words[at : at + 1] = []
            elif change == 1:
                words.insert(at, draw.choice(WORDS))
            elif change == 2:
                words.insert(at, draw.choice(draw.choice(COMMANDS)))
            else:
                words[at : at + 1] = [draw.choice(WORDS)]
        words = [word.replace("CASE", str(self._case)) for word in words]
        with chdir(self._work):
            try:
                return command(words)
            finally:
                for left in os.listdir("."):
                    shutil.rmtree(left) if os.path.isdir(left) else os.unlink(left)
