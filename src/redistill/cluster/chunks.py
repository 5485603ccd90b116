"""Which items a replica works on next, and what becomes of those whose replica ended."""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, field

_TRIES = 3
"""An item is lost when so many replicas have ended on it. Of the replicas that ended while it had others beside it, one counts."""


@dataclass(slots=True)
class Chunk:
    """Places of items, and how many replicas ended on them."""

    places: list[int]
    ends: int = 0
    done: set[int] = field(default_factory=set)

    @property
    def open(self) -> list[int]:
        return [place for place in self.places if place not in self.done]


class Chunks:
    """Hands out all items once, in their order, and those of a replica that ended again.

    A chunk on which two replicas ended is halved, so that an item that ends every replica is isolated and takes no others with it.
    """

    def __init__(self, count: int, largest: int, smallest: int, replicas: int) -> None:
        """``largest`` and ``smallest``: items of a chunk. Towards the end chunks get smaller, so that all replicas end at about the same time."""
        self._next, self._count = 0, count
        self._largest, self._smallest, self._replicas = largest, smallest, replicas
        self._again: deque[Chunk] = deque()

    def take(self, before: int | None = None) -> Chunk | None:
        """The next chunk; None where nothing is left, or where the next item is not ``before`` this place."""
        if self._again:
            return self._again.popleft()
        left = self._count - self._next
        if left <= 0 or (before is not None and self._next >= before):
            return None
        size = min(left, self._largest, max(self._smallest, left // (2 * self._replicas)))
        begin, self._next = self._next, self._next + size
        return Chunk(list(range(begin, begin + size)))

    def give_back(self, chunk: Chunk) -> Sequence[int]:
        """Take back what a replica that ended left open. Returns the places that count as lost."""
        left, ends = chunk.open, chunk.ends + 1
        if not left:
            return ()
        if len(left) == 1 and ends >= _TRIES:
            return left
        half = -(-len(left) // 2) if ends >= _TRIES - 1 else len(left)
        # In front, so that their order stays as near as it can be.
        parts = [part for part in (left[:half], left[half:]) if part]
        # An item that is alone now gets two more tries: the others of its chunk may have been the reason.
        self._again.extendleft(Chunk(part, 1 if len(part) == 1 < len(left) else ends) for part in reversed(parts))
        return ()
