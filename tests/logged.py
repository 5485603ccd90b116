"""Logged requests for tests."""

from __future__ import annotations

from typing import Any

from redistill.data.traffic.types import LoggedRequest
from redistill.data.types import Message, prompt_id


def logged(text: str, at: float = 1000.0, **changes: Any) -> LoggedRequest:
    """One request with consent and a licence; ``changes`` are its other fields."""
    messages = changes.pop("messages", (Message("user", text),))
    columns = changes.get("columns", ())
    row: dict[str, Any] = {
        "id": f"request-{text[:40]}-{at:g}",
        "at": at,
        "prompt_id": prompt_id(messages, columns),
        "messages": messages,
        "columns": (),
        "slice": "app",
        "mode": "student",
        "route": "student",
        "reason": "",
        "version": "1",
        "score": None,
        "student": "fee",
        "teacher": None,
        "replaced": 0,
        "source": "router",
        "consent": "terms of use",
        "licence": "CC0-1.0",
    }
    return LoggedRequest(**{**row, **changes})
