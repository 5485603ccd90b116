"""Have the prompts moved away from those that models are judged on? A classifier that can tell the two apart says yes.

Source: Lopez-Paz & Oquab 2017, Revisiting Classifier Two-Sample Tests; Hanley & McNeil 1982, Radiology 143:29-36 (interval).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

_FEWEST = 20


@dataclass(frozen=True, slots=True)
class Drift:
    """Area under the ROC curve of telling new from old, with a 95 % interval: 0.5 is no difference, 1 no likeness."""

    auc: float
    low: float
    high: float


def two_sample_auc(old: Sequence[str], new: Sequence[str], seed: int = 7) -> Drift | None:
    """How well word n-grams tell which of two sets a text is from, cross-validated; None with fewer than 20 texts in either."""
    if min(len(old), len(new)) < _FEWEST:
        return None
    from sklearn.feature_extraction.text import TfidfVectorizer
    from sklearn.linear_model import LogisticRegression
    from sklearn.metrics import roc_auc_score
    from sklearn.model_selection import StratifiedKFold, cross_val_predict
    from sklearn.pipeline import make_pipeline

    labels = [0] * len(old) + [1] * len(new)
    model = make_pipeline(TfidfVectorizer(ngram_range=(1, 2), sublinear_tf=True), LogisticRegression(class_weight="balanced", max_iter=500))
    folds = StratifiedKFold(5, shuffle=True, random_state=seed)
    scores = cross_val_predict(model, [*old, *new], labels, cv=folds, method="predict_proba")[:, 1]
    auc = float(roc_auc_score(labels, scores))
    first, second = auc / (2 - auc), 2 * auc * auc / (1 + auc)
    variance = auc * (1 - auc) + (len(new) - 1) * (first - auc * auc) + (len(old) - 1) * (second - auc * auc)
    half = 1.96 * math.sqrt(max(0.0, variance) / (len(old) * len(new)))
    return Drift(auc, max(0.0, auc - half), min(1.0, auc + half))
