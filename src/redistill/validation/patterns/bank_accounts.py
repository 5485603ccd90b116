"""IBANs, proved by their check digits, and British accounts with their sort code.

Source: ISO 13616-1 and the SWIFT registry of IBAN formats.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

from redistill.validation.patterns.findings import ACCOUNT, IBAN, Finding

# Length of an IBAN by country: without it, the words behind a number would count as part of it.
_IBAN_LENGTHS = {
    country: int(length)
    for country, length in re.findall(
        r"([A-Z]{2})(\d{2})",
        "AD24 AE23 AL28 AO25 AT20 AZ28 BA20 BE16 BF28 BG22 BH22 BI27 BJ28 BR29 BY28 CF27 CG27 CH21 CI28 CM27 CR22 CV25 CY28 CZ24 DE22 DJ27 DK18 "
        "DO28 DZ26 EE20 EG29 ES24 FI18 FK18 FO18 FR27 GA27 GB22 GE22 GI23 GL18 GQ27 GR27 GT28 GW25 HN28 HR21 HU28 IE22 IL23 IQ23 IR26 IS26 IT27 "
        "JO30 KM27 KW30 KZ20 LB28 LC32 LI21 LT20 LU20 LV21 LY25 MA28 MC27 MD24 ME22 MG27 MK19 ML28 MN20 MR27 MT31 MU30 MZ25 NE28 NI28 NL18 NO15 "
        "OM23 PK24 PL28 PS29 PT25 QA29 RO24 RS22 RU33 SA24 SC31 SD18 SE24 SI19 SK24 SM27 SN28 SO23 ST25 SV28 TD27 TG28 TL23 TN24 TR26 UA29 VA22 "
        "VG24 XK20 YE30",
    )
}
_IBAN_START = re.compile(r"(?:(?<![A-Za-z0-9])|(?<=iban)|(?<=IBAN))[A-Za-z]\s?[A-Za-z][\s.,/_-]?[0-9][\s.]?[0-9]")
_IBAN_REST = re.compile(r"[\s.,/_:-]{0,3}[A-Za-z0-9]")

_SORT_CODE = r"\d{2}[-. /]?\d{2}[-. /]?\d{2}"
_MAY_HOLD = re.compile(r"\d[ -]?\d[ -]?\d[ -]?\d[ -]?\d[ -]?\d|\d\d[-. /]\d\d[-. /]\d\d")
_NAMED_SORT_CODE = r"\b(?:sort\s?code|s/?\s?code|sc|s/c|bank code)\b[\s:=#.,(-]{0,4}(?:(?:is|no|number|nr)\b[\s:=#.,(-]{0,3}){0,2}"
_NAMED_ACCOUNT = (
    r"\b(?:accounts?|acct|acc|a/c|an|ac|kontonummer|konto|compte|cuenta)\b[\s:=#.,(-]{0,4}"
    r"(?:(?:is|no|nos|num|number|numbers|nr|ending in|called|are|was)\b[\s:=#.,(-]{0,3}){0,3}"
)
_DATE = r"(?:\d{1,2}[ ./-]\d{1,2}[ ./-](?:19|20)\d\d|(?:19|20)\d\d[ ./-]?(?:0[1-9]|1[0-2])[ ./-]?(?:0[1-9]|[12]\d|3[01]))(?!\d)"
_ACCOUNT_DIGITS = rf"(?<![\d.,/-])(?!{_DATE})\d(?:[ -]?\d){{5,11}}(?!\w|[.,/-]\d)"
# A sort code in pairs and eight digits behind it, as people write them one after the other.
_PAIR = re.compile(
    rf"(?<![\w.,/-])(?P<code>\d{{2}}([-. /])\d{{2}}\2\d{{2}})[\s,;:/|-]{{1,4}}(?!{_DATE})(?P<account>\d{{8}}|\d{{4}} \d{{4}})(?!\w|[.,/-]\d)"
)
_PAIRS = (
    _PAIR,
    re.compile(rf"(?<![\w.,/-])\d{{6}}[\s,;:/|-]{{1,2}}(?!{_DATE})\d{{8}}(?!\w|[.,/-]\d)"),
    re.compile(rf"(?<![\w.,/-])(?!{_DATE})\d{{8}}[\s,;:/|-]{{1,3}}\d{{2}}([-./])\d{{2}}\1\d{{2}}(?!\w|[.,/-]\d)"),
)
_ACCOUNT = re.compile(rf"{_NAMED_ACCOUNT}(?P<account>{_ACCOUNT_DIGITS})", re.IGNORECASE)
_CODE = re.compile(
    rf"(?:{_NAMED_SORT_CODE}(?P<code>{_SORT_CODE})(?!\d)|(?<![\w.,/-])(?P<pairs>\d{{2}}-\d{{2}}-\d{{2}})(?![\w]|[./-]\d))", re.IGNORECASE
)
_NEAR_CODE = re.compile(r"(?<![\w.,/-])(?:\d{8}|\d{4} \d{4})(?!\w|[.,/-]\d)")
_CODE_IS_NAMED = re.compile(_NAMED_SORT_CODE, re.IGNORECASE)
_ORDER_WORDS = re.compile(r"\b(?:ref|reference|order|invoice|ticket|case|parcel|on|from|date)\b\W{0,3}$", re.IGNORECASE)


def ibans(text: str) -> Iterator[Finding]:
    """Every IBAN of a text in normal form."""
    if sum(map(str.isdigit, text)) < 8:
        return
    for match in _IBAN_START.finditer(text):
        length = _IBAN_LENGTHS.get("".join(c for c in match.group() if c.isalpha()).upper())
        end, count = match.end(), 4
        while length and count < length and (more := _IBAN_REST.match(text, end)):
            end, count = more.end(), count + 1
        value = re.sub(r"[^A-Z0-9]", "", text[match.start() : end].upper())
        if count == length and not re.match(r"[A-Za-z0-9]", text[end : end + 1]) and _is_iban(value):
            yield Finding(IBAN, match.start(), end)


def _is_iban(value: str) -> bool:
    return int("".join(str(int(c, 36)) for c in value[4:] + value[:4])) % 97 == 1


def accounts(text: str) -> Iterator[Finding]:
    """Account numbers of a text in normal form, with the sort codes beside them. A sort code names a branch, so it counts only beside an account."""
    if _MAY_HOLD.search(text) is None:
        return
    yield from (Finding(ACCOUNT, *match.span()) for pattern in _PAIRS for match in pattern.finditer(text))
    named = list(_ACCOUNT.finditer(text))
    for match in named:
        yield Finding(ACCOUNT, *match.span("account"))
    codes = [m.span("code") if m["code"] else m.span("pairs") for m in _CODE.finditer(text)]
    near = [
        m for m in _NEAR_CODE.finditer(text) if codes and _CODE_IS_NAMED.search(text) and not _ORDER_WORDS.search(text[: m.start()][-20:])
    ]
    for match in near:
        yield Finding(ACCOUNT, *match.span())
    if named or near:
        yield from (Finding(ACCOUNT, *span) for span in codes)
