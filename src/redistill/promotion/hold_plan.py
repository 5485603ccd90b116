"""The plan for the next cycle after a hold: where to add prompts, and which labels to check again.

The plan names rows so that people can read them: monitor rows, or held-out rows where these are open. They never become training rows; add *other*
prompts of the same kind.
"""

from __future__ import annotations

import dataclasses
from collections import Counter
from typing import Any

from redistill.data.grammars.types import labels_in
from redistill.evaluation.row_scores import row_scores
from redistill.evaluation.types import Outcome
from redistill.promotion.evidence import Evidence, by_document
from redistill.promotion.types import PromotionDecision

_NO_LABEL = "(text)"
_LOST = 0.1
"""A row is lost if the student's score is lower than the teacher's by at least this. With right or wrong, that is every row that only the teacher has right."""


def patch(evidence: Evidence, decision: PromotionDecision, training_rows: int, sealed: PromotionDecision | None = None) -> dict[str, Any]:
    """The plan of a hold; a list is empty if nothing is to be done.

    ``evidence`` and ``decision`` are about the rows that people look at. ``sealed`` is what people may know of the decision on sealed held-out rows.

    ``prompts`` distributes new prompts over slices and labels, where the student lost rows that the teacher had right (or, with a graded
    metric, clearly better). Their number is a quarter of the rows that trained this student. ``relabel`` names rows on which student and
    teacher agree with each other but not with the label: usually the label is wrong. ``flips`` names the counterfactual pairs that only the
    student flips: add prompts of both kinds.
    """
    rows, teacher = by_document("student", evidence.student), by_document("teacher", evidence.teacher)
    keys = sorted(rows)
    student_scores, teacher_scores = (row_scores([of[key] for key in keys], decision.metric) for of in (rows, teacher))
    lost_keys = [
        key
        for key, student_score, teacher_score in zip(keys, student_scores, teacher_scores, strict=True)
        if teacher_score - student_score >= _LOST
    ]
    lost = [rows[key] for key in lost_keys]
    cells: Counter[tuple[str, str]] = Counter((row.slice, label) for row in lost for label in labels_of(evidence, row))
    total, budget = sum(cells.values()), max(1, training_rows // 4)
    return {
        "because": _because(decision, sealed),
        "heldout_rows": _heldout_rows(decision, sealed),
        "prompts": [
            {"slice": slice_, "label": label, "lost": n, "ask_for": max(1, round(budget * n / total))}
            for (slice_, label), n in sorted(cells.items(), key=lambda cell: (-cell[1], cell[0]))
        ],
        "lost": [_told(rows[key], teacher[key]) for key in lost_keys],
        "flips": _flips(evidence),
        "relabel": [
            _told(row, teacher[key]) for key, row in sorted(rows.items()) if not row.exact and row.response == teacher[key].response
        ],
    }


def _because(decision: PromotionDecision, sealed: PromotionDecision | None) -> list[str]:
    """The gates that hold the system: those that everybody may see, and those that do not pass on the shown rows."""
    public = [gate.name for gate in sealed.gates if not gate.passed and gate.rows is None] if sealed is not None else []
    return list(dict.fromkeys([*public, *(gate.name for gate in decision.gates if not gate.passed)]))


def _heldout_rows(decision: PromotionDecision, sealed: PromotionDecision | None) -> list[dict[str, Any]]:
    """The held-out rows that are missing, by gate. What the shown rows say of the number needed holds for sealed rows too."""
    there = {gate.name: gate.rows for gate in sealed.gates} if sealed is not None else {}
    missing = {
        gate.name: gate.more_rows + (gate.rows or 0) - (there.get(gate.name, gate.rows) or 0)
        for gate in decision.gates
        if not gate.passed and gate.more_rows
    }
    if sealed is not None:
        missing |= {gate.name: gate.more_rows for gate in sealed.gates if gate.rows is None and gate.more_rows}
    return [{"gate": name, "more_rows": n} for name, n in missing.items() if n > 0]


def _flips(evidence: Evidence) -> list[dict[str, Any]]:
    student, teacher = evidence.student[0].fairness, evidence.teacher[0].fairness
    if student is None or teacher is None:
        return []
    alike = {f.pair for f in teacher.flips}
    return [dataclasses.asdict(f) for f in student.flips if f.pair not in alike]


def labels_of(evidence: Evidence, row: Outcome) -> list[str]:
    """The labels that a row should have; free text has one common name."""
    return list(labels_in(evidence.grammar, row.target)) or [_NO_LABEL]


def _told(student: Outcome, teacher: Outcome) -> dict[str, Any]:
    return {
        "prompt_id": student.prompt_id,
        "slice": student.slice,
        "label": student.target,
        "student": student.response,
        "teacher": teacher.response,
    }
