"""`tieline audit`: what left each agent in a run, in words, numbers and bytes, from the transcript of that run.

Every message must be its header, the fields that it declares and its text, to the byte; a line that says otherwise is
an error. Where the files of all ranks are there, their sum is held against the bytes that the run itself counted.
"""

from __future__ import annotations

import json
import math
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from admm import wire
from admm.errors import InputError
from admm.transcript import FILES, FOLDER, FORMAT
from admm.wire import NUMBER, Kind

SUMMARY = "summary.json"
FIELD_WORDS = {
    "values": "boundary values: power, flexibility, gas; one a quantity and period",
    "cost_eur": "what its schedule costs it, one number an answer",
    "bound_eur": "a bound of that cost, where a proof is asked for",
    "model_error": "how far its model is from its physics; 0 for communities and hubs",
    "solve_seconds": "how long it took",
    "inner_iterations": "steps of its solver",
    "status": "solved, inaccurate, infeasible, ...",
    "flags": "which of cost and bound are told",
    "reason_bytes": "how long the reason is",
}
"""Fields of an answer."""
STAYED = """devices, limits, private profiles and schedules: no message has a field for them{but}. Boundary values,
costs and times do tell something about what is behind them: README.md, Privacy"""
NAMED = "; the texts above name some of them"
KEPT_WORDS = 200
MOST_RANKS = 1_000_000


@dataclass
class Told:
    """Counts what one agent told and was told, over the run. numbers: by field of its answers."""

    rank: int = 0
    entries: int = 0
    answers: int = 0
    questions: int = 0
    bytes_left: int = 0
    bytes_told: int = 0
    costs: int = 0
    bounds: int = 0
    numbers: Counter[str] = field(default_factory=Counter)
    texts: Counter[str] = field(default_factory=Counter)


@dataclass(frozen=True)
class Launch:
    """Holds one launch of a run. firsts: first line of each of its ranks; has_result: None if rank 0 did not end.

    goes_on: of a launch that goes on, after what, and where the launch that saved it was then; empty without.
    """

    firsts: tuple[dict[str, Any], ...]
    lines: tuple[dict[str, Any], ...]
    has_result: bool | None
    goes_on: dict[str, Any]

    @property
    def ranks(self) -> int:
        return self.firsts[0]["ranks"]

    @property
    def missing(self) -> list[int]:
        """List ranks whose files are not here: they are where those ranks ran."""
        return sorted(set(range(self.ranks)) - {first["rank"] for first in self.firsts})

    @property
    def crossed(self) -> list[dict[str, Any]]:
        """Give the messages between ranks; in one process all that would be."""
        return [line for line in self.lines if self.ranks == 1 or line["source"] != line["target"]]

    def bytes_until(self, place: tuple[int, int] | None = None) -> int:
        """Count what crossed until the result, or until after an exchange: (its coordination, its number).

        What ranks of a market tell each other between coordinations, and before they go on with it, is not in it.
        """
        asked = {line["coordination"] for line in self.lines if line["kind"] == Kind.QUESTION.name}
        return sum(
            line["bytes"]
            for line in self.crossed
            if not line["after"]
            and line["coordination"] in asked
            and (place is None or (line["coordination"], line["exchange"]) <= place)
        )


@dataclass(frozen=True)
class Transcripts:
    """Holds what is in the files of an audit folder: all launches of a run, in their order; mostly one."""

    launches: tuple[Launch, ...]

    @property
    def lines(self) -> tuple[dict[str, Any], ...]:
        return tuple(line for launch in self.launches for line in launch.lines)

    @property
    def firsts(self) -> tuple[dict[str, Any], ...]:
        return self.launches[-1].firsts

    @property
    def has_result(self) -> bool | None:
        return self.launches[-1].has_result

    @property
    def ranks(self) -> int:
        return self.launches[-1].ranks

    @property
    def missing(self) -> list[int]:
        return sorted({rank for launch in self.launches for rank in launch.missing})


def audit_words(folder: str | Path) -> str:
    """Return what `tieline audit` prints of a folder. Raises InputError: there is no transcript, or it is damaged."""
    return audited(folder)[0]


def audited(folder: str | Path) -> tuple[str, bool]:
    """Return the same, and whether the sums are those that the run counted, as far as it can be said."""
    found = read_transcripts(folder)
    sums, same = _sums(Path(folder), found)
    agents = told_by_agent(found.lines)
    texts = _texts(agents, found.lines)
    sections = [
        _headline(folder, found),
        _table(agents),
        _fields(agents),
        _ranks(found.lines),
        texts,
        ["did not leave: " + STAYED.format(but=NAMED if texts else "")],
        sums,
    ]
    return "\n".join(line for section in sections for line in section), same


