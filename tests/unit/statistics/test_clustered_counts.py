"""Pairs from one message depend on each other: the test on messages keeps its level, which the test on pairs does not."""

from __future__ import annotations

import math

import numpy as np
import pytest

from redistill.errors import DataError
from redistill.statistics.paired_counts import PairedCounts, clustered_counts, score_test
from redistill.statistics.shares import clustered_share, share

MARGIN, LEVEL, DRAWS = 0.1, 0.05, 10_000
BOUND = LEVEL + 3 * math.sqrt(LEVEL * (1 - LEVEL) / DRAWS)
"""A test of size 5 % exceeds this in 1 of 740 simulations; the seed is fixed."""


def drawn(messages: int, names: int, teacher_only: float, dependence: float, seed: int) -> np.ndarray:
    """Draws × messages × names at the limit of the null: 1 where only the student flips, -1 where only the teacher does, else 0.

    The student flips ``MARGIN`` more pairs than the teacher. A pair does what its message does with probability √dependence, else what it does by
    itself, so that two pairs of a message are correlated by ``dependence``; each pair by itself has the same distribution.
    """
    rng = np.random.default_rng(seed)

    def flips(*shape: int) -> np.ndarray:
        return rng.choice([1, -1, 0], size=shape, p=[teacher_only + MARGIN, teacher_only, 1 - 2 * teacher_only - MARGIN])

    follows = rng.random((DRAWS, messages, names)) < math.sqrt(dependence)
    return np.where(follows, flips(DRAWS, messages, 1), flips(DRAWS, messages, names))


def sizes(flips: np.ndarray) -> tuple[float, float]:
    """How often a student that is worse by the whole margin passes: by messages, and by pairs as if each were a message."""
    names = flips.shape[2]
    by_message, by_pair = 0, 0
    for only_teacher, only_student in zip((flips < 0).sum(-1).tolist(), (flips > 0).sum(-1).tolist(), strict=True):
        clusters = [(names, t, s) for t, s in zip(only_teacher, only_student, strict=True)]
        by_message += score_test(clustered_counts(clusters), MARGIN) <= LEVEL
        by_pair += score_test(PairedCounts(flips[0].size, sum(only_teacher), sum(only_student)), MARGIN) <= LEVEL
    return by_message / DRAWS, by_pair / DRAWS


@pytest.mark.parametrize("dependence", [0.0, 0.5, 1.0])
@pytest.mark.parametrize("teacher_only", [0.0, 0.05, 0.1])
def test_ten_messages_of_ten_names_keep_the_level(teacher_only: float, dependence: float) -> None:
    by_message, by_pair = sizes(drawn(10, 10, teacher_only, dependence, seed=1))
    assert by_message <= BOUND
    if dependence == 1.0:
        assert by_pair > 0.2, "as independent pairs, an unfair student passes far too often"


@pytest.mark.parametrize("teacher_only", [0.0, 0.02, 0.1])
def test_single_pairs_keep_the_level_and_the_power_of_the_plain_test(teacher_only: float) -> None:
    by_message, by_pair = sizes(drawn(99, 1, teacher_only, 0.0, seed=2))
    assert by_message == by_pair <= BOUND


def test_messages_of_unlike_sizes_keep_the_level() -> None:
    """One message of fifty names beside thirty of one name: the fifty must not decide."""
    wide = drawn(31, 50, 0.05, 1.0, seed=3)
    passed = 0
    for rows in wide[:, :, 0]:
        clusters = [
            (50 if i == 0 else 1, (50 if i == 0 else 1) * int(f < 0), (50 if i == 0 else 1) * int(f > 0)) for i, f in enumerate(rows)
        ]
        passed += score_test(clustered_counts(clusters), MARGIN) <= LEVEL
    assert passed / DRAWS <= BOUND


def test_by_hand() -> None:
    counts = clustered_counts([(4, 1, 2), (1, 0, 0), (2, 0, 2)])
    assert (counts.n, counts.only_candidate, counts.only_reference) == (3, 0.25, 1.5)
    assert counts.difference == pytest.approx(-1.25 / 3)
    assert clustered_counts([(1, 1, 0)] * 3 + [(1, 0, 1)] * 2 + [(1, 0, 0)] * 95) == PairedCounts(100, 3, 2)
    assert clustered_counts([(3, 3, 0)] * 7).only_candidate == 7, "thirds that add up to whole clusters"
    assert all(clustered_counts([(m, c, m - c)] * k).discordance <= 1 for m in range(2, 20) for c in range(m + 1) for k in range(2, 20))
    assert clustered_share([(2, 4), (0, 1)]).value == 0.25
    assert clustered_share([(1, 1)] * 3 + [(0, 1)] * 7) == share(3, 10)


@pytest.mark.parametrize("cluster", [(0, 0, 0), (2, 2, 1), (2, -1, 0)])
def test_what_no_cluster_can_have_is_refused(cluster: tuple[int, int, int]) -> None:
    with pytest.raises(DataError, match="cannot be counts out of a cluster"):
        clustered_counts([cluster, (1, 0, 0)])
