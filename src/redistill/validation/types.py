"""What filters judge, their verdicts, and what is stored of a row that was dropped."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Candidate:
    """A text that is judged: a request, or a completion with the request that it completes.

    ``prompt`` is the request's text, empty where the request itself is judged. ``mean_logprob`` is the mean log-probability of a completion's tokens in
    nats, None where it is not known. ``text`` and ``prompt`` are in normal form; ``written`` is a completion as it was written, for judges that need its exact
    characters.
    """

    text: str
    prompt: str = ""
    finish_reason: str = ""
    mean_logprob: float | None = None
    written: str = ""


@dataclass(frozen=True, slots=True)
class Keep:
    pass


@dataclass(frozen=True, slots=True)
class Drop:
    """A row that is dropped, and why. ``reason`` is one short phrase; rows are counted by it."""

    filter: str
    reason: str


Filter = Callable[[Candidate], Keep | Drop]
"""One judgement. A filter without settings is the function ``judge`` of its file; one with settings is the method ``judge`` of a class made with them."""


def first_objection(filters: Iterable[Filter], candidate: Candidate) -> Keep | Drop:
    """The first filter that drops the candidate decides; the others do not run."""
    return next((verdict for judge in filters if isinstance(verdict := judge(candidate), Drop)), Keep())


def first_drop(verdicts: Iterable[Keep | Drop]) -> Drop | None:
    """The first verdict that drops; None if all keep."""
    return next((verdict for verdict in verdicts if isinstance(verdict, Drop)), None)


@dataclass(frozen=True, slots=True)
class DroppedRow:
    """What is stored of a dropped row: never its raw text."""

    prompt_id: str
    source_id: str
    stage: str
    filter: str
    reason: str
    redacted: str
    slice: str
    planted: str | None = None
