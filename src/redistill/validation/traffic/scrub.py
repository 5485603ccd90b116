"""Replaces personal data and secrets in a logged text, before it is written anywhere."""

from __future__ import annotations

from redistill.validation.filters import personal_data
from redistill.validation.patterns.findings import TOKENS

_TOKENS = frozenset((*TOKENS.values(), "[SECRET]"))


def scrubbed(text: str) -> tuple[str, int]:
    """The text with each finding replaced by its kind in brackets, and how many were replaced."""
    safe = personal_data.redact(text)
    if safe == text:
        return text, 0
    # A text may have had such a token before.
    return safe, max(1, sum(safe.count(token) - text.count(token) for token in _TOKENS))
