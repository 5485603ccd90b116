"""What a model costs to run besides time: its bytes on disk, and generation of a fixed number of tokens to time."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from typing import Any

from redistill.models.generation import generate
from redistill.models.tokenizers import encode


def generator(model: Any, tokenizer: Any, tokens: int) -> Callable[[Sequence[str]], int]:
    """Greedy generation of a batch, exactly ``tokens`` for each row; returns how many it made in all. This is what is timed."""
    import torch

    def run(prompts: Sequence[str]) -> int:
        rows = [encode(p, tokenizer) for p in prompts]
        with torch.inference_mode():
            return int(generate(model, rows, tokenizer.pad_token_id, tokens, min_new_tokens=tokens).tokens_NT.numel())

    return run


def disk_bytes(path: str | os.PathLike[str]) -> int:
    total = 0
    for folder, _, files in os.walk(path):
        total += sum(os.path.getsize(os.path.join(folder, f)) for f in files)
    return total
