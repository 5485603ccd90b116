"""How much a teacher moved: KL(old ‖ new) on completions that the old one wrote, from its stored soft targets and one forward pass of the new one.

The old teacher's weights are not needed. Mass outside its top-K is one outcome for both teachers, so the result is a lower bound of the KL over
the vocabulary (``losses.tail_bucket``).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import torch

from redistill.distillation.losses.tail_bucket import token_losses
from redistill.distillation.losses.types import TokenTargets
from redistill.distillation.soft_targets.scoring import Sequenced, row_logits
from redistill.distillation.types import SignalKey, SoftTargets, TrainingRow


def shifts_of_rows(
    model: Any, rows: Sequence[TrainingRow], old: Mapping[SignalKey, SoftTargets], batch_tokens: int, vocabulary: int
) -> Iterator[tuple[TrainingRow, float]]:
    """Each row with the mean KL(old ‖ new) over its completion's tokens, in nats, at T = 1. ``old`` has soft targets of every row.

    A head may be wider than the tokenizer's ``vocabulary``; both teachers are normalised over the vocabulary (KD rule 7).
    """
    by_key = {row.key: row for row in rows}
    for sequence, logits_TV in row_logits(model, [Sequenced(row.key, row.teacher_token_ids) for row in rows], batch_tokens):
        row, targets = by_key[sequence.key], old[sequence.key]
        begin = max(row.completion_begin, targets.first)
        kept_TV = logits_TV[begin + row.teacher_shift - 1 :, :vocabulary]
        yield row, _mean_kl(kept_TV, row.token_ids[begin:], targets, begin - targets.first)


def _mean_kl(logits_TV: torch.Tensor, labels_T: Sequence[int], targets: SoftTargets, skipped: int) -> float:
    """Logits row i belongs to token i of the labels; ``skipped`` entries of the targets lie before the completion."""
    ids_TK = torch.from_numpy(targets.top_ids_TK[skipped:].astype(np.int64)).to(logits_TV.device)
    p_TK = torch.from_numpy(np.exp(targets.top_logprobs_TK[skipped:].astype(np.float32))).to(logits_TV.device)
    wide_TV = logits_TV.float()
    ones_T = wide_TV.new_ones(len(labels_T))
    labels = torch.tensor(labels_T, device=logits_TV.device)
    kl_T, _ = token_losses(wide_TV, torch.empty_like(wide_TV), TokenTargets(labels, ids_TK, p_TK, ones_T, 0.0 * ones_T), 1.0)
    return float(kl_T.mean())
