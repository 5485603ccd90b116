"""Scheduled: starts a cycle if the teacher is not that of the last completed cycle any more."""

from __future__ import annotations

from typing import Any

from prefect import flow
from prefect import serve as serve_deployments
from prefect.deployments.runner import RunnerDeployment
from prefect.events import emit_event

from flows.distill_student import distill_student
from flows.promote_student import promote_student
from redistill.params import load_params
from redistill.provenance import mlflow_names
from tasks.locking import teacher_lock
from tasks.registry import runs_and_versions

CHANGED = "redistill.teacher.version.changed"


@flow(name="watch-teacher", log_prints=True)
def watch_teacher() -> dict[str, Any]:
    """Fingerprint the teacher, compare it with that of the last completed cycle, and start a cycle if it changed."""
    params = load_params()
    now = teacher_lock.raw_fingerprint(params.teacher)
    last = runs_and_versions.last_completed(params)
    before = last.get(mlflow_names.TAG_TEACHER_RAW) if last else None
    if now == before:
        print(f"teacher {now[:16]} has not changed since the last completed cycle")
        return {"changed": False, "fingerprint": now, "before": before}
    emit_event(
        CHANGED,
        resource={"prefect.resource.id": f"redistill.teacher.{params.data.name}"},
        payload={"teacher": params.teacher.model, "version": now, "before": before or ""},
    )
    reason = f"teacher changed from {(before or 'none')[:16]} to {now[:16]}"
    outcome = distill_student(reason=reason)
    return {"changed": True, "fingerprint": now, "before": before, "cycle": outcome}


def deployments() -> list[RunnerDeployment]:
    """What is served: the nightly cycle, the watcher, and a person's form. infra/prefect.yaml lists the same for a work pool."""
    params = load_params()
    schedule = params.schedule
    # `redistill gc` finds the flow runs of the project by this tag.
    tags = [mlflow_names.experiment(params.data.name)]
    return [
        distill_student.to_deployment(
            "nightly", cron=schedule.nightly_cron, parameters={"reason": "nightly"}, concurrency_limit=1, tags=tags
        ),
        watch_teacher.to_deployment("watch", cron=schedule.watch_cron, concurrency_limit=1, tags=tags),
        promote_student.to_deployment("by-hand", concurrency_limit=1, tags=tags),
    ]


def serve() -> None:
    """Serve them from this machine until stopped; needs a running Prefect server."""
    serve_deployments(*deployments())
