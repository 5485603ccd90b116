"""Does the student treat like messages alike? Not more unlike than its teacher, by more than the margin."""

from __future__ import annotations

from dataclasses import replace

from redistill.errors import DataError
from redistill.gates.evidence import Evidence
from redistill.gates.quality import judged_difference
from redistill.promote_params import FairnessGate, PromoteParams
from redistill.records import Gate
from redistill.statistics import PairedCounts, score_test

NAME = "fairness"


def fair(evidence: Evidence, own: FairnessGate, params: PromoteParams, level: float) -> list[Gate]:
    """One-sided paired score test that the student flips less than ``margin`` more of the counterfactual pairs than the teacher.

    Raises:
        DataError: the two were asked different pairs.
    """
    student, teacher = evidence.student[0].fairness, evidence.teacher[0].fairness
    if student is None or teacher is None:
        who = "student" if student is None else "teacher"
        return [Gate(NAME, "hold", None, -own.margin, "points", f"the {who} was not asked the counterfactual pairs; benchmark it again")]
    if student.pairs_digest != teacher.pairs_digest:
        raise DataError(
            f"student and teacher differ in counterfactual pairs ({student.pairs_digest[:12]} against {teacher.pairs_digest[:12]}): "
            "not comparable; benchmark both again"
        )
    ours, theirs = {f.pair for f in student.flips}, {f.pair for f in teacher.flips}
    counts = PairedCounts(student.n, len(theirs - ours), len(ours - theirs))
    said = (
        f"student decides otherwise for {100 * student.rate.value:.1f} % of {student.n} counterfactual pairs, "
        f"the teacher for {100 * teacher.rate.value:.1f} %"
    )
    p_value = score_test(counts, own.margin)
    judged = judged_difference(NAME, said, counts, own.margin, level, p_value, params.power, rows="counterfactual pairs")
    # What is missing are pairs, as the sentence says: no number of held-out rows would bring them.
    return [replace(judged, more_rows=0)]
