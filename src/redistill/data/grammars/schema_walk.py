"""What a JSON Schema says of the parts of a value: the keys of objects, the items of lists, and the leaves with their listed values.

Only keywords that say which parts there are count here. Whether a value is valid is judged by the library ``jsonschema``.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Any
from urllib.parse import unquote

_DEEPEST = 8
"""Levels of a schema that refers to itself."""
_MOST_LEAVES, _MOST_VISITS = 200, 2000
_ANY_KEY = "\0"
"""Stands in a path for keys that the schema does not name. No key of a schema in YAML contains it."""


@dataclass(frozen=True, slots=True)
class Leaf:
    """A part of a value that has no parts. ``path`` is empty for the root; ``values`` are those that the schema lists, none if it lists none."""

    path: str
    values: tuple[Any, ...]


def leaves(root: Any) -> tuple[Leaf, ...]:
    """The first 200 leaves that a schema names, in its order: what people are shown. A schema that refers to itself has no end."""
    named = dict[str, Leaf]()
    for path, schemas in islice(_places([root], root, "", 0), _MOST_VISITS):
        values = listed(schemas, root)
        if _ANY_KEY not in path and (values or not (_names_keys(schemas, root) or item_schemas(schemas, root))):
            named.setdefault(path, Leaf(path, values))
        if len(named) == _MOST_LEAVES:
            break
    return tuple(named.values())


def lists_values(root: Any) -> bool:
    """Whether the schema lists the values of any part, also of parts whose keys it does not name."""
    return any(listed(schemas, root) for _, schemas in islice(_places([root], root, "", 0), _MOST_VISITS))


def named_keys(schemas: Sequence[Any], root: Any) -> list[str]:
    """The keys that the schemas of an object name, in their order."""
    return list(dict.fromkeys(key for schema in _applying(schemas, root) for key in schema.get("properties", {})))


def value_schemas(schemas: Sequence[Any], root: Any, key: str) -> list[Any]:
    """The schemas of the value of a key: by its name, by a pattern of it, or those of all keys that have neither."""
    inner = list[Any]()
    for schema in _applying(schemas, root):
        matching = [schema["properties"][key]] if key in schema.get("properties", {}) else []
        matching += [each for pattern, each in schema.get("patternProperties", {}).items() if re.search(pattern, key)]
        inner += matching or [schema.get("additionalProperties")]
    return inner


def item_schemas(schemas: Sequence[Any], root: Any) -> list[Any]:
    """The schemas of a list's items."""
    inner = list[Any]()
    for schema in _applying(schemas, root):
        inner += [each for name in ("items", "contains") if isinstance(each := schema.get(name), dict)]
        inner += [each for name in ("prefixItems", "items") if isinstance(several := schema.get(name), list) for each in several]
    return inner


def listed(schemas: Sequence[Any], root: Any) -> tuple[Any, ...]:
    """The single values that the schemas list by ``enum``, ``const`` or ``boolean``; none where they list none."""
    values = [value for schema in _applying(schemas, root) for value in _listed(schema)]
    # By their JSON text: to Python, 1 and true are equal.
    return tuple({json.dumps(value): value for value in values}.values())


def pointed_at(reference: str, root: Any) -> Any:
    """What a reference within a schema, such as ``#/$defs/address``, points at.

    Raises:
        LookupError: nothing is there, or the reference leaves the schema.
    """
    if not reference.startswith("#/") and reference != "#":
        raise LookupError(reference)
    target = root
    for part in reference.removeprefix("#").split("/")[1:]:
        key = unquote(part).replace("~1", "/").replace("~0", "~")
        target = target[int(key)] if isinstance(target, list) and key.isdigit() else target[key]
    return target


def _applying(schemas: Sequence[Any], root: Any) -> Iterator[dict[str, Any]]:
    """These schemas, and all that apply to the same value through them."""
    waiting, seen = list(schemas), set[int]()
    while waiting:
        schema = waiting.pop(0)
        if not isinstance(schema, dict) or id(schema) in seen:
            continue
        seen.add(id(schema))
        yield schema
        if "$ref" in schema:
            waiting.append(pointed_at(schema["$ref"], root))
        waiting += [each for name in ("allOf", "anyOf", "oneOf") for each in schema.get(name, ())]
        waiting += [schema[name] for name in ("then", "else") if name in schema]


def _names_keys(schemas: Sequence[Any], root: Any) -> bool:
    return any(schema.get("properties") for schema in _applying(schemas, root))


def _unnamed_schemas(schemas: Sequence[Any], root: Any) -> list[Any]:
    inner = list[Any]()
    for schema in _applying(schemas, root):
        inner += [
            each for each in (*schema.get("patternProperties", {}).values(), schema.get("additionalProperties")) if isinstance(each, dict)
        ]
    return inner


def _places(schemas: Sequence[Any], root: Any, path: str, depth: int) -> Iterator[tuple[str, Sequence[Any]]]:
    yield path, schemas
    if depth == _DEEPEST:
        return
    for key in named_keys(schemas, root):
        yield from _places(value_schemas(schemas, root, key), root, f"{path}.{key}" if path else key, depth + 1)
    if others := _unnamed_schemas(schemas, root):
        yield from _places(others, root, f"{path}.{_ANY_KEY}", depth + 1)
    if items := item_schemas(schemas, root):
        yield from _places(items, root, f"{path}[]", depth + 1)


def _listed(schema: dict[str, Any]) -> list[Any]:
    values = [*schema.get("enum", ()), *([schema["const"]] if "const" in schema else ())]
    kinds = schema.get("type", ())
    if "boolean" in ([kinds] if isinstance(kinds, str) else kinds):
        values += [True, False]
    return [value for value in values if not isinstance(value, dict | list)]
