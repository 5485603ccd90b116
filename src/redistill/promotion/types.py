"""Gates, looks at a held-out set, and the decision that they lead to."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from redistill.evaluation.types import Metric
from redistill.statistics.types import Interval

Verdict = Literal["promote", "hold"]


GateResult = Literal["pass", "hold", "fail"]


GateUnit = Literal["points", "share", "ratio", "rows", "looks"]
"""``points``: a difference of two shares, as a share; ``share``: of rows; ``ratio``: student ÷ teacher; the others are counts."""


@dataclass(frozen=True, slots=True)
class Gate:
    """One condition of a promotion, with the evidence it was judged on.

    ``pass`` is shown, ``fail`` is shown to be otherwise (the whole interval lies on the wrong side of the limit), ``hold`` is neither: what is missing
    is evidence. Value, limit and interval are
    in one unit; for a statistical gate the interval is the one that decides, so it passes exactly when the whole interval lies on
    the right side of the limit. ``confidence`` is that interval's two-sided coverage, ``more_rows`` what would turn a hold into a pass.
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

    @property
    def passed(self) -> bool:
        return self.result == "pass"


@dataclass(frozen=True, slots=True)
class Audit:
    """What was found in the very rows that trained a student: how many of them offend, and how."""

    rows: int
    heldout_rows: int
    quotes_heldout: int
    personal_data: int
    secrets: int
    planted: int
    rows_digest: str


@dataclass(frozen=True, slots=True)
class Look:
    """One decision on one held-out set: an entry of its ledger. ``previous`` is the digest of the entry before; see ``redistill.promotion.alpha_spending``.

    ``spent`` is this look's own share of alpha, ``level`` that and what the look before handed on; ``shown`` tells whether the
    statistical gates passed at it.
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


@dataclass(frozen=True, slots=True)
class PromotionDecision:
    verdict: Verdict
    reasons: tuple[str, ...]
    gates: tuple[Gate, ...]
    more_rows: int
    linear_suffices: bool
    level: float
    smallest_loss: float
    """The smallest loss of the metric, as a share, that these rows can rule out at this level with the wanted power."""
    metric: Metric = "exact_match"
