"""Challengers that passed and wait for a person: they are announced once, expire, and give way to the next one that passes."""

from __future__ import annotations

import datetime as dt
from collections.abc import Sequence

from redistill.params import Params
from tasks.registry import transitions
from tasks.registry.client import RegistryClient
from tasks.registry.history import Event

_LIVE = ("promote", "rollback")
"""Events after which a version no longer waits. If it passes later as another system, it starts to wait again."""


def waits(events: Sequence[Event], version: str, days: int, now: dt.datetime) -> str | None:
    """Why a version that was announced cannot be approved any more, or None. An event ``waiting`` starts the time again."""
    last = next((e for e in reversed(events) if e.version == version and e.kind in ("waiting", "expired", *_LIVE)), None)
    if last is None or last.kind in _LIVE:
        return None
    again = f"judge it again with `redistill gate {version}`"
    if last.kind == "expired":
        return f"version {version} does not wait any more: {last.reason}; {again}"
    if now - dt.datetime.fromisoformat(last.at) > dt.timedelta(days=days):
        return f"version {version} has waited for an approval since {last.at[:10]}, longer than promote.approval_days={days}; {again}"
    return None


def announce(client: RegistryClient, params: Params, version: str, events: Sequence[Event], *, again: bool = False) -> None:
    """Record that a version waits, and that older ones that wait are superseded by it. A second call adds nothing, unless it was judged ``again``."""
    live = transitions.live(client, params)
    last_of = {e.version: e.kind for e in events if e.version is not None and e.kind in ("waiting", "expired", "reject", *_LIVE)}
    for older, kind in last_of.items():
        if kind == "waiting" and older != version:
            transitions.record(client, params, "expired", older, f"superseded by version {version}, which passed later", live)
    if again or last_of.get(version) in (None, *_LIVE):
        reason = f"waits for a person's approval, at most {params.promote.approval_days} days"
        transitions.record(client, params, "waiting", version, reason, live)


def expire(client: RegistryClient, params: Params, version: str, events: Sequence[Event], sentence: str) -> None:
    """Record once that a version has waited too long."""
    if not any(e.kind == "expired" and e.version == version for e in reversed(events)):
        transitions.record(client, params, "expired", version, sentence, transitions.live(client, params))
