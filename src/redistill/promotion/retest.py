"""The nightly re-test: may the live champion keep its traffic?

Each night it is compared with today's teacher on today's held-out rows. Three results are possible, and only the last takes traffic away:

- *holds*: a loss of the margin or more is ruled out.
- *hold*: neither is shown. A new held-out set that is too small to confirm an equal champion is no evidence against it, so the champion keeps its traffic.
- *inferior*: a loss of more than the margin is shown, or the champion has been on hold for ``promote.hold_nights`` nights and is shown to be worse than
  the teacher, by any amount.

Nights on hold are not enough by themselves. The same rows give the same result every night, so more nights are not more evidence. If nights were
enough, every equal champion with a small held-out set would lose its traffic after some time. The test for "worse" has the level half of
``promote.alpha_per_heldout``. So an equal champion loses its traffic in at most about that share of held-out sets, however long each is used.

Once it has lost its traffic, a champion gets it back only where it *holds*.
"""

from __future__ import annotations

import datetime as dt
from dataclasses import dataclass, replace
from typing import Literal

from redistill.promotion.decide import holds
from redistill.promotion.evidence import BenchmarkResult
from redistill.promotion.params import PromoteParams
from redistill.promotion.types import Finding, Gate

Result = Literal["holds", "hold", "inferior"]
ONE_NIGHT = dt.timedelta(hours=12)
"""Tests that are closer in time count as one night, for example a killed cycle and its second run."""


@dataclass(frozen=True, slots=True)
class Retest:
    """The teacher's gate for a live champion. ``inferior``: a loss of more than the margin is shown; ``worse``: any loss is shown."""

    gate: Gate
    inferior: bool
    worse: bool

    @property
    def finding(self) -> Finding:
        """What people learn from this test, now or after some nights on hold."""
        if self.gate.passed:
            return "holds"
        return "inferior" if self.inferior else "worse" if self.worse else "hold"

    def after(self, nights: int, params: PromoteParams) -> Result:
        """The result when the champion is on hold for the ``nights``-th night, this one included."""
        if self.gate.passed:
            return "holds"
        return "inferior" if self.inferior or (self.worse and nights >= params.hold_nights) else "hold"


def retest(champion: BenchmarkResult, teacher: BenchmarkResult, params: PromoteParams) -> Retest:
    """Compare a live champion with the teacher.

    Raises:
        DataError: reports or outcomes are not about the same rows, prompts, template or backend, or hold a NaN.
    """
    half: PromoteParams = replace(params, alpha_per_heldout=params.alpha_per_heldout / 2)
    return compared(holds(champion, teacher, params), holds(champion, teacher, half))


def compared(gate: Gate, at_half: Gate) -> Retest:
    """What the gate's intervals show, at the whole of alpha and at half of it.

    Without an interval the comparison shows nothing, since the teacher itself cannot do the task (``promote.min_teacher``): that is a hold.
    """
    if gate.interval is None or at_half.interval is None:
        return Retest(gate, inferior=False, worse=False)
    return Retest(gate, inferior=gate.interval.high < gate.limit, worse=at_half.interval.high < 0)


@dataclass(frozen=True, slots=True)
class Hold:
    """For how many nights in a row a champion has been on hold, and when the last of them was counted (ISO 8601)."""

    version: str
    nights: int
    at: str


def next_night(hold: Hold | None, version: str, now: dt.datetime) -> Hold:
    """The count with tonight's test; a second test of the same night leaves it as it is."""
    if hold is None or hold.version != version:
        return Hold(version, 1, now.isoformat(timespec="seconds"))
    if now - dt.datetime.fromisoformat(hold.at) < ONE_NIGHT:
        return hold
    return Hold(version, hold.nights + 1, now.isoformat(timespec="seconds"))
