"""What agents and engine tell each other, written down by whoever sends it: a line of JSON a message.

Each rank writes a file of its own, OUT/audit/rank-R.jsonl, a line before the message leaves: a message that cannot be
written down is not sent. Between agents and the engine on one rank nothing crosses, but the same is told, so it is
written down as the same message with `source` = `target` (what an agent raises there is not). The first line says whose
file it is, the last one that the run is over; between them:

    run         id of the run, hexadecimal                    exchange    its number in the run, 0 at the start
    kind        of `admm.wire.Kind`                           agent       which agent it is about, or null
    source      rank that sends                               target      rank that receives
    iteration   of the question, and of the answer to it      items       questions or answers in the message
                (with staleness it may come later: `exchange` and `iteration` of an answer are those of its question)
    bytes       of the whole message                          header_bytes, text_bytes    of them
    fields      {field: shape}; each number takes 8 bytes, so header, fields and text are the whole message
    costs, bounds       of ANSWERs: how many of its items tell a cost, a bound (the others hold a 0 there)
    text, text_is       the first TEXT_KEPT characters of the text, and what it is: "reason" (why an answer is
                        unusable), "error", "couplings" (a fingerprint of them), "report" (what a rank tells besides),
                        "call" (of checkpoints: which iteration, and the SHA-256 of each agent's own file)
    sha256      of the whole message, so that a copy of it kept elsewhere can be compared

Values are not written down. What numbers mean: `admm.wire`; in words: `tieline audit`.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from admm import wire
from admm.errors import InputError, TransportError
from admm.interfaces import Answer, Question, check_answer_fits
from admm.wire import Kind, Message

FORMAT = 1
FOLDER, FILES = "audit", "rank-*.jsonl"
TEXT_KEPT = 4096


class Transcript:
    """Written to `folder`, which is made if it is not there. digests: whether lines carry the messages' SHA-256.

    An older file of this rank is replaced; rank 0 removes those of ranks that are no more. headline: what the first
    line says besides. Raises InputError where the folder cannot be written to.
    """

    def __init__(
        self, folder: str | Path, rank: int = 0, ranks: int = 1, headline: str = "", digests: bool = True
    ) -> None:
        self.path, self._digests, self._rank = Path(folder) / f"rank-{rank}.jsonl", digests, rank
        self._iterations: dict[int, int] = {}
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            for old in self.path.parent.glob(FILES) if rank == 0 else ():
                if _rank_of(old) not in range(ranks):
                    old.unlink()
            self._file = self.path.open("w", buffering=1, encoding="utf-8")  # a line at a time
        except OSError as error:
            raise InputError(f"{self.path}: cannot be written ({error.strerror}); choose another folder") from None
        self._write({"tieline_audit": FORMAT, "rank": rank, "ranks": ranks, "headline": headline})

    def note(self, agent: int, iteration: int) -> None:
        """Of which iteration the question is that the agent at this position answers next."""
        self._iterations[agent] = iteration

    def record(self, message: Message, data: bytes, target: int, agent: str | None) -> None:
        """A message that is about to leave for a rank, `data` as it is sent. Raises TransportError if it cannot be."""
        if message.kind is Kind.QUESTION:
            self.note(message.agent, int(message.numbers[0]))
        line: dict[str, Any] = {
            "run": f"{message.run_id:x}",
            "kind": message.kind.name,
            "agent": agent,
            "source": self._rank,
            "target": target,
            "exchange": message.sequence,
            "iteration": self._iterations.get(message.agent) if message.kind in (Kind.QUESTION, Kind.ANSWER) else None,
            "items": message.items,
            "bytes": len(data),
            "header_bytes": wire.HEADER.size,
            "text_bytes": len(message.text.encode(errors="replace")),
            "fields": wire.field_shapes(message),
        }
        if message.kind is Kind.ANSWER:
            flags = message.numbers.reshape(message.items, -1)[:, wire.ANSWER_FIELDS.index("flags")].astype(int)
            line |= {"costs": int((flags & wire.HAS_COST > 0).sum()), "bounds": int((flags & wire.HAS_BOUND > 0).sum())}
        if message.text:
            line |= {"text": message.text[:TEXT_KEPT], "text_is": _what(message)}
        if self._digests:
            line["sha256"] = hashlib.sha256(data).hexdigest()
        self._write(line)

    def asked(self, key: tuple[int, int, int], name: str, questions: Sequence[Question]) -> None:
        """Questions to an agent on this rank, as the message that they would be. key: run id, exchange, position."""
        self._record_here(wire.questions_message(*key, questions), name)

    def answered(self, key: tuple[int, int, int], name: str, answers: Sequence[Answer], entries: int) -> None:
        """The answers of an agent on this rank with so many boundary entries; InputError, SolverError: it is none."""
        for answer in answers:
            check_answer_fits(name, answer, entries)
        self._record_here(wire.answers_message(*key, answers, entries), name)

    def _record_here(self, message: Message, agent: str) -> None:
        self.record(message, wire.pack(message), self._rank, agent)

    def close(self, has_result: bool) -> None:
        """The last line: the run is over, and whether it has a result."""
        self._write({"end": True, "has_result": has_result})
        self._file.close()

    def _write(self, line: dict[str, Any]) -> None:
        try:
            self._file.write(json.dumps(line, separators=(",", ":")) + "\n")
        except OSError as error:
            words = f"cannot be written ({error.strerror}), and nothing leaves that is not written down"
            raise TransportError(f"{self.path}: {words}; make room, or run without --audit") from None


def _what(message: Message) -> str:
    """What the text of a message is."""
    if message.kind is Kind.TEXT:
        return "error" if message.flags & wire.ERROR else "report"
    return {Kind.ANSWER: "reason", Kind.CALL: "call"}.get(message.kind, "couplings")


def _rank_of(path: Path) -> int:
    digits = path.stem.removeprefix("rank-")
    return int(digits) if digits.isdecimal() else -1
