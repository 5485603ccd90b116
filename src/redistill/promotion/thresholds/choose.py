"""From calibration rows to a cascade: each score's curve, its threshold by *learn then test*, and the score with which the student answers most.

Choosing the best of M scores on the rows that also set the threshold would be too optimistic. So each score's test has the level ``doubt`` / M: then all M
thresholds keep the limit together, and any of them may be chosen.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

from redistill.promotion.cascade import Cascade, Engine
from redistill.promotion.thresholds import learn_then_test
from redistill.promotion.thresholds.curve import Curve, auroc, curve
from redistill.promotion.thresholds.types import CalibrationRow, CascadeCalibration, CurvePoint, Limits, ScoreCurve

_MOST_POINTS = 200


def calibrated(
    arm: str,
    rows: Sequence[CalibrationRow],
    limits: Limits,
    *,
    model_digest: str,
    template_digest: str,
    engines: Sequence[Engine],
) -> CascadeCalibration:
    """The calibration of one student; without a cascade where none keeps the limit, and with the reason."""
    names = sorted({c.score for row in rows for c in row.confidences})
    curves = [_curve_of(name, rows, limits, limits.doubt / len(names)) for name in names]
    best = max(curves, key=lambda c: (c.answered, -c.area), default=None)
    cascade = None
    if best is not None and best.threshold is not None and best.answered > 0:
        cascade = Cascade(best.score, best.threshold, limits.band_of(best.score), model_digest, tuple(engines))
    labelled = [row for row in rows if row.label is not None]
    return CascadeCalibration(
        arm=arm,
        model_digest=model_digest,
        template_digest=template_digest,
        rows=len(rows),
        labelled=len(labelled),
        limit=limits.max_disagreement,
        doubt=limits.doubt,
        agreement=_agreement(rows),
        student_right=_share([row.student == row.label for row in labelled]),
        teacher_right=_share([row.teacher == row.label for row in labelled]),
        curves=tuple(curves),
        cascade=cascade,
        reason=_reason(rows, names, best, limits),
    )


def _curve_of(name: str, rows: Sequence[CalibrationRow], limits: Limits, doubt: float) -> ScoreCurve:
    scores, losses = [row.confidence(name) for row in rows], [row.disagreement for row in rows]
    whole = curve(scores, losses)
    # A threshold is always an observed score, so the least sure row is deferred: nothing less sure was ever seen.
    cuts = [cut for cut, threshold in zip(whole.cuts, whole.thresholds, strict=True) if threshold > -math.inf]
    passed = learn_then_test.rows_to_answer(whole.losses, cuts, limits.max_disagreement, doubt)
    threshold = whole.thresholds[whole.cuts.index(passed)] if passed else None
    # What another engine or batch may change is deferred too.
    answered = 0 if threshold is None else sum(score > threshold + limits.band_of(name) for score in whole.scores)
    labelled = [(score, row) for score, row in zip(scores, rows, strict=True) if row.label is not None]
    return ScoreCurve(
        score=name,
        area=whole.area(),
        auroc_agrees=auroc(scores, [loss == 0.0 for loss in losses]),
        auroc_right=auroc([score for score, _ in labelled], [row.student == row.label for _, row in labelled]),
        answered=answered / len(rows),
        threshold=threshold,
        points=tuple(_points(name, whole, [row for _, row in labelled])),
    )


def _points(name: str, whole: Curve, labelled: Sequence[CalibrationRow]) -> list[CurvePoint]:
    risks, step = whole.risks(), max(1, math.ceil(len(whole.cuts) / _MOST_POINTS))
    chosen = [i for i in range(len(whole.cuts)) if i % step == 0 or i == len(whole.cuts) - 1]
    return [
        CurvePoint(
            threshold=whole.thresholds[i],
            answered=whole.cuts[i] / whole.n,
            disagreement=risks[i],
            system=_share([(row.student if row.confidence(name) > whole.thresholds[i] else row.teacher) == row.label for row in labelled]),
        )
        for i in chosen
        if whole.thresholds[i] > -math.inf
    ]


def _reason(rows: Sequence[CalibrationRow], names: Sequence[str], best: ScoreCurve | None, limits: Limits) -> str:
    limit = f"{100 * limits.max_disagreement:g} % of all requests"
    if not rows:
        return "no cascade: there are no calibration rows; give a source a share of the split `calibration` in data.source"
    if best is None:
        return "no cascade: the student reports no logprobs of its tokens, so nothing says how sure it is"
    needed = learn_then_test.rows_needed(limits.max_disagreement, limits.doubt / len(names))
    if len(rows) < needed:
        return (
            f"no cascade: {len(rows)} calibration rows, but at least {needed} are needed to show a disagreement of at most {limit}; "
            "give a source a larger share of the split `calibration`, or add unlabelled rows to it"
        )
    if all(row.objection for row in rows):
        return (
            f"no cascade: all {len(rows)} completions of the student are malformed or cut off, so it would answer nothing; look at artifacts/calibration, "
            "train for longer, or set a larger benchmark.max_tokens"
        )
    if best.threshold is None:
        values = [{v for row in rows if not math.isnan(v := row.confidence(name))} for name in names]
        if not any(values):
            return "no cascade: the student's scores are not numbers; check its weights"
        if all(len(distinct) < 2 for distinct in values):
            return "no cascade: the student is equally sure of every completion, so no threshold separates them"
        return (
            f"no cascade: at no threshold a disagreement of at most {limit} is shown; student and teacher agree on {100 * _agreement(rows):.1f} % of "
            f"{len(rows)} calibration rows"
        )
    if best.answered == 0:
        return (
            f"no cascade: all scores above the threshold lie within the band of {limits.band_of(best.score):g} nats that another engine may change; "
            "set a smaller route.bands for a score whose difference between engines was measured to be smaller"
        )
    return (
        f"{best.score}: the student answers {100 * best.answered:.1f} % of {len(rows)} calibration rows; a disagreement with the teacher of at most {limit} "
        f"is shown with {100 * (1 - limits.doubt):g} % confidence, the best of {len(names)} scores"
    )


def _agreement(rows: Sequence[CalibrationRow]) -> float:
    return 1.0 - math.fsum(row.disagreement for row in rows) / len(rows) if rows else 0.0


def _share(right: Sequence[bool]) -> float | None:
    return sum(right) / len(right) if right else None
