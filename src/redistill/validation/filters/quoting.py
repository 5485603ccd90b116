"""Does a text quote a held-out one? Such a completion contains what the student will be tested on.

Words of the completion's own prompt are not a quotation: a summary may repeat its prompt, even if a held-out message has the
same words.
"""

from __future__ import annotations

import re
from collections.abc import Iterable

from redistill.data.normal_form import normalised
from redistill.validation.types import Candidate, Drop, Keep

_WORD = re.compile(r"\w+")


class QuoteIndex:
    """Every run of ``words`` consecutive words of the held-out texts; shorter texts cannot be quoted."""

    def __init__(self, texts: Iterable[str], words: int) -> None:
        self._words = words
        self._grams: set[tuple[str, ...]] = {gram for text in texts for gram in self._runs(text)}

    def match(self, text: str, prompt: str = "") -> str | None:
        """The first words that the text quotes, or None. Words of ``prompt`` are no quotation."""
        allowed = set(self._runs(prompt))
        return next((" ".join(gram) for gram in self._runs(text) if gram in self._grams and gram not in allowed), None)

    def judge(self, candidate: Candidate) -> Keep | Drop:
        return Drop("decontamination", "quotes a held-out row") if self.match(candidate.text, candidate.prompt) else Keep()

    def _runs(self, text: str) -> list[tuple[str, ...]]:
        words = _WORD.findall(normalised(text).lower())
        return [tuple(words[i : i + self._words]) for i in range(len(words) - self._words + 1)]
