"""What the watcher sees of the teacher, and when it tries again after a cycle that failed."""

from __future__ import annotations

import datetime as dt
import json
from dataclasses import dataclass
from typing import Any

from redistill.io.json import write_json
from redistill.operations.workspace import Workspace
from redistill.params import Params
from redistill.provenance import mlflow_names
from tasks.locking import teacher_lock
from tasks.paths import STATE
from tasks.registry import runs_and_versions
from tasks.reporting import publishing

CHANGED = "redistill.teacher.version.changed"
WATCHED = STATE / "watched-teacher.json"
_FIRST_PAUSE = dt.timedelta(hours=1)
_LONGEST_PAUSE = dt.timedelta(hours=24)


@dataclass(frozen=True, slots=True)
class Seen:
    """``now`` and ``before`` are fingerprints; ``reason`` is set if a cycle should start."""

    now: str
    before: str | None
    reason: str | None
    sentence: str

    @property
    def changed(self) -> bool:
        return self.now != self.before


def look(params: Params, workspace: Workspace, by_hand: bool) -> Seen:
    """Fingerprint the teacher and compare it with that of the last completed cycle.

    A new version is announced once, by one event. If its cycle fails, the next one starts after an hour, then after two, up to a day. The
    nightly cycle starts in any case. A person who asks ``by_hand`` does not wait.
    """
    now = teacher_lock.raw_fingerprint(params, dt.timedelta(hours=0.0 if by_hand else params.teacher.canary_hours))
    last = runs_and_versions.last_completed(params)
    before = last.get(mlflow_names.TAG_TEACHER_RAW) if last else None
    if now == before:
        WATCHED.unlink(missing_ok=True)
        return Seen(now, before, None, f"teacher {now[:12]} has not changed")
    time, watched = dt.datetime.now(dt.UTC), _watched(now)
    tries = int(watched.get("tries", 0))
    if tries and not by_hand and time < dt.datetime.fromisoformat(watched["not_before"]):
        return Seen(
            now,
            before,
            None,
            f"teacher {now[:12]} is new; its cycle was started {tries} times, the next starts {watched['not_before'][:16]}",
        )
    if not tries:
        payload = {"teacher": params.teacher.model, "version": now, "before": before or "", "data": params.data.name}
        publishing.event(CHANGED, f"redistill.teacher.{workspace.data_name}", payload)
    pause = min(_LONGEST_PAUSE, _FIRST_PAUSE * 2**tries)
    write_json(WATCHED, {"version": now, "tries": tries + 1, "not_before": (time + pause).isoformat(timespec="seconds")})
    reason = f"teacher changed from {(before or 'none')[:12]} to {now[:12]}"
    return Seen(now, before, reason, reason)


def _watched(version: str) -> dict[str, Any]:
    """What was done about this version so far."""
    try:
        tree = json.loads(WATCHED.read_text(encoding="utf-8"))
        return dict(tree) if tree["version"] == version and tree["not_before"] else {}
    except (OSError, ValueError, KeyError, TypeError):
        return {}
