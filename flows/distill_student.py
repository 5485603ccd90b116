"""One cycle: the order of its steps. dvc.yaml says what each stage reads and writes."""

from __future__ import annotations

from typing import Any

from prefect import flow

from redistill.operations.types import StageReceipt
from redistill.operations.workspace import Workspace
from redistill.params import Params, load_params
from redistill.promotion.types import PromotionDecision
from tasks import steps
from tasks.locking import teacher_lock
from tasks.orchestration import run_names, turns
from tasks.paths import LOCK
from tasks.promotion import approve, judge, route, settled
from tasks.promotion.retest_champion import ChampionCheck
from tasks.registry import evidence_bundle
from tasks.registry.history import History
from tasks.reporting import publishing
from tasks.reporting.cycle_progress import CycleProgress
from tasks.running import dvc_stage
from tasks.running.cycle_stages import BEFORE_LOCK, DATA, TEACHER, after_data, every_stage
from tasks.running.fork_server import ForkServer
from tasks.running.side_by_side import run_side_by_side


@flow(name="distill-student", flow_run_name=run_names.at_start, log_prints=True)
def distill_student(reason: str = "by hand") -> Any:
    """Distil, judge, and promote or hold; returns the cycle's outcome.

    Args:
        reason: why it runs. It is part of the run's name and is recorded in MLflow.
    """
    params = load_params()
    workspace = Workspace.here(params.data.name)
    cycle_progress = CycleProgress(len(every_stage(params)), workspace)
    with turns.turn(params, workspace, reason, cycle_progress.say) as turn:
        if turn.declined is not None:
            cycle_progress.say(turn.declined)
            return run_names.ended(params.data.name, reason, turn.declined, {"declined": turn.declined}, turn.state)
        with ForkServer() as fork_server:
            outcome = cycle(params, turn.reason, cycle_progress, fork_server)
        publishing.wait_for_server(cycle_progress.say)
    turns.start_waiting(workspace)
    return run_names.ended(params.data.name, turn.reason, outcome["sentence"], outcome)


def cycle(params: Params, reason: str, cycle_progress: CycleProgress, fork_server: ForkServer) -> dict[str, Any]:
    """The cycle itself. Only one cycle runs in a project at a time."""
    steps.review_licences(params)
    steps.lock_sources(params)
    steps.lock_code()
    dvc_stage.initialise()
    plan, history = dvc_stage.Plan(), History()
    run_id, name = steps.open_run(params, reason, turns.present_run_id())
    receipts: list[StageReceipt] = []

    def run(stage: str) -> StageReceipt:
        receipt: StageReceipt = steps.run_stage(stage, plan, fork_server, cycle_progress.say, cycle_progress.progress)
        return receipt

    def done(receipt: StageReceipt) -> None:
        receipts.append(receipt)
        cycle_progress.done(receipt)

    def stages(names: tuple[str, ...]) -> None:
        for stage in names:
            done(run(stage))

    status, raw = "running", ""
    try:
        stages(BEFORE_LOCK)
        fingerprint, moved = steps.lock_teacher(params)
        if moved:
            plan.touched(str(LOCK))
        raw = teacher_lock.raw_fingerprint(params.teacher)
        stages(TEACHER)
        live = steps.retest_champion(params, history)
        if live is not None and not live.trusted:
            steps.fall_back_to_teacher(params, live)
        stages(DATA)
        run_side_by_side(after_data(params), run, done, cycle_progress.say, fork_server.stop)
        steps.log_training(params, run_id)
        version = steps.register(params, run_id, name, fingerprint)
        decision, outcome = promote_or_hold(params, run_id, name, version, live, receipts, history)
        status = "completed"
    except BaseException as error:
        status = turns.status_after(error)
        raise
    finally:
        steps.close_run(params, run_id, receipts, raw, status)
    outcome = {"cycle": name, "stages": {r.stage: r.outcome for r in receipts}, **outcome}
    cycle_progress.decision(outcome, decision, receipts)
    return outcome


def promote_or_hold(
    params: Params,
    run_id: str,
    cycle_name: str,
    version: str,
    live: ChampionCheck | None,
    receipts: list[StageReceipt],
    history: History,
) -> tuple[PromotionDecision, dict[str, Any]]:
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
    return decision, {
        "verdict": decision.verdict,
        "reasons": list(decision.reasons),
        "blocked": blocked_reason,
        "model_version": version,
        "route": final.answers,
        "sentence": settled.sentence(decision, version, blocked_reason, nothing_new),
    }
