"""Judges a student: collects the evidence, gets a level from the ledger, decides, and records the look before the decision is published."""

from __future__ import annotations

import dataclasses
import datetime as dt
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from redistill.errors import RedistillError
from redistill.evaluation.timing import timing_to_json
from redistill.io.digests import canonical_digest
from redistill.io.json import read_json
from redistill.params import Params
from redistill.promotion.alpha_spending import earlier_look, entry_digest, next_look, spendable
from redistill.promotion.cascade import Cascade
from redistill.promotion.decide import decide
from redistill.promotion.evidence import Evidence
from redistill.promotion.hold_plan import patch
from redistill.promotion.params import PromoteParams
from redistill.promotion.system import System
from redistill.promotion.types import Gate, Look, PromotionDecision
from tasks.paths import ARTIFACTS
from tasks.promotion.evidence import audit_of_arm, audit_on_record, gathered, load_benchmark, measured_version
from tasks.promotion.live_system import arm_calibration, judged_cascade, live_cascade, system
from tasks.registry import look_ledger, transitions
from tasks.registry.client import RegistryClient
from tasks.registry.evidence_bundle import verified, weights_of
from tasks.registry.history import Event


@dataclass(frozen=True, slots=True)
class Judgement:
    """A decision and its evidence. ``cascade`` is the system that was judged besides the student alone, if the student has one.

    ``is_champion``: the system is live already, so judging it again promotes nothing.
    """

    decision: PromotionDecision
    evidence: Evidence
    cascade: System | None
    question: str
    looks: tuple[Look, ...]
    repeated: bool
    is_champion: bool = False
    arm: str | None = None
    """The arm of this cycle that was judged; None for a registered version."""

    @property
    def judged(self) -> Evidence:
        """The evidence about the system that the decision's gates are about."""
        if self.cascade is None or self.decision.mode == "student":
            return self.evidence
        return of_cascade(self.evidence, self.cascade)

    @property
    def gates_of_student(self) -> tuple[Gate, ...]:
        """The gates of the student alone, where it was judged after a cascade."""
        return next((step.gates for step in self.decision.steps[1:] if step.mode == "student" != self.decision.mode), ())

    @property
    def promoted_cascade(self) -> Cascade | None:
        """The cascade that goes live if the decision promotes; None if that is the student alone."""
        return self.cascade.cascade if self.cascade is not None and self.decision.mode == "cascade" else None


def judge(client: RegistryClient, params: Params, evidence: Evidence, cascade: System | None = None) -> Judgement:
    """Judge a student, and the cascade that it is part of if there is one. Decide at the level that this held-out set still allows. The same question again is not a new look and gets the same level.

    Raises:
        DataError: evidence that cannot be compared.
        RegistryError: the ledger is broken or out of reach; then nothing was decided.
    """
    with transitions.registry_lock():
        return _judge(client, params, evidence, cascade)


def _judge(client: RegistryClient, params: Params, evidence: Evidence, cascade: System | None) -> Judgement:
    promote = params.promote
    heldout = evidence.rows
    looks = look_ledger.read(client, params, heldout)
    whole = None if cascade is None else of_cascade(evidence, cascade)
    key = _question(promote, evidence, whole)

    def judged(level: float, looks_gate: Gate | None, ledger: Sequence[Look], *, repeated: bool) -> Judgement:
        return Judgement(decide(evidence, promote, level, looks_gate, whole), evidence, cascade, key, tuple(ledger), repeated)

    live = next((system for system in (evidence, whole) if system is not None and system.is_champion), None)
    if live is not None:
        # Nothing but what is live is judged: at this level, no other system may be promoted.
        shown = cascade if live is whole else None
        return Judgement(decide(live, promote, promote.alpha_per_heldout), evidence, shown, key, tuple(looks), True, is_champion=True)
    if (old := earlier_look(looks, key)) is not None:
        return judged(old.level, _looks_gate(params, old, len(looks)), looks, repeated=True)
    _, level = spendable(looks, promote)
    if level == 0.0:
        return judged(0.0, _used_up(params, looks), looks, repeated=False)
    new = next_look(
        looks,
        promote,
        heldout=heldout,
        key=key,
        candidate=evidence.student[0].model_digest,
        shown=False,
        verdict="hold",
        at=dt.datetime.now(dt.UTC).isoformat(timespec="seconds"),
        by=transitions.current_user(),
    )
    judgement = judged(level, _looks_gate(params, new, len(looks) + 1), looks, repeated=False)
    new = dataclasses.replace(new, shown=judgement.decision.shown, verdict=judgement.decision.verdict)
    look_ledger.append(client, params, new)
    return dataclasses.replace(judgement, looks=(*looks, new))


def of_cascade(evidence: Evidence, cascade: System) -> Evidence:
    """The evidence about a cascade: the outcomes of the whole system in the place of the student's."""
    return dataclasses.replace(evidence, student=cascade.measured, answered=cascade.answered)


