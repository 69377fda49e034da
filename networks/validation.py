"""Reading input files: every mistake becomes one InputError that names file, key, value and what to try."""

from __future__ import annotations

import difflib
import tomllib
import types
import typing
from pathlib import Path
from typing import Any, TypeVar

from pydantic import BaseModel, ValidationError

from admm import InputError

Model = TypeVar("Model", bound=BaseModel)


def read_toml(path: Path) -> dict[str, Any]:
    """The file's content; InputError if it is missing, unreadable or no TOML."""
    try:
        with path.open("rb") as file:
            return tomllib.load(file)
    except FileNotFoundError:
        raise InputError(f"{path}: file not found; {_nearby(path)}") from None
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"{path}: cannot be read ({error}); check its permissions and that it is a text file") from None
    except tomllib.TOMLDecodeError as error:
        raise InputError(f"{path}: is not valid TOML: {error}") from None


def _nearby(path: Path) -> str:
    if not path.parent.is_dir():
        return f"there is no folder {path.parent}"
    close = difflib.get_close_matches(path.name, [p.name for p in path.parent.iterdir()], n=1)
    return f"did you mean '{close[0]}'?" if close else f"check the name, or create it in {path.parent}"


def parse(model: type[Model], data: Any, where: str | Path) -> Model:
    """The data as a checked model; InputError for the first thing that is wrong with it."""
    try:
        return model.model_validate(data)
    except ValidationError as error:
        raise InputError(f"{where}: {_words(model, error.errors()[0])}") from None


def _words(model: type[BaseModel], problem: dict[str, Any]) -> str:
    location = _without_tags(model, problem["loc"])
    key = ".".join(str(part) for part in location) or "the file"
    if problem["type"] == "extra_forbidden":
        return _unknown_key(model, list(problem["loc"]), key)
    if problem["type"] == "missing":
        return f"key '{key}' is missing; add it"
    found = problem.get("input")
    shown = f" = {found!r}" if not isinstance(found, (dict, list)) else ""
    return f"key '{key}'{shown}: {problem['msg']}"


def _without_tags(model: type[BaseModel], location: tuple[Any, ...]) -> list[Any]:
    """The location as keys of the file: pydantic adds the tag of a union, such as 'battery', after an index."""
    kept: list[Any] = []
    for position, part in enumerate(location):
        fields = _fields_at(model, list(location[:position]))
        after_index = position > 0 and isinstance(location[position - 1], int)
        last_unknown = position == len(location) - 1
        if isinstance(part, str) and after_index and part not in fields and not last_unknown:
            continue
        kept.append(part)
    return kept


def _unknown_key(model: type[BaseModel], location: list[Any], key: str) -> str:
    known = sorted(_fields_at(model, location[:-1]))
    close = difflib.get_close_matches(str(location[-1]), known, n=1, cutoff=0.5)
    hint = f"did you mean '{close[0]}'?" if close else f"expected one of: {', '.join(known)}"
    return f"unknown key '{key}'; {hint}"


def _fields_at(model: Any, location: list[Any]) -> set[str]:
    """Names of the fields of the model at a location; of all members where there is a union."""
    models = _models_in(model)
    for part in location:
        if isinstance(part, int):
            continue
        fields = [m.model_fields[part].annotation for m in models if part in m.model_fields]
        if fields:
            models = [inner for annotation in fields for inner in _models_in(annotation)]
        else:  # the tag of a union
            models = [m for m in models if _tag_of(m) == part] or models
    return {field.alias or name for m in models for name, field in m.model_fields.items()}


def _tag_of(model: type[BaseModel]) -> Any:
    field = model.model_fields.get("kind")
    return None if field is None else (typing.get_args(field.annotation) or (field.default,))[0]


def _models_in(annotation: Any) -> list[type[BaseModel]]:
    """All models inside an annotation such as list[Annotated[Battery | Pv, ...]]."""
    if isinstance(annotation, type) and not isinstance(annotation, types.GenericAlias):
        return [annotation] if issubclass(annotation, BaseModel) else []
    return [model for part in typing.get_args(annotation) for model in _models_in(part)]
