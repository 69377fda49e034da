"""What agents and engine tell each other, written down by whoever sends it: a line of JSON a message.

Each rank writes a file of its own, OUT/audit/rank-R.jsonl, a line before the message leaves: a message that cannot be
written down is not sent. Between agents and the engine on one rank nothing crosses, but the same is told, so it is
written down as the same message with `source` = `target` (what an agent raises there is not). A run that goes on after
a stop or a loss writes behind what its former launches have written. The first line of each launch says whose file it
is and which launch of which run; on rank 0 a line `goes_on` says after which iteration of which launch it goes on, in
which coordination that was, and how many exchanges of it and bytes in all there had been; of a market, which step.
The last line says that the launch is over. Between them:

    run         of the messages of one launch, hexadecimal    exchange    its number in the coordination, 0 at the start
    run_id      of the run, as in its results                 coordination    its number in the launch, from 1
    kind        of `admm.wire.Kind`                           agent       which agent it is about, or null
    source      rank that sends                               target      rank that receives
    iteration   of the question, and of the answer to it      items       questions or answers in the message
                (with staleness it may come later: `exchange` and `iteration` of an answer are those of its question)
    bytes       of the whole message                          header_bytes, text_bytes    of them
    fields      {field: shape}; each number takes 8 bytes, so header, fields and text are the whole message
    costs, bounds       of ANSWERs: how many of its items tell a cost, a bound (the others hold a 0 there)
    text, text_is       the first TEXT_KEPT characters of the text, and what it is: "reason" (why an answer is
                        unusable), "error", "couplings" (a fingerprint of them), "run" (its ids),
                        "report" (what a rank tells besides),
                        "call" (of checkpoints: which iteration, and the SHA-256 of each agent's own file)
    sha256      of the whole message, so that a copy of it kept elsewhere can be compared

Values are not written down. What numbers mean: `admm.wire`; in words: `tieline audit`.
"""

from __future__ import annotations

import hashlib
import json
import os
import secrets
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from admm import wire
from admm.errors import InputError, UnwrittenError
from admm.interfaces import Answer, Question, check_answer_fits
from admm.ownership import AUDIT, TRANSCRIPTS, make_private, origin_of
from admm.whole_file import unwritable
from admm.wire import Kind, Message

FORMAT = 1
FOLDER, FILES = AUDIT, TRANSCRIPTS
TEXT_KEPT = 4096


