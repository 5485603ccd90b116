"""``sequence``: the teacher's text alone (Kim and Rush 2016, sequence-level KD). It asks nothing of the teacher but text, so tokenizers may differ."""

from __future__ import annotations

from collections.abc import Mapping

import torch

from redistill.distillation.losses.fused_head import distill_loss
from redistill.distillation.losses.types import IGNORE, LossSums
from redistill.distillation.losses.workspace import Workspace
from redistill.distillation.methods.base import Method, token_targets


class SequenceLevel(Method):
    """Cross-entropy on the completions; whatever probabilities a batch has are left alone."""

    def loss(
        self, hidden_BLD: torch.Tensor, head_VD: torch.Tensor, inputs: Mapping[str, torch.Tensor], workspace: Workspace | None = None
    ) -> LossSums:
        targets = token_targets(inputs)
        text = targets._replace(
            top_ids_NK=targets.top_ids_NK[:, :0], top_p_NK=targets.top_p_NK[:, :0], kd_weight_N=torch.zeros_like(targets.kd_weight_N)
        )
        return distill_loss(hidden_BLD[inputs["labels"] != IGNORE], head_VD, text, workspace=workspace)
