"""What a model costs to run besides time: its bytes on disk, and generation of a fixed number of tokens to time."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from typing import Any

from redistill.models.generation import left_padded


def generator(model: Any, tokenizer: Any, tokens: int) -> Callable[[Sequence[str]], int]:
    """Greedy generation of a batch, exactly ``tokens`` for each row; returns how many it made in all. This is what is timed."""
    import torch

    def run(prompts: Sequence[str]) -> int:
        batch = left_padded(prompts, tokenizer)
        with torch.inference_mode():
            out = model.generate(
                **batch, max_new_tokens=tokens, min_new_tokens=tokens, do_sample=False, pad_token_id=tokenizer.pad_token_id
            )
        return int(out[:, batch["input_ids"].shape[1] :].numel())

    return run


def disk_bytes(path: str | os.PathLike[str]) -> int:
    total = 0
    for folder, _, files in os.walk(path):
        total += sum(os.path.getsize(os.path.join(folder, f)) for f in files)
    return total
