"""The last steps of a cycle: decide about the new version, and set what is live."""

from __future__ import annotations

from typing import Any

from redistill.operations.types import StageReceipt
from redistill.params import Params
from tasks import steps
from tasks.promotion import approve, judge, route, settled
from tasks.promotion.retest_champion import ChampionCheck
from tasks.promotion.teacher_trial import TeacherTrial
from tasks.registry import evidence_bundle
from tasks.registry.history import History


def teacher_refused(trial: TeacherTrial, live: ChampionCheck | None) -> dict[str, Any]:
    """The outcome of a cycle that ends because the new teacher is not accepted; nothing that is live has changed."""
    return {
        "verdict": "hold",
        "reasons": [trial.sentence],
        "blocked": None,
        "model_version": None if live is None else live.version,
        "route": route.current().answers,
        "sentence": f"teacher refused: {trial.sentence}",
        "gates": [],
    }


def promote_or_hold(
    params: Params,
    run_id: str,
    cycle_name: str,
    version: str,
    live: ChampionCheck | None,
    receipts: list[StageReceipt],
    history: History,
) -> dict[str, Any]:
    """Decide about the new version, write its report and evidence, and set what is live."""
    judgement = steps.decide_promotion(params)
    decision = judgement.decision
    passed = decision.verdict == "promote"
    blocked_reason = approve.blocked_by(params, version, passed, history)
    planned = route.planned(decision, version, live, blocked_reason)
    judged = judge.summary(judgement)
    nothing_new = settled.is_settled(params, version, judged, planned, blocked_reason, receipts, history)
    if not nothing_new:
        steps.write_report(params, cycle_name, version, decision, planned, receipts, judged, history)
        if not evidence_bundle.is_current(params, version, judged):
            steps.attach_evidence(params, run_id, version, judged)
    if nothing_new:
        final = planned
    elif passed and blocked_reason is None:
        final = steps.promote(params, version, f"passed all {len(decision.gates)} gates").route
    else:
        final = steps.set_route(params, planned, live)
        steps.hold(params, version, blocked_reason or decision.reasons[0], final)
    return {
        "verdict": decision.verdict,
        "reasons": list(decision.reasons),
        "blocked": blocked_reason,
        "model_version": version,
        "route": final.answers,
        "sentence": settled.sentence(decision, version, blocked_reason, nothing_new),
        "gates": [{"name": g.name, "result": g.result, "sentence": g.sentence} for g in decision.gates],
    }
