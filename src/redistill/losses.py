"""Sparse forward KL with a tail bucket, and cross-entropy, from hidden states to gradients in one pass.

The language-model head is the dearest part of a small student: with V = 49,152 its logits for 1,000 tokens are
200 MB in float32, and autograd would keep them several times over. Here a chunk of hidden states is multiplied
with the head, both losses and their closed-form gradients are computed on it, and the logits are let go.

Notation as in Hinton, Vinyals and Dean (2015): teacher p, student q, top-K set, r = 1 − Σ_K p the teacher's tail mass,
q_T the student's. At temperature T the tail-bucket loss is ``T² (Σ_K p log(p/q) + r log(r/q_T))``: a true KL on K + 1
outcomes, never negative. Its gradient by a logit is ``T (q_j − p_j)`` inside K and ``T q_j (1 − r/q_T)`` outside.
(Anshumann et al., ACL 2025, on why renormalising the teacher's top-k is biased.)
"""

from __future__ import annotations

from typing import Any, NamedTuple

import torch

IGNORE = -100
_TINY = 1e-30


class TokenTargets(NamedTuple):
    """Targets of N supervised tokens.

    ``kd_weight_N`` and ``ce_weight_N`` multiply the two losses of each token; the caller divides by the global count.
    ``top_p_NK`` are the teacher's probabilities *at the training temperature*; unused places hold probability 0 and a
    repeated valid id is not allowed.
    """

    labels_N: torch.Tensor
    top_ids_NK: torch.Tensor
    top_p_NK: torch.Tensor
    kd_weight_N: torch.Tensor
    ce_weight_N: torch.Tensor


class LossSums(NamedTuple):
    """Weighted total (has the gradient) and the unweighted sums of KL and cross-entropy in nats over the tokens that carry them (have none)."""

    total: torch.Tensor
    kl_sum: torch.Tensor
    ce_sum: torch.Tensor


def temper(top_logprobs: torch.Tensor, log_z: torch.Tensor | None, temperature: float) -> torch.Tensor:
    """Teacher probabilities at a temperature: exp(ℓ/T − log Z_T); at T = 1 the log-probabilities themselves.

    Raises:
        ValueError: T ≠ 1 without its log Z_T; top-k alone cannot give the normaliser (KD rule 9).
    """
    if temperature == 1.0:
        return top_logprobs.exp()
    if log_z is None:
        raise ValueError(f"temperature {temperature:g} needs the stored log Z_T; score again with it in score.temperatures, or use 1")
    return (top_logprobs / temperature - log_z.unsqueeze(-1)).exp()


def distill_loss(
    hidden_ND: torch.Tensor, head_VD: torch.Tensor, targets: TokenTargets, temperature: float = 1.0, chunk: int = 2048
) -> LossSums:
    """Σ over tokens of kd_weight · T² KL(p‖q) + ce_weight · CE, with gradients for hidden states and head.

    An empty batch gives a zero that is still connected to the graph (KD rule 6). The result does not depend on
    ``chunk`` (rule 5).
    """
    if hidden_ND.shape[0] == 0:
        zero = hidden_ND.sum() * 0.0 + head_VD.sum() * 0.0
        return LossSums(zero, zero.detach(), zero.detach())
    total, kl_sum, ce_sum = _HeadAndLoss.apply(hidden_ND, head_VD, temperature, chunk, *targets)
    return LossSums(total, kl_sum.detach(), ce_sum.detach())


class _HeadAndLoss(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, hidden: Any, head: Any, temperature: float, chunk: int, labels: Any, ids: Any, p: Any, kd: Any, ce: Any) -> Any:
        grad_hidden = torch.empty_like(hidden)
        grad_head = None
        kl_sum = hidden.new_zeros((), dtype=torch.float32)
        ce_sum = hidden.new_zeros((), dtype=torch.float32)
        total = hidden.new_zeros((), dtype=torch.float32)
        weight = head.to(hidden.dtype)
        if hidden.dtype == torch.float64:
            kl_sum, ce_sum, total = kl_sum.double(), ce_sum.double(), total.double()
        for start in range(0, hidden.shape[0], chunk):
            part = slice(start, start + chunk)
            logits = hidden[part] @ weight.T
            logits = logits.float() if logits.dtype in (torch.bfloat16, torch.float16) else logits
            kl, nll, grad = _token_losses(logits, labels[part], ids[part], p[part], kd[part], ce[part], temperature)
            total += (kd[part] * kl * temperature**2 + ce[part] * nll).sum()
            kl_sum += kl[kd[part] > 0].sum()
            ce_sum += nll[ce[part] > 0].sum()
            grad = grad.to(hidden.dtype)
            torch.matmul(grad, weight, out=grad_hidden[part])
            if head.requires_grad:
                mine = (grad.T @ hidden[part]).to(torch.promote_types(hidden.dtype, torch.float32))
                grad_head = mine if grad_head is None else grad_head.add_(mine)
        ctx.save_for_backward(grad_hidden, grad_head)
        ctx.head_dtype = head.dtype
        return total, kl_sum, ce_sum

    @staticmethod
    def backward(ctx: Any, grad_total: Any, *_unused: Any) -> Any:  # type: ignore[override]
        grad_hidden, grad_head = ctx.saved_tensors
        head = None if grad_head is None else (grad_head * grad_total).to(ctx.head_dtype)
        return (grad_hidden * grad_total.to(grad_hidden.dtype), head, *([None] * 7))


