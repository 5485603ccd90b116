"""The probabilities of a teacher in memory for exactly the given token ids: one forward pass, without generation."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import torch

from redistill.distillation.soft_targets.from_teacher import from_logits
from redistill.distillation.types import SignalKey, SoftTargets
from redistill.models.padding import right_padded

Keyed = tuple[SignalKey, Sequence[int]]
"""Which row, and its token ids."""


def score_sequences(
    model: Any,
    sequences: Sequence[Keyed],
    k: int,
    temperatures: Sequence[float],
    batch_tokens: int,
    vocabulary: int | None = None,
) -> Iterator[SoftTargets]:
    """Soft targets of every token but the first, longest sequences together, so that little is padded.

    Raises:
        DataError: NaN or infinite logits.
    """
    for key, sequence, logits in row_logits(model, sequences, batch_tokens):
        yield from_logits(logits, sequence, 1, k, temperatures, key, vocabulary)


def row_logits(model: Any, sequences: Sequence[Keyed], batch_tokens: int) -> Iterator[tuple[SignalKey, Sequence[int], torch.Tensor]]:
    """The logits of every token of a row but the first (T - 1, V), one row after the other, longest sequences first.

    The teacher runs in eval mode and without gradients (KD rule 11).
    """
    model.eval()
    ordered = sorted(sequences, key=lambda pair: -len(pair[1]))
    start = 0
    while start < len(ordered):
        batch = ordered[start : start + max(1, batch_tokens // len(ordered[start][1]))]
        with torch.inference_mode():
            hidden = model.get_decoder()(**right_padded([sequence for _, sequence in batch]), use_cache=False).last_hidden_state
            for i, (key, sequence) in enumerate(batch):
                # One row's logits at a time: a batch of [tokens, vocabulary] in float32 would be gigabytes.
                yield key, sequence, model.get_output_embeddings()(hidden[i, : len(sequence) - 1])
        start += len(batch)
