"""``logit``: the teacher's top-K from a file and one bucket for the rest (``redistill.distillation.losses.fused_head``). No teacher runs while the student is trained."""

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
class LogitParams(MethodParams):
    """Stored soft targets: the most likely tokens at each position with their probabilities, and one probability for all other tokens. The default."""

    needs: ClassVar[frozenset[Need]] = frozenset({"text", "soft_targets"})
    name: Literal["logit"] = "logit"
    """`logit`."""

    def build(self, inputs: MethodInputs) -> Method:
        return Logit(inputs.temperature)


class Logit(Method):
    """Sparse forward KL at one temperature, and cross-entropy.

    Raises:
        ValueError: a batch whose probabilities are at another temperature.
    """

    def __init__(self, temperature: float = 1.0) -> None:
        self.temperature = temperature

    def loss(self, hidden_BLD: torch.Tensor, head_VD: torch.Tensor, batch: Batch, workspace: Workspace | None = None) -> LossSums:
        from redistill.distillation.losses.fused_head import distill_loss

        if batch.temperature != self.temperature:
            raise ValueError(
                f"the batch's teacher probabilities are at temperature {batch.temperature:g}, the loss is at {self.temperature:g}; collate with the temperature of the method"
            )
        # The hidden states of other tokens never meet the head.
        return distill_loss(hidden_BLD[batch.supervised_BL], head_VD, batch.targets(), self.temperature, workspace=workspace)
