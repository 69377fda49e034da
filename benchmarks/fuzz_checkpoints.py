"""A subject that goes on from a former run's checkpoint: damaged, exchanged, or forged with the right SHA-256.

Whoever goes on from it gets a result, the checkpoint before with a warning, or one error of ours.
"""

from __future__ import annotations

import hashlib
import io
import json
import shutil
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from random import Random
from typing import Any

import h5py
import numpy as np

from admm import InProcessTransport, Settings, solve
from admm.checkpoint import BLOCK_BYTES, MAGIC
from admm.output import PRIVATE, SUMMARY
from admm.resume import CHECKPOINT, PREVIOUS, Checkpoints
from benchmarks.fuzz_base import agent_pairs, case_files, write_files
from benchmarks.fuzz_checks import Fault, check_output, check_valid, command, ended
from benchmarks.fuzz_inputs import mutated_bytes, mutated_tree
from benchmarks.fuzz_results import spoil_hdf5
from networks.case import Case, load_case

STOPPED_AFTER, MORE = 3, 2
"""Iterations of the former run, and how many more it is let go on."""
KINDS = ("electric", "piqp", "certified", "memory", "gas")
OPTIONS = ["--checkpoint-every", "0.000001", "--max-iterations"]
CLASSES = (
    "admm.state:State",
    "admm.state:Status",
    "admm.interfaces:Answer",
    "admm.acceleration:Point",
    "admm.errors:InputError",
    "admm.resume:Checkpoints",
    "admm.memory.remembered:Remembered",
    "subproblems.quadratic_program:QuadraticProgram",
    "subproblems.qp_agent:QPAgent",
    "subproblems.lead_model:LeadModel",
    "networks.case:Case",
    "networks.distflow:OperatingPoint",
    "os:system",
    "admm.snapshot:unpack_values",
    "admm.nowhere:Nothing",
)
"""That a forged file may name in place of another one."""


@dataclass(frozen=True)
class Former:
    """A run that was stopped: its case and settings, and what its folder held, by path in it."""

    case: Case
    solver: str
    settings: Settings
    folder: Path
    files: dict[str, bytes]

    def go_on(self, identity: str = "one") -> None:
        agents = {name: self.case.build_agent(name, self.solver) for name in self.case.agents}
        kept = Checkpoints(self.folder, {"case": identity}, every_seconds=0.0, resume=True)
        solve(agents, self.case.couplings, self.settings, InProcessTransport(1), kept)


class CheckpointFiles:
    """The checkpoints of runs by every scheme, of a feeder and of a feeder with gas."""

    def __init__(
        self, folder: Path, kinds: tuple[str, ...] = ("electric", "piqp", "certified", "memory", "gas")
    ) -> None:
        schemes = {"certified": "certified", "memory": "memory"}
        self._formers = [
            _former(
                folder / kind,
                "hubs" if kind == "gas" else "electric",
                "osqp" if kind == "electric" else "piqp",
                Settings(scheme=schemes.get(kind, "two-block"), max_iterations=STOPPED_AFTER),
            )
            for kind in kinds
        ]
        self._by_command = _former_by_command(folder / "command", self._formers[0])

    def attempt(self, draw: Random) -> str:
        if draw.random() < 0.03:
            return self._command(draw)
        former = draw.choice(self._formers)
        _restore_files(former)
        identity = "another" if draw.random() < 0.02 else "one"
        _spoil(former.folder, former.files, draw)
        try:
            return ended(lambda: former.go_on(identity))
        finally:
            _check_no_parts(former.folder)

    def _command(self, draw: Random) -> str:
        former = self._by_command
        _restore_files(former)
        _spoil(former.folder, former.files, draw)
        other = draw.choice(([], [], [], ["--penalty", "classical"], ["--scheme", "memory"], ["--out", "elsewhere"]))
        arguments = ["run", str(former.case.folder.folder), "--resume", str(former.folder), *other]
        outcome = command([*arguments, *OPTIONS, str(STOPPED_AFTER + MORE)])
        check_output(former.folder, outcome)
        return outcome


