"""``redistill.serving.drift.prompts``: the false alarms that it promises, by simulation on real messages, and the drifts that it must see."""

from __future__ import annotations

import json
import random
from pathlib import Path

import numpy as np
import pytest
from scipy.stats import binom
from sklearn.metrics import roc_auc_score

from redistill.data.types import Message, Prompt
from redistill.serving.drift.prompts import _cross_fit, _similarity, distinct, two_sample_auc
from redistill.validation.intake import judge
from redistill.validation.params import IntakeParams

BANK = Path(__file__).parents[4] / "data" / "bank_triage"
DRAWS = 160


def rows(name: str) -> list[dict[str, str]]:
    return [json.loads(line) for line in (BANK / f"{name}.jsonl").read_text(encoding="utf-8").splitlines()]


@pytest.fixture(scope="module")
def texts() -> list[str]:
    return [row["text"] for row in rows("heldout")]


@pytest.mark.parametrize(("old", "new"), [(50, 50), (30, 120)])
def test_random_parts_of_one_set_are_called_drift_as_often_as_promised(texts: list[str], old: int, new: int) -> None:
    """2.5 % at most; an interval for independent rows claims it several times as often, because training folds overlap."""
    draw, found = random.Random(3), []
    for seed in range(DRAWS):
        mixed = draw.sample(texts, old + new)
        drift = two_sample_auc(mixed[:old], mixed[old:], seed, permutations=39)
        assert drift is not None
        found.append((drift.shown, drift.by_chance.low <= drift.auc <= drift.by_chance.high))
    assert sum(shown for shown, _ in found) <= binom.ppf(0.999, DRAWS, 0.025)
    low, high = binom.interval(0.999, DRAWS, 0.95)
    assert low <= sum(inside for _, inside in found) <= high


def test_messages_that_are_sent_again_and_again_are_no_drift(texts: list[str]) -> None:
    """Intake takes near-copies of held-out rows, and of each other, out of the pool; what is left is compared with held-out rows of which the same is left."""
    rng, params, shown = np.random.default_rng(7), IntakeParams(languages=(), profanity=False, pii=False, secrets=False), 0
    often = 1 / np.arange(1, len(texts) + 1)

    def received(n: int, source: str) -> list[Prompt]:
        drawn = [f"{texts[i]} Reference {rng.integers(10_000)}." for i in rng.choice(len(texts), n, p=often / often.sum())]
        return [Prompt.of((Message("user", text),), f"{source}-{i}", "app", None, source) for i, text in enumerate(drawn)]

    for seed in range(4):
        kept, _ = judge({"heldout": received(80, "heldout"), "pool": received(160, "pool")}, params)
        heldout, pool = ([p.text for p in kept[split]] for split in ("heldout", "pool"))
        drift = two_sample_auc(distinct(heldout, params.near_duplicate), pool, seed, 79)
        assert drift is not None and len(heldout) > 75
        shown += drift.shown
    assert shown <= binom.ppf(0.999, 4, 0.025)


def test_another_channel_is_drift(texts: list[str]) -> None:
    """Messages from the app against e-mails, 60 of each, in 20 draws."""
    by_slice = {s: [row["text"] for row in rows("heldout") if row["slice"] == s] for s in ("app", "e-mail")}
    draw = random.Random(4)
    found = [two_sample_auc(draw.sample(by_slice["app"], 60), draw.sample(by_slice["e-mail"], 60), n, 199) for n in range(20)]
    assert all(drift is not None and drift.shown and drift.auc > 0.7 for drift in found)


def test_a_new_topic_in_part_of_the_traffic_is_seen(texts: list[str]) -> None:
    """A fifth of 200 new messages asks for something new."""
    mixed = random.Random(5).sample(texts, 400)
    new = [f"{text} And how do I open a savings pot for my daughter?" if n % 5 == 0 else text for n, text in enumerate(mixed[200:])]
    drift, same = two_sample_auc(mixed[:200], new), two_sample_auc(mixed[:200], mixed[200:])
    assert drift is not None and drift.shown and same is not None and not same.shown


def test_the_auc_is_that_of_pairs_within_a_fold() -> None:
    """Against one ridge regression a fold by normal equations, and scikit-learn's AUC, on texts of which many are alike."""
    draw = random.Random(1)
    words = ("card", "lost", "refund", "fee", "pin", "login")
    texts = [" ".join(draw.choices(words, k=2)) for _ in range(60)]
    labels, order = np.arange(60) >= 25, np.random.default_rng(2).permutation(60)
    similarity = _similarity(texts)
    assert similarity.diagonal() == pytest.approx(np.ones(60))
    pairs = above = 0.0
    for fold in np.array_split(order, 5):
        train = [i for i in range(60) if i not in fold]
        y = labels[train] - labels[train].mean()
        weights = np.linalg.solve(similarity[np.ix_(train, train)] + np.eye(len(train)), y)
        here = labels[fold].sum() * (~labels[fold]).sum()
        above += here * roc_auc_score(labels[fold], np.round(similarity[np.ix_(fold, train)] @ weights, 9))
        pairs += here
    assert _cross_fit(similarity, labels[:, None], order) == pytest.approx([above / pairs])


def test_large_sets_are_cut_and_small_ones_say_nothing(texts: list[str]) -> None:
    many = [f"{text} number {n}" for n, text in enumerate(texts * 3)]
    assert two_sample_auc(many[:1200], many[:1100], permutations=39) is not None
    assert two_sample_auc(texts[:19], texts) is None and two_sample_auc(texts, texts[:19]) is None
