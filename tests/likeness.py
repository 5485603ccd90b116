"""All pairs of texts that are near-duplicates by the exact rule: a matrix product instead of a loop over a million pairs."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from scipy.sparse import csr_array


def like_pairs(grams: Sequence[frozenset[str]], limit: float) -> list[tuple[int, int]]:
    """Places (i, j), i < j, of sets whose Jaccard index is at least ``limit``."""
    numbers: dict[str, int] = {}
    columns = [numbers.setdefault(gram, len(numbers)) for one in grams for gram in one]
    sizes_N = np.array([len(one) for one in grams])
    starts = np.concatenate([[0], np.cumsum(sizes_N)])
    has = csr_array((np.ones(len(columns), np.int64), columns, starts), shape=(len(grams), len(numbers)))
    common = (has @ has.T).tocoo()
    first, second = common.coords
    union = sizes_N[first] + sizes_N[second] - common.data
    close = (first < second) & (common.data >= limit * union)
    return sorted(zip(first[close].tolist(), second[close].tolist(), strict=True))
