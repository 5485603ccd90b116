"""The JSON encoding of OTLP: lists of keys and typed values, and records nested in resources and scopes."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any


def attributes(listed: Any) -> dict[str, Any]:
    """Keys and plain values of a list of ``{key, value: {stringValue: …}}``."""
    entries = listed if isinstance(listed, list) else []
    return {str(entry["key"]): _plain(entry.get("value")) for entry in entries if isinstance(entry, dict) and "key" in entry}


def _plain(value: Any) -> Any:
    if not isinstance(value, dict) or not value:
        return value
    kind, inner = next(iter(value.items()))
    if kind == "arrayValue":
        return [_plain(each) for each in (inner or {}).get("values") or ()]
    if kind == "kvlistValue":
        return attributes((inner or {}).get("values"))
    return inner


def nested(value: dict[str, Any], outer: str, scopes: Sequence[str], records: str) -> Iterator[tuple[dict[str, Any], dict[str, Any]]]:
    """Each record with the attributes of its resource."""
    for group in _objects(value.get(outer)):
        resource = group.get("resource")
        of_resource = attributes(resource.get("attributes")) if isinstance(resource, dict) else {}
        for name in scopes:
            for scope in _objects(group.get(name)):
                for record in _objects(scope.get(records)):
                    yield of_resource, record


def _objects(listed: Any) -> list[dict[str, Any]]:
    return [each for each in listed if isinstance(each, dict)] if isinstance(listed, list) else []
