"""A random part of a stream, so that a busy window takes no more memory than a quiet one."""

from __future__ import annotations

import random
from typing import Generic, TypeVar

_T = TypeVar("_T")


class Sample(Generic[_T]):
    """At most ``most`` of the values that are added, each with the same chance (Vitter 1985, algorithm R). ``seen`` counts all of them."""

    def __init__(self, most: int, seed: int = 7) -> None:
        self._most, self._random = most, random.Random(seed)
        self._values: list[_T] = []
        self.seen = 0

    def add(self, value: _T) -> None:
        self.seen += 1
        if len(self._values) < self._most:
            self._values.append(value)
        elif (place := self._random.randrange(self.seen)) < self._most:
            self._values[place] = value

    @property
    def values(self) -> tuple[_T, ...]:
        return tuple(self._values)
