"""Soft targets that can be trusted: what engines list, dense logits, and the tokens they belong to (KD rules 9, 10, 12)."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from redistill.distillation.soft_targets.from_teacher import from_listed, from_logits
from redistill.distillation.types import SignalKey, sequence_digest
from redistill.errors import DataError

KEY = SignalKey("0123456789abcdef", 0, "t")
LN = math.log


def listed(ids: list[int], p: list[float], k: int = 3):
    """One position of one row; probabilities instead of log-probabilities, to be read by eye."""
    return from_listed([ids], [[LN(x) if x > 0 else -math.inf for x in p]], [5, 6], 1, k, KEY)


def test_listed_rows_are_ranked_and_keep_their_tail() -> None:
    soft = listed([9, 4, 7], [0.1, 0.5, 0.2])
    assert soft.top_ids_TK.tolist() == [[4, 7, 9]]
    np.testing.assert_allclose(np.exp(soft.top_logprobs_TK), [[0.5, 0.2, 0.1]], rtol=1e-6)
    np.testing.assert_allclose(soft.tail_T, [0.2], rtol=1e-6)
    # ½ ln 2 + 2 · 0.2 ln 5 + 0.1 ln 10
    np.testing.assert_allclose(soft.entropy_T, [0.5 * LN(2) + 0.4 * LN(5) + 0.1 * LN(10)], rtol=1e-6)
    assert (soft.key, soft.first, soft.end, soft.log_z) == (KEY, 1, 2, {})
    assert soft.sequence == sequence_digest([5, 6])


def test_sampled_token_listed_first_and_again_is_one_token() -> None:
    soft = listed([7, 4, 7, 9], [0.2, 0.5, 0.2, 0.1])
    assert soft.top_ids_TK.tolist() == [[4, 7, 9]]
    np.testing.assert_allclose(soft.tail_T, [0.2], rtol=1e-6)


def test_sampled_token_beyond_rank_k_is_cut() -> None:
    soft = listed([99, 4, 7, 9], [0.01, 0.5, 0.2, 0.1])
    assert soft.top_ids_TK.tolist() == [[4, 7, 9]]
    np.testing.assert_allclose(soft.tail_T, [0.2], rtol=1e-6)


def test_equal_probabilities_are_ranked_by_id() -> None:
    assert listed([9, 4, 7], [0.2, 0.2, 0.2]).top_ids_TK.tolist() == [[4, 7, 9]]


def test_minus_infinity_is_no_entry_and_short_positions_are_padded() -> None:
    soft = from_listed([[1, 2], [3, 4], []], [[LN(0.5), LN(0.5)], [0.0, -math.inf], []], [7, 8, 9, 9], 1, 4, KEY)
    assert soft.top_ids_TK.tolist() == [[1, 2], [3, 0], [0, 0]]
    np.testing.assert_allclose(np.exp(soft.top_logprobs_TK), [[0.5, 0.5], [1.0, 0.0], [0.0, 0.0]], rtol=1e-6)
    np.testing.assert_allclose(soft.tail_T, [0.0, 0.0, 1.0], atol=1e-6)
    np.testing.assert_allclose(soft.entropy_T, [LN(2), 0.0, 0.0], atol=1e-6)


@pytest.mark.parametrize("value", [math.nan, math.inf, 0.5])
def test_impossible_log_probabilities_are_refused(value: float) -> None:
    with pytest.raises(DataError, match=r"log-probability (nan|inf|0\.5) at token 1 of row 0123456789ab/0, but it must be ≤ 0"):
        from_listed([[1], [2, 3]], [[-1.0], [-1.0, value]], [1, 2, 3], 1, 2, KEY)


def test_rounding_just_above_zero_is_zero() -> None:
    soft = from_listed([[1]], [[1e-5]], [1, 2], 1, 1, KEY)
    assert soft.top_logprobs_TK.tolist() == [[0.0]] and soft.tail_T.tolist() == [0.0]


def test_probabilities_above_one_in_sum_are_refused() -> None:
    with pytest.raises(DataError, match="probabilities of token 0 of row 0123456789ab/0 sum to more than 1"):
        listed([1, 2], [0.9, 0.9])


def test_no_positions_at_all() -> None:
    soft = from_listed([], [], [5], 1, 3, KEY)
    assert soft.top_ids_TK.shape == (0, 0) and soft.tail_T.shape == (0,)


def test_dense_logits_give_the_definitions() -> None:
    logits = torch.randn(5, 40, generator=torch.Generator().manual_seed(1)) * 3
    soft = from_logits(logits, np.arange(8), 3, 6, (1.0, 2.0), KEY)
    p = torch.softmax(logits.double(), -1)
    expected, ids = p.sort(-1, descending=True)
    assert soft.top_ids_TK.tolist() == ids[:, :6].tolist()
    np.testing.assert_allclose(np.exp(soft.top_logprobs_TK), expected[:, :6], rtol=1e-5)
    np.testing.assert_allclose(soft.tail_T, expected[:, 6:].sum(-1), rtol=1e-5, atol=1e-7)
    np.testing.assert_allclose(soft.entropy_T, -(p * p.log()).sum(-1), rtol=1e-5)
    assert 1.0 not in soft.log_z, "log-probabilities are normalised already"
    np.testing.assert_allclose(soft.log_z[2.0], torch.logsumexp(p.log() / 2, -1), rtol=1e-5)
    assert (soft.first, soft.end, soft.sequence) == (3, 8, sequence_digest(range(8)))
    assert (soft.top_ids_TK.dtype, soft.top_logprobs_TK.dtype) == (np.int32, np.float32)


def test_stored_normaliser_re_tempers_exactly() -> None:
    logits = torch.randn(4, 30, generator=torch.Generator().manual_seed(2)) * 2
    soft = from_logits(logits, np.arange(5), 1, 5, (3.0,), KEY)
    tempered = np.exp(soft.top_logprobs_TK / 3.0 - soft.log_z[3.0][:, None])
    np.testing.assert_allclose(tempered, torch.softmax(logits / 3.0, -1).gather(-1, torch.from_numpy(soft.top_ids_TK).long()), rtol=1e-5)


def test_bfloat16_logits_are_normalised_in_float32() -> None:
    logits = (torch.randn(3, 500, generator=torch.Generator().manual_seed(4)) * 2).bfloat16()
    soft = from_logits(logits, np.arange(4), 1, 500, (1.0,), KEY)
    np.testing.assert_allclose(np.exp(soft.top_logprobs_TK).sum(-1), np.ones(3), rtol=1e-5)


def test_k_beyond_the_vocabulary_is_the_vocabulary() -> None:
    soft = from_logits(torch.zeros(2, 4), np.arange(3), 1, 9, (1.0,), KEY)
    assert soft.top_ids_TK.shape == (2, 4)
    np.testing.assert_allclose(soft.tail_T, [0.0, 0.0], atol=1e-6)


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
def test_broken_logits_are_refused(value: float) -> None:
    logits = torch.zeros(2, 4)
    logits[1, 2] = value
    with pytest.raises(DataError, match="NaN or infinite logits for row 0123456789ab"):
        from_logits(logits, np.arange(3), 1, 2, (1.0,), KEY)


def test_a_sequence_is_told_from_every_other() -> None:
    assert sequence_digest([5, 6]) == sequence_digest((5, 6)) == sequence_digest(np.array([5, 6], np.int64))
    others = ([5, 7], [5], [5, 6, 6], [6, 5], [])
    assert len({sequence_digest(ids) for ids in ([5, 6], *others)}) == 1 + len(others)