class Transcript:
    """Written to `folder`, which is made if it is not there. digests: whether lines carry the messages' SHA-256.

    headline: what the first line says besides. goes_on: keep what former launches of the same run have written;
    else it is replaced, as soon as the run begins. Raises InputError where the folder cannot be written to.
    """

    def __init__(
        self,
        folder: str | Path,
        rank: int = 0,
        ranks: int = 1,
        headline: str = "",
        digests: bool = True,
        goes_on: bool = False,
    ) -> None:
        self.path, self._digests, self._rank = Path(folder) / f"rank-{rank}.jsonl", digests, rank
        self._ranks, self._headline, self._goes_on = ranks, headline, goes_on
        self._iterations: dict[int, int] = {}
        self.run_id = self.launch = ""
        self.coordination = 0
        if os.path.lexists(self.path) and self.path.stat().st_size and origin_of(self.path) is None:
            raise InputError(f"{self.path}: is not a transcript of Tieline; move it, or choose another folder")
        try:
            make_private(self.path.parent)
            number = os.open(self.path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
            self._file = open(number, "a", buffering=1, encoding="utf-8")  # noqa: SIM115 - a line at a time
        except OSError as error:
            raise InputError(f"{self.path}: cannot be written ({error.strerror}); choose another folder") from None

    def begin(self, run_id: str = "", launch: str = "") -> None:
        """Another coordination begins; a run is one, a market holds many in one launch."""
        self.coordination += 1
        self._begin_launch(run_id, launch)

    def _begin_launch(self, run_id: str = "", launch: str = "") -> None:
        """The first line of a launch; what comes later of the same launch has it already."""
        if self.launch:
            return
        self.run_id, self.launch = run_id, launch or secrets.token_hex(8)
        try:
            self._keep_or_remove_former()
        except OSError as error:
            raise unwritable(self.path, error) from None
        self._write(
            {
                "tieline_audit": FORMAT,
                "rank": self._rank,
                "ranks": self._ranks,
                "headline": self._headline,
                "run_id": run_id,
                "launch": self.launch,
            }
        )

    def _keep_or_remove_former(self) -> None:
        """Of the same run all whole lines stay: they were sent. Of another one none; rank 0 removes all files."""
        if self._goes_on and origin_of(self.path) == self.run_id:
            os.truncate(self.path, self.path.read_bytes().rfind(b"\n") + 1)
            return
        os.truncate(self.path, 0)
        for old in self.path.parent.glob(FILES) if self._rank == 0 else ():
            former = origin_of(old)
            stays = former == self.run_id if self._goes_on else _rank_of(old) < self._ranks
            if former is not None and not stays:
                old.unlink()

    def goes_on_from(self, sent: Mapping[str, Any], run_id: str = "") -> None:
        """The run goes on after an iteration. sent: `sent_until` of the launch that saved it, and that iteration."""
        self._begin_launch(run_id)
        self._write({"goes_on": dict(sent)})

    def note(self, agent: int, iteration: int) -> None:
        """Of which iteration the question is that the agent at this position answers next."""
        self._iterations[agent] = iteration

    def record(self, message: Message, data: bytes, target: int, agent: str | None) -> None:
        """A message that is about to leave for a rank, `data` as it is sent. Raises UnwrittenError if it cannot be."""
        self._begin_launch()
        if message.kind is Kind.QUESTION:
            self.note(message.agent, int(message.numbers[0]))
        line: dict[str, Any] = {
            "run": f"{message.run_id:x}",
            "run_id": self.run_id,
            "kind": message.kind.name,
            "agent": agent,
            "source": self._rank,
            "target": target,
            "exchange": message.sequence,
            "coordination": self.coordination,
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
        """The last line: the run is over, and whether it has a result. Without a line before, there is no file."""
        if self.launch:
            self._write({"end": True, "has_result": has_result})
        with suppress(OSError):
            self._file.close()
        if not self.launch:
            with suppress(OSError):
                if not self.path.stat().st_size:
                    self.path.unlink()
                    self.path.parent.rmdir()

    def _write(self, line: dict[str, Any]) -> None:
        try:
            self._file.write(json.dumps(line, separators=(",", ":")) + "\n")
        except OSError as error:
            words = f"cannot be written ({error.strerror}), and nothing leaves that is not written down"
            raise UnwrittenError(f"{self.path}: {words}; make room, or run without --audit") from None


def sent_until(transport: Any, sent_bytes: int) -> dict[str, Any]:
    """Where a launch is in its transcript, for `tieline audit` of a run that goes on from here.

    sent_bytes: by all launches until now, as the run counts them.
    """
    transcript, exchanges = getattr(transport, "transcript", None), getattr(transport, "exchanges", 0)
    launch, coordination = ("", 0) if transcript is None else (transcript.launch, transcript.coordination)
    return {"bytes": sent_bytes, "exchanges": exchanges, "coordination": coordination, "launch": launch}


def _what(message: Message) -> str:
    """What the text of a message is."""
    if message.kind is Kind.HELLO:
        return "couplings" if message.text and " " not in message.text else "run"
    if message.kind is Kind.TEXT:
        return "error" if message.flags & wire.ERROR else "report"
    return {Kind.ANSWER: "reason", Kind.CALL: "call"}.get(message.kind, "couplings")


def _rank_of(path: Path) -> int:
    digits = path.stem.removeprefix("rank-")
    return int(digits) if digits.isdecimal() else -1
