"""Requests to OpenAI's interface, one JSON object a line, in any of these forms:

- ``{"request": {"messages": …}, "response": {…}}``: what a proxy or client logs; ``metadata``, ``id`` and ``created`` or ``timestamp`` beside them
- ``{"custom_id": …, "method": "POST", "url": "/v1/chat/completions", "body": {"messages": …}}``: the input of a batch
- ``{"id": …, "created": …, "messages": [ …, the completion], "metadata": {…}}``: a stored completion, also as ``{"object": "list", "data": […]}``

The output of a batch has no prompts. Source: OpenAI API reference, "The request input object" of batches, and chat completions.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from redistill.data.readers.files import described, shown_names
from redistill.data.traffic.formats.messages import request_messages, seconds, without_completion
from redistill.data.traffic.formats.types import Broken, BrokenError, NotAPromptError, Skipped, Trace, attempted

_ENDPOINTS = ("/completions", "/chat/completions")


def read(value: Any) -> Iterator[Trace | Skipped | Broken]:
    """The traces in a JSON value."""
    rows = value["data"] if isinstance(value, dict) and isinstance(value.get("data"), list) else [value]
    for row in rows:
        yield attempted(lambda row=row: _trace(row))  # type: ignore[misc]


def _trace(row: Any) -> Trace:
    if not isinstance(row, dict):
        raise BrokenError(f"{described(row)} is not a JSON object")
    request, response = row.get("request", row.get("body")), row.get("response")
    if request is None and "messages" not in row and "prompt" not in row:
        if isinstance(response, dict) and "custom_id" in row:
            raise NotAPromptError("the output of a batch, which has no prompts; import the input of the batch")
        raise BrokenError(f"no request, body, messages or prompt (it has {shown_names(row)[:200]})")
    if isinstance(url := row.get("url"), str) and not url.endswith(_ENDPOINTS):
        raise NotAPromptError("a request to another endpoint than chat/completions and completions")
    body = row if request is None else request
    if not isinstance(body, dict):
        raise BrokenError(f"the request is {described(body)}, not an object")
    messages = request_messages(body)
    reply = response if isinstance(response, dict) else {}
    reply = reply["body"] if isinstance(reply.get("body"), dict) else reply
    time = next((each[name] for each in (row, reply) for name in ("created", "created_at", "timestamp") if each.get(name)), None)
    key = next((each[name] for each in (row, reply) for name in ("custom_id", "id", "request_id") if isinstance(each.get(name), str)), "")
    metadata = {key: value for each in (body, row) if isinstance(each.get("metadata"), dict) for key, value in each["metadata"].items()}
    asked = without_completion(messages) if request is None else messages
    return Trace(key, seconds(time), asked, {**row, **metadata, "metadata": metadata})
