"""Reasoning that a server or an engine leaves in front of the completion, such as ``<think>…</think>``."""

from __future__ import annotations

import re

_OPENING = re.compile(r"\s*<(think|thinking|thought|reasoning)>", re.IGNORECASE)
_CLOSING = re.compile(r"</(think|thinking|thought|reasoning)>", re.IGNORECASE)


def split_reasoning(text: str) -> tuple[str | None, str]:
    """The reasoning, None where there is none, and the completion behind it.

    Some chat templates write the opening tag themselves, so that only the closing one is in the text.
    """
    opening, closing = _OPENING.match(text), _CLOSING.search(text)
    if closing is None:
        return None, text
    begin = opening.end() if opening else 0
    return text[begin : closing.start()].strip(), text[closing.end() :]


def unfinished(text: str) -> bool:
    """Whether a text begins with reasoning that does not end in it."""
    return bool(_OPENING.match(text)) and not _CLOSING.search(text)
