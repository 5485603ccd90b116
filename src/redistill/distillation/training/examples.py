"""From rows to sequences with weights: which tokens are supervised, by text or by the teacher's probabilities, and how strongly.

What is decided here is the same for every method. A method adds its own loss (``redistill.distillation.methods``).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import torch

from redistill.distillation.training.rows import LONGEST
from redistill.distillation.types import SignalKey, SoftTargets, TrainingRow, sequence_digest
from redistill.errors import DataError


@dataclass(frozen=True, slots=True)
class Supervision:
    """Which tokens of an arm's rows are supervised, and with what weights.

    On completion tokens α (``alpha``) is the weight of the KD term and 1 − α of the text, where the teacher gives probabilities. Without them
    the text alone has weight 1. With ``tokens`` ``all`` the teacher's probabilities of prompt tokens count too, with weight α. They come from the same forward
    pass, and help a student whose layers were cut to recover. The prompt's own text has ``prompt_weight`` in teacher rows, with or without
    probabilities, so that an arm without them can be supervised on the same tokens.

    ``teacher_in_memory`` says that the probabilities of teacher rows come from a loaded teacher and not from a file. ``temperature`` is the method's.
    """

    alpha: float = 0.0
    tokens: Literal["completion", "all"] = "completion"
    prompt_weight: float = 0.0
    teacher_in_memory: bool = False
    temperature: float = 1.0
    max_tokens: int = LONGEST


@dataclass(frozen=True, slots=True)
class Example:
    """One sequence with per-token weights. Entry t of the weights belongs to token t as a *target*.

    ``completion_begin`` is the place of the first completion token; ``soft`` is None where no stored probabilities are used. ``states_ND`` are the
    teacher's last hidden states of the tokens with a KD term, where they were computed before training (``redistill.distillation.training.teacher_states``).
    """

    input_ids_L: np.ndarray
    ce_weight_L: np.ndarray
    kd_weight_L: np.ndarray
    soft: SoftTargets | None
    completion_begin: int = 1
    states_ND: torch.Tensor | None = None


def to_example(row: TrainingRow, soft: SoftTargets | None, supervision: Supervision) -> Example:
    """Weights of one row's tokens.

    Raises:
        DataError: soft targets of other tokens than the row has, or a row that is too long.
    """
    ids = np.asarray(row.token_ids, dtype=np.int64)
    if len(ids) > supervision.max_tokens:
        raise DataError(f"row {row.key} has {len(ids)} tokens, more than the limit of {supervision.max_tokens}; lower intake.max_chars")
    ce, kd = np.zeros(len(ids), dtype=np.float32), np.zeros(len(ids), dtype=np.float32)
    completion_L = np.zeros(len(ids), dtype=bool)
    for span in row.spans:
        completion_L[span.begin : span.end] = span.kind == "completion"
    # No token comes before the first one, so nothing predicts it.
    completion_L[:1] = False
    if row.origin == "teacher":
        ce[1:][~completion_L[1:]] = supervision.prompt_weight
    has_probabilities = soft is not None or (supervision.teacher_in_memory and row.origin == "teacher")
    if not has_probabilities or supervision.alpha == 0.0:
        ce[completion_L] = 1.0
        return Example(ids, ce, kd, None, max(1, row.completion_begin))
    first = 1
    if soft is not None:
        if soft.end != len(ids) or soft.sequence != sequence_digest(ids):
            raise DataError(
                f"soft targets of row {row.key} belong to other tokens than those of the row: the chat template or the tokenizer is another one; "
                "run the cycle again, and if that does not help, set score.top_k above 0"
            )
        first = soft.first
        if row.teacher_prompt_ids and supervision.tokens == "all":
            raise DataError(
                f"finetune.common.supervise is all, but the teacher read a prompt of its own before row {row.key}, so there are no probabilities of "
                "the student's prompt tokens; set it to completion"
            )
    ce[completion_L] = 1.0 - supervision.alpha
    kd[first:] = supervision.alpha if supervision.tokens == "all" else supervision.alpha * completion_L[first:]
    return Example(ids, ce, kd, soft, max(1, row.completion_begin))


class Examples(Sequence[Example]):
    """Rows as examples, created when they are needed: soft targets stay in their files until a batch uses them.

    ``lengths`` (tokens of each row) and ``targets`` (how many of them are supervised) are filled by one pass over all rows, so whatever is wrong
    with a row shows before training starts.

    Raises:
        DataError: see ``to_example``; a row with nothing to learn from, or soft targets without log Z of the temperature (KD rule 9).
    """

    def __init__(self, rows: Sequence[TrainingRow], soft: Mapping[SignalKey, SoftTargets], supervision: Supervision) -> None:
        self._rows, self._soft, self._supervision = rows, soft, supervision
        self.lengths, self.targets = np.zeros(len(rows), np.int64), np.zeros(len(rows), np.int64)
        places = {key: place for place, key in enumerate(soft)}
        # In the order of the files, so that each of their groups is read once.
        for i in sorted(range(len(rows)), key=lambda i: places.get(rows[i].key, -1)):
            example = self[i]
            self.lengths[i] = len(example.input_ids_L)
            self.targets[i] = np.count_nonzero((example.ce_weight_L[1:] > 0) | (example.kd_weight_L[1:] > 0))
            if not self.targets[i]:
                raise DataError(f"row {rows[i].key} has no token to learn from: its completion is empty; run the stage validate again")
            temperature = supervision.temperature
            if example.soft is not None and temperature != 1.0 and temperature not in example.soft.log_z:
                raise DataError(
                    f"temperature {temperature:g} needs log Z_T, which the soft targets of row {rows[i].key} do not have: a top-k cannot "
                    "be used at another temperature without it; add it to score.temperatures and score again, or use temperature 1"
                )

    def __len__(self) -> int:
        return len(self._rows)

    def __getitem__(self, index: Any) -> Any:
        if isinstance(index, slice):
            return [self[i] for i in range(*index.indices(len(self)))]
        row = self._rows[index]
        return to_example(row, self._soft.get(row.key) if self._supervision.alpha > 0 else None, self._supervision)
