"""The alarm of the guard of live traffic: told to people, and a reason for a cycle. The router writes it, because it knows no Prefect; the watcher takes it."""

from __future__ import annotations

from redistill.errors import RedistillError
from redistill.operations.workspace import Workspace
from redistill.params import Params
from tasks.orchestration import alerting
from tasks.registry import alarms


def take(params: Params, workspace: Workspace) -> list[str]:
    """The reason of an alarm that was not taken yet, after people were told; nothing otherwise. What the history lacks is recorded."""
    alarm = alarms.read_alarm(alarms.ALARM)
    if alarm is not None:
        alerting.alert(workspace, "champion-distrusted", alarm.version, alarm.reason)
    try:
        for line in alarms.record_missing(params):
            print(line)
    except RedistillError as error:
        print(f"warning: an alarm of live traffic is not in the history yet ({error}); the next cycle records it")
    if alarm is None:
        return []
    alarms.ALARM.replace(alarms.ALARM.with_name("alarm-taken.json"))
    return [alarm.reason]
