"""The last steps of a cycle: decide about the new version, and set what is live."""

from __future__ import annotations

from typing import Any

from redistill.operations.types import StageReceipt
from redistill.params import Params
from redistill.promotion.fitness import Fitness
from redistill.promotion.system import System
from redistill.serving.types import Route
from tasks import steps
from tasks.promotion import approve, route, settled
from tasks.promotion.judgement import sealed_numbers, summary
from tasks.promotion.retest_champion import ChampionCheck
from tasks.promotion.teacher_trial import TeacherTrial
from tasks.registry import evidence_bundle
from tasks.registry.history import History


def ended_by_teacher(
    params: Params, trial: TeacherTrial | None, fitness: Fitness | None, live: ChampionCheck | None
) -> dict[str, Any] | None:
    """The outcome of a cycle that ends before it asks its teacher for training data: a new teacher was refused, or is unfit; None if it goes on."""
    if trial is not None and not trial.accepted:
        return teacher_refused(trial, live)
    if fitness is not None and not fitness.fit and params.promote.on_unfit_teacher == "stop":
        return teacher_unfit(fitness, live)
    return None


def teacher_refused(trial: TeacherTrial, live: ChampionCheck | None) -> dict[str, Any]:
    """The outcome of a cycle that ends because the new teacher is not accepted; nothing that is live has changed."""
    return {
        "verdict": "hold",
        "reasons": [trial.sentence],
        "blocked": None,
        "model_version": None if live is None else live.version,
        "route": route.current().answers,
        "student_share": _share(route.current(), live, None),
        "sentence": f"teacher refused: {trial.sentence}",
        "gates": [],
    }


def teacher_unfit(fitness: Fitness, live: ChampionCheck | None) -> dict[str, Any]:
    """The outcome of a cycle that ends because a system as good as its teacher could not pass the gates; nothing that is live has changed."""
    now = route.current()
    return {
        "verdict": "hold",
        "reasons": [c.sentence for c in fitness.checks if c.reachable is False],
        "blocked": None,
        "model_version": None if live is None else live.version,
        "route": now.answers,
        "student_share": _share(now, live, None),
        "sentence": f"teacher unfit, so nothing was generated or trained (promote.on_unfit_teacher): {fitness.sentence}",
        "unfit": [c.name for c in fitness.checks if c.reachable is False],
        "gates": [
            {"name": c.name, "result": {True: "pass", False: "fail", None: "note"}[c.reachable], "sentence": c.sentence}
            for c in fitness.checks
        ],
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
    judgement = steps.decide_promotion(params, history)
    decision = judgement.decision
    passed = decision.verdict == "promote"
    cascade = judgement.promoted_cascade
    blocked_reason = approve.blocked_by(params, version, passed, history, cascade)
    planned = route.planned(decision, version, cascade, live, blocked_reason)
    judged = summary(judgement)
    nothing_new = settled.is_settled(params, version, judged, planned, blocked_reason, receipts, history)
    if not nothing_new:
        steps.write_report(params, cycle_name, version, decision, planned, receipts, judged, history)
        if not evidence_bundle.is_current(params, version, judged):
            steps.attach_evidence(params, run_id, version, judged, sealed_numbers(judgement))
    if nothing_new:
        final = planned
    elif passed and judgement.is_champion and blocked_reason is None:
        # It is live already, and its bundle is that of its promotion: only its traffic may have to come back.
        final = steps.set_route(params, planned, live)
    elif passed and blocked_reason is None:
        final = steps.promote(params, version, f"passed all {len(decision.gates)} gates", judgement.question).route
    else:
        final = steps.set_route(params, planned, live)
        steps.hold(params, version, blocked_reason or decision.reasons[0], final)
    return {
        "verdict": decision.verdict,
        "reasons": list(decision.reasons),
        "blocked": blocked_reason,
        "model_version": version,
        "route": final.answers,
        "student_share": _share(final, live, judgement.cascade),
        "sentence": settled.sentence(decision, version, blocked_reason, nothing_new, _share_of(judgement.cascade) if cascade else None),
        "mode": decision.mode,
        "report": "artifacts/report/index.html",
        "gates": [{"name": g.name, "result": g.result, "sentence": g.sentence} for g in decision.gates],
        "on_monitor": judgement.on_monitor
        and {
            "verdict": judgement.on_monitor.verdict,
            "rows": len(judgement.evidence.public.student[1]),
            "gates": [{"name": g.name, "result": g.result, "sentence": g.sentence} for g in judgement.on_monitor.gates],
        },
        "alone": [{"name": g.name, "result": g.result, "sentence": g.sentence} for g in judgement.gates_of_student],
    }


def _share_of(cascade: System | None) -> float | None:
    return None if cascade is None else cascade.public.answered / cascade.public.rows


def _share(now: Route, live: ChampionCheck | None, cascade: System | None) -> float | None:
    """Share of the requests that the student answers on this route; None if that was not measured tonight."""
    if now.answers != "cascade":
        return float(now.answers == "student")
    if cascade is not None and cascade.cascade == now.cascade:
        return _share_of(cascade)
    return live.answered if live is not None and live.cascade == now.cascade else None
