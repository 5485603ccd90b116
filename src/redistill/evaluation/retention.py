"""How much of the teacher's quality a student keeps, row by row on the same held-out rows."""

from __future__ import annotations

from collections.abc import Sequence

from redistill.errors import DataError
from redistill.evaluation.row_scores import row_scores
from redistill.evaluation.types import Outcome
from redistill.statistics.bootstrap import bootstrap_retention
from redistill.statistics.shares import share
from redistill.statistics.types import Score


def retention(
    student: Sequence[Outcome], teacher: Sequence[Outcome], resamples: int, seed: int, *, free_text: bool = False
) -> dict[str, Score | None]:
    """Student ÷ teacher of exact match and micro-F1, or of mean chrF for free text, each with its paired interval.

    None where the teacher has nothing right.

    Raises:
        DataError: the two are not about the same rows.
    """
    pairs = _pairs(student, teacher)
    student_outcomes, teacher_outcomes = [s for s, _ in pairs], [t for _, t in pairs]
    metrics = {"chrf": _chrf_counts} if free_text else {"exact_match": _exact_counts, "f1": _f1_counts}
    return {
        name: bootstrap_retention(counts(student_outcomes), counts(teacher_outcomes), resamples, seed) for name, counts in metrics.items()
    }


def agreement(student: Sequence[Outcome], teacher: Sequence[Outcome]) -> Score:
    """The share of rows on which both give the same response, right or wrong.

    Raises:
        DataError: the two are not about the same rows.
    """
    pairs = _pairs(student, teacher)
    return share(sum(s.response == t.response for s, t in pairs), len(pairs))


def _pairs(student: Sequence[Outcome], teacher: Sequence[Outcome]) -> list[tuple[Outcome, Outcome]]:
    student_rows, teacher_rows = ({o.doc_hash: o for o in outcomes} for outcomes in (student, teacher))
    if student_rows.keys() != teacher_rows.keys():
        raise DataError(
            f"student and teacher were benchmarked on different held-out rows: {len(student_rows.keys() ^ teacher_rows.keys())} rows are in one benchmark only; benchmark both again"
        )
    return [(student_rows[key], teacher_rows[key]) for key in sorted(student_rows)]


def _exact_counts(outcomes: Sequence[Outcome]) -> tuple[list[int], list[int]]:
    return [int(o.exact) for o in outcomes], [1] * len(outcomes)


def _f1_counts(outcomes: Sequence[Outcome]) -> tuple[list[int], list[int]]:
    hits = [2 * o.true_positives for o in outcomes]
    return hits, [hit + o.false_positives + o.false_negatives for hit, o in zip(hits, outcomes, strict=True)]


def _chrf_counts(outcomes: Sequence[Outcome]) -> tuple[list[float], list[int]]:
    return row_scores(outcomes, "chrf"), [1] * len(outcomes)
