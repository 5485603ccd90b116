"""Scheduled: tries the fallback to the teacher on copies of the route flag, with every reader of it, and through the router that runs."""

from __future__ import annotations

from typing import Any

from prefect import flow

from redistill.errors import StageError
from redistill.operations.workspace import Workspace
from redistill.params import load_params
from redistill.runtime import one_line_errors
from tasks import steps
from tasks.orchestration import alerting, run_names, turns
from tasks.orchestration.run_record import recorded
from tasks.registry.transitions import FLAGS
from tasks.reporting import publishing


@flow(name="drill-fallback", flow_run_name=run_names.at_start, log_prints=True)
def drill_fallback() -> Any:
    """Check that every reader of the flag, and the router with the student off, gets the teacher when it should; fails if one does not."""
    one_line_errors.install()
    params = load_params()
    workspace = Workspace.here(params.data.name)
    with recorded(turns.present_run_id()):
        checks = [*steps.drill(FLAGS), *steps.drill_router(params)]
    rows = [{"case": c.case, "reader": c.reader, "expected": c.expected, "got": c.got, "passed": c.passed} for c in checks]
    publishing.table(workspace.key("drill"), rows, "What each reader of the route flag got, and what it should get")
    failed = [c for c in checks if not c.passed]
    if failed:
        first = failed[0]
        text = (
            f"the fallback drill failed in {len(failed)} of {len(checks)} checks: with {first.case}, {first.reader} got {first.got}, not "
            f"{first.expected}; {first.advice}"
        )
        alerting.alert(workspace, "drill-failed", f"{first.case}, {first.reader}", text)
        raise StageError(text)
    alerting.settled("drill-failed")
    outcome: dict[str, Any] = {"checks": len(checks), "passed": len(checks)}
    return run_names.ended(params.data.name, "drill-fallback", f"{len(checks)} of {len(checks)} checks as expected", outcome)
