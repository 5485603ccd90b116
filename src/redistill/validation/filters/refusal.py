"""Does a completion refuse instead of answering? A student must not learn to decline what it is there to do.

Only a refusal that opens a sentence near the start counts: "I'm sorry that your card was stolen" is help.
"""

from __future__ import annotations

import re

from redistill.validation.types import Candidate, Drop, Keep

_LOOKED_AT = 300
_CANNOT = (
    r"(?:can ?not|can't|could ?not|couldn't|won't|will not|am (?:not able|unable)|'m (?:not able|unable)|must decline|have to decline)"
)
_OPENING = r"(?:^|[.!?:]\s+|\n\s*)\W*(?:(?:unfortunately|regrettably|however|but|no)\W+)?"
_REFUSES = re.compile(
    rf"{_OPENING}(?:"
    rf"(?:i(?:'m| am)\s+(?:very |so |really |truly )?(?:sorry|afraid)|(?:my )?apologies|i apologi[sz]e|sorry)\b[^.!?\n]{{0,60}}?\bi\s?{_CANNOT}\b"
    rf"|i\s?{_CANNOT}\s+(?:to\s+)?(?:\w+ly\s+)?"
    r"(?:help|assist|provide|comply|fulfil|fulfill|answer|respond|do (?:that|this|so)|engage|continue|support|share|give|write|create|"
    r"generate|discuss|process|complete|classify|label)\b"
    r")",
    re.IGNORECASE,
)
_SPEAKS_AS_MODEL = re.compile(
    r"\b(?:as|i am|i'm|being)\s+(?:just |only )?an?\s+(?:ai|artificial intelligence|(?:large )?language model)\b", re.IGNORECASE
)


def judge(candidate: Candidate) -> Keep | Drop:
    opening = candidate.text[:_LOOKED_AT].replace("\u2019", "'").replace("\u02bc", "'")
    if _SPEAKS_AS_MODEL.search(opening):
        return Drop("refusal", "speaks as an AI model")
    if _REFUSES.search(opening):
        return Drop("refusal", "refuses to answer")
    return Keep()
