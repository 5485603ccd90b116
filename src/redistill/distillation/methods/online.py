"""``online``: a teacher in memory tells its whole distribution, so any divergence can be taken (``redistill.distillation.losses.divergences``).

It is asked for every batch, or once for all of them where that is less work and fits (``redistill.distillation.methods.teacher_states``).
"""

from __future__ import annotations

import gc
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch

from redistill.distillation.losses.divergences import DenseTargets, Divergence, TeacherStates, dense_loss
from redistill.distillation.losses.fused_head import distill_loss
from redistill.distillation.losses.types import IGNORE, LossSums
from redistill.distillation.losses.workspace import Workspace
from redistill.distillation.methods.base import Method, token_targets
from redistill.distillation.methods.teacher_states import ask_for_states
from redistill.distillation.training.examples import Example
from redistill.runtime.precision import own_device


class Online(Method):
    """A dense divergence at one temperature, and cross-entropy.

    ``vocabulary`` cuts padded rows off the teacher's head (KD rule 7); ``states_bytes`` is what its answers may take when it is asked once for all.
    """

    in_memory = True

    def __init__(
        self,
        teacher: Any,
        vocabulary: int,
        divergence: Divergence = "forward_kl",
        beta: float = 0.5,
        temperature: float = 1.0,
        states_bytes: int = 0,
    ) -> None:
        teacher.eval().requires_grad_(False)
        self._decoder = teacher.get_decoder()
        self._head_WE = teacher.get_output_embeddings().weight.detach()[:vocabulary]
        self._states_bytes = states_bytes
        self._divergence, self._beta, self.temperature = divergence, beta, temperature
        self._text = Workspace()

    def loss(
        self, hidden_BLD: torch.Tensor, head_VD: torch.Tensor, inputs: Mapping[str, torch.Tensor], workspace: Workspace | None = None
    ) -> LossSums:
        # The Trainer chooses the student's device, and knows nothing of the teacher; where it is there already this does nothing.
        self._head_WE = head_WE = self._head_WE.to(hidden_BLD.device)
        supervised_BL, told_BL = inputs["labels"] != IGNORE, inputs["kd"] > 0
        states_ND = inputs["states"] if "states" in inputs else self._states(inputs, told_BL)
        told = token_targets(inputs, told_BL)
        sums = dense_loss(
            hidden_BLD[told_BL],
            head_VD,
            TeacherStates(states_ND, head_WE),
            DenseTargets(told.labels_N, told.kd_weight_N, told.ce_weight_N),
            self._divergence,
            self._beta,
            self.temperature,
            workspace=workspace,
        )
        text_BL = supervised_BL & ~told_BL
        if not text_BL.any():
            return sums
        of_text = distill_loss(hidden_BLD[text_BL], head_VD, token_targets(inputs, text_BL), workspace=self._text)
        return LossSums(*(a + b for a, b in zip(sums, of_text, strict=True)))

    def prepare(self, examples: Sequence[Example], passes: float, progress: Callable[[int], None] | None = None) -> Sequence[Example]:
        """Asks for every row beforehand where each would be asked about more than once, then frees all of the teacher but its head."""
        if passes <= 1:
            return examples
        device = own_device()
        self._decoder.to(device)
        self._head_WE = self._head_WE.to(device)
        told = ask_for_states(self._decoder, self._head_WE, examples, self._states_bytes, progress)
        if told is None:
            return examples
        self._decoder = None
        # Modules hold on to each other; without this the memory comes back at some later step, after the student has asked for its own.
        gc.collect()
        if device.type == "cuda":
            torch.cuda.empty_cache()
        return told

    def _states(self, inputs: Mapping[str, torch.Tensor], told_BL: torch.Tensor) -> torch.Tensor:
        """Asked now. A teacher that is asked for no row is not asked, and tokens without a KD term never meet its head."""
        rows_B = told_BL.any(-1)
        if not rows_B.any():
            return self._head_WE.new_zeros((0, self._head_WE.shape[1]))
        # inference_mode would forbid what autograd later saves of these; no_grad is all that is needed (KD rule 11).
        with torch.no_grad():
            asked = {name: inputs[name][rows_B] for name in ("input_ids", "attention_mask")}
            states: torch.Tensor = self._decoder.to(told_BL.device)(**asked, use_cache=False).last_hidden_state
            return states[told_BL[rows_B]]
