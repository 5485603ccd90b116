"""The alarm of the guard of live traffic: told to people, and a reason for a cycle. The router writes it, because it knows no Prefect; the watcher takes it."""

from __future__ import annotations

from redistill.io.json import read_json
from redistill.operations.workspace import Workspace
from tasks.orchestration import alerting
from tasks.serving.rollout import ALARM


def take(workspace: Workspace) -> list[str]:
    """The reason of an alarm that was not taken yet, after people were told; nothing otherwise."""
    try:
        alarm = read_json(ALARM)
        version, reason = str(alarm["version"]), str(alarm["reason"])
    except (OSError, ValueError, KeyError, TypeError):
        return []
    alerting.alert(workspace, "champion-distrusted", version, reason)
    ALARM.replace(ALARM.with_name("alarm-taken.json"))
    return [reason]
