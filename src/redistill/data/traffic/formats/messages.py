"""Messages as OpenAI's interface writes them, and texts that hold JSON: what all formats share."""

from __future__ import annotations

import datetime as dt
import json
from typing import Any

from redistill.data.readers.files import described
from redistill.data.traffic.formats.types import BrokenError, NotAPromptError
from redistill.data.types import Message

TOOLS, FILES, NO_TEXT = "tools", "images, audio or files", "content that is no text"
_LAST = 95_000_000_000
_EMPTY: tuple[Any, ...] = (None, "", [], {}, False)
_ROLES = {
    "system": "system",
    "developer": "system",
    "user": "user",
    "human": "user",
    "assistant": "assistant",
    "ai": "assistant",
    "model": "assistant",
}
_OF_TOOLS = ("tool_calls", "function_call", "tool_call_id")
_CHANGE_NOTHING = ("role", "content", "refusal", "annotations", "finish_reason", "id", "object", "created")


def request_messages(body: dict[str, Any]) -> tuple[Message, ...]:
    """The messages of a request to ``chat/completions`` or ``completions``.

    Raises:
        NotAPromptError: it is more than text.
        BrokenError: it has neither messages nor a prompt.
    """
    if body.get("tools") not in _EMPTY or body.get("functions") not in _EMPTY:
        raise NotAPromptError(TOOLS)
    if (listed := body.get("messages")) is not None:
        return messages_of(listed)
    prompt = body.get("prompt")
    if isinstance(prompt, list) and len(prompt) == 1:
        prompt = prompt[0]
    if isinstance(prompt, list):
        raise NotAPromptError("several prompts, or token ids")
    if isinstance(prompt, str):
        return (Message("user", prompt),)
    raise BrokenError("the request has no messages and no prompt")


def messages_of(listed: Any) -> tuple[Message, ...]:
    """A list of ``{role, content}``.

    Raises:
        NotAPromptError: a message is more than text.
        BrokenError: it is no such list.
    """
    if not isinstance(listed, list) or not listed or not all(isinstance(message, dict) for message in listed):
        raise BrokenError(f"messages must be a list of objects with role and content, not {described(listed)}")
    return tuple(_message(message) for message in listed)


def _message(message: dict[str, Any]) -> Message:
    role = message.get("role")
    if role in ("tool", "function") or any(message.get(key) not in _EMPTY for key in _OF_TOOLS):
        raise NotAPromptError(TOOLS)
    if not isinstance(role, str) or role.lower() not in _ROLES:
        raise BrokenError("a message has no known role; the roles are system, developer, user and assistant")
    if any(value not in _EMPTY for key, value in message.items() if key not in _CHANGE_NOTHING):
        raise NotAPromptError("a message holds more than text")
    return Message(_ROLES[role.lower()], text_of(message.get("content")))


def text_of(content: Any) -> str:
    """The text of a message: a string, or parts that are all text.

    Raises:
        NotAPromptError: it is more.
    """
    if isinstance(content, str):
        return content
    parts = [content] if isinstance(content, dict) else content
    if not isinstance(parts, list) or not parts:
        raise NotAPromptError(NO_TEXT)
    # A router joins them in the same way.
    return "\n".join(part if isinstance(part, str) else _part(part) for part in parts)


def _part(part: Any) -> str:
    kind = part.get("type", "text") if isinstance(part, dict) else None
    text = next((part[key] for key in ("text", "content") if isinstance(part.get(key), str)), None) if isinstance(part, dict) else None
    if kind in ("text", "input_text") and text is not None:
        return str(text)
    if isinstance(kind, str) and ("tool" in kind or "function" in kind):
        raise NotAPromptError(TOOLS)
    raise NotAPromptError(FILES if isinstance(kind, str) and kind not in ("text", "input_text", "reasoning") else NO_TEXT)


def without_completion(messages: tuple[Message, ...]) -> tuple[Message, ...]:
    """A conversation without the assistant's last turn, which is the completion."""
    return messages[:-1] if messages and messages[-1].role == "assistant" else messages


def as_json(value: Any) -> Any:
    """What a text of JSON says; any other value as it is."""
    if isinstance(value, str) and value.lstrip()[:1] in ("{", "["):
        try:
            return json.loads(value)
        except (ValueError, RecursionError):
            return value
    return value


def seconds(value: Any) -> float:
    """A time in seconds since 1970: a number, or ISO 8601, which is UTC where it names no zone; 0 where it is none of them."""
    if isinstance(value, bool) or value is None:
        return 0.0
    try:
        if isinstance(value, int | float):
            return plausible(value / 1000 if value > _LAST else value)
        time = dt.datetime.fromisoformat(str(value))
        return plausible((time if time.tzinfo else time.replace(tzinfo=dt.UTC)).timestamp())
    except (ValueError, OverflowError):
        return 0.0


def plausible(at: float) -> float:
    """A time after 1970 and before the year 5000; 0 for any other number."""
    return float(at) if 0 <= at < _LAST else 0.0
