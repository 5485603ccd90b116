"""A JSON Schema for the labels that a user's file has: a first draft, strict, for a person to read."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable, Mapping
from typing import Any

from redistill.data.grammars.json_text import value_in
from redistill.errors import DataError

_MOST_VALUES, _LONGEST_VALUE = 50, 40
"""A text with more, or longer, different values is no list of choices."""


def objects(labels: Iterable[str]) -> int:
    """How many of the labels are JSON objects."""
    return sum(map(_is_object, labels))


def _is_object(label: str) -> bool:
    try:
        return isinstance(value_in(label), dict)
    except DataError:
        return False


def inferred(labels: Mapping[str, int]) -> dict[str, Any]:
    """The schema of labels that are JSON objects. ``labels`` says how often each occurs."""
    return _of([(json.loads(label), count) for label, count in labels.items()])


def _of(values: list[tuple[Any, int]]) -> dict[str, Any]:
    kinds = sorted({_kind(value) for value, _ in values})
    if "number" in kinds and "integer" in kinds:
        kinds.remove("integer")
    schema: dict[str, Any] = {"type": kinds[0] if len(kinds) == 1 else kinds}
    if kinds == ["string"] and (choices := _choices(values)):
        return {"enum": choices}
    if mappings := [(value, count) for value, count in values if isinstance(value, dict)]:
        keys = list(dict.fromkeys(key for value, _ in mappings for key in value))
        schema["properties"] = {key: _of([(value[key], count) for value, count in mappings if key in value]) for key in keys}
        schema["required"] = [key for key in keys if all(key in value for value, _ in mappings)]
        schema["additionalProperties"] = False
    if items := [(item, count) for value, count in values if isinstance(value, list) for item in value]:
        schema["items"] = _of(items)
    return schema


def _kind(value: Any) -> str:
    if value is None:
        return "null"
    if isinstance(value, bool):
        return "boolean"
    names: list[tuple[type, str]] = [(str, "string"), (int, "integer"), (float, "number"), (dict, "object"), (list, "array")]
    return next(name for kind, name in names if isinstance(value, kind))


def _choices(values: list[tuple[Any, int]]) -> list[str]:
    """The values of a text that has few of them, each of which repeats; none for other text."""
    counts = Counter[str]()
    for value, count in values:
        counts[value] += count
    few = len(counts) <= min(_MOST_VALUES, counts.total() / 3)
    return sorted(counts) if few and all(len(value) <= _LONGEST_VALUE for value in counts) else []
