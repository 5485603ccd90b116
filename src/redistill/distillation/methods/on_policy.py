"""``on_policy``: part of every batch are the student's own completions, judged by the teacher (Agarwal et al. 2024, GKD, algorithm 1).

A student that is trained only on the teacher's text sees its own mistakes for the first time when it serves. Here it sees them in training: for a
share of the teacher rows it completes the prompt itself, by sampling, and learns the teacher's distribution for its own tokens. These rows have
no text loss, because the text is not the teacher's. Their divergence has the whole weight.
"""

from __future__ import annotations

import zlib
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from redistill.config.base import Positive, Share, frozen
from redistill.distillation.methods.base import Method, MethodInputs
from redistill.distillation.methods.online import DenseParams, Online
from redistill.models.generation import end_ids, generate, up_to_end

if TYPE_CHECKING:
    import torch

    from redistill.distillation.training.batch import Batch


@frozen
class OnPolicyParams(DenseParams):
    """The student's own completions, judged by the teacher in memory."""

    name: Literal["on_policy"] = "on_policy"
    """`on_policy`."""
    on_policy_fraction: Share = 0.5
    """Share of the teacher's rows that get the student's own completions."""
    max_tokens: Positive = 48
    """The longest of those completions."""

    def build(self, inputs: MethodInputs) -> Method:
        s = inputs
        return OnPolicy(
            s.teacher,
            s.vocabulary,
            self.divergence,
            self.mixture_beta,
            s.temperature,
            fraction=self.on_policy_fraction,
            max_tokens=self.max_tokens,
            pad_id=s.tokenizer.pad_token_id,
            seed=s.seed,
        )


class OnPolicy(Online):
    """``fraction`` of the rows with a KD term get the student's own completion, of at most ``max_tokens``.

    Which rows follows from ``seed``, the step and each row's own tokens; what is sampled also from which rows are completed together. So a resumed run draws
    what the killed one drew, and another split into micro-batches or processes completes the same rows, with other samples.
    """

    def __init__(self, *args: Any, fraction: float, max_tokens: int, pad_id: int, seed: int, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._fraction, self._max_tokens, self._pad_id, self._seed = fraction, max_tokens, pad_id, seed

    def batch(self, model: Any, batch: Batch, step: int) -> Batch:
        import torch

        from redistill.distillation.losses.types import IGNORE

        ids_BL = batch.input_ids_BL
        compared = torch.where((batch.kd_BL > 0).any(-1))[0].tolist()
        sizes_B = batch.attention_mask_BL.sum(-1).tolist()
        sampled = [row for row in compared if self._draw(step, ids_BL[row, : sizes_B[row]]).random() < self._fraction]
        if not sampled:
            return batch
        draw = self._draw(step, torch.cat([ids_BL[row, : sizes_B[row]] for row in sampled]))
        prompts = [ids_BL[row, : int(batch.completion_begins_B[row])] for row in sampled]
        completions = self._complete(model, prompts, int(draw.integers(2**31)))
        longest = max(max(len(p) + len(c) for p, c in zip(prompts, completions, strict=True)), ids_BL.shape[1])
        changed = _widened(batch, longest, self._pad_id)
        for row, prompt, completion in zip(sampled, prompts, completions, strict=True):
            begin, size = len(prompt), len(prompt) + len(completion)
            # The prompt stays as it was, supervised or not; position t holds what predicts token t + 1.
            changed.input_ids_BL[row, begin:], changed.attention_mask_BL[row, begin:] = self._pad_id, 0
            changed.labels_BL[row, begin - 1 :] = IGNORE
            for weights in (changed.kd_BL, changed.ce_BL, changed.top_p_BLK):
                weights[row, begin - 1 :] = 0.0
            changed.input_ids_BL[row, begin:size], changed.attention_mask_BL[row, begin:size] = completion, 1
            changed.labels_BL[row, begin - 1 : size - 1] = completion
            changed.kd_BL[row, begin - 1 : size - 1] = 1.0
        return changed

    def _draw(self, step: int, ids: torch.Tensor) -> np.random.Generator:
        return np.random.default_rng([self._seed, step, zlib.crc32(ids.cpu().numpy().tobytes())])

    def _complete(self, model: Any, prompts: list[torch.Tensor], seed: int) -> list[torch.Tensor]:
        """Sampled at temperature 1 from the student as it is now; its dropout is off while it does."""
        import torch

        device, rows = prompts[0].device, [p.tolist() for p in prompts]
        sampling = {"do_sample": True, "temperature": 1.0, "top_k": 0, "top_p": 1.0}
        training = model.training
        model.eval()
        devices = [device] if device.type == "cuda" else []
        try:
            with torch.no_grad(), torch.random.fork_rng(devices):
                torch.manual_seed(seed)
                made_NT = generate(model, rows, self._pad_id, self._max_tokens, **sampling).tokens_NT
        finally:
            model.train(training)
        return [row[counts] for row, counts in zip(made_NT, up_to_end(made_NT, end_ids(model)), strict=True)]


def _widened(batch: Batch, length: int, pad_id: int) -> Batch:
    """A copy of the batch, padded to ``length`` tokens."""
    from redistill.distillation.losses.types import IGNORE

    fill = {"input_ids_BL": pad_id, "labels_BL": IGNORE, "attention_mask_BL": 0, "kd_BL": 0, "ce_BL": 0, "top_ids_BLK": 0, "top_p_BLK": 0}

    def wide(value: torch.Tensor, padding: int) -> torch.Tensor:
        made = value.new_full((value.shape[0], length, *value.shape[2:]), padding)
        made[:, : value.shape[1]] = value
        return made

    return replace(batch, **{name: wide(getattr(batch, name), padding) for name, padding in fill.items()})
