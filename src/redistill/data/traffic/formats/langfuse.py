"""Observations of type GENERATION, as Langfuse exports them: from its tables and its API (camelCase), or to blob storage (snake_case); JSON or JSON Lines.

Source: Langfuse docs, "Blob storage export field reference", and its public API (``GET /api/public/v2/observations``).
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from redistill.data.readers.files import described, shown_names
from redistill.data.traffic.formats.messages import as_json, messages_of, request_messages, seconds
from redistill.data.traffic.formats.types import Broken, BrokenError, NotAPromptError, Skipped, Trace, attempted
from redistill.data.types import Message

_PAGES = ("data", "observations")


def read(value: Any) -> Iterator[Trace | Skipped | Broken]:
    """The traces in a JSON value: an observation, a page of them, or a trace with its observations."""
    listed = next((value[name] for name in _PAGES if isinstance(value.get(name), list)), None) if isinstance(value, dict) else None
    for row in [value] if listed is None else listed:
        yield attempted(lambda row=row: _trace(row))  # type: ignore[misc]


def _trace(row: Any) -> Trace:
    if not isinstance(row, dict):
        raise BrokenError(f"{described(row)} is not a JSON object")
    if "input" not in row:
        raise BrokenError(f"no input, so it is no observation of Langfuse (it has {shown_names(row)[:200]})")
    kind = row.get("type", "GENERATION")
    if kind != "GENERATION":
        raise NotAPromptError("an observation of another type than GENERATION")
    metadata = as_json(row.get("metadata"))
    time = row.get("startTime", row.get("start_time", row.get("timestamp")))
    values = {**row, **metadata, "metadata": metadata} if isinstance(metadata, dict) else row
    return Trace(str(row.get("id") or ""), seconds(time), _messages(as_json(row["input"])), values)


def _messages(asked: Any) -> tuple[Message, ...]:
    if asked in (None, "", [], {}):
        raise NotAPromptError("no input")
    if isinstance(asked, str):
        return (Message("user", asked),)
    if isinstance(asked, list):
        return messages_of(asked)
    if isinstance(asked, dict) and ("messages" in asked or isinstance(asked.get("prompt"), str | list)):
        return request_messages(asked)
    if isinstance(asked, dict) and "role" in asked:
        return messages_of([asked])
    raise NotAPromptError("an input that is neither text nor messages")
