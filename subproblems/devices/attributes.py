"""Attributes as data: each stands once, with unit, bounds, default and words, for validation and for the docs.

Any model made from bad data raises InputError with one message: where, key, value found, what was expected.
"""

from __future__ import annotations

import difflib
import math
from datetime import date, time
from typing import Annotated, Any, ClassVar

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationError

from admm import InputError
from subproblems.devices.sizes import NOT_TINY, SENSIBLE, expected, is_sensible, is_tiny, unit_by_name


class Attributes(BaseModel):
    """Base of all models that are read from files. label: what messages call such a thing."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)
    label: ClassVar[str] = "entry"

    def __init__(self, /, **data: Any) -> None:
        for key, value in data.items():
            unit = unit_of(type(self).model_fields.get(key)) or unit_by_name(key)
            wanted = expected(unit) if not is_sensible(value, unit) else NOT_TINY if is_tiny(value) else ""
            if wanted:
                raise InputError(f"{_where(type(self), data)}: {key} is {_digits(value)}, expected {wanted}")
        try:
            super().__init__(**data)
        except ValidationError as error:
            raise InputError(_message(type(self), data, error)) from None


def _digits(value: float) -> str:
    """Whole numbers of thousands of digits have no text."""
    return f"{float(value):g}" if isinstance(value, float) or abs(value) < 2**1000 else "a number of hundreds of digits"


def _check_series(value: Any) -> float | str:
    number_or_name = isinstance(value, (int, float, str)) and not isinstance(value, bool) and value != ""
    if number_or_name and not is_sensible(value):
        raise ValueError(f"expected {SENSIBLE}")
    if not number_or_name or (not isinstance(value, str) and not math.isfinite(value)):
        raise ValueError("expected a finite number or the name of a column")
    return value if isinstance(value, str) else float(value)


Series = Annotated[float | str, BeforeValidator(_check_series)]
"""A value a period: a number that holds for all, or the name of a column."""
Name = Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9_-]*$", max_length=64)]
"""Letters, digits, "_" and "-": names become parts of variable names and of paths in result files."""


LONGEST_SHOWN = 60
"""Characters of a text that a message quotes."""
WANTED = {
    "string_pattern_mismatch": "letters, digits, '_' and '-', with a letter or digit first",
    "datetime_type": "a date and time such as 2016-01-14T00:00:00Z, without quotes",
    "string_type": "text",
    "bool_type": "true or false",
    "int_type": "a whole number",
    "float_type": "a number",
    "model_type": "a table",
    "dict_type": "a table",
    "list_type": "a list",
    "tuple_type": "a list",
    "too_short": "at least one entry",
}
"""What was expected instead, in words of the file; other errors have words of their own."""


def number(description: str, unit: str, default: Any = ..., **bounds: float) -> Any:
    """A field that is one number. bounds: ge, gt, le, lt. No text and no booleans pass."""
    return Field(default, description=description, strict=True, json_schema_extra={"unit": unit}, **bounds)


def series(description: str, unit: str, default: Any = ..., ge: float | None = None, le: float | None = None) -> Any:
    """A field that is a number or the name of a column; its bounds hold in every period."""
    return Field(default, description=description, json_schema_extra={"unit": unit, "ge": ge, "le": le})


def choice(description: str, default: str) -> Any:
    """A field that is one of a few words; its type says which."""
    return Field(default, description=description, json_schema_extra={"unit": ""})


def flag(description: str, default: bool) -> Any:
    return Field(default, description=description, strict=True, json_schema_extra={"unit": ""})


def _message(model: type[Attributes], data: dict[str, Any], error: ValidationError) -> str:
    """The first error in words, and how many more there are; a misspelt key before the one that it leaves missing."""
    errors = sorted(error.errors(include_url=False), key=lambda found: found["type"] != "extra_forbidden")
    more = f" (and {len(errors) - 1} more in the same place)" if len(errors) > 1 else ""
    return f"{_where(model, data)}: {_in_words(model, errors[0])}{more}"


def _where(model: type[Attributes], data: dict[str, Any]) -> str:
    name = data.get("name")
    return f"{model.label} '{name}'" if isinstance(name, str) and len(name) <= LONGEST_SHOWN else model.label


def _in_words(model: type[Attributes], error: dict[str, Any]) -> str:
    path, key = _path(error), str(error["loc"][-1]) if error["loc"] else ""
    if error["type"] == "extra_forbidden":
        return f"unknown key '{key}'" + _suggestion(key, model.model_fields)
    if error["type"] == "missing":
        return f"key '{key}' is missing, expected: {_expected(model, key)}"
    if error["type"] == "union_tag_not_found":
        return f"{path}: key 'kind' is missing; add what kind of thing it is"
    if error["type"] == "union_tag_invalid":
        found = error["ctx"]["tag"]
        return f"{path}: unknown kind '{found}'" + _suggestion(found, _known(error))
    inner = error.get("ctx", {}).get("error")
    if isinstance(inner, InputError) or (inner is not None and not error["loc"]):
        return str(inner)
    return f"{path} is {_shown(error['input'])}, expected {_wanted(error)}"


def _path(error: dict[str, Any]) -> str:
    """Where in the file: "classes", or "entry 3 of devices", with the entry's name where it has one."""
    path = ""
    for part in error["loc"]:
        path = f"entry {part + 1} of {path}" if isinstance(part, int) else f"{path}.{part}" if path else str(part)
    found = error["input"]
    named = isinstance(found, dict) and isinstance(found.get("name"), str)
    return f"{path} ('{found['name']}')" if named else path


def _known(error: dict[str, Any]) -> list[str]:
    """The kinds that a union knows."""
    return error["ctx"]["expected_tags"].replace("'", "").split(", ")


def _shown(value: Any) -> str:
    """The value found; of a table or a list only that it is one, since it may be long."""
    if isinstance(value, date | time):
        return value.isoformat()
    if isinstance(value, str) and len(value) > LONGEST_SHOWN:
        return f"{value[:LONGEST_SHOWN]!r}... ({len(value)} characters)"
    return "a table" if isinstance(value, dict) else "a list" if isinstance(value, list) and value else repr(value)


def _wanted(error: dict[str, Any]) -> str:
    if error["type"] == "string_too_long":
        return f"at most {error['ctx']['max_length']} characters"
    if error["type"] in WANTED:
        return WANTED[error["type"]]
    return error["msg"].removeprefix("Value error, ").removeprefix("expected ").removeprefix("Input should be ")


def _expected(model: type[Attributes], key: str) -> str:
    field = model.model_fields.get(key)
    if field is None:
        return "a value"
    unit = unit_of(field)
    return f"{field.description}{f' ({unit})' if unit else ''}"


def _suggestion(word: str, known: Any) -> str:
    close = difflib.get_close_matches(word, list(known), n=1)
    return f"; did you mean '{close[0]}'?" if close else f"; known are {', '.join(known)}"


def unit_of(field: Any) -> str:
    return (getattr(field, "json_schema_extra", None) or {}).get("unit", "")
