"""Whether a JSON Schema can be used: it is valid, and it is whole without anything from elsewhere."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

from redistill.data.grammars.schema_walk import pointed_at


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
    except (TypeError, ValueError) as error:
        raise ValueError(f"schema is not JSON ({error}); dates and keys must be in quotes") from None
    except SchemaError as error:
        path = ".".join(map(str, error.absolute_path)) or "its root"
        raise ValueError(f"schema is no JSON Schema: at {path}, {error.message.splitlines()[0][:200]}") from None
    for keyword, reference in _references(schema):
        _check_reference(reference, schema, keyword)
    return text


def _references(part: Any) -> Iterator[tuple[str, str]]:
    if isinstance(part, dict):
        yield from ((key, part[key]) for key in ("$ref", "$dynamicRef") if isinstance(part.get(key), str))
    for inner in part.values() if isinstance(part, dict) else part if isinstance(part, list) else ():
        yield from _references(inner)


def _check_reference(reference: str, schema: Any, keyword: str) -> None:
    try:
        if keyword != "$ref":
            raise LookupError(keyword)
        pointed_at(reference, schema)
    except (LookupError, TypeError):
        raise ValueError(
            f"schema has {keyword}: {reference}, which is not in it; write the part under $defs and point at it with $ref: '#/$defs/NAME'; nothing is loaded"
            " from elsewhere"
        ) from None
