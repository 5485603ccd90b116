"""E-mail addresses, also as people write them to hide them from machines: ``a @ b.com``, ``a [at] b [dot] com``, ``a at b dot com``."""

from __future__ import annotations

import re
from collections.abc import Iterator

from redistill.validation.patterns.findings import EMAIL, Finding
from redistill.validation.patterns.signs import holds_any

_ENDINGS = (
    "com|org|net|edu|gov|mil|int|info|biz|name|eu|uk|de|fr|es|it|nl|be|at|ch|ie|pt|pl|cz|sk|hu|ro|bg|gr|se|dk|fi|no|is|ee|lv|lt|lu|ru|ua|tr|us|ca|"
    "mx|br|ar|cl|co|pe|au|nz|jp|cn|kr|in|sg|hk|tw|my|id|th|vn|ph|za|ng|ke|eg|il|ae|sa|io|ai|me|tv|cc|app|dev|xyz|online|site|shop|store|blog|tech|cloud|"
    "email|example|test|invalid|localhost|local"
)
# After the word "dot", what may also be a word of a sentence does not count.
_SPOKEN_ENDINGS = re.sub(
    r"\b(?:at|is|no|us|in|my|me|id|be|it|name|online|site|shop|store|blog|email|test|local)\|", "", _ENDINGS + "|"
).rstrip("|")
_LOCAL = r"(?<![\w.+%'-])(?:[\w.+%'-]{1,64}|\"[^\"\n]{1,60}\"(?=@))"
_AT = r"(?:@|%40|&#64;|&#x40;|&commat;)"
_DOT = r"(?:\.|\s?[\[({<]\s?(?:dot|\.)\s?[\])}>]\s?|\s\.\s?|\s{1,2}dot\s{1,2}|-dot-)"
_PART = r"[^\W_](?:[\w-]{0,62})"
_BRACKETED_AT = r"(?:\s?[\[({<]\s?(?:at|a|@|at sign)\s?[\])}>]\s?|\s?<at>\s?)"
_WRITTEN_AT = ("@", "%40", "&#", "&commat", "_at_", "-at-")
_BRACKETS = ("[at", "(at", "{at", "<at", "[ at", "( at", "(a)", "[a]", "[@", "(@", "{@", "<@")
# Each pattern with the signs of which a text must hold one.
_PATTERNS = (
    (re.compile(rf"{_LOCAL}{_AT}(?:{_PART}\.){{1,8}}[^\W\d_]{{2,24}}", re.IGNORECASE), _WRITTEN_AT),
    (
        re.compile(rf"{_LOCAL}(?:\s{{0,2}}{_AT}\s{{0,2}}|_at_|-at-)(?:{_PART}?{_DOT}){{1,6}}(?:{_ENDINGS})(?!\w)", re.IGNORECASE),
        _WRITTEN_AT,
    ),
    (re.compile(rf"{_LOCAL}{_BRACKETED_AT}(?:{_PART}?{_DOT}){{1,6}}[^\W\d_]{{2,24}}(?!\w)", re.IGNORECASE), _BRACKETS),
    (
        re.compile(
            rf"{_LOCAL}(?:\s{{1,2}}(?:dot|underscore|dash|hyphen)\s{{1,2}}[\w+-]{{1,40}}){{0,4}}\s{{1,2}}at(?:\s{{1,2}}sign)?\s{{1,2}}"
            rf"(?:{_PART}?\s{{1,2}}dot\s{{1,2}}){{1,6}}(?:{_SPOKEN_ENDINGS})(?!\w)",
            re.IGNORECASE,
        ),
        (" dot ",),
    ),
)
_PLAIN_AT_WORD = re.compile(rf"{_LOCAL}\s{{1,2}}(?P<at>at|AT)\s{{1,2}}(?:[\w-]{{1,63}}\.){{1,6}}(?:{_ENDINGS})(?!\w)")
_ABOUT_MAIL = re.compile(r"\b(?:e-?mail|mail|contact|reach|write|address|user|login)\b[^.!?]{0,30}$", re.IGNORECASE)
_NO_NAME = frozenset(
    re.findall(
        r"\S+",
        r"me us you him her them it look online shop mail email e-mail here there that this one or and is was bought ordered page "
        r"account ",
    )
)


def emails(text: str) -> Iterator[Finding]:
    """Every e-mail address of a text in normal form."""
    lower = text.lower()
    for pattern, signs in _PATTERNS:
        if holds_any(lower, signs):
            yield from (Finding(EMAIL, *match.span()) for match in pattern.finditer(text))
    if " at " not in lower or "." not in lower:
        return
    for match in _PLAIN_AT_WORD.finditer(text):
        local = match.group().split()[0]
        # "ordered at shop.example" is no address: the name must look like one, or the words before it must speak of mail.
        named = bool(re.search(r"[\d._+]", local)) or match["at"] == "AT" or _ABOUT_MAIL.search(text[: match.start()][-40:])
        if named and local.lower() not in _NO_NAME:
            yield Finding(EMAIL, *match.span())
