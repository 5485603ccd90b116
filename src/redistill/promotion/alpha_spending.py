"""Alpha spending: the level of each decision on one held-out set.

Every decision on a held-out set can promote an inferior student by chance, and what people learn from it changes the candidates that follow. So
``promote.alpha_per_heldout`` bounds the chance that an inferior student is *ever* promoted on the set, whatever people make of the decisions before.

People learn only one thing of sealed rows: what was promoted, which is nothing or one of the judged systems. The decisions on a set are therefore a tree: a node is a
decision, with the candidate that its history led to, and it has a branch for each of these results. With a budget ``B`` at a node and the level ``a``
there, the branch of the last system of the fixed sequence gets the budget ``a``, and the others share ``B - a``. With one system:

- if it is inferior, a promotion is the error itself (chance at most ``a``), and only the hold goes on: ``a + (B - a) = B``;
- if it is not inferior, nothing is lost here, and both branches may go on: ``a + (B - a) = B``.

With a cascade and its student the sum is the same in all four cases. By induction the chance of an error below a node is at most its budget, however
people choose the candidates (a union bound over what could have been learned, as in Blum and Hardt 2015, together with the fallback procedure of Wiens
2003: a true promotion hands its level on). The level is one part in ``promote.looks_per_heldout`` of the budget.

The budget belongs to rows, not to names. A set starts with what was spent on the rows that it shares with earlier ones. Relabelled, removed and added
rows give nothing back; rows that are replaced give back their part. Added rows add power.

The ledger is a chain: every entry has the digest of the entry before it, so that a changed or deleted entry is noticed.

Source: Wiens 2003, Pharmaceutical Statistics 2:211-215 (fallback procedure); Blum & Hardt 2015, The Ladder, ICML; Dwork et al. 2015, Science 349:636-638
(a reusable holdout).
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Iterable, Sequence

from redistill.errors import RegistryError
from redistill.io.digests import canonical_digest
from redistill.promotion.params import PromoteParams
from redistill.promotion.types import Finding, Look

_LEAST = 1e-5
"""A smaller level decides nothing."""
_GROWTH = 0.25
"""A system that was held is looked at again when the held-out set has grown by this share: earlier looks would use up the budget for little new evidence."""
_PARTS_AFTER_RETEST: dict[Finding, float] = {"holds": 0.7, "hold": 0.14, "worse": 0.08, "inferior": 0.08}
"""The part of the budget that remains after each result of a re-test that could not be foreseen. They sum to 1: people learn one of the four.
Most champions hold, so that result keeps the largest part."""

_NEW = {
    "left": None,
    "kind": "decision",
    "question": "",
    "n": 0,
    "ids": "",
    "had": None,
    "result": "",
    "finding": None,
    "implied_retest": "",
    "pins": "",
}
"""Fields that entries of earlier versions do not have, with the values that mean so; left out of a digest where they have them."""


def heldout_identity(rows: Iterable[tuple[str, str]]) -> str:
    """Digest of (prompt id, label) rows: the same set in another file, or in another order, is the same set."""
    return canonical_digest(sorted(map(list, rows)))


def ids_digest(ids: Iterable[str]) -> str:
    """Digest of the prompts of a held-out set, whatever their labels."""
    return canonical_digest(sorted(ids))


def entry_digest(look: Look) -> str:
    tree = dataclasses.asdict(look)
    return canonical_digest({key: value for key, value in tree.items() if key not in _NEW or value != _NEW[key]})


def retest_question(champion: str, teacher: str, params: PromoteParams) -> str:
    """What a re-test asks, whatever the rows: a live system against a teacher, both by digest, with the limits of the comparison."""
    limits = [params.teacher_gate.margin, params.scored_by, params.floor, params.alpha_per_heldout]
    return canonical_digest(["retest", champion, teacher, limits])


def earlier_look(ledger: Sequence[Look], key: str) -> Look | None:
    """The last look with the same question, if there is one."""
    return next((look for look in reversed(ledger) if look.key == key), None)


@dataclasses.dataclass(frozen=True, slots=True)
class Earlier:
    """Another held-out set that was used before: its prompts, and what is left of alpha on it."""

    ids: frozenset[str]
    left: float


def left_of(ledger: Sequence[Look], params: PromoteParams) -> float:
    """What is left of alpha after the looks at one set, by its own ledger."""
    if not ledger:
        return params.alpha_per_heldout
    last = ledger[-1]
    if last.left is None:
        # Written before there was a tree: each look had spent its share.
        left = params.alpha_per_heldout - sum(look.spent for look in ledger)
    else:
        # Two machines that wrote at the same time did not know of each other: each took its part.
        beside = [look for look in ledger if look.previous == last.previous and look is not last]
        left = last.left - sum(look.had - look.left for look in beside if look.had is not None and look.left is not None)
    return max(0.0, min(left, params.alpha_per_heldout))


def budget(ledger: Sequence[Look], ids: Iterable[str], earlier: Sequence[Earlier], params: PromoteParams) -> float:
    """What is left of alpha on a held-out set with the prompts ``ids``.

    What was spent on an earlier set is carried over in proportion to its rows that are still there, and at least in proportion to the new set's rows that
    were used before.

    Args:
        ledger: the looks at exactly this set.
        earlier: every other set that was used, also under another name of the data.
    """
    alpha, ids = params.alpha_per_heldout, list(ids)
    spent = [max((alpha - min(alpha, each.left) for each in earlier if row in each.ids), default=0.0) for row in ids]
    carried = math.fsum(spent) / len(ids) if ids else 0.0
    kept = [(alpha - min(alpha, each.left)) * len(each.ids.intersection(ids)) / len(each.ids) for each in earlier if each.ids]
    return max(0.0, min(left_of(ledger, params), alpha - max(carried, *kept, 0.0)))


def level_of(left: float, params: PromoteParams) -> float:
    """The level of the next decision; 0 when the set is used up."""
    level = left / params.looks_per_heldout
    return level if level >= _LEAST else 0.0


def left_after(left: float, level: float, systems: int, promoted: int | None) -> float:
    """What remains of the budget after a decision about a fixed sequence of ``systems``.

    The last of them hands its level on where it is promoted. The other results share the rest, since people learn which of them it is. ``promoted`` is the
    place of the promoted system in the sequence, from 0; None after a hold.
    """
    return level if promoted == systems - 1 else (left - level) / systems


def left_after_retest(left: float, result: Finding) -> float:
    """A re-test with a new teacher, or on new rows, tells one of four results; each has a part of the budget."""
    return left * _PARTS_AFTER_RETEST[result]


def waits_for(looks: Iterable[Look], question: str, n: int) -> int | None:
    """The number of rows at which a system that was held is looked at again; None if that is now, or if it was never held.

    ``looks`` are those at this set, and at others that have most of its rows.
    """
    held = [look.n for look in looks if look.question == question and look.kind == "decision" and look.verdict == "hold" and look.n]
    if not held or n == max(held):
        return None
    needed = math.ceil((1 + _GROWTH) * max(held))
    return needed if max(held) < n < needed else None


def retest_known(looks: Iterable[Look], question: str, n: int) -> Finding | None:
    """The result of a re-test on almost the same rows, which needs no new one: of the re-test itself, or of the promotion that implies that it holds."""
    near = [look for look in looks if question in (look.question, look.implied_retest) and look.n <= n < (1 + _GROWTH) * look.n]
    return (near[-1].finding if near[-1].question == question else "holds") if near else None


def checked(ledger: Sequence[Look], head: str | None) -> list[Look]:
    """The ledger in order, if its chain is complete up to ``head``, the digest of the last recorded entry.

    An entry after the head counts too: its writer was stopped before it recorded the head. If two machines wrote entries with the same
    number at the same time, both count, and the one that leaves less comes last.

    Raises:
        RegistryError: an entry was changed, or one is missing.
    """
    ordered = sorted(ledger, key=lambda look: (look.number, -(look.left if look.left is not None else 1.0), entry_digest(look)))
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
