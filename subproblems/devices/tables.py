"""The attributes of models as Markdown tables, from the same data that validation reads."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from pydantic.fields import FieldInfo

from subproblems.devices.attributes import Attributes, unit_of

BOUND_SIGNS = {"ge": ">=", "gt": ">", "le": "<=", "lt": "<"}
HEADER = "| attribute | unit | default | bounds | meaning |\n| --- | --- | --- | --- | --- |"


def attribute_tables(models: Iterable[type[Attributes]]) -> str:
    """One headed table a model."""
    return "\n".join(f"### {model.label}\n\n{_table(model)}\n" for model in models)


def _table(model: type[Attributes]) -> str:
    rows = [_row(name, field) for name, field in model.model_fields.items() if name != "kind"]
    return "\n".join([HEADER, *rows])


def _row(name: str, field: FieldInfo) -> str:
    meaning = field.description or "its name in messages and results"
    if (field.json_schema_extra or {}).keys() >= {"ge", "le"}:
        meaning += " (number or column)"
    return f"| `{name}` | {unit_of(field)} | {_default(field)} | {_bounds(field)} | {meaning} |"


def _default(field: FieldInfo) -> str:
    if field.is_required():
        return "required"
    value: Any = field.default
    return "none" if value is None else str(value).lower() if isinstance(value, bool) else f"{value:g}"


def _bounds(field: FieldInfo) -> str:
    found = []
    for key, sign in BOUND_SIGNS.items():
        values = [(field.json_schema_extra or {}).get(key), *(getattr(data, key, None) for data in field.metadata)]
        found += [f"{sign} {value:g}" for value in values if value is not None]
    return ", ".join(found)
