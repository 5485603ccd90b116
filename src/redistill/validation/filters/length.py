"""Is there a text at all, and is it one that a request may carry?

Judged before everything else: it costs nothing, and spares the other filters a megabyte of pasted log.
"""

from __future__ import annotations

from redistill.data.normal_form import normalised
from redistill.validation.params import IntakeParams
from redistill.validation.types import Candidate, Drop, Keep


class Length:
    """Drops texts that are empty, too short or too long, in characters; blanks at the ends and invisible characters make no text longer than
    ``min_chars``."""

    def __init__(self, params: IntakeParams) -> None:
        self._params = params

    def judge(self, candidate: Candidate) -> Keep | Drop:
        length = len(normalised(candidate.text).strip())
        if length == 0:
            return Drop("length", "empty")
        if length < self._params.min_chars:
            return Drop("length", "too short")
        if len(candidate.text) > self._params.max_chars:
            return Drop("length", "too long")
        return Keep()
