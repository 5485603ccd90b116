"""How every model here generates: from its own probabilities, until one of its end tokens.

A checkpoint ships a ``generation_config``, and transformers applies its settings: a repetition penalty of 1.3 turns a probability of 0.819 into
0.702. What is sampled, scored and served here is the model's own distribution, so nothing of that file is kept but the end tokens.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from redistill.models.padding import left_padded

if TYPE_CHECKING:
    import torch


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


@dataclass(frozen=True, slots=True)
class Generated:
    """What a model wrote after each of N prompts: ``tokens_NT``, padded behind the end token, and the logits of each step (T × [N, V]) where they were requested."""

    tokens_NT: torch.Tensor
    logits: tuple[torch.Tensor, ...] = ()


def generate(model: Any, prompts: Sequence[Sequence[int]], pad_id: int, max_tokens: int, **options: Any) -> Generated:
    """Complete prompts (token ids) together, greedily where ``options`` of ``model.generate`` do not say otherwise."""
    padded = {name: value.to(model.device) for name, value in left_padded(prompts, pad_id).items()}
    settings = {"do_sample": False, "max_new_tokens": max_tokens, "pad_token_id": pad_id, **options}
    out = model.generate(**padded, **settings, return_dict_in_generate=True)
    return Generated(out.sequences[:, padded["input_ids"].shape[1] :], tuple(out.logits or ()))
