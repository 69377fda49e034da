"""Whether values that were read are of the kind that a program expects: a file may say anything.

`check_like` compares with values that the program has itself; `check_fields` with what a class says of its fields.
"""

from __future__ import annotations

import math
import types
from collections.abc import Mapping, Sequence
from dataclasses import fields, is_dataclass
from enum import Enum
from functools import cache
from typing import Any, Union, get_args, get_origin, get_type_hints

import numpy as np


def check_like(found: Any, own: Any, where: str) -> None:
    """Raise ValueError, saying where, unless `found` is of the kind of `own`: classes, names, shapes, finite numbers.

    What is None or empty in `own` says nothing: there, `found` may be anything, or any list or mapping.
    """
    if own is None:
        return
    if isinstance(own, (float, int)) and not isinstance(own, bool):
        _check_number(found, own, where)
        return
    if type(found) is not type(own) and not (isinstance(own, Mapping) and isinstance(found, Mapping)):
        raise ValueError(f"{where} is {type(found).__name__}, expected {type(own).__name__}")
    if isinstance(own, np.ndarray):
        check_array(found, own.shape, where, own.dtype.kind, infinite=not np.isfinite(own).all())
    elif isinstance(own, (Mapping, list, tuple)) or (hasattr(own, "__dict__") and not isinstance(own, (Enum, type))):
        _check_parts(_parts(found), _parts(own), where)


def _check_number(found: Any, own: float, where: str) -> None:
    """A number stays one, or has become an array: sums of arrays begin as 0."""
    if isinstance(found, np.ndarray):
        check_array(found, found.shape, where, infinite=not math.isfinite(own))
    elif not isinstance(found, (float, int)) or isinstance(found, bool):
        raise ValueError(f"{where} is {type(found).__name__}, expected a number")
    elif math.isfinite(own) and not math.isfinite(found):
        raise ValueError(f"{where} is not a finite number")


def check_array(found: Any, shape: tuple[int, ...], where: str, kind: str = "f", infinite: bool = False) -> None:
    """Raise ValueError unless it is an array of this shape and dtype's kind, of numbers, or of finite ones."""
    if not isinstance(found, np.ndarray) or found.shape != shape or found.dtype.kind != kind:
        it = f"{found.dtype} {found.shape}" if isinstance(found, np.ndarray) else type(found).__name__
        raise ValueError(f"{where} is {it}, expected an array {shape}")
    if np.isnan(found).any() or not (infinite or np.isfinite(found).all()):
        raise ValueError(f"{where} has a value that is not a finite number")


def _parts(value: Any) -> dict[Any, Any]:
    if isinstance(value, Mapping):
        return dict(value)
    if isinstance(value, (list, tuple)):
        return dict(enumerate(value))
    return vars(value)


def _check_parts(found: Mapping[Any, Any], own: Mapping[Any, Any], where: str) -> None:
    if not own:
        return
    if found.keys() != own.keys():
        odd = next(iter(found.keys() ^ own.keys()))
        raise ValueError(f"{where} has {'no' if odd in own else 'a'} {odd!r}, expected {len(own)} others")
    for key, part in own.items():
        check_like(found[key], part, f"{where}.{key}")


def check_fields(cls: type, attributes: Mapping[str, Any]) -> None:
    """Raise ValueError unless these are the fields of a dataclass or named tuple, of the kinds that it declares."""
    names = {one.name for one in fields(cls)} if is_dataclass(cls) else set(getattr(cls, "_fields", ()))
    if not names:
        return
    if attributes.keys() != names:
        raise ValueError(f"{cls.__name__} has no '{next(iter(attributes.keys() ^ names))}', or has one")
    for name, kind in _declared(cls).items():
        if name in names and not _is(attributes[name], kind):
            raise ValueError(f"{cls.__name__}.{name} is {type(attributes[name]).__name__}, expected {kind}")


@cache
def _declared(cls: type) -> dict[str, Any]:
    try:
        return get_type_hints(cls)
    except NameError:  # a class that is imported for the type checker only
        return {}


def _is(value: Any, kind: Any) -> bool:
    origin, inner = get_origin(kind), get_args(kind)
    if origin in (Union, types.UnionType):
        return any(_is(value, one) for one in inner)
    if kind is float:
        return isinstance(value, (float, int)) and not isinstance(value, bool)
    if kind is int:
        return isinstance(value, int) and not isinstance(value, bool)
    if origin is None:
        return not isinstance(kind, type) or isinstance(value, kind)
    if not (isinstance(origin, type) and isinstance(value, origin)):
        return False
    if issubclass(origin, Mapping):
        return all(_is(key, inner[0]) and _is(part, inner[1]) for key, part in value.items())
    if issubclass(origin, tuple) and inner[-1] is not Ellipsis:
        return len(value) == len(inner) and all(_is(*pair) for pair in zip(value, inner, strict=True))
    return not issubclass(origin, Sequence) or all(_is(part, inner[0]) for part in value)
