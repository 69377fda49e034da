"""Bad input made from good input: mutations of trees, texts, tables and bytes.

Everything is drawn from the `Random` that is passed in, so one seed gives one input; the tests pass hypothesis's own.
"""

from __future__ import annotations

import json
import math
import sys
from collections.abc import Callable, Sequence
from copy import deepcopy
from datetime import date, datetime, time
from random import Random
from typing import Any

NUMBERS = (
    0,
    -1,
    1,
    2,
    -0.5,
    0.999,
    1e-300,
    1e-12,
    -0.0,
    1e6,
    -1e9,
    1e12,
    1e15,
    1e19,
    1e30,
    1e300,
    -1e300,
    2**31,
    2**63,
    -(2**63) - 1,
    10**400,
)
NOT_FINITE = (math.nan, math.inf, -math.inf)
TEXTS = (
    "",
    " ",
    "x",
    "0",
    "nan",
    "true",
    "1e999",
    "../../etc/passwd",
    "/dev/null",
    "a\nb",
    "tab\there",
    "\x1b[31mred\x1b[0m",
    "zero\0byte",
    "line\u2028break",
    "\u202eright to left",
    "Stra\u00dfe \u6c34 \U0001f4a7",
    "a/b",
    ".",
    "..",
    "x" * 300,
    "{0}{name}%s",
)
STAMPS = (
    datetime(1, 1, 1),
    datetime(9999, 12, 31, 23, 59, 59),
    datetime(2016, 1, 14, 12, 7),
    date(2016, 1, 14),
    time(12, 30),
)
NUMBER_WORDS = (
    "nan",
    "-inf",
    "1e999",
    "1e308",
    "-1e308",
    "1e30",
    "-1",
    "-0",
    "0",
    "",
    "0x10",
    "1_000",
    "1,5",
    "٣",
    "9" * 400,
    "1e-320",
    "100000",
    "1e12",
    "1e15",
    "1e19",
    "5 kW",
    "--3",
    "None",
)
JUNK = (*"\0\x1a\r\"'[]{}=,;\\#\ufeff\u2028é\U0001f4a7", "\n\n")
DEEP = 40
"""Levels of a nested value; texts are nested thousands of levels deep."""

CHANGES = (1, 1, 1, 2, 3)
"""How many changes an input gets: one is what most mistakes are, and gets furthest."""
FACTORS = (-1.0, 0.0, 1e-12, 1e-6, 1e-3, 0.1, 0.5, 0.9, 1.1, 2.0, 10.0, 1e3, 1e6, 1e9, 1e12, 1e15)

Path = tuple[Any, ...]


# ---------------------------------------------------------------- values and trees


def bad_value(draw: Random) -> Any:
    """A value of any kind that a file can hold; most are wrong wherever they stand."""
    kind = draw.randrange(8)
    if kind <= 1:
        return draw.choice(NUMBERS)
    if kind == 2:
        return draw.choice(NOT_FINITE)
    if kind <= 4:
        return draw.choice(TEXTS)
    if kind == 5:
        return draw.choice((True, False))
    if kind == 6:
        return draw.choice(STAMPS)
    return deepcopy(draw.choice(([], {}, [[]], [{}], {"name": "x"}, [1, "a", None], [1.0, 2.0], nested(DEEP))))


def nested(levels: int) -> Any:
    value: Any = 1
    for _ in range(levels):
        value = [value]
    return value


def paths(tree: Any, at: Path = ()) -> list[Path]:
    """Where every value of a tree lies, the tree itself left out."""
    items = tree.items() if isinstance(tree, dict) else enumerate(tree) if isinstance(tree, list) else ()
    return [here for key, value in items for here in ((*at, key), *paths(value, (*at, key)))]