def _question(promote: PromoteParams, evidence: Evidence, cascade: Evidence | None) -> str:
    """Both systems are judged in one look. Without a cascade the question is the one that it was before there were cascades."""
    alone = evidence.question(promote)
    return alone if cascade is None else canonical_digest([alone, cascade.question(promote), promote.min_share])


def judge_arm(client: RegistryClient, params: Params, events: Sequence[Event]) -> Judgement:
    """Judge the candidate that this cycle has trained, benchmarked and calibrated. ``events``: the history up to now."""
    arm = params.promote.arm
    measured = ARTIFACTS / "benchmark" / arm
    student = load_benchmark(measured)
    evidence = gathered(client, params, events, student, audit_of_arm(params, arm), lambda: ARTIFACTS / "students" / arm)
    calibration = arm_calibration(arm, student[0].model_digest)
    cascade = _cascade(params, evidence, None if calibration is None else calibration.cascade, measured)
    return dataclasses.replace(judge(client, params, evidence, cascade), arm=arm)


def judge_version(client: RegistryClient, params: Params, version: str) -> Judgement:
    """Judge any registered version, from this project or not. What was not measured before is measured now."""
    measured, events = measured_version(client, params, version), transitions.history(client, params)
    student = load_benchmark(measured)
    here = ARTIFACTS / "benchmark" / params.promote.arm / "report.json"
    from_this_cycle = here.is_file() and read_json(here)["model_digest"] == student[0].model_digest
    audited = (
        audit_of_arm(params, params.promote.arm) if from_this_cycle else audit_on_record(client, params, version, student[0].heldout_digest)
    )
    evidence = gathered(client, params, events, student, audited, lambda: weights_of(client, params, version))
    if transitions.live(client, params).champion == version:
        cascade = live_cascade(events, version)
    else:
        calibration = arm_calibration(params.promote.arm, student[0].model_digest)
        cascade = _cascade_on_record(client, params, version) if calibration is None else calibration.cascade
    return judge(client, params, evidence, _cascade(params, evidence, cascade, measured))


def _cascade(params: Params, evidence: Evidence, cascade: Cascade | None, measured: Path) -> System | None:
    """The cascade on the held-out rows; None for a student without one, or whose responses have no confidence."""
    if cascade is None or not any(outcome.confidences for outcome in evidence.student[1]):
        return None
    return system(params, evidence.student, evidence.teacher, cascade, (measured, ARTIFACTS / "benchmark" / "teacher"))


def _cascade_on_record(client: RegistryClient, params: Params, version: str) -> Cascade | None:
    """The cascade in a version's newest bundle, if that verifies."""
    try:
        return judged_cascade(read_json(verified(client, params, version, newest=True) / "judgement.json"))
    except RedistillError:
        return None


def summary(judgement: Judgement) -> dict[str, Any]:
    """The part of a judgement that bundle and report store."""
    evidence = judgement.evidence
    return {
        "models": {
            role: measured[0].model_digest
            for role in ("student", "teacher", "champion", "reference")
            if (measured := getattr(evidence, role)) is not None
        },
        "decision": dataclasses.asdict(judgement.decision),
        "arm": judgement.arm,
        "cascade": judgement.cascade and dataclasses.asdict(judgement.cascade.cascade),
        "answered": judgement.cascade and judgement.cascade.answered,
        "rows": len(evidence.student[1]),
        "question": judgement.question,
        "is_champion": judgement.is_champion,
        "heldout": evidence.student[0].heldout_digest,
        "judged_by": transitions.current_user(),
        "audit": evidence.audit and dataclasses.asdict(evidence.audit),
        "timing": evidence.timing and timing_to_json(evidence.timing),
        "looks": [{**dataclasses.asdict(look), "digest": entry_digest(look)} for look in judgement.looks],
        "repeated": judgement.repeated,
        "patch": patch(evidence, judgement.decision, evidence.audit.rows if evidence.audit else 0)
        if judgement.decision.verdict == "hold"
        else None,
    }


def _looks_gate(params: Params, look: Look, look_count: int) -> Gate:
    planned = params.promote.looks_per_heldout
    sentence = (
        f"look {look.number} of {planned} at this held-out set, at level {look.level:.2g} of {params.promote.alpha_per_heldout:g} over all"
        f"{'' if look_count == look.number else f' (the same question as before; {look_count} looks so far)'}"
    )
    return Gate("looks", "pass", look.number, planned, "looks", sentence)


def _used_up(params: Params, looks: Sequence[Look]) -> Gate:
    sentence = (
        f"this held-out set is used up: after {len(looks)} looks, all of promote.alpha_per_heldout={params.promote.alpha_per_heldout:g} is spent; "
        "replace the held-out set: label new prompts and use them instead"
    )
    return Gate("looks", "hold", len(looks), params.promote.looks_per_heldout, "looks", sentence)
