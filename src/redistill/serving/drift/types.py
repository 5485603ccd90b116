"""What the monitor compares, and what it says."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

from redistill.statistics.types import Interval

Verdict = Literal["calm", "warn", "act"]
MeasureName = Literal["prompts", "length", "language", "slices", "labels", "scores", "disagreement", "deferred", "failed"]


@dataclass(frozen=True, slots=True)
class Reference:
    """The rows that models are judged on. ``labels`` and ``scores`` are those of the student that is live; ``gap`` says why there are none.

    ``deferred`` and ``failed`` are counts of these rows by the cascade's rule, out of as many rows as there are ``labels``; None where nothing is deferred.
    """

    texts: tuple[str, ...]
    slices: tuple[str, ...]
    labels: tuple[str, ...] = ()
    scores: tuple[float, ...] = ()
    deferred: int | None = None
    failed: int = 0
    gap: str = ""


@dataclass(frozen=True, slots=True)
class Live:
    """One window of live traffic, from ``begin`` to ``end`` (seconds since 1970).

    ``texts`` and ``labels`` are from the traffic log; ``text_gap`` says why there are none. ``asked`` counts requests that went to the student first, ``deferred`` and
    ``failed`` those of them that it did not answer. ``compared`` is the disagreement of the system with its teacher for each sampled request of the window, and
    ``compared_p`` the p-value, valid at any time, for "more than was promised" over all windows of this student. ``answered`` counts all requests by who answered.
    """

    begin: float
    end: float
    requests: int
    texts: tuple[str, ...] = ()
    labels: tuple[str, ...] = ()
    text_gap: str = ""
    slices: tuple[str, ...] = ()
    scores: tuple[float, ...] = ()
    asked: int = 0
    deferred: int = 0
    failed: int = 0
    compared: tuple[float, ...] = ()
    compared_p: float = 1.0
    answered: dict[str, int] = field(default_factory=dict)
    reasons: dict[str, int] = field(default_factory=dict)
    notes: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Measure:
    """One comparison. ``by_chance`` is the 95 % range of ``value`` without drift; ``interval`` is that of the true value, where it is a share.

    ``excess`` is how far the value is from what no drift gives, and ``limit`` the excess beyond which the monitor acts. ``raised`` says that ``p_value``, corrected
    for the other measures of the window, is below the level; ``large`` that the excess is beyond the limit too. A measure that judges nothing says why in ``unjudged``.
    """

    name: MeasureName
    rows: int
    reference_rows: int
    limit: float
    value: float | None = None
    by_chance: Interval | None = None
    interval: Interval | None = None
    excess: float = 0.0
    p_value: float | None = None
    raised: bool = False
    large: bool = False
    unjudged: str = ""


@dataclass(frozen=True, slots=True)
class Window:
    """A window that was judged. ``at_risk`` says that a measure beyond its limit is about quality, and comparisons do not show that the promise is kept."""

    begin: float
    end: float
    requests: int
    measures: tuple[Measure, ...]
    at_risk: bool
    answered: dict[str, int]
    verdict: Verdict = "calm"

    @property
    def judged(self) -> set[str]:
        """Names of the measures that judged something."""
        return {m.name for m in self.measures if not m.unjudged}

    @property
    def raised(self) -> set[str]:
        return {m.name for m in self.measures if m.raised}

    @property
    def large(self) -> set[str]:
        return {m.name for m in self.measures if m.large}
