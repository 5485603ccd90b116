"""A decision about a candidate with its evidence, and what of it people may know."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import Any

from redistill.evaluation.timing import timing_to_json
from redistill.promotion.alpha_spending import entry_digest
from redistill.promotion.cascade import Cascade
from redistill.promotion.evidence import Evidence
from redistill.promotion.hold_plan import patch
from redistill.promotion.system import System
from redistill.promotion.types import Gate, Look, PromotionDecision
from redistill.runtime.identity import current_user


@dataclass(frozen=True, slots=True)
class Judgement:
    """A decision and its evidence. ``cascade`` is the system that was judged besides the student alone, if the student has one.

    ``decision`` is what people may know. If held-out rows are sealed, ``on_monitor`` is the same question on the rows that people look at, and
    ``sealed`` has the numbers that decided. ``is_champion``: the system is live already, so judging it again promotes nothing.
    """

    decision: PromotionDecision
    evidence: Evidence
    cascade: System | None
    question: str
    looks: tuple[Look, ...]
    repeated: bool
    is_champion: bool = False
    on_monitor: PromotionDecision | None = None
    sealed: PromotionDecision | None = None
    arm: str | None = None
    """The arm of this cycle that was judged; None for a registered version."""

    @property
    def detailed(self) -> PromotionDecision:
        """The decision with numbers that people may see: that on monitor rows where held-out rows are sealed."""
        return self.on_monitor or self.decision

    @property
    def judged(self) -> Evidence:
        """What people may see of the evidence about the system that ``detailed`` is about."""
        if self.cascade is None or self.detailed.mode == "student":
            return self.evidence.public
        return of_cascade(self.evidence, self.cascade).public

    @property
    def gates_of_student(self) -> tuple[Gate, ...]:
        """The gates of the student alone, where it was judged after a cascade."""
        return next((step.gates for step in self.decision.steps[1:] if step.mode == "student" != self.decision.mode), ())

    @property
    def promoted_cascade(self) -> Cascade | None:
        """The cascade that goes live if the decision promotes; None if that is the student alone."""
        return self.cascade.cascade if self.cascade is not None and self.decision.mode == "cascade" else None


def of_cascade(evidence: Evidence, cascade: System) -> Evidence:
    """The evidence about a cascade: the outcomes of the whole system in the place of the student's."""
    monitor = None if evidence.on_monitor is None or cascade.on_monitor is None else of_cascade(evidence.on_monitor, cascade.on_monitor)
    return dataclasses.replace(evidence, student=cascade.measured, answered=cascade.answered, on_monitor=monitor)


def summary(judgement: Judgement) -> dict[str, Any]:
    """The part of a judgement that bundle and report store: nothing that was measured on sealed rows."""
    evidence = judgement.evidence
    cascade = judgement.cascade and judgement.cascade.public
    return {
        "models": {
            role: measured[0].model_digest
            for role in ("student", "teacher", "champion", "reference")
            if (measured := getattr(evidence, role)) is not None
        },
        "decision": dataclasses.asdict(judgement.decision),
        "on_monitor": judgement.on_monitor and dataclasses.asdict(judgement.on_monitor),
        "arm": judgement.arm,
        "cascade": cascade and dataclasses.asdict(cascade.cascade),
        "answered": cascade and cascade.answered,
        "rows": len(evidence.public.student[1]),
        "heldout_rows": len(evidence.student[1]),
        "question": judgement.question,
        "is_champion": judgement.is_champion,
        "heldout": evidence.student[0].heldout_digest,
        "judged_by": current_user(),
        "audit": evidence.audit and dataclasses.asdict(evidence.audit),
        "timing": evidence.timing and timing_to_json(evidence.timing),
        "looks": [{**dataclasses.asdict(look), "digest": entry_digest(look)} for look in judgement.looks],
        "repeated": judgement.repeated,
        "patch": _plan(judgement) if judgement.decision.verdict == "hold" else None,
    }


def _plan(judgement: Judgement) -> dict[str, Any]:
    """The plan after a hold, from the rows that people look at."""
    audit = judgement.evidence.audit
    sealed = None if judgement.on_monitor is None else judgement.decision
    return patch(judgement.evidence.public, judgement.detailed, audit.rows if audit else 0, sealed)


def sealed_numbers(judgement: Judgement) -> dict[str, Any] | None:
    """The decision with its numbers, for a sealed file; None if people may know them."""
    return None if judgement.sealed is None else dataclasses.asdict(judgement.sealed)
