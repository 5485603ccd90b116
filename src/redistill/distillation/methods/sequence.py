"""``sequence``: the teacher's text only (Kim and Rush 2016, sequence-level KD). It needs nothing but text, so tokenizers may differ."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar, Literal

from redistill.config.base import frozen
from redistill.distillation.methods.base import Method, MethodInputs, MethodParams, Need

if TYPE_CHECKING:
    import torch

    from redistill.distillation.losses.types import LossSums
    from redistill.distillation.losses.workspace import Workspace
    from redistill.distillation.training.batch import Batch


@frozen
class SequenceParams(MethodParams):
    """The teacher's completions as text. Arms with `alpha: 0` learn this way with every method."""

    needs: ClassVar[frozenset[Need]] = frozenset({"text"})
    name: Literal["sequence"] = "sequence"
    """`sequence`."""

    def build(self, inputs: MethodInputs) -> Method:
        return SequenceLevel()


class SequenceLevel(Method):
    """Cross-entropy on the completions. Probabilities in a batch are not used."""

    def loss(self, hidden_BLD: torch.Tensor, head_VD: torch.Tensor, batch: Batch, workspace: Workspace | None = None) -> LossSums:
        from redistill.distillation.losses.fused_head import distill_loss

        targets = batch.targets()
        text = targets._replace(
            top_ids_NK=targets.top_ids_NK[:, :0], top_p_NK=targets.top_p_NK[:, :0], kd_weight_N=0.0 * targets.kd_weight_N
        )
        return distill_loss(hidden_BLD[batch.supervised_BL], head_VD, text, workspace=workspace)
