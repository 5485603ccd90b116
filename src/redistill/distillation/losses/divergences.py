"""Divergences between a student and a teacher in memory, over the whole vocabulary, within the memory of one chunk.

With teacher p and student q at temperature T, and m a mixture of both:

- ``forward_kl``: KL(p‖q); gradient by a student logit ``q − p``
- ``reverse_kl``: KL(q‖p); ``q (log q/p − KL(q‖p))``
- ``jsd``: β KL(p‖m) + (1 − β) KL(q‖m), m = βp + (1 − β)q; ``(1 − β) q (log q/m − KL(q‖m))``
- ``skew_kl``: KL(p‖m), m = βp + (1 − β)q; ``(1 − β) q (Σ q p/m − p/m)``
- ``skew_reverse_kl``: KL(q‖m), m = (1 − β)p + βq; ``q (g − Σ q g)`` with ``g = log q/m − β q/m``

each times T² as a value, and T as a gradient by the logits before they are divided by T (KD rule 3). (Agarwal et al. 2024, GKD, eq. 1; Ko et al.
2024, DistiLLM, section 3.1, whose α is the β of both skewed divergences.) The gradients are the closed forms of ``dL/dz = q (g − Σ q g)`` with ``g = dL/dq``.
"""

from __future__ import annotations

from typing import NamedTuple

import torch

from redistill.distillation.losses.fused_head import HeadLossInputs, head_and_loss
from redistill.distillation.losses.types import LossSums
from redistill.distillation.losses.workspace import Workspace
from redistill.distillation.types import Divergence
from redistill.errors import DataError

_MIXTURES = ("jsd", "skew_kl", "skew_reverse_kl")
_CHUNK_ELEMENTS = 12 << 20
"""Less than the sparse loss has: four to six tensors of a chunk's width are held here, two there."""


class TeacherStates(NamedTuple):
    """The teacher's last hidden states of N supervised tokens, and its head: logits are made chunk by chunk, and never kept."""

    hidden_NE: torch.Tensor
    head_WE: torch.Tensor


class DenseTargets(NamedTuple):
    """Labels of N supervised tokens, and what their two losses are multiplied with; the caller divides by the global count."""

    labels_N: torch.Tensor
    kd_weight_N: torch.Tensor
    ce_weight_N: torch.Tensor


