"""Whether a row may go on, and what is stored of one that may not."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Keep:
    pass


@dataclass(frozen=True, slots=True)
class Drop:
    """A row that may not go on, and why. ``reason`` is one short phrase; counts are made over it."""

    filter: str
    reason: str


@dataclass(frozen=True, slots=True)
class DroppedRow:
    """What is kept of a dropped row: never its raw text."""

    prompt_id: str
    source_id: str
    stage: str
    filter: str
    reason: str
    redacted: str
    slice: str
    planted: str | None = None
