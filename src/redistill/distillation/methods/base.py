"""What a method adds to the training loop: perhaps other batches, and a loss."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch

from redistill.distillation.losses.types import IGNORE, LossSums, TokenTargets
from redistill.distillation.losses.workspace import Workspace
from redistill.distillation.training.examples import Example


class Method(ABC):
    """One way to distil. ``in_memory`` methods ask a teacher that is loaded beside the student.

    ``temperature`` is the one of its divergence. The method owns it: batches are made with it, and a batch that was made with another is refused.
    """

    in_memory = False
    temperature = 1.0

    def prepare(self, examples: Sequence[Example], passes: float, progress: Callable[[int], None] | None = None) -> Sequence[Example]:
        """The examples to train on, before training starts; by default these. ``passes`` is how often this process goes over them."""
        return examples

    def batch(self, model: Any, inputs: dict[str, torch.Tensor], step: int) -> dict[str, torch.Tensor]:
        """What the student is trained on in this step; by default what the collator made. Called before supervised tokens are counted."""
        return inputs

    @abstractmethod
    def loss(
        self, hidden_BLD: torch.Tensor, head_VD: torch.Tensor, inputs: Mapping[str, torch.Tensor], workspace: Workspace | None = None
    ) -> LossSums:
        """Weighted sums over the supervised tokens of a batch, not yet divided by anything (KD rule 2)."""


def token_targets(inputs: Mapping[str, torch.Tensor], chosen_BL: torch.Tensor | None = None) -> TokenTargets:
    """The targets of the chosen tokens, by default the supervised ones."""
    chosen = inputs["labels"] != IGNORE if chosen_BL is None else chosen_BL
    return TokenTargets(*(inputs[name][chosen] for name in ("labels", "top_ids", "top_p", "kd", "ce")))
