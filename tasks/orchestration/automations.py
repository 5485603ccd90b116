"""The automations that ``redistill up`` installs: alerts go to the user's notification blocks, and runs without a heartbeat become Crashed."""

from __future__ import annotations

import datetime as dt
from collections.abc import Sequence

from prefect.client.orchestration import SyncPrefectClient, get_client
from prefect.events.actions import ChangeFlowRunState, SendNotification
from prefect.events.schemas.automations import AutomationCore, EventTrigger, Posture
from prefect.exceptions import ObjectNotFound

from redistill.errors import ConfigError
from redistill.operations.workspace import Workspace
from tasks.orchestration import alerting

_HEARTBEAT = "prefect.flow-run.heartbeat"
_ENDED = {f"prefect.flow-run.{state}" for state in ("Completed", "Failed", "Cancelled", "Crashed")}
_SILENT = dt.timedelta(seconds=600)
"""More than three heartbeats of 180 s."""


def install(workspace: Workspace, blocks: Sequence[str]) -> list[str]:
    """Create or update the automations of this project; returns their names. One that a person disabled stays disabled.

    Raises:
        ConfigError: a block of ``notify.blocks`` does not exist on the server.
    """
    with get_client(sync_client=True) as client:
        automations = [_zombies(workspace), *(_notification(client, workspace, block) for block in blocks)]
        prefix = f"redistill {workspace.data_name}: "
        existing = {a.name: a for a in client.read_automations() if a.name.startswith(prefix)}
        for automation in automations:
            old = existing.pop(automation.name, None)
            if old is None:
                client.create_automation(automation)
                continue
            automation.enabled = old.enabled
            if _says(old) != _says(automation):
                client.delete_automation(old.id)
                client.create_automation(automation)
        for left in existing.values():  # for a block that params do not name any more
            client.delete_automation(left.id)
    return [automation.name for automation in automations]


def _says(automation: AutomationCore) -> str:
    return str(automation.model_dump(mode="json", include={"description", "enabled", "actions"}))


def _notification(client: SyncPrefectClient, workspace: Workspace, block: str) -> AutomationCore:
    kind, _, name = block.partition("/")
    try:
        document = client.read_block_document_by_name(name, kind)
    except ObjectNotFound:
        raise ConfigError(
            f"notify.blocks: there is no block {block} on this Prefect server; create it in the UI under Blocks, "
            "and name it as TYPE/NAME, such as slack-webhook/team"
        ) from None
    trigger = EventTrigger(
        expect={f"{alerting.EVENT}.*"},
        match={"prefect.resource.id": alerting.resource(workspace)},
        posture=Posture.Reactive,
        threshold=1,
        within=dt.timedelta(0),
    )
    action = SendNotification(block_document_id=document.id, subject="{{ event.payload.title }}", body="{{ event.payload.text }}")
    return AutomationCore(
        name=f"redistill {workspace.data_name}: tell {block}",
        description=f"Sends the alerts of project {workspace.data_name} to the block {block} (notify.blocks).",
        trigger=trigger,
        actions=[action],
    )


def _zombies(workspace: Workspace) -> AutomationCore:
    """For runs on machines that are gone: what a kill leaves on this machine, ``reconcile`` sees at once."""
    trigger = EventTrigger(
        after={_HEARTBEAT},
        expect={_HEARTBEAT, *_ENDED},
        match={"prefect.resource.id": ["prefect.flow-run.*"]},
        match_related={"prefect.resource.role": "tag", "prefect.resource.id": [f"prefect.tag.data:{workspace.data_name}"]},
        for_each={"prefect.resource.id"},
        posture=Posture.Proactive,
        threshold=1,
        within=_SILENT,
    )
    return AutomationCore(
        name=f"redistill {workspace.data_name}: runs without a heartbeat",
        description=f"A run of project {workspace.data_name} that has given no sign for ten minutes becomes Crashed.",
        trigger=trigger,
        actions=[ChangeFlowRunState(state="CRASHED", message="no sign of life for ten minutes")],
    )