def dense_loss(
    hidden_ND: torch.Tensor,
    head_VD: torch.Tensor,
    teacher: TeacherStates,
    targets: DenseTargets,
    divergence: Divergence = "forward_kl",
    beta: float = 0.5,
    temperature: float = 1.0,
    chunk: int | None = None,
    workspace: Workspace | None = None,
) -> LossSums:
    """Σ over tokens of kd_weight · T² D(p, q) + ce_weight · CE, with gradients for the student's hidden states and head.

    Heads that differ in width only by padding are cut to the narrower one and renormalised (KD rule 7); whether the tokens behind the ids are
    the same is the caller's to check.

    Raises:
        ValueError: beta outside (0, 1) where it counts.
        DataError: a teacher that gives NaN or infinite logits (rule 10).
    """
    if divergence in _MIXTURES and not 0.0 < beta < 1.0:
        raise ValueError(
            f"beta={beta:g}: {divergence} mixes teacher and student, so beta must be between 0 and 1; instead of 0 or 1 use forward_kl or reverse_kl"
        )
    shared = min(head_VD.shape[0], teacher.head_WE.shape[0])
    teacher_head = teacher.head_WE[:shared].detach().to(teacher.hidden_NE.dtype)
    space = workspace or Workspace()
    keeps_logits = temperature != 1.0 or hidden_ND.dtype != torch.promote_types(hidden_ND.dtype, torch.float32)
    token_loss = _TokenLoss(teacher._replace(head_WE=teacher_head), targets, divergence, beta, temperature, space, keeps_logits)
    head = head_VD if head_VD.shape[0] == shared else head_VD[:shared]
    chunk = chunk or max(16, _CHUNK_ELEMENTS // shared)
    return head_and_loss(hidden_ND, head, HeadLossInputs(token_loss, targets.kd_weight_N, targets.ce_weight_N, temperature, space, chunk))


class _TokenLoss:
    """Values and gradients of the tokens of one chunk: R student logits and a buffer for their gradient in, KL and cross-entropy of each token out."""

    def __init__(
        self,
        teacher: TeacherStates,
        targets: DenseTargets,
        divergence: Divergence,
        beta: float,
        temperature: float,
        space: Workspace,
        keeps_logits: bool,
    ) -> None:
        self._teacher, self._targets, self._divergence, self._beta = teacher, targets, divergence, beta
        self._temperature, self._space, self._keeps_logits = temperature, space, keeps_logits
        self._buffers = 2 + keeps_logits + (divergence in _MIXTURES)
        self._with_text = bool(targets.ce_weight_N.any())

    @torch.no_grad()
    def __call__(self, part: slice, logits_RV: torch.Tensor, grad_RV: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        temperature, labels_R = self._temperature, self._targets.labels_N[part]
        theirs_RV, p_RV, *spare = self._space.more(self._buffers, grad_RV)
        _wide_logits(self._teacher.hidden_NE[part], self._teacher.head_WE, theirs_RV)
        labelled_R = logits_RV.gather(-1, labels_R.unsqueeze(-1)).squeeze(-1).to(grad_RV.dtype)
        # At temperature 1 and in full precision the logits are not needed any more, so they may be overwritten.
        ours_RV = torch.div(logits_RV, temperature, out=spare[-1]) if self._keeps_logits else logits_RV
        if not torch.isfinite(theirs_RV.sum(-1)).all():
            raise DataError("the teacher returned NaN or infinite logits; check its weights and dtype")
        theirs_RV.div_(temperature)
        log_z_p_R, log_z_q_R = _softmax(theirs_RV, p_RV), _softmax(ours_RV, grad_RV)
        value_R, slope_RV = _divergence((theirs_RV, p_RV, log_z_p_R), (ours_RV, grad_RV, log_z_q_R), spare, self._divergence, self._beta)
        kd_R1 = (self._targets.kd_weight_N[part] * temperature).unsqueeze(-1).to(grad_RV.dtype)
        if not self._with_text:
            torch.mul(slope_RV, kd_R1, out=grad_RV)
            return value_R, torch.zeros_like(value_R)
        # The text's loss is at temperature 1, whatever the divergence's is.
        log_z_R = log_z_q_R if temperature == 1.0 else _softmax(logits_RV.to(grad_RV.dtype), grad_RV)
        _add_text(grad_RV, slope_RV, kd_R1, self._targets.ce_weight_N[part], labels_R)
        return value_R, log_z_R - labelled_R


def _add_text(grad_RV: torch.Tensor, slope_RV: torch.Tensor, kd_R1: torch.Tensor, ce_R: torch.Tensor, labels_R: torch.Tensor) -> None:
    """From the student's probabilities, in ``grad_RV``, to the gradient of both losses: ce · (q − one-hot) + kd · slope."""
    ce_R1 = ce_R.unsqueeze(-1).to(grad_RV.dtype)
    grad_RV.mul_(ce_R1).addcmul_(slope_RV, kd_R1)
    grad_RV.scatter_add_(-1, labels_R.unsqueeze(-1), -ce_R1)


def _wide_logits(hidden_RE: torch.Tensor, head_VE: torch.Tensor, out_RV: torch.Tensor) -> None:
    if hidden_RE.dtype == out_RV.dtype:
        torch.mm(hidden_RE, head_VE.T, out=out_RV)
    else:
        out_RV.copy_(hidden_RE @ head_VE.T)


def _softmax(logits_RV: torch.Tensor, out_RV: torch.Tensor) -> torch.Tensor:
    """Softmax to ``out_RV``; returns log Σ exp of each row, from the largest entry of both."""
    torch.softmax(logits_RV, -1, out=out_RV)
    return logits_RV.amax(-1) - out_RV.amax(-1).log()


def _dot(a_RV: torch.Tensor, b_RV: torch.Tensor) -> torch.Tensor:
    """Σ a b of each row, without a product of their width in memory."""
    return torch.bmm(a_RV.unsqueeze(1), b_RV.unsqueeze(2)).flatten()


Distribution = tuple[torch.Tensor, torch.Tensor, torch.Tensor]
"""Logits (R × V), their softmax, and their log Σ exp (R)."""


def _divergence(
    teacher: Distribution, student: Distribution, spare: list[torch.Tensor], divergence: Divergence, beta: float
) -> tuple[torch.Tensor, torch.Tensor]:
    """D of each token and its gradient by the tempered logits. Everything given but the student's softmax is used up."""
    (a_RV, p_RV, log_z_p_R), (b_RV, q_RV, log_z_q_R) = teacher, student
    log_p_RV, log_q_RV = a_RV.sub_(log_z_p_R.unsqueeze(-1)), b_RV.sub_(log_z_q_R.unsqueeze(-1))
    if divergence == "forward_kl":
        value_R = _dot(p_RV, log_p_RV.sub_(log_q_RV))
        return value_R, p_RV.neg_().add_(q_RV)
    if divergence == "reverse_kl":
        gap_RV = log_q_RV.sub_(log_p_RV)
        value_R = _dot(q_RV, gap_RV)
        return value_R, gap_RV.sub_(value_R.unsqueeze(-1)).mul_(q_RV)
    # If both have underflowed to 0, the mixture would be 0 and its logarithm undefined.
    share_of_p = 1.0 - beta if divergence == "skew_reverse_kl" else beta
    log_m_RV = torch.mul(p_RV, share_of_p, out=spare[0]).add_(q_RV, alpha=1.0 - share_of_p).clamp_min_(torch.finfo(p_RV.dtype).tiny).log_()
    if divergence == "skew_reverse_kl":
        gap_RV = log_q_RV.sub_(log_m_RV)
        value_R = _dot(q_RV, gap_RV)
        slope_RV = gap_RV.sub_(torch.exp(gap_RV, out=p_RV), alpha=beta)
        return value_R, slope_RV.sub_(_dot(q_RV, slope_RV).unsqueeze(-1)).mul_(q_RV)
    of_p_R = _dot(p_RV, log_p_RV.sub_(log_m_RV))
    if divergence == "skew_kl":
        share_RV = log_p_RV.exp_()
        mean_R = _dot(q_RV, share_RV)
        return of_p_R, share_RV.neg_().add_(mean_R.unsqueeze(-1)).mul_(q_RV).mul_(1.0 - beta)
    gap_RV = log_q_RV.sub_(log_m_RV)
    of_q_R = _dot(q_RV, gap_RV)
    slope_RV = gap_RV.sub_(of_q_R.unsqueeze(-1)).mul_(q_RV).mul_(1.0 - beta)
    return beta * of_p_R + (1.0 - beta) * of_q_R, slope_RV
