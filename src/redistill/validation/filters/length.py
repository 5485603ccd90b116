"""Is there a text at all, and is it one that a request may carry?

Judged before everything else: it costs nothing, and spares the other filters a megabyte of pasted log.
"""

from __future__ import annotations

from redistill.validation.params import IntakeParams
from redistill.validation.types import Drop, Keep

_INVISIBLE = "\u200b\u200c\u200d\u2060\ufeff"


def judge(text: str, params: IntakeParams) -> Keep | Drop:
    """Drop texts that are empty, too short or too long, in characters; blanks at the ends do not make a text longer."""
    length = len(text.strip().strip(_INVISIBLE).strip())
    if length == 0:
        return Drop("length", "empty")
    if length < params.min_chars:
        return Drop("length", "too short")
    if len(text) > params.max_chars:
        return Drop("length", "too long")
    return Keep()
