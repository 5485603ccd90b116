"""Intervals and scores."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Interval:
    low: float
    high: float


@dataclass(frozen=True, slots=True)
class Score:
    """A share in [0, 1], or a ratio of two, with its 95 % interval."""

    value: float
    interval: Interval
