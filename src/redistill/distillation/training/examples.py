"""From rows to the tensors of a batch: token ids, which of them are supervised, and with what weight.

Every sequence is ``prompt ids + completion ids``. What is decided here holds for every method; a method adds its own loss (``redistill.distillation.methods``).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from redistill.distillation.losses.tail_bucket import temper
from redistill.distillation.losses.types import IGNORE
from redistill.distillation.soft_targets.from_teacher import bind
from redistill.distillation.types import SoftTargets, TrainingRow
from redistill.errors import DataError
from redistill.models.tokenizers import encode


@dataclass(frozen=True, slots=True)
class Example:
    """One sequence with per-token weights. Entry t of the weights belongs to token t as a *target*.

    ``prompt_tokens`` is where the completion begins; ``soft`` is None where the teacher's probabilities do not come from a file. ``states_ND`` are the
    teacher's last hidden states of the tokens with a KD term, where it was asked beforehand (``redistill.distillation.methods.teacher_states``).
    """

    input_ids_L: np.ndarray
    ce_weight_L: np.ndarray
    kd_weight_L: np.ndarray
    soft: SoftTargets | None
    prompt_tokens: int = 1
    states_ND: torch.Tensor | None = None


def to_example(
    row: TrainingRow,
    tokenizer: Any,
    soft: SoftTargets | None,
    alpha: float,
    supervise: str,
    max_tokens: int = 4096,
    in_memory: bool = False,
    prompt_weight: float = 0.0,
) -> Example:
    """Token ids and weights of one row.

    On completion tokens: where the teacher tells probabilities α is the KD term's weight and 1 − α the text's; gold rows, and teacher rows
    without probabilities, have the hard loss alone. On prompt tokens ``supervise: all`` adds KD where the teacher tells probabilities. They
    come from the same forward pass, and help a student whose layers were cut to recover. The prompt's own text has ``prompt_weight`` in teacher rows, with or without probabilities, so that an
    arm without them can be supervised on the same tokens. ``in_memory`` says that a teacher in memory tells them for teacher rows, instead of
    a file.

    Raises:
        DataError: soft targets for other tokens or of another teacher than the row has, or a row that is too long.
    """
    prompt_ids = encode(row.prompt, tokenizer)
    ids = np.asarray([*prompt_ids, *row.completion_ids], dtype=np.int64)
    if len(ids) > max_tokens:
        raise DataError(f"row {row.prompt_id[:12]} has {len(ids)} tokens, more than {max_tokens}; lower intake.max_chars")
    ce = np.zeros(len(ids), dtype=np.float32)
    kd = np.zeros(len(ids), dtype=np.float32)
    start = max(1, len(prompt_ids))
    if row.origin == "teacher":
        ce[1:start] = prompt_weight
    told = soft is not None or (in_memory and row.origin == "teacher")
    if not told or alpha == 0.0:
        ce[start:] = 1.0
        return Example(ids, ce, kd, None, start)
    first = 1
    if soft is not None:
        bind(soft, ids.tolist())
        if row.teacher is not None and soft.teacher != row.teacher:
            raise DataError(
                f"soft targets of row {row.prompt_id[:12]}/{row.sample_index} come from teacher {soft.teacher[:12] or '(unnamed)'}, but the lock "
                f"names {row.teacher[:12]} for it; run score again"
            )
        first = soft.first
    ce[start:] = 1.0 - alpha
    kd[first if supervise == "all" else max(first, start) :] = alpha
    return Example(ids, ce, kd, soft, start)


class Examples(Sequence[Example]):
    """Rows as examples, made when they are asked for: soft targets stay in their files until a batch needs them.

    ``lengths`` (tokens of each row) and ``targets`` (how many of them are supervised) are filled by one pass over all of them, so whatever is wrong
    with a row shows before training starts.

    Raises:
        DataError: see ``to_example``; a row with nothing to learn from, or a temperature that it has no log Z_T for (KD rule 9).
    """

    def __init__(
        self,
        rows: Sequence[TrainingRow],
        tokenizer: Any,
        soft: Mapping[tuple[str, int], SoftTargets],
        alpha: float,
        supervise: str,
        temperature: float = 1.0,
        in_memory: bool = False,
        prompt_weight: float = 0.0,
    ) -> None:
        self._rows, self._tokenizer, self._soft = rows, tokenizer, soft
        self._alpha, self._supervise, self._in_memory, self._prompt_weight = alpha, supervise, in_memory, prompt_weight
        self.lengths, self.targets = np.zeros(len(rows), np.int64), np.zeros(len(rows), np.int64)
        places = {key: place for place, key in enumerate(soft)}
        # In the order of the files, so that each of their groups is read once.
        for i in sorted(range(len(rows)), key=lambda i: places.get((rows[i].prompt_id, rows[i].sample_index), -1)):
            example = self[i]
            self.lengths[i] = len(example.input_ids_L)
            self.targets[i] = np.count_nonzero((example.ce_weight_L[1:] > 0) | (example.kd_weight_L[1:] > 0))
            if not self.targets[i]:
                raise DataError(
                    f"row {rows[i].prompt_id[:12]}/{rows[i].sample_index} has no token to learn from: its completion is empty; run validate again"
                )
            if example.soft is not None and temperature != 1.0 and temperature not in example.soft.log_z:
                raise DataError(
                    f"temperature {temperature:g} needs log Z_T, which the soft targets of row {rows[i].prompt_id[:12]} do not have: a top-k cannot "
                    "be re-tempered without it; add it to score.temperatures and score again, or use 1"
                )

    def __len__(self) -> int:
        return len(self._rows)

    def __getitem__(self, index: Any) -> Any:
        if isinstance(index, slice):
            return [self[i] for i in range(*index.indices(len(self)))]
        row = self._rows[index]
        soft = self._soft.get((row.prompt_id, row.sample_index)) if self._alpha > 0 else None
        return to_example(
            row, self._tokenizer, soft, self._alpha, self._supervise, in_memory=self._in_memory, prompt_weight=self._prompt_weight
        )


class ExampleData(torch.utils.data.Dataset[dict[str, Any]]):
    """Examples as the Trainer's collator wants them."""

    def __init__(self, examples: Sequence[Example]) -> None:
        self._examples = examples

    def __len__(self) -> int:
        return len(self._examples)

    def __getitem__(self, index: int) -> dict[str, Any]:
        return {"example": self._examples[index]}


