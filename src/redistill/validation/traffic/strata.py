"""Takes rows evenly from groups: small groups whole, the others with equal numbers, and within a group by a hash, so that the choice is stable."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TypeVar

from redistill.io.digests import canonical_digest

_Key = TypeVar("_Key")


def shares(sizes: Mapping[_Key, int], total: int) -> dict[_Key, int]:
    """How many of ``total`` each group gives. What a small group cannot give is divided among the larger ones."""
    ordered = sorted(sizes, key=lambda key: (sizes[key], str(key)))
    left, taken = total, dict[_Key, int]()
    for place, key in enumerate(ordered):
        taken[key] = min(sizes[key], left // (len(ordered) - place))
        left -= taken[key]
    return taken


def spread(ids: Sequence[str], keys: Sequence[tuple[str, ...]], total: int) -> list[int]:
    """The places of at most ``total`` rows, in order: divided among the first parts of the keys, and each part again among the next.

    Args:
        ids: what a row is drawn by.
        keys: the group of each row, coarse to fine, such as slice and band of novelty.
    """
    return sorted(_spread(list(range(len(ids))), ids, keys, total, 0))


def _spread(places: list[int], ids: Sequence[str], keys: Sequence[tuple[str, ...]], total: int, depth: int) -> list[int]:
    if len(places) <= total:
        return places
    if depth == len(keys[places[0]]):
        return sorted(places, key=lambda place: canonical_digest(["traffic", ids[place]]))[:total]
    groups = dict[str, list[int]]()
    for place in places:
        groups.setdefault(keys[place][depth], []).append(place)
    numbers = shares({key: len(members) for key, members in groups.items()}, total)
    return [place for key in sorted(groups) for place in _spread(groups[key], ids, keys, numbers[key], depth + 1)]
