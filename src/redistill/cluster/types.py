"""What is run on a cluster, and what comes back."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Protocol, TypeVar

Item = TypeVar("Item", contravariant=True)
Result = TypeVar("Result", covariant=True)


class Worker(Protocol[Item, Result]):
    """Does the work of one replica. It is made inside the replica's process, where its weights and its engine stay."""

    def work(self, items: Sequence[Item]) -> Iterator[tuple[int, Result]]:
        """Yield the result of each item with its place in ``items``, in any order."""
        ...


@dataclass(frozen=True, slots=True)
class Lost:
    """In place of a result: every replica that worked on this item ended. ``reason`` is what was heard of the last one."""

    reason: str


@dataclass(frozen=True, slots=True)
class ReplicaFacts:
    """What a replica reports when it is ready: its node's address, and the code that it runs."""

    node: str
    code: str
