"""What an entry of the ledger may say: its level and what it leaves follow from what was left before it.

The chain shows that no entry was changed after it was written. It does not show that the entry was right: anyone who can write to MLflow can write a whole
chain. So the numbers are computed again from the entries, and no entry can leave more than the rules of ``alpha_spending`` give.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

from redistill.errors import RegistryError
from redistill.promotion.alpha_spending import entry_digest, left_after, left_after_retest
from redistill.promotion.types import Look

_MOST_PARTS = 1000


def check_numbers(ledger: Sequence[Look]) -> None:
    """Check every entry against the rules and the entry before it. Entries from before the tree was introduced have no such numbers.

    Raises:
        RegistryError: an entry has a level, or leaves a part of alpha, that cannot be.
    """
    entries = {entry_digest(look): look for look in ledger}
    for look in ledger:
        if look.had is None or look.left is None:
            continue
        before = entries.get(look.previous)
        if (problem := _problem(look, before.left if before is not None else None)) is not None:
            raise RegistryError(
                f"the ledger of looks of held-out set {look.heldout[:12]} was altered: look {look.number} {problem}; "
                "restore MLflow from a backup, or use a new held-out set"
            )


def _problem(look: Look, left_before: float | None) -> str | None:
    assert look.had is not None and look.left is not None
    if left_before is not None and look.had > left_before and not _same(look.had, left_before):
        return f"starts with {look.had:.3g} of alpha, but only {left_before:.3g} was left"
    if look.kind == "decision" and not _is_one_part(look.level, look.had):
        return f"was made at level {look.level:.3g}, which is not one part in so many of the {look.had:.3g} that was left"
    if not any(_same(look.left, left) for left in _possible(look, look.had)):
        return f"leaves {look.left:.3g} of alpha, which does not follow from its result"
    return None


def _is_one_part(level: float, had: float) -> bool:
    """Whether a level is one part in ``promote.looks_per_heldout``, whatever that was then: a decision at almost no level would use up nothing."""
    parts = had / level if level > 0.0 else math.inf
    return parts <= _MOST_PARTS and round(parts) >= 1 and math.isclose(parts, round(parts), rel_tol=1e-6)


def _possible(look: Look, had: float) -> list[float]:
    """What may remain after an entry, whether one system or two were judged."""
    if look.kind == "retired":
        return [0.0]
    if look.kind == "retest":
        return [] if look.finding is None else [left_after_retest(had, look.finding)]
    if look.verdict == "promote":
        return [left_after(had, look.level, 1, 0), left_after(had, look.level, 2, 0), left_after(had, look.level, 2, 1)]
    return [left_after(had, look.level, systems, None) for systems in (1, 2)]


def _same(one: float, other: float) -> bool:
    return math.isclose(one, other, rel_tol=1e-9, abs_tol=1e-12)
