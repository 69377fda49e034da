"""Reads the tables of a MATPOWER case script (.m, version 2) and does the unit conversions at its end.

A script is a program. Only assignments are carried out, with an arithmetic of numbers, table columns and a few
functions: enough for the conversions from kW and ohm that MATPOWER's distribution cases end with. Anything else is
refused by its line, so that no table is taken before a conversion that the script makes.
"""

from __future__ import annotations

import ast
import operator
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from itertools import takewhile
from pathlib import Path
from typing import Any

import numpy as np

from admm import InputError
from networks.validation import read_text

TABLES = ("bus", "branch", "gen", "gencost", "dcline")
LEAST_COLUMNS = {"bus": 13, "branch": 11, "gen": 10, "gencost": 5, "dcline": 3}
LARGEST_MVA = 1e9
SAVE = "run it in MATLAB or Octave and save the result: savecase('{name}', loadcase('{name}'))"

TYPES = ("PQ", "PV", "REF", "NONE")
BUS = (
    *("BUS_I", "BUS_TYPE", "PD", "QD", "GS", "BS", "BUS_AREA", "VM", "VA", "BASE_KV", "ZONE", "VMAX", "VMIN"),
    *("LAM_P", "LAM_Q", "MU_VMAX", "MU_VMIN"),
)
GEN = ("GEN_BUS", "PG", "QG", "QMAX", "QMIN", "VG", "MBASE", "GEN_STATUS", "PMAX", "PMIN")
BRANCH = ("F_BUS", "T_BUS", "BR_R", "BR_X", "BR_B", "RATE_A", "RATE_B", "RATE_C", "TAP", "SHIFT", "BR_STATUS")
COLUMNS = {name: 1 + i for names in (TYPES, BUS, GEN, BRANCH) for i, name in enumerate(names)}
"""MATPOWER's names of columns and bus types, counted from 1."""
NAMED = {"bus": (*TYPES, *BUS), "brch": BRANCH, "gen": GEN}
"""What idx_bus and the like return, in their order."""

FUNCTIONS = {name: getattr(np, name) for name in ("sin", "cos", "tan", "sqrt", "abs", "exp")} | {
    "acos": np.arccos,
    "asin": np.arcsin,
    "atan": np.arctan,
}
SCALAR, ELEMENTWISE = 0, 1
OPERATORS: dict[type, tuple[Callable[[Any, Any], Any], int]] = {
    ast.Add: (operator.add, ELEMENTWISE),
    ast.Sub: (operator.sub, ELEMENTWISE),
    ast.Mult: (operator.mul, SCALAR),
    ast.Div: (operator.truediv, SCALAR),
    ast.MatMult: (operator.mul, ELEMENTWISE),  # .*
    ast.FloorDiv: (operator.truediv, ELEMENTWISE),  # ./
    ast.Pow: (operator.pow, SCALAR),
}
"""SCALAR: the right operand of / and ^, and one of * , has to be a number, as matrices multiply otherwise."""

ASSIGNED = re.compile(r"^(mpc\.)?(\w+)((?:\.\w+)*)\s*(\(.*?\))?\s*=(?!=)\s*(.*)$", re.DOTALL)
INDEX_NAMES = re.compile(r"^\[([\w\s,~]*)\]\s*=\s*idx_(bus|brch|gen|cost|dcline)$|^define_constants$")
UPDATED = re.compile(r"^(mpc\.\w+\s*\([^=]*\)|\w+)\s*([-+*/])=(?!=)\s*(.*)$", re.DOTALL)
WITHOUT_EFFECT = re.compile(r"^(clear\s+[A-Z_\s]+|(printf|fprintf|disp|warning)\s*\(.*\))$", re.DOTALL)
LAST = ("return", "end", "endfunction")
"""Statements after which none of the function's is carried out, as branches and loops are refused."""
NO_NUMBER = re.compile(r"\b0[xXbBoO]|\d_|@|//|\b(True|False|None)\b")
"""What Python would read as a number or an operator, and MATLAB reads otherwise or not at all."""
COLUMN_REFERENCE = re.compile(r"mpc\.(bus|branch|gen|gencost)\s*\(([^(),]*),\s*(\[[^\]]*\]|[^(),]*)\)")
QUOTED = re.compile(r"(?<![\w)\]}.'])'(?:[^'\n]|'')*'|\"[^\"\n]*\"")
"""A quotation; after a name or bracket the mark stands for a transpose."""


