"""Whether a JSON Schema can be used: it is valid, and it is whole without anything from elsewhere."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

from redistill.data.grammars.schema_walk import pointed_at

_MAPPINGS = ("properties", "patternProperties", "$defs", "definitions", "dependentSchemas")
_LISTS = ("allOf", "anyOf", "oneOf", "prefixItems", "items")
_SINGLE = ("items", "additionalItems", "additionalProperties", "contains", "not", "if", "then", "else", "propertyNames")
_UNEVALUATED = ("unevaluatedItems", "unevaluatedProperties")


def checked(schema: dict[str, Any]) -> str:
    """The schema as JSON text.

    Raises:
        ValueError: it is no JSON Schema, or it refers to something that is not in it.
    """
    from jsonschema.exceptions import SchemaError
    from jsonschema.validators import validator_for

    try:
        text = json.dumps(schema, ensure_ascii=False, allow_nan=False)
        validator_for(schema).check_schema(schema)
        parts = list(_schemas(schema))
    except RecursionError:
        raise ValueError("schema is nested too deeply; write parts under $defs and point at them") from None
    except SchemaError as error:
        path = ".".join(map(str, error.absolute_path)) or "its root"
        raise ValueError(f"schema is no JSON Schema: at {path}, {error.message.splitlines()[0][:200]}") from None
    except (TypeError, ValueError, AttributeError) as error:
        raise ValueError(f"schema is not JSON ({error}); dates and keys must be in quotes, and $schema is text") from None
    for part in parts:
        _check(part, schema)
    return text


def _schemas(schema: Any) -> Iterator[dict[str, Any]]:
    """The schema and all schemas in it; what stands under ``const``, ``enum`` or ``examples`` is data."""
    if not isinstance(schema, dict):
        return
    yield schema
    inner = [each for name in _MAPPINGS if isinstance(mapping := schema.get(name), dict) for each in mapping.values()]
    inner += [each for name in _LISTS if isinstance(several := schema.get(name), list) for each in several]
    inner += [schema[name] for name in (*_SINGLE, *_UNEVALUATED) if isinstance(schema.get(name), dict)]
    for each in inner:
        yield from _schemas(each)


def _check(part: dict[str, Any], root: dict[str, Any]) -> None:
    if "$dynamicRef" in part or ("$id" in part and part is not root):
        keyword = "$dynamicRef" if "$dynamicRef" in part else "$id"
        raise ValueError(f"schema has {keyword} in a part of it, which redistill does not read; use $ref: '#/$defs/NAME'")
    reference = part.get("$ref")
    if reference is None:
        return
    try:
        target = pointed_at(reference, root)
    except (LookupError, TypeError):
        target = None
    if not isinstance(target, dict | bool):
        raise ValueError(
            f"schema has $ref: {reference}, which is no schema in it; write the part under $defs and point at it with $ref: '#/$defs/NAME'; nothing is loaded"
            " from elsewhere"
        )
