"""The measures of a window, on real messages: what is raised, what is not judged and why, and when quality is at risk."""

from __future__ import annotations

import dataclasses
import json
import random
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from scipy.stats import binom, fisher_exact

from redistill.serving.drift.measures import judged
from redistill.serving.drift.params import DriftParams
from redistill.serving.drift.prompts import two_sample_auc, without_repeats
from redistill.serving.drift.sample import Sample
from redistill.serving.drift.types import Live, Measure, Reference, Window

BANK = Path(__file__).parents[4] / "data" / "bank_triage"
PARAMS = DriftParams(min_rows=40)
RULES: dict[str, Any] = {"promised": 0.2, "near_duplicate": 0.5}


@pytest.fixture(scope="module")
def texts() -> list[str]:
    return [json.loads(line)["text"] for line in (BANK / "heldout.jsonl").read_text(encoding="utf-8").splitlines()]


def sides(texts: list[str], seed: int = 1, n: int = 100) -> tuple[Reference, Live]:
    """Two random parts of the same messages, everything else alike too."""
    rng = np.random.default_rng(seed)
    drawn = random.Random(seed).sample(texts, 2 * n)
    kinds, scores = rng.choice(["fee", "pin", "card"], (2, n)).tolist(), rng.normal(size=(2, n)).tolist()
    reference = Reference(tuple(drawn[:n]), tuple(kinds[0]), tuple(kinds[0]), tuple(scores[0]), deferred=30, failed=1)
    live = Live(
        0.0,
        1.0,
        n,
        tuple(drawn[n:]),
        tuple(kinds[1]),
        "",
        tuple(kinds[1]),
        tuple(scores[1]),
        n,
        30,
        1,
        (0.0,) * 90 + (1.0,) * 10,
        1.0,
        {"student": n},
    )
    return reference, live


def of(window: Window) -> dict[str, Measure]:
    return {m.name: m for m in window.measures}


def test_windows_without_drift_raise_nothing_as_often_as_promised(texts: list[str]) -> None:
    """All nine measures of 60 windows: any is raised in a share of at most the level."""
    params = dataclasses.replace(PARAMS, level=0.1)
    windows = [judged(*sides(texts, seed), params, **RULES, seed=seed, permutations=99) for seed in range(60)]
    assert all(len(w.judged) >= 8 for w in windows)
    assert sum(bool(w.raised) for w in windows) <= binom.ppf(0.999, 60, 0.1)