# ---------------------------------------------------------------- reading


def read_transcripts(folder: str | Path) -> Transcripts:
    """Read every rank's lines, and check each."""
    paths = sorted(Path(folder, FOLDER).glob(FILES))
    if not paths:
        where = Path(folder, FOLDER)
        raise InputError(f"{where}: holds no transcript; make one with 'tieline run CASE --audit --out {folder}'")
    parts: dict[str, list[list[dict[str, Any]]]] = {}
    for path in paths:
        for part in _parts(list(_lines(path))):
            parts.setdefault(part[0].get("launch", ""), []).append(part)
    order = _order(parts)
    return Transcripts(tuple(_launch(parts[name]) for name in order))


def _parts(lines: list[dict[str, Any]]) -> Iterator[list[dict[str, Any]]]:
    """Cut the lines of one file into launches."""
    starts = [at for at, line in enumerate(lines) if "tieline_audit" in line]
    for start, end in zip(starts, [*starts[1:], len(lines)], strict=True):
        yield lines[start:end]


def _order(parts: Mapping[str, list[list[dict[str, Any]]]]) -> list[str]:
    """Order launches as the driving rank's file has them, those that are only in others before."""
    driving = [name for name, files in parts.items() if any(part[0]["rank"] == 0 for part in files)]
    return [*(name for name in parts if name not in driving), *driving]


def _launch(files: list[list[dict[str, Any]]]) -> Launch:
    driving = [line for part in files if part[0]["rank"] == 0 for line in part[1:]]
    ends = [line["has_result"] for line in driving if "end" in line]
    goes_on = next((line["goes_on"] for line in driving if "goes_on" in line), {})
    messages = tuple(line for part in files for line in _with_ends(part[1:]))
    return Launch(tuple(part[0] for part in files), messages, ends[0] if ends else None, goes_on)


def _lines(path: Path) -> Iterator[dict[str, Any]]:
    try:
        texts = path.read_text(encoding="utf-8").splitlines()
    except (OSError, ValueError) as error:
        raise InputError(f"{path}: cannot be read ({error})") from None
    for number, text in enumerate(texts or [""], start=1):
        try:
            line = json.loads(text)
            _check_first(line) if number == 1 or "tieline_audit" in line else _check(line)
        except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
            words = f"{type(error).__name__}: {error}"[:KEPT_WORDS]
            raise InputError(
                f"{path}: line {number} is not one of a transcript ({words}); run with --audit again"
            ) from None
        yield line


def _with_ends(lines: Sequence[dict[str, Any]]) -> Iterator[dict[str, Any]]:
    """Give a rank's messages, each with `after`: whether it is part of the end of a run, or comes after it."""
    after = False
    for line in (line for line in lines if "end" not in line and "goes_on" not in line):
        after = line["kind"] == Kind.STOP.name or (after and line["kind"] != Kind.HELLO.name)
        yield {**line, "after": after}


def _check_first(line: dict[str, Any]) -> None:
    counts = (
        type(line["rank"]) is int and type(line["ranks"]) is int and 0 <= line["rank"] < line["ranks"] <= MOST_RANKS
    )
    names = (line["headline"], line.get("run_id", ""), line.get("launch", ""))
    if line["tieline_audit"] != FORMAT or not counts or any(type(name) is not str for name in names):
        raise ValueError(f"expected a first line of format {FORMAT}")


