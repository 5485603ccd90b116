"""The teacher's probabilities of a completion, moved from the sequence that the teacher read to the one that the student reads."""

from __future__ import annotations

from dataclasses import replace

from redistill.distillation.types import SoftTargets, TrainingRow, sequence_digest
from redistill.errors import DataError


def for_student(targets: SoftTargets, row: TrainingRow) -> SoftTargets:
    """The targets of the row's completion tokens, at the student's places; unchanged where the teacher read the student's prompt.

    The completion's token ids must be equal on both sides (KD rule 11): the targets belong to the teacher's prompt and exactly these ids. What the
    teacher says of its own longer prompt is left out, because the student has no such tokens.

    Raises:
        DataError: the targets belong to other tokens.
    """
    if not row.teacher_prompt_ids:
        return targets
    if targets.sequence != sequence_digest(row.teacher_token_ids) or targets.end != len(row.teacher_token_ids):
        raise DataError(
            f"soft targets of row {row.key} belong to other tokens than the teacher's prompt with the row's completion; "
            "run the stages generate, validate and score again, and if that does not help, set score.top_k above 0"
        )
    skipped = max(0, len(row.teacher_prompt_ids) - targets.first)
    return replace(
        targets,
        sequence=sequence_digest(row.token_ids),
        first=targets.first + skipped - row.teacher_shift,
        top_ids_TK=targets.top_ids_TK[skipped:],
        top_logprobs_TK=targets.top_logprobs_TK[skipped:],
        tail_T=targets.tail_T[skipped:],
        entropy_T=targets.entropy_T[skipped:],
        log_z={temperature: log_z_T[skipped:] for temperature, log_z_T in targets.log_z.items()},
    )
