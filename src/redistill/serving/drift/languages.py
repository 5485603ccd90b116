"""The language of a text, as a category to count."""

from __future__ import annotations

import functools

from redistill.validation.filters.language import MIN_CHARS, detect

_SURE = 0.5
UNKNOWN = "unknown"


@functools.lru_cache(4096)
def language_of(text: str) -> str:
    """ISO 639 code; ``unknown`` where the text is too short to say, or the detector is not sure."""
    if len(text.strip()) < MIN_CHARS:
        return UNKNOWN
    language, confidence = detect(text)
    return language if confidence >= _SURE else UNKNOWN
