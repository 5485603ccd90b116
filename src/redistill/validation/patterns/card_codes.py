"""PINs and card security codes: a few digits, or their words, that count only beside the word that says what they are."""

from __future__ import annotations

import re
from collections.abc import Iterator

from redistill.validation.patterns.findings import CVV, PIN, Finding

_WORD = r"(?:zero|oh|nought|one|two|three|four|five|six|seven|eight|nine)"
_GAP_WORDS = (
    r"is|was|were|are|be|to|reads|says|as|remains|no|nr|num|number|code|codes|it|s|for|on|of|my|the|his|her|our|their|your|a|this|that|new|old|current|"
    r"temporary|initial|default|card|cards|debit|credit|bank|account|phone|telephone|app|online|banking|mobile|visa|mastercard|amex|atm|i|we|she|he|use|used|uses|"
    r"set|chose|chosen|picked|got|have|always|still|now|just|back|changed|which|from|sent|given|gave|wanted|want|remember|think|and|block|you|me|unlock|login|sim|door|es|ist|est|ends|end|up|being|used"
)
# Possessive: a gap gives nothing back, so that no text makes the search slow.
_GAP = rf"(?P<gap>(?:[\s:=#'\"()*,>/\u3010\u3014-]|\.{{2,}}|(?<=\bno)\.|\b(?:{_GAP_WORDS})\b){{0,24}}+)"
_NAMES_A_CARD = re.compile(r"\b(?:cards?|account|debit|credit|visa|mastercard|amex)\b", re.IGNORECASE)
_OTHER_DIGITS = re.compile(
    r"\b(?:ending|ends|last|paid|charged|took|since|until|blocked on|year|order|ref|reference|amount|balance|limit)\b", re.IGNORECASE
)
_FOR_WHICH = re.compile(r"\bfor\s*$", re.IGNORECASE)
_SAYS_WHAT_IT_IS = re.compile(r"\b(?:is|was|were|are|be|to|reads|says|as|remains)\b|'s\b|[:=>-]", re.IGNORECASE)
_NO_QUANTITY = (
    r"(?!\w|[.,:/]\d|[/%€£$]|\s?(?:times|days?|weeks?|months?|years?|hours?|minutes?|attempts?|tries|pounds?|euros?|dollars?|people|of)\b)"
)


def _value(fewest: int, most: int) -> str:
    more = f"{{{fewest - 1},{most - 1}}}"
    return rf"(?:(?<![\w£$€])(?<!\d\.)\d(?:(?:[ -]?\d){more}|(?:[.,/]\d){more})(?![ -]?\d){_NO_QUANTITY}|\b{_WORD}(?:[\s,-]{{1,2}}{_WORD}){more}\b)"


_INTRODUCES = r"(?:\b(?:is|was|be|to|as|of|are|say|says|reads|being|used|entered|typed|type|enter|use|using|chose|picked|with|like|namely|called|remains|stays)\b|'s\b|[:=>(\"'-])"


def _patterns(name: str, value: str) -> tuple[re.Pattern[str], ...]:
    """The value behind its name, with others that follow ("from 1234 to 5678"), and the value before its name."""
    before = r"(?:\b(?:my|the|his|her|our|their|your|a|new|old|current|card|debit|credit|bank|app|phone)\b\s?){0,4}"
    return (
        re.compile(
            rf"{name}{_GAP}(?P<value>{value}(?:(?:[\s,;'-]|\b(?:to|and|or|not|then|now|it|s|is|was|but|the|new|one|changed)\b){{1,10}}+{value})*)",
            re.IGNORECASE,
        ),
        # Any words may stand between, if the last one introduces a value.
        re.compile(rf"{name}(?P<gap>[^.!?;\n£$€\d]{{0,40}}?{_INTRODUCES})[\s'\"(:=]{{0,3}}(?P<value>{value})", re.IGNORECASE),
        re.compile(
            rf"(?P<value>{value})['\"]?\s(?:\bas\b|\binto\b|\bwhen asked for\b|=)[^.!?\n\d]{{0,20}}?{name}(?P<asked>)", re.IGNORECASE
        ),
        re.compile(
            rf"(?P<value>{value})['\"]?\s?[,(-]?\s?(?:(?:\b(?:is|was|as|for)\b|\bthat's\b|=|\()\s?{before}){name}|\bis (?P<asked>{value}) (?:my|the) {name}",
            re.IGNORECASE,
        ),
    )


