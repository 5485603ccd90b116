"""From a teacher's raw log-probabilities to valid soft targets.

Engines list the sampled token first and again among the top-k, or beyond rank k, and a broken teacher returns NaN.
None of that may reach a loss (KD rule 10).
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch

from redistill.distillation.types import SignalKey, SoftTargets, sequence_digest
from redistill.errors import DataError


def from_logits(
    logits_TV: torch.Tensor,
    token_ids_L: Sequence[int] | np.ndarray,
    first: int,
    k: int,
    temperatures: Sequence[float],
    key: SignalKey,
    vocabulary: int | None = None,
) -> SoftTargets:
    """Soft targets from dense teacher logits: the T rows that predict tokens ``first`` … L − 1.

    A head that was padded beyond the tokenizer's ``vocabulary`` is cut to it and the rest renormalised (KD rule 7).

    Raises:
        DataError: NaN or infinite logits.
    """
    logits_TV = logits_TV[:, :vocabulary]
    if not torch.isfinite(logits_TV).all():
        raise DataError(f"the teacher returned NaN or infinite logits for row {key}; check its weights and dtype")
    logprobs_TV = torch.log_softmax(logits_TV.float(), -1)
    k = min(k, logprobs_TV.shape[-1])
    top, ids = logprobs_TV.topk(k, -1)
    p = top.exp()
    return SoftTargets(
        key=key,
        sequence=sequence_digest(token_ids_L),
        first=first,
        top_ids_TK=ids.numpy().astype(np.int32),
        top_logprobs_TK=top.numpy(),
        tail_T=(1.0 - p.sum(-1)).clamp_min(0.0).numpy(),
        entropy_T=-(logprobs_TV.exp() * logprobs_TV).sum(-1).numpy(),
        # At temperature 1 the log-probabilities are normalised already.
        log_z={t: torch.logsumexp(logprobs_TV / t, -1).numpy() for t in temperatures if t != 1.0},
    )


def from_listed(
    ids: Sequence[Sequence[int]],
    logprobs: Sequence[Sequence[float]],
    token_ids_L: Sequence[int],
    first: int,
    k: int,
    key: SignalKey,
) -> SoftTargets:
    """Soft targets from what an engine or endpoint lists per token: sorted, without duplicates, cut to k.

    The entropy is a lower bound: the tail counts as one outcome.

    Raises:
        DataError: NaN, a positive log-probability, or probabilities that sum to more than one.
    """
    ranked_rows: list[list[tuple[int, float]]] = []
    for position, (row_ids, row_lp) in enumerate(zip(ids, logprobs, strict=True)):
        best: dict[int, float] = {}
        for token, value in zip(row_ids, row_lp, strict=True):
            if np.isnan(value) or value > 1e-3:
                raise DataError(
                    f"the teacher returned log-probability {value} at token {position} of row {key}, but it must be ≤ 0; check the teacher's logprobs"
                )
            if np.isfinite(value):
                best[int(token)] = max(best.get(int(token), -np.inf), min(float(value), 0.0))
        ranked = sorted(best.items(), key=lambda pair: (-pair[1], pair[0]))[:k]
        if sum(np.exp(v) for _, v in ranked) > 1.01:
            raise DataError(f"probabilities of token {position} of row {key} sum to more than 1; check the teacher's logprobs")
        ranked_rows.append(ranked)
    width = max((len(r) for r in ranked_rows), default=0)
    top_ids = np.zeros((len(ranked_rows), width), dtype=np.int32)
    top_lp = np.full((len(ranked_rows), width), -np.inf, dtype=np.float32)
    for i, ranked in enumerate(ranked_rows):
        for j, (token, value) in enumerate(ranked):
            top_ids[i, j], top_lp[i, j] = token, value
    p = np.exp(top_lp)
    tail = np.clip(1.0 - p.sum(-1), 0.0, 1.0)
    with np.errstate(divide="ignore", invalid="ignore"):
        entropy = -np.where(p > 0, p * np.where(p > 0, top_lp, 0.0), 0.0).sum(-1) - np.where(tail > 0, tail * np.log(tail), 0.0)
    return SoftTargets(key, sequence_digest(token_ids_L), first, top_ids, top_lp, tail, entropy)