def collate(rows: Sequence[Mapping[str, Any]], pad_id: int, temperature: float) -> dict[str, torch.Tensor]:
    """Right-padded batch. ``labels`` is what the Trainer counts: every supervised token once, shifted by us, not by it.

    Position t of ``labels`` and the target tensors belongs to the logits that predict token t + 1 (KD rule 1); weights
    and soft targets are shifted together with it. ``top_p`` are probabilities at ``temperature``, which the batch
    carries. ``prompt_tokens`` is where each row's completion begins; ``states``, where the teacher was asked beforehand, has a row for each token with ``kd``.
    """
    examples = [row["example"] for row in rows]
    length = max(len(e.input_ids_L) for e in examples)
    width = max((e.soft.top_ids_TK.shape[1] for e in examples if e.soft is not None), default=0)
    n = len(examples)
    ids = torch.full((n, length), pad_id, dtype=torch.long)
    mask = torch.zeros((n, length), dtype=torch.long)
    labels = torch.full((n, length), IGNORE, dtype=torch.long)
    ce = torch.zeros((n, length))
    kd = torch.zeros((n, length))
    top_ids = torch.zeros((n, length, width), dtype=torch.long)
    top_p = torch.zeros((n, length, width))
    for i, e in enumerate(examples):
        size = len(e.input_ids_L)
        ids[i, :size] = torch.from_numpy(e.input_ids_L)
        mask[i, :size] = 1
        ce[i, : size - 1] = torch.from_numpy(e.ce_weight_L[1:])
        kd[i, : size - 1] = torch.from_numpy(e.kd_weight_L[1:])
        supervised = (ce[i, : size - 1] > 0) | (kd[i, : size - 1] > 0)
        labels[i, : size - 1] = torch.where(supervised, torch.from_numpy(e.input_ids_L[1:]), IGNORE)
        if e.soft is not None and width:
            place = slice(e.soft.first - 1, size - 1)
            k = e.soft.top_ids_TK.shape[1]
            log_z = torch.from_numpy(np.array(e.soft.log_z[temperature])) if temperature in e.soft.log_z else None
            top_ids[i, place, :k] = torch.from_numpy(np.array(e.soft.top_ids_TK)).long()
            top_p[i, place, :k] = temper(torch.from_numpy(np.array(e.soft.top_logprobs_TK)), log_z, temperature)
    begins = torch.tensor([e.prompt_tokens for e in examples])
    states = [e.states_ND for e in examples if e.states_ND is not None]
    return {
        "input_ids": ids,
        "attention_mask": mask,
        "labels": labels,
        "ce": ce,
        "kd": kd,
        "top_ids": top_ids,
        "top_p": top_p,
        "prompt_tokens": begins,
        "temperature": torch.tensor(temperature),
        **({"states": torch.cat(states)} if states else {}),
    }