def mutated_tree(tree: Any, draw: Random) -> Any:
    """A copy of a tree of dictionaries and lists with one to three changes."""
    tree = deepcopy(tree)
    for _ in range(draw.choice(CHANGES)):
        places = paths(tree)
        if not places:
            break
        draw.choice(TREE_CHANGES)(tree, draw.choice(places), places, draw)
    return tree


def _parent(tree: Any, path: Path) -> Any:
    for key in path[:-1]:
        tree = tree[key]
    return tree


def _replace(tree: Any, path: Path, _: Sequence[Path], draw: Random) -> None:
    _parent(tree, path)[path[-1]] = bad_value(draw)


def _scale(tree: Any, path: Path, _: Sequence[Path], draw: Random) -> None:
    """A number somewhat larger or smaller, in another unit, or with the other sign: what passes most checks."""
    parent, key = _parent(tree, path), path[-1]
    value = parent[key]
    if isinstance(value, bool) or not isinstance(value, int | float) or abs(value) > sys.float_info.max:
        return _replace(tree, path, _, draw)
    found = value * draw.choice(FACTORS)
    parent[key] = found if isinstance(value, float) or not abs(found) < 1e9 else int(found)


def _drop(tree: Any, path: Path, _: Sequence[Path], draw: Random) -> None:
    del _parent(tree, path)[path[-1]]


def _rename(tree: Any, path: Path, _: Sequence[Path], draw: Random) -> None:
    """A key that is misspelt, or anything."""
    parent, key = _parent(tree, path), path[-1]
    if not isinstance(parent, dict):
        return _replace(tree, path, _, draw)
    name = draw.choice(TEXTS) if draw.random() < 0.3 else misspelt(str(key), draw)
    parent[name] = parent.pop(key)


def _duplicate(tree: Any, path: Path, _: Sequence[Path], draw: Random) -> None:
    parent, key = _parent(tree, path), path[-1]
    if isinstance(parent, list):
        parent.insert(key, deepcopy(parent[key]))
    else:
        parent[misspelt(str(key), draw)] = deepcopy(parent[key])


def _copy(tree: Any, path: Path, places: Sequence[Path], draw: Random) -> None:
    """The value of another place: of the right kind often, and of the wrong size."""
    other = draw.choice(places)
    _parent(tree, path)[path[-1]] = deepcopy(_parent(tree, other)[other[-1]])


def _wrap(tree: Any, path: Path, _: Sequence[Path], draw: Random) -> None:
    parent, value = _parent(tree, path), deepcopy(_parent(tree, path)[path[-1]])
    parent[path[-1]] = draw.choice(([value], {"name": value}, [value, value], [], str(value)))


def misspelt(word: str, draw: Random) -> str:
    at = draw.randrange(len(word) + 1)
    return draw.choice((word[:at] + word[at + 1 :], word[:at] + draw.choice("aZ_0-. é") + word[at:], word.upper(), "x"))


TREE_CHANGES: tuple[Callable[[Any, Path, Sequence[Path], Random], None], ...] = (
    _replace,
    _replace,
    _scale,
    _scale,
    _scale,
    _scale,
    _drop,
    _rename,
    _duplicate,
    _copy,
    _wrap,
)


def toml_text(tree: dict[str, Any]) -> str:
    """The tree as TOML, all that is nested as inline tables."""
    return "".join(f"{json.dumps(str(key))} = {_toml_value(value)}\n" for key, value in tree.items())


def _toml_value(value: Any) -> str:
    if isinstance(value, dict):
        return "{" + ", ".join(f"{json.dumps(str(key))} = {_toml_value(one)}" for key, one in value.items()) + "}"
    if isinstance(value, list):
        return "[" + ", ".join(_toml_value(one) for one in value) + "]"
    if isinstance(value, datetime | date | time):
        return value.isoformat()
    if isinstance(value, bool | str) or value is None:
        return json.dumps(value, ensure_ascii=False).replace("\x7f", "\\u007f")
    return repr(value)


# ---------------------------------------------------------------- texts, tables and bytes


