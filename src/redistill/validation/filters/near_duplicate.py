"""Which of the texts seen so far is nearly this one? MinHash proposes, the exact Jaccard index decides.

Two spellings of one message in training weigh it twice; in training and held-out set they make a student look better
than it is. Likeness is the share of common character 5-grams of the lower-cased text without punctuation.
"""

from __future__ import annotations

import re
from collections.abc import Hashable
from functools import cache, lru_cache
from typing import Any

_NOT_WORD = re.compile(r"[\W_]+")
_GRAM = 5
_PERMUTATIONS = 256
_MAX_MISS = 1e-3


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
    """The texts seen so far, by key. Deterministic: equal calls in equal order give equal answers on every machine."""

    def __init__(self, threshold: float) -> None:
        from datasketch import MinHashLSH

        bands = _bands(threshold)
        self._threshold = threshold
        self._lsh = MinHashLSH(num_perm=_PERMUTATIONS, params=(bands, _PERMUTATIONS // bands))
        self._keys: list[Hashable] = []
        self._shingles: list[frozenset[str]] = []
        self._exact: dict[str, int] = {}

    def add(self, key: Hashable, text: str) -> None:
        number = len(self._keys)
        grams, sketch = _sketch(text)
        self._keys.append(key)
        self._shingles.append(grams)
        self._exact.setdefault(canonical(text), number)
        self._lsh.insert(number, sketch, check_duplication=False)

    def match(self, text: str, threshold: float | None = None) -> Hashable | None:
        """The key of the likest text at or above the threshold, the earliest of equals; None when there is none.

        Raises:
            ValueError: a threshold below the one that the index was built for: it would miss what it should find.
        """
        limit = self._threshold if threshold is None else threshold
        if limit < self._threshold:
            raise ValueError(f"threshold {limit:g} is below {self._threshold:g}, the one that this index was built for; build another")
        if (same := self._exact.get(canonical(text))) is not None:
            return self._keys[same]
        if not self._keys:
            return None
        grams, sketch = _sketch(text)
        scored = [(-jaccard(grams, self._shingles[n]), n) for n in self._lsh.query(sketch)]
        best = min(scored, default=(0.0, -1))
        return self._keys[best[1]] if best[0] < 0 and -best[0] >= limit else None


def _bands(threshold: float) -> int:
    """How many bands of the sketch: the longest rows that still miss fewer than one pair in a thousand at the threshold."""
    for rows in (32, 16, 8, 4, 3, 2):
        bands = _PERMUTATIONS // rows
        if (1 - threshold**rows) ** bands <= _MAX_MISS:
            return bands
    return _PERMUTATIONS


# A row is looked up in several indexes one after the other, and then added to one of them.
@lru_cache(maxsize=4)
def _sketch(text: str) -> tuple[frozenset[str], Any]:
    grams = shingles(text)
    sketch = _empty_sketch().copy()
    sketch.update_batch([gram.encode("utf-8", "surrogatepass") for gram in sorted(grams)])
    return grams, sketch


@cache
def _empty_sketch() -> Any:
    from datasketch import MinHash

    return MinHash(num_perm=_PERMUTATIONS, seed=1)
