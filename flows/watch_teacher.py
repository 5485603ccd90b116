"""Scheduled: starts a cycle if the teacher is not that of the last completed cycle any more, if the guard of live traffic gave an alarm, or if a night was missed."""

from __future__ import annotations

import datetime as dt
from typing import Any

from prefect import flow

from flows.distill_student import distill_student
from redistill.operations.workspace import Workspace
from redistill.params import load_params
from redistill.runtime import one_line_errors
from tasks.orchestration import guard_alarm, nights, pending, run_names, turns
from tasks.orchestration.run_record import recorded
from tasks.orchestration.watching import look


@flow(name="watch-teacher", flow_run_name=run_names.at_start, log_prints=True)
def watch_teacher() -> Any:
    """Compare the teacher with that of the last completed cycle, and start a cycle if it changed."""
    one_line_errors.install()
    params = load_params()
    workspace = Workspace.here(params.data.name)
    run = turns.present_run()
    with recorded(turns.present_run_id()):
        by_prefect = run is not None and run.deployment_id is not None
        seen = look(params, workspace, by_hand=not by_prefect)
        reasons = guard_alarm.take(params, workspace) + ([seen.reason] if seen.reason else [])
        outcome: dict[str, Any] = {"changed": seen.changed, "fingerprint": seen.now, "before": seen.before}
        if by_prefect:
            if turns.nights_are_on(workspace):
                reasons += nights.missed(params.schedule, workspace, dt.datetime.now(dt.UTC))
            for reason in reasons:
                pending.add(reason)
            outcome["started"] = turns.start_waiting(workspace)
    if reasons and not by_prefect:
        outcome["cycle"] = distill_student(reason=reasons[0])
    return run_names.ended(params.data.name, "watch-teacher", "; ".join(reasons) or seen.sentence, outcome)
