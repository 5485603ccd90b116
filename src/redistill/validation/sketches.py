"""MinHash sketches of texts: a few hundred bytes from which texts that share many 5-grams can be found without comparing every pair.

A sketch is cut into bands of a few values. Texts with two equal bands are candidates. The longer a band, the fewer candidates differ; the more bands, the
fewer near-duplicates are missed. That two bands must be equal, and not one, makes candidates of unlike texts rare: at a Jaccard index of 0.1 one in 10,000.

Source: Broder 1997, On the resemblance and containment of documents; Leskovec, Rajaraman & Ullman, Mining of Massive Datasets, §3.4 (banding); Li &
König 2010, b-bit minwise hashing. The sketches are those of rensa (docs/adr/0036-near-duplicates-at-a-million-rows.md).
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from redistill.runtime.in_chunks import in_chunks

_MOST_VALUES = 640
_SEED = 1
_MAX_MISS = 1e-3
_BYTES = 256
_MULTIPLIER = np.uint64(0x9E3779B97F4A7C15)


@dataclass(frozen=True, slots=True)
class Banding:
    """``bands`` of ``rows`` values each."""

    bands: int
    rows: int

    def miss(self, jaccard: float) -> float:
        """The chance that two texts of this Jaccard index have fewer than two equal bands."""
        equal = jaccard**self.rows
        return float((1 - equal) ** self.bands + self.bands * equal * (1 - equal) ** (self.bands - 1))


def banding(threshold: float) -> Banding:
    """The longest bands that miss at most one pair in a thousand at the threshold, and as few of them as that needs."""
    shapes = (Banding(bands, rows) for rows in range(16, 0, -1) for bands in range(2, _MOST_VALUES // rows + 1))
    return next((shape for shape in shapes if shape.miss(threshold) <= _MAX_MISS), Banding(_MOST_VALUES, 1))


@dataclass(frozen=True, slots=True)
class Sketches:
    """Of N texts: the hash of each of B bands, and one byte of each of the first 256 values, for an estimate of the Jaccard index."""

    bands_NB: np.ndarray
    bytes_NV: np.ndarray

    def alike(self, text: int, others: np.ndarray) -> np.ndarray:
        """The estimated Jaccard index of one text with each of the others. Equal sets of 5-grams have exactly 1."""
        same: np.ndarray = (self.bytes_NV[others] == self.bytes_NV[text]).mean(1)
        return same


def lowest_estimate(threshold: float) -> float:
    """An estimate below it means that the true index is below the threshold: four standard errors, so that it is wrong once in 30,000 pairs."""
    return threshold - 4 * math.sqrt(threshold * (1 - threshold) / _BYTES)


def sketches_of(texts: Sequence[str], shape: Banding, grams: Callable[[str], frozenset[str]], processes: int | None) -> Sketches:
    """Sketches of all texts. ``grams`` makes a text's set."""
    sketches = Sketches(np.empty((len(texts), shape.bands), np.uint32), np.empty((len(texts), _BYTES), np.uint8))
    begin = 0
    for bands_NB, bytes_NV in in_chunks(functools.partial(_sketched, shape=shape, grams=grams), texts, processes):
        end = begin + len(bands_NB)
        sketches.bands_NB[begin:end], sketches.bytes_NV[begin:end] = bands_NB, bytes_NV
        begin = end
    return sketches


def _sketched(texts: Sequence[str], shape: Banding, grams: Callable[[str], frozenset[str]]) -> tuple[np.ndarray, np.ndarray]:
    values_NV = np.array([_values(grams(text), max(_BYTES, shape.bands * shape.rows)) for text in texts], np.uint32)
    bands_NBR = values_NV[:, : shape.bands * shape.rows].reshape(len(texts), shape.bands, shape.rows)
    hashes_NB = np.zeros(bands_NBR.shape[:2], np.uint64)
    for place in range(shape.rows):
        hashes_NB = (hashes_NB ^ bands_NBR[:, :, place]) * _MULTIPLIER
        hashes_NB ^= hashes_NB >> np.uint64(32)
    return hashes_NB.astype(np.uint32), values_NV[:, :_BYTES].astype(np.uint8)


def _values(grams: frozenset[str], count: int) -> list[int]:
    from rensa import RMinHash

    # One text at a time: rensa's calls for many texts use threads, which do not survive a fork.
    sketch = RMinHash(count, _SEED)
    try:
        sketch.update(list(grams))
    except UnicodeEncodeError:
        # A text of a log can hold half of a surrogate pair.
        sketch.update([gram.encode("utf-8", "surrogatepass") for gram in grams])
    values: list[int] = sketch.digest()
    return values
