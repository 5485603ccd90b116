"""Is there a completion, and did it end by itself? Only an end that is known to be one counts."""

from __future__ import annotations

from redistill.teacher.endings import FAILED, LENGTH, REFUSED, STOP, TOO_LONG, UNFINISHED_REASONING, UNKNOWN, ending
from redistill.validation.types import Candidate, Drop, Keep

_REASONS = {
    REFUSED: "the endpoint refuses the prompt",
    FAILED: "the endpoint fails on the prompt",
    TOO_LONG: "the prompt does not fit the teacher's context",
    UNFINISHED_REASONING: "reasoning without an end",
    LENGTH: "cut off at max_tokens",
    UNKNOWN: "the endpoint does not say how it ended",
}


def judge(candidate: Candidate) -> Keep | Drop:
    # Completions that were stored by earlier versions have the server's own spelling.
    reason = ending(candidate.finish_reason)
    if reason in (REFUSED, FAILED, TOO_LONG):
        return Drop("teacher", _REASONS[reason])
    if not candidate.text.strip():
        return Drop("length", "empty completion")
    return Keep() if reason == STOP else Drop("length", _REASONS.get(reason, f"ended by {reason}"))
