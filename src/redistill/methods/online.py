"""``online``: a teacher in memory tells its whole distribution for every batch, so any divergence can be taken (``redistill.dense_losses``)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch

from redistill.dense_losses import Divergence, TeacherStates, dense_loss
from redistill.losses import IGNORE, LossSums, Workspace, distill_loss
from redistill.methods.protocol import Method, token_targets


class Online(Method):
    """A dense divergence at one temperature, and cross-entropy. ``vocabulary`` cuts padded rows off the teacher's head (KD rule 7)."""

    in_memory = True

    def __init__(
        self, teacher: Any, vocabulary: int, divergence: Divergence = "forward_kl", beta: float = 0.5, temperature: float = 1.0
    ) -> None:
        self._teacher = teacher.eval().requires_grad_(False)
        self._vocabulary = vocabulary
        self._divergence, self._beta, self._temperature = divergence, beta, temperature
        self._text = Workspace()

    def loss(
        self, hidden_BLD: torch.Tensor, head_VD: torch.Tensor, inputs: Mapping[str, torch.Tensor], workspace: Workspace | None = None
    ) -> LossSums:
        # The Trainer chooses the student's device, and knows nothing of the teacher; where it is there already this does nothing.
        self._teacher.to(hidden_BLD.device)
        head_WE = self._teacher.get_output_embeddings().weight.detach()[: self._vocabulary]
        supervised_BL, told_BL = inputs["labels"] != IGNORE, inputs["kd"] > 0
        rows_B = told_BL.any(-1)
        # A teacher that is asked for no row is not asked, and tokens without a KD term never meet its head.
        states_ND = self._states(inputs, rows_B)[told_BL[rows_B]] if rows_B.any() else hidden_BLD.new_zeros((0, head_WE.shape[1]))
        told = token_targets(inputs, told_BL)
        sums = dense_loss(
            hidden_BLD[told_BL],
            head_VD,
            TeacherStates(states_ND, head_WE),
            told.labels_N,
            told.kd_weight_N,
            told.ce_weight_N,
            self._divergence,
            self._beta,
            self._temperature,
            workspace=workspace,
        )
        text_BL = supervised_BL & ~told_BL
        if not text_BL.any():
            return sums
        of_text = distill_loss(hidden_BLD[text_BL], head_VD, token_targets(inputs, text_BL), workspace=self._text)
        return LossSums(*(a + b for a, b in zip(sums, of_text, strict=True)))

    def _states(self, inputs: Mapping[str, torch.Tensor], rows_B: torch.Tensor) -> torch.Tensor:
        # inference_mode would forbid what autograd later saves of these; no_grad is all that is needed (KD rule 11).
        with torch.no_grad():
            asked = {name: inputs[name][rows_B] for name in ("input_ids", "attention_mask")}
            states: torch.Tensor = self._teacher.get_decoder()(**asked).last_hidden_state
            return states
