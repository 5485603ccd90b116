"""Is a completion there, and did it come to its end?"""

from __future__ import annotations

from redistill.validation.types import Candidate, Drop, Keep


def judge(candidate: Candidate) -> Keep | Drop:
    if not candidate.text.strip():
        return Drop("length", "empty completion")
    return Drop("length", "cut off at max_tokens") if candidate.finish_reason == "length" else Keep()
