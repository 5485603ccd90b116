"""What a JSON Schema says of the parts of a value: the keys of objects, the items of lists, and the leaves with their listed values.

Only keywords that say which parts there are count here. Whether a value is valid is judged by the library ``jsonschema``.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

_DEEPEST = 8
"""Levels of a schema that refers to itself."""
_MOST_LEAVES = 200


@dataclass(frozen=True, slots=True)
class Leaf:
    """A part of a value that has no parts. ``path`` is empty for the root; ``values`` are those that the schema lists, none if it lists none."""

    path: str
    values: tuple[Any, ...]


def leaves(root: Any) -> tuple[Leaf, ...]:
    """The first 200 leaves that a schema names, in its order."""
    named = dict[str, Leaf]()
    for leaf in _leaves([root], root, "", 0):
        named.setdefault(leaf.path, leaf)
        if len(named) == _MOST_LEAVES:
            break
    return tuple(named.values())


def key_schemas(schemas: Sequence[Any], root: Any) -> dict[str, list[Any]]:
    """For each key that the schemas of an object name: the schemas of its value."""
    keys = dict[str, list[Any]]()
    for schema in _applying(schemas, root):
        for key, inner in schema.get("properties", {}).items():
            keys.setdefault(key, []).append(inner)
    return keys


def item_schemas(schemas: Sequence[Any], root: Any) -> list[Any]:
    """The schemas of a list's items."""
    inner = list[Any]()
    for schema in _applying(schemas, root):
        inner += [each for name in ("items", "contains") if isinstance(each := schema.get(name), dict)]
        inner += [each for name in ("prefixItems", "items") if isinstance(several := schema.get(name), list) for each in several]
    return inner


def pointed_at(reference: str, root: Any) -> Any:
    """What a reference within a schema, such as ``#/$defs/address``, points at.

    Raises:
        LookupError: nothing is there, or the reference leaves the schema.
    """
    if not reference.startswith("#/") and reference != "#":
        raise LookupError(reference)
    target = root
    for part in reference.removeprefix("#").split("/")[1:]:
        key = part.replace("~1", "/").replace("~0", "~")
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


def _leaves(schemas: Sequence[Any], root: Any, path: str, depth: int) -> Iterator[Leaf]:
    keys, items = key_schemas(schemas, root), item_schemas(schemas, root)
    values = tuple(dict.fromkeys(value for schema in _applying(schemas, root) for value in _listed(schema)))
    if values or not (keys or items):
        yield Leaf(path, values)
    if depth < _DEEPEST:
        for key, inner in keys.items():
            yield from _leaves(inner, root, f"{path}.{key}" if path else key, depth + 1)
        if items:
            yield from _leaves(items, root, f"{path}[]", depth + 1)


def _listed(schema: dict[str, Any]) -> list[Any]:
    values = [*schema.get("enum", ()), *([schema["const"]] if "const" in schema else ())]
    kinds = schema.get("type", ())
    if "boolean" in ([kinds] if isinstance(kinds, str) else kinds):
        values += [True, False]
    return [value for value in values if not isinstance(value, dict | list)]
