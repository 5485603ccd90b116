"""One cycle: the order of its steps. dvc.yaml says what each stage reads and writes."""

from __future__ import annotations

from typing import Any

from prefect import flow

from redistill.operations.types import StageReceipt
from redistill.operations.workspace import Workspace
from redistill.params import Params, load_params
from redistill.runtime import one_line_errors
from tasks import steps
from tasks.locking import teacher_lock
from tasks.orchestration import cycle_close, cycle_end, run_names, telling, turns
from tasks.orchestration.cycle_close import OpenCycle
from tasks.paths import LOCK
from tasks.promotion import choose_arm, teacher_trial
from tasks.registry.history import History
from tasks.reporting import publishing
from tasks.reporting.cycle_progress import CycleProgress
from tasks.running import dvc_stage
from tasks.running.cycle_stages import BEFORE_LOCK, DATA, TEACHER, after_data, every_stage, fitness_stage, heldout_stages
from tasks.running.fork_server import ForkServer
from tasks.running.side_by_side import run_side_by_side
from tasks.sharing import session


@flow(name="distill-student", flow_run_name=run_names.at_start, log_prints=True)
def distill_student(reason: str = "by hand") -> Any:
    """Distil, judge, and promote or hold; returns the cycle's outcome.

    Args:
        reason: why it runs. It is part of the run's name and is recorded in MLflow.
    """
    one_line_errors.install()
    with telling.failures_told(reason):
        params = load_params()
        workspace = Workspace.here(params.data.name)
        cycle_progress = CycleProgress(len(every_stage(params)), workspace)
        with turns.turn(params, workspace, reason, cycle_progress.say) as turn:
            if turn.declined is not None:
                cycle_progress.say(turn.declined)
                return run_names.ended(params.data.name, reason, turn.declined, {"declined": turn.declined}, turn.state)
            with ForkServer() as fork_server:
                outcome = cycle(params, workspace, turn.reason, cycle_progress, fork_server)
            publishing.wait_for_server(cycle_progress.say)
    turns.start_waiting(workspace)
    return run_names.ended(params.data.name, turn.reason, outcome["sentence"], outcome)


def cycle(params: Params, workspace: Workspace, reason: str, cycle_progress: CycleProgress, fork_server: ForkServer) -> dict[str, Any]:
    """The cycle itself. Only one cycle runs in a project at a time."""
    steps.review_licences(params)
    session.take_hints(params, fork_server.stop)
    steps.lock_sources(params)
    steps.lock_code()
    dvc_stage.initialise()
    steps.pull_shared(params, cycle_progress.say)
    before = teacher_trial.keep_before()
    plan, history = dvc_stage.Plan(), History()
    run_id, name = steps.open_run(params, reason, turns.present_run_id())
    open_cycle = OpenCycle(params, workspace, run_id, name)
    limit_s = 3600.0 * params.schedule.stage_hours
    patient_stage = steps.patient(steps.run_stage, params.schedule.retry_minutes)

    def run(stage: str, step: Any = steps.run_stage) -> StageReceipt:
        receipt: StageReceipt = step(stage, plan, fork_server, cycle_progress.say, cycle_progress.progress, limit_s)
        return receipt

    def done(receipt: StageReceipt) -> None:
        open_cycle.receipts.append(receipt)
        cycle_progress.done(receipt)

    def stages(names: tuple[str, ...]) -> None:
        for stage in names:
            done(run(stage, patient_stage))

    try:
        verified = steps.verify_champion(params, history)
        if verified is not None and not verified.trusted:
            steps.fall_back_to_teacher(params, verified)
        stages(BEFORE_LOCK)
        fingerprint, moved = steps.patient(steps.lock_teacher, params.schedule.retry_minutes)(params)
        if moved:
            plan.touched(str(LOCK))
        open_cycle.raw_teacher = teacher_lock.raw_fingerprint(params)
        stages(TEACHER)
        trial = steps.try_teacher(params, before, fingerprint, fork_server)
        if trial is not None and trial.reasking is not None:
            plan.touched(str(LOCK))
            cycle_progress.reasking(trial.reasking)
        stages(heldout_stages(params, "teacher"))
        live = steps.retest_champion(params, history, verified)
        if live is not None and not live.trusted and live is not verified:
            steps.fall_back_to_teacher(params, live)
        refused = trial is not None and not trial.accepted
        stages(() if refused else fitness_stage())
        outcome = cycle_end.ended_by_teacher(params, trial, None if refused else steps.judge_fitness(params), live)
        if outcome is None:
            stages(DATA)
            run_side_by_side(after_data(params), run, done, cycle_progress.say, fork_server.stop)
            open_cycle.params = params = choose_arm.chosen_arm(params)
            steps.log_training(params, run_id)
            version = steps.register(params, run_id, name, fingerprint)
            outcome = cycle_end.promote_or_hold(params, run_id, name, version, live, open_cycle.receipts, history)
        outcome = cycle_close.close(open_cycle, outcome, cycle_progress)
        steps.push_shared(params, run_id)
    except BaseException as error:
        cycle_close.close_failed(open_cycle, error)
        raise
    telling.tell_outcome(workspace, outcome, live, trial)
    return outcome
