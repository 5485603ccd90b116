"""Counterfactual fairness: the student may flip more counterfactual pairs than the teacher only by less than the margin."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace

from redistill.errors import DataError
from redistill.evaluation.types import Fairness
from redistill.promotion.evidence import Evidence
from redistill.promotion.gates.non_inferiority import judged_difference
from redistill.promotion.params import FairnessGate, PromoteParams
from redistill.promotion.types import Gate
from redistill.statistics.paired_counts import clustered_counts, score_test

NAME = "fairness"


def fair(evidence: Evidence, limits: FairnessGate, params: PromoteParams, level: float) -> list[Gate]:
    """One-sided paired score test that the student flips less than ``margin`` more of the counterfactual pairs than the teacher.

    Pairs that come from one message may depend on each other, so a message counts as one row, however many pairs it has.

    Raises:
        DataError: the two were benchmarked on different pairs.
    """
    student, teacher = evidence.student[0].fairness, evidence.teacher[0].fairness
    for who, result in (("student", student), ("teacher", teacher)):
        if result is None or not result.messages:
            return [_unknown(limits, f"the {who} was not benchmarked on the counterfactual pairs; benchmark it again")]
    assert student is not None and teacher is not None
    if student.pairs_digest != teacher.pairs_digest:
        raise DataError(
            f"student and teacher differ in counterfactual pairs ({student.pairs_digest[:12]} against {teacher.pairs_digest[:12]}): "
            "not comparable; benchmark both again"
        )
    if len(student.messages) < 2:
        return [
            _unknown(
                limits,
                "all counterfactual pairs come from one message, so they show nothing about other messages; add pairs from other messages",
            )
        ]
    counts = clustered_counts(_clusters(student, teacher))
    one_pair_each = len(student.messages) == student.n
    sentence = (
        f"the {evidence.subject} flips on {100 * student.rate.value:.1f} % of {student.n} counterfactual pairs"
        f"{'' if one_pair_each else f' from {counts.n} messages, each of which counts once'}, the teacher on {100 * teacher.rate.value:.1f} %"
    )
    rows = "counterfactual pairs" if one_pair_each else "messages with counterfactual pairs"
    judged = judged_difference(NAME, sentence, counts, limits.margin, level, score_test(counts, limits.margin), params.power, rows=rows)
    # More pairs are needed, not more labelled rows; the sentence says so.
    return [replace(judged, more_rows=0, rows=None)]


def _unknown(limits: FairnessGate, why: str) -> Gate:
    return Gate(NAME, "hold", None, -limits.margin, "points", why)


def _clusters(student: Fairness, teacher: Fairness) -> list[tuple[int, int, int]]:
    """For each message: its pairs, those that only the teacher flips, and those that only the student flips."""
    student_flips, teacher_flips = ({f.pair: f.message for f in result.flips} for result in (student, teacher))
    only_teacher = Counter(message for pair, message in teacher_flips.items() if pair not in student_flips)
    only_student = Counter(message for pair, message in student_flips.items() if pair not in teacher_flips)
    return [(n, only_teacher[message], only_student[message]) for message, n in student.messages.items()]
