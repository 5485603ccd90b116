"""Is the completion not empty, and did it end by itself?"""

from __future__ import annotations

from redistill.validation.types import Candidate, Drop, Keep


def judge(candidate: Candidate) -> Keep | Drop:
    if not candidate.text.strip():
        return Drop("length", "empty completion")
    return Drop("length", "cut off at max_tokens") if candidate.finish_reason == "length" else Keep()
