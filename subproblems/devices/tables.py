"""The attributes of models as Markdown tables, from the same data that validation reads."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pydantic.fields import FieldInfo

from subproblems.devices.attributes import Attributes, unit_of

UNITS = {"_pu": "pu", "_mva": "MVA", "_mvar": "Mvar", "_kw": "kW", "_ms": "ms", "_minutes": "min", "_hours": "h"}
UNITS |= {"_eur_per_mwh": "EUR/MWh", "_eur_per_mvar2h": "EUR/(Mvar^2 h)", "_eur_per_mw2h": "EUR/(MW^2 h)"}
"""Units by the end of a name, for fields that state no unit beside it."""
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
    unit = unit_of(field) or next((unit for end, unit in UNITS.items() if name.endswith(end)), "")
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
