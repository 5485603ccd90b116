"""Numbers of payment cards, proved by the Luhn check digit.

Source: ISO/IEC 7812-1, annex B.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from itertools import pairwise

from redistill.validation.patterns.findings import CARD, Finding

_SEPARATOR = r"[\s.,:;+()/\\_*|\u00b7\u2022-]"
_DIGITS = re.compile(rf"(?<!\d)\d(?:{_SEPARATOR}{{0,3}}\d){{12,}}")
_GROUP = re.compile(r"\d+")
_USUAL_SEPARATORS = frozenset(" \t\r\n-")
_ISSUED = (
    (4, 4, (13, 16, 18, 19)),
    (51, 55, (16,)),
    (2221, 2720, (16,)),
    (2200, 2204, (16, 17, 18, 19)),
    (34, 34, (15,)),
    (37, 37, (15,)),
    (3528, 3589, (16, 17, 18, 19)),
    (300, 305, (14, 16, 19)),
    (36, 36, (14, 16, 19)),
    (38, 39, (14, 16, 19)),
    (50, 50, (13, 14, 15, 16, 17, 18, 19)),
    (56, 58, (13, 14, 15, 16, 17, 18, 19)),
    (60, 69, (16, 17, 18, 19)),
)
_LAYOUTS = frozenset(
    {(4, 4, 4, 4), (4, 6, 5), (4, 6, 4), (4, 4, 5), (8, 8), (4, 4, 4, 4, 1), (4, 4, 4, 4, 2), (4, 4, 4, 4, 3), (4, 4, 4, 1), (6, 13)}
)
"""How cards are printed. Behind unusual separators, such as the point of an amount, only these count."""


_WORDS = {
    word: str(digit) for digit, word in enumerate(["zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine"])
} | {
    "oh": "0",
    "nought": "0",
}
_WORD = f"(?:{'|'.join(_WORDS)})"
_SPOKEN = re.compile(rf"\b{_WORD}(?:[\s,-]{{1,3}}{_WORD}){{12,18}}\b", re.IGNORECASE)


def spoken_cards(text: str) -> Iterator[Finding]:
    """Card numbers whose digits are words."""
    if sum(text.lower().count(word) for word in ("one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "zero")) < 6:
        return
    for match in _SPOKEN.finditer(text):
        if luhn("".join(_WORDS[word.lower()] for word in re.findall(r"[A-Za-z]+", match.group()))):
            yield Finding(CARD, *match.span())


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
    return _is_issued(digits) and luhn(digits)


def _is_issued(digits: str) -> bool:
    """Whether networks issue cards with these first digits in this length: one random number in ten passes the check digit, and dates too."""
    return any(low <= int(digits[: len(str(low))]) <= high and len(digits) in lengths for low, high, lengths in _ISSUED)


def luhn(digits: str) -> bool:
    """Whether the last digit is the Luhn check digit of the others."""
    odd, even = digits[::-1][::2], digits[::-1][1::2]
    return (sum(map(int, odd)) + sum(sum(divmod(2 * int(d), 10)) for d in even)) % 10 == 0
