"""Payment cards, e-mail addresses, IBANs and phone numbers, found by pattern and proved by checksum where there is one.

The teacher may be an external API, so such rows are dropped before any call. Names are not searched, because that needs a language model.
Amounts, dates and the last four digits of a card are part of the task and must pass.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from redistill.validation.types import Candidate, Drop, Keep

CARD, EMAIL, IBAN, PHONE = "payment card", "e-mail address", "IBAN", "phone number"
_TOKENS = {CARD: "[CARD]", EMAIL: "[EMAIL]", IBAN: "[IBAN]", PHONE: "[PHONE]"}

# Length of an IBAN by country, from the SWIFT registry: without it, the words behind a number would count as part of it.
_IBAN_LENGTHS = {
    country: int(length)
    for country, length in re.findall(
        r"([A-Z]{2})(\d{2})",
        "AD24 AE23 AL28 AT20 AZ28 BA20 BE16 BG22 BH22 BI27 BR29 BY28 CH21 CR22 CY28 CZ24 DE22 DJ27 DK18 DO28 EE20 EG29 ES24 FI18 FK18 "
        "FO18 FR27 GB22 GE22 GI23 GL18 GR27 GT28 HN28 HR21 HU28 IE22 IL23 IQ23 IS26 IT27 JO30 KW30 KZ20 LB28 LC32 LI21 LT20 LU20 LV21 "
        "LY25 MC27 MD24 ME22 MK19 MN20 MR27 MT31 MU30 NI28 NL18 NO15 OM23 PK24 PL28 PS29 PT25 QA29 RO24 RS22 RU33 SA24 SC31 SD18 SE24 "
        "SI19 SK24 SM27 SO23 ST25 SV28 TL23 TN24 TR26 UA29 VA22 VG24 XK20 YE30",
    )
}
_GAP = r"[ \u00a0\u2009\u202f\-\u2010-\u2015]"
_IBAN_START = re.compile(r"(?<![A-Za-z0-9])[A-Za-z]{2}[0-9]{2}")
_IBAN_REST = re.compile(rf"(?:{_GAP}?[A-Za-z0-9])")
_EMAIL = re.compile(
    r"(?<![\w.+%'-])[\w.+%'-]+(?:@|\s?[\[(]at[\])]\s?)(?:[\w-]{1,63}(?:\.|\s?[\[(]dot[\])]\s?)){1,8}[^\W\d_]{2,24}", re.IGNORECASE
)
_DIGITS = re.compile(rf"(?<!\d)\d(?:{_GAP}{{0,3}}\d){{12,}}")
_GROUP = re.compile(r"\d+")
# A currency sign, a decimal point or a date's dash before a number means that it is none.
_NOT_AFTER = r"(?<![\w.,:/£$€¥+\-])"
_NOT_BEFORE = r"(?!\d|[.,:/]\d)"
_PHONES = (
    re.compile(rf"{_NOT_AFTER}(?:\+|00){_GAP}?[1-9](?:[ .()\u00a0\u2010-\u2015\-]{{0,3}}\d){{7,14}}(?!\d)"),
    re.compile(rf"{_NOT_AFTER}\(?0[12378]\d{{1,4}}\)?(?:[ .\u00a0\u2010-\u2015\-]{{0,2}}\d{{3,8}}){{1,3}}{_NOT_BEFORE}"),
    re.compile(rf"{_NOT_AFTER}(?:1[ .\-])?(?:\([2-9]\d{{2}}\)[ .\-]?|[2-9]\d{{2}}[ .\-])[2-9]\d{{2}}[ .\-]\d{{4}}{_NOT_BEFORE}"),
    # Ten bare digits are a phone number only where the words before them say so.
    re.compile(
        r"\b(?:call|ring|phone|tel|telephone|text|mobile|cell|whatsapp)(?:[\s:.#]|\b(?:me|us|on|at|is|my|the|number|no)\b){1,12}"
        rf"(?P<number>\d{{10,11}}){_NOT_BEFORE}",
        re.IGNORECASE,
    ),
)
_AMOUNT = re.compile(r"\+?\d{1,3}(?:\.\d{3})+|\+?\d+\.\d{1,2}")


@dataclass(frozen=True, slots=True)
class Finding:
    """Characters ``start`` to ``end`` of a text hold something of this kind."""

    kind: str
    start: int
    end: int


def find(text: str) -> list[Finding]:
    """Everything personal in a text, in order and without overlap.

    An IBAN holds digits that pass as a card or a phone number, so the surer kinds are looked for first.
    """
    taken: list[Finding] = []
    for findings in (_ibans(text), _emails(text), _cards(text), _phones(text)):
        for finding in findings:
            if all(finding.end <= other.start or other.end <= finding.start for other in taken):
                taken.append(finding)
    return sorted(taken, key=lambda f: f.start)


def judge(candidate: Candidate) -> Keep | Drop:
    findings = find(candidate.text)
    return Drop("personal_data", findings[0].kind) if findings else Keep()


def redact(text: str, findings: Iterable[Finding] | None = None) -> str:
    """The text with each finding replaced by its kind in brackets; without ``findings``, all personal data and secrets.

    Every other occurrence of a found value is replaced too, for example a card number that is joined to letters.
    """
    if findings is not None:
        return _replaced(text, findings)
    from redistill.validation.filters import secrets

    # What was glued to a finding, and no word of its own, may be one once the finding is gone.
    while found := [*secrets.find(text), *find(text)]:
        text = _replaced(text, found)
    return text


def _replaced(text: str, findings: Iterable[Finding]) -> str:
    spans = {(f.start, f.end, _TOKENS.get(f.kind, "[SECRET]")) for f in findings}
    for value, token in {(text[start:end], token) for start, end, token in spans if end - start >= 6}:
        spans |= {(m.start(), m.end(), token) for m in re.finditer(re.escape(value), text)}
    parts, done = [], 0
    for start, end, token in sorted(spans, key=lambda span: (span[0], -span[1], span[2])):
        if start >= done:
            parts += [text[done:start], token]
        done = max(done, end)
    return "".join(parts) + text[done:]


def _ibans(text: str) -> Iterator[Finding]:
    for match in _IBAN_START.finditer(text):
        length = _IBAN_LENGTHS.get(match.group()[:2].upper())
        end, count = match.end(), 4
        while length and count < length and (more := _IBAN_REST.match(text, end)):
            end, count = more.end(), count + 1
        value = re.sub(r"[^A-Z0-9]", "", text[match.start() : end].upper())
        if count == length and not re.match(r"[A-Za-z0-9]", text[end : end + 1]) and _is_iban(value):
            yield Finding(IBAN, match.start(), end)


def _is_iban(value: str) -> bool:
    return int("".join(str(int(c, 36)) for c in value[4:] + value[:4])) % 97 == 1


def _emails(text: str) -> Iterator[Finding]:
    return (Finding(EMAIL, m.start(), m.end()) for m in _EMAIL.finditer(text))


def _cards(text: str) -> Iterator[Finding]:
    for run in _DIGITS.finditer(text):
        groups = [(run.start() + g.start(), run.start() + g.end()) for g in _GROUP.finditer(run.group())]
        first = 0
        while first < len(groups):
            # An expiry date or a phone number may follow: any row of whole groups may be the card, the longest counts.
            last = next((n for n in range(min(first + 19, len(groups)), first, -1) if _is_card(text, groups[first:n])), None)
            if last is not None:
                yield Finding(CARD, groups[first][0], groups[last - 1][1])
            first = last or first + 1


def _is_card(text: str, groups: list[tuple[int, int]]) -> bool:
    digits = "".join(text[start:end] for start, end in groups)
    sizes = [end - start for start, end in groups]
    spelled = all(size >= 3 for size in sizes[:-1]) or max(sizes) == 1 or set(sizes) == {2}
    return 13 <= len(digits) <= 19 and digits[0] in "23456" and spelled and _luhn(digits)


def _luhn(digits: str) -> bool:
    odd, even = digits[::-1][::2], digits[::-1][1::2]
    return (sum(map(int, odd)) + sum(sum(divmod(2 * int(d), 10)) for d in even)) % 10 == 0


def _phones(text: str) -> Iterator[Finding]:
    for pattern in _PHONES:
        for match in pattern.finditer(text):
            start, end = match.span("number") if "number" in pattern.groupindex else match.span()
            digits = sum(c.isdigit() for c in text[start:end])
            if 8 <= digits <= 15 and not _AMOUNT.fullmatch(match.group()):
                yield Finding(PHONE, start, end)