_PINS = _patterns(
    r"(?:\bpins?\b|\bpin(?=\d)|\bpin-?codes?\b|\bp\.\s?i\.\s?n\b\.?|\bpass\s?codes?\b|\bgeheimzahl\b|\bcode secret\b|\bcódigo pin\b)",
    _value(4, 6),
)
_CVVS = _patterns(
    r"(?:\bcvv2?\b|\bcvc2?\b|\bcv2\b|\bcsc\b|\bcid\b|\bcvn2?\b|\bsecurity (?:code|number|digits)\b|\bcard verification(?: value| code| number)?\b|"
    r"\bsignature strip\b|\bsecurity no\b|\bback of (?:the |my )?card\b|\b(?:code|digits|numbers?) (?:on|from|at) (?:the )?(?:back|reverse)(?: of (?:my|the)(?: card)?)?\b|\b(?:three|four|3|4)[ -](?:digits?|numbers?)(?: (?:security )?(?:code|number))?"
    r"(?: (?:on|from|at) the (?:back|front|reverse|strip)(?: of (?:my|the|it|her|his)(?: card)?)?)?)",
    _value(3, 4),
)
_BEFORE_CVV = re.compile(r"(?<![\w£$€./-])(?<!\d )(?P<value>\d{3,4})\s(?:cvv2?|cvc2?|on the (?:back|reverse))\b", re.IGNORECASE)
_SPEAKS_OF_PINS = ("pin", "p.i", "p. i", "passcode", "pass code", "geheimzahl", "code secret")
_SPEAKS_OF_CODES = (
    "cvv",
    "cvc",
    "cvn",
    "cv2",
    "csc",
    "cid",
    "security",
    "verification",
    "strip",
    "back",
    "reverse",
    "3 dig",
    "3-dig",
    "4 dig",
    "4-dig",
    "e dig",
    "e-dig",
    "r dig",
    "r-dig",
    "3 num",
    "3-num",
    "4 num",
    "4-num",
    "e num",
    "e-num",
    "r num",
    "r-num",
)
# The last four digits of a card are part of many tasks; the three on its back are not.
_LAST_DIGITS = re.compile(r"\blast (?:three|four|3|4) (?:digits?|numbers?)(?! (?:on|from|at) the)", re.IGNORECASE)


def pins(text: str) -> Iterator[Finding]:
    """Every PIN of a text in normal form: four to six digits."""
    if _holds(text, _SPEAKS_OF_PINS):
        yield from (Finding(PIN, *span) for span in _spans(text, _PINS))


def security_codes(text: str) -> Iterator[Finding]:
    """Every card security code of a text in normal form: three or four digits."""
    if _holds(text, _SPEAKS_OF_CODES):
        yield from (Finding(CVV, *match.span("value")) for match in _BEFORE_CVV.finditer(text))
        last = [match.span() for match in _LAST_DIGITS.finditer(text)]
        for start, end in _spans(text, _CVVS):
            if not any(a <= start <= b + 12 for a, b in last):
                yield Finding(CVV, start, end)


def _holds(text: str, words: tuple[str, ...]) -> bool:
    lower = text.lower()
    return any(word in lower for word in words)


def _spans(text: str, patterns: tuple[re.Pattern[str], ...]) -> Iterator[tuple[int, int]]:
    behind, introduced, *before = patterns
    for match in behind.finditer(text):
        if _FOR_WHICH.search(match["gap"]):
            continue
        # "The PIN for my card 4821" tells the end of a card number; "the PIN for my card is 4821" tells a PIN.
        if not _NAMES_A_CARD.search(match["gap"]) or _SAYS_WHAT_IT_IS.search(match["gap"]):
            yield match.span("value")
    for match in introduced.finditer(text):
        if not _OTHER_DIGITS.search(match["gap"]):
            yield match.span("value")
    for pattern in before:
        yield from (match.span("value" if match["value"] else "asked") for match in pattern.finditer(text))
