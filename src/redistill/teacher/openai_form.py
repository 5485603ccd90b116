"""How a request to an endpoint asks for the form of its completion."""

from __future__ import annotations

import json
from typing import Any

from redistill.data.grammars.types import Form
from redistill.models.structured_outputs import as_ebnf


def keys_of(form: Form | None) -> dict[str, Any]:
    """JSON as OpenAI spells it, which most servers read; a grammar as vLLM does."""
    if form is None:
        return {}
    if form.kind == "json_schema":
        schema = json.loads(form.text)
        named = {"name": "completion", "schema": schema, "strict": _is_strict(schema)}
        return {"response_format": {"type": "json_schema", "json_schema": named}}
    return {"structured_outputs": {"grammar": as_ebnf(form)}}


def _is_strict(schema: Any) -> bool:
    """Whether every object lists all its keys as required and allows no others: OpenAI refuses other schemas in its strict mode."""
    if isinstance(schema, list):
        return all(map(_is_strict, schema))
    if not isinstance(schema, dict):
        return True
    keys = schema.get("properties")
    whole = not isinstance(keys, dict) or (
        sorted(schema.get("required", ())) == sorted(keys) and schema.get("additionalProperties") is False
    )
    return whole and all(map(_is_strict, schema.values()))
