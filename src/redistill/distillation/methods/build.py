"""From ``finetune.method`` to the method."""

from __future__ import annotations

from typing import Any

from redistill.distillation.methods.base import Method
from redistill.distillation.methods.logit import Logit
from redistill.distillation.methods.on_policy import OnPolicy
from redistill.distillation.methods.online import Online
from redistill.distillation.methods.sequence import SequenceLevel
from redistill.distillation.params import MethodParams


def choose(params: MethodParams, temperature: float, tokenizer: Any, vocabulary: int, teacher: Any, seed: int) -> Method:
    """``teacher`` is the loaded model, for the methods that keep it in memory; ``tokenizer`` is the student's."""
    if params.name == "sequence":
        return SequenceLevel()
    if params.name == "logit":
        return Logit(temperature)
    dense = (teacher, vocabulary, params.divergence, params.mixture_beta, temperature)
    if params.name == "online":
        return Online(*dense, params.teacher_states_mb << 20)
    return OnPolicy(
        *dense,
        fraction=params.on_policy_fraction,
        max_tokens=params.max_tokens,
        pad_id=tokenizer.pad_token_id,
        seed=seed,
    )
