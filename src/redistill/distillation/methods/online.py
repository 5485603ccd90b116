"""``online``: a teacher in memory gives its whole distribution, so any divergence can be taken (``redistill.distillation.losses.divergences``).

It runs for every batch, or once for all rows before training, where that is less work and fits (``redistill.distillation.training.teacher_states``).
"""

from __future__ import annotations

import gc
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Literal

from pydantic import Field

from redistill.config.base import frozen
from redistill.distillation.methods.base import Method, MethodInputs, MethodParams, Need
from redistill.distillation.types import Divergence

if TYPE_CHECKING:
    import torch

    from redistill.distillation.losses.types import LossSums
    from redistill.distillation.losses.workspace import Workspace
    from redistill.distillation.training.batch import Batch
    from redistill.distillation.training.examples import Example


@frozen
class DenseParams(MethodParams):
    """What the methods with a teacher in memory share."""

    needs: ClassVar[frozenset[Need]] = frozenset({"text", "teacher_weights"})
    divergence: Divergence = "forward_kl"
    """`forward_kl`, `reverse_kl`, `jsd`, `skew_kl` or `skew_reverse_kl`."""
    beta: Annotated[float, Field(gt=0.0, lt=1.0)] | None = None
    """Weight in `jsd`, `skew_kl` and `skew_reverse_kl`. Left out: 0.5 for `jsd`, 0.1 for the others."""

    @property
    def mixture_beta(self) -> float:
        """``beta``, or the default of its divergence's authors: 0.1 where it is skewed (DistiLLM), 0.5 for ``jsd``, which makes it symmetric (GKD)."""
        return self.beta or (0.1 if self.divergence.startswith("skew") else 0.5)


@frozen
class OnlineParams(DenseParams):
    """The teacher in memory beside the student: its whole distribution, with any of five divergences."""

    name: Literal["online"] = "online"
    """`online`."""
    teacher_states_mb: Annotated[int, Field(ge=0)] = 2048
    """Memory for the teacher's hidden states in each process. If the states of all rows fit, the teacher runs only once for several passes over the
    rows. 0 runs the teacher for every batch."""

    def build(self, inputs: MethodInputs) -> Method:
        s = inputs
        return Online(s.teacher, s.vocabulary, self.divergence, self.mixture_beta, s.temperature, self.teacher_states_mb << 20)


class Online(Method):
    """A dense divergence at one temperature, and cross-entropy.

    ``vocabulary`` cuts padded rows off the teacher's head (KD rule 7); ``states_bytes`` is what its states may take when it runs once for all rows.
    """

    def __init__(
        self,
        teacher: Any,
        vocabulary: int,
        divergence: Divergence = "forward_kl",
        beta: float = 0.5,
        temperature: float = 1.0,
        states_bytes: int = 0,
    ) -> None:
        from redistill.distillation.losses.workspace import Workspace

        teacher.eval().requires_grad_(False)
        self._decoder = teacher.get_decoder()
        self._head_WE = teacher.get_output_embeddings().weight.detach()[:vocabulary]
        self._states_bytes = states_bytes
        self._divergence, self._beta, self.temperature = divergence, beta, temperature
        self._text = Workspace()

    def loss(self, hidden_BLD: torch.Tensor, head_VD: torch.Tensor, batch: Batch, workspace: Workspace | None = None) -> LossSums:
        from redistill.distillation.losses.divergences import DenseTargets, TeacherStates, dense_loss
        from redistill.distillation.losses.fused_head import distill_loss
        from redistill.distillation.losses.types import LossSums

        # The Trainer moves the student to its device, but not the teacher. This does nothing if the teacher is on that device already.
        self._head_WE = head_WE = self._head_WE.to(hidden_BLD.device)
        compared_BL = batch.kd_BL > 0
        states_ND = self._states(batch, compared_BL) if batch.states_ND is None else batch.states_ND
        compared = batch.targets(compared_BL)
        sums = dense_loss(
            hidden_BLD[compared_BL],
            head_VD,
            TeacherStates(states_ND, head_WE),
            DenseTargets(compared.labels_N, compared.kd_weight_N, compared.ce_weight_N),
            self._divergence,
            self._beta,
            self.temperature,
            workspace=workspace,
        )
        text_BL = batch.supervised_BL & ~compared_BL
        if not text_BL.any():
            return sums
        of_text = distill_loss(hidden_BLD[text_BL], head_VD, batch.targets(text_BL), workspace=self._text)
        return LossSums(*(a + b for a, b in zip(sums, of_text, strict=True)))

    def prepare(self, examples: Sequence[Example], passes: float, progress: Callable[[int], None] | None = None) -> Sequence[Example]:
        """If each row would be processed more than once, computes the teacher's states for all rows first and frees all of the teacher except its head."""
        import torch

        from redistill.distillation.training.teacher_states import states_of
        from redistill.runtime.precision import own_device

        if passes <= 1:
            return examples
        device = own_device()
        self._decoder.to(device)
        self._head_WE = self._head_WE.to(device)
        with_states = states_of(self._decoder, self._head_WE, examples, self._states_bytes, progress)
        if with_states is None:
            return examples
        self._decoder = None
        # Modules refer to each other. Without this call the memory is freed at a later step, after the student has allocated its own.
        gc.collect()
        if device.type == "cuda":
            torch.cuda.empty_cache()
        return with_states

    def _states(self, batch: Batch, compared_BL: torch.Tensor) -> torch.Tensor:
        """Computes the teacher's states for this batch. The teacher does not run for rows without a KD term, nor its head for tokens without one."""
        import torch

        rows_B = compared_BL.any(-1)
        if not rows_B.any():
            return self._head_WE.new_zeros((0, self._head_WE.shape[1]))
        # inference_mode would forbid what autograd later saves of these; no_grad is all that is needed (KD rule 11).
        with torch.no_grad():
            decoder = self._decoder.to(compared_BL.device)
            out = decoder(input_ids=batch.input_ids_BL[rows_B], attention_mask=batch.attention_mask_BL[rows_B], use_cache=False)
            states: torch.Tensor = out.last_hidden_state
            return states[compared_BL[rows_B]]