def _token_losses(
    logits_NV: torch.Tensor,
    labels_N: torch.Tensor,
    ids_NK: torch.Tensor,
    p_NK: torch.Tensor,
    kd_N: torch.Tensor,
    ce_N: torch.Tensor,
    temperature: float,
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Per-token KL (without T²) and cross-entropy, and the gradient of their weighted sum by the logits."""
    if temperature != 1.0 and ids_NK.shape[1]:
        kl, grad = _tail_bucket(logits_NV / temperature, ids_NK, p_NK, kd_N * temperature, None, None)
        _, grad_ce = _tail_bucket(logits_NV, ids_NK[:, :0], p_NK[:, :0], torch.zeros_like(kd_N), labels_N, ce_N)
        nll = torch.logsumexp(logits_NV, -1) - logits_NV.gather(-1, labels_N.unsqueeze(-1)).squeeze(-1)
        return kl, nll, grad.add_(grad_ce)
    nll = torch.logsumexp(logits_NV, -1) - logits_NV.gather(-1, labels_N.unsqueeze(-1)).squeeze(-1)
    kl, grad = _tail_bucket(logits_NV, ids_NK, p_NK, kd_N, labels_N, ce_N)
    return kl, nll, grad


def _tail_bucket(
    logits_NV: torch.Tensor,
    ids_NK: torch.Tensor,
    p_NK: torch.Tensor,
    kd_N: torch.Tensor,
    labels_N: torch.Tensor | None,
    ce_N: torch.Tensor | None,
) -> tuple[torch.Tensor, torch.Tensor]:
    """KL of each token, and the gradient ``kd · dKL + ce · dCE`` by the logits.

    The student's tail is summed from its own exponentials, never taken as 1 − Σ_K q, which has no digits left once the
    student is sure.
    """
    exponentials = (logits_NV - logits_NV.max(-1, keepdim=True).values).exp_()
    valid_NK = p_NK > 0
    top_NK = exponentials.gather(-1, ids_NK) * valid_NK
    tail_NV = exponentials.scatter_reduce(-1, ids_NK, 1.0 - valid_NK.to(exponentials.dtype), "prod")
    tail_N = tail_NV.sum(-1)
    sum_N = tail_N + top_NK.sum(-1)
    q_NK = top_NK / sum_N.unsqueeze(-1)
    q_tail_N = (tail_N / sum_N).clamp_min(_TINY)
    r_N = (1.0 - p_NK.sum(-1)).clamp_min(0.0)
    r_N = torch.where(r_N < 1e-6, torch.zeros_like(r_N), r_N) if p_NK.dtype == torch.float32 else r_N
    inside = torch.where(valid_NK, p_NK * (p_NK.clamp_min(_TINY).log() - q_NK.clamp_min(_TINY).log()), torch.zeros_like(p_NK)).sum(-1)
    outside = torch.where(r_N > 0, r_N * (r_N.clamp_min(_TINY).log() - q_tail_N.log()), torch.zeros_like(r_N))
    ce = torch.zeros_like(kd_N) if ce_N is None else ce_N
    tail_scale = (kd_N * (1.0 - r_N / q_tail_N) + ce) / sum_N
    grad = tail_NV.mul_(tail_scale.unsqueeze(-1))
    add_NK = (kd_N + ce).unsqueeze(-1) * q_NK - kd_N.unsqueeze(-1) * p_NK * valid_NK
    grad.scatter_add_(-1, ids_NK, add_NK.to(grad.dtype))
    if labels_N is not None:
        grad.scatter_add_(-1, labels_N.unsqueeze(-1), -ce.unsqueeze(-1).to(grad.dtype))
    return inside + outside, grad
