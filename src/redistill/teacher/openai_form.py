"""How a request to an endpoint asks for the form of its completion."""

from __future__ import annotations

import json
from typing import Any

from redistill.data.grammars.types import Form


def keys_of(form: Form | None) -> dict[str, Any]:
    """JSON as OpenAI spells it, which most servers read; a regular expression as vLLM does."""
    if form is None:
        return {}
    if form.kind == "json_schema":
        schema = {"name": "completion", "schema": json.loads(form.text), "strict": True}
        return {"response_format": {"type": "json_schema", "json_schema": schema}}
    return {"structured_outputs": {"regex": form.lead + form.text}}
