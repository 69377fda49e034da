"""The attributes of models as Markdown tables, from the same data that validation reads."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pydantic.fields import FieldInfo

from subproblems.devices.attributes import Attributes, unit_of
from subproblems.devices.sizes import unit_by_name

BOUND_SIGNS = {"ge": ">=", "gt": ">", "le": "<=", "lt": "<"}
HEADER = "| attribute | unit | default | bounds | meaning |\n| --- | --- | --- | --- | --- |"


def attribute_tables(models: Mapping[str, type[Attributes]]) -> str:
    """One table a model, under its heading."""
    return "\n".join(f"### {heading}\n\n{_table(model)}\n" for heading, model in models.items())


def _table(model: type[Attributes]) -> str:
    rows = [_row(name, field) for name, field in model.model_fields.items() if name != "kind"]
    return "\n".join([HEADER, *rows])


def _row(name: str, field: FieldInfo) -> str:
    meaning = field.description or "its name in messages and results"
    if (field.json_schema_extra or {}).keys() >= {"ge", "le"}:
        meaning += " (number or column)"
    unit = unit_of(field) or unit_by_name(name)
    return f"| `{name}` | {unit} | {_default(field)} | {_bounds(field)} | {meaning} |"


def _default(field: FieldInfo) -> str:
    if field.is_required():
        return "required"
    value: Any = field.default
    if isinstance(value, bool):
        return str(value).lower()
    return f"{value:g}" if isinstance(value, (int, float)) else str(value) if isinstance(value, str) else "none"


def _bounds(field: FieldInfo) -> str:
    found = []
    for key, sign in BOUND_SIGNS.items():
        values = [(field.json_schema_extra or {}).get(key), *(getattr(data, key, None) for data in field.metadata)]
        found += [f"{sign} {value:g}" for value in values if value is not None]
    return ", ".join(found)
