"""JSON completions: one value, valid under a JSON Schema.

A completion has one spelling: on one line, keys in the order of the schema, ``1.0`` as ``1``. So equal values are equal texts, and exact match is fair. The
leaves of a value are its items, named by their path, such as ``lines[].sku``; F1 counts them.
"""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

from redistill.data.grammars.schema_walk import Leaf, item_schemas, key_schemas, leaves
from redistill.data.grammars.types import Form, Items
from redistill.data.normal_form import normalised
from redistill.data.readers.files import described
from redistill.errors import DataError

_FENCED = re.compile(r"```[A-Za-z]*[ \t]*\r?\n(.*?)\r?\n?[ \t]*```", re.DOTALL)
_ROOT = "value"
_SAFE_INTEGER = 2**53


@dataclass(frozen=True, slots=True)
class JsonGrammar:
    """``schema`` is the JSON text of a checked schema (``redistill.data.grammars.schema_check``), so that a grammar can be compared and hashed."""

    schema: str

    @property
    def fields(self) -> tuple[str, ...]:
        return tuple(leaf.path or _ROOT for leaf in _leaves(self.schema))

    @property
    def labels(self) -> tuple[str, ...]:
        """None: a completion begins with its first key."""
        return ()

    @property
    def names(self) -> tuple[str, ...]:
        """``PATH=VALUE`` of each leaf with listed values."""
        return tuple(f"{leaf.path or _ROOT}={_shown(value)}" for leaf in _leaves(self.schema) for value in leaf.values)

    @property
    def form(self) -> Form:
        return Form("json_schema", self.schema)

    def items(self, line: str) -> Items:
        """The leaves of a value. A leaf that occurs again, as in a list, counts again. Text is in normal form."""
        seen: Counter[tuple[str, str]] = Counter()
        for path, value in _walked(self._parsed(line), ""):
            seen[path or _ROOT, normalised(_shown(value))] += 1
        return frozenset(
            (path, value if n == 1 else f"{value} ({n})") for (path, value), count in seen.items() for n in range(1, count + 1)
        )

    def item_of(self, name: str) -> tuple[str, str]:
        path, _, value = name.partition("=")
        return path, normalised(value)

    def decisions(self, items: Items) -> Items:
        decided = {leaf.path or _ROOT for leaf in _leaves(self.schema) if leaf.values}
        return frozenset(item for item in items if item[0] in decided)

    def labels_in(self, line: str) -> tuple[str, ...]:
        return tuple(f"{path}={value}" for path, value in sorted(self.decisions(self.items(line))))

    def spelled(self, line: str) -> str:
        root = _tree(self.schema)
        return json.dumps(_ordered(self._parsed(line), [root], root), ensure_ascii=False)

    def label(self, line: str, text: str) -> str:
        return self.spelled(line)

    def objection(self, line: str, text: str) -> str | None:
        try:
            self._parsed(line)
        except DataError as error:
            return str(error)
        return None

    def _parsed(self, line: str) -> Any:
        """The value of a completion; fences around it, as chat models write them, are no part of it.

        Raises:
            DataError: it is no JSON, or it breaks the schema.
        """
        value = _json(line.strip())
        if (reason := _broken(self.schema, value)) is not None:
            raise DataError(reason)
        return value


def _json(text: str) -> Any:
    fenced = _FENCED.fullmatch(text)
    text = fenced[1] if fenced else text
    try:
        value = json.loads(text, object_pairs_hook=_unique, parse_constant=_no_constant)
        json.dumps(value, ensure_ascii=False).encode()
    except (ValueError, RecursionError):
        raise DataError(
            f"no JSON value ({described(text)})" if not _is_json(text) else "JSON with a key twice, NaN, or half a character"
        ) from None
    return value


def _is_json(text: str) -> bool:
    try:
        json.loads(text)
    except (ValueError, RecursionError):
        return False
    return True


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    tree = dict(pairs)
    if len(tree) < len(pairs):
        raise ValueError("a key twice")
    return tree


def _no_constant(name: str) -> Any:
    raise ValueError(name)


def _broken(schema: str, value: Any) -> str | None:
    """Where a value breaks the schema, and by which rule; keys that the schema does not name are not shown."""
    from jsonschema.exceptions import best_match

    try:
        error = best_match(_validator(schema).iter_errors(value))
    except RecursionError:
        return "JSON that is nested too deeply for data.schema"
    if error is None:
        return None
    named = {part for leaf in _leaves(schema) for part in re.split(r"[.\[]", leaf.path)}
    path = "".join("[]" if isinstance(key, int) else f".{key}" if key in named else ".*" for key in error.absolute_path)
    return f"JSON that breaks data.schema at {path.lstrip('.') or 'its root'}: {error.validator}"


@lru_cache(maxsize=8)
def _validator(schema: str) -> Any:
    from jsonschema.validators import validator_for
    from referencing import Registry

    tree = _tree(schema)
    # An empty registry: nothing is loaded from an address that a schema names.
    return validator_for(tree)(tree, registry=Registry())


@lru_cache(maxsize=8)
def _leaves(schema: str) -> tuple[Leaf, ...]:
    return leaves(_tree(schema))


@lru_cache(maxsize=8)
def _tree(schema: str) -> Any:
    return json.loads(schema)


def _walked(value: Any, path: str) -> Iterator[tuple[str, Any]]:
    if isinstance(value, dict) and value:
        for key, inner in value.items():
            yield from _walked(inner, f"{path}.{key}" if path else key)
    elif isinstance(value, list) and value:
        for inner in value:
            yield from _walked(inner, f"{path}[]")
    else:
        yield path, value


def _shown(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(_number(value), ensure_ascii=False)


def _number(value: Any) -> Any:
    """JSON has one kind of number: ``1.0`` is ``1``."""
    return int(value) if isinstance(value, float) and value.is_integer() and abs(value) < _SAFE_INTEGER else value


def _ordered(value: Any, schemas: list[Any], root: Any) -> Any:
    """The value with its keys in the order of the schema; keys that it does not name keep their order, at the end."""
    if isinstance(value, dict):
        named = key_schemas(schemas, root)
        keys = [key for key in named if key in value] + [key for key in value if key not in named]
        return {key: _ordered(value[key], named.get(key, []), root) for key in keys}
    if isinstance(value, list):
        items = item_schemas(schemas, root)
        return [_ordered(each, items, root) for each in value]
    return _number(value)