def _check(line: dict[str, Any]) -> None:
    """Raise unless a message is its header, its fields and its text, and nothing else."""
    if "end" in line:
        line["has_result"] = bool(line["has_result"])
        return
    if "goes_on" in line:
        told = line["goes_on"]
        told.setdefault("coordination", 1)
        counts = [told[key] for key in ("iteration", "exchanges", "coordination", "bytes")]
        names = (told["launch"], told.get("step", ""))
        if any(type(count) is not int or count < 0 for count in counts) or any(type(name) is not str for name in names):
            raise ValueError("goes_on is none")
        return
    line.setdefault("coordination", 1)  # an older transcript is of one
    answer = line["kind"] == Kind.ANSWER.name
    counts = ("source", "target", "exchange", "coordination", "items", "bytes")
    kinds: dict[str, tuple[type, ...]] = dict.fromkeys(counts, (int,))
    kinds |= {"text_bytes": (int,), "agent": (str, type(None)), "iteration": (int, type(None)), "run": (str,)}
    kinds |= {"costs": (int,), "bounds": (int,)} if answer else {}
    kinds |= {key: (str,) for key in ("text", "text_is") if key in line}
    wrong = [key for key, expected in kinds.items() if type(line[key]) not in expected]
    if wrong or line["kind"] not in Kind.__members__ or (answer and len(line["fields"][wire.ANSWER_ARRAY_FIELD]) != 2):
        raise ValueError(f"{wrong[0] if wrong else 'kind'} is none")
    if any(type(size) is not int for shape in line["fields"].values() for size in shape):
        raise ValueError("the shape of a field is none")
    numbers = sum(math.prod(shape) for shape in line["fields"].values())
    parts = wire.HEADER.size + NUMBER.itemsize * numbers + line["text_bytes"]
    if line["bytes"] != parts:
        raise ValueError(f"{line['bytes']} bytes, of which header, fields and text are {parts}")


def told_by_agent(lines: Sequence[dict[str, Any]]) -> dict[str, Told]:
    """Sum up what each agent told and was told."""
    found: dict[str, Told] = {}
    for line in (line for line in lines if line["agent"] is not None):
        agent = found.setdefault(line["agent"], Told())
        asked = line["kind"] == Kind.QUESTION.name
        agent.rank = line["target"] if asked else line["source"]
        if asked:
            agent.questions += line["items"]
            agent.bytes_told += line["bytes"]
            continue
        agent.bytes_left += line["bytes"]
        if line.get("text"):
            agent.texts[line["text"]] += 1
        if line["kind"] == Kind.ANSWER.name:
            agent.answers += line["items"]
            agent.costs, agent.bounds = agent.costs + line["costs"], agent.bounds + line["bounds"]
            agent.entries = line["fields"]["values"][1]
            agent.numbers.update({name: math.prod(shape) for name, shape in line["fields"].items()})
    return dict(sorted(found.items()))


# ---------------------------------------------------------------- words


def _headline(folder: str | Path, found: Transcripts) -> list[str]:
    iterations = max((line["iteration"] or 0 for line in found.lines), default=0)
    ended = {True: "it ended with a result", False: "it ended without a result", None: "it did not end"}
    where = f"{found.ranks} ranks" if found.ranks > 1 else "one process"
    words = [f"{found.firsts[0]['headline']}: what left each agent, from {folder}/{FOLDER}"]
    words += [f"the run: {where}, {iterations} iterations; {ended[found.has_result]}"]
    for number, launch in enumerate(found.launches if len(found.launches) > 1 else (), start=1):
        after = f"goes on after {_step(launch.goes_on)}" if launch.goes_on else "from the start"
        sent = sum(line["bytes"] for line in launch.crossed)
        words += [f"  launch {number}: {after}, {launch.ranks} ranks, {sent} bytes; {ended[launch.has_result]}"]
    if found.missing:
        missing = ", ".join(map(str, found.missing))
        words += [f"not here: what rank {missing} sent (its file is where it ran); the sums are without it"]
    return [*words, ""]


def _step(goes_on: Mapping[str, Any]) -> str:
    """Say after what a launch goes on."""
    return goes_on.get("step") or f"iteration {goes_on['iteration']}"


def _table(agents: dict[str, Told]) -> list[str]:
    heads = ("agent", "rank", "answers", "values each", "costs", "bounds", "reasons", "bytes left", "bytes told to it")
    rows = [
        (n, a.rank, a.answers, a.entries, a.costs, a.bounds, a.texts.total(), a.bytes_left, a.bytes_told)
        for n, a in agents.items()
    ]
    total = ("total", "", *(sum(row[i] for row in rows) for i in range(2, len(heads))))
    total = (*total[:3], "", *total[4:])
    cells = [[str(cell) for cell in row] for row in (heads, *rows, total)]
    widths = [max(len(row[i]) for row in cells) for i in range(len(heads))]
    lines = ["  " + "  ".join([row[0].ljust(widths[0]), *map(str.rjust, row[1:], widths[1:])]) for row in cells]
    return [*lines, ""]


