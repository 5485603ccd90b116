"""Near-duplicates beside the exact rule: which pairs are missed, and how alike messages of the generated rows are.

``python -m tests.bench.near_duplicates [--rows 10000] [--csv FILE]``: on generated rows, or on the first column of a CSV file.
"""

from __future__ import annotations

import argparse
import csv
import random
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from scipy.sparse import csr_matrix

from redistill.validation.filters.near_duplicate import NearDuplicates, jaccard, shingles
from redistill.validation.sketches import banding, lowest_estimate
from tests.bench.row_source import rows
from tests.bench.tables import Table

_BLOCK = 1000
_NEAR = 0.02


def exact_pairs(texts: Sequence[str], threshold: float) -> list[tuple[int, int, float]]:
    """All pairs at or above the threshold, by products of sparse sets."""
    known: dict[str, int] = {}
    grams = [[known.setdefault(gram, len(known)) for gram in shingles(text)] for text in texts]
    begins = np.cumsum([0, *map(len, grams)])
    sets = csr_matrix((np.ones(begins[-1], np.int32), np.concatenate(grams), begins), shape=(len(texts), len(known)))
    sizes, pairs = np.diff(begins), []
    for begin in range(0, len(texts), _BLOCK):
        common = (sets[begin : begin + _BLOCK] @ sets.T).tocoo()
        i, j, both = common.row + begin, common.col, common.data
        like = both / (sizes[i] + sizes[j] - both)
        chosen = (j < i) & (like >= threshold)
        pairs += list(zip(i[chosen].tolist(), j[chosen].tolist(), like[chosen].tolist(), strict=True))
    return pairs


def missed(texts: Sequence[str], threshold: float) -> tuple[list[float], list[float]]:
    """The Jaccard index of every pair, and of those that are no candidates."""
    index = NearDuplicates(texts, threshold)
    for number in range(len(texts)):
        index.add(number)
    pairs = exact_pairs(texts, threshold)
    lost = []
    for i, j, like in pairs:
        candidate = j in index._shared.candidates(i) and index._sketches.alike(i, np.array([j]))[0] >= lowest_estimate(threshold)
        lost += [] if candidate else [like]
    return [like for *_, like in pairs], lost


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=10_000)
    parser.add_argument("--csv", type=Path)
    options = parser.parse_args()
    if options.csv:
        with open(options.csv, encoding="utf-8", newline="") as handle:
            texts = [row[0] for row in csv.reader(handle)][1:]
    else:
        texts = [row["text"] for row in rows(options.rows, seed=3)]
    rng = random.Random(1)
    drawn = sorted(jaccard(shingles(a), shingles(b)) for a, b in (rng.sample(texts, 2) for _ in range(100_000)))
    quantiles = {share: round(drawn[int(share * len(drawn))], 3) for share in (0.5, 0.9, 0.99, 0.999)}
    print(f"Jaccard index of two messages drawn at random, quantiles: {quantiles}\n")
    table = []
    for threshold in (0.3, 0.5, 0.8):
        pairs, lost = missed(texts, threshold)
        near, near_lost = (sum(like < threshold + _NEAR for like in likes) for likes in (pairs, lost))
        shape = banding(threshold)
        table.append(
            [
                f"{threshold:g}",
                f"{shape.bands} × {shape.rows}",
                f"{100 * shape.miss(threshold):.3f} %",
                f"{len(lost)} of {len(pairs):,}",
                f"{near_lost} of {near:,}",
            ]
        )
    head = [
        "threshold",
        "bands × values",
        "chance of a miss at the threshold",
        "pairs missed",
        f"of those less than {_NEAR:g} above the threshold",
    ]
    print(Table(f"{len(texts):,} rows", head, table).markdown())


if __name__ == "__main__":
    main()
