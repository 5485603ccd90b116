"""Approve, reject or roll back a version in the Prefect UI: its form has the fields version, action and reason."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from prefect import flow
from pydantic import Field

from redistill.errors import ConfigError
from redistill.operations.workspace import Workspace
from redistill.params import load_params
from redistill.runtime import one_line_errors
from tasks.orchestration import run_names, turns
from tasks.orchestration.run_record import recorded
from tasks.promotion import approve
from tasks.reporting import publishing


@flow(name="promote-student", flow_run_name=run_names.at_start, log_prints=True)
def promote_student(
    action: Literal["approve", "reject", "rollback"], reason: Annotated[str, Field(min_length=3)], version: str = "challenger"
) -> Any:
    """Approve or reject a challenger, or roll back to a version.

    Args:
        action: `approve` makes the version the champion; `reject` records a rejection; `rollback` makes an earlier champion live again.
        reason: recorded with the time and the account of the runner.
        version: its number or alias. The artifact `decision` of its cycle shows the evidence.
    """
    one_line_errors.install()
    params = load_params()
    workspace, run = Workspace.here(params.data.name), turns.present_run()
    if run is not None and not workspace.owns(list(run.tags)):
        raise ConfigError(f"this run belongs to another project folder (its tags are {', '.join(run.tags)}); nothing was changed")
    if action == "approve" and params.promote.two_people:
        # A Prefect server has one shared password at most, so the UI cannot show who approves.
        raise ConfigError(
            f"promote.two_people is set, and this form does not know who you are; approve with `redistill promote {version} --reason REASON`"
        )
    with recorded(turns.present_run_id()):
        if action == "reject":
            outcome: dict[str, Any] = {"action": action, "version": approve.reject(params, version, reason)}
        else:
            act = approve.approve if action == "approve" else approve.rollback
            live = act(params, version, reason)
            outcome = {"action": action, "champion": live.champion, "previous": live.previous, "route": live.route.answers}
    lines = "\n".join(f"- {key}: {value}" for key, value in outcome.items())
    publishing.markdown(workspace.key("promotion"), f"# {action}: {version}\n\n{lines}\n- reason: {reason}\n", f"{action} {version}")
    return run_names.ended(params.data.name, f"{action} {version}", reason, outcome)
