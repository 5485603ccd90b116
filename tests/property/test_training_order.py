"""Which row is trained on when depends on seed and step alone."""

from __future__ import annotations

from itertools import islice

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from redistill.distillation.training.sampler import TrainingOrder, epoch_order

lengths = st.lists(st.integers(1, 90), min_size=1, max_size=150)


@given(lengths=lengths, batch=st.integers(1, 9), steps=st.integers(1, 60), seed=st.integers(0, 5))
def test_every_epoch_has_every_row_once_and_no_step_is_short(lengths: list[int], batch: int, steps: int, seed: int) -> None:
    order = TrainingOrder(lengths, batch, steps, seed)
    stream = list(order)
    assert len(stream) == len(order) == steps * batch and stream == list(order), "the same each time it is asked"
    n = len(lengths)
    for start in range(0, len(stream) - n + 1, n):
        assert sorted(stream[start : start + n]) == list(range(n))


@given(lengths=lengths, batch=st.integers(1, 9), seed=st.integers(0, 5))
def test_a_longer_run_begins_like_a_shorter_one(lengths: list[int], batch: int, seed: int) -> None:
    assert list(islice(TrainingOrder(lengths, batch, 40, seed), 10 * batch)) == list(TrainingOrder(lengths, batch, 10, seed))


@given(seed=st.integers(0, 50))
def test_rows_of_a_batch_are_of_similar_length_and_batches_are_mixed(seed: int) -> None:
    lengths_N = np.random.default_rng(seed).integers(5, 100, 400)
    batches = lengths_N[epoch_order(lengths_N, 8, seed, 0)].reshape(-1, 8)
    padded = (batches.max(-1, keepdims=True) - batches).sum() / batches.sum()
    assert padded < 0.1, "random batches waste a good half"
    means = batches.mean(-1)
    assert abs(means[:25].mean() - means[25:].mean()) < 20 and (np.diff(means) > 0).any() and (np.diff(means) < 0).any()
