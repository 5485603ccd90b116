"""A request of the task whose caller has the response, and who wants to know of it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Protocol

from redistill.data.types import Prompt
from redistill.serving.router.decision import Decision
from redistill.serving.router.types import Side


@dataclass(frozen=True, slots=True)
class Finished:
    """``version`` is the student's version that was live; ``completions`` are those that were asked for, used or not."""

    prompt: Prompt
    decision: Decision
    version: str
    completions: Mapping[Side, str]


class Traffic(Protocol):
    """What keeps the traffic. It runs on the event loop, so neither call may wait or raise."""

    @property
    def written(self) -> int:
        """Requests in files."""

    @property
    def lost(self) -> int:
        """Requests that could not be kept."""

    @property
    def waiting(self) -> int:
        """Requests that are in the memory of this process; they are lost if it is killed."""

    def finished(self, finished: Finished, *, asks_beside: bool) -> None:
        """A request has its response. ``asks_beside``: ``beside`` will be called for it, once."""

    def beside(self, request_id: str, side: Side, completion: str | None) -> None:
        """The other model's completion came after the response; None if it gave none."""
