"""``logit``: the teacher's top-K from a file and one bucket for the rest (``redistill.distillation.losses.fused_head``). No teacher runs while the student is trained."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import torch

from redistill.distillation.losses.fused_head import distill_loss
from redistill.distillation.losses.types import IGNORE, LossSums
from redistill.distillation.losses.workspace import Workspace
from redistill.distillation.methods.base import Method, token_targets


class Logit(Method):
    """Sparse forward KL at one temperature, and cross-entropy.

    Raises:
        ValueError: a batch whose probabilities are at another temperature.
    """

    def __init__(self, temperature: float = 1.0) -> None:
        self.temperature = temperature

    def loss(
        self, hidden_BLD: torch.Tensor, head_VD: torch.Tensor, inputs: Mapping[str, torch.Tensor], workspace: Workspace | None = None
    ) -> LossSums:
        made_at = float(inputs["temperature"])
        if made_at != float(np.float32(self.temperature)):
            raise ValueError(
                f"the batch's teacher probabilities are at temperature {made_at:g}, the loss is at {self.temperature:g}; collate with the method's"
            )
        # The hidden states of other tokens never meet the head.
        hidden_ND = hidden_BLD[inputs["labels"] != IGNORE]
        return distill_loss(hidden_ND, head_VD, token_targets(inputs), self.temperature, workspace=workspace)