def _fields(agents: dict[str, Told]) -> list[str]:
    """List every field of the answers, with how many of them say something."""
    numbers = sum((agent.numbers for agent in agents.values()), Counter())
    answers = sum(agent.answers for agent in agents.values())
    told = {"cost_eur": sum(a.costs for a in agents.values()), "bound_eur": sum(a.bounds for a in agents.values())}
    lines = ["an answer holds"]
    for name, words in FIELD_WORDS.items():
        share = f" (told in {told[name]} of {answers} answers)" if name in told else ""
        count = numbers[name]
        lines.append(f"  {name:17} {count:9} numbers {NUMBER.itemsize * count:10} bytes   {words}{share}")
    return [*lines, ""]


def _ranks(lines: Sequence[dict[str, Any]]) -> list[str]:
    """List what ranks send that is about no single agent: at the start and at the end."""
    apart = [line for line in lines if line["agent"] is None]
    if not apart:
        return []
    found = ["what ranks sent besides"]
    for rank in sorted({line["source"] for line in apart}):
        own = [line for line in apart if line["source"] == rank]
        sizes = Counter()
        for line in own:
            sizes[_besides(line)] += line["bytes"]
        found.append(f"  rank {rank}: " + "; ".join(f"{words}, {size} bytes" for words, size in sizes.items()))
    return [*found, ""]


def _besides(line: dict[str, Any]) -> str:
    """Say what a message about no single agent is."""
    kind, about = line["kind"], line.get("text_is")
    if kind == Kind.HELLO.name:
        return "which agents it owns and a fingerprint of the couplings" if about else "start"
    if kind == Kind.STOP.name:
        return "end"
    if kind == Kind.CALL.name:
        return "checkpoints (iteration, fingerprints of the agents' own files)"
    if about != "report":
        return "error"
    try:
        keys = ", ".join(json.loads(line["text"])) or "nothing"
    except (ValueError, TypeError):
        keys = "text"
    return f"report ({keys})"


def _texts(agents: dict[str, Told], lines: Sequence[dict[str, Any]]) -> list[str]:
    """Quote reasons and errors word for word: they name the constraints in conflict."""
    found = [f"  {name}: {text} ({count} times)" for name, a in agents.items() for text, count in a.texts.items()]
    apart = [line for line in lines if line["agent"] is None and line.get("text_is") == "error"]
    found += [f"  rank {line['source']}: {line['text']}" for line in apart]
    return ["reasons and errors that left, word for word", *found, ""] if found else []


def _sums(folder: Path, found: Transcripts) -> tuple[list[str], bool]:
    """Add up all messages in bytes, against what the run counted until its result; say whether they agree."""
    crossed = [line for launch in found.launches for line in launch.crossed]
    total = sum(line["bytes"] for line in crossed)
    lines = [f"sum: {len(crossed)} messages, {total} bytes, each its header, its fields and its text"]
    here = len(found.lines) - len(crossed)
    if here:
        lines[0] += f"; {here} more stayed on the driving rank, between its own agents and the engine"
    last = found.launches[-1]
    counted = _bytes_exchanged(folder) if last.has_result and not found.missing else None
    if counted is None:
        return lines, True
    before, unwritten = _before(found.launches, last)
    until = before + last.bytes_until()
    verdict = "the same" if counted == until + unwritten else "NOT the same"
    words = f"until the result {until} bytes; {SUMMARY} says {counted}: {verdict}"
    if len(found.launches) > 1:
        words += "; what a launch sent after it was saved for the last time is not in it"
    if unwritten:
        words += f"; {unwritten} bytes of before are not written down, as that launch had no --audit"
    return [*lines, words], counted == until + unwritten


def _before(launches: Sequence[Launch], last: Launch) -> tuple[int, int]:
    """Count what launches before sent until the last one went on from there, and what those without --audit sent."""
    written, at, rest = 0, last, list(launches[: launches.index(last)])
    while at.goes_on:
        former = next((one for one in rest if one.firsts[0].get("launch", "") == at.goes_on["launch"]), None)
        if former is None:
            return written, at.goes_on["bytes"]
        rest = rest[: rest.index(former)]
        written, at = written + former.bytes_until((at.goes_on["coordination"], at.goes_on["exchanges"])), former
    return written, 0


def _bytes_exchanged(folder: Path) -> int | None:
    """Read what the run's summary says; None where there is none."""
    try:
        found = json.loads((folder / SUMMARY).read_text(encoding="utf-8")).get("bytes_exchanged")
    except (OSError, ValueError, AttributeError):
        return None
    return found if isinstance(found, int) else None