def _former(folder: Path, bundle: str, solver: str, settings: Settings) -> Former:
    _, files = case_files(bundle, agent_pairs(bundle)[1])
    write_files(folder / "case", files)
    former = Former(load_case(str(folder / "case")), solver, settings, folder / "out", {})
    check_valid([ended(former.go_on)])
    former = replace(
        former, settings=replace(settings, max_iterations=STOPPED_AFTER + MORE), files=_files(former.folder)
    )
    check_valid([ended(former.go_on)])
    return former


def _former_by_command(folder: Path, like: Former) -> Former:
    """A run of `tieline` itself, of the same case."""
    arguments = ["run", str(like.case.folder.folder), "--out", str(folder), *OPTIONS, str(STOPPED_AFTER)]
    check_valid([command(arguments)])
    (folder / SUMMARY).unlink()
    return replace(like, folder=folder, files=_files(folder))


def _files(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def _restore_files(former: Former) -> None:
    shutil.rmtree(former.folder, ignore_errors=True)
    write_files(former.folder, former.files)


def _check_no_parts(folder: Path) -> None:
    left = [path.name for path in folder.rglob("*.part")]
    if left:
        raise Fault(f"left {left[0]} behind")


# ---------------------------------------------------------------- what is spoilt


def _spoil(folder: Path, files: dict[str, bytes], draw: Random) -> None:
    """One or two checkpoints of the run spoilt; where the engine's is, often the one before in the same way."""
    ours = sorted(name for name in files if "checkpoint" in name)
    engine, private = [CHECKPOINT, PREVIOUS], [name for name in ours if name.startswith(PRIVATE)]
    name = draw.choice(engine if draw.random() < 0.5 else private)
    how = draw.choice((_bytes, _bytes, _exchange, _hdf5, _arrays, _arrays, _words, _words, _words, _class))
    how(folder, name, draw)
    if name == CHECKPOINT and draw.random() < 0.3:
        (folder / PREVIOUS).unlink(missing_ok=True)


def _bytes(folder: Path, name: str, draw: Random) -> None:
    (folder / name).write_bytes(mutated_bytes((folder / name).read_bytes(), draw))


def _exchange(folder: Path, name: str, draw: Random) -> None:
    """Another file, a folder, or nothing in its place."""
    path = folder / name
    others = sorted(path for path in folder.rglob("*.h5") if path.is_file())
    content = draw.choice(others).read_bytes()
    path.unlink()
    if draw.random() < 0.15:
        path.mkdir()
    elif draw.random() < 0.85:
        path.write_bytes(content)


def _forged(folder: Path, name: str, data: bytes) -> None:
    """The file with the SHA-256 of its content, and for an agent's file the engine's ones that name it, too."""
    path = folder / name
    old, new = _digest_of(path.read_bytes()), hashlib.sha256(data).hexdigest()
    path.write_bytes((MAGIC + new.encode() + b"\n").ljust(BLOCK_BYTES, b"\0") + data)
    if name.startswith(PRIVATE):
        for engine in (CHECKPOINT, PREVIOUS):
            text, arrays = _parts(folder / engine)
            if old in text:
                _forged(folder, engine, _content(text.replace(old, new).encode(), arrays))


def _digest_of(whole: bytes) -> str:
    return whole[len(MAGIC) :].split(b"\n")[0].decode()


def _parts(path: Path) -> tuple[str, list[np.ndarray]]:
    with h5py.File(path, "r") as file:
        arrays = [file[f"arrays/{number}"][()] for number in range(len(file.get("arrays", ())))]
        return file["values"][()].tobytes().decode(), arrays


def _content(text: bytes, arrays: list[np.ndarray]) -> bytes:
    """What follows the first block of a file."""
    content = io.BytesIO()
    with h5py.File(content, "w", userblock_size=BLOCK_BYTES) as file:
        file.attrs["iteration"] = STOPPED_AFTER
        file["values"] = np.frombuffer(text, dtype=np.uint8)
        for number, array in enumerate(arrays):
            file[f"arrays/{number}"] = array
    return content.getvalue()[BLOCK_BYTES:]


def _hdf5(folder: Path, name: str, draw: Random) -> None:
    with h5py.File(folder / name, "r+") as file:
        for _ in range(draw.randint(1, 2)):
            spoil_hdf5(file, draw)
    data = (folder / name).read_bytes()[BLOCK_BYTES:]
    (folder / name).write_bytes((MAGIC + b"0" * 64 + b"\n").ljust(BLOCK_BYTES, b"\0") + data)
    _forge_if_possible(folder, name, data)


def _forge_if_possible(folder: Path, name: str, data: bytes) -> None:
    """An agent's file whose name the engine's file has is found by its iteration."""
    if not name.startswith(PRIVATE):
        _forged(folder, name, data)
        return
    agent, new = Path(name).name.split(".checkpoint-")[0], hashlib.sha256(data).hexdigest()
    (folder / name).write_bytes((MAGIC + new.encode() + b"\n").ljust(BLOCK_BYTES, b"\0") + data)
    for engine in (CHECKPOINT, PREVIOUS):
        text, arrays = _parts(folder / engine)
        tree = json.loads(text)
        for key, part in tree["dict"]:
            if key == "sha256":
                part["dict"] = [[who, new if who == agent else old] for who, old in part["dict"]]
        _forged(folder, engine, _content(json.dumps(tree).encode(), arrays))


def _arrays(folder: Path, name: str, draw: Random) -> None:
    text, arrays = _parts(folder / name)
    for _ in range(draw.choice((1, 1, 2))):
        if arrays:
            at = draw.randrange(len(arrays))
            with np.errstate(all="ignore"):  # numpy's words about a number that is spoilt on purpose
                arrays[at] = draw.choice(ARRAY_CHANGES)(arrays[at], draw)
    _forged(folder, name, _content(text.encode(), arrays))


def _one_value(array: np.ndarray, draw: Random) -> np.ndarray:
    if array.dtype.kind not in "biuf":
        return array
    changed = np.array(array, dtype=float)
    if changed.size:
        changed.flat[draw.randrange(changed.size)] = draw.choice(
            (np.nan, np.inf, -np.inf, 1e300, -1e30, -1.0, 0.0, 1e9)
        )
    return changed if array.dtype.kind == "f" or draw.random() < 0.2 else np.nan_to_num(changed).astype(array.dtype)


ARRAY_CHANGES: tuple[Callable[[np.ndarray, Random], np.ndarray], ...] = (
    _one_value,
    _one_value,
    lambda array, draw: array * draw.choice((-1, 2)) if array.dtype.kind in "iuf" else array[::-1],
    lambda array, draw: array.ravel()[: draw.randrange(array.size + 1)],
    lambda array, draw: np.concatenate([array.ravel(), array.ravel()]),
    lambda array, draw: array.reshape(1, *array.shape),
    lambda array, draw: np.zeros((), array.dtype),
    lambda array, draw: array.astype(draw.choice((np.int64, np.uint8, np.float32, bool))),
    lambda array, draw: array.astype("S4") if draw.random() < 0.5 else array.astype(np.complex128),
)


def _words(folder: Path, name: str, draw: Random) -> None:
    text, arrays = _parts(folder / name)
    try:
        text = json.dumps(mutated_tree(json.loads(text), draw), default=str)
    except RecursionError:
        text = text.replace("null", "[" * 100_000, 1)
    _forged(folder, name, _content(text.encode(errors="replace"), arrays))


def _class(folder: Path, name: str, draw: Random) -> None:
    """Another class in place of one, or a class where there was an object."""
    text, arrays = _parts(folder / name)
    tree: Any = json.loads(text)
    named = _named(tree)
    if named:
        node, key = draw.choice(named)
        if draw.random() < 0.3:
            node[draw.choice(("object", "tuple of", "class", "enum"))] = node.pop(key)
        else:
            node[key] = draw.choice(CLASSES)
    _forged(folder, name, _content(json.dumps(tree).encode(), arrays))


def _named(tree: Any) -> list[tuple[dict[str, Any], str]]:
    if isinstance(tree, list):
        return [found for part in tree for found in _named(part)]
    if not isinstance(tree, dict):
        return []
    here = [(tree, key) for key in ("object", "tuple of", "class", "enum") if isinstance(tree.get(key), str)]
    return [*here, *(found for part in tree.values() for found in _named(part))]