@dataclass
class MatpowerTables:
    """The tables of a case as its script leaves them. tables: {name: (rows, columns)}."""

    base_mva: float
    tables: dict[str, np.ndarray]


@dataclass
class _Script:
    path: Path
    line: int = 0
    statement: str = ""
    variables: dict[str, Any] = field(default_factory=dict)
    tables: dict[str, np.ndarray] = field(default_factory=dict)
    version: str = ""

    def error(self, found: str, expected: str) -> InputError:
        return InputError(f"{self.path}: line {self.line}: {found}, expected {expected}")

    def refused(self) -> InputError:
        short = " ".join(self.statement.split())[:60]
        return self.error(f"'{short}' is program code", "tables and unit conversions only; " + self.how())

    def how(self) -> str:
        return SAVE.format(name=self.path.stem)

    # ------------------------------------------------------------------------ statements

    def run(self, line: int, statement: str) -> None:
        self.line, self.statement = line, statement
        names = INDEX_NAMES.match(statement)
        if names is not None:
            self._check_names(names[1] or "", names[2])
            return
        if WITHOUT_EFFECT.match(statement):
            return
        found = ASSIGNED.match(UPDATED.sub(r"\1 = \1 \2 (\3)", statement))
        if found is None or (found[4] and not found[1]):
            raise self.refused()
        of_case, name, inner, index, value = found.groups()
        if inner and of_case and name not in TABLES:  # such as mpc.reserves.zones: nothing that a flow depends on
            return
        if inner:
            raise self.refused()
        if index:
            self._assign_columns(name, index, value)
        elif not of_case:
            self.variables[name] = self._value(value)
        elif name == "version":
            self.version = value.strip("'\" ")
        elif name == "baseMVA":
            self.variables["baseMVA"] = base = self._value(value)
            if not (isinstance(base, float) and 0 < base <= LARGEST_MVA):
                raise self.error(f"mpc.baseMVA is {value[:20]}", "a number above 0")
        elif name in TABLES:
            self.tables[name] = self._table(name, value)
        elif re.match(r"^mpc\b", value):
            raise self.refused()

    def _check_names(self, names: str, kind: str) -> None:
        """Refuse a list of names in which a name of MATPOWER's stands for another column."""
        given, own = re.split(r"[\s,]+", names.strip()), NAMED.get(kind, ())
        for name, expected in zip(given, own, strict=False):
            if name not in (expected, "~", ""):
                raise self.error(f"'{name}' stands for the column {expected}", f"MATPOWER's own name; {self.how()}")

    def _table(self, name: str, value: str) -> np.ndarray:
        if not (value.startswith("[") and value.endswith("]")):
            raise self.refused()
        rows = [row.replace(",", " ").split() for row in re.split(r"[;\n]", value[1:-1]) if row.strip()]
        least = LEAST_COLUMNS[name]
        width = max((len(row) for row in rows), default=least)
        for number, row in enumerate(rows, 1):
            if len(row) != width and name != "gencost":
                raise self.error(f"row {number} of mpc.{name} has {len(row)} cells", f"{width} as in the others")
        if width < least:
            raise self.error(f"mpc.{name} has {width} columns", f"at least {least} (case format version 2)")
        cells = [[self._cell(name, i, cell) for cell in row] for i, row in enumerate(rows, 1)]
        return np.array([row + [0.0] * (width - len(row)) for row in cells], dtype=float).reshape(len(rows), width)

    def _cell(self, table: str, row: int, cell: str) -> float:
        try:
            number = float(cell.replace("_", "x"))  # Python alone allows it in a number
        except ValueError:
            try:
                number = self._value(cell)
            except InputError:
                number = np.nan
        if not isinstance(number, float) or np.isnan(number):
            raise self.error(f"row {row} of mpc.{table} holds '{cell[:20]}'", "a number")
        return number

    def _assign_columns(self, table: str, index: str, value: str) -> None:
        if table not in self.tables or index.count(",") < 1:
            raise self.refused()
        rows, columns = index[1:-1].split(",", 1)
        at = np.ix_(self._rows(table, rows), self._columns(table, columns))
        new = self._value(value)
        target = self.tables[table]
        if np.ndim(new) and np.shape(new) != target[at].shape:
            raise self.refused()
        target[at] = new

    # ------------------------------------------------------------------------ expressions

    def _rows(self, table: str, text: str) -> list[int]:
        return self._positions(text, len(self.tables[table]))

    def _columns(self, table: str, text: str) -> list[int]:
        return self._positions(text, self.tables[table].shape[1])

    def _positions(self, text: str, size: int) -> list[int]:
        """Positions counted from 0 of `:`, a number, a name, a range or a list of them."""
        found: list[int] = []
        for part in re.split(r"[\s,]+", text.strip().strip("[]").strip()):
            if part == ":":
                found += range(1, size + 1)
                continue
            ends = [self._position(end, size) for end in part.split(":")]
            if len(ends) > 2:
                raise self.refused()
            found += range(ends[0], ends[-1] + 1)
        if not found or min(found) < 1 or max(found) > size:
            raise self.refused()
        return [one - 1 for one in found]

    def _position(self, text: str, size: int) -> int:
        number = {"end": size, **COLUMNS, **self.variables}.get(text, text)
        try:
            return int(number)
        except (TypeError, ValueError):
            raise self.refused() from None

    def _value(self, text: str) -> Any:
        """A number or an array of columns."""
        if NO_NUMBER.search(text):
            raise self.refused()
        plain = COLUMN_REFERENCE.sub(lambda m: f"_columns({m[1]!r}, {m[2]!r}, {m[3]!r})", text)
        plain = plain.replace("mpc.baseMVA", "baseMVA").replace(".*", "@").replace("./", "//")
        plain = plain.replace(".^", "**").replace("^", "**")  # of arrays neither is read
        try:
            tree = ast.parse(plain.strip(), mode="eval").body
            with np.errstate(all="raise"):
                return self._evaluate(tree)
        except (SyntaxError, ValueError, ArithmeticError, RecursionError, MemoryError, TypeError):
            raise self.refused() from None

    def _evaluate(self, node: ast.expr) -> Any:
        match node:
            case ast.Constant(value=int() | float() as number):
                return float(number)
            case ast.Name(id=name) if name in self.variables or name == "pi":
                return np.pi if name == "pi" and "pi" not in self.variables else self.variables[name]
            case ast.UnaryOp(op=ast.USub() | ast.UAdd() as sign, operand=inner):
                return self._evaluate(inner) * (-1.0 if isinstance(sign, ast.USub) else 1.0)
            case ast.BinOp(op=ast.Pow(), right=ast.BinOp(op=ast.Pow()) | ast.UnaryOp(operand=ast.BinOp(op=ast.Pow()))):
                raise self.refused()  # MATLAB raises from left to right, Python from right to left
            case ast.BinOp(left=left, op=op, right=right) if type(op) in OPERATORS:
                return self._combined(op, self._evaluate(left), self._evaluate(right))
            case ast.Call(func=ast.Name(id="_columns"), args=[table, rows, columns]):
                return self._at(*(one.value for one in (table, rows, columns)))
            case ast.Call(func=ast.Name(id=name), args=[inner], keywords=[]) if name in FUNCTIONS:
                return FUNCTIONS[name](self._evaluate(inner))
        raise self.refused()

    def _at(self, table: str, rows: str, columns: str) -> Any:
        if table not in self.tables:
            raise self.refused()
        at = np.ix_(self._rows(table, rows), self._columns(table, columns))
        found = self.tables[table][at]
        return float(found[0, 0]) if found.size == 1 else found

    def _combined(self, op: ast.operator, left: Any, right: Any) -> Any:
        function, kind = OPERATORS[type(op)]
        arrays = [bool(np.ndim(one)) for one in (left, right)]
        matrix = kind == SCALAR and (all(arrays) if isinstance(op, ast.Mult) else arrays[1])
        if matrix or (isinstance(op, ast.Pow) and any(arrays)):
            raise self.refused()
        if all(arrays) and left.shape != right.shape:
            raise self.refused()
        return function(left, right)