@pytest.mark.parametrize(
    ("change", "name"),
    [
        (lambda live: {"texts": tuple(f"{t} And how do I open a savings pot for my daughter?" for t in live.texts)}, "prompts"),
        (lambda live: {"texts": tuple(t[: len(t) // 2] for t in live.texts)}, "length"),
        (lambda live: {"slices": ("fee",) * 90 + ("pin",) * 10}, "slices"),
        (lambda live: {"labels": ("fee",) * 90 + ("pin",) * 10}, "labels"),
        (lambda live: {"scores": tuple(s - 1.5 for s in live.scores)}, "scores"),
        (lambda live: {"compared": (1.0,) * 60 + (0.0,) * 40, "compared_p": 1e-9}, "disagreement"),
        (lambda live: {"deferred": 70}, "deferred"),
        (lambda live: {"failed": 40}, "failed"),
    ],
)  # fmt: skip
def test_each_drift_raises_its_measure(texts: list[str], change: Any, name: str) -> None:
    reference, live = sides(texts)
    measures = of(judged(reference, dataclasses.replace(live, **change(live)), PARAMS, **RULES))
    assert measures[name].raised and measures[name].large, measures[name]


def test_another_language_is_counted(texts: list[str]) -> None:
    german = [
        f"Guten Tag, {wish} Mit freundlichen Grüßen aus {town}"
        for wish in ("meine Karte ist gesperrt und ich brauche heute noch Hilfe.", "warum wurde mir diese Gebühr berechnet?", "ich möchte mein Konto kündigen.")
        for town in ("Berlin", "Hamburg", "München", "Köln", "Frankfurt", "Stuttgart", "Dresden", "Leipzig", "Bremen", "Hannover", "Bonn", "Mainz", "Ulm", "Kiel", "Trier")
    ]  # fmt: skip
    reference, live = sides(texts)
    params = dataclasses.replace(PARAMS, min_rows=20)
    window = judged(reference, dataclasses.replace(live, texts=tuple(german)), params, promised=0.2, near_duplicate=0.95)
    assert of(window)["language"].large and of(window)["prompts"].large


def test_too_few_rows_judge_nothing_and_say_so(texts: list[str]) -> None:
    reference, live = sides(texts, n=100)
    window = judged(reference, live, DriftParams(min_rows=101), **RULES)
    assert window.judged == set() and not window.raised and not window.at_risk
    assert of(window)["scores"].unjudged == "100 live rows; 101 are needed"
    small = dataclasses.replace(reference, texts=reference.texts[:30])
    assert "reference rows" in of(judged(small, live, PARAMS, **RULES))["prompts"].unjudged


def test_without_texts_the_rest_is_judged(texts: list[str]) -> None:
    reference, live = sides(texts)
    gap = "there is no traffic log"
    window = judged(reference, dataclasses.replace(live, texts=(), labels=(), text_gap=gap), PARAMS, **RULES)
    assert window.judged == {"slices", "scores", "disagreement", "deferred", "failed"}
    assert all(of(window)[name].unjudged == gap for name in ("prompts", "length", "language", "labels"))
    bare = Reference(reference.texts, reference.slices, gap="no student is live")
    assert judged(bare, live, PARAMS, **RULES).judged >= {"prompts", "length", "slices", "disagreement"}
    assert of(judged(bare, live, PARAMS, **RULES))["failed"].unjudged == "no student is live"
    unnamed = dataclasses.replace(live, slices=("",) * 100)
    assert of(judged(reference, unnamed, PARAMS, **RULES))["slices"].unjudged == "no request names its slice"


def test_repeats_count_equally_on_both_sides(texts: list[str]) -> None:
    """One message that is sent again and again is no drift, though a classifier that sees the repeats would say so."""
    old, new = texts[:150], [*texts[150:250], *([texts[0]] * 200), *([texts[160]] * 100)]
    with_repeats = two_sample_auc(old, new, 1, 199)
    assert with_repeats is not None and with_repeats.p_value == 1 / 200
    kept_old, kept_new = without_repeats(old, new, 0.9)
    assert len(kept_new) < 110 and (texts[0] in kept_old) + (texts[0] in kept_new) == 1
    drift = two_sample_auc(kept_old, kept_new, 1, 199)
    assert drift is not None and not drift.shown


def test_a_p_value_of_prompts_is_that_of_the_permutations(texts: list[str]) -> None:
    drift = two_sample_auc(texts[:60], [f"{t} And how do I open a savings pot?" for t in texts[60:120]], 1, 199)
    assert drift is not None and drift.p_value == 1 / 200 and drift.shown


def test_quality_is_at_risk_unless_comparisons_show_that_the_promise_is_kept(texts: list[str]) -> None:
    reference, live = sides(texts)
    drifted = dataclasses.replace(live, texts=tuple(f"{t} And how do I open a savings pot for my daughter?" for t in live.texts))

    def risk(**changes: Any) -> bool:
        return judged(reference, dataclasses.replace(drifted, **changes), PARAMS, **RULES).at_risk

    assert not risk(), "10 % of 100 comparisons: its interval ends at 17.6 %, below the promised 20 %"
    assert risk(compared=(0.0,) * 10), "too few comparisons show nothing"
    assert risk(compared=(1.0,) * 15 + (0.0,) * 85), "15 % is not shown to be below 20 %"
    only_deferred = dataclasses.replace(live, deferred=80)
    window = judged(reference, only_deferred, PARAMS, **RULES)
    assert of(window)["deferred"].large and not window.at_risk, "the teacher answers these requests"


def test_shares_are_fishers(texts: list[str]) -> None:
    reference, live = sides(texts)
    measure = of(judged(reference, dataclasses.replace(live, deferred=45), PARAMS, **RULES))["deferred"]
    assert measure.value == pytest.approx(45 / 99) and measure.excess == pytest.approx(45 / 99 - 30 / 99)
    assert measure.p_value == pytest.approx(fisher_exact([[45, 54], [30, 69]]).pvalue)
    fewer = of(judged(reference, dataclasses.replace(live, failed=0), PARAMS, **RULES))["failed"]
    assert fewer.p_value == pytest.approx(1.0), "fewer failures are no alarm"


def test_a_sample_is_even_and_bounded() -> None:
    counts = np.zeros(100)
    for seed in range(400):
        sample = Sample[int](10, seed)
        for value in range(100):
            sample.add(value)
        assert len(sample.values) == 10 and sample.seen == 100
        counts[list(sample.values)] += 1
    low, high = binom.interval(1 - 1e-5, 400, 0.1)
    assert low <= counts.min() and counts.max() <= high
