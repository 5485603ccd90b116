"""Every step of a flow as a Prefect task. The work of a step is an ordinary function in another package of ``tasks``.

Prefect's own cache is off, because DVC, the completion store and MLflow know what is done already.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Generic, ParamSpec, TypeVar

from prefect import Task, task
from prefect.cache_policies import NO_CACHE
from prefect.client.schemas.objects import State
from prefect.utilities.annotations import quote

from redistill.errors import RedistillError, TeacherError
from redistill.io import present_lease
from redistill.runtime.service_failures import with_registry_errors
from tasks.locking import code_lock, teacher_lock
from tasks.operations import drill as drill_module
from tasks.promotion import approve, route, teacher_trial
from tasks.promotion import judge_fitness as teacher_fitness
from tasks.promotion import retest_champion as champion
from tasks.registry import cycle_summaries, evidence_bundle, runs_and_versions
from tasks.reporting import report
from tasks.running import dvc_stage
from tasks.serving import monitor, router_drill
from tasks.sharing import session
from tasks.tuning import study

_P = ParamSpec("_P")
_R = TypeVar("_R")


@dataclass(frozen=True, slots=True)
class Step(Generic[_P, _R]):
    """A step, called like its function.

    Prefect does not look into the arguments. It would draw an edge to a step from every earlier result that it finds there: from each stage to each
    step that gets the receipts. And it recognises results by their ``id``, which a new object may have got from one that is gone.
    """

    task: Task[_P, _R]

    def __call__(self, *arguments: _P.args, **named: _P.kwargs) -> _R:
        step: Callable[..., _R] = self.task
        # Another worker may have this project's lease now. Then no step begins, and an error of one that was ended for it is no news.
        present_lease.require()
        try:
            return step(*map(quote, arguments), **{name: quote(value) for name, value in named.items()})
        except Exception:
            present_lease.require()
            raise


def _step(task_run_name: str, function: Callable[_P, _R]) -> Step[_P, _R]:
    """``task_run_name`` is what the Prefect UI shows; names in braces are arguments."""
    return Step(task(task_run_name=task_run_name, cache_policy=NO_CACHE)(with_registry_errors(function)))


def _teacher_did_not_answer(_: object, __: object, state: State[object]) -> bool:
    """The exit code is that of a teacher that cannot be reached or is overloaded, in a stage too."""
    error = state.result(raise_on_failure=False)
    return isinstance(error, RedistillError) and error.exit_code == TeacherError.exit_code


def patient(step: Step[_P, _R], minutes: Sequence[float]) -> Step[_P, _R]:
    """The step, tried again while the teacher does not answer. Flows themselves are never retried: they would give up their lock."""
    delays_s = [60.0 * m for m in minutes]
    return Step(step.task.with_options(retries=len(minutes), retry_delay_seconds=delays_s, retry_condition_fn=_teacher_did_not_answer))


review_licences = _step("review-licences", teacher_lock.review_licences)
lock_sources = _step("lock-sources", teacher_lock.lock_sources)
lock_code = _step("lock-code", code_lock.lock_code)
lock_teacher = _step("lock-teacher", teacher_lock.lock_teacher)

pull_shared = _step("pull-shared", session.pull)
push_shared = _step("push-shared", session.push)

run_stage = _step("{stage}", dvc_stage.run_stage)

open_run = _step("open-run", runs_and_versions.open_run)
log_training = _step("log-training", runs_and_versions.log_training)
register = _step("register-challenger", runs_and_versions.register)
attach_evidence = _step("attach-evidence", evidence_bundle.attach)
close_run = _step("close-run", cycle_summaries.close_run)

try_teacher = _step("try-new-teacher", teacher_trial.try_teacher)
verify_champion = _step("verify-champion", champion.verify_champion)
retest_champion = _step("retest-champion", champion.retest_champion)
judge_fitness = _step("judge-fitness", teacher_fitness.judge_fitness)
decide_promotion = _step("decide", champion.decide_promotion)
promote = _step("promote", approve.promote)
hold = _step("hold", approve.hold)
fall_back_to_teacher = _step("route-to-teacher", route.fall_back_to_teacher)
set_route = _step("set-route", route.set_route)

drill = _step("drill", drill_module.drill)
drill_router = _step("drill-router", router_drill.drill_router)

monitor_traffic = _step("monitor-traffic", monitor.monitor_traffic)

write_report = _step("write-report", report.write_report)

open_study = _step("open-study", study.open_study)
run_trial = _step("trial-{number}", study.run_trial)
report_best_trial = _step("tell-best", study.tell)
