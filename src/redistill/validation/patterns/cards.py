"""Numbers of payment cards, proved by the Luhn check digit.

Source: ISO/IEC 7812-1, annex B.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from itertools import pairwise

from redistill.validation.patterns.findings import CARD, Finding
from redistill.validation.patterns.spoken_digits import digits_of, spoken

_SEPARATOR = r"[\s.,:;+()/\\_*|\u00b7\u2022-]"
_DIGITS = re.compile(rf"(?<!\d)\d(?:{_SEPARATOR}{{0,3}}\d){{12,}}")
_GROUP = re.compile(r"\d+")
_USUAL_SEPARATORS = frozenset(" \t\r\n-")
_ISSUED = (
    (4, 4, (16, 19)),
    (51, 55, (16,)),
    (2221, 2720, (16,)),
    (34, 34, (15,)),
    (37, 37, (15,)),
    (3528, 3589, (16, 17, 18, 19)),
    (300, 305, (14, 16)),
    (3095, 3095, (14, 16)),
    (36, 36, (14, 16)),
    (38, 39, (14, 16)),
    (6011, 6011, (16, 19)),
    (644, 649, (16, 19)),
    (65, 65, (16, 19)),
    (62, 62, (16, 17, 18, 19)),
    (2200, 2204, (16,)),
)
"""First digits and lengths of the networks whose cards are common: for a number in one piece without a word that speaks of a card, as in ids."""
_ISSUED_RARELY = (
    (4, 4, (13, 18)),
    (300, 305, (19,)),
    (36, 39, (19,)),
    (2200, 2204, (17, 18, 19)),
    (50, 50, (13, 14, 15, 16, 17, 18, 19)),
    (56, 58, (13, 14, 15, 16, 17, 18, 19)),
    (60, 69, (16, 17, 18, 19)),
)
"""Old and rare cards, such as Maestro, and lengths that no network issues any more: where digits are printed in groups, or a word speaks of a card."""
_CARD_WORD = re.compile(
    r"card|kart[ey]|carte|tarjeta|carta|cartão|kaart|\bkort|visa|master|maestro|amex|american express|diners|discover|jcb|unionpay|credit|debit|\bpan\b|long number|cvv|cvc|\bexp|карт|卡|カード|카드",
    re.IGNORECASE,
)
_NEAR = 60
_FRACTION = re.compile(r"\d[.,]$")
_LAYOUTS = frozenset(
    {(4, 4, 4, 4), (4, 6, 5), (4, 6, 4), (4, 4, 5), (8, 8), (4, 4, 4, 4, 1), (4, 4, 4, 4, 2), (4, 4, 4, 4, 3), (4, 4, 4, 1), (6, 13)}
)
"""How cards are printed. Behind unusual separators, such as the point of an amount, only these count."""


def spoken_cards(text: str) -> Iterator[Finding]:
    """Card numbers whose digits are words."""
    for start, end in spoken(text, 13, 19):
        digits = digits_of(text[start:end])
        if _is_issued(digits, (*_ISSUED, *_ISSUED_RARELY)) and luhn(digits):
            yield Finding(CARD, start, end)


def cards(text: str) -> Iterator[Finding]:
    """Every card number of a text in normal form."""
    for run in _DIGITS.finditer(text):
        groups = [(run.start() + g.start(), run.start() + g.end()) for g in _GROUP.finditer(run.group())]
        first = 0
        while first < len(groups):
            # An expiry date or a phone number may follow: any row of whole groups may be the card, the longest counts.
            last = next((n for n in _ends(text, groups, first) if _is_card(text, groups[first:n])), None)
            if last is not None:
                yield Finding(CARD, groups[first][0], groups[last - 1][1])
            first = last or first + 1


def _ends(text: str, groups: list[tuple[int, int]], first: int) -> list[int]:
    """Where a card that begins with a group can end, by its number of digits; the longest first."""
    ends: list[int] = []
    digits = 0
    if text[groups[first][0]] not in "23456":
        return ends
    for n in range(first, len(groups)):
        digits += groups[n][1] - groups[n][0]
        if digits > 19:
            break
        if digits >= 13:
            ends.insert(0, n + 1)
    return ends


def _is_card(text: str, groups: list[tuple[int, int]]) -> bool:
    sizes = tuple(end - start for start, end in groups)
    plain = all(size >= 3 for size in sizes[:-1]) and _USUAL_SEPARATORS.issuperset(
        c for (_, a), (b, _) in pairwise(groups) for c in text[a:b]
    )
    if not (plain or max(sizes) == 1 or set(sizes) == {2} or sizes in _LAYOUTS):
        return False
    digits = "".join(text[start:end] for start, end in groups)
    known = (*_ISSUED, *_ISSUED_RARELY) if len(groups) > 1 or _speaks_of_cards(text, *groups[0]) else _ISSUED
    if not (_is_issued(digits, known) and luhn(digits)):
        return False
    return len(groups) > 1 or _FRACTION.search(text[max(0, groups[0][0] - 2) : groups[0][0]]) is None or _speaks_of_cards(text, *groups[0])


def _speaks_of_cards(text: str, start: int, end: int) -> bool:
    return _CARD_WORD.search(text[max(0, start - _NEAR) : end + _NEAR]) is not None


def _is_issued(digits: str, known: Iterable[tuple[int, int, tuple[int, ...]]]) -> bool:
    """Whether networks issue cards with these first digits in this length: one random number in ten passes the check digit, and dates too."""
    return any(low <= int(digits[: len(str(low))]) <= high and len(digits) in lengths for low, high, lengths in known)


def luhn(digits: str) -> bool:
    """Whether the last digit is the Luhn check digit of the others."""
    odd, even = digits[::-1][::2], digits[::-1][1::2]
    return (sum(map(int, odd)) + sum(sum(divmod(2 * int(d), 10)) for d in even)) % 10 == 0
