"""Reasoning that a server or an engine leaves in front of the completion: ``<think>…</think>``, the tags of most reasoning models."""

from __future__ import annotations

_OPENING, _CLOSING = "<think>", "</think>"


def split_reasoning(text: str) -> tuple[str | None, str]:
    """The reasoning, None where there is none, and the completion behind it.

    Some chat templates write the opening tag themselves, so that only the closing one is in the text.
    """
    reasoning, closing, completion = text.partition(_CLOSING)
    if not closing or _OPENING in reasoning.lstrip()[1:]:
        return None, text
    return reasoning.strip().removeprefix(_OPENING).strip(), completion


def unfinished(text: str) -> bool:
    """Whether a text begins with reasoning that does not end in it."""
    return text.lstrip().startswith(_OPENING) and _CLOSING not in text
