"""A subject that reads a former run's results back: its summary and its HDF5 file, damaged or made up."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from random import Random

import h5py
import numpy as np

from admm.initial import warm_start
from admm.output import BOUNDARY, BOUNDARY_DIGEST, SUMMARY, file_digest, read_former
from benchmarks.fuzz_base import agent_pairs, case_files, write_files
from benchmarks.fuzz_checks import check_output, check_valid, command, ended
from benchmarks.fuzz_inputs import mutated_bytes, mutated_text, mutated_tree
from networks.case import load_case

FORGED = 0.9
"""Share of the damaged files that have their own digest in the summary."""


class Results:
    """The output folder of a former run, damaged or made up, read back for a warm start."""

    def __init__(self, folder: Path) -> None:
        self._case, self._out, self._new = folder / "case", folder / "former", folder / "new"
        _, files = case_files("electric", agent_pairs("electric")[1])
        write_files(self._case, files)
        check_valid([command(["run", str(self._case), "--out", str(self._out), "--max-iterations", "3"])])
        self._kept = {name: (self._out / name).read_bytes() for name in (SUMMARY, BOUNDARY)}
        self._couplings = load_case(str(self._case)).couplings
        check_valid([ended(self._read)])

    def attempt(self, draw: Random) -> str:
        for name, content in self._kept.items():
            (self._out / name).write_bytes(content)
        kind = draw.randrange(6)
        if kind <= 2:
            (self._out / BOUNDARY).write_bytes(mutated_bytes(self._kept[BOUNDARY], draw))
        elif kind <= 4:
            with h5py.File(self._out / BOUNDARY, "r+") as file:
                for _ in range(draw.randint(1, 3)):
                    spoil_hdf5(file, draw)
        else:
            self._spoil_summary(draw)
        if kind <= 4 and draw.random() < FORGED:
            self._forge_digest()
        if draw.random() < 0.01:
            return self._run(draw)
        return ended(self._read)

    def _forge_digest(self) -> None:
        """As somebody would who wants the damaged file to be read."""
        summary = json.loads(self._kept[SUMMARY])
        summary[BOUNDARY_DIGEST] = file_digest(self._out / BOUNDARY)
        (self._out / SUMMARY).write_text(json.dumps(summary), encoding="utf-8")

    def _spoil_summary(self, draw: Random) -> None:
        text = self._kept[SUMMARY].decode()
        if draw.random() < 0.4:
            (self._out / SUMMARY).write_bytes(mutated_text(text, draw))
        else:
            text = json.dumps(mutated_tree(json.loads(text), draw), default=str)
            (self._out / SUMMARY).write_text(text, encoding="utf-8", errors="replace")

    def _read(self) -> None:
        former = read_former(self._out)
        former.check_step(60)
        shift = former.shift_to(former.start)
        warm_start(former.boundary, self._couplings, shift, former.periods_per_day)

    def _run(self, draw: Random) -> str:
        shift = draw.choice(([], ["--shift", draw.choice(("-3", "1000000000000", "٣"))]))
        options = ["--warm-start", str(self._out), "--max-iterations", "1", *shift]
        try:
            outcome = command(["run", str(self._case), "--out", str(self._new), *options])
            check_output(self._new, outcome)
            return outcome
        finally:
            shutil.rmtree(self._new, ignore_errors=True)


def spoil_hdf5(file: h5py.File, draw: Random) -> None:
    """One array, group or attribute gone, or something else in its place."""
    names: list[str] = []
    file.visit(names.append)
    if not names:
        return
    name = draw.choice(names)
    change = draw.randrange(7)
    if change == 0:
        del file[name]
    elif change == 1:
        _spoil_attribute(file[name], draw)
    elif change == 2:
        to = f"{name}{draw.choice(('x', 'é', ' '))}" if draw.random() < 0.7 else "elsewhere"
        if to not in file:
            file.move(name, to)
    else:
        del file[name]
        _put(file, name, change, draw)


def _put(file: h5py.File, name: str, change: int, draw: Random) -> None:
    if change == 3:
        file[name] = draw.choice((h5py.SoftLink("/nowhere"), h5py.SoftLink("/"), h5py.ExternalLink("no.h5", "/")))
    elif change == 4:
        file[name] = np.dtype("f8")
    elif change == 5:
        file.create_group(name)
    else:
        shapes = ((), (0,), (1,), (7,), (8,), (8, 1), (2**40,))
        kinds = ("f8", "f4", "i8", "u1", "c16", "S3", h5py.string_dtype(), [("a", "f8")], "?", h5py.ref_dtype, "f8")
        shape, how = draw.choice(shapes), draw.choice(({}, {}, {}, {"chunks": True}, {"external": "/dev/null"}))
        kind = draw.choice(kinds) if not how else "f8"
        data = file.create_dataset(name, shape, kind, **(how if shape == (8,) else {}))
        if data.size == 8 and data.dtype.kind == "f":
            with np.errstate(over="ignore"):
                data[...] = draw.choice((np.nan, np.inf, 1e308, -1e30, 0.0))


def _spoil_attribute(found: h5py.Group | h5py.Dataset, draw: Random) -> None:
    key = draw.choice((*found.attrs, "unit", "scale", "penalty"))
    kinds = (
        1.5,
        -1.0,
        np.nan,
        "MW",
        "",
        b"\xff",
        np.zeros(8),
        np.ones(8),
        h5py.Empty("f8"),
        np.array(["a"], "S1"),
        True,
    )
    if draw.random() < 0.2:
        found.attrs.pop(key, None)
    else:
        found.attrs[key] = draw.choice(kinds)
