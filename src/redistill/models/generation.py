"""How every model here generates: by its own probabilities, until one of its end tokens.

A checkpoint ships a ``generation_config``, and transformers applies what stands in it: a repetition penalty of 1.3 turns a probability of 0.819 into
0.702. What is sampled, scored and served here is the model's own distribution, so nothing of that file is kept but the end tokens.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import torch

from redistill.models.tokenizers import encode


def make_neutral(model: Any, end_ids: Sequence[int]) -> None:
    """Give the model generation settings that change no probability, with these ends of a completion.

    ``model.generate`` takes every setting that a call leaves out from here, and they are saved with the model. Callers that sample pass ``temperature``,
    ``top_p`` and ``top_k`` themselves.
    """
    from transformers import GenerationConfig

    bos = model.generation_config.bos_token_id if model.generation_config is not None else None
    model.generation_config = GenerationConfig(bos_token_id=bos, eos_token_id=list(end_ids) or None)


def end_ids(model: Any) -> list[int]:
    """The ids that end a completion of this model; perhaps none."""
    ids = model.generation_config.eos_token_id
    return [] if ids is None else [int(i) for i in ids] if isinstance(ids, list | tuple) else [int(ids)]


def is_end(made_NT: torch.Tensor, ends: Sequence[int]) -> torch.Tensor:
    import torch

    return torch.isin(made_NT, torch.tensor(list(ends), dtype=made_NT.dtype, device=made_NT.device))


def up_to_end(made_NT: torch.Tensor, ends: Sequence[int]) -> torch.Tensor:
    """Which generated tokens are the completion (N × T): all up to the first end token, and that one. What follows is padding."""
    found_NT = is_end(made_NT, ends).long()
    return (found_NT.cumsum(-1) - found_NT) == 0


def without_end(ids: Sequence[int], ends: Sequence[int]) -> list[int]:
    """Completion ids without the end token: an end that is no special token of the tokenizer would be decoded as text."""
    return list(ids[:-1]) if ids and ids[-1] in ends else list(ids)


def left_padded(prompts: Sequence[str], tokenizer: Any) -> dict[str, Any]:
    """``input_ids`` and ``attention_mask`` (N × longest) of prompts that end together, as ``model.generate`` wants them."""
    import torch

    rows = [encode(p, tokenizer) for p in prompts]
    width = max(map(len, rows))
    return {
        "input_ids": torch.tensor([[tokenizer.pad_token_id] * (width - len(r)) + r for r in rows]),
        "attention_mask": torch.tensor([[0] * (width - len(r)) + [1] * len(r) for r in rows]),
    }
