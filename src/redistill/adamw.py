"""AdamW for a CPU: each weight is clipped, updated and copied in one go, while it is in the cache.

A model's gradients and AdamW's states are hundreds of megabytes. PyTorch passes over all of them once to clip, once to update, and autocast once more to cast
weights; here a weight's share is still in the cache when the next operation reads it.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import torch
from torch.optim.adam import adam


class CachedAdamW(torch.optim.AdamW):
    """PyTorch's fused AdamW, one weight at a time; its state is PyTorch's, so checkpoints are too.

    ``copies`` gives a weight's bfloat16 copy where there is one: the gradient is taken from it where the weight has none itself, and the copy is
    refreshed after the update.
    ``clip_to`` is called once a step instead of ``torch.nn.utils.clip_grad_norm_``; the factor is applied where the gradient is read.
    """

    def __init__(self, params: Iterable[Any], copies: Mapping[torch.nn.Parameter, torch.Tensor], **options: Any) -> None:
        super().__init__(params, fused=True, **options)
        self._copies = copies
        self._factor: torch.Tensor | None = None
        self._float32 = torch.empty(0)

    def clip_to(self, max_norm: float) -> torch.Tensor:
        """The norm of all gradients, to which the next step scales them down where it is larger than ``max_norm``.

        Source: torch.nn.utils.clip_grad_norm_.
        """
        parameters = [p for group in self.param_groups for p in group["params"]]
        norms = [torch.linalg.vector_norm(self._gradient(p)) for p in parameters if self._holder(p).grad is not None]
        norm = torch.linalg.vector_norm(torch.stack(norms)) if norms else torch.tensor(0.0)
        self._factor = (max_norm / (norm + 1e-6)).clamp(max=1.0)
        return norm

    @torch.no_grad()
    def step(self, closure: Any = None) -> None:  # type: ignore[override]
        """One update. Gradients of copies are used up."""
        for group in self.param_groups:
            beta1, beta2 = group["betas"]
            for p in group["params"]:
                copy, holder = self._copies.get(p), self._holder(p)
                if holder.grad is None:
                    continue
                p.grad = self._gradient(p)
                if self._factor is not None and self._factor < 1.0:
                    p.grad.mul_(self._factor)
                lists: list[list[Any]] = [[], [], [], [], [], []]
                self._init_group({**group, "params": [p]}, *lists)
                adam(
                    *lists,
                    fused=True,
                    decoupled_weight_decay=True,
                    amsgrad=False,
                    beta1=beta1,
                    beta2=beta2,
                    lr=group["lr"],
                    weight_decay=group["weight_decay"],
                    eps=group["eps"],
                    maximize=False,
                )
                p.grad = None
                if copy is not None:
                    copy.copy_(p)
                    copy.grad = None
        self._factor = None

    def _holder(self, p: torch.nn.Parameter) -> torch.Tensor:
        """What has this weight's gradient: its copy, unless the gradient was accumulated in the weight itself."""
        copy = self._copies.get(p)
        return p if copy is None or p.grad is not None else copy

    def _gradient(self, p: torch.nn.Parameter) -> torch.Tensor:
        """In the weight's own type; of a copy, in memory that the next call uses again."""
        grad = self._holder(p).grad
        assert grad is not None
        if grad.dtype == p.dtype:
            return grad
        if self._float32.numel() < p.numel():
            self._float32 = p.new_empty(p.numel())
        return self._float32[: p.numel()].view(p.shape).copy_(grad)
