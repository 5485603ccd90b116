"""Which layers a student can least do without, found on the task itself: drop one after the other, the cheapest first.

Source: Song et al., SLEB, ICML 2024: a block is redundant if the loss stays low without it, judged again after every removal.
Patterns such as "the early ones and the last two" know nothing of the task; what copies an amount or a date out of the
message sits in the middle and later layers.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple

import torch

from redistill.distillation.losses.types import IGNORE


class Cut(NamedTuple):
    """What is left after one more removal, and what the rows then cost in nats per completion token."""

    dropped: int
    kept: tuple[int, ...]
    nll: float


def greedy_cuts(
    model: Any, rows: Sequence[tuple[Sequence[int], Sequence[int]]], keep: int, tried: Callable[[], None] = lambda: None
) -> Iterator[Cut]:
    """Remove layers until ``keep`` are left; ``rows`` are prompt ids and completion ids, ``tried`` is called per candidate.

    The model is put together again for every candidate and left cut; it should be the *tuned* teacher, which can do the task.
    """
    decoder = model.get_decoder()
    layers = list(decoder.layers)
    types = getattr(decoder.config, "layer_types", None)
    batch = _batch(rows)
    kept = tuple(range(len(layers)))
    while len(kept) > keep:
        costs = []
        for layer in kept:
            rest = tuple(i for i in kept if i != layer)
            decoder.layers = torch.nn.ModuleList([layers[i] for i in rest])
            decoder.config.num_hidden_layers = len(rest)
            if types:
                # Masks are chosen by position in this list, not by what the layer remembers of itself.
                decoder.config.layer_types = [types[i] for i in rest]
            nll = completion_nll(model, *batch)
            costs.append((nll if math.isfinite(nll) else math.inf, layer, rest))
            tried()
        nll, dropped, kept = min(costs)
        yield Cut(dropped, kept, nll)


@torch.inference_mode()
def completion_nll(model: Any, ids_NL: torch.Tensor, mask_NL: torch.Tensor, labels_NL: torch.Tensor) -> float:
    """Mean negative log-likelihood of the completion tokens in nats; ``labels_NL`` are shifted already."""
    hidden = model.get_decoder()(input_ids=ids_NL, attention_mask=mask_NL, use_cache=False).last_hidden_state
    chosen = labels_NL != IGNORE
    logits = model.get_output_embeddings()(hidden[chosen]).float()
    return float(torch.nn.functional.cross_entropy(logits, labels_NL[chosen]))


def _batch(rows: Sequence[tuple[Sequence[int], Sequence[int]]]) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    width = max(len(p) + len(c) for p, c in rows)
    ids = torch.zeros(len(rows), width, dtype=torch.long)
    mask, labels = torch.zeros_like(ids), torch.full_like(ids, IGNORE)
    for i, (prompt, completion) in enumerate(rows):
        size = len(prompt) + len(completion)
        ids[i, :size] = torch.tensor([*prompt, *completion])
        mask[i, :size] = 1
        labels[i, len(prompt) - 1 : size - 1] = torch.tensor(completion)
    return ids, mask, labels
