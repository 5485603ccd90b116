"""Memory for logits that is kept between steps."""

from __future__ import annotations

import torch


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
