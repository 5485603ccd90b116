"""Divergences between a student and a teacher in memory, over the whole vocabulary, within the memory of one chunk.

With teacher p and student q at temperature T, and m a mixture of both:

- ``forward_kl``: KL(p‖q); gradient by a student logit ``q − p``
- ``reverse_kl``: KL(q‖p); ``q (log q/p − KL(q‖p))``
- ``jsd``: β KL(p‖m) + (1 − β) KL(q‖m), m = βp + (1 − β)q; ``(1 − β) q (log q/m − KL(q‖m))``
- ``skew_kl``: KL(p‖m), m = βp + (1 − β)q; ``(1 − β) q (Σ q p/m − p/m)``

each times T² as a value, and T as a gradient by the logits before they are divided by T (KD rule 3). (Agarwal et al. 2024, GKD, eq. 1; Ko et al.
2024, DistiLLM, eq. 3.) The gradients are the closed forms of ``dL/dz = q (g − Σ q g)`` with ``g = dL/dq``.
"""

from __future__ import annotations

from typing import Literal, NamedTuple

import torch

from redistill.losses import LossSums, Workspace, head_and_loss

Divergence = Literal["forward_kl", "reverse_kl", "jsd", "skew_kl"]


class TeacherStates(NamedTuple):
    """The teacher's last hidden states of N supervised tokens, and its head: logits are made chunk by chunk, and never kept."""

    hidden_NE: torch.Tensor
    head_WE: torch.Tensor


def dense_loss(
    hidden_ND: torch.Tensor,
    head_VD: torch.Tensor,
    teacher: TeacherStates,
    labels_N: torch.Tensor,
    kd_weight_N: torch.Tensor,
    ce_weight_N: torch.Tensor,
    divergence: Divergence = "forward_kl",
    beta: float = 0.5,
    temperature: float = 1.0,
    chunk: int = 64,
    workspace: Workspace | None = None,
) -> LossSums:
    """Σ over tokens of kd_weight · T² D(p, q) + ce_weight · CE, with gradients for the student's hidden states and head.

    Heads that differ in width only by padding are cut to the narrower one and renormalised (KD rule 7); whether the tokens behind the ids are
    the same is the caller's to check.

    Raises:
        ValueError: beta outside (0, 1) where it counts, or a teacher that gives NaN or infinite logits (rule 10).
    """
    if divergence in ("jsd", "skew_kl") and not 0.0 < beta < 1.0:
        raise ValueError(f"beta={beta:g}: {divergence} mixes teacher and student, so it lies between 0 and 1; at the ends use a plain KL")
    shared = min(head_VD.shape[0], teacher.head_WE.shape[0])
    teacher_head = teacher.head_WE[:shared].detach().to(teacher.hidden_NE.dtype)

    def of_tokens(part: slice, logits_RV: torch.Tensor, grad_RV: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        with torch.no_grad():
            theirs_RV = teacher.hidden_NE[part] @ teacher_head.T
            log_p_RV = _tempered(theirs_RV, temperature, grad_RV.dtype)
            if not torch.isfinite(log_p_RV).all():
                raise ValueError("the teacher gave NaN or infinite logits; check its weights and dtype")
            kd, ce = kd_weight_N[part].unsqueeze(-1), ce_weight_N[part].unsqueeze(-1)
            log_q_RV = _tempered(logits_RV, temperature, grad_RV.dtype)
            value_R = _divergence(log_p_RV, log_q_RV, grad_RV, divergence, beta)
            grad_RV.mul_(kd * temperature)
            # The text's loss is at temperature 1, whatever the divergence's is.
            if temperature != 1.0:
                log_q_RV = _tempered(logits_RV, 1.0, grad_RV.dtype)
            nll_R = -log_q_RV.gather(-1, labels_N[part].unsqueeze(-1)).squeeze(-1)
            grad_RV.add_(log_q_RV.exp_().mul_(ce))
            grad_RV.scatter_add_(-1, labels_N[part].unsqueeze(-1), -ce.to(grad_RV.dtype))
            return value_R, nll_R

    head = head_VD if head_VD.shape[0] == shared else head_VD[:shared]
    return head_and_loss(hidden_ND, head, of_tokens, kd_weight_N, ce_weight_N, temperature, chunk, workspace)


def _tempered(logits_RV: torch.Tensor, temperature: float, wide: torch.dtype) -> torch.Tensor:
    return torch.log_softmax(logits_RV if temperature == 1.0 else logits_RV.to(wide) / temperature, -1, dtype=wide)


def _divergence(log_p_RV: torch.Tensor, log_q_RV: torch.Tensor, grad_RV: torch.Tensor, divergence: Divergence, beta: float) -> torch.Tensor:
    """D of each token; its gradient by the tempered logits goes to ``grad_RV``, and ``log_p_RV`` is used up."""
    q_RV = log_q_RV.exp()
    if divergence == "forward_kl":
        p_RV = log_p_RV.exp()
        torch.sub(q_RV, p_RV, out=grad_RV)
        return p_RV.mul_(log_p_RV.sub_(log_q_RV)).sum(-1)
    if divergence == "reverse_kl":
        gap_RV = torch.sub(log_q_RV, log_p_RV, out=log_p_RV)
        value_R = (q_RV * gap_RV).sum(-1)
        torch.mul(q_RV, gap_RV.sub_(value_R.unsqueeze(-1)), out=grad_RV)
        return value_R
    p_RV = log_p_RV.exp()
    # Where both have underflown to nothing the mixture would be 0, and its logarithm no number.
    log_m_RV = torch.mul(p_RV, beta, out=grad_RV).add_(q_RV, alpha=1.0 - beta).clamp_min_(torch.finfo(grad_RV.dtype).tiny).log_()
    of_p_R = (p_RV * log_p_RV.sub_(log_m_RV)).sum(-1)
    if divergence == "skew_kl":
        share_RV = p_RV.div_(log_m_RV.exp_())
        mean_R = (q_RV * share_RV).sum(-1, keepdim=True)
        torch.mul(q_RV.mul_(1.0 - beta), share_RV.neg_().add_(mean_R), out=grad_RV)
        return of_p_R
    gap_RV = torch.sub(log_q_RV, log_m_RV, out=log_m_RV)
    of_q_R = (q_RV * gap_RV).sum(-1)
    torch.mul(q_RV.mul_(1.0 - beta), gap_RV.sub_(of_q_R.unsqueeze(-1)), out=grad_RV)
    return beta * of_p_R + (1.0 - beta) * of_q_R
