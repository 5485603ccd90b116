"""From hidden states to gradients in one pass, the head included.

The language-model head is the most expensive part of a small student: with V = 49,152 its logits for 1,000 tokens are
200 MB in float32, and autograd would keep them several times over. Here a chunk of hidden states is multiplied
with the head, both losses and their closed-form gradients are computed on it, and the logits are freed.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch

from redistill.distillation.losses.tail_bucket import TokenLoss, token_losses
from redistill.distillation.losses.types import LossSums, TokenTargets
from redistill.distillation.losses.workspace import Workspace

CHUNK_ELEMENTS = 1 << 24
"""Tokens times vocabulary of one product with the head: 64 MB in float32. Smaller products read the head too often. A CPU takes three times as many tokens in
bfloat16: every product there packs the whole head again, and a chunk's logits then take as much memory as logits and float32 gradient together."""


BLOCK_ELEMENTS = 1 << 19
"""Tokens times vocabulary of what a CPU turns from logits to gradient at once: 2 MB in float32, which stays in a core's cache from one pass to the next."""


def distill_loss(
    hidden_ND: torch.Tensor,
    head_VD: torch.Tensor,
    targets: TokenTargets,
    temperature: float = 1.0,
    chunk: int | None = None,
    workspace: Workspace | None = None,
    block: int | None = None,
) -> LossSums:
    """Σ over tokens of kd_weight · T² KL(p‖q) + ce_weight · CE, with gradients for hidden states and head.

    An empty batch gives a zero that is still connected to the graph (KD rule 6). The result does not depend on
    ``chunk`` (rule 5), the number of tokens that are held at vocabulary width, nor on ``block``, how many of them are worked on at once; by default
    as many as fill ``CHUNK_ELEMENTS`` and, on a CPU, ``BLOCK_ELEMENTS``.
    """

    def token_loss(part: slice, logits_RV: torch.Tensor, grad_RV: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        chunk_targets = TokenTargets(*(column[part] for column in targets))
        return token_losses(logits_RV, grad_RV, chunk_targets, temperature)

    # A CPU's softmax may write where it reads; with two temperatures logits are read twice.
    share = hidden_ND.device.type == "cpu" and (temperature == 1.0 or not targets.top_ids_NK.shape[1])
    if hidden_ND.device.type == "cpu":
        block = block or max(1, BLOCK_ELEMENTS // head_VD.shape[0])
    weights = targets.kd_weight_N, targets.ce_weight_N
    return head_and_loss(
        hidden_ND, head_VD, HeadLossInputs(token_loss, *weights, temperature, workspace or Workspace(), chunk, share, block)
    )


@dataclass(frozen=True, slots=True)
class HeadLossInputs:
    """What a loss gives to the pass through the head besides hidden states and head.

    ``share_buffer`` says that ``token_loss`` is done with the logits before it writes the gradient, so that they may share memory. ``block`` is for how
    many tokens of a chunk it is called at once, by default for all; ``chunk`` is how many tokens are held at vocabulary width, by default as many as fit.
    """

    token_loss: TokenLoss
    kd_weight_N: torch.Tensor
    ce_weight_N: torch.Tensor
    temperature: float
    workspace: Workspace
    chunk: int | None = None
    share_buffer: bool = False
    block: int | None = None


def head_and_loss(hidden_ND: torch.Tensor, head_VD: torch.Tensor, inputs: HeadLossInputs) -> LossSums:
    """Head and loss in one pass over chunks of tokens: every loss that is shipped runs through it; see ``distill_loss``."""
    if hidden_ND.shape[0] == 0:
        zero = hidden_ND.sum() * 0.0 + head_VD.sum() * 0.0
        return LossSums(zero, zero.detach(), zero.detach())
    total, kl_sum, ce_sum = _HeadAndLoss.apply(hidden_ND, head_VD, inputs)
    return LossSums(total, kl_sum.detach(), ce_sum.detach())


def _chunk_elements(hidden_ND: torch.Tensor, block: int | None) -> int:
    """Three times as many where a chunk holds bfloat16 logits only, and the float32 gradient has the size of a block."""
    return CHUNK_ELEMENTS * 3 if block is not None and hidden_ND.dtype == torch.bfloat16 else CHUNK_ELEMENTS


class _HeadAndLoss(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, hidden: Any, head: Any, inputs: HeadLossInputs) -> Any:
        ctx.save_for_backward(hidden, head)
        ctx.inputs = inputs
        *sums, ctx.grad_hidden, ctx.grad_head = _in_chunks(hidden, head, inputs)
        return tuple(sums)

    @staticmethod
    def backward(ctx: Any, grad_total: Any, *_unused: Any) -> Any:
        hidden, head = ctx.saved_tensors
        if ctx.grad_hidden is None:
            # A second pass over a kept graph; the first took the gradients away.
            *_, ctx.grad_hidden, ctx.grad_head = _in_chunks(hidden, head, ctx.inputs)
        grad_hidden, grad_head = ctx.grad_hidden, ctx.grad_head
        ctx.grad_hidden = ctx.grad_head = None
        # Scaled in place and handed over: a copy of the head's gradient would be the largest tensor of all. Scaling is skipped when the upstream
        # gradient is 1; on a GPU asking for that would cost more than scaling.
        if grad_total.is_cuda or grad_total.item() != 1.0:
            grad_hidden.mul_(grad_total.to(grad_hidden.dtype))
            grad_head = None if grad_head is None else grad_head.mul_(grad_total)
        return (grad_hidden, None if grad_head is None else grad_head.to(head.dtype), None)


def _in_chunks(
    hidden: torch.Tensor, head: torch.Tensor, inputs: HeadLossInputs
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor | None]:
    """Total, sums of KL and cross-entropy, and gradients by hidden states and head; none for a head that is frozen."""
    hidden, head, frozen = hidden.detach(), head.detach(), not head.requires_grad
    grad_hidden = torch.empty_like(hidden)
    grad_head: torch.Tensor | None = None
    wide = torch.promote_types(hidden.dtype, torch.float32)
    kl_sum, ce_sum, total = (hidden.new_zeros((), dtype=wide) for _ in range(3))
    weight = head.to(hidden.dtype)
    kd, ce, t_squared = inputs.kd_weight_N, inputs.ce_weight_N, inputs.temperature**2
    chunk = inputs.chunk or max(16, _chunk_elements(hidden, inputs.block) // head.shape[0])
    rows = -(-hidden.shape[0] // -(-hidden.shape[0] // chunk))
    block = min(rows, inputs.block or rows)
    logits_RV, grad_BV = inputs.workspace.rows(rows, block, hidden, head.shape[0], wide, inputs.share_buffer)
    for start in range(0, hidden.shape[0], rows):
        part = slice(start, start + rows)
        n = hidden[part].shape[0]
        logits = torch.mm(hidden[part], weight.T, out=logits_RV[:n])
        for first in range(0, n, block):
            logits_BV = logits[first : first + block]
            some = slice(start + first, start + first + len(logits_BV))
            room = logits_BV if grad_BV is None else grad_BV[: len(logits_BV)]
            kl, nll = inputs.token_loss(some, logits_BV, room)
            total += (kd[some] * kl * t_squared + ce[some] * nll).sum()
            kl_sum += kl[kd[some] > 0].sum()
            ce_sum += nll[ce[some] > 0].sum()
            if room is not logits_BV:
                logits_BV.copy_(room)
        torch.mm(logits, weight, out=grad_hidden[part])
        if frozen:
            continue
        if grad_head is None:
            grad_head = torch.mm(logits.T, hidden[part]).to(wide)
        elif logits.dtype == wide:
            grad_head.addmm_(logits.T, hidden[part])
        else:
            grad_head.add_(torch.mm(logits.T, hidden[part]))
    return total, kl_sum, ce_sum, grad_hidden, grad_head
