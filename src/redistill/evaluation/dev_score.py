"""A quick score on the dev split, for choosing between students: greedy completions, exact match and F1 over a record's fields, chrF of free text.

It does not decide about promotion: the benchmark on held-out rows does that, with gates. Here students are compared only with each other, on rows
that no promotion depends on.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from redistill.data.grammars.types import spelled
from redistill.data.normal_form import normalised
from redistill.data.params import DataParams
from redistill.data.stopping import cut
from redistill.data.teacher_prompt import NO_PROMPT, TeacherPrompt
from redistill.data.templates import render
from redistill.data.types import Prompt
from redistill.evaluation.outcomes import items_of
from redistill.evaluation.row_scores import chrf_scores
from redistill.models.checkpoints import context_of
from redistill.models.generation import end_ids, generate, up_to_end, without_end
from redistill.models.stopping_criteria import stopping_criteria
from redistill.models.tokenizers import encode
from redistill.runtime.precision import multiplies_bf16
from redistill.statistics.bootstrap import bootstrap_f1, bootstrap_mean


@dataclass(frozen=True, slots=True)
class DevScore:
    """``counts_N3``: true positives, false positives and false negatives of each row; ``exact_N`` whether its response is the label.

    ``chrf_N`` is each row's chrF, where the task is free text: hardly any of it matches a label as a whole.
    """

    counts_N3: np.ndarray
    exact_N: np.ndarray
    chrf_N: np.ndarray | None = None

    @property
    def metric(self) -> str:
        """What to choose by, as a key: ``f1`` of records, ``chrf`` of free text."""
        return "f1" if self.chrf_N is None else "chrf"

    @property
    def objective(self) -> float:
        """The value of ``metric``: F1 of records, mean chrF of free text."""
        return f1(self.counts_N3) if self.chrf_N is None else float(self.chrf_N.mean())

    @property
    def text(self) -> str:
        """The scores as text."""
        graded = "" if self.chrf_N is None else f"chrF {self.objective:.3f}, "
        return f"{graded}F1 {self.f1:.3f}, exact match {self.exact_match:.3f}"

    @property
    def f1(self) -> float:
        return f1(self.counts_N3)

    @property
    def exact_match(self) -> float:
        return float(self.exact_N.mean()) if len(self.exact_N) else 0.0

    def interval(self, metric: str | None = None, resamples: int = 1000, seed: int = 7) -> tuple[float, float]:
        """95 % of a metric (by default the objective) over rows, by the percentile bootstrap."""
        if (metric or self.metric) == "chrf" and self.chrf_N is not None:
            score = bootstrap_mean(self.chrf_N, resamples, seed)
        else:
            tp, fp, fn = self.counts_N3.T
            score = bootstrap_f1(tp, fp, fn, resamples, seed)
        return score.interval.low, score.interval.high


def f1(counts_N3: np.ndarray) -> float:
    tp, fp, fn = counts_N3.sum(0)
    return float(2 * tp / max(1, 2 * tp + fp + fn))


def dev_score(
    model: Any,
    tokenizer: Any,
    prompts: Sequence[Prompt],
    data: DataParams,
    max_tokens: int,
    batch: int = 52,
    teacher_prompt: TeacherPrompt = NO_PROMPT,
) -> DevScore:
    """Complete every labelled prompt greedily, in the template that serves, and count. The model's training mode is left as it was."""
    labelled = [p for p in prompts if p.label is not None]
    training = model.training
    model.eval()
    try:
        lines = _complete(model, tokenizer, [render(p, data, tokenizer, teacher_prompt) for p in labelled], data.stops, max_tokens, batch)
    finally:
        model.train(training)
    return score_of(labelled, lines, data)


def score_of(labelled: Sequence[Prompt], lines: Sequence[str], data: DataParams) -> DevScore:
    """The score of completions that are there already, one for each labelled prompt."""
    rows, exact = [], []
    for prompt, line in zip(labelled, lines, strict=True):
        expected, predicted = items_of(data.grammar, prompt.label or "") or frozenset(), items_of(data.grammar, line) or frozenset()
        rows.append([len(expected & predicted), len(predicted - expected), len(expected - predicted)])
        exact.append(prompt.label is not None and normalised(spelled(data.grammar, line)) == normalised(prompt.label))
    graded = None if data.grammar else np.array(chrf_scores([(p.label or "", line) for p, line in zip(labelled, lines, strict=True)]))
    return DevScore(np.array(rows).reshape(-1, 3), np.array(exact, bool), graded)


@torch.no_grad()
def _complete(model: Any, tokenizer: Any, texts: Sequence[str], stops: Sequence[str], max_tokens: int, batch: int) -> list[str]:
    context, ids_of = context_of(model.config.to_dict()), [encode(text, tokenizer) for text in texts]
    # A model cannot read a longer prompt, so its completion stays empty.
    order = sorted((i for i in range(len(texts)) if context is None or len(ids_of[i]) + max_tokens <= context), key=lambda i: len(texts[i]))
    lines, ends = [""] * len(texts), end_ids(model)
    for start in range(0, len(order), batch):
        chosen = order[start : start + batch]
        rows = [ids_of[i] for i in chosen]
        criteria = stopping_criteria(tokenizer, [stops] * len(rows), max(map(len, rows)))
        with torch.autocast(model.device.type, torch.bfloat16, enabled=multiplies_bf16(model.device.type)):
            made_NT = generate(model, rows, tokenizer.pad_token_id, max_tokens, stopping_criteria=criteria).tokens_NT
        for i, made, counts in zip(chosen, made_NT, up_to_end(made_NT, ends), strict=True):
            ids = without_end(made[counts].tolist(), ends)
            lines[i] = cut(str(tokenizer.decode(ids, skip_special_tokens=True)), stops).strip()
    return lines
