"""Nests of values as one text and some arrays, and back: what a checkpoint is made of. Nothing in it is ever executed.

Numbers, texts, enums, arrays, sparse matrices (CSC), lists, tuples, sets, mappings, and objects of Tieline's own
classes by their attributes. An object comes back without its constructor being called, and its class is looked up
only where it is loaded already.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping, Sequence
from enum import Enum
from typing import Any

import numpy as np

from admm.errors import InputError
from admm.fits import check_fields

PACKAGES = ("admm", "subproblems", "networks")
NESTS = {"list": list, "tuple": tuple, "set": set}
PLAIN = (bool, int, float, str, type(None))
LARGEST = 1 << 53
"""Whole numbers that a float holds, too."""


def pack_values(value: Any) -> tuple[str, list[np.ndarray]]:
    """A nest of values as JSON, in which each array is a number, and these arrays. Floats keep every bit.

    Raises InputError where a value is of no kind that can be kept.
    """
    arrays: list[np.ndarray] = []
    return json.dumps(_packed(value, arrays, "")), arrays


def unpack_values(text: str, arrays: list[np.ndarray]) -> Any:
    """What was packed. Raises InputError where text or arrays are not what `pack_values` gives."""
    try:
        return _unpacked(json.loads(text, parse_constant=_refuse), arrays)
    except (ValueError, LookupError, TypeError, AttributeError, ArithmeticError, RecursionError, MemoryError) as error:
        raise InputError(f"what was kept cannot be read ({type(error).__name__}: {error})") from None


def _packed(value: Any, arrays: list[np.ndarray], where: str) -> Any:
    if isinstance(value, Enum):
        return {"enum": _name_of(type(value), where), "value": value.name}
    if isinstance(value, np.generic):
        value = value.item()
    if isinstance(value, PLAIN):
        return value
    if isinstance(value, np.ndarray):
        if value.dtype.kind not in "biuf":
            raise InputError(f"{where}: an array of type {value.dtype} cannot be kept, expected numbers")
        arrays.append(value)
        return {"array": len(arrays) - 1}
    if getattr(value, "format", None) == "csc":
        parts = [_packed(part, arrays, where) for part in (value.data, value.indices, value.indptr)]
        return {"csc": parts, "shape": list(value.shape)}
    if isinstance(value, type):
        return {"class": _name_of(value, where)}
    return _packed_nest(value, arrays, where)


def _packed_nest(value: Any, arrays: list[np.ndarray], where: str) -> Any:
    def inner(part: Any, name: Any) -> Any:
        return _packed(part, arrays, f"{where}.{name}" if where else str(name))

    if isinstance(value, tuple) and hasattr(value, "_asdict"):
        return {"tuple of": _name_of(type(value), where), "with": {k: inner(v, k) for k, v in value._asdict().items()}}
    if isinstance(value, (list, tuple)):
        return {type(value).__name__: [inner(part, i) for i, part in enumerate(value)]}
    if isinstance(value, set):
        return {"set": [inner(part, i) for i, part in enumerate(sorted(value, key=str))]}
    if isinstance(value, Mapping):
        return {"dict": [[inner(key, "key"), inner(part, key)] for key, part in value.items()]}
    return {"object": _name_of(type(value), where), "with": {k: inner(v, k) for k, v in vars(value).items()}}


def _unpacked(packed: Any, arrays: list[np.ndarray]) -> Any:
    if isinstance(packed, int) and abs(packed) > LARGEST:
        raise ValueError("a whole number is too large")
    if isinstance(packed, PLAIN):
        return packed
    kind = next(iter(packed), None)
    content = packed[kind]
    if kind == "array":
        return arrays[content]
    if kind == "csc":
        return _matrix([_unpacked(part, arrays) for part in content], packed["shape"])
    if kind == "enum":
        return _class_of(content)[packed["value"]]
    if kind == "class":
        return _class_of(content)
    if kind in NESTS:
        return NESTS[kind](_unpacked(part, arrays) for part in content)
    if kind == "dict":
        return {_unpacked(key, arrays): _unpacked(part, arrays) for key, part in content}
    attributes = {name: _unpacked(part, arrays) for name, part in packed["with"].items()}
    return _made(_class_of(content), kind, attributes)


def _made(cls: type, kind: str, attributes: dict[str, Any]) -> Any:
    check_fields(cls, attributes)
    if kind == "tuple of" and issubclass(cls, tuple):
        return cls(**attributes)
    if kind != "object":
        raise ValueError(f"the kind '{kind}' is unknown")
    made = object.__new__(cls)
    made.__dict__.update(attributes)
    return made


def _matrix(parts: list[np.ndarray], shape: Sequence[int]) -> Any:
    """A sparse matrix whose positions lie within it: solvers read them as they stand."""
    from scipy.sparse import csc_matrix  # the engine does without scipy

    made = csc_matrix(tuple(parts), tuple(shape))
    made.check_format(full_check=True)
    return made


def _refuse(word: str) -> float:
    if word == "NaN":
        raise ValueError("a number is NaN")
    return float(word)


def _name_of(cls: type, where: str) -> str:
    if cls.__module__.partition(".")[0] not in PACKAGES:
        raise InputError(
            f"{where}: a {cls.__module__}.{cls.__qualname__} cannot be kept in a checkpoint, expected numbers, texts, "
            "arrays, and lists, tuples and dicts of them; or run without checkpoints"
        )
    return f"{cls.__module__}:{cls.__qualname__}"


def _class_of(name: str) -> type:
    module, _, qualified = name.partition(":")
    if module.partition(".")[0] not in PACKAGES or module not in sys.modules:
        raise ValueError(f"'{name}' is no class that this run uses")
    found: Any = sys.modules[module]
    for part in qualified.split("."):
        found = getattr(found, part)
    if not isinstance(found, type):
        raise ValueError(f"'{name}' is no class")
    return found
