"""A subject that reads the transcript of a former run: `tieline audit`."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from random import Random

from admm.output import SUMMARY
from admm.transcript import FOLDER
from benchmarks.fuzz_base import agent_pairs, case_files, write_files
from benchmarks.fuzz_checks import check_valid, command
from benchmarks.fuzz_inputs import mutated_bytes, mutated_text, mutated_tree


class Transcripts:
    """One rank's file of lines, and the summary beside it, damaged or made up."""

    def __init__(self, folder: Path) -> None:
        self._out = folder / "out"
        _, files = case_files("electric", agent_pairs("electric")[1])
        write_files(folder / "case", files)
        run = ["run", str(folder / "case"), "--out", str(self._out), "--max-iterations", "2", "--audit"]
        check_valid([command(run), command(["audit", str(self._out)])])
        (self._file,) = (self._out / FOLDER).iterdir()
        self._kept = {path: path.read_bytes() for path in (self._file, self._out / SUMMARY)}

    def attempt(self, draw: Random) -> str:
        shutil.rmtree(self._out / FOLDER)
        write_files(self._out, {str(path.relative_to(self._out)): content for path, content in self._kept.items()})
        kind = draw.randrange(8)
        if kind == 0:
            self._file.write_bytes(mutated_bytes(self._kept[self._file], draw))
        elif kind == 1:
            self._file.write_bytes(mutated_text(self._kept[self._file].decode(), draw))
        elif kind == 2:
            self._spoil_summary(draw)
        elif kind == 3:
            self._other_ranks(draw)
        else:
            self._spoil_lines(draw)
        return command(["audit", str(self._out)])

    def _spoil_lines(self, draw: Random) -> None:
        lines = self._kept[self._file].decode().splitlines()
        for _ in range(draw.choice((1, 1, 2))):
            at = draw.choice((0, -1, draw.randrange(len(lines)), draw.randrange(len(lines))))
            lines[at] = _spoilt(lines[at], draw)
        self._file.write_text("\n".join(lines), encoding="utf-8", errors="replace")

    def _spoil_summary(self, draw: Random) -> None:
        path = self._out / SUMMARY
        path.write_text(_spoilt(self._kept[path].decode(), draw), encoding="utf-8", errors="replace")

    def _other_ranks(self, draw: Random) -> None:
        """A second file, or another name, or a folder in its place."""
        name = draw.choice(("rank-1.jsonl", "rank-x.jsonl", "rank-.jsonl", "rank-99999999999999999999.jsonl"))
        if draw.random() < 0.3:
            self._file.unlink()
            self._file.mkdir()
        else:
            (self._file.parent / name).write_bytes(draw.choice((b"", self._kept[self._file])))


def _spoilt(text: str, draw: Random) -> str:
    try:
        return json.dumps(mutated_tree(json.loads(text), draw), default=str)
    except (RecursionError, ValueError):
        return text.replace(":", ":" + "[" * 100_000, 1)
