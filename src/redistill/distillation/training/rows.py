"""From prompts and completions to the rows that a student trains on. This is where a row's tokens are made."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any, Literal

from redistill.data.grammars.types import spelled
from redistill.data.params import DataParams
from redistill.data.teacher_prompt import NO_PROMPT, TeacherPrompt
from redistill.data.templates import completion_text, render
from redistill.data.types import Prompt
from redistill.distillation.types import Span, TrainingRow
from redistill.errors import DataError
from redistill.models.tokenizers import encode_all, tokenizer_digest
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
    """Makes rows for one model that learns: with its tokenizer, in the template that serves it. ``shown_before`` is for a teacher that is asked with it."""

    def __init__(self, data: DataParams, tokenizer: Any, shown_before: TeacherPrompt = NO_PROMPT) -> None:
        self._data, self._tokenizer, self._digest = data, tokenizer, tokenizer_digest(tokenizer)
        self._shown_before = shown_before

    def gold(self, prompts: Sequence[Prompt]) -> list[TrainingRow]:
        """Labelled prompts as rows. The label is written as a completion and closed with the end token."""
        labelled = [(p, p.label) for p in prompts if p.label is not None]
        texts = [completion_text(label, self._data) for _, label in labelled]
        prompt_ids, label_ids = self._prompt_ids([p for p, _ in labelled]), encode_all(texts, self._tokenizer, as_text=True)
        end = (self._tokenizer.eos_token_id,)
        return [
            self._row("gold", p, text, begin, ids, end)
            for (p, _), text, begin, ids in zip(labelled, texts, prompt_ids, label_ids, strict=True)
        ]

    def completed(
        self,
        kept: Sequence[tuple[Prompt, TeacherCompletion]],
        teacher_tokenizer: str | None,
        teacher_ends: Sequence[int] = (),
        teacher_prompts: Sequence[Sequence[int]] = (),
    ) -> list[TrainingRow]:
        """Kept completions as rows. ``teacher_tokenizer`` is the digest of the teacher's tokenizer, None where it is not known.

        ``teacher_prompts`` are the ids that the teacher read before each completion; empty where it read the student's prompts.

        Where it is the student's own, the exact ids are taken, since probabilities belong to ids and not to text. Such a row ends with the end token that
        the teacher used, one of ``teacher_ends``. Otherwise the text is tokenized again and ends with the student's end token: the ids of the teacher's
        end tokens are ids of ordinary tokens there. A completion that has another spelling than its task's is tokenized again too.
        """
        same = teacher_tokenizer == self._digest
        ends = (*(teacher_ends if same else ()), self._tokenizer.eos_token_id)
        lines = [spelled(self._data.grammar, c.text) for _, c in kept]
        texts = [completion_text(line, self._data) for line in lines]
        # Ids that the teacher gave are not made again.
        unchanged = [same and bool(c.token_ids) and line == c.text for line, (_, c) in zip(lines, kept, strict=True)]
        made = iter(encode_all([text for text, whole in zip(texts, unchanged, strict=True) if not whole], self._tokenizer, as_text=True))
        ids = [list(c.token_ids) if whole else next(made) for whole, (_, c) in zip(unchanged, kept, strict=True)]
        prompt_ids = self._prompt_ids([p for p, _ in kept])
        rows = [
            self._row("teacher", p, text, begin, completion, ends, c.sample_index, c.teacher)
            for (p, c), text, begin, completion in zip(kept, texts, prompt_ids, ids, strict=True)
        ]
        # Where tokenizers differ, the teacher's ids mean other tokens, and nothing is scored.
        if not teacher_prompts or not same:
            return rows
        return [replace(row, teacher_prompt_ids=tuple(read)) for row, read in zip(rows, teacher_prompts, strict=True)]

    def _prompt_ids(self, prompts: Sequence[Prompt]) -> list[list[int]]:
        return encode_all([render(prompt, self._data, self._tokenizer, self._shown_before) for prompt in prompts], self._tokenizer)

    def _row(
        self,
        origin: Literal["gold", "teacher"],
        prompt: Prompt,
        written: str,
        prompt_ids: list[int],
        completion: list[int],
        ends: Sequence[int],
        sample: int = 0,
        teacher: str = "",
    ) -> TrainingRow:
        if not completion or completion[-1] not in ends:
            completion.append(self._tokenizer.eos_token_id)
        tokens = (*prompt_ids, *completion)
        spans = (Span("prompt", 0, len(prompt_ids)), Span("completion", len(prompt_ids), len(tokens)))
        return TrainingRow(prompt.id, sample, tokens, spans, self._digest, written, origin, teacher, prompt.slice)
