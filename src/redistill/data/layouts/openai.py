"""OpenAI's chat format: ``messages``, a list of ``{role, content}``; the last turn may be the assistant's completion."""

from __future__ import annotations

from typing import Any

from redistill.data.layouts.turns import request_from, turns_of
from redistill.data.layouts.types import Request

KEY = "messages"


def read(row: dict[str, Any], where: str) -> Request | None:
    if (turns := turns_of(row, KEY, where)) is None:
        return None
    return request_from([(turn.get("role"), _text(turn.get("content"))) for turn in turns], where)


def _text(content: Any) -> Any:
    """Content in parts as one text, where all parts are text."""
    if isinstance(content, list) and content and all(isinstance(part, dict) and part.get("type") == "text" for part in content):
        parts = [part.get("text") for part in content]
        return "".join(parts) if all(isinstance(part, str) for part in parts) else content
    return content
