"""Numbers that states give to people: American social security, British national insurance, passports.

None has a check digit that is printed with it, so a number counts by its layout, or by the words beside it.

Source: ICAO Doc 9303-4 for the lines that machines read in a passport.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

from redistill.validation.patterns.findings import NINO, PASSPORT, SSN, Finding
from redistill.validation.patterns.nearby import values_beside
from redistill.validation.patterns.signs import holds_any
from redistill.validation.patterns.spoken_digits import spoken

# Possessive: a gap gives nothing back, so that no text makes the search slow.
_GAP = r"(?:[\s:=#.,'\"()/-]|\b(?:is|was|no|nr|num|number|numero|número|numéro|code|my|the|of|de|new|it|s|on|file|card|id|as|his|her|for)\b){0,12}+"

_SSN = re.compile(r"(?<![\w£$€])(?<![\d][./-])\d{3}[-./ _]\d{2}[-./ _]\d{4}(?!\w|[./-]\d)")
_NAMED_SSN = re.compile(
    rf"\b(?:ssn|itin|social security|soc(?:ial)?\.? sec|my social|tax(?:payer)? (?:id|identification))\b{_GAP}(?P<value>\d(?:[\s._/-]{{0,3}}\d){{8}})(?!\w)",
    re.IGNORECASE,
)
_SSN_BEHIND = re.compile(
    r"(?<![\w£$€.,/-])(?P<value>\d{9})\s(?:is|was)\s(?:(?:my|his|her|the|our)\s)?(?:ssn|itin|social|tax(?:payer)? id)\b", re.IGNORECASE
)
_SSN_NAME = (
    r"(?:\b(?:ssns?|ssid|itin|(?-i:TIN|EIN)|ss ?(?=#)|ss (?:no|nr|num|number)|social (?:security|insurance)|soc\.? ?sec|socsec|soc|social\.? sec|(?:my|his|her|our|your|their|the|'s|us|full) social|social(?=\s?(?:[:#=(]|is\b|no\b|num|number))|"
    r"tax(?:payer)?(?:'s)? (?:id|identification|no|num|number))\b|\bs\.\s?s\.\s?n\b\.?)"
)
_SSN_NAMES = re.compile(_SSN_NAME, re.IGNORECASE)
_SSN_VALUE = re.compile(
    r"(?<![\w£$€])(?:\d{9}|\d{3}\s?[-./ _,]\s?\d{2}\s?[-./ _,]\s?\d{4}|\d{3}[ .-]\d{3}[ .-]\d{3}|\d{2}-\d{7}|\d(?:[ -]\d){8}|\d{5}[ -]\d{4})(?!\w|[./-]\d)"
)
_SSN_END = re.compile(
    rf"(?:\blast (?:four|4)\b[^.!?\n\d]{{0,30}}?{_SSN_NAME}|{_SSN_NAME}[^.!?\n\d]{{0,24}}?\b(?:last (?:four|4)|end(?:s|ing))\b)[^.!?\n\d]{{0,24}}?(?P<value>(?<!\w)\d{{4}})(?!\w)",
    re.IGNORECASE,
)
_SPEAKS_OF_SSN = ("ss", "soc", "tin", "ein", "tax", "s.")
_SEPARATOR = r"[\s.,_/-]?"
_NINO = re.compile(rf"(?<![A-Za-z0-9])[A-Za-z]{{2}}(?:{_SEPARATOR}\d){{6}}{_SEPARATOR}[A-Da-d](?![A-Za-z0-9])")
_NAMED_NINO = re.compile(
    rf"(?:\b(?:national insurance|nino|ni|insurance)\b|\bn\.i\.){_GAP}(?P<value>[A-Za-z]\s?[A-Za-z](?:{_SEPARATOR}\d){{6}}(?:{_SEPARATOR}[A-Da-d]\b)?)(?![A-Za-z0-9])",
    re.IGNORECASE,
)
_TWO_LETTER_WORDS = frozenset(
    re.findall(
        r"\S+",
        r"ac am an as at be by do go he hi if in is it me my no of on or pm so to up us we ",
    )
)

_PASSPORT = (
    r"(?:\b(?:pass?ports?|passeports?|ppt|pspt|pass (?=n[or]\b|num)|identification card|identity document|id card|id document|dowód osobisty|паспорт\w{0,2}|загранпаспорт\w{0,2}|passeport|pasaporte|passaporto|passaporte|reisepass|reisepassnummer|passnummer|paspoort|paspoortnummer|paszport|"
    r"pasnummer|passnr|travel document|identity card|national id|pp(?= no\b| num|:)|personalausweis|ausweis|ausweisnummer|carte d'identité|dni)\b|护照(?:号码?)?|パスポート(?:番号)?|여권(?:번호)?)"
)
_PASSPORT_WORDS = (
    r"no|nos|nr|num|number|numbers|numero|número|numéro|nummer|de|is|was|are|my|his|her|our|their|your|the|it|s|its|this|uk|us|usa|eu|british|"
    r"american|irish|german|french|indian|canadian|australian|new|old|current|expired|code|id|booklet|document|doc|holder|copy|scan|page|serial|reads|says|with|has|details|"
    r"given as|ist|est|es|è"
)
_PASSPORT_GAP = rf"(?:[\s:=#.,;'\"()/-]|n\.?[°ºo]|\b(?:{_PASSPORT_WORDS})\b){{0,14}}+"
# A short word before a number is part of it only in capitals: "N 1234567", not "and 1234567".
_PASSPORT_VALUE = (
    r"(?<![A-Za-z0-9£$€])(?:[A-Za-z]{1,3}-?\d(?:[ -]?\d){5,8}[A-Za-z]?|(?-i:[A-Z]{1,3}) \d(?:[ -]?\d){5,8}[A-Za-z]?|\d(?:[ -]?\d){6,9}[A-Za-z]?|"
    r"(?=(?:[A-Za-z]*\d){3})[A-Za-z0-9]{7,10})(?![A-Za-z0-9]|[./]\d)"
)
_NAMED_PASSPORT = re.compile(rf"{_PASSPORT}{_PASSPORT_GAP}(?P<value>{_PASSPORT_VALUE})", re.IGNORECASE)
_PASSPORT_BEHIND = re.compile(
    rf"(?P<value>{_PASSPORT_VALUE})[\s,(=:-]{{0,3}}(?:\b(?:is|as|was|for|on|from|my|his|her|our|their|the|a|uk|us|british|old|new|current|wife's|"
    rf"husband's|son's|daughter's|mother's|father's)\b[\s(]{{0,2}}){{0,5}}{_PASSPORT}",
    re.IGNORECASE,
)
_PASSPORT_LATER = re.compile(
    rf"{_PASSPORT}[^.!?\n]{{0,60}}?\b(?:number|no|nr|num|nummer|numero|número|numéro)\b[\s:=.#(]{{0,3}}(?:(?:is|was|it's)\s)?(?P<value>{_PASSPORT_VALUE})",
    re.IGNORECASE,
)
_PASSPORT_NAMES, _PASSPORT_VALUES = re.compile(_PASSPORT, re.IGNORECASE), re.compile(_PASSPORT_VALUE)
_DATE = re.compile(
    r"\d{1,2}[ -]\d{1,2}[ -](?:19|20)\d\d|(?:19|20)\d\d[ -]?(?:0\d|1[0-2])[ -]?[0-3]\d|[0-3]\d(?:0\d|1[0-2])(?:19|20)\d\d|\d{1,2}(?: \d{1,2}){3,}|\d+000|\d+[xX]\d+[a-z]*"
)
"""Dates, times and round amounts have as many digits as a passport."""
_MACHINE_READ = (
    re.compile(r"(?<![A-Z0-9<])P[A-Z<][A-Z<]{3}[A-Z<]{10,39}(?![A-Z0-9])"),
    re.compile(r"(?<![A-Z0-9<])[A-Z0-9<]{9}\d[A-Z<]{3}\d{7}[MFX<]\d{7}[A-Z0-9<]{0,16}"),
)


_NINE_DIGITS = re.compile(r"\d(?:[\s._/-]{0,3}\d){8}")
_SIX_DIGITS = re.compile(r"\d(?:[\s.,_/-]?\d){5}")
_SPEAKS_OF_PASSPORTS = (
    "pass",
    "ppt",
    "pp ",
    "pp:",
    "pasaport",
    "paspoort",
    "paszport",
    "pasport",
    "pspt",
    "id card",
    "id doc",
    "identification card",
    "identity doc",
    "dowód",
    "паспорт",
    "护照",
    "パスポート",
    "여권",
    "pasnummer",
    "travel doc",
    "identity card",
    "national id",
    "ausweis",
    "identité",
    "dni",
)


def social_security_numbers(text: str) -> Iterator[Finding]:
    """American numbers: three, two and four digits, or nine where the words before say so."""
    lower = text.lower()
    if names := [m.span() for m in _SSN_NAMES.finditer(text)] if holds_any(lower, _SPEAKS_OF_SSN) else []:
        yield from (Finding(SSN, *span) for span in values_beside(text, names, [m.span() for m in _SSN_VALUE.finditer(text)]))
        yield from (Finding(SSN, *match.span("value")) for match in _SSN_END.finditer(text))
    if _NINE_DIGITS.search(text) is None:
        return
    yield from (Finding(SSN, *match.span()) for match in _SSN.finditer(text))
    yield from (Finding(SSN, *match.span("value")) for pattern in (_NAMED_SSN, _SSN_BEHIND) for match in pattern.finditer(text))


def spoken_social_security_numbers(text: str) -> Iterator[Finding]:
    """American numbers whose nine digits are words."""
    lower = text.lower()
    if holds_any(lower, _SPEAKS_OF_SSN) and (values := spoken(text, 9, 9)):
        yield from (Finding(SSN, *span) for span in values_beside(text, [m.span() for m in _SSN_NAMES.finditer(text)], values))


def national_insurance_numbers(text: str) -> Iterator[Finding]:
    """British numbers: two letters, six digits, a letter from A to D, which may be missing where the words before say what it is."""
    if _SIX_DIGITS.search(text) is None:
        return
    for match in _NINO.finditer(text):
        # "to 450000 a year" has the same layout.
        if match.group()[:2].lower() not in _TWO_LETTER_WORDS or match.group()[:2].isupper():
            yield Finding(NINO, *match.span())
    yield from (Finding(NINO, *match.span("value")) for match in _NAMED_NINO.finditer(text))


def passport_numbers(text: str) -> Iterator[Finding]:
    """Numbers beside the word passport in some languages, and the two lines that machines read."""
    lower = text.lower()
    if holds_any(lower, _SPEAKS_OF_PASSPORTS):
        for pattern in (_NAMED_PASSPORT, _PASSPORT_BEHIND, _PASSPORT_LATER):
            matches = (m for m in pattern.finditer(text) if not _DATE.fullmatch(m["value"]))
            yield from (Finding(PASSPORT, *match.span("value")) for match in matches)
        names = [m.span() for m in _PASSPORT_NAMES.finditer(text)]
        values = [m.span() for m in _PASSPORT_VALUES.finditer(text) if not _DATE.fullmatch(m.group())]
        yield from (Finding(PASSPORT, *span) for span in values_beside(text, names, values))
    if "<" in text:
        yield from (Finding(PASSPORT, *match.span()) for pattern in _MACHINE_READ for match in pattern.finditer(text))
