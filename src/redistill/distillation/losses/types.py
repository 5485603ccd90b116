"""Targets of supervised tokens, and the sums that a loss returns."""

from __future__ import annotations

from typing import NamedTuple

import torch

IGNORE = -100


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