def read_matpower_script(path: Path) -> MatpowerTables:
    """The tables of a MATPOWER case script, after the conversions that it makes. InputError names file and line."""
    text = read_text(path)
    script = _Script(path)
    statements = list(_statements(text))
    if not statements or not re.match(r"^function\s+(mpc|\[?\s*\w+)", statements[0][1]):
        raise InputError(f"{path}: is no MATPOWER case, expected 'function mpc = NAME' in its first statement")
    if not re.match(r"^function\s+mpc\s*=", statements[0][1]):
        raise InputError(
            f"{path}: is a MATPOWER case of version 1 or another function, expected version 2 ('function mpc = NAME'); "
            + script.how()
        )
    for line, statement in takewhile(lambda one: one[1] not in LAST, statements[1:]):
        script.run(line, statement)
    return _checked(script)


def _checked(script: _Script) -> MatpowerTables:
    base, path = script.variables.get("baseMVA"), script.path
    if script.version and script.version != "2":
        raise InputError(f"{path}: mpc.version is '{script.version}', expected '2'; {script.how()}")
    if base is None:
        raise InputError(f"{path}: mpc.baseMVA is missing, expected a number above 0")
    for name in ("bus", "branch", "gen"):
        if len(script.tables.get(name, ())) == 0:
            raise InputError(f"{path}: mpc.{name} is missing or empty, expected a table of numbers")
    return MatpowerTables(base, script.tables)


