"""The order of training rows: one stream of indices, which does not depend on micro-batches and processes.

Step s of a run uses entries ``s · batch … (s + 1) · batch − 1`` of the stream. Epochs follow each other without a gap, so no step is short, and a
killed run continues at a place that depends only on its step (KD rules 2 and 8).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
import torch

_WINDOW = 50
"""Batches among which rows are sorted by length: enough to waste little on padding, few enough to stay mixed."""


class TrainingOrder(torch.utils.data.Sampler[int]):
    """``steps · batch`` row indices; rows of one batch are of similar length, batches come in any order."""

    def __init__(self, lengths: Sequence[int], batch: int, steps: int, seed: int) -> None:
        self._lengths, self._batch, self._steps, self._seed = np.asarray(lengths), batch, steps, seed

    def __len__(self) -> int:
        return self._steps * self._batch

    def __iter__(self) -> Iterator[int]:
        left, epoch = len(self), 0
        while left > 0:
            rows = epoch_order(self._lengths, self._batch, self._seed, epoch)[:left]
            yield from rows.tolist()
            left, epoch = left - len(rows), epoch + 1


def epoch_order(lengths_N: np.ndarray, batch: int, seed: int, epoch: int) -> np.ndarray:
    """Every row once."""
    draw = np.random.default_rng([seed, epoch])
    rows_N = draw.permutation(len(lengths_N))
    batches = []
    for start in range(0, len(rows_N), _WINDOW * batch):
        window = rows_N[start : start + _WINDOW * batch]
        window = window[np.argsort(-lengths_N[window], kind="stable")]
        batches += [window[i : i + batch] for i in range(0, len(window), batch)]
    # A short batch in the middle would move the borders of all that follow.
    whole, short = [b for b in batches if len(b) == batch], [b for b in batches if len(b) < batch]
    draw.shuffle(whole)
    return np.concatenate([*whole, *short]) if batches else rows_N
