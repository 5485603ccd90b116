"""Gates, looks at a held-out set, and the decision."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from redistill.evaluation.types import Metric
from redistill.statistics.types import Interval

Verdict = Literal["promote", "hold"]


Mode = Literal["student", "cascade"]
"""What is judged: a student alone, or a student with its teacher behind it."""


GateResult = Literal["pass", "hold", "fail", "sealed"]
"""``sealed``: the gate was judged on sealed held-out rows, and its result is kept from people."""


GateUnit = Literal["points", "share", "ratio", "rows", "looks"]
"""``points``: a difference of two shares, as a share; ``share``: of rows; ``ratio``: student ÷ teacher; the others are counts."""


@dataclass(frozen=True, slots=True)
class Gate:
    """One condition of a promotion, with the evidence it was judged on.

    ``pass``: the condition is shown. ``fail``: the opposite is shown (the whole interval is on the wrong side of the limit). ``hold``: neither is shown,
    so evidence is missing. Value, limit and interval have the same unit. A statistical gate passes exactly if its whole interval is on
    the right side of the limit. ``confidence`` is that interval's two-sided coverage, ``more_rows`` the number of rows that would turn a hold into a pass.
    """

    name: str
    result: GateResult
    value: float | None
    limit: float
    unit: GateUnit
    sentence: str
    interval: Interval | None = None
    confidence: float | None = None
    p_value: float | None = None
    more_rows: int = 0
    rows: int | None = None
    """The labelled rows that the gate was judged on; None if it is about other things."""

    @property
    def passed(self) -> bool:
        return self.result == "pass"


@dataclass(frozen=True, slots=True)
class Audit:
    """Result of the audit of the rows that trained a student: how many have which problem."""

    rows: int
    heldout_rows: int
    quotes_heldout: int
    personal_data: int
    secrets: int
    planted: int
    rows_digest: str


Finding = Literal["holds", "hold", "worse", "inferior"]
"""What rows show of a champion in its re-test; ``worse``: a loss, but not one of the margin."""


@dataclass(frozen=True, slots=True)
class Look:
    """One use of one held-out set: an entry of its ledger. ``previous`` is the digest of the entry before; see ``redistill.promotion.alpha_spending``.

    ``level`` is the level of the decision, ``left`` the part of alpha that remains after it; entries of earlier versions have no ``left``.
    """

    heldout: str
    number: int
    key: str
    candidate: str
    spent: float
    level: float
    shown: bool
    verdict: Verdict
    at: str
    by: str
    previous: str
    left: float | None = None
    kind: Literal["decision", "retest", "retired"] = "decision"
    question: str = ""
    """Digest of what was asked without the rows: the same system, or the same re-test, with more rows asks the same."""
    n: int = 0
    """Number of held-out rows."""
    ids: str = ""
    """Digest of the prompt ids of the rows."""
    had: float | None = None
    """What was left of alpha before it."""
    result: str = ""
    """What people learned of a decision: what was promoted, or what held it."""
    finding: Finding | None = None
    """What they learned of a re-test."""
    implied_retest: str = ""
    """Of a promotion: the re-test that passes because of it."""
    pins: str = ""
    """Of the first signed entry: a digest of the entries before it, which have no signature."""


@dataclass(frozen=True, slots=True)
class Step:
    """One system of a decision with its own gates. Systems are judged in a fixed order, at one level: see ``redistill.promotion.decide``."""

    mode: Mode
    verdict: Verdict
    shown: bool
    """Whether all of its statistical gates passed."""
    gates: tuple[Gate, ...]


@dataclass(frozen=True, slots=True)
class PromotionDecision:
    """The verdict, and the gates of the system in ``mode``: the one that is promoted, or on hold the one that came nearest."""

    verdict: Verdict
    reasons: tuple[str, ...]
    gates: tuple[Gate, ...]
    more_rows: int
    linear_suffices: bool
    level: float
    smallest_loss: float
    """The smallest loss of the metric, as a share, that these rows can rule out at this level with the power ``promote.power``."""
    metric: Metric = "exact_match"
    mode: Mode = "student"
    steps: tuple[Step, ...] = ()
    """Every system that was judged, in order."""
