"""A teacher in memory tells its probabilities of exactly the given token ids: one forward pass, never a generation."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import torch

from redistill.distillation.soft_targets.from_teacher import from_logits
from redistill.distillation.types import SoftTargets

Keyed = tuple[tuple[str, int], np.ndarray]
"""(prompt id, sample index) and the token ids of prompt and completion."""


def score_sequences(
    model: Any,
    sequences: Sequence[Keyed],
    k: int,
    temperatures: Sequence[float],
    batch_tokens: int,
    vocabulary: int | None = None,
    teacher: str = "",
) -> Iterator[SoftTargets]:
    """Soft targets of every token but the first, longest sequences together, so that little is padded.

    The teacher is put into eval mode and asked without a graph (KD rule 11).

    Raises:
        DataError: NaN or infinite logits.
    """
    model.eval()
    ordered = sorted(sequences, key=lambda pair: -len(pair[1]))
    start = 0
    while start < len(ordered):
        batch = ordered[start : start + max(1, batch_tokens // len(ordered[start][1]))]
        width = len(batch[0][1])
        ids, mask = torch.zeros((len(batch), width), dtype=torch.long), torch.zeros((len(batch), width), dtype=torch.long)
        for i, (_, sequence) in enumerate(batch):
            ids[i, : len(sequence)] = torch.from_numpy(sequence)
            mask[i, : len(sequence)] = 1
        with torch.inference_mode():
            hidden = model.get_decoder()(input_ids=ids, attention_mask=mask, use_cache=False).last_hidden_state
            for i, (key, sequence) in enumerate(batch):
                # One row's logits at a time: a batch of [tokens, vocabulary] in float32 would be gigabytes.
                logits = model.get_output_embeddings()(hidden[i, : len(sequence) - 1])
                yield from_logits(logits, sequence, 1, k, temperatures, key, vocabulary, teacher)
        start += len(batch)
