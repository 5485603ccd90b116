"""All measures of a window against the reference, corrected for each other. What has too few rows says so and judges nothing."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import replace

import numpy as np

from redistill.serving.drift.languages import language_of
from redistill.serving.drift.params import DriftParams
from redistill.serving.drift.prompts import two_sample_auc, without_repeats
from redistill.serving.drift.shares import against_promise, against_reference
from redistill.serving.drift.types import Live, Measure, MeasureName, Reference, Window
from redistill.statistics.permutation import Permuted, distribution_distance, stability_index
from redistill.statistics.shares import holm

PERMUTATIONS = 999
"""With nine measures at a level of 0.01, Holm compares the smallest p-value with 0.0011. So many permutations can reach it."""
_MOST = 1000
"""Texts of a side that are compared."""
_LENGTHS = 8
_RARE = 5
"""A category with fewer rows, live and reference together, is counted with other rare ones."""
_OF_INPUTS = {"prompts", "length", "language", "slices", "labels", "scores"}


def judged(
    reference: Reference,
    live: Live,
    params: DriftParams,
    *,
    promised: float,
    near_duplicate: float | None,
    seed: int = 7,
    permutations: int = PERMUTATIONS,
) -> Window:
    """The window with its measures. ``promised`` is the disagreement that the threshold promised, ``near_duplicate`` what intake calls one; None where it is known that no text
    is repeated.

    Its verdict is still that of a calm window: it depends on the windows before.
    """
    measures = [
        *_of_texts(reference, live, params, near_duplicate, seed, permutations),
        _of_slices(reference, live, params, seed, permutations),
        _of_labels(reference, live, params, seed, permutations),
        _of_scores(reference, live, params, seed, permutations),
        _disagreement(live, params, promised),
        *_fallbacks(reference, live, params),
    ]
    corrected = tuple(_corrected(measures, params.level))
    return Window(live.begin, live.end, live.requests, corrected, at_risk(corrected, promised), dict(live.answered))


def at_risk(measures: Sequence[Measure], promised: float) -> bool:
    """Whether quality is at risk: more disagreement than was promised, or other inputs while nothing shows that the promise is kept.

    A student that defers or fails more often is not a risk to quality, because the teacher answers those requests.
    """
    large = {m.name for m in measures if m.large}
    bounds = [m.interval for m in measures if m.name == "disagreement" and m.interval is not None]
    kept = any(bound.high <= promised for bound in bounds)
    return "disagreement" in large or (bool(large & _OF_INPUTS) and not kept)


def _corrected(measures: Sequence[Measure], level: float) -> list[Measure]:
    """Holm over the measures that judge something."""
    judging = [m.p_value for m in measures if m.p_value is not None]
    adjusted = iter(holm(judging))
    done = []
    for each in measures:
        raised = each.p_value is not None and next(adjusted) <= level
        done.append(replace(each, raised=raised, large=raised and each.excess > each.limit))
    return done


def _permuted(measure: Measure, result: Permuted) -> Measure:
    return replace(measure, value=result.value, by_chance=result.by_chance, excess=result.value - result.expected, p_value=result.p_value)


def _few(name: MeasureName, limit: float, rows: int, reference_rows: int, least: int, gap: str = "") -> Measure:
    """The measure before anything is computed; ``unjudged`` is set where there are too few rows."""
    why = gap
    if not why and rows < least:
        why = f"{rows:,} live rows; {least:,} are needed"
    if not why and reference_rows < least:
        why = f"{reference_rows:,} reference rows; {least:,} are needed"
    return Measure(name, rows, reference_rows, limit, unjudged=why)


def _of_texts(
    reference: Reference, live: Live, params: DriftParams, near_duplicate: float | None, seed: int, permutations: int
) -> list[Measure]:
    """Prompts, their length and their language, without repeats."""
    rng = np.random.default_rng(seed)
    old, new = (_at_most(texts, rng) for texts in (reference.texts, live.texts))
    if near_duplicate is not None and old and new:
        old, new = without_repeats(old, new, near_duplicate, seed)
    limits: tuple[tuple[MeasureName, float], ...] = (("prompts", params.prompts), ("length", params.shares), ("language", params.shares))
    prompts, length, language = (_few(name, limit, len(new), len(old), params.min_rows, live.text_gap) for name, limit in limits)
    if prompts.unjudged:
        return [prompts, length, language]
    drift = two_sample_auc(old, new, seed, permutations)
    assert drift is not None  # min_rows is at least what it needs
    cuts = np.unique(np.quantile([len(text) for text in [*old, *new]], np.linspace(0, 1, _LENGTHS + 1)[1:-1]))
    return [
        replace(prompts, value=drift.auc, by_chance=drift.by_chance, excess=drift.auc - 0.5, p_value=drift.p_value),
        _categories(length, old, new, lambda text: int(np.searchsorted(cuts, len(text), side="right")), seed, permutations),
        _categories(language, old, new, language_of, seed, permutations),
    ]


def _at_most(texts: Sequence[str], rng: np.random.Generator) -> list[str]:
    return list(texts) if len(texts) <= _MOST else [texts[i] for i in rng.choice(len(texts), _MOST, replace=False)]


def _categories(
    measure: Measure, old: Sequence[str], new: Sequence[str], kind_of: Callable[[str], object], seed: int, permutations: int
) -> Measure:
    """The stability index of categories. Which of them are rare depends on both sides together, so permutations stay valid."""
    if measure.unjudged:
        return measure
    kinds_old, kinds_new = ([str(kind_of(each)) for each in side] for side in (old, new))
    counts = Counter([*kinds_old, *kinds_new])
    merged_old, merged_new = ([kind if counts[kind] >= _RARE else "…" for kind in kinds] for kinds in (kinds_old, kinds_new))
    if len({*merged_old, *merged_new}) < 2:
        return replace(measure, value=0.0, unjudged="all rows are alike, live and reference")
    return _permuted(measure, stability_index(merged_old, merged_new, permutations, seed))


def _of_slices(reference: Reference, live: Live, params: DriftParams, seed: int, permutations: int) -> Measure:
    named = [name for name in live.slices if name]
    gap = "no request names its slice" if live.slices and not named else ""
    measure = _few("slices", params.shares, len(named), len(reference.slices), params.min_rows, gap)
    return _categories(measure, reference.slices, named, str, seed, permutations)


def _of_labels(reference: Reference, live: Live, params: DriftParams, seed: int, permutations: int) -> Measure:
    gap = live.text_gap or reference.gap
    measure = _few("labels", params.shares, len(live.labels), len(reference.labels), params.min_rows, gap)
    return _categories(measure, reference.labels, live.labels, str, seed, permutations)


def _of_scores(reference: Reference, live: Live, params: DriftParams, seed: int, permutations: int) -> Measure:
    measure = _few("scores", params.scores, len(live.scores), len(reference.scores), params.min_rows, reference.gap)
    if measure.unjudged:
        return measure
    return _permuted(measure, distribution_distance(reference.scores, live.scores, permutations, seed))


def _disagreement(live: Live, params: DriftParams, promised: float) -> Measure:
    measure = _few("disagreement", 0.0, len(live.compared), params.min_rows, params.min_rows)
    if measure.unjudged:
        return replace(measure, reference_rows=0)
    return replace(against_promise(measure, live.compared, live.compared_p, promised), reference_rows=0)


def _fallbacks(reference: Reference, live: Live, params: DriftParams) -> list[Measure]:
    """Deferred requests among those that the student could have answered, and failures among those that it was asked."""
    rows, reference_rows = live.asked, len(reference.labels)
    gap = reference.gap or ("nothing is deferred: there is no cascade" if reference.deferred is None else "")
    deferred = _few("deferred", params.deferred, rows - live.failed, reference_rows - reference.failed, params.min_rows, gap)
    failed = _few("failed", params.failed, rows, reference_rows, params.min_rows, reference.gap)
    if not deferred.unjudged and reference.deferred is not None:
        deferred = against_reference(deferred, live.deferred, reference.deferred, two_sided=True)
    if not failed.unjudged:
        failed = against_reference(failed, live.failed, reference.failed, two_sided=False)
    return [deferred, failed]
