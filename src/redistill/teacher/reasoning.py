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


def may_be_reasoning(text: str) -> bool:
    """Whether a text that is not whole yet may be reasoning that goes on."""
    begin = text.lstrip()
    return unfinished(text) or (len(begin) < len(_OPENING) and _OPENING.startswith(begin))


def unfinished(text: str) -> bool:
    """Whether a text begins with reasoning that does not end in it."""
    return text.lstrip().startswith(_OPENING) and _CLOSING not in text
