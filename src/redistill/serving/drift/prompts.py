"""Drift: do recent prompts differ from those that models are judged on? If a classifier can distinguish them, they do.

The AUC of a cross-fitted classifier has no interval of its own that can be trusted: its training folds overlap, so its rows are not
independent. So it is compared with the AUC of the same texts under permuted labels, for which the whole cross-fit is made again. Without
drift all labellings are equally likely, so the chance of a false alarm is what it says.

The classifier is a ridge regression on word n-grams. Its folds and its features do not depend on the labels, so one factorisation of each
training fold answers for every permutation, and a thousand cross-fits cost little more than one.

Source: Lopez-Paz & Oquab 2017, Revisiting Classifier Two-Sample Tests; Kim, Ramdas, Singh & Wasserman 2021, Annals of Statistics
49:411-434 (classification accuracy as a two-sample test, by permutation).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from redistill.data.normal_form import normalised
from redistill.statistics.bootstrap import chance_range
from redistill.statistics.permutation import permutation_p
from redistill.statistics.types import Interval
from redistill.validation.filters.near_duplicate import NearDuplicates

_FEWEST = 20
_MOST = 1000
"""Texts of each kind that are looked at: memory grows with their square."""
_FOLDS = 5
_RIDGE = 1.0


@dataclass(frozen=True, slots=True)
class Drift:
    """Area under the ROC curve of a classifier of new and old texts: 0.5 is no difference, 1 separates every pair.

    ``by_chance`` is its 95 % range without drift; ``shown`` says that the AUC lies above it, which happens in 2.5 % of cases without drift. ``p_value`` is the
    chance, without drift, of an AUC of at least this size.
    """

    auc: float
    by_chance: Interval
    shown: bool
    p_value: float


def two_sample_auc(old: Sequence[str], new: Sequence[str], seed: int = 7, permutations: int = 999) -> Drift | None:
    """How well a classifier on word n-grams separates two sets of texts, cross-fitted; None with fewer than 20 texts in one of them.

    Of more than 1,000 texts in either, 1,000 are drawn.
    """
    if min(len(old), len(new)) < _FEWEST:
        return None
    rng = np.random.default_rng(seed)
    texts = [*_drawn(old, rng), *_drawn(new, rng)]
    is_new_N = np.arange(len(texts)) >= min(len(old), _MOST)
    labels_NP = np.stack([is_new_N, *(rng.permutation(is_new_N) for _ in range(permutations))], axis=1)
    auc, *drawn = _cross_fit(_similarity(texts), labels_NP, rng.permutation(len(texts)))
    by_chance = chance_range(drawn)
    return Drift(auc, by_chance, auc > by_chance.high, permutation_p(auc, drawn))


def distinct(texts: Sequence[str], near_duplicate: float) -> list[str]:
    """The first of each group of near-duplicates: what intake leaves of the pool, done to held-out texts, which may resemble each other as traffic does.

    Intake removes repeated messages from the pool, but not from the held-out set. Without this function that difference looks like drift.
    """
    seen, kept = NearDuplicates([normalised(text) for text in texts], near_duplicate), []
    for number, text in enumerate(texts):
        if seen.match(number) is None:
            seen.add(number)
            kept.append(text)
    return kept


def without_repeats(old: Sequence[str], new: Sequence[str], near_duplicate: float, seed: int = 7) -> tuple[list[str], list[str]]:
    """Both sets without near-duplicates, within a set and between the two: one of each group stays, drawn from all of its texts.

    Live traffic repeats itself, and rows that models are judged on were often freed of repeats. Which text stays does not depend on the set that it is from, so
    a permutation of what is left is still a test without assumptions.
    """
    texts = [*old, *new]
    seen, kept = NearDuplicates([normalised(text) for text in texts], near_duplicate), set[int]()
    for number in np.random.default_rng(seed).permutation(len(texts)).tolist():
        if seen.match(number) is None:
            seen.add(number)
            kept.add(number)
    return [old[i] for i in sorted(kept) if i < len(old)], [new[i - len(old)] for i in sorted(kept) if i >= len(old)]


def _drawn(texts: Sequence[str], rng: np.random.Generator) -> Sequence[str]:
    return texts if len(texts) <= _MOST else [texts[i] for i in rng.choice(len(texts), _MOST, replace=False)]


def _similarity(texts: Sequence[str]) -> np.ndarray:
    """(N × N) inner products of the texts' TF-IDF vectors over words and pairs of words."""
    from sklearn.feature_extraction.text import TfidfVectorizer

    vectors = TfidfVectorizer(ngram_range=(1, 2), sublinear_tf=True).fit_transform(texts)
    return np.asarray((vectors @ vectors.T).toarray())


def _cross_fit(similarity_NN: np.ndarray, labels_NP: np.ndarray, order_N: np.ndarray) -> list[float]:
    """The AUC of each of P labellings of N texts: pairs of an old and a new text of one fold, scored by a model of the other folds."""
    from scipy.linalg import cho_factor, cho_solve
    from scipy.stats import rankdata

    above_P, pairs_P = np.zeros(labels_NP.shape[1]), np.zeros(labels_NP.shape[1])
    for fold in np.array_split(order_N, _FOLDS):
        others = np.setdiff1d(order_N, fold)
        centred_NP = labels_NP[others] - labels_NP[others].mean(0)
        factor = cho_factor(similarity_NN[np.ix_(others, others)] + _RIDGE * np.eye(len(others)))
        # Rounded, so that equal texts get equal scores.
        scores_NP = np.round(similarity_NN[np.ix_(fold, others)] @ cho_solve(factor, centred_NP), 9)
        new_NP = labels_NP[fold]
        new_P = new_NP.sum(0)
        # Mann and Whitney: the ranks of the new texts, less what these would have among themselves; ties count half.
        above_P += (rankdata(scores_NP, axis=0) * new_NP).sum(0) - new_P * (new_P + 1) / 2
        pairs_P += new_P * (len(fold) - new_P)
    auc_P: list[float] = (above_P / pairs_P).tolist()
    return auc_P
