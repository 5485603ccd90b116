"""Approve, reject or roll back a version in the Prefect UI: its form has the fields version, action and reason."""

from __future__ import annotations

from typing import Any, Literal

from prefect import flow
from prefect.artifacts import create_markdown_artifact

from redistill.params import load_params
from tasks.promotion import approve


@flow(name="promote-student", log_prints=True)
def promote_student(
    version: str = "challenger", action: Literal["approve", "reject", "rollback"] = "approve", reason: str = ""
) -> dict[str, Any]:
    """Approve or reject a challenger, or roll back to a version.

    Args:
        version: its number or alias. The artifact `decision` of its cycle shows the evidence.
        action: `approve` makes the version the champion; `reject` records a rejection; `rollback` makes an earlier champion live again.
        reason: recorded with your name and the time.
    """
    params = load_params()
    if action == "reject":
        outcome: dict[str, Any] = {"action": action, "version": approve.reject(params, version, reason)}
    else:
        act = approve.approve if action == "approve" else approve.rollback
        live = act(params, version, reason)
        outcome = {"action": action, "champion": live.champion, "previous": live.previous, "route": live.route.answers}
    lines = "\n".join(f"- {key}: {value}" for key, value in outcome.items())
    create_markdown_artifact(
        markdown=f"# {action}: {version}\n\n{lines}\n- reason: {reason}\n", key="promotion", description=f"{action} {version}"
    )
    return outcome
