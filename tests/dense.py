"""The losses once more, slowly: dense, float64, autograd, straight from the definition of a KL on K + 1 outcomes."""

from __future__ import annotations

from dataclasses import dataclass

import torch

from redistill.distillation.losses.types import TokenTargets

torch.set_num_threads(1)  # with matrices this small, two threads only wait for each other


@dataclass(frozen=True)
class Dense:
    """Weighted total, per-token KL (without T²) and cross-entropy, and the total's gradients."""

    total: torch.Tensor
    kl_N: torch.Tensor
    ce_N: torch.Tensor
    grad_hidden: torch.Tensor
    grad_head: torch.Tensor


def dense(hidden: torch.Tensor, head: torch.Tensor, targets: TokenTargets, temperature: float = 1.0) -> Dense:
    """Σ kd · T² KL(p‖q) over top-K and one tail bucket, + ce · CE, on full log-softmaxes in float64."""
    hidden = hidden.detach().double().requires_grad_()
    head = head.detach().double().requires_grad_()
    logits = hidden @ head.T
    kl = torch.stack(
        [_kl(row, ids, p.double(), temperature) for row, ids, p in zip(logits, targets.top_ids_NK, targets.top_p_NK, strict=True)]
    )
    ce = -torch.log_softmax(logits, -1).gather(-1, targets.labels_N[:, None]).squeeze(-1)
    total = (targets.kd_weight_N.double() * kl * temperature**2 + targets.ce_weight_N.double() * ce).sum()
    total.backward()
    assert hidden.grad is not None and head.grad is not None
    return Dense(total.detach(), kl.detach(), ce.detach(), hidden.grad, head.grad)


def _kl(logits: torch.Tensor, ids: torch.Tensor, p: torch.Tensor, temperature: float) -> torch.Tensor:
    log_q = torch.log_softmax(logits / temperature, -1)
    ids, p = ids[p > 0], p[p > 0]
    outside = torch.ones_like(logits, dtype=torch.bool)
    outside[ids] = False
    r = 1.0 - p.sum()
    value = (p * (p.log() - log_q[ids])).sum()
    if r > 1e-12 and outside.any():
        value = value + r * (r.log() - torch.logsumexp(log_q[outside], -1))
    return value
