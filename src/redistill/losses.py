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

from collections.abc import Callable
from typing import Any, NamedTuple

import torch

IGNORE = -100
CHUNK_ELEMENTS = 1 << 24
"""Tokens times vocabulary of one product with the head: 64 MB in float32. Smaller products read the head too often. A CPU takes three times as many tokens in
bfloat16: every product there packs the whole head again, and a chunk's logits then take as much memory as logits and float32 gradient together."""
BLOCK_ELEMENTS = 1 << 19
"""Tokens times vocabulary of what a CPU turns from logits to gradient at once: 2 MB in float32, which stays in a core's cache from one pass to the next."""


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


class Workspace:
    """Memory for a chunk's logits and their gradient, kept between steps: fresh pages of this size cost more than the sums on them."""

    def __init__(self) -> None:
        self._logits_RV = torch.empty((0, 0))
        self._grad_BV = torch.empty((0, 0))
        self._more: list[torch.Tensor] = []

    def rows(
        self, n: int, block: int, like_ND: torch.Tensor, vocabulary: int, wide: torch.dtype, one: bool
    ) -> tuple[torch.Tensor, torch.Tensor | None]:
        """(n × V) for logits in the type of ``like_ND``, and (block × V) for the gradient in a type at least as wide as float32.

        ``one`` lets both be the same memory where they have one type; there is no second tensor then.
        """
        fits = self._logits_RV.shape[0] >= n and self._logits_RV.shape[1] == vocabulary
        fits = fits and self._grad_BV.shape[0] >= block and self._grad_BV.dtype == wide
        apart = one or self._logits_RV is not self._grad_BV
        if not (fits and apart and self._logits_RV.dtype == like_ND.dtype and self._logits_RV.device == like_ND.device):
            self._logits_RV = like_ND.new_empty((n, vocabulary))
            self._grad_BV = self._logits_RV if one and wide == like_ND.dtype else like_ND.new_empty((block, vocabulary), dtype=wide)
            self._more = []
        return self._logits_RV[:n], None if self._grad_BV is self._logits_RV else self._grad_BV

    def more(self, count: int, like_BV: torch.Tensor) -> list[torch.Tensor]:
        """``count`` further tensors like the gradient, for losses that need them."""
        while len(self._more) < count:
            self._more.append(torch.empty_like(self._grad_BV if self._grad_BV.shape[1] == like_BV.shape[1] else like_BV))
        return [m[: len(like_BV)] for m in self._more[:count]]


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

    def of_tokens(part: slice, logits_RV: torch.Tensor, grad_RV: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        mine = TokenTargets(*(column[part] for column in targets))
        return _token_losses(logits_RV, grad_RV, mine, temperature)

    # A CPU's softmax may write where it reads; with two temperatures logits are read twice.
    one = hidden_ND.device.type == "cpu" and (temperature == 1.0 or not targets.top_ids_NK.shape[1])
    if hidden_ND.device.type == "cpu":
        block = block or max(1, BLOCK_ELEMENTS // head_VD.shape[0])
    return head_and_loss(hidden_ND, head_VD, of_tokens, targets.kd_weight_N, targets.ce_weight_N, temperature, chunk, workspace, one, block)


OfTokens = Callable[[slice, torch.Tensor, torch.Tensor], tuple[torch.Tensor, torch.Tensor]]
"""(some tokens, their logits (R × V), room for the gradient (R × V)) → divergence (without T²) and cross-entropy of each token. It leaves
the gradient of their weighted sum by the logits in that room, which may be the logits' own."""


def head_and_loss(
    hidden_ND: torch.Tensor,
    head_VD: torch.Tensor,
    of_tokens: OfTokens,
    kd_weight_N: torch.Tensor,
    ce_weight_N: torch.Tensor,
    temperature: float,
    chunk: int | None,
    workspace: Workspace | None,
    one: bool = False,
    block: int | None = None,
) -> LossSums:
    """Head and loss in one pass over chunks of tokens: what every loss that is shipped runs through; see ``distill_loss``.

    ``one`` says that ``of_tokens`` is done with the logits before it writes the gradient, so that they may share memory. ``block`` is for how many
    tokens of a chunk it is called at once, by default for all.
    """
    if hidden_ND.shape[0] == 0:
        zero = hidden_ND.sum() * 0.0 + head_VD.sum() * 0.0
        return LossSums(zero, zero.detach(), zero.detach())
    chunk = chunk or max(16, _chunk_elements(hidden_ND, block) // head_VD.shape[0])
    given = (of_tokens, kd_weight_N, ce_weight_N, temperature, chunk, workspace or Workspace(), one, block)
    total, kl_sum, ce_sum = _HeadAndLoss.apply(hidden_ND, head_VD, *given)
    return LossSums(total, kl_sum.detach(), ce_sum.detach())


def _chunk_elements(hidden_ND: torch.Tensor, block: int | None) -> int:
    """Three times as many where a chunk holds bfloat16 logits only, and the float32 gradient has the size of a block."""
    return CHUNK_ELEMENTS * 3 if block is not None and hidden_ND.dtype == torch.bfloat16 else CHUNK_ELEMENTS


class _HeadAndLoss(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any,
        hidden: Any,
        head: Any,
        of_tokens: OfTokens,
        kd: Any,
        ce: Any,
        temperature: float,
        chunk: int,
        workspace: Workspace,
        one: bool,
        block: int | None,
    ) -> Any:
        ctx.save_for_backward(hidden, head)
        ctx.given = (of_tokens, kd, ce, temperature, chunk, workspace, one, block)
        *sums, ctx.grad_hidden, ctx.grad_head = _in_chunks(hidden, head, *ctx.given)
        return tuple(sums)

    @staticmethod
    def backward(ctx: Any, grad_total: Any, *_unused: Any) -> Any:  # type: ignore[override]
        hidden, head = ctx.saved_tensors
        if ctx.grad_hidden is None:
            # A second pass over a kept graph; the first took the gradients away.
            *_, ctx.grad_hidden, ctx.grad_head = _in_chunks(hidden, head, *ctx.given)
        grad_hidden, grad_head = ctx.grad_hidden, ctx.grad_head
        ctx.grad_hidden = ctx.grad_head = None
        # Scaled in place and handed over: a copy of the head's gradient would be the largest tensor of all. Whoever weighs tokens so that the
        # total is what is minimised saves even that pass; on a GPU asking would cost more than scaling.
        if grad_total.is_cuda or grad_total.item() != 1.0:
            grad_hidden.mul_(grad_total.to(grad_hidden.dtype))
            grad_head = None if grad_head is None else grad_head.mul_(grad_total)
        return (grad_hidden, None if grad_head is None else grad_head.to(head.dtype), *([None] * 8))


def _in_chunks(
    hidden: torch.Tensor,
    head: torch.Tensor,
    of_tokens: OfTokens,
    kd: torch.Tensor,
    ce: torch.Tensor,
    temperature: float,
    chunk: int,
    workspace: Workspace,
    one: bool,
    block: int | None,
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor | None]:
    """Total, sums of KL and cross-entropy, and gradients by hidden states and head; none for a head that is frozen."""
    hidden, head, frozen = hidden.detach(), head.detach(), not head.requires_grad
    grad_hidden = torch.empty_like(hidden)
    grad_head: torch.Tensor | None = None
    wide = torch.promote_types(hidden.dtype, torch.float32)
    kl_sum, ce_sum, total = (hidden.new_zeros((), dtype=wide) for _ in range(3))
    weight = head.to(hidden.dtype)
    rows = -(-hidden.shape[0] // -(-hidden.shape[0] // chunk))
    block = min(rows, block or rows)
    logits_RV, grad_BV = workspace.rows(rows, block, hidden, head.shape[0], wide, one)
    for start in range(0, hidden.shape[0], rows):
        part = slice(start, start + rows)
        n = hidden[part].shape[0]
        logits = torch.mm(hidden[part], weight.T, out=logits_RV[:n])
        for first in range(0, n, block):
            logits_BV = logits[first : first + block]
            some = slice(start + first, start + first + len(logits_BV))
            room = logits_BV if grad_BV is None else grad_BV[: len(logits_BV)]
            kl, nll = of_tokens(some, logits_BV, room)
            total += (kd[some] * kl * temperature**2 + ce[some] * nll).sum()
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


def _token_losses(
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
