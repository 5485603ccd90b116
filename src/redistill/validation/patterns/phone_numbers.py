"""Phone numbers: international ones, national ones by their layout, and other digits where the words beside them speak of a phone.

The metadata of libphonenumber do not help here: any eight digits are a possible number of some country, and the numbers that people invent are valid in none.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

from redistill.validation.patterns.findings import PHONE, Finding

# A currency sign, a decimal point or a date's dash before a number means that it is none.
_NOT_AFTER = r"(?<![\w£$€¥+])(?<![\d][.,:/-])"
_NOT_BEFORE = r"(?!\w|[.,:/-]\d)"
_SEPARATOR = r"[\s.()/-]"
_LAYOUTS = (
    re.compile(rf"(?<![\w£$€¥+])(?:\+|00){_SEPARATOR}{{0,2}}[1-9](?:{_SEPARATOR}{{0,3}}\d){{7,14}}(?!\d)"),
    # 020 7946 0958, (0161) 496 0123, 06 12 34 56 78, 089 / 1234-567, 0412 345 678
    re.compile(rf"{_NOT_AFTER}\(?0[1-9]\d{{0,4}}\)?(?:[\s./-]{{1,3}}\d{{2,8}}){{1,4}}{_NOT_BEFORE}"),
    re.compile(rf"{_NOT_AFTER}0[1-9]\d{{8,9}}{_NOT_BEFORE}"),
    # (212) 555-0123, 212-555-0123, 1-800-555-0123
    re.compile(
        rf"{_NOT_AFTER}(?:1[ .-])?(?:\([2-9]\d{{2}}\)[ .-]?|[2-9]\d{{2}}[ ./-])[2-9]\d{{2}}[ ./-]\d{{4}}{_NOT_BEFORE}|{_NOT_AFTER}[2-9]\d{{2}}([./-])\d{{3}}\1\d{{4}}{_NOT_BEFORE}"
    ),
    # (11) 91234-5678, 8 (912) 345-67-89
    re.compile(rf"{_NOT_AFTER}(?:\d{{1,3}}[ -])?\(\d{{2,5}}\)[ .-]{{0,2}}\d{{2,5}}(?:[ .-]\d{{2,5}}){{1,3}}{_NOT_BEFORE}"),
    re.compile(rf"{_NOT_AFTER}[6-9]\d{{4}} \d{{5}}{_NOT_BEFORE}"),
)
_NAME = (
    r"call|calls|called|calling|ring|rang|phone|phones|tel|telephone|telefon|telefono|teléfono|téléphone|telefoonnummer|telefonnummer|text|texts|sms|mobile|mobiles|"
    r"mob|cell|cellphone|cellulare|celular|handy|handynummer|móvil|portable|gsm|whatsapp|whats app|signal|telegram|viber|fax|landline|hotline|dial|contact|reach|"
    r"appelez|appeler|appelle|llama|llámame|chiama|chiamami|anrufen|ruf|bel|numéro|nummer|número|numero|callback|ph|voicemail|reachable|erreichbar"
)
_WORDS = (
    r"me|us|him|her|them|it|is|was|are|on|at|my|the|his|their|our|your|a|no|nr|num|number|numbers|nummer|número|numéro|numero|back|to|under|via|by|using|please|new|"
    r"work|home|office|old|or|and|now|direct|best|anytime|today|tonight|tomorrow|later|instead|line|phone|mobile|mum|wife|husband|son|daughter|partner|manager|"
    r"mein|meine|mich|an|unter|mon|ma|le|au|est|mi|es|el|al|mio|il|è|mit|er|mig|på|op|mijn|s|de|ist|after|from|with|branch|customer|uk|us|day|evening|for"
)
_NAMED = re.compile(
    rf"(?:\b(?:{_NAME})\b|\b(?:my|his|her|our|their|contact) (?:new )?(?:number|no)\b|電話|电话|手机|手機|携帯|전화|телефон|позвон|звони|номер)(?:[\s:=#.,;'\"(/-]|\b(?:{_WORDS})\b){{0,16}}+(?P<number>\d(?:{_SEPARATOR}{{0,2}}\d){{6,12}})(?P<other>){_NOT_BEFORE}",
    re.IGNORECASE,
)
_BEHIND = re.compile(
    rf"{_NOT_AFTER}(?P<number>\d(?:{_SEPARATOR}{{0,2}}\d){{6,12}})[\s,]{{1,2}}(?:is|was|=)\s(?:\b(?:my|the|his|her|our|their|best|new|work|home|a|number|to|for)\b\s?){{0,4}}"
    r"(?:number|phone|mobile|cell|landline|telephone|tel|whatsapp|call|reach)\b|"
    rf"{_NOT_AFTER}(?P<other>\d(?:{_SEPARATOR}{{0,2}}\d){{8,12}})[\s,(]{{1,2}}(?:mobile|cell|landline|позвон|звони|телефон)",
    re.IGNORECASE,
)
_MAY_BE_NAMED = re.compile(rf"\b(?:{_NAME}|number)\b|電話|电话|手机|手機|携帯|전화|телефон|позвон|звони|номер", re.IGNORECASE)
_SEVEN_DIGITS = re.compile(r"\d(?:[\s.()/-]{0,3}\d){6}")
_AMOUNT = re.compile(r"\+?\d{1,3}(?:\.\d{3})+|\+?\d+\.\d{1,2}")
_DATE = re.compile(r"\(?\d{1,2}([./ -])\d{1,2}\1(?:19|20)\d{2}(?!\d)|(?:19|20)\d{2}([./-])\d{1,2}\2\d{1,2}(?!\d)")
_OTHER_NUMBER = re.compile(
    r"\b(?:ref|reference|order|invoice|ticket|case|parcel|tracking|account|acct|acc|card|ending|meter|reading|id|serial|policy|claim|sort code|isbn|code|passport|"
    r"contract|customer|member|membership)\b[\s:=#.-]{0,3}(?:(?:number|no|nr|is|was|id)\b[\s:=#.-]{0,3}){0,2}$",
    re.IGNORECASE,
)


def phones(text: str) -> Iterator[Finding]:
    """Every phone number of a text in normal form."""
    if _SEVEN_DIGITS.search(text) is None:
        return
    for pattern in _LAYOUTS:
        for match in pattern.finditer(text):
            start, end = match.span()
            if _is_number(text, start, end, 9 if text[start : start + 2].strip("(") == "0" or text[start] in "0(" else 8):
                yield Finding(PHONE, start, end)
    if _MAY_BE_NAMED.search(text):
        for pattern in (_NAMED, _BEHIND):
            for match in pattern.finditer(text):
                span = match.span("number") if match["number"] else match.span("other")
                if _is_number(text, *span, 7):
                    yield Finding(PHONE, *span)


def _is_number(text: str, start: int, end: int, fewest: int) -> bool:
    value = text[start:end]
    digits = sum(c.isdigit() for c in value)
    if not fewest <= digits <= 15 or _AMOUNT.fullmatch(value) or _DATE.match(value):
        return False
    return value[0] == "+" or _OTHER_NUMBER.search(text[max(0, start - 32) : start]) is None
