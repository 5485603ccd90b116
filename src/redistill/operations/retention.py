"""What ``redistill gc`` keeps, and why. The rules know names and times only; they read no files.

Three reasons keep a thing: something needs it (an alias, the workspace, a version that is kept), it is younger than ``retention.days``, or, for a
model version, it is one of the newest ``retention.versions``.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from redistill.operations.params import RetentionParams

_DAY_S = 86400.0


@dataclass(frozen=True, slots=True)
class Item:
    """Something that may be removed. ``changed_s`` is the Unix time of its last change.

    ``needed_by`` says what needs it, whatever its age; None: nothing does.
    """

    name: str
    changed_s: float
    needed_by: str | None = None


@dataclass(frozen=True, slots=True)
class Version:
    """A registered version. ``created_s`` is the Unix time of its registration. ``needed_by``: aliases and everything else that needs it."""

    number: int
    created_s: float
    needed_by: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Kept:
    """How many things of one kind are kept for one reason; ``names`` are listed where they are few and people know them."""

    kind: str
    reason: str
    count: int
    names: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Sweep:
    """What became of one kind of thing: how many were removed, the bytes on disk that this freed, what was kept, and a remark."""

    kind: str
    removed: int = 0
    freed_bytes: int = 0
    kept: tuple[Kept, ...] = ()
    note: str = ""


def is_young(changed_s: float, retention: RetentionParams, now_s: float) -> bool:
    """Whether a change at this Unix time lies within ``retention.days``."""
    return now_s - changed_s < _DAY_S * retention.days


def reason_to_keep(item: Item, retention: RetentionParams, now_s: float) -> str | None:
    """Why an item is kept; None if it is to be removed."""
    if item.needed_by is not None:
        return item.needed_by
    return _young(retention) if is_young(item.changed_s, retention, now_s) else None


def divided(kind: str, items: Iterable[Item], retention: RetentionParams, now_s: float) -> tuple[list[Item], tuple[Kept, ...]]:
    """The items to remove, and how many of the others are kept for which reason."""
    removed: list[Item] = []
    counts: dict[str, int] = {}
    for item in items:
        reason = reason_to_keep(item, retention, now_s)
        if reason is None:
            removed.append(item)
        else:
            counts[reason] = counts.get(reason, 0) + 1
    return removed, tuple(Kept(kind, reason, count) for reason, count in counts.items())


def versions_to_keep(versions: Sequence[Version], retention: RetentionParams, now_s: float) -> dict[int, tuple[str, ...]]:
    """The versions that are kept, with every reason."""
    newest = sorted((v.number for v in versions), reverse=True)[: retention.versions]
    kept: dict[int, tuple[str, ...]] = {}
    for version in versions:
        reasons = list(version.needed_by)
        if version.number in newest:
            reasons.append(f"one of the newest {retention.versions}" if retention.versions > 1 else "the newest")
        if is_young(version.created_s, retention, now_s):
            reasons.append(_young(retention))
        if reasons:
            kept[version.number] = tuple(reasons)
    return kept


def _young(retention: RetentionParams) -> str:
    return f"younger than {retention.days} day{'s' * (retention.days > 1)}"
