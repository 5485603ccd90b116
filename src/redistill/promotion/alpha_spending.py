"""How often one held-out set may be asked, and at what level each time.

Every decision on a held-out set is a chance to promote an inferior student by luck; thirty at 5 % each do so most of the time.
So ``promote.alpha_per_heldout`` is the chance over *all* of them: each new question ("a look") spends an equal share of it, and a look
that showed what was asked hands its level on to the next, for a true discovery costs nothing. By induction over the runs of
shown looks before the first wrong one, the chance of ever promoting an inferior student stays below the whole, however the candidates
depend on each other. Asking the very same question again is no new look. Nothing left means: refresh the held-out set.

The ledger is a chain: every entry holds the digest of the one before it, so that none can be changed or left out unseen.

Source: Wiens 2003, Pharmaceutical Statistics 2:211-215 (fallback procedure); Tian & Ramdas 2021, Statistical Methods in Medical
Research 30:976-993 (online, an unknown number of questions).
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Sequence

from redistill.errors import RegistryError
from redistill.io.digests import canonical_digest
from redistill.promotion.params import PromoteParams
from redistill.promotion.types import Look, Verdict


def heldout_identity(rows: Iterable[tuple[str, str]]) -> str:
    """Digest of (prompt id, label) rows: the same set in another file, or in another order, is the same set."""
    return canonical_digest(sorted(map(list, rows)))


def entry_digest(look: Look) -> str:
    return canonical_digest(dataclasses.asdict(look))


def found(ledger: Sequence[Look], key: str) -> Look | None:
    """The look at which this very question was asked."""
    return next((look for look in ledger if look.key == key), None)


def spendable(ledger: Sequence[Look], params: PromoteParams) -> tuple[float, float]:
    """What the next look may spend of its own, and its level with what was handed on; both 0 when the held-out set is used up.

    The shares already spent count as they were, so changing the plan midway never raises the total.
    """
    left = params.alpha_per_heldout - sum(look.spent for look in ledger)
    spent = min(params.alpha_per_heldout / params.looks_per_heldout, left)
    spent = spent if spent > 1e-9 else 0.0
    handed_on = ledger[-1].level if ledger and ledger[-1].shown else 0.0
    # The plan may have been made smaller since; no single look may exceed it.
    return spent, min(spent + handed_on, params.alpha_per_heldout)


def next_look(
    ledger: Sequence[Look],
    params: PromoteParams,
    *,
    heldout: str,
    key: str,
    candidate: str,
    shown: bool,
    verdict: Verdict,
    at: str,
    by: str,
) -> Look:
    """The entry to append for a decision that was just made."""
    spent, level = spendable(ledger, params)
    previous = entry_digest(ledger[-1]) if ledger else ""
    return Look(heldout, len(ledger) + 1, key, candidate, spent, level, shown, verdict, at, by, previous)


def checked(ledger: Sequence[Look], head: str | None) -> list[Look]:
    """The ledger in order, once its chain is whole up to ``head``, the digest of the entry that was last announced.

    An entry after the head is one whose writer was stopped before announcing it; it counts. Of two entries with one number, written at once
    by two machines, both count: their shares are spent.

    Raises:
        RegistryError: an entry was changed, or one is missing.
    """
    ordered = sorted(ledger, key=lambda look: (look.number, entry_digest(look)))
    digests = {""}
    for look in ordered:
        if look.previous not in digests:
            raise RegistryError(
                f"the ledger of looks of held-out {look.heldout[:12]} was altered: what stood before look {look.number} is changed or gone; "
                "without it nobody can say how often this set was asked: restore MLflow from a backup, or use a new held-out set"
            )
        digests.add(entry_digest(look))
    if head and head not in digests:
        raise RegistryError(
            "the ledger of looks was altered: its last announced entry is changed or gone; restore MLflow from a backup, or use a new held-out set"
        )
    return ordered
