"""Search on the task itself for the layers that a student should keep: drop one layer after the other, the least important first.

Source: Song et al., SLEB, ICML 2024: a block is redundant if the loss stays low without it, judged again after every removal.
Fixed patterns such as "the early ones and the last two" do not depend on the task. Middle and later layers copy an amount or a
date from the message.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple

import torch

from redistill.distillation.training.batch import Batch, collate
from redistill.distillation.training.examples import Supervision, to_example
from redistill.distillation.types import TrainingRow


class Cut(NamedTuple):
    """What is left after one more removal, and what the rows then cost in nats per completion token."""

    dropped: int
    kept: tuple[int, ...]
    nll: float


def greedy_cuts(model: Any, rows: Sequence[TrainingRow], keep: int, tried: Callable[[], None] = lambda: None) -> Iterator[Cut]:
    """Remove layers until ``keep`` are left; ``tried`` is called per candidate.

    The model is put together again for every candidate and left cut; it should be the *tuned* teacher, which can do the task.
    """
    decoder = model.get_decoder()
    layers = list(decoder.layers)
    types = getattr(decoder.config, "layer_types", None)
    batch = batch_of(rows)
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
            nll = completion_nll(model, batch)
            costs.append((nll if math.isfinite(nll) else math.inf, layer, rest))
            tried()
        nll, dropped, kept = min(costs)
        yield Cut(dropped, kept, nll)


def batch_of(rows: Sequence[TrainingRow]) -> Batch:
    """All rows as one batch whose completions are supervised."""
    return collate([to_example(row, None, Supervision()) for row in rows], 0, 1.0)


@torch.inference_mode()
def completion_nll(model: Any, batch: Batch) -> float:
    """Mean negative log-likelihood of the supervised tokens in nats."""
    hidden = model.get_decoder()(input_ids=batch.input_ids_BL, attention_mask=batch.attention_mask_BL, use_cache=False).last_hidden_state
    logits = model.get_output_embeddings()(hidden[batch.supervised_BL]).float()
    return float(torch.nn.functional.cross_entropy(logits, batch.labels_BL[batch.supervised_BL]))
