"""Alarms of live traffic on their way into the history.

An alarm is written to files first, because traffic must not wait for a registry. One file is for the watcher, which tells people. The other stays until the
history has the alarm. Without it, a re-test on rows that were there before the alarm would give the traffic back.
"""

from __future__ import annotations

import datetime as dt
import uuid
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from redistill.errors import RegistryError
from redistill.io.json import read_json, write_json
from redistill.params import Params
from redistill.runtime.service_failures import explain
from tasks.paths import STATE
from tasks.registry.client import RegistryClient
from tasks.registry.history import Event, History
from tasks.registry.runs_and_versions import connect
from tasks.registry.transitions import live, record

ALARM = STATE / "serving" / "alarm.json"
"""The last alarm that the watcher has not taken."""
UNRECORDED = STATE / "serving" / "alarms"
"""One file for each alarm that the history may lack."""
_MOST_CHARS = 4000


@dataclass(frozen=True, slots=True)
class Alarm:
    """``at`` is when the version lost its traffic."""

    version: str
    reason: str
    at: str

    @property
    def time(self) -> dt.datetime:
        return dt.datetime.fromisoformat(self.at)


def note(version: str, reason: str) -> None:
    """Keep an alarm until the watcher has told people and the history has it.

    Raises:
        DataError: the disk refuses it.
    """
    alarm = Alarm(version, reason[:_MOST_CHARS], dt.datetime.now(dt.UTC).isoformat(timespec="microseconds"))
    UNRECORDED.mkdir(parents=True, exist_ok=True)
    write_json(UNRECORDED / f"{uuid.uuid4().hex}.json", asdict(alarm))
    write_json(ALARM, asdict(alarm))


def read_alarm(file: Path) -> Alarm | None:
    """The alarm in a file; None where there is none, or none that can be read."""
    try:
        tree = read_json(file)
        alarm = Alarm(str(tree["version"]), str(tree["reason"]), str(tree["at"]))
        # Without a time zone it cannot be compared with the times of events.
        return alarm if alarm.time.tzinfo is not None else None
    except (OSError, ValueError, KeyError, TypeError):
        return None


def record_missing(params: Params, history: History | None = None) -> list[str]:
    """Write the alarms into the history that it lacks; returns a sentence for each. Without such alarms, the registry is not asked.

    Raises:
        RegistryError: the registry cannot be reached; the alarms stay where they are.
    """
    files = [(file, alarm) for file in (*sorted(UNRECORDED.glob("*.json")), ALARM) if (alarm := read_alarm(file)) is not None]
    if not files:
        return []
    import mlflow

    done, history = list[str](), history or History()
    try:
        client = connect(params)
        for file, alarm in sorted(files, key=lambda each: each[1].time):
            if not _known(history.events(client, params), alarm):
                _record(client, params, alarm)
                done.append(f"history: the alarm of version {alarm.version} of {alarm.at[:19]} was missing and is recorded now")
            if file != ALARM:
                file.unlink(missing_ok=True)
    except mlflow.MlflowException as error:
        raise RegistryError(f"MLflow failed ({explain(error).line[:200]}); the next cycle records the alarm") from error
    return done


def _record(client: RegistryClient, params: Params, alarm: Alarm) -> None:
    record(client, params, "alarm", alarm.version, alarm.reason, live(client, params))


def _known(events: Sequence[Event], alarm: Alarm) -> bool:
    """Whether the history has the alarm, or somebody promoted the version after it."""
    for event in events:
        if dt.datetime.fromisoformat(event.at) < alarm.time:
            continue
        if event.kind in ("alarm", "rollback") and event.reason == alarm.reason:
            return True
        if event.kind in ("promote", "rollback") and event.champion == alarm.version:
            return True
    return False
