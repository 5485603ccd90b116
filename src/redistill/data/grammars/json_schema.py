"""JSON completions: one value, valid under a JSON Schema.

A completion has one spelling: on one line, keys in the order of the schema, ``1.0`` as ``1``. So equal values are equal texts, and exact match is fair. The
leaves of a value are its items, named by their path, such as ``lines[].sku``; F1 counts them.
"""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

from redistill.data.grammars.json_text import is_json, value_in
from redistill.data.grammars.schema_walk import Leaf, item_schemas, leaves, listed, lists_values, named_keys, value_schemas
from redistill.data.grammars.types import Form, Items
from redistill.data.normal_form import normalised
from redistill.errors import DataError

_ROOT = "value"
_INDEX = re.compile(r"\[\d+\]")


@dataclass(frozen=True, slots=True)
class _Part:
    """A leaf of a value, with the places of list items in its path, and whether the schema lists its values."""

    path: str
    value: Any
    decides: bool

    @property
    def item(self) -> tuple[str, str]:
        return _INDEX.sub("[]", self.path) or _ROOT, _shown(self.value)


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
        return tuple(_named(self.schema))

    @property
    def decides(self) -> bool:
        return lists_values(_tree(self.schema))

    @property
    def form(self) -> Form:
        return Form("json_schema", self.schema)

    def items(self, line: str) -> Items:
        """The leaves of a value. A leaf that occurs again, as in a list, counts again. Text is in normal form."""
        seen = Counter(part.item for part in _parts(self.schema, line))
        return frozenset(
            (path, value if n == 1 else f"{value} ({n})") for (path, value), count in seen.items() for n in range(1, count + 1)
        )

    def item_of(self, name: str) -> tuple[str, str]:
        return _named(self.schema)[name]

    def decisions(self, line: str) -> Items:
        """Leaves whose values the schema lists, each with its place in lists: which entry has a value is part of the decision."""
        return frozenset((part.path or _ROOT, _shown(part.value)) for part in _parts(self.schema, line) if part.decides)

    def labels_in(self, line: str) -> tuple[str, ...]:
        return tuple(sorted({"=".join(part.item) for part in _parts(self.schema, line) if part.decides}))

    def spelled(self, line: str) -> str:
        root = _tree(self.schema)
        return json.dumps(_ordered(_valid(self.schema, line), [root], root), ensure_ascii=False)

    def label(self, line: str, text: str) -> str:
        """The label in its spelling. A table of objects has every key in every row, so a null that the schema does not allow is a missing key."""
        try:
            return self.spelled(line)
        except DataError:
            without = _without_nulls(value_in(line))
            if without == value_in(line):
                raise
            return self.spelled(json.dumps(without, ensure_ascii=False))

    def objection(self, line: str, text: str) -> str | None:
        try:
            _valid(self.schema, line)
        except DataError as error:
            return str(error)
        return None


@lru_cache(maxsize=4096)
def _valid(schema: str, line: str) -> Any:
    """The value of a completion; each is looked at several times.

    Raises:
        DataError: it is no JSON, or it breaks the schema.
    """
    value = value_in(line)
    if (reason := _broken(schema, value)) is not None:
        raise DataError(reason)
    return value


def _parts(schema: str, line: str) -> Iterator[_Part]:
    root = _tree(schema)
    return _walked(_valid(schema, line), [root], root, "")


def _walked(value: Any, schemas: Sequence[Any], root: Any, path: str) -> Iterator[_Part]:
    if isinstance(value, dict) and value:
        for key, inner in value.items():
            yield from _walked(inner, value_schemas(schemas, root, key), root, f"{path}.{key}" if path else key)
    elif isinstance(value, list) and value:
        items = item_schemas(schemas, root)
        for place, inner in enumerate(value):
            yield from _walked(inner, items, root, f"{path}[{place}]")
    else:
        yield _Part(path, value, bool(listed(schemas, root)))


def _broken(schema: str, value: Any) -> str | None:
    """Where a value breaks the schema, and by which rule; keys that the schema does not name are not shown."""
    from jsonschema.exceptions import best_match

    try:
        error = best_match(_validator(schema).iter_errors(value))
    except (RecursionError, ArithmeticError):
        return "JSON that data.schema cannot judge: too many levels, or a number that is too large"
    if error is None:
        return None
    known = {part for leaf in _leaves(schema) for part in re.split(r"[.\[]", leaf.path)}
    path = "".join("[]" if isinstance(key, int) else f".{key}" if key in known else ".*" for key in error.absolute_path)
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
def _named(schema: str) -> dict[str, tuple[str, str]]:
    pairs = [(leaf.path or _ROOT, _shown(value)) for leaf in _leaves(schema) for value in leaf.values]
    return {"=".join(pair): pair for pair in pairs}


@lru_cache(maxsize=8)
def _tree(schema: str) -> Any:
    return json.loads(schema)


def _shown(value: Any) -> str:
    """Text as it is, in normal form; text that reads like another value, and every other value, as JSON."""
    if not isinstance(value, str):
        return json.dumps(_number(value), ensure_ascii=False)
    return normalised(json.dumps(value, ensure_ascii=False) if is_json(value) else value)


def _number(value: Any) -> Any:
    """JSON has one kind of number: ``1.0`` is ``1``."""
    return int(value) if isinstance(value, float) and value.is_integer() else value


def _ordered(value: Any, schemas: Sequence[Any], root: Any) -> Any:
    """The value with its keys in the order of the schema; keys that it does not name come last, by their names."""
    if isinstance(value, dict):
        named = named_keys(schemas, root)
        keys = [key for key in named if key in value] + sorted(key for key in value if key not in named)
        return {key: _ordered(value[key], value_schemas(schemas, root, key), root) for key in keys}
    if isinstance(value, list):
        items = item_schemas(schemas, root)
        return [_ordered(each, items, root) for each in value]
    return _number(value)


def _without_nulls(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _without_nulls(inner) for key, inner in value.items() if inner is not None}
    return [_without_nulls(each) for each in value] if isinstance(value, list) else value