def mutated_text(text: str, draw: Random) -> bytes:
    """The text with one to three changes, in some encoding."""
    for _ in range(draw.choice(CHANGES)):
        text = draw.choice(TEXT_CHANGES)(text, draw)
    return encoded(text, draw)


def encoded(text: str, draw: Random) -> bytes:
    """UTF-8 mostly; line ends of another system, a byte order mark or another encoding now and then."""
    other = draw.randrange(100)
    if other == 0:
        return text.encode("utf-16", errors="replace")
    if other == 1:
        return text.encode("latin-1", errors="replace")
    if other == 2:
        text = text.replace("\n", "\r\n" if draw.random() < 0.5 else "\r")
    return (b"\xef\xbb\xbf" if other == 3 else b"") + text.encode(errors="replace")


def _span(size: int, draw: Random, longest: int = 40) -> tuple[int, int]:
    start = draw.randrange(size + 1)
    return start, min(size, start + draw.randrange(longest + 1))


def _cut_span(text: str, draw: Random) -> str:
    start, end = _span(len(text), draw)
    return text[:start] + text[end:]


def _junk(text: str, draw: Random) -> str:
    start, end = _span(len(text), draw, 2)
    return text[:start] + draw.choice(JUNK) * draw.choice((1, 1, 3)) + text[end:]


def _truncate(text: str, draw: Random) -> str:
    return text[: draw.randrange(len(text) + 1)]


def _lines(text: str, draw: Random) -> str:
    """A line twice, left out, or in another place."""
    lines = text.split("\n")
    at, to = draw.randrange(len(lines)), draw.randrange(len(lines))
    line = lines[at] if draw.random() < 0.4 else lines.pop(at)
    if draw.random() < 0.7:
        lines.insert(to, line)
    return "\n".join(lines)


def _number_word(text: str, draw: Random) -> str:
    """Another number in the place of one that is there."""
    before = " " + text
    at = [i for i, letter in enumerate(text) if letter.isdigit() and not (before[i].isalnum() or before[i] == ".")]
    if not at:
        return text
    start = end = draw.choice(at)
    while end < len(text) and (text[end].isdigit() or text[end] in ".eE-"):
        end += 1
    return text[:start] + draw.choice(NUMBER_WORDS) + text[end:]


def _deeper(text: str, draw: Random) -> str:
    """Nested so deeply that a reader that calls itself gives up."""
    open_, close = draw.choice((("[", "]"), ("{a=", "}"), ('{"a":', "}")))
    levels = draw.choice((50, 3000))
    start, end = _span(len(text), draw, 1)
    return text[:start] + open_ * levels + "1" + close * levels * draw.choice((0, 1)) + text[end:]


TEXT_CHANGES: tuple[Callable[[str, Random], str], ...] = (
    _cut_span,
    _junk,
    _junk,
    _truncate,
    _lines,
    _lines,
    _number_word,
    _number_word,
    _number_word,
    _deeper,
)


def mutated_bytes(data: bytes, draw: Random) -> bytes:
    """Truncated, with bits flipped, spans overwritten, zeroed, doubled, left out, or more behind it."""
    found = bytearray(data)
    for _ in range(draw.choice(CHANGES)):
        if not found:
            break
        start, end = _span(len(found), draw, draw.choice((1, 8, 8, 64, 1024)))
        change = draw.randrange(8)
        if change <= 2:
            found[min(start, len(found) - 1)] ^= 1 << draw.randrange(8)
        elif change == 3:
            found[start:end] = draw.randbytes(end - start)
        elif change == 4:
            found[start:end] = draw.choice((b"\0", b"\xff", b"\x7f")) * (end - start)
        elif change == 5:
            del found[start : len(found) if draw.random() < 0.5 else end]
        elif change == 6:
            found[start:start] = found[start:end]
        else:
            found += draw.randbytes(draw.choice((1, 8, 100)))
    return bytes(found)
