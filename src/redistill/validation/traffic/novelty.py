"""How far a prompt is from the prompts that a project has: one minus the cosine similarity to the nearest of them, between TF-IDF vectors.

Words are hashed, so a word that the project does not know counts too, and with the largest weight. Weights come from the project's prompts only: the novelty
of a logged prompt does not change when more traffic comes.

Source: Salton & Buckley 1988, Term-weighting approaches in automatic text retrieval; Weinberger et al. 2009, Feature hashing for large scale multitask learning.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from redistill.io.digests import text_digest

_MOST_KNOWN = 5000
_CHUNK = 256
_EDGES = (0.25, 0.5, 0.75)
BANDS = ("known", "near", "far", "new")
"""Names of the ranges of novelty. Their edges are fixed, so a prompt stays in its band while traffic grows."""


def novelty(texts: Sequence[str], known: Sequence[str]) -> np.ndarray:
    """For each text a number from 0 (its words and word pairs are those of a known text) to 1 (it shares none). At most 5,000 known texts are used, chosen by a hash."""
    if not known or not texts:
        return np.ones(len(texts))
    from sklearn.feature_extraction.text import HashingVectorizer, TfidfTransformer

    known = sorted(known, key=text_digest)[:_MOST_KNOWN]
    words = HashingVectorizer(ngram_range=(1, 2), n_features=2**20, norm=None, alternate_sign=False)
    weigh = TfidfTransformer(sublinear_tf=True)
    known_VK = weigh.fit_transform(words.transform(known)).T.tocsr()
    nearest = [
        _nearest(weigh.transform(words.transform(texts[begin : begin + _CHUNK])), known_VK) for begin in range(0, len(texts), _CHUNK)
    ]
    # A cosine can be a rounding error above one.
    result: np.ndarray = np.clip(1.0 - np.concatenate(nearest), 0.0, 1.0)
    return result


def _nearest(texts_NV: object, known_VK: object) -> np.ndarray:
    similarity_NK = texts_NV @ known_VK  # type: ignore[operator]
    nearest: np.ndarray = similarity_NK.max(axis=1).toarray().ravel()
    return nearest


def bands(values: np.ndarray) -> list[str]:
    """The band of each value."""
    # A rounding error must not move a prompt from one band to the next.
    return [BANDS[place] for place in np.searchsorted(_EDGES, np.round(values, 6), side="right")]
