"""Tells people: alerts as Prefect events, which the automations of ``redistill up`` send on; and a sign of life for what watches from outside."""

from __future__ import annotations

import contextlib
import dataclasses
import datetime as dt
import fcntl
import json
import os
from collections.abc import Iterator
from typing import Any

import httpx

from redistill.io.json import write_json
from redistill.operations.alerts import Alert, AlertKind, next_alert
from redistill.operations.workspace import Workspace
from redistill.runtime.running_services import TEMPORARY
from tasks.paths import STATE
from tasks.reporting import publishing

EVENT = "redistill.alert"
ALERTS = STATE / "alerts.json"
LAST_CYCLE = STATE / "last-cycle.json"
PING_URL = "REDISTILL_PING_URL"


def alert(workspace: Workspace, kind: AlertKind, about: str, text: str) -> bool:
    """Remember an alert, and tell people unless they know it; returns whether they were told.

    A command with a server for itself has nobody to tell but the person who started it. It must not use up the message for the others.
    """
    if os.environ.get(TEMPORARY):
        return False
    with _remembered() as alerts:
        last = alerts.get(kind)
        new, tell = next_alert(Alert(**last) if last else None, kind, about, text, dt.datetime.now(dt.UTC))
        alerts[kind] = dataclasses.asdict(new)
    if tell:
        payload = {
            "data": workspace.data_name,
            "kind": kind,
            "title": new.title(workspace.data_name),
            "text": text[:2000],
            "count": new.count,
        }
        publishing.event(f"{EVENT}.{kind}", resource(workspace), payload)
    return tell


def settled(*kinds: AlertKind) -> None:
    """What these alerts were about is over: the next one of them is news again."""
    with _remembered() as alerts:
        for kind in kinds:
            alerts.pop(kind, None)


def remembered() -> list[Alert]:
    """The alerts that are not over."""
    with _remembered() as alerts:
        return [Alert(**fields) for fields in alerts.values()]


def sign_of_life(sentence: str, *, ok: bool) -> None:
    """Write when a cycle last ended, and call ``REDISTILL_PING_URL`` if it is set, with ``/fail`` behind it after a failure.

    Nothing on this machine can tell that this machine is off. A service that expects the call every night can (the addresses are those of
    healthchecks.io).
    """
    if ok:
        write_json(LAST_CYCLE, {"ended_at": dt.datetime.now(dt.UTC).isoformat(timespec="seconds"), "sentence": sentence[:500]})
    url = os.environ.get(PING_URL)
    if url:
        with contextlib.suppress(httpx.HTTPError, httpx.InvalidURL):
            httpx.get(url if ok else f"{url.rstrip('/')}/fail", timeout=10)


def last_cycle_ended() -> dt.datetime | None:
    """When a cycle last ended without an error."""
    try:
        return dt.datetime.fromisoformat(json.loads(LAST_CYCLE.read_text(encoding="utf-8"))["ended_at"])
    except (OSError, ValueError, KeyError, TypeError):
        return None


def resource(workspace: Workspace) -> str:
    """The resource of a project's events."""
    return f"redistill.project.{workspace.key()}"


@contextlib.contextmanager
def _remembered() -> Iterator[dict[str, Any]]:
    STATE.mkdir(parents=True, exist_ok=True)
    with open(ALERTS.with_suffix(".lock"), "w", encoding="utf-8") as handle:
        fcntl.flock(handle, fcntl.LOCK_EX)
        try:
            alerts = dict(json.loads(ALERTS.read_text(encoding="utf-8")))
        except (OSError, ValueError, TypeError):
            alerts = {}
        before = json.dumps(alerts)
        yield alerts
        if json.dumps(alerts) != before:
            write_json(ALERTS, alerts)
