"""Bad CSV tables made from good ones: cells, headers, columns, rows and delimiters."""

from __future__ import annotations

from collections.abc import Callable
from random import Random

from benchmarks.fuzz_inputs import CHANGES, FACTORS, NUMBER_WORDS, TEXTS, encoded, misspelt, mutated_text


def mutated_csv(text: str, draw: Random) -> bytes:
    """A CSV table with cells, headers, rows or delimiters changed; now and then as any text."""
    if draw.random() < 0.15:
        return mutated_text(text, draw)
    rows = [line.split(",") for line in text.splitlines()]
    for _ in range(draw.choice(CHANGES)):
        draw.choice(CSV_CHANGES)(rows, draw)
        rows = rows or [[""]]
    delimiter = draw.choice((",",) * 40 + (";", "\t", ", "))
    return encoded("\n".join(delimiter.join(cells) for cells in rows) + "\n", draw)


def _cell(rows: list[list[str]], draw: Random) -> None:
    row = draw.choice(rows)
    if row:
        words = draw.choice((NUMBER_WORDS, NUMBER_WORDS, TEXTS))
        row[draw.randrange(len(row))] = draw.choice(words).replace("\n", draw.choice(("\n", " ")))


def _cell_scaled(rows: list[list[str]], draw: Random) -> None:
    """A number somewhat larger or smaller, in another unit, or with the other sign."""
    row = draw.choice(rows)
    at = draw.randrange(max(1, len(row)))
    try:
        row[at] = f"{float(row[at]) * draw.choice(FACTORS):g}"
    except (ValueError, IndexError):
        row[at : at + 1] = [text + draw.choice(("e3", "0", "x", " ")) for text in row[at : at + 1]]


def _cell_copied(rows: list[list[str]], draw: Random) -> None:
    one, other = draw.choice(rows), draw.choice(rows)
    if one and other:
        one[draw.randrange(len(one))] = other[draw.randrange(len(other))]


def _header(rows: list[list[str]], draw: Random) -> None:
    if rows[0]:
        at = draw.randrange(len(rows[0]))
        rows[0][at] = misspelt(rows[0][at], draw) if draw.random() < 0.7 else draw.choice(rows[0])


def _column(rows: list[list[str]], draw: Random) -> None:
    """A column twice, or left out."""
    at, twice = draw.randrange(max(1, len(rows[0]))), draw.random() < 0.5
    for row in rows:
        if at < len(row):
            row[at : at + 1] = [row[at]] * 2 * twice


def _row(rows: list[list[str]], draw: Random) -> None:
    at = draw.randrange(len(rows))
    change = draw.randrange(5)
    if change == 0:
        rows.insert(draw.randrange(len(rows)), list(rows[at]))
    elif change == 1:
        del rows[at]
    elif change == 2:
        rows[at] = rows[at][: draw.randrange(len(rows[at]) + 1)]
    elif change == 3:
        rows[at] += draw.choice(([""], ["1"], ["x"] * 3))
    else:
        del rows[at + 1 :]


def _text_column(rows: list[list[str]], draw: Random) -> None:
    """A column of texts, of nothing, or without a name."""
    name = draw.choice(("sky", "", "note", rows[0][-1] if rows[0] else "note"))
    for row, cell in zip(rows, [name, *["" if draw.random() < 0.2 else draw.choice(TEXTS)] * len(rows)], strict=False):
        row.append(cell.replace("\n", " "))


def _decimal_commas(rows: list[list[str]], draw: Random) -> None:
    """As a spreadsheet of another country writes numbers."""
    quoted = draw.random() < 0.5
    for row in rows[1:]:
        row[1:] = [f'"{cell.replace(".", ",")}"' if quoted else cell.replace(".", ",") for cell in row[1:]]


CSV_CHANGES: tuple[Callable[[list[list[str]], Random], None], ...] = (
    _cell,
    _cell,
    _cell_scaled,
    _cell_scaled,
    _cell_scaled,
    _cell_scaled,
    _cell_copied,
    _cell_copied,
    _header,
    _column,
    _text_column,
    _decimal_commas,
    _row,
)