def _statements(text: str) -> Iterator[tuple[int, str]]:
    """(line, statement) without comments; a table is one statement, whatever lines it takes."""
    statement, begin, depth = "", 0, 0
    for number, line in _plain_lines(text):
        for piece in re.split(r"([\[\]{}();,])", line):
            if not statement.strip():
                begin = number
            depth += (piece in ("[", "{", "(")) - (piece in ("]", "}", ")"))
            if piece in (";", ",") and depth <= 0:
                if statement.strip():
                    yield begin, statement.strip()
                statement = ""
            else:
                statement += piece
        if depth > 0:
            statement += "\n"
        elif statement.strip():
            yield begin, statement.strip()
            statement = ""
    if statement.strip():
        yield begin, statement.strip()


def _plain_lines(text: str) -> Iterator[tuple[int, str]]:
    """(line, text) without comments and with the text of quotations left out, continued lines joined."""
    joined, first, blocks = "", 0, 0
    for number, line in enumerate(text.splitlines(), 1):
        if line.strip() in ("%{", "#{"):
            blocks += 1
        elif line.strip() in ("%}", "#}"):
            blocks = max(blocks - 1, 0)
            continue
        if blocks:
            continue
        plain = re.split(r"[%#]", QUOTED.sub(_without_marks, line), maxsplit=1)[0]
        first = first if joined else number
        if "..." in plain:
            joined += plain.partition("...")[0] + " "
            continue
        yield first, joined + plain
        joined = ""
    if joined:
        yield first, joined


def _without_marks(quotation: re.Match[str]) -> str:
    return "'" + re.sub(r"[^\w. -]", "", quotation[0]) + "'"
