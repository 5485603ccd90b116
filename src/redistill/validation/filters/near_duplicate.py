"""Which of the texts seen so far is nearly this one? MinHash proposes, the exact Jaccard index decides.

Two spellings of one message in training weigh it twice; in training and held-out set they make a student look better
than it is. Likeness is the share of common character 5-grams of the lower-cased text without punctuation.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from itertools import chain

import numpy as np

from redistill.validation.shared_bands import SharedBands
from redistill.validation.sketches import banding, lowest_estimate, sketches_of

_NOT_WORD = re.compile(r"[\W_]+")
_GRAM = 5


def canonical(text: str) -> str:
    """Lower case, every run of anything but letters and digits as one space. A text of signs alone stays as it is."""
    return _NOT_WORD.sub(" ", text.lower()).strip() or text.strip()


def shingles(text: str) -> frozenset[str]:
    """The character 5-grams of the canonical text; a shorter text is its own only one."""
    plain = canonical(text)
    return frozenset(plain[i : i + _GRAM] for i in range(max(1, len(plain) - _GRAM + 1)))


def jaccard(a: frozenset[str], b: frozenset[str]) -> float:
    return len(a & b) / len(a | b)


class NearDuplicates:
    """Finds near-duplicates among texts that are all known from the start. A text is named by its place.

    Only added texts are found. What is kept of a text is a sketch of at most 3 KB, however long the text. Deterministic: equal texts in equal order give
    equal answers on every machine, with any number of processes.
    """

    def __init__(self, texts: Sequence[str], threshold: float, processes: int | None = 1) -> None:
        """``threshold``: the smallest Jaccard index of near-duplicates. At most one pair in a thousand at the threshold is missed, and fewer above it."""
        self._texts, self._threshold = texts, threshold
        self._sketches = sketches_of(texts, banding(threshold), shingles, processes)
        self._shared = SharedBands(self._sketches.bands_NB)
        self._kinds = np.zeros(len(texts), np.uint8)

    def add(self, text: int, kind: int = 0) -> None:
        """Add a text. ``kind`` is a small number: a search can be for one kind only."""
        self._kinds[text] = kind
        self._shared.add(text)

    def kind_of(self, text: int) -> int:
        return int(self._kinds[text])

    def match(self, text: int, kinds: Sequence[int] = (0,)) -> int | None:
        """An added near-duplicate of the first kind that has one: the earliest equal one, otherwise one with the likest sketch."""
        others = self._shared.candidates(text)
        if not len(others):
            return None
        alike = self._sketches.alike(text, others)
        near = alike >= lowest_estimate(self._threshold)
        others, alike = others[near], alike[near]
        order = np.argsort(-alike, kind="stable")
        ranked = list(zip(others[order].tolist(), (alike[order] == 1.0).tolist(), strict=True))
        return next(
            (n for kind in kinds if (n := self._first(text, [pair for pair in ranked if self._kinds[pair[0]] == kind])) is not None), None
        )

    def _first(self, text: int, ranked: list[tuple[int, bool]]) -> int | None:
        """The first of these that is equal, otherwise the first that is near. ``ranked`` says of each whether its sketch is equal."""
        if not ranked:
            return None
        plain, grams = canonical(self._texts[text]), shingles(self._texts[text])
        equal = (n for n, may_be_equal in ranked if may_be_equal and canonical(self._texts[n]) == plain)
        near = (n for n, _ in ranked if 0 < jaccard(grams, shingles(self._texts[n])) >= self._threshold)
        return next(chain(equal, near), None)
