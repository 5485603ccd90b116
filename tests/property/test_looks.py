"""The chance of ever promoting an inferior student on one held-out set, whatever the order of good and bad ones."""

from __future__ import annotations

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from redistill.promotion.alpha_spending import next_look, spendable
from redistill.promotion.params import PromoteParams
from redistill.promotion.types import Look


def walked(params: PromoteParams, truly_good: list[bool], p_values: list[float]) -> tuple[list[Look], bool]:
    """The ledger after these looks, and whether a bad one was ever shown."""
    ledger: list[Look] = []
    wrong = False
    for good, p in zip(truly_good, p_values, strict=True):
        level = spendable(ledger, params)[1]
        if level == 0.0:
            break
        shown = p <= level
        wrong |= shown and not good
        ledger.append(next_look(ledger, params, heldout="h", key="k", candidate="c", shown=shown, verdict="hold", at="t", by="b"))
    return ledger, wrong


@settings(deadline=None, max_examples=100)
@given(st.lists(st.tuples(st.booleans(), st.floats(0, 1)), max_size=40), st.integers(1, 30), st.sampled_from([0.01, 0.05, 0.2]))
def test_never_more_is_spent_than_there_is(looks: list[tuple[bool, float]], planned: int, alpha: float) -> None:
    params = PromoteParams(alpha_per_heldout=alpha, looks_per_heldout=planned)
    ledger, _ = walked(params, [g for g, _ in looks], [p for _, p in looks])
    assert sum(look.spent for look in ledger) <= alpha + 1e-9
    assert all(look.spent <= look.level <= alpha + 1e-9 for look in ledger)
    # The bound's proof, as arithmetic: what the bad looks could use in all, each with the run of discoveries before it.
    assert all(look.level <= sum(other.spent for other in ledger[: i + 1]) + 1e-9 for i, look in enumerate(ledger))


@settings(deadline=None, max_examples=12)
@given(st.lists(st.booleans(), min_size=3, max_size=12), st.booleans(), st.integers(0, 2**31))
def test_chance_of_a_wrong_promotion_stays_below_alpha(good: list[bool], dependent: bool, seed: int) -> None:
    """4,000 held-out sets; p-values of bad students are uniform, independent or all the same, those of good ones near 0."""
    params, rng, runs = PromoteParams(alpha_per_heldout=0.2, looks_per_heldout=5), np.random.default_rng(seed), 4000
    shared = rng.random((runs, 1)).repeat(len(good), axis=1) if dependent else rng.random((runs, len(good)))
    wrong = sum(walked(params, good, [1e-9 if g else float(p) for g, p in zip(good, row, strict=True)])[1] for row in shared)
    assert wrong / runs <= 0.2 + 4 * (0.2 * 0.8 / runs) ** 0.5
