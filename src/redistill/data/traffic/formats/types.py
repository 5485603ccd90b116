"""What a reader of traces makes of each record of a file."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

from redistill.data.types import Message


@dataclass(frozen=True, slots=True)
class Trace:
    """A request of production. ``key`` is its own id in the file, empty where it has none; ``at`` its time in seconds since 1970, 0 where it is not known.

    ``values`` is what else the record says, by key: a slice can be read from it. No completion is kept: whatever model wrote it, it is no target.
    """

    key: str
    at: float
    messages: tuple[Message, ...]
    values: dict[str, Any]


@dataclass(frozen=True, slots=True)
class Skipped:
    """A record that cannot be a prompt. Records are counted by ``reason``, which holds no value of the record."""

    reason: str


@dataclass(frozen=True, slots=True)
class Broken:
    """A record that is not what the format says."""

    reason: str


class NotAPromptError(Exception):
    """Within a reader: the record is ``Skipped`` with this reason."""


class BrokenError(Exception):
    """Within a reader: the record is ``Broken`` with this reason."""


Read = Callable[[Any], Iterator[Trace | Skipped | Broken]]
"""A reader: the traces in one JSON value of a file, which may hold several."""


def attempted(read: Callable[[], Trace]) -> Trace | Skipped | Broken:
    """The trace, or why there is none."""
    try:
        return read()
    except NotAPromptError as error:
        return Skipped(str(error))
    except BrokenError as error:
        return Broken(str(error))
