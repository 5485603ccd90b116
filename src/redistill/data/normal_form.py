"""One spelling of a text, for everything that compares texts or searches in them.

The same characters can be written in many ways: é is one character or two, digits have a full width or another script, and characters that nobody sees can
stand between letters. Here a text gets Unicode's form NFKC, without invisible characters, with ASCII digits, dashes and quotes. Texts that are
sent, stored or trained on keep their spelling; only comparisons use this form.

Source: Unicode Standard Annex #15 (NFKC); default-ignorable code points of Annex #44.
"""

from __future__ import annotations

import re
import unicodedata
from dataclasses import dataclass
from functools import cache

# Format characters (soft hyphen, zero-width space, joiners, marks of direction), variation selectors, and letters that are shown as nothing.
_INVISIBLE = re.compile(
    "[\u00ad\u034f\u0600-\u0605\u061c\u06dd\u070f\u0890\u0891\u08e2\u115f\u1160\u17b4\u17b5\u180b-\u180f\u200b-\u200f\u202a-\u202e\u2060-\u206f\u3164"
    "\ufe00-\ufe0f\ufeff\uffa0\ufff0-\ufffb\U000110bd\U000110cd\U00013430-\U0001343f\U0001bca0-\U0001bca3\U0001d173-\U0001d17a\U000e0000-\U000e0fff]"
)
_OTHER_DIGIT = re.compile(r"(?![0-9])\d")
_DASHES = "\u2010\u2011\u2012\u2013\u2014\u2015\u2212\u2043\ufe58\ufe63\uff0d"
_QUOTES = {
    "\u2018": "'",
    "\u2019": "'",
    "\u201a": "'",
    "\u201b": "'",
    "\u02bc": "'",
    "\u201c": '"',
    "\u201d": '"',
    "\u201e": '"',
    "\u201f": '"',
}
_SPELLED = str.maketrans({**dict.fromkeys(_DASHES, "-"), **_QUOTES, "\u2028": "\n", "\u2029": "\n"})
_ASCII = frozenset(map(chr, range(128)))
_FOREIGN = re.compile(r"[\x00-\x7f]?[^\x00-\x7f]+")


@dataclass(frozen=True, slots=True)
class NormalForm:
    """A text in normal form, and the place of each of its characters in the original: character ``i`` is ``begins[i]`` to ``ends[i]`` there.

    Both are None where the text is in normal form already.
    """

    text: str
    begins: tuple[int, ...] | None = None
    ends: tuple[int, ...] | None = None

    def span(self, start: int, end: int) -> tuple[int, int]:
        """The place in the original of the characters ``start`` to ``end``, invisible characters between them included."""
        if self.begins is None or self.ends is None or start >= end:
            return start, end
        return self.begins[start], self.ends[end - 1]


def normalised(text: str) -> str:
    """The normal form of a text; ``normalised(normalised(t)) == normalised(t)``."""
    if text.isascii():
        return text
    # Most texts with a pound sign or an accent have nothing to change. Asking each of their characters once is ten times as fast as the steps below.
    if unicodedata.is_normalized("NFKC", text) and not any(map(_changes, set(text) - _ASCII)):
        return text
    return _spelled(unicodedata.normalize("NFKC", _INVISIBLE.sub("", text)))


def normal_form(text: str) -> NormalForm:
    """The normal form of a text, with the place of each of its characters."""
    if text.isascii():
        return NormalForm(text)
    parts: list[str] = []
    begins: list[int] = []
    ends: list[int] = []
    done = 0
    for match in _FOREIGN.finditer(text):
        parts.append(text[done : match.start()])
        begins += range(done, match.start())
        ends += range(done + 1, match.start() + 1)
        for start, end in _clusters(text, *match.span()):
            part = normalised(text[start:end])
            parts.append(part)
            begins += [start] * len(part)
            ends += [end] * len(part)
        done = match.end()
    parts.append(text[done:])
    begins += range(done, len(text))
    ends += range(done + 1, len(text) + 1)
    return NormalForm("".join(parts), tuple(begins), tuple(ends))


def _clusters(text: str, begin: int, end: int) -> list[tuple[int, int]]:
    """Parts that are normalised each by itself: a letter with its marks, or the whole where parts would give another result."""
    starts = [begin]
    visible = _INVISIBLE.match(text[begin]) is None
    for i in range(begin + 1, end):
        # Invisible characters before a letter or between a letter and its mark belong to what stands before them.
        if _INVISIBLE.match(text[i]):
            continue
        if visible and not _joins(text[i]):
            starts.append(i)
        visible = True
    parts = list(zip(starts, [*starts[1:], end], strict=True))
    whole = normalised(text[begin:end])
    return parts if "".join(normalised(text[a:b]) for a, b in parts) == whole else [(begin, end)]


@cache
def _changes(character: str) -> bool:
    """Whether a character that is in form NFKC has another spelling here."""
    return _INVISIBLE.match(character) is not None or ord(character) in _SPELLED or _OTHER_DIGIT.match(character) is not None


@cache
def _joins(character: str) -> bool:
    first = unicodedata.normalize("NFKD", character)[0]
    return unicodedata.combining(first) != 0 or "\u1160" <= first <= "\u11ff"


def _spelled(text: str) -> str:
    # Digits of other scripts: NFKC changes those of full width only.
    return _OTHER_DIGIT.sub(lambda match: str(unicodedata.decimal(match.group())), text.translate(_SPELLED))
