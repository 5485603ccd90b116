"""Server-sent events as models' servers send them.

Source: WHATWG HTML, section 9.2 "Server-sent events"; ``data: [DONE]`` is OpenAI's end of a stream.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any

import orjson

from redistill.serving.router.types import UpstreamError

_END = re.compile(rb"\r?\n\r?\n|\r\r")
_MOST_BYTES = 4 << 20
"""The largest event. A chunk with the log-probabilities of 20 tokens has about 2 KB."""
DONE = b"data: [DONE]\n\n"


@dataclass(frozen=True, slots=True)
class Event:
    """One event: ``raw`` as it came, with its blank line. ``data`` is its JSON object; None for a comment, the end, or an event that is not JSON."""

    raw: bytes
    data: dict[str, Any] | None
    done: bool = False

    @property
    def error(self) -> str | None:
        """What the server says went wrong, if the event is an error."""
        if self.data is None:
            return None
        error = self.data.get("error")
        if error is None and (self.data.get("object") == "error" or self.raw.startswith(b"event: error")):
            error = self.data
        if error is None:
            return None
        return str(error.get("message", error) if isinstance(error, dict) else error)

    @property
    def has_content(self) -> bool:
        """Whether it holds text, a part of a tool call or the like; a first frame often has only a role."""
        choices = (self.data or {}).get("choices")
        for choice in choices if isinstance(choices, list) else ():
            if not isinstance(choice, dict):
                continue
            delta = choice.get("delta")
            parts = {k: v for k, v in delta.items() if k != "role"} if isinstance(delta, dict) else {"text": choice.get("text")}
            if any(parts.values()):
                return True
        return False


class Events:
    """Cuts a stream of bytes into events."""

    def __init__(self) -> None:
        self._rest = b""

    def feed(self, part: bytes) -> list[Event]:
        """The events that are whole now.

        Raises:
            UpstreamError: one is too large.
        """
        self._rest += part
        events = []
        while match := _END.search(self._rest):
            raw, self._rest = self._rest[: match.end()], self._rest[match.end() :]
            events.append(_event(raw))
        if len(self._rest) > _MOST_BYTES:
            raise UpstreamError("malformed", f"an event of the stream is larger than {_MOST_BYTES >> 20} MB")
        return events

    def end(self) -> list[Event]:
        """The last event of a stream that has ended, if only its blank line is missing."""
        return [_event(DONE)] if self._rest.strip() == DONE.strip() else []


def frame(tree: dict[str, Any]) -> bytes:
    """An object as an event."""
    return b"data: " + orjson.dumps(tree) + b"\n\n"


def _event(raw: bytes) -> Event:
    lines = [line[5:].strip() for line in raw.splitlines() if line.startswith(b"data:")]
    text = b"\n".join(lines)
    if text == b"[DONE]":
        return Event(raw, None, done=True)
    try:
        data = orjson.loads(text) if text else None
    except orjson.JSONDecodeError:
        data = None
    return Event(raw, data if isinstance(data, dict) else None)
