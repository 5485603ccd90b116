"""From prompts and completions to the rows that a student trains on."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from redistill.data.params import DataParams
from redistill.data.templates import completion_text, render
from redistill.data.types import Prompt
from redistill.distillation.types import TrainingRow
from redistill.models.tokenizers import encode
from redistill.teacher.types import TeacherCompletion


def gold_rows(prompts: Sequence[Prompt], data: DataParams, tokenizer: Any) -> list[TrainingRow]:
    """Labelled prompts as training rows; the label is spelled as a completion and closed with the end token."""
    return [_row(p, 0, p.label, None, None, data, tokenizer, (tokenizer.eos_token_id,)) for p in prompts if p.label is not None]


def teacher_rows(
    kept: Sequence[tuple[Prompt, TeacherCompletion]],
    data: DataParams,
    tokenizer: Any,
    same_tokenizer: bool,
    teacher_ends: Sequence[int] = (),
) -> list[TrainingRow]:
    """Kept completions as training rows.

    With the teacher's own tokenizer the exact ids are taken, since probabilities belong to ids and not to text; such a row ends with the end token that
    the teacher used, one of ``teacher_ends``. For a student with another tokenizer the text is tokenized again and ends with that tokenizer's end token. There the
    teacher's end ids are ids of ordinary tokens.
    """
    ends = (*(teacher_ends if same_tokenizer else ()), tokenizer.eos_token_id)
    return [_row(p, c.sample_index, c.text, c.token_ids if same_tokenizer else None, c.teacher, data, tokenizer, ends) for p, c in kept]


def _row(
    prompt: Prompt,
    sample: int,
    text: str,
    ids: Sequence[int] | None,
    teacher: str | None,
    data: DataParams,
    tokenizer: Any,
    ends: Sequence[int],
) -> TrainingRow:
    spelled = completion_text(text, data)
    tokens = list(ids) if ids else encode(spelled, tokenizer)
    if not tokens or tokens[-1] not in ends:
        tokens.append(tokenizer.eos_token_id)
    return TrainingRow(
        prompt.id,
        sample,
        render(prompt, data, tokenizer),
        spelled,
        tuple(tokens),
        "gold" if teacher is None else "teacher",
        teacher,
        prompt.slice,
    )
