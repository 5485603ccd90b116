"""Which alerts reach a person: the same alert for ten nights is one message and a count.

An alert is *about* something, such as a teacher that was refused. While each night says the same, its count grows and nobody is told again for a
week. A version that waits for approval is reminded of once, because it expires. When it says something else, or after a night without it, the next one is a message again.
"""

from __future__ import annotations

import datetime as dt
from dataclasses import dataclass, replace
from typing import Literal

AlertKind = Literal[
    "failed",
    "held",
    "promoted",
    "teacher-refused",
    "teacher-unfit",
    "champion-distrusted",
    "waiting",
    "drill-failed",
    "traffic-drifted",
    "crashed",
    "silent",
]
REPEAT_AFTER = dt.timedelta(days=7)
_REMINDED_ONCE = ("waiting",)

TITLES: dict[AlertKind, str] = {
    "failed": "a cycle failed",
    "held": "a student is on hold",
    "promoted": "a student was promoted",
    "teacher-refused": "a new teacher was refused",
    "teacher-unfit": "the teacher cannot reach the gates",
    "champion-distrusted": "the champion lost its traffic",
    "waiting": "a student waits for approval",
    "drill-failed": "the fallback drill failed",
    "traffic-drifted": "live traffic has drifted",
    "crashed": "a run was killed",
    "silent": "no cycle has ended for too long",
}


@dataclass(frozen=True, slots=True)
class Alert:
    """``about`` tells one alert of a kind from another, such as the version or the teacher. ``sent_at`` is when a person was told last (ISO 8601), ``sent`` how often."""

    kind: AlertKind
    about: str
    text: str
    count: int
    first_at: str
    sent_at: str
    sent: int = 1

    def title(self, name: str) -> str:
        """One line, such as ``bank-triage: a new teacher was refused (10 times since 2026-11-17)``."""
        times = f" ({self.count} times since {self.first_at[:10]})" if self.count > 1 else ""
        return f"{name}: {TITLES[self.kind]}{times}"


def next_alert(last: Alert | None, kind: AlertKind, about: str, text: str, now: dt.datetime) -> tuple[Alert, bool]:
    """The alert to remember, and whether a person is told. ``last`` is what was remembered of this kind."""
    moment = now.isoformat(timespec="seconds")
    if last is None or last.about != about:
        return Alert(kind, about, text, 1, moment, moment), True
    again = replace(last, text=text, count=last.count + 1)
    if now - dt.datetime.fromisoformat(last.sent_at) < REPEAT_AFTER or (kind in _REMINDED_ONCE and last.sent > 1):
        return again, False
    return replace(again, sent_at=moment, sent=last.sent + 1), True
