"""Strong insults and slurs, by a short list of our own with word boundaries.

A student that learns to write them is of no use, and long lists drop customers who are merely cross: damn, hell, bloody,
crap, idiot and their like pass, and so does Scunthorpe.
"""

from __future__ import annotations

import re
from functools import cache

from redistill.data.normal_form import normal_form, normalised
from redistill.validation.types import Candidate, Drop, Keep

_LOOKALIKES = {"a": "a@4", "b": "b8", "c": "c", "e": "e3", "g": "g9", "i": "i1!|", "o": "o0", "s": "s$5", "t": "t7", "u": "uv"}
_ENDINGS = "(?:s|es|er|ers|ed|in|ing|y|ty|ted|ting|head|heads|hole|holes|face|wit|wits|bag|bags)?"
# stem: what may stand before it, glued on
_STEMS = {
    "fuck": "(?:mother|cluster|un)?",
    "shit": "(?:bull|horse|dip)?",
    "cunt": "",
    "wank": "",
    "bastard": "",
    "arsehole": "",
    "asshole": "",
    "bitch": "",
    "dickhead": "",
    "twat": "",
    "cocksucker": "",
    "whore": "",
    "slut": "",
    "nigger": "",
    "nigga": "",
    "faggot": "",
    "paki": "",
    "retard": "",
}
_IN_CONTEXT = (r"(?<=you )(?:\w{1,15} )?pricks?", r"f[*#]{2,3}(?:ing|ers?|ed|s)?")


def find(text: str) -> list[tuple[int, int]]:
    """Start and end of each strong insult."""
    plain = normalised(text)
    spans = [match.span() for match in _pattern().finditer(plain)]
    if plain == text or not spans:
        return spans
    form = normal_form(text)
    return [form.span(*span) for span in spans]


def judge(candidate: Candidate) -> Keep | Drop:
    return Drop("profanity", "insult") if find(candidate.text) else Keep()


def mask(text: str) -> str:
    """The text with strong insults replaced, for reports that many eyes may see."""
    for start, end in reversed(find(text)):
        text = f"{text[:start]}[INSULT]{text[end:]}"
    return text


@cache
def _pattern() -> re.Pattern[str]:
    words = [f"{before}(?:{_written(stem)}){_ENDINGS}" for stem, before in _STEMS.items()]
    return re.compile(rf"(?<![\w])(?:{'|'.join((*words, *_IN_CONTEXT))})(?!\w)", re.IGNORECASE)


def _written(stem: str) -> str:
    """The stem, also drawn out (fuuuck), with look-alikes (sh1t), masked inside (f**k) or spelled out (f u c k)."""
    # Counted repeats only: an unbounded one inside another makes the pattern quadratic on a row of equal letters.
    like = [re.escape(_LOOKALIKES.get(letter, letter)) for letter in stem]
    inner = [f"(?:{letter}{{1,8}}|[{alike}*#]{{1,2}})" for letter, alike in zip(stem[1:-1], like[1:-1], strict=True)]
    return f"[{like[0]}]{{1,8}}{''.join(inner)}[{like[-1]}]{{1,8}}|" + r"[\s._*-]".join(stem)
