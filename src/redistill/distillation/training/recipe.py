"""How to train: steps, batch, learning rate; and what follows from them and the rows."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from redistill.distillation.params import LoraParams
from redistill.distillation.training.examples import Example
from redistill.runtime.precision import Precision


@dataclass(frozen=True, slots=True)
class Recipe:
    """How to train: what ``training.train`` needs to know beyond model and examples.

    ``plain_attention_limit_bytes`` is what plain attention may keep for a backward pass in bfloat16 on a CPU, where it is faster than the fused one.
    """

    steps: int
    batch_size: int
    gradient_accumulation: int
    learning_rate: float
    warmup_share: float
    weight_decay: float
    seed: int
    save_every_steps: int
    lora: LoraParams | None = None
    freeze_embeddings: bool = False
    precision: Precision = "auto"
    plain_attention_limit_bytes: int = 1 << 30


def lengths_of(examples: Sequence[Example]) -> np.ndarray:
    known: np.ndarray | None = getattr(examples, "lengths", None)
    return np.asarray([len(e.input_ids_L) for e in examples]) if known is None else known


def steps_for(tokens: int, examples: Sequence[Example], batch: int) -> int:
    """Optimiser steps that feed about ``tokens`` input tokens, so that arms with other rows see the same amount."""
    return max(1, round(tokens / (float(np.mean(lengths_of(examples))) * batch))) if len(examples) else 1


def plain_attention_bytes(config: Any, examples: Sequence[Example], batch: int) -> int:
    """What plain attention keeps for the backward pass of the longest batch: float32 scores and their bf16 copy, per layer."""
    longest = int(lengths_of(examples).max())
    return 6 * batch * int(config.num_attention_heads) * longest**2 * int(config.num_hidden_layers)
