"""The chance of ever promoting an inferior system on one held-out set, whatever the order of good and bad ones."""

from __future__ import annotations

import itertools

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from redistill.promotion.alpha_spending import left_after, level_of
from redistill.promotion.params import PromoteParams


def walked(params: PromoteParams, looks: list[list[bool]], p_values: list[list[float]]) -> tuple[list[float], bool]:
    """The levels of these looks, and whether a bad system was ever promoted. A look is a fixed sequence of systems: is each truly good?"""
    left, levels = params.alpha_per_heldout, []
    for good, p in zip(looks, p_values, strict=True):
        level = level_of(left, params)
        if level == 0.0:
            break
        passed = next((i for i, value in enumerate(p) if value > level), len(p))
        promoted = passed - 1 if passed else None
        if promoted is not None and not good[promoted]:
            return [*levels, level], True
        levels.append(level)
        left = left_after(left, level, len(good), promoted)
    return levels, False


LOOKS = st.lists(st.lists(st.booleans(), min_size=1, max_size=2), max_size=40)


@settings(deadline=None, max_examples=100)
@given(LOOKS, st.integers(0, 2**31), st.integers(1, 30), st.sampled_from([0.01, 0.05, 0.2]))
def test_levels_never_exceed_alpha_nor_grow(looks: list[list[bool]], seed: int, parts: int, alpha: float) -> None:
    params, rng = PromoteParams(alpha_per_heldout=alpha, looks_per_heldout=parts), np.random.default_rng(seed)
    levels, _ = walked(params, looks, [list(rng.random(len(good))) for good in looks])
    assert all(level <= alpha / parts + 1e-12 for level in levels)
    assert all(later <= earlier + 1e-12 for earlier, later in itertools.pairwise(levels))


@settings(deadline=None, max_examples=12)
@given(st.lists(st.lists(st.booleans(), min_size=1, max_size=2), min_size=3, max_size=12), st.booleans(), st.integers(0, 2**31))
def test_chance_of_a_wrong_promotion_stays_below_alpha(looks: list[list[bool]], dependent: bool, seed: int) -> None:
    """4,000 held-out sets; p-values of bad systems are uniform, independent or all the same, those of good ones near 0."""
    params, rng, runs = PromoteParams(alpha_per_heldout=0.2, looks_per_heldout=2), np.random.default_rng(seed), 4000
    wrong = 0
    for _ in range(runs):
        shared = float(rng.random())
        p_values = [[1e-9 if g else shared if dependent else float(rng.random()) for g in good] for good in looks]
        wrong += walked(params, looks, p_values)[1]
    assert wrong / runs <= 0.2 + 4 * (0.2 * 0.8 / runs) ** 0.5


def test_a_person_who_learns_from_verdicts_gains_nothing() -> None:
    """The worst case by construction: the next candidate depends on all verdicts, so that each node of the tree is another, independent test.

    By the union bound, the chance over all nodes of the tree that one rejects is at most alpha; here every node of depth 8 is drawn.
    """
    params, rng, runs = PromoteParams(alpha_per_heldout=0.2, looks_per_heldout=2), np.random.default_rng(5), 2000

    def ever(left: float, depth: int) -> bool:
        level = level_of(left, params)
        if level == 0.0 or depth == 0:
            return False
        if rng.random() < 0.5:  # this node's candidate is good: both branches can be reached
            return ever(left_after(left, level, 1, 0), depth - 1) or ever(left_after(left, level, 1, None), depth - 1)
        return bool(rng.random() <= level) or ever(left_after(left, level, 1, None), depth - 1)

    wrong = sum(ever(params.alpha_per_heldout, 8) for _ in range(runs))
    assert wrong / runs <= 0.2 + 4 * (0.2 * 0.8 / runs) ** 0.5
