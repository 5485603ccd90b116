"""The linear baseline: TF-IDF and logistic regression on the gold labels.

It predicts labels and flags. It cannot write entities, because they must be copied from the text. If the baseline is good
enough, the report says that no language model is needed.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from redistill.data.grammars.record import Record, RecordGrammar
from redistill.data.types import Prompt
from redistill.errors import DataError

_THRESHOLD = 0.3


def fit(train: Sequence[Prompt], grammar: RecordGrammar, seed: int) -> Callable[[Sequence[str]], list[str]]:
    """A function from message texts to record lines.

    Raises:
        DataError: the rows have fewer than two different labels.
    """
    from sklearn.feature_extraction.text import TfidfVectorizer
    from sklearn.linear_model import LogisticRegression
    from sklearn.multiclass import OneVsRestClassifier
    from sklearn.pipeline import make_pipeline, make_union
    from sklearn.preprocessing import MultiLabelBinarizer

    texts = [p.text for p in train]
    records = [grammar.parse(p.label or "") for p in train]
    if len({label for r in records for label in r.labels}) < 2:
        raise DataError(
            f"the {len(train)} training rows have fewer than two different labels, so a linear baseline cannot be trained; add rows with other labels"
        )

    def features() -> object:
        words = TfidfVectorizer(ngram_range=(1, 2), sublinear_tf=True)
        return make_union(words, TfidfVectorizer(analyzer="char_wb", ngram_range=(2, 5), sublinear_tf=True))

    classifier = LogisticRegression(C=30.0, max_iter=1000, random_state=seed)
    if not grammar.several and not grammar.flags:
        single = make_pipeline(features(), classifier).fit(texts, [r.labels[0] for r in records])
        return lambda rows: [str(label) for label in single.predict(list(rows))]
    binarizer = MultiLabelBinarizer()
    targets = binarizer.fit_transform([[*r.labels, *r.flags] for r in records])
    several = make_pipeline(features(), OneVsRestClassifier(classifier)).fit(texts, targets)

    def predict(rows: Sequence[str]) -> list[str]:
        lines = []
        for probabilities in several.predict_proba(list(rows)):
            scores = dict(zip(binarizer.classes_, probabilities, strict=True))
            labels = [x for x in grammar.labels if scores.get(x, 0.0) >= _THRESHOLD]
            best = max(grammar.labels, key=lambda x: scores.get(x, 0.0))
            labels = labels if labels and grammar.several else [best]
            flags = tuple(f for f in grammar.flags if scores.get(f, 0.0) >= _THRESHOLD)
            lines.append(grammar.write(Record(tuple(labels), flags, ())))
        return lines

    return predict
