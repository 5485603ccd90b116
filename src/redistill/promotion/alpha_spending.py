"""Alpha spending: the level of each look at one held-out set.

Every decision on a held-out set can promote an inferior student by chance; thirty decisions at 5 % each do so most of the time.
So ``promote.alpha_per_heldout`` is the chance over *all* of them. Each new question (a "look") spends an equal share of it. A look
whose gates passed passes its level on to the next look, because a true discovery costs nothing. By induction over the passed
looks before the first wrong one, the chance of ever promoting an inferior student stays below the total, however the candidates
depend on each other. The same question again is not a new look. If nothing is left, the held-out set must be replaced.

The ledger is a chain: every entry has the digest of the entry before it, so that a changed or deleted entry is noticed.

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


def earlier_look(ledger: Sequence[Look], key: str) -> Look | None:
    """The earlier look with the same question, if there is one."""
    return next((look for look in ledger if look.key == key), None)


def spendable(ledger: Sequence[Look], params: PromoteParams) -> tuple[float, float]:
    """The next look's share of alpha, and its level including alpha passed on by the look before; both 0 when the set is used up.

    Shares that are already spent do not change, so a changed plan never raises the total.
    """
    left = params.alpha_per_heldout - sum(look.spent for look in ledger)
    spent = min(params.alpha_per_heldout / params.looks_per_heldout, left)
    spent = spent if spent > 1e-9 else 0.0
    handed_on = ledger[-1].level if ledger and ledger[-1].shown else 0.0
    # Alpha may have been lowered since; no single look may exceed it.
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
    """The ledger in order, if its chain is complete up to ``head``, the digest of the last recorded entry.

    An entry after the head counts too: its writer was stopped before it recorded the head. If two machines wrote entries with the same
    number at the same time, both count: their shares are spent.

    Raises:
        RegistryError: an entry was changed, or one is missing.
    """
    ordered = sorted(ledger, key=lambda look: (look.number, entry_digest(look)))
    digests = {""}
    for look in ordered:
        if look.previous not in digests:
            raise RegistryError(
                f"the ledger of looks of held-out set {look.heldout[:12]} was altered: an entry before look {look.number} was changed or deleted, "
                "so the number of looks is unknown; restore MLflow from a backup, or use a new held-out set"
            )
        digests.add(entry_digest(look))
    if head and head not in digests:
        raise RegistryError(
            "the ledger of looks was altered: its last recorded entry was changed or deleted; restore MLflow from a backup, or use a new held-out set"
        )
    return ordered
