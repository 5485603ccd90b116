"""Scheduled: compares live traffic with the rows that models are judged on, and warns or acts when a difference lasts."""

from __future__ import annotations

from typing import Any

from prefect import flow

from redistill.operations.workspace import Workspace
from redistill.params import load_params
from redistill.runtime import one_line_errors
from tasks import steps
from tasks.orchestration import run_names, traffic_alarm, turns
from tasks.orchestration.run_record import recorded
from tasks.reporting import publishing


@flow(name="monitor-traffic", flow_run_name=run_names.at_start, log_prints=True)
def monitor_traffic() -> Any:
    """Judge the traffic since the last window; a warning is an event, and acting sends the traffic to the teacher and asks for a cycle."""
    one_line_errors.install()
    params = load_params()
    workspace = Workspace.here(params.data.name)
    with recorded(turns.present_run_id()):
        seen = steps.monitor_traffic(params)
        done = traffic_alarm.respond(params, workspace, seen.state)
    for line in (*seen.notes, *done):
        print(line)
    if seen.rows:
        publishing.table(workspace.key("traffic"), seen.rows, f"Live traffic against the rows that models are judged on: {seen.sentence}")
        publishing.markdown(workspace.key("traffic-verdict"), traffic_alarm.text_of(seen, done), "The verdict on live traffic")
    outcome: dict[str, Any] = {
        "verdict": seen.state.verdict,
        "version": seen.state.version,
        "judged": seen.window is not None,
        "sentence": seen.sentence,
        "done": done,
        "notes": list(seen.notes),
        "measures": seen.rows,
    }
    return run_names.ended(params.data.name, "monitor-traffic", seen.sentence, outcome)
