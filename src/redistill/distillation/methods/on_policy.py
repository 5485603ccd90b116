"""``on_policy``: part of every batch are the student's own completions, judged by the teacher (Agarwal et al. 2024, GKD, algorithm 1).

A student that only ever saw the teacher's text meets its own mistakes for the first time when it serves. Here it meets them in training: for a
share of the teacher rows it completes the prompt itself, by sampling, and learns the teacher's distribution along its own tokens. There is
no text loss on those: the text is not the teacher's, and the divergence has the whole weight.
"""

from __future__ import annotations

import zlib
from typing import Any

import numpy as np
import torch

from redistill.distillation.losses.types import IGNORE
from redistill.distillation.methods.online import Online
from redistill.models.generation import end_ids, up_to_end


class OnPolicy(Online):
    """``fraction`` of the rows that the teacher is asked about get the student's own completion, of at most ``max_tokens``.

    Which rows follows from ``seed``, the step and each row's own tokens; what is sampled also from which rows are completed together. So a resumed run draws
    what the killed one drew, and another split into micro-batches or processes completes the same rows, with other samples.
    """

    def __init__(self, *args: Any, fraction: float, max_tokens: int, pad_id: int, seed: int, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._fraction, self._max_tokens, self._pad_id, self._seed = fraction, max_tokens, pad_id, seed

    def batch(self, model: Any, inputs: dict[str, torch.Tensor], step: int) -> dict[str, torch.Tensor]:
        ids_BL, begins_B = inputs["input_ids"], inputs["prompt_tokens"]
        asked = torch.where((inputs["kd"] > 0).any(-1))[0].tolist()
        sizes_B = inputs["attention_mask"].sum(-1).tolist()
        own = [row for row in asked if self._draw(step, ids_BL[row, : sizes_B[row]]).random() < self._fraction]
        if not own:
            return inputs
        draw = self._draw(step, torch.cat([ids_BL[row, : sizes_B[row]] for row in own]))
        prompts = [ids_BL[row, : int(begins_B[row])] for row in own]
        completions = self._complete(model, prompts, int(draw.integers(2**31)))
        longest = max(max(len(p) + len(c) for p, c in zip(prompts, completions, strict=True)), ids_BL.shape[1])
        fill = {"input_ids": self._pad_id, "labels": IGNORE}
        changed = {name: _widened(value, longest, fill.get(name, 0)) for name, value in inputs.items()}
        for row, prompt, completion in zip(own, prompts, completions, strict=True):
            sequence = torch.cat([prompt, completion])
            begin, size = len(prompt), len(sequence)
            # The prompt stays as it was, supervised or not; position t holds what predicts token t + 1.
            for name, empty in (("input_ids", self._pad_id), ("attention_mask", 0)):
                changed[name][row, begin:] = empty
            for name, value in (("labels", IGNORE), ("kd", 0.0), ("ce", 0.0), ("top_p", 0.0)):
                changed[name][row, begin - 1 :] = value
            changed["input_ids"][row, begin:size], changed["attention_mask"][row, begin:size] = completion, 1
            changed["labels"][row, begin - 1 : size - 1] = completion
            changed["kd"][row, begin - 1 : size - 1] = 1.0
        return changed

    def _draw(self, step: int, ids: torch.Tensor) -> np.random.Generator:
        return np.random.default_rng([self._seed, step, zlib.crc32(ids.cpu().numpy().tobytes())])

    def _complete(self, model: Any, prompts: list[torch.Tensor], seed: int) -> list[torch.Tensor]:
        """Sampled at temperature 1 from the student as it is now; its dropout is off while it does."""
        width = max(len(p) for p in prompts)
        ids = torch.full((len(prompts), width), self._pad_id, dtype=torch.long, device=prompts[0].device)
        mask = torch.zeros_like(ids)
        for i, prompt in enumerate(prompts):
            # A decoder continues at the right end.
            ids[i, width - len(prompt) :], mask[i, width - len(prompt) :] = prompt, 1
        training = model.training
        model.eval()
        devices = [ids.device] if ids.device.type == "cuda" else []
        try:
            with torch.no_grad(), torch.random.fork_rng(devices):
                torch.manual_seed(seed)
                out = model.generate(
                    input_ids=ids,
                    attention_mask=mask,
                    do_sample=True,
                    temperature=1.0,
                    top_k=0,
                    top_p=1.0,
                    max_new_tokens=self._max_tokens,
                    pad_token_id=self._pad_id,
                )[:, width:]
        finally:
            model.train(training)
        return [row[counts] for row, counts in zip(out, up_to_end(out, end_ids(model)), strict=True)]


def _widened(value: torch.Tensor, length: int, fill: int) -> torch.Tensor:
    if value.dim() < 2:
        return value
    wide = value.new_full((value.shape[0], length, *value.shape[2:]), fill)
    wide[:, : value.shape[1]] = value
    return wide
