"""Digits that are written as words: "four eight double two", "forty-eight twenty-one"."""

from __future__ import annotations

import re

_UNITS = {word: str(digit) for digit, word in enumerate(["zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine"])}
_ZEROS = dict.fromkeys(("oh", "nought", "naught", "nil"), "0")
_TEENS = {
    w: str(n)
    for n, w in enumerate(
        ["ten", "eleven", "twelve", "thirteen", "fourteen", "fifteen", "sixteen", "seventeen", "eighteen", "nineteen"], 10
    )
}
_TENS = {w: str(n) for n, w in enumerate(["twenty", "thirty", "forty", "fifty", "sixty", "seventy", "eighty", "ninety"], 2)}
_TIMES = {"double": 2, "treble": 3, "triple": 3}
_WORD = f"(?:{'|'.join((*_UNITS, *_ZEROS, *_TEENS, *_TENS, *_TIMES))})"
_RUN = re.compile(rf"\b{_WORD}\b(?:[\s,.-]{{1,3}}{_WORD}\b)+", re.IGNORECASE)
_SIGNS = (*_UNITS, *_ZEROS, "ten", "eleven", "twel", "teen", "ty")


def spoken(text: str, fewest: int, most: int) -> list[tuple[int, int]]:
    """Begin and end of each row of words that spells between ``fewest`` and ``most`` digits."""
    lower = text.lower()
    # "Triple four" is the shortest way to say three digits.
    if 3 * sum(map(lower.count, _SIGNS)) < fewest:
        return []
    return [m.span() for m in _RUN.finditer(text) if fewest <= len(digits_of(m.group())) <= most]


def digits_of(words: str) -> str:
    """The digits that words spell: "double four twenty one" is 4421."""
    digits, times, tens = "", 1, False
    for word in re.findall(r"[a-z]+", words.lower()):
        if word in _TIMES:
            times, tens = _TIMES[word], False
            continue
        if tens and word in _UNITS and word != "zero":
            digits = digits[:-1] + _UNITS[word]
            tens = False
            continue
        tens = word in _TENS
        value = _UNITS.get(word) or _ZEROS.get(word) or _TEENS.get(word) or f"{_TENS[word]}0"
        digits += value * times
        times = 1
    return digits
