"""Sparse forward KL with a tail bucket, and cross-entropy, with closed-form gradients.

Notation as in Hinton, Vinyals and Dean (2015): teacher p, student q, top-K set, r = 1 − Σ_K p the teacher's tail mass,
q_T the student's. At temperature T the tail-bucket loss is ``T² (Σ_K p log(p/q) + r log(r/q_T))``: a true KL on K + 1
outcomes, never negative. Its gradient by a logit is ``T (q_j − p_j)`` inside K and ``T q_j (1 − r/q_T)`` outside.
(Anshumann et al., ACL 2025, on why renormalising the teacher's top-k is biased.)
"""

from __future__ import annotations

from collections.abc import Callable

import torch

from redistill.distillation.losses.types import TokenTargets


def temper(top_logprobs: torch.Tensor, log_z: torch.Tensor | None, temperature: float) -> torch.Tensor:
    """Teacher probabilities at a temperature: exp(ℓ/T − log Z_T); at T = 1 the log-probabilities themselves.

    Raises:
        ValueError: T ≠ 1 without its log Z_T; top-k alone cannot give the normaliser (KD rule 9).
    """
    if temperature == 1.0:
        return top_logprobs.exp()
    if log_z is None:
        raise ValueError(
            f"temperature {temperature:g} needs the stored log Z_T; add it to score.temperatures and score again, or use temperature 1"
        )
    return (top_logprobs / temperature - log_z.unsqueeze(-1)).exp()


TokenLoss = Callable[[slice, torch.Tensor, torch.Tensor], tuple[torch.Tensor, torch.Tensor]]
"""(some tokens, their logits (R × V), room for the gradient (R × V)) → divergence (without T²) and cross-entropy of each token. It leaves
the gradient of their weighted sum by the logits in that room, which may be the logits' own."""


def token_losses(
    logits_NV: torch.Tensor, grad_NV: torch.Tensor, targets: TokenTargets, temperature: float
) -> tuple[torch.Tensor, torch.Tensor]:
    """Per-token KL (without T²) and cross-entropy, and the gradient of their weighted sum by the logits, in ``grad_NV``."""
    labels_N, ids_NK, p_NK, kd_N, ce_N = targets
    if temperature == 1.0 or not ids_NK.shape[1]:
        return _tail_bucket(logits_NV, grad_NV, labels_N, ids_NK, p_NK, kd_N, ce_N)
    none = torch.zeros_like(kd_N)
    kl, _ = _tail_bucket(logits_NV.to(grad_NV.dtype) / temperature, grad_NV, labels_N, ids_NK, p_NK, kd_N * temperature, none)
    grad_ce_NV = torch.empty_like(grad_NV)
    _, nll = _tail_bucket(logits_NV, grad_ce_NV, labels_N, ids_NK[:, :0], p_NK[:, :0], none, ce_N)
    grad_NV.add_(grad_ce_NV)
    return kl, nll


def _tail_bucket(
    logits_NV: torch.Tensor,
    grad_NV: torch.Tensor,
    labels_N: torch.Tensor,
    ids_NK: torch.Tensor,
    p_NK: torch.Tensor,
    kd_N: torch.Tensor,
    ce_N: torch.Tensor,
) -> tuple[torch.Tensor, torch.Tensor]:
    """KL and cross-entropy of each token, and in ``grad_NV`` the gradient ``kd · dKL + ce · dCE`` by the logits.

    The softmax is taken over the tail only: the top-K logits are masked first. So log q_T is a log-sum-exp, exact however small q_T
    is, where a sum of the student's probabilities underflows once the student is sure. A tail logit's gradient is its share of the tail times
    ``(kd + ce) q_T − kd r``. Everything of width V happens in place.
    """
    wide, valid_NK = grad_NV.dtype, p_NK > 0
    picked_NK = logits_NV.gather(-1, ids_NK).to(wide).masked_fill_(~valid_NK, -torch.inf)
    labelled_N = logits_NV.gather(-1, labels_N.unsqueeze(-1)).squeeze(-1).to(wide)
    if grad_NV.data_ptr() != logits_NV.data_ptr():
        grad_NV.copy_(logits_NV)
    lowest = torch.finfo(wide).min
    if ids_NK.shape[1]:
        _lower(grad_NV, ids_NK, valid_NK, lowest)
    # By hand: of torch.softmax the sum would have to be found again, by another pass, and from bfloat16 it makes a whole copy first.
    highest_N = grad_NV.amax(-1)
    sum_N = grad_NV.sub_(highest_N.unsqueeze(-1)).exp_().sum(-1)
    log_tail_N = highest_N + sum_N.log()
    log_sum_N = torch.logaddexp(log_tail_N, picked_NK.logsumexp(-1)) if ids_NK.shape[1] else log_tail_N
    log_q_tail_N, log_q_NK = log_tail_N - log_sum_N, picked_NK - log_sum_N.unsqueeze(-1)
    r_N = (1.0 - p_NK.sum(-1)).clamp_min(0.0)
    # What float32 leaves of 1 − Σp is rounding, and an empty tail has no outcome that could hold mass.
    r_N = torch.where((r_N < (1e-6 if p_NK.dtype == torch.float32 else 0.0)) | (highest_N == lowest), 0.0, r_N)
    inside = torch.where(valid_NK, torch.xlogy(p_NK, p_NK) - p_NK * log_q_NK, 0.0).sum(-1)
    outside = torch.where(r_N > 0, torch.xlogy(r_N, r_N) - r_N * log_q_tail_N, 0.0)
    grad_NV.mul_((((kd_N + ce_N) * log_q_tail_N.exp() - kd_N * r_N) / sum_N).unsqueeze(-1))
    add_NK = torch.where(valid_NK, (kd_N + ce_N).unsqueeze(-1) * log_q_NK.exp() - kd_N.unsqueeze(-1) * p_NK, 0.0)
    grad_NV.scatter_add_(-1, ids_NK, add_NK.to(wide))
    grad_NV.scatter_add_(-1, labels_N.unsqueeze(-1), -ce_N.unsqueeze(-1).to(wide))
    return inside + outside, log_sum_N - labelled_N


def _lower(logits_NV: torch.Tensor, ids_NK: torch.Tensor, valid_NK: torch.Tensor, lowest: float) -> None:
    """Set the valid ids' logits to the lowest number; not to -inf, so that a softmax is defined where K is the whole vocabulary.

    Unused places may name an id that is used, so they stand for the row's first valid one. An index_put, as a CPU's scatter_reduce copies the whole tensor.
    """
    first_N1 = ids_NK.gather(-1, valid_NK.int().argmax(-1, keepdim=True))
    values_N1 = logits_NV.gather(-1, first_N1).masked_fill_(valid_NK.any(-1, keepdim=True), lowest)
    rows_N1 = torch.arange(len(ids_NK), device=ids_NK.device).unsqueeze(-1)
    logits_NV.index_put_((rows_N1, torch.where(valid_NK, ids_NK, first_N1)), values_N1)
