"""From prompts and completions to the rows that a student trains on. This is where a row's tokens are made."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal

from redistill.data.params import DataParams
from redistill.data.templates import completion_text, render
from redistill.data.types import Prompt
from redistill.distillation.types import Span, TrainingRow
from redistill.errors import DataError
from redistill.models.tokenizers import encode, encode_text, tokenizer_digest
from redistill.teacher.types import TeacherCompletion

LONGEST = 4096
"""Tokens of the longest row that is trained on, whatever the model reads: the memory of a step grows with it."""


def that_fit(rows: Sequence[TrainingRow], context: int | None, label: str) -> list[TrainingRow]:
    """The rows that a model reads whole; what is left out is printed. ``context`` is the model's, in tokens.

    Raises:
        DataError: no row fits.
    """
    limit = min(LONGEST, context or LONGEST)
    kept = [row for row in rows if len(row.token_ids) <= limit]
    if len(kept) < len(rows):
        longest = max(rows, key=lambda row: len(row.token_ids))
        print(
            f"[{label}] left out {len(rows) - len(kept)} of {len(rows)} rows with more than {limit} tokens, such as {longest.prompt_id[:12]} "
            f"with {len(longest.token_ids)}",
            flush=True,
        )
        if not kept:
            raise DataError(
                f"all {len(rows)} rows have more than {limit} tokens, which the model cannot read; lower intake.max_chars, or use another model"
            )
    return kept


class RowMaker:
    """Makes rows for one student: with its tokenizer, in the template that serves it."""

    def __init__(self, data: DataParams, tokenizer: Any) -> None:
        self._data, self._tokenizer, self._digest = data, tokenizer, tokenizer_digest(tokenizer)

    def gold(self, prompts: Sequence[Prompt]) -> list[TrainingRow]:
        """Labelled prompts as rows. The label is written as a completion and closed with the end token."""
        return [self._row("gold", p, p.label, (), (self._tokenizer.eos_token_id,)) for p in prompts if p.label is not None]

    def completed(
        self, kept: Sequence[tuple[Prompt, TeacherCompletion]], teacher_tokenizer: str | None, teacher_ends: Sequence[int] = ()
    ) -> list[TrainingRow]:
        """Kept completions as rows. ``teacher_tokenizer`` is the digest of the teacher's tokenizer, None where it is not known.

        Where it is the student's own, the exact ids are taken, since probabilities belong to ids and not to text. Such a row ends with the end token that
        the teacher used, one of ``teacher_ends``. Otherwise the text is tokenized again and ends with the student's end token: the ids of the teacher's
        end tokens are ids of ordinary tokens there.
        """
        same = teacher_tokenizer == self._digest
        ends = (*(teacher_ends if same else ()), self._tokenizer.eos_token_id)
        return [self._row("teacher", p, c.text, c.token_ids if same else (), ends, c.sample_index, c.teacher) for p, c in kept]

    def _row(
        self,
        origin: Literal["gold", "teacher"],
        prompt: Prompt,
        text: str,
        ids: Sequence[int],
        ends: Sequence[int],
        sample: int = 0,
        teacher: str = "",
    ) -> TrainingRow:
        written = completion_text(text, self._data)
        prompt_ids = encode(render(prompt, self._data, self._tokenizer), self._tokenizer)
        completion = list(ids) or encode_text(written, self._tokenizer)
        if not completion or completion[-1] not in ends:
            completion.append(self._tokenizer.eos_token_id)
        tokens = (*prompt_ids, *completion)
        spans = (Span("prompt", 0, len(prompt_ids)), Span("completion", len(prompt_ids), len(tokens)))
        return TrainingRow(prompt.id, sample, tokens, spans, self._digest, written, origin, teacher, prompt.slice)
