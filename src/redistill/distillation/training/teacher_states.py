"""The last hidden states of a teacher in memory for every row, computed once. The teacher's head computes the whole distribution from them.

A frozen teacher gives the same result at every pass over the data. Hidden states are its smallest exact form: D numbers per token instead of V.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import torch

from redistill.distillation.training.examples import Example
from redistill.errors import DataError
from redistill.models.padding import right_padded


class ExamplesWithStates(Sequence[Example]):
    """Examples that carry the teacher's states of the tokens with a KD term. ``lengths`` are their tokens."""

    def __init__(self, examples: Sequence[Example], states: Sequence[torch.Tensor], lengths: np.ndarray) -> None:
        self._examples, self._states, self.lengths = examples, states, lengths

    def __len__(self) -> int:
        return len(self._examples)

    def __getitem__(self, index: Any) -> Any:
        if isinstance(index, slice):
            return [self[i] for i in range(*index.indices(len(self)))]
        return replace(self._examples[index], states_ND=self._states[index])


def states_of(
    decoder: Any,
    head_WE: torch.Tensor,
    examples: Sequence[Example],
    limit_bytes: int,
    progress: Callable[[int], None] | None = None,
    batch_tokens: int = 4096,
) -> ExamplesWithStates | None:
    """The examples with the states that ``decoder`` has in front of its head, or None where these would take more than ``limit_bytes``.

    ``batch_tokens`` go through the teacher at a time, padding included. Which rows go together follows from the rows alone, so a resumed run and another process hold the same numbers.

    Raises:
        DataError: states that are NaN or infinite.
    """
    row_bytes = head_WE.shape[1] * head_WE.element_size()
    ids, places, held = [], [], 0
    for example in examples:
        places.append(np.flatnonzero(example.kd_weight_L > 0) - 1)
        ids.append(example.input_ids_L)
        held += len(places[-1]) * row_bytes
        if held > limit_bytes:
            return None
    lengths = np.asarray([len(row) for row in ids], np.int64)
    states = [head_WE.new_zeros((0, head_WE.shape[1]), device="cpu")] * len(ids)
    compared = np.asarray([i for i, of_row in enumerate(places) if len(of_row)], np.int64)
    done = 0
    for batch in _batches(compared, lengths, batch_tokens):
        padded = {name: value.to(head_WE.device) for name, value in right_padded([ids[i].tolist() for i in batch]).items()}
        # inference_mode would forbid what autograd later saves of these (KD rule 11).
        with torch.no_grad():
            hidden_BLD = decoder(**padded, use_cache=False).last_hidden_state
        for i, row in zip(batch, hidden_BLD, strict=True):
            states[i] = row[torch.from_numpy(places[i]).to(row.device)].cpu()
            if not torch.isfinite(states[i]).all():
                raise DataError(
                    f"the teacher returned NaN or infinite states for a row of {lengths[i]} tokens; check its weights and dtype"
                )
        done += len(batch)
        if progress is not None:
            progress(done)
    return ExamplesWithStates(examples, states, lengths)


def _batches(chosen: np.ndarray, lengths: np.ndarray, tokens: int) -> Iterator[list[int]]:
    """Rows in order of length, so many that they fill a batch."""
    batch: list[int] = []
    for i in chosen[np.argsort(lengths[chosen], kind="stable")].tolist():
        if batch and (len(batch) + 1) * lengths[i] > tokens:
            yield batch
            batch = []
        batch.append(i)
    if batch:
        yield batch
