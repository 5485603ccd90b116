"""The probabilities of a teacher in memory for exactly the given token ids: one forward pass, without generation."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import torch

from redistill.distillation.soft_targets.from_teacher import from_logits
from redistill.distillation.types import SignalKey, SoftTargets
from redistill.models.padding import right_padded


class Sequenced(NamedTuple):
    """Which row, its token ids, and the first token whose probabilities are computed."""

    key: SignalKey
    token_ids: Sequence[int]
    first: int = 1


def score_sequences(
    model: Any,
    sequences: Sequence[Sequenced],
    k: int,
    temperatures: Sequence[float],
    batch_tokens: int,
    vocabulary: int | None = None,
) -> Iterator[SoftTargets]:
    """Soft targets of the tokens from ``first`` on, longest sequences together, so that little is padded.

    Raises:
        DataError: NaN or infinite logits.
    """
    for batch in batches_of(sequences, batch_tokens):
        yield from score_batch(model, batch, k, temperatures, vocabulary)


def score_batch(
    model: Any, batch: Sequence[Sequenced], k: int, temperatures: Sequence[float], vocabulary: int | None = None
) -> Iterator[SoftTargets]:
    """Soft targets of one forward pass."""
    for (key, token_ids, first), logits in _logits_of(model, batch):
        yield from_logits(logits, token_ids, first, k, temperatures, key, vocabulary)


def row_logits(model: Any, sequences: Sequence[Sequenced], batch_tokens: int) -> Iterator[tuple[Sequenced, torch.Tensor]]:
    """The logits of a row's tokens from ``first`` on (T - first, V), one row after the other, longest sequences first."""
    for batch in batches_of(sequences, batch_tokens):
        yield from _logits_of(model, batch)


def batches_of(sequences: Sequence[Sequenced], batch_tokens: int) -> list[Sequence[Sequenced]]:
    """What is scored in one forward pass each. Results of a row can differ in the last bit with what is beside it, so there is one way to form batches."""
    ordered, start = sorted(sequences, key=lambda sequence: -len(sequence.token_ids)), 0
    batches: list[Sequence[Sequenced]] = []
    while start < len(ordered):
        batches.append(ordered[start : start + max(1, batch_tokens // len(ordered[start].token_ids))])
        start += len(batches[-1])
    return batches


def _logits_of(model: Any, batch: Sequence[Sequenced]) -> Iterator[tuple[Sequenced, torch.Tensor]]:
    """The teacher runs in eval mode and without gradients (KD rule 11)."""
    model.eval()
    with torch.inference_mode():
        hidden = model.get_decoder()(**right_padded([s.token_ids for s in batch]), use_cache=False).last_hidden_state
        for i, sequence in enumerate(batch):
            # One row's logits at a time: a batch of [tokens, vocabulary] in float32 would be gigabytes.
            yield sequence, model.get_output_embeddings()(hidden[i, sequence.first - 1 : len(sequence.token_ids) - 1])
