"""Scheduled: starts a cycle if the teacher is not that of the last completed cycle any more, or if a night was missed."""

from __future__ import annotations

import datetime as dt
from typing import Any

from prefect import flow

from flows.distill_student import distill_student
from redistill.operations.workspace import Workspace
from redistill.params import load_params
from tasks.orchestration import nights, pending, run_names, turns
from tasks.orchestration.run_record import recorded
from tasks.orchestration.watching import look


@flow(name="watch-teacher", flow_run_name=run_names.at_start, log_prints=True)
def watch_teacher() -> Any:
    """Compare the teacher with that of the last completed cycle, and start a cycle if it changed."""
    params = load_params()
    workspace = Workspace.here(params.data.name)
    run = turns.present_run()
    with recorded(turns.present_run_id()):
        by_prefect = run is not None and run.deployment_id is not None
        seen = look(params, workspace, by_hand=not by_prefect)
        missed = nights.missed_night(params.schedule, dt.datetime.now(dt.UTC)) if by_prefect else None
        reasons = [*([seen.reason] if seen.reason else []), *([f"the night of {missed:%Y-%m-%d %H:%M} was missed"] if missed else [])]
        nights.tell_if_silent(params.schedule, workspace, dt.datetime.now(dt.UTC))
        outcome: dict[str, Any] = {"changed": seen.changed, "fingerprint": seen.now, "before": seen.before}
        for reason in reasons:
            pending.add(reason)
        if by_prefect:
            started = turns.start_waiting(workspace)
            outcome["started"] = started
    if reasons and not by_prefect:
        outcome["cycle"] = distill_student(reason=reasons[0])
    return run_names.ended(params.data.name, "watch-teacher", seen.sentence if not missed else reasons[-1], outcome)
